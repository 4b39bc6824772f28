"""`iot-sftp` through a proxy and jump hosts: options, variables, and what must not be an argument."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.command_line.conftest import Terminal, terminal_of
from tests.proxies import PASSWORD, USER, http_proxy
from tests.servers import Server

from iot.sftp.client import Proxy
from iot.sftp.command_line._arguments import parser
from iot.sftp.command_line._server import UsageError, settings_of

SERVER = ("--host", "sftp.example.com", "--user", "device", "--key-file", "/run/key")


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with http_proxy(tmp_path_factory.mktemp("http"), has_login=True) as running:
        yield running


@pytest.fixture
def terminal(openssh_server: Server, tmp_path: Path) -> Terminal:
    return terminal_of(openssh_server, tmp_path / "here")


def test_check_shows_each_hop(terminal: Terminal, openssh_server: Server, proxy: Proxy, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{PASSWORD}\n")
    hop = f"{openssh_server.user}@{openssh_server.host}:{openssh_server.port}"
    done = terminal.run(
        *("check", "--json", "--proxy", proxy.url, "--proxy-user", USER),
        *("--proxy-password-file", str(tmp_path / "secret"), "--jump", hop, "--jump", hop),
        *("--jump-host-key", openssh_server.host_key),
    )
    assert done.status == 0, done.err
    assert [step["name"] for step in done.document["steps"]][:5] == ["dns", "proxy", "jump", "jump", "tcp"]
    assert "which is pinned" in done.document["steps"][2]["found"]


def test_variables_say_the_same(terminal: Terminal, openssh_server: Server, proxy: Proxy) -> None:
    variables = {
        "IOT_SFTP_PROXY": proxy.url,
        "IOT_SFTP_PROXY_USER": USER,
        "IOT_SFTP_PROXY_PASSWORD": PASSWORD,
        "IOT_SFTP_JUMP": f"{openssh_server.host}:{openssh_server.port}",
    }
    assert terminal.run("ls", **variables).status == 0
    wrong = terminal.run("ls", "--json", **(variables | {"IOT_SFTP_PROXY_PASSWORD": "hunter2"}))
    assert wrong.status == 1
    assert wrong.document["code"] == "authentication_failed"
    assert "proxy" in wrong.document["message"]
    assert "hunter2" not in wrong.out + wrong.err


@pytest.mark.parametrize(
    "arguments, advice",
    [
        (("--proxy", "http://gateway:hunter2@proxy.example.com:3128"), "--proxy-password-file"),
        (("--jump", "gateway:hunter2@bastion"), "--jump-password-file"),
        (("--proxy-password", "hunter2"), "--password-file"),
        (("--jump-passphrase=hunter2",), "--passphrase-file"),
    ],
)
def test_a_password_for_a_hop_is_no_argument(terminal: Terminal, arguments: tuple[str, ...], advice: str) -> None:
    done = terminal.run("ls", *arguments)
    assert done.status == 2
    assert advice in done.err
    assert "hunter2" not in done.out + done.err


def test_the_password_of_the_server_is_not_sent_to_a_jump_host(terminal: Terminal) -> None:
    terminal.variables.pop("IOT_SFTP_KEY_FILE", None)
    done = terminal.run("ls", "--jump", "bastion", IOT_SFTP_PASSWORD="hunter2")
    assert done.status == 2
    assert "IOT_SFTP_JUMP_PASSWORD" in done.err


@pytest.mark.parametrize(
    "text, expected",
    [
        ("bastion", ("device", "bastion", 22)),
        ("ops@bastion:2222", ("ops", "bastion", 2222)),
        ("ops@plant@bastion", ("ops@plant", "bastion", 22)),
        ("[::1]:2222", ("device", "::1", 2222)),
        ("[::1]", ("device", "::1", 22)),
    ],
)
def test_a_jump_host_is_written_as_for_ssh(text: str, expected: tuple[str, str, int]) -> None:
    settings = settings_of(parser().parse_args(["ls", *SERVER, "--jump", text]), {})
    (hop,) = settings.jumps
    assert (hop.user, hop.host, hop.port) == expected
    assert hop.private_key == settings.private_key


@pytest.mark.parametrize("text", ["bastion:x", "bastion:0", "@", ":22", "::1", "ssh://bastion", "a b"])
def test_what_is_no_jump_host_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        settings_of(parser().parse_args(["ls", *SERVER, "--jump", text]), {})


@pytest.mark.parametrize("url", ["proxy:1080", "socks5://proxy:1080", "https://proxy:443", "http://proxy", "http://:1"])
def test_what_is_no_proxy_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match="proxy"):
        settings_of(parser().parse_args(["ls", *SERVER, "--proxy", url]), {})


def test_there_are_three_jump_hosts_at_most() -> None:
    four = [part for _ in range(4) for part in ("--jump", "bastion")]
    with pytest.raises(UsageError, match="at most 3"):
        settings_of(parser().parse_args(["ls", *SERVER, *four]), {})
