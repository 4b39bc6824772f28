"""Proxies and jump hosts as settings: what can never work is refused at once, and no secret is shown."""

from __future__ import annotations

from typing import Any

import pytest

from iot.sftp.client import IoTSFTPClient, Jump, Proxy, Secret, ServerSettings

PASSWORD = Secret("hunter2")


@pytest.mark.parametrize(
    "url, words",
    [
        ("", "begins with"),
        ("proxy:1080", "begins with"),
        ("socks5://proxy:1080", "with 'socks5h' the proxy resolves names"),
        ("socks4a://proxy:1080", "begins with"),
        ("https://proxy:443", "begins with"),
        ("http://proxy", "a scheme, a host and a port"),
        ("http://:3128", "a scheme, a host and a port"),
        ("http://proxy:0", "a scheme, a host and a port"),
        ("http://proxy:3128/path", "a scheme, a host and a port"),
        ("http://proxy:3128?x", "a scheme, a host and a port"),
        ("http://proxy:port", "must be like"),
        ("http://proxy:65536", "must be like"),
        ("http://[::1:3128", "must be like"),
        ("http://user:hunter2@proxy:3128", "must not hold a login"),
        ("http://pro\nxy:3128", "control character"),
        ("http://pro xy:3128", "without spaces"),
        (None, "must be like"),
        (b"http://proxy:1", "must be like"),
    ],
)
def test_a_url_that_can_never_work_is_refused(url: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refusal:
        Proxy(url)
    assert "hunter2" not in str(refusal.value)


def test_a_url_has_its_parts() -> None:
    proxy = Proxy("socks5h://[::1]:1080/", "device", PASSWORD)
    assert (proxy.scheme, proxy.host, proxy.port) == ("socks5h", "::1", 1080)
    assert "hunter2" not in repr(proxy)


@pytest.mark.parametrize("login", [("device", None), (None, PASSWORD), ("", PASSWORD), (" ", PASSWORD)])
def test_half_a_login_at_a_proxy_is_refused(login: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="a user, which is not empty, and a password"):
        Proxy("http://proxy:3128", *login)


@pytest.mark.parametrize(
    "values, words",
    [
        ({"host": ""}, "host of a jump host"),
        ({"host": "a b"}, "host of a jump host"),
        ({"port": 0}, "port of a jump host"),
        ({"port": True}, "port of a jump host"),
        ({"user": " "}, "user of a jump host"),
        ({"password": None}, "password or private_key of a jump host"),
    ],
)
def test_a_jump_host_that_can_never_work_is_refused(values: dict[str, Any], words: str) -> None:
    bastion: dict[str, Any] = {"host": "bastion", "port": 22, "user": "device", "password": PASSWORD}
    with pytest.raises(ValueError, match=words):
        Jump(**(bastion | values))


@pytest.mark.parametrize(
    "values, words",
    [
        ({"jumps": (Jump("bastion", 22, "device", PASSWORD),) * 4}, "at most 3"),
        ({"jumps": [Jump("bastion", 22, "device", PASSWORD)]}, "a tuple of Jump"),
        ({"jumps": ("bastion",)}, "a tuple of Jump"),
        ({"proxy": "http://proxy:3128"}, "must be a Proxy"),
    ],
)
def test_settings_take_nothing_else(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ServerSettings("sftp.example.com", 22, "device", PASSWORD, **values)


def test_the_client_takes_them_too() -> None:
    with pytest.raises(ValueError, match="at most 3"):
        IoTSFTPClient("sftp.example.com", 22, "device", "x", jumps=[Jump("bastion", 22, "device", PASSWORD)] * 4)
