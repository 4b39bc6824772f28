"""Through other SSH servers: real ones, up to three, with a proxy before them; what each refuses, and when one dies."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import paramiko
import psutil
import pytest
from tests import faulty_servers as faulty
from tests.clients import HUNG, failure_of_ended_connect, session_of, settings_of
from tests.faulty_links import Break, BreakingRelay
from tests.folders import write_as_long_ago
from tests.proxies import jump_of, socks_proxy
from tests.servers import Relay, Server, free_port, listening, never_answers, openssh

from iot.sftp.client import (
    AuthenticationFailed,
    ConnectionLost,
    HostKeyMismatch,
    Jump,
    Secret,
    SFTPError,
    SFTPSession,
    TimeLimits,
    Unreachable,
    Unsupported,
    diagnose,
)
from iot.sftp.client._ssh.jumps import RESOURCE_SHORTAGE, UNKNOWN_TYPE
from iot.sftp.client._ssh.paramiko_internals.failures import ReasonError
from iot.sftp.client._ssh.paramiko_internals.transport import Transport
from iot.sftp.client._ssh.paramiko_internals.tunnel import TUNNEL_WINDOW, Tunnel

SHORT = TimeLimits(connect=1, stall=1)
OTHER_KEY = ("SHA256:" + "A" * 43,)
WAYS = {"one hop": 1, "two hops": 2, "three hops": 3}


@pytest.fixture(scope="module")
def bastion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An SSH server that is only a jump host here."""
    with openssh(tmp_path_factory.mktemp("bastion")) as server:
        yield server


def failure_through(server: Server, *jumps: Jump, **options: object) -> SFTPError:
    with (
        leaving_nothing(),
        session_of(server, jumps=jumps, **options) as session,
        pytest.raises(SFTPError) as failure,
    ):
        session.connect()
    return failure.value


def ours() -> list[threading.Thread]:
    return [
        thread for thread in threading.enumerate() if isinstance(thread, Transport) or thread.name.startswith("sftp-")
    ]


@contextmanager
def leaving_nothing() -> Iterator[None]:
    """No thread more than before."""
    before = len(ours())
    yield
    for thread in ours():
        thread.join(HUNG)
    assert len(ours()) == before


@contextmanager
def leaving_no_descriptor() -> Iterator[None]:
    """No thread and no descriptor more than before; where all servers are other processes."""
    descriptors = psutil.Process().num_fds()
    with leaving_nothing():
        yield
    assert psutil.Process().num_fds() == descriptors


# --- what works ---


@pytest.mark.parametrize("hops", WAYS.values(), ids=WAYS)
def test_files_go_through_jump_hosts(bastion: Server, openssh_server: Server, tmp_path: Path, hops: int) -> None:
    content = os.urandom(300_000)
    write_as_long_ago(tmp_path / "source", content)
    with leaving_no_descriptor(), session_of(openssh_server, jumps=(jump_of(bastion),) * hops) as session:
        session.upload_file(str(tmp_path / "source"), f"through-{hops}")
        session.download_file(f"through-{hops}", str(tmp_path / "back"))
        assert session.is_connected()
        # paramiko's thread of each connection: they are all one's own
        assert sum(isinstance(thread, Transport) for thread in ours()) == hops + 1
    assert (tmp_path / "back").read_bytes() == content


def test_a_proxy_comes_before_the_jump_hosts(bastion: Server, openssh_server: Server) -> None:
    with socks_proxy() as proxy, leaving_nothing():
        settings = settings_of(openssh_server, proxy=proxy, jumps=(jump_of(bastion), jump_of(bastion)))
        with session_of(openssh_server, proxy=proxy, jumps=settings.jumps) as session:
            session.connect()
        steps = list(diagnose(settings))
    assert [step.name for step in steps][:6] == ["dns", "proxy", "jump", "jump", "tcp", "ssh_version"]
    assert all(step.passed for step in steps)
    assert bastion.host_key in steps[2].found
    assert f"{bastion.user} in" in steps[2].found
    assert f"through jump '127.0.0.1' port {bastion.port}" in steps[4].found


def test_the_last_hop_resolves_the_name(
    bastion: Server, openssh_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here nobody knows a name; the jump host knows `localhost`, and is known by its address."""
    resolved, resolve = [], socket.getaddrinfo

    def knows_addresses(host: str, *arguments: object, **options: object) -> object:
        resolved.append(host)
        if host == "localhost":
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return resolve(host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", knows_addresses)
    jumps = jump_of(bastion), jump_of(bastion, host="localhost")
    with session_of(openssh_server, host="localhost", jumps=jumps) as session:
        session.connect()
    assert resolved == ["127.0.0.1"]


def test_the_key_of_each_hop_is_remembered(bastion: Server, openssh_server: Server, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    with session_of(openssh_server, jumps=(jump_of(bastion),), known_hosts=known_hosts) as session:
        session.connect()
    text = known_hosts.read_text()
    assert f"[127.0.0.1]:{bastion.port} " in text
    assert f"[127.0.0.1]:{openssh_server.port} " in text


def test_a_pinned_key_of_another_type_is_found_through_a_jump_host(bastion: Server, tmp_path: Path) -> None:
    """A fingerprint does not say of which type its key is: a second connection through the same hop asks for others."""
    base = tmp_path / "two-keys"
    base.mkdir()
    ecdsa = paramiko.ECDSAKey.generate()
    ecdsa.write_private_key_file(str(base / "ecdsa"))
    with (
        openssh(base, f"HostKey {base / 'ecdsa'}") as server,
        leaving_nothing(),
        session_of(server, jumps=(jump_of(bastion),), host_keys=(ecdsa.fingerprint,)) as session,
    ):
        session.connect()
        assert sum(isinstance(thread, Transport) for thread in ours()) == 2


def test_the_same_way_is_opened_and_closed_again_and_again(bastion: Server, openssh_server: Server) -> None:
    with leaving_no_descriptor(), session_of(openssh_server, jumps=(jump_of(bastion), jump_of(bastion))) as session:
        for _ in range(4):
            session.connect()
            assert session.exists(".")
            session.disconnect()


# --- what is refused ---


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_wrong_key_of_a_jump_host_is_a_mismatch(bastion: Server, openssh_server: Server, wrong: int) -> None:
    jumps = [jump_of(bastion), jump_of(openssh_server)]
    jumps[wrong] = replace(jumps[wrong], host_keys=OTHER_KEY)
    error = failure_through(openssh_server, *jumps)
    assert isinstance(error, HostKeyMismatch)
    assert error.message.startswith(f"jump '127.0.0.1' port {jumps[wrong].port}: ")


def test_a_key_of_a_jump_host_that_has_changed_is_a_mismatch(
    bastion: Server, openssh_server: Server, tmp_path: Path
) -> None:
    known_hosts = tmp_path / "known_hosts"
    key = paramiko.ECDSAKey.generate()
    known_hosts.write_text(f"[127.0.0.1]:{bastion.port} {key.get_name()} {key.get_base64()}\n")
    error = failure_through(openssh_server, jump_of(bastion), known_hosts=known_hosts)
    assert isinstance(error, HostKeyMismatch)
    assert str(bastion.port) in error.message


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_refused_login_at_a_jump_host_is_named_and_has_backoff(
    bastion: Server, openssh_server: Server, wrong: int
) -> None:
    jumps = [jump_of(bastion), jump_of(openssh_server)]
    jumps[wrong] = replace(jumps[wrong], private_key=None, password=Secret("wrong secret"))
    first, again = (failure_through(openssh_server, *jumps) for _ in range(2))
    for error in (first, again):
        assert isinstance(error, AuthenticationFailed)
        assert error.message.startswith(f"jump '127.0.0.1' port {jumps[wrong].port}: ")
        assert "wrong secret" not in error.message
    assert "Nothing was sent now" in again.message
    *_, last = diagnose(settings_of(openssh_server, jumps=tuple(jumps)))
    assert (last.name, last.code) == ("jump", "authentication_failed")


def test_a_key_of_a_jump_host_that_cannot_be_read_is_named(bastion: Server, openssh_server: Server) -> None:
    error = failure_through(openssh_server, jump_of(bastion, private_key=Secret.from_file("/no/such/key")))
    assert isinstance(error, AuthenticationFailed)
    assert error.message.startswith(f"jump '127.0.0.1' port {bastion.port}: the file /no/such/key")


def test_a_server_that_refuses_the_login_behind_a_jump_host_is_not_the_jump_host(
    bastion: Server, openssh_server: Server
) -> None:
    wrong = {"private_key": None, "password": Secret("wrong")}
    error = failure_through(openssh_server, jump_of(bastion), **wrong)
    assert isinstance(error, AuthenticationFailed)
    assert "jump" not in error.message


def test_a_jump_host_that_forbids_forwarding_is_unreachable(openssh_server: Server, tmp_path: Path) -> None:
    with openssh(tmp_path / "closed", "AllowTcpForwarding no") as closed:
        error = failure_through(openssh_server, jump_of(closed))
        *_, last = diagnose(settings_of(openssh_server, jumps=(jump_of(closed),)))
    assert isinstance(error, Unreachable)
    assert f"forbids connections to 127.0.0.1 port {openssh_server.port}" in error.message
    assert (last.name, last.code) == ("tcp", "unreachable")  # the jump host itself is well


def test_a_server_that_is_down_behind_a_jump_host_is_unreachable(bastion: Server, openssh_server: Server) -> None:
    port = free_port()
    error = failure_through(openssh_server, jump_of(bastion), port=port)
    assert isinstance(error, Unreachable)
    assert error.message.startswith(f"jump '127.0.0.1' port {bastion.port}: it cannot connect to 127.0.0.1 port {port}")


def test_a_name_that_the_jump_host_does_not_know_is_unreachable(bastion: Server, openssh_server: Server) -> None:
    limits = TimeLimits(connect=HUNG)
    error = failure_through(openssh_server, jump_of(bastion), host="no-such-host.invalid", time_limits=limits)
    assert isinstance(error, Unreachable)
    assert "no-such-host.invalid" in error.message


def test_a_text_that_cannot_be_a_name_is_unreachable(bastion: Server, openssh_server: Server) -> None:
    assert isinstance(failure_through(openssh_server, jump_of(bastion), host="a..b"), Unreachable)


def test_a_second_jump_host_that_is_down_is_named_by_the_first(bastion: Server, openssh_server: Server) -> None:
    port = free_port()
    error = failure_through(openssh_server, jump_of(bastion), jump_of(bastion, port=port))
    assert isinstance(error, Unreachable)
    assert error.message.startswith(f"jump '127.0.0.1' port {bastion.port}: it cannot connect to 127.0.0.1 port {port}")


def test_a_jump_host_that_is_down_is_unreachable(openssh_server: Server) -> None:
    port = free_port()
    error = failure_through(openssh_server, Jump("127.0.0.1", port, "device", Secret("x")))
    assert isinstance(error, Unreachable)
    assert error.message.startswith(f"jump '127.0.0.1' port {port}: nothing accepts connections there")


def test_a_server_that_is_no_ssh_server_behind_a_jump_host_is_told_as_itself(
    bastion: Server, openssh_server: Server
) -> None:
    def is_a_mail_server(connection: socket.socket) -> None:
        connection.sendall(b"220 mail.example.com ESMTP\r\n")
        connection.close()

    with listening(is_a_mail_server) as port:
        error = failure_through(openssh_server, jump_of(bastion), port=port)
    assert isinstance(error, ConnectionLost)
    assert "a mail or FTP server" in error.message


# --- hops that do not answer ---


class ForwardsNothing(faulty.FaultyServer):
    """Accepts every login, and answers a request to forward with what it is told to."""

    reason = UNKNOWN_TYPE

    def check_channel_direct_tcpip_request(self, *_: object) -> int:
        return self.reason


class IsShortOfResources(ForwardsNothing):
    reason = RESOURCE_SHORTAGE


@pytest.mark.parametrize(
    "kind, expected, words",
    [
        (ForwardsNothing, Unsupported, "does not forward connections"),
        (IsShortOfResources, ConnectionLost, "no more connections for now"),
    ],
)
def test_what_a_jump_host_answers_to_the_request_is_told(
    openssh_server: Server, kind: type[ForwardsNothing], expected: type[SFTPError], words: str
) -> None:
    with kind().running() as port:
        jump = Jump("127.0.0.1", port, "device", Secret(faulty.PASSWORD))
        error = failure_through(openssh_server, jump, time_limits=SHORT)
    assert isinstance(error, expected)
    assert words in error.message
    assert error.message.startswith(f"jump '127.0.0.1' port {port}: ")


@pytest.mark.parametrize("kind", [faulty.FrozenBeforeTheBanner, faulty.FrozenInTheKeyExchange, faulty.FrozenInTheLogin])
def test_a_jump_host_that_freezes_is_named_within_the_connect_limit(
    openssh_server: Server, kind: type[faulty.FaultyServer]
) -> None:
    with kind().running() as port:
        jump = Jump("127.0.0.1", port, "device", Secret(faulty.PASSWORD))
        started = time.monotonic()
        error = failure_through(openssh_server, jump, time_limits=SHORT)
        assert time.monotonic() - started < HUNG
    assert error.code in {"unreachable", "connection_lost"}
    assert error.message.startswith(f"jump '127.0.0.1' port {port}: ")


def test_a_black_hole_behind_a_jump_host_is_unreachable(bastion: Server, openssh_server: Server) -> None:
    with listening(never_answers) as port:
        error = failure_through(openssh_server, jump_of(bastion), port=port, time_limits=SHORT)
    assert isinstance(error, Unreachable)
    assert "jump" not in error.message


def test_a_jump_host_that_never_says_whether_it_reaches_the_server_is_named(openssh_server: Server) -> None:
    ended = threading.Event()

    class NeverSays(ForwardsNothing):
        def check_channel_direct_tcpip_request(self, *_: object) -> int:
            ended.wait(HUNG)
            return self.reason

    with NeverSays().running() as port:
        jump = Jump("127.0.0.1", port, "device", Secret(faulty.PASSWORD))
        error = failure_through(openssh_server, jump, time_limits=SHORT)
        ended.set()
    assert isinstance(error, Unreachable)
    assert error.message.startswith(f"jump '127.0.0.1' port {port}: ")


def test_a_disconnect_ends_a_jump_that_is_being_opened(openssh_server: Server) -> None:
    asked = threading.Event()

    def is_silent(client: socket.socket) -> None:
        client.recv(4096)
        asked.set()
        client.recv(4096)

    with leaving_nothing(), listening(is_silent) as port:
        jump = Jump("127.0.0.1", port, "device", Secret("x"))
        settings = settings_of(openssh_server, jumps=(jump,), time_limits=TimeLimits(connect=HUNG))
        assert failure_of_ended_connect(SFTPSession(settings), asked).code == "connection_lost"


# --- when one dies ---


@pytest.mark.parametrize(
    "place, direction",
    [("before the first hop", "up"), ("between the hops", "down"), ("behind the last hop", "up")],
)
def test_a_transfer_is_resumed_after_the_way_was_cut(
    bastion: Server, openssh_server: Server, tmp_path: Path, place: str, direction: str
) -> None:
    content = os.urandom(3 << 20)
    (tmp_path / "source").write_bytes(content)
    (openssh_server.directory / "resumed-down").write_bytes(content)
    relay = BreakingRelay((bastion.host, bastion.port))
    behind = BreakingRelay((openssh_server.host, openssh_server.port))
    with relay.running() as port, behind.running() as server_port:
        jumps = {
            "before the first hop": (jump_of(bastion, port=port), jump_of(bastion)),
            "between the hops": (jump_of(bastion), jump_of(bastion, port=port)),
            "behind the last hop": (jump_of(bastion), jump_of(bastion)),
        }[place]
        broken = behind if place == "behind the last hop" else relay
        options = {"port": server_port} if broken is behind else {}
        with (
            leaving_nothing(),
            session_of(openssh_server, jumps=jumps, state=tmp_path / "state", **options) as session,
        ):
            session.connect()
            broken.break_at(Break(3 << 19, down=direction == "down"))
            if direction == "up":
                transfer = session.upload_file(str(tmp_path / "source"), "resumed-up", timeout=HUNG)
            else:
                transfer = session.download_file("resumed-down", str(tmp_path / "back"), timeout=HUNG)
            assert broken.broken.is_set()
            assert transfer.resumed
    arrived = openssh_server.directory / "resumed-up" if direction == "up" else tmp_path / "back"
    assert arrived.read_bytes() == content


def test_a_jump_host_that_was_cut_is_named(bastion: Server, openssh_server: Server) -> None:
    relay, limits = Relay((bastion.host, bastion.port)), TimeLimits(connect=HUNG, stall=HUNG)
    with relay.running() as port:
        session = SFTPSession(settings_of(openssh_server, jumps=(jump_of(bastion, port=port),), time_limits=limits))
        session.connect()
        connection = session._live.current
        assert connection is not None
        transport = connection.transport
        relay.cut()
        transport.join(HUNG)
        assert not session.is_open
        ended_by = transport.saved_exception
        session.disconnect()
    assert f"jump '127.0.0.1' port {port}: " in str(ended_by)


@pytest.mark.parametrize("is_outer", [True, False])
def test_a_frozen_way_ends_a_call_and_is_noticed(bastion: Server, openssh_server: Server, *, is_outer: bool) -> None:
    relay, limits = Relay((bastion.host, bastion.port)), TimeLimits(connect=HUNG, stall=1)
    with relay.running() as port:
        jumps = jump_of(bastion, port=port), jump_of(bastion)
        with (
            leaving_nothing(),
            session_of(openssh_server, jumps=jumps if is_outer else jumps[::-1], time_limits=limits) as session,
        ):
            session.connect()
            relay.frozen.set()
            assert not session.is_connected()


def test_a_frozen_way_does_not_hold_up_the_end_of_an_upload(
    bastion: Server, openssh_server: Server, tmp_path: Path
) -> None:
    """All buffers on the way are full: nothing that ends the session may wait for them."""
    with open(tmp_path / "large", "wb") as file:
        file.truncate(64 << 20)
    relay = BreakingRelay((bastion.host, bastion.port))
    limits = TimeLimits(connect=HUNG, stall=1)
    with relay.running() as port, leaving_nothing():
        session = SFTPSession(settings_of(openssh_server, jumps=(jump_of(bastion, port=port),), time_limits=limits))
        session.connect()
        stopped = threading.Event()

        def freeze() -> None:
            relay.break_at(Break(1, down=False, how=freeze))  # further connections too
            stopped.wait(HUNG)

        relay.break_at(Break(8 << 20, down=False, how=freeze))
        started = time.monotonic()
        with pytest.raises(SFTPError):
            session.upload_file(str(tmp_path / "large"), "never", timeout=3)
        session.disconnect()
        assert time.monotonic() - started < HUNG / 2
        stopped.set()


def test_a_jump_host_that_ignores_the_window_fills_no_memory() -> None:
    tunnel, some = Tunnel(lambda: None), b"x" * 65_536
    for _ in range(TUNNEL_WINDOW // len(some)):
        tunnel._receive(some)
    with pytest.raises(ReasonError, match="more than the window"):
        tunnel._receive(b"x")
    tunnel = Tunnel(lambda: None)
    for _ in range(3 * TUNNEL_WINDOW // len(some)):
        tunnel._receive(some)
        assert tunnel.recv(len(some)) == some
