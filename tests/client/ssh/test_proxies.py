"""Through a proxy: real ones with and without a login, what is refused, and proxies that misbehave."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tests.clients import HUNG, failure_of_ended_connect, session_of, settings_of
from tests.faulty_links import Break, BreakingRelay
from tests.proxies import PASSWORD, USER, http_proxy, socks_proxy
from tests.servers import Relay, Server, closes_at_once, free_port, listening, never_answers, speaks_http

from iot.sftp.client import (
    AuthenticationFailed,
    Proxy,
    Secret,
    SFTPError,
    SFTPSession,
    TimeLimits,
    Unreachable,
    diagnose,
)

SHORT = TimeLimits(connect=1, stall=2)
KINDS = ("socks5h", "http")


@pytest.fixture(scope="module")
def proxies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Proxy]]:
    """Both kinds of proxies, with a login."""
    with socks_proxy(has_login=True) as socks, http_proxy(tmp_path_factory.mktemp("http"), has_login=True) as http:
        yield {"socks5h": socks, "http": http}


@pytest.fixture(params=KINDS)
def proxy(request: pytest.FixtureRequest, proxies: dict[str, Proxy]) -> Proxy:
    return proxies[request.param]


def failure_through(server: Server, proxy: Proxy, **options: object) -> SFTPError:
    """Return what a session fails with; it leaves no thread and no socket behind."""
    with session_of(server, proxy=proxy, **options) as session, pytest.raises(SFTPError) as failure:
        session.connect()
    assert str(proxy.port) in failure.value.message
    assert "proxy" in failure.value.message
    return failure.value


def answering(kind: str, port: int) -> Proxy:
    return Proxy(f"{kind}://127.0.0.1:{port}")


# --- what works ---


def test_files_go_through_a_proxy_with_a_login(openssh_server: Server, proxy: Proxy, tmp_path: Path) -> None:
    content = os.urandom(300_000)
    (tmp_path / "source").write_bytes(content)
    with session_of(openssh_server, proxy=proxy) as session:
        session.upload_file(str(tmp_path / "source"), f"through-{proxy.scheme}")
        session.download_file(f"through-{proxy.scheme}", str(tmp_path / "back"))
        assert session.is_connected()
    assert (tmp_path / "back").read_bytes() == content


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_without_a_login_needs_none(openssh_server: Server, kind: str, tmp_path: Path) -> None:
    with (
        socks_proxy() if kind == "socks5h" else http_proxy(tmp_path / "http") as proxy,
        session_of(openssh_server, proxy=proxy) as session,
    ):
        session.connect()


def test_the_proxy_resolves_the_name(openssh_server: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here nobody knows a name; the proxy knows `localhost`."""
    resolved, resolve = [], socket.getaddrinfo

    def knows_addresses(host: str, *arguments: object, **options: object) -> object:
        resolved.append(host)
        if host == "localhost":
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return resolve(host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", knows_addresses)
    with session_of(openssh_server, host="localhost", proxy=proxy) as session:
        session.connect()
    assert resolved == ["127.0.0.1"]


def test_check_shows_the_proxy_as_a_step(openssh_server: Server, proxy: Proxy) -> None:
    steps = list(diagnose(settings_of(openssh_server, proxy=proxy)))
    assert [step.name for step in steps][:4] == ["dns", "proxy", "tcp", "ssh_version"]
    assert all(step.passed for step in steps)
    assert f"through proxy '127.0.0.1' port {proxy.port}" in steps[2].found
    assert PASSWORD not in str(steps)


def test_a_greeting_right_behind_the_answer_of_the_proxy_is_not_lost(openssh_server: Server) -> None:
    """An SSH server speaks first: its greeting may come with the proxy's last byte."""

    def joins(client: socket.socket) -> None:
        while not client.recv(4096).endswith(b"\r\n\r\n"):
            continue
        with socket.create_connection((openssh_server.host, openssh_server.port)) as server:
            greeting = server.recv(4096)
            client.sendall(b"HTTP/1.1 200 OK\r\nVia: a proxy\r\n\r\n" + greeting)
            back = threading.Thread(target=pump, args=(server, client), daemon=True)
            back.start()
            pump(client, server)
            back.join()

    with listening(joins) as port, session_of(openssh_server, proxy=answering("http", port)) as session:
        session.connect()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


# --- what is refused ---


def test_a_wrong_login_is_an_authentication_failure_with_backoff(openssh_server: Server, proxy: Proxy) -> None:
    wrong = replace(proxy, password=Secret("wrong secret"))
    first = failure_through(openssh_server, wrong)
    again = failure_through(openssh_server, wrong)
    assert isinstance(first, AuthenticationFailed)
    assert isinstance(again, AuthenticationFailed)
    assert "refuses the login" in first.message
    assert "Nothing was sent now" in again.message
    assert "wrong secret" not in first.message + again.message
    with session_of(openssh_server, proxy=proxy) as session:
        session.connect()  # other credentials do not wait


def test_a_missing_login_is_an_authentication_failure(openssh_server: Server, proxy: Proxy) -> None:
    error = failure_through(openssh_server, Proxy(proxy.url))
    assert isinstance(error, AuthenticationFailed)
    assert "wants a login" in error.message


@pytest.mark.parametrize(
    "kind, user, password",
    [
        ("socks5h", "gerät", "x"),
        ("socks5h", "device", "x" * 256),
        ("socks5h", "device", ""),
        ("http", "device:", "x"),
        ("http", "device", "\N{SNOWMAN}"),
    ],
)
def test_a_login_that_cannot_be_sent_is_an_authentication_failure(
    openssh_server: Server, kind: str, user: str, password: str
) -> None:
    with listening(never_answers) as port:
        proxy = Proxy(f"{kind}://127.0.0.1:{port}", user, Secret(password))
        assert isinstance(failure_through(openssh_server, proxy), AuthenticationFailed)


def test_a_login_that_cannot_be_read_is_an_authentication_failure(openssh_server: Server) -> None:
    proxy = Proxy(f"socks5h://127.0.0.1:{free_port()}", USER, Secret.from_file("/no/such/file"))
    assert isinstance(failure_through(openssh_server, proxy), AuthenticationFailed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_that_is_down_is_unreachable(openssh_server: Server, kind: str) -> None:
    error = failure_through(openssh_server, answering(kind, free_port()))
    assert isinstance(error, Unreachable)
    assert "nothing accepts connections" in error.message


def test_a_server_that_is_down_behind_the_proxy_is_unreachable(openssh_server: Server, proxy: Proxy) -> None:
    port = free_port()
    error = failure_through(openssh_server, proxy, port=port)
    assert isinstance(error, Unreachable)
    assert f"cannot connect to 127.0.0.1 port {port}" in error.message
    *_, last = diagnose(settings_of(openssh_server, proxy=proxy, port=port))
    assert (last.name, last.code) == ("tcp", "unreachable")  # the proxy itself is well


def test_a_name_that_the_proxy_does_not_know_is_unreachable(openssh_server: Server, proxy: Proxy) -> None:
    limits = TimeLimits(connect=HUNG)
    error = failure_through(openssh_server, proxy, host="no-such-host.invalid", time_limits=limits)
    assert isinstance(error, Unreachable)
    assert "no-such-host.invalid" in error.message


@pytest.mark.parametrize("host", ["a" * 70 + ".example", "\N{SNOWMAN}" * 80, "a..b"])
def test_a_text_that_cannot_be_a_name_is_unreachable(openssh_server: Server, proxy: Proxy, host: str) -> None:
    assert isinstance(failure_through(openssh_server, proxy, host=host), Unreachable)


def test_a_port_that_the_proxy_forbids_is_unreachable(openssh_server: Server, tmp_path: Path) -> None:
    with http_proxy(tmp_path / "http", "ConnectPort 443") as proxy:
        error = failure_through(openssh_server, proxy)
    assert isinstance(error, Unreachable)
    assert "forbids connections to" in error.message


# --- proxies that misbehave ---


def reads(client: socket.socket) -> None:
    client.recv(4096)


def sends(*parts: bytes) -> Callable[[socket.socket], None]:
    """Answer each message with the next part; then wait."""

    def answer(client: socket.socket) -> None:
        for part in parts:
            reads(client)
            client.sendall(part)
        reads(client)

    return answer


def sends_and_hangs_up(*parts: bytes) -> Callable[[socket.socket], None]:
    def answer(client: socket.socket) -> None:
        for part in parts:
            reads(client)
            client.sendall(part)
        client.close()

    return answer


def drips(text: bytes) -> Callable[[socket.socket], None]:
    """Send a byte at a time for as long as somebody listens."""

    def answer(client: socket.socket) -> None:
        reads(client)
        for byte in text:
            client.sendall(bytes([byte]))
            time.sleep(0.05)
        reads(client)

    return answer


def never_ends(text: bytes) -> Callable[[socket.socket], None]:
    def answer(client: socket.socket) -> None:
        reads(client)
        while True:
            client.sendall(text)

    return answer


MISBEHAVIOUR: dict[str, tuple[str, Callable[[socket.socket], None]]] = {
    "socks, silent": ("socks5h", never_answers),
    "socks, hangs up": ("socks5h", closes_at_once),
    "socks, is a web server": ("socks5h", speaks_http),
    "socks, version 4": ("socks5h", sends(b"\4\0")),
    "socks, half a reply to the methods": ("socks5h", sends_and_hangs_up(b"\5")),
    "socks, half a reply": ("socks5h", sends_and_hangs_up(b"\5\0", b"\5\0\0\1\x7f")),
    "socks, an unknown reply": ("socks5h", sends(b"\5\0", b"\5\xee\0\1\0\0\0\0\0\0")),
    "socks, an unknown kind of address": ("socks5h", sends(b"\5\0", b"\5\0\0\x09\0\0\0\0\0\0")),
    "socks, a name that is no text": ("socks5h", sends(b"\5\0", b"\5\0\0\3\2\xff\xff\0\0")),
    "socks, drips": ("socks5h", drips(b"\5\0\5\0\0\3\xff" + b"a" * 255)),
    "http, silent": ("http", never_answers),
    "http, hangs up": ("http", closes_at_once),
    "http, half an answer": ("http", sends_and_hangs_up(b"HTTP/1.1 200 Connection est")),
    "http, garbage": ("http", sends(b"\0\xff\xfe\r\n\r\n")),
    "http, no number": ("http", sends(b"HTTP/1.1 OK fine\r\n\r\n")),
    "http, endless headers": ("http", never_ends(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100)),
    "http, an endless line": ("http", never_ends(b"A" * 4096)),
    "http, drips": ("http", drips(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000)),
    "http, redirects": ("http", sends(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n")),
    "http, has no CONNECT": ("http", sends(b"HTTP/1.1 405 Method \x1b[31mNot Allowed\r\n\r\n")),
}


@pytest.mark.parametrize("name", MISBEHAVIOUR)
def test_a_proxy_that_misbehaves_is_unreachable_within_the_connect_limit(openssh_server: Server, name: str) -> None:
    kind, behaviour = MISBEHAVIOUR[name]
    threads = threading.active_count()
    with listening(behaviour) as port:
        started = time.monotonic()
        error = failure_through(openssh_server, answering(kind, port), time_limits=SHORT)
        assert time.monotonic() - started < HUNG
    assert isinstance(error, Unreachable)
    assert error.message.isprintable()
    deadline = time.monotonic() + HUNG
    while threading.active_count() > threads and time.monotonic() < deadline:  # the servers' own threads end as well
        time.sleep(0.01)
    assert threading.active_count() <= threads


def test_a_disconnect_ends_a_request_that_the_proxy_does_not_answer(openssh_server: Server) -> None:
    asked = threading.Event()

    def is_silent(client: socket.socket) -> None:
        reads(client)
        asked.set()
        reads(client)

    with listening(is_silent) as port:
        limits = TimeLimits(connect=HUNG)
        settings = settings_of(openssh_server, proxy=answering("http", port), time_limits=limits)
        assert failure_of_ended_connect(SFTPSession(settings), asked).code == "connection_lost"


# --- while it is in use ---


def test_a_transfer_is_resumed_after_the_proxy_has_cut_it(
    openssh_server: Server, proxies: dict[str, Proxy], tmp_path: Path
) -> None:
    proxy = proxies["socks5h"]
    content = os.urandom(4 << 20)
    (tmp_path / "source").write_bytes(content)
    relay = BreakingRelay((proxy.host, proxy.port))
    with relay.running() as port:
        cut = replace(proxy, url=f"socks5h://127.0.0.1:{port}")
        with session_of(openssh_server, proxy=cut, state=tmp_path / "state") as session:
            session.connect()
            relay.break_at(Break(2 << 20, down=False))
            transfer = session.upload_file(str(tmp_path / "source"), "resumed", timeout=HUNG)
            assert relay.broken.is_set()
            assert transfer.resumed
    assert (openssh_server.directory / "resumed").read_bytes() == content


def test_a_proxy_that_freezes_is_noticed(openssh_server: Server, proxies: dict[str, Proxy]) -> None:
    proxy = proxies["http"]
    relay = Relay((proxy.host, proxy.port))
    with relay.running() as port:
        frozen = replace(proxy, url=f"http://127.0.0.1:{port}")
        limits = TimeLimits(connect=1, stall=1)
        with session_of(openssh_server, proxy=frozen, time_limits=limits) as session:
            session.connect()
            relay.frozen.set()
            assert not session.is_connected()
