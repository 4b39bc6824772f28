"""A proxy and jump hosts in the section of a server: what is taken, and what is wrong in its author's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from iot.sftp.client import Jump, Proxy, Secret, ServerSettings
from iot.sftp.module._documents.twin import read_desired

SERVER = {"host": "10.1.2.3", "user": "device-42", "password": "hunter2"}
PIN = "SHA256:" + "A" * 43
JUMP: dict[str, Any] = {"host": "bastion", "user": "gateway", "password": {"env": "JUMP"}}


def settings_of(**content: Any) -> ServerSettings:
    section = read_desired({"sftp": SERVER | content}).sftp
    assert section.error is None
    assert section.value is not None
    return section.value.as_settings(Path("k"), Path("t"))


def error_of(**content: Any) -> str:
    section = read_desired({"sftp": SERVER | content}).sftp
    assert section.value is None
    assert section.error is not None
    return section.error


def test_a_proxy_becomes_a_setting_of_the_client() -> None:
    proxy = {"url": "http://proxy:3128", "user": "gateway", "password": {"file": "/run/secrets/proxy"}}
    assert settings_of(proxy=proxy).proxy == Proxy(
        "http://proxy:3128", "gateway", Secret.from_file("/run/secrets/proxy")
    )
    assert settings_of(proxy={"url": "socks5h://[::1]:1080"}).proxy == Proxy("socks5h://[::1]:1080")
    assert settings_of(proxy=None, jump=None) == settings_of()


def test_one_jump_host_needs_no_list() -> None:
    private_key = {"file": "/run/secrets/jump-key"}
    key = JUMP | {"password": None, "privateKey": private_key, "passphrase": "y", "port": 2222, "hostKeys": [PIN]}
    secret = Secret.from_file("/run/secrets/jump-key")
    expected = Jump("bastion", 2222, "gateway", None, secret, Secret("y"), (PIN,))
    assert settings_of(jump=key).jumps == (expected,)
    assert settings_of(jump=[key]).jumps == (expected,)


def test_jump_hosts_are_in_the_order_in_which_they_are_reached() -> None:
    hops = [JUMP, JUMP | {"host": "inner"}, JUMP | {"host": "innermost"}]
    assert [hop.host for hop in settings_of(jump=hops).jumps] == ["bastion", "inner", "innermost"]


@pytest.mark.parametrize(
    "content, words",
    [
        ({"proxy": {}}, "'proxy.url' is missing"),
        ({"proxy": {"url": "socks5://proxy:1080"}}, "'proxy.url' cannot be used: the url of a proxy begins with"),
        ({"proxy": {"url": "http://gateway:hunter2@proxy:3128"}}, "must not hold a login"),
        ({"proxy": {"url": "http://proxy"}}, "a scheme, a host and a port"),
        ({"proxy": {"url": "http://proxy:99999"}}, "'proxy.url' cannot be used"),
        ({"proxy": {"url": 5}}, "'proxy.url' must be a string"),
        ({"proxy": {"url": "http://proxy:1", "user": "gateway"}}, "'proxy.user' and 'proxy.password' belong together"),
        ({"proxy": {"url": "http://proxy:1", "port": 2}}, "'proxy.port' is not known here; known are: password, url"),
        ({"proxy": "http://proxy:1"}, "'proxy' must be an object"),
        ({"jump": [{"host": "bastion", "user": "gateway", "password": "x"}] * 4}, "'jump' must have at most 3 items"),
        ({"jump": {"host": "bastion", "user": "gateway"}}, "'jump.0.password' or 'jump.0.privateKey' is missing"),
        ({"jump": [JUMP, JUMP | {"passphrase": "x"}]}, "'jump.1.passphrase' needs a 'jump.1.privateKey'"),
        ({"jump": [JUMP] * 4}, "'jump'"),
        ({"jump": JUMP | {"root": "/"}}, "'jump.0.root' is not known here; known are: host, hostKeys, passphrase"),
        ({"jump": JUMP | {"host": "a b"}}, "'jump.0.host' must be a name or an address"),
        ({"jump": JUMP | {"hostKeys": ["x"]}}, "'jump.0.hostKeys.0' cannot be used"),
        ({"jump": ["bastion"]}, "'jump.0' must be an object"),
        ({"jump": "bastion"}, "'jump'"),
    ],
)
def test_what_is_wrong_is_named(content: dict[str, Any], words: str) -> None:
    error = error_of(**content)
    assert words in error
    assert "hunter2" not in error


def test_what_is_reported_is_what_the_contract_says() -> None:
    proxy = {"url": "http://proxy:3128", "user": "gateway", "password": "hunter2"}
    section = read_desired({"sftp": SERVER | {"proxy": proxy, "jump": JUMP | {"password": "hunter3"}}}).sftp
    assert section.value is not None
    assert section.value.as_properties() == {
        "host": "10.1.2.3",
        "port": 22,
        "user": "device-42",
        "auth": "password",
    }
    assert "hunter" not in repr(section)


def test_users_on_the_way_may_hold_placeholders() -> None:
    hop = JUMP | {"user": "{deviceId}-jump"}
    assert "unknown placeholder" not in str(read_desired({"sftp": SERVER | {"jump": hop}}).sftp.error)
    assert "'jump.0.user'" in error_of(jump=JUMP | {"user": "{nonsense}"})
