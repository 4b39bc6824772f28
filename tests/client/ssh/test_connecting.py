"""A server that is wrong, dead, silent or gone: each has a name, within its time limit, and leaves nothing behind."""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import paramiko
import psutil
import pytest
from tests.clients import SHORT, client_of, session_of, set_retry_policy, settings_of
from tests.servers import (
    Relay,
    Server,
    black_hole,
    closes_at_once,
    free_port,
    listening,
    never_answers,
    openssh,
    pipe,
    resets_at_once,
    speaks_http,
)

from iot.sftp.client import (
    AuthenticationFailed,
    ConnectionLost,
    DeadlineExceeded,
    IoTSFTPClient,
    Secret,
    ServerSettings,
    SFTPError,
    SFTPSession,
    TimeLimits,
    Unreachable,
    Unsupported,
    diagnose,
)
from iot.sftp.client._calls.retry_policy import RetryPolicy

LONG = 15  # seconds that only a hang takes, however busy the machine


def ours() -> list[threading.Thread]:
    """The threads of the client that are alive."""
    return [
        thread
        for thread in threading.enumerate()
        if isinstance(thread, paramiko.Transport) or thread.name.startswith(("sftp-", "look-up-"))
    ]


def descriptors() -> int:
    return psutil.Process().num_fds()


@contextmanager
def leaving_nothing() -> Iterator[None]:
    """No thread and no descriptor more than before."""
    threads, open_before = len(ours()), descriptors()
    yield
    for thread in ours()[threads:]:
        thread.join(60)
    assert len(ours()) == threads
    assert descriptors() == open_before


def settings_for(port: int, **options: object) -> ServerSettings:
    values = {"password": Secret("x"), "time_limits": SHORT} | options
    return ServerSettings(host="127.0.0.1", port=port, user="device", **values)  # type: ignore[arg-type]


def failure_of(port: int, timeout: float | None = None, **options: object) -> tuple[SFTPError, float]:
    """What an operation fails with, and the seconds it took."""
    session = SFTPSession(settings_for(port, **options))
    started = time.monotonic()
    with pytest.raises(SFTPError) as failure:
        session.exists("x", timeout=timeout)
    return failure.value, time.monotonic() - started


def failure_at_deadline(port: int, seconds: float) -> SFTPError:
    """What an operation fails with that is repeated until its deadline; a busy machine may need a later one."""
    error, _ = failure_of(port, timeout=seconds)
    if isinstance(error, DeadlineExceeded) and seconds < LONG:
        return failure_at_deadline(port, 5 * seconds)
    return error


def test_a_wrong_password_is_an_authentication_failure(proftpd_server: Server) -> None:
    with leaving_nothing():
        error, _ = failure_of(proftpd_server.port)
    assert isinstance(error, AuthenticationFailed)


def test_a_key_that_the_server_does_not_know_is_an_authentication_failure(
    openssh_server: Server, tmp_path: Path
) -> None:
    key = paramiko.ECDSAKey.generate()
    key.write_private_key_file(str(tmp_path / "key"))
    stranger = Secret.from_file(tmp_path / "key")
    with (
        session_of(openssh_server, private_key=stranger) as session,
        leaving_nothing(),
        pytest.raises(AuthenticationFailed),
    ):
        session.exists("x")


def test_a_connection_ended_after_one_refusal_is_an_authentication_failure(tmp_path: Path) -> None:
    with openssh(tmp_path / "sshd", "MaxAuthTries 1") as server:
        key = paramiko.ECDSAKey.generate()
        key.write_private_key_file(str(tmp_path / "key"))
        stranger = Secret.from_file(tmp_path / "key")
        with session_of(server, private_key=stranger) as session, pytest.raises(AuthenticationFailed):
            session.exists("x")


def test_a_port_where_nobody_listens_is_unreachable() -> None:
    with leaving_nothing():
        error, seconds = failure_of(free_port())
    assert isinstance(error, Unreachable)
    assert seconds < LONG


def test_a_name_that_does_not_exist_is_unreachable() -> None:
    session = SFTPSession(ServerSettings("no-such-host.invalid", 22, "device", Secret("x"), time_limits=SHORT))
    with pytest.raises(Unreachable, match=r"no-such-host\.invalid"):
        session.exists("x")


@pytest.mark.parametrize("host", ["a" * 70 + ".example", "a..b", "\u2603" * 80])
def test_a_text_that_cannot_be_a_host_is_unreachable(host: str) -> None:
    session = SFTPSession(ServerSettings(host, 22, "device", Secret("x"), time_limits=SHORT))
    with pytest.raises(Unreachable):
        session.exists("x")


def test_a_black_hole_is_unreachable_within_the_connect_limit() -> None:
    with leaving_nothing(), black_hole() as port:
        error, seconds = failure_of(port, time_limits=TimeLimits(connect=0.5))
    assert isinstance(error, Unreachable)
    assert 0.4 < seconds < LONG


def test_a_server_that_says_nothing_is_unreachable_within_the_connect_limit() -> None:
    with leaving_nothing(), listening(never_answers) as port:
        error, seconds = failure_of(port, time_limits=TimeLimits(connect=0.5))
        assert isinstance(error, Unreachable)
        assert 0.4 < seconds < LONG


@pytest.mark.parametrize("answer", [closes_at_once, resets_at_once])
def test_a_server_that_closes_at_once_is_a_lost_connection(answer: Callable[..., None]) -> None:
    with leaving_nothing(), listening(answer) as port:
        error, seconds = failure_of(port, timeout=3)
        assert isinstance(error, ConnectionLost)
        assert seconds < LONG


def test_a_web_server_is_told_from_an_ssh_server() -> None:
    with leaving_nothing(), listening(speaks_http) as port:
        error = failure_at_deadline(port, 1)
        assert isinstance(error, ConnectionLost)
        assert "SSH" in error.message


def test_the_callers_deadline_comes_before_the_connect_limit() -> None:
    with leaving_nothing(), listening(never_answers) as port:
        error, seconds = failure_of(port, timeout=0.5, time_limits=TimeLimits(connect=30))
        assert isinstance(error, DeadlineExceeded)
        assert 0.4 < seconds < LONG


def test_many_calls_share_one_attempt_to_connect() -> None:
    relay = Relay(("127.0.0.1", free_port()))
    accepted = []

    def count(connection: object) -> None:
        accepted.append(connection)

    with listening(count) as port:
        session = SFTPSession(settings_for(port, time_limits=TimeLimits(connect=1)))
        errors: list[SFTPError] = []

        def call() -> None:
            try:
                session.exists("x", timeout=60)
            except SFTPError as error:
                errors.append(error)

        started = time.monotonic()
        threads = [threading.Thread(target=call) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - started < LONG
    assert relay.connections == 0
    assert [error.code for error in errors] == ["unreachable"] * 20
    assert len(accepted) <= 2


def test_a_shell_that_prints_is_told_about(tmp_path: Path) -> None:
    with (
        openssh(tmp_path / "sshd", subsystem="/bin/echo Welcome to this device") as server,
        session_of(server, time_limits=SHORT) as session,
        pytest.raises(Unsupported, match="Welcome to this"),
    ):
        session.exists("x")


def test_a_server_without_sftp_is_unsupported(tmp_path: Path) -> None:
    with (
        openssh(tmp_path / "sshd", "MaxSessions 0") as server,
        session_of(server, time_limits=SHORT) as session,
        pytest.raises(Unsupported),
    ):
        session.exists("x", timeout=60)


def test_a_server_with_old_algorithms_only_is_told_about_in_one_message(tmp_path: Path) -> None:
    with (
        openssh(tmp_path / "sshd", "Ciphers aes128-cbc,3des-cbc") as server,
        session_of(server, time_limits=SHORT) as session,
        pytest.raises(Unsupported, match="no longer accepted"),
    ):
        session.exists("x")


def test_the_client_is_made_though_the_server_is_dead_and_tells_why(caplog: pytest.LogCaptureFixture) -> None:
    client = IoTSFTPClient("127.0.0.1", free_port(), "device", "secret password")
    assert client.last_error is not None
    assert client.last_error.code == "unreachable"
    assert not client.is_connected()
    assert client.list_files(".") is None
    assert "secret password" not in caplog.text
    assert "Traceback" not in caplog.text


def test_paramiko_tells_of_a_broken_connection_only_for_debugging(caplog: pytest.LogCaptureFixture) -> None:
    with listening(closes_at_once) as port:
        failure_of(port, timeout=0.5)
        assert "Traceback" not in caplog.text
        with caplog.at_level(logging.DEBUG, "iot.sftp.client.ssh"):
            failure_of(port, timeout=0.5)
        levels = {record.levelno for record in caplog.records if record.name == "iot.sftp.client.ssh"}
        assert levels <= {logging.DEBUG}


def test_is_connected_asks_the_live_session(server: Server) -> None:
    relay = Relay((server.host, server.port))
    with relay.running() as port, client_of(server, port=port, connect_timeout=4) as client:
        assert client.is_connected()
        client.disconnect()
        assert not client.is_connected()
        assert client.exists(".")
        assert client.is_connected()
        relay.frozen.set()
        started = time.monotonic()
        assert not client.is_connected()
        assert time.monotonic() - started < LONG
        relay.frozen.clear()
        relay.cut()
        assert not client.is_connected()
        assert client.last_error is None


def test_disconnect_ends_threads_and_sockets_and_may_be_repeated(server: Server) -> None:
    with leaving_nothing():
        client = client_of(server)
        assert client.is_connected()
        client.disconnect()
        client.disconnect()
        assert "disconnected" in repr(client)
        assert client.exists(".")
        client.disconnect()


def test_a_session_that_broke_is_replaced_on_the_next_use(server: Server) -> None:
    relay = Relay((server.host, server.port))
    with relay.running() as port, client_of(server, port=port) as client:
        for _ in range(3):
            assert client.exists(".")
            relay.cut()
        assert client.exists(".")
        assert client.last_error is None


def test_a_dead_link_is_never_called_missing(server: Server) -> None:
    relay = Relay((server.host, server.port))
    with relay.running() as port:
        client = client_of(server, port=port, connect_timeout=1, stall_timeout=1)
    assert not client.exists(".")
    assert client.last_error is not None
    assert client.last_error.code in {"unreachable", "connection_lost"}
    client.disconnect()


def test_a_frozen_server_is_noticed_within_the_stall_limit(server: Server) -> None:
    relay = Relay((server.host, server.port))
    with relay.running() as port, session_of(server, port=port, time_limits=TimeLimits(connect=3, stall=1)) as session:
        session.connect()
        relay.frozen.set()
        started = time.monotonic()
        with pytest.raises(ConnectionLost):
            session.exists("x")
        assert time.monotonic() - started < LONG


def test_a_frozen_server_ends_a_call_at_its_deadline(server: Server, tmp_path: Path) -> None:
    (server.directory / "large").write_bytes(bytes(20_000_000))
    relay = Relay((server.host, server.port))
    with relay.running() as port, session_of(server, port=port) as session:
        session.connect()
        relay.frozen.set()
        calls: list[Callable[[], object]] = [
            lambda: session.exists("x", timeout=0.5),
            lambda: session.list_files(".", timeout=0.5),
            lambda: session.download_file("large", str(tmp_path / "x"), timeout=0.5),
            lambda: session.upload_file(str(server.directory / "large"), "y", timeout=0.5),
            lambda: session.test_connection(timeout=0.5),
        ]
        for call in calls:
            started = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                call()
            assert time.monotonic() - started < LONG
        assert os.listdir(tmp_path) == ["home"]


def test_disconnect_ends_calls_in_flight(server: Server) -> None:
    relay = Relay((server.host, server.port))
    with relay.running() as port, session_of(server, port=port) as session:
        session.connect()
        relay.frozen.set()
        failures: list[SFTPError] = []

        def call() -> None:
            with pytest.raises(ConnectionLost, match="disconnect was called") as failure:
                session.exists("x", timeout=60)
            failures.append(failure.value)

        thread = threading.Thread(target=call)
        thread.start()
        while not session._live.in_flight:
            threading.Event().wait(0.01)
        session.disconnect()
        thread.join(60)
        assert len(failures) == 1


def test_closing_when_idle_lets_calls_in_flight_end(server: Server) -> None:
    (server.directory / "large").write_bytes(bytes(30_000_000))
    with leaving_nothing(), session_of(server) as session:
        session.connect()
        results: list[object] = []
        thread = threading.Thread(
            target=lambda: results.append(session.download_file("large", str(server.directory / "copy")))
        )
        thread.start()
        while not session._live.in_flight:
            threading.Event().wait(0.001)
        session.close(when_idle=True)
        thread.join(20)
        assert len(results) == 1
        assert not session.is_open


def test_delete_and_move_whose_answer_was_lost_are_told_from_failures(openssh_server: Server) -> None:
    """The answer to a REMOVE or a RENAME is cut off, after the server carried it out."""
    server = openssh_server
    relay = Relay((server.host, server.port))
    with relay.running() as port, session_of(server, port=port) as session:
        for number in range(12):
            (server.directory / f"gone-{number}").touch()
            (server.directory / f"from-{number}").write_text("x")
            session.exists(".")
            relay.cut_after = 1 + number * 30
            session.delete_file(f"gone-{number}", timeout=60)
            assert not (server.directory / f"gone-{number}").exists()
            session.exists(".")
            relay.cut_after = 1 + number * 30
            session.move_file(f"from-{number}", f"to-{number}", timeout=60)
            assert (server.directory / f"to-{number}").read_text() == "x"


def test_test_connection_shows_the_server_beside_the_open_session(server: Server) -> None:
    with session_of(server) as session:
        info = session.test_connection()
        assert info.host_key == server.host_key
        assert info.server.startswith("SSH-2.0-")
        assert "gcm" in info.cipher or "ctr" in info.cipher
        assert "posix-rename@openssh.com" in info.extensions
        assert not session.is_open
        assert session.connect() == info


def test_settings_reach_a_session_as_they_are(server: Server) -> None:
    settings = settings_of(server)
    assert SFTPSession(settings).settings is settings


# --- words before the greeting ---------------------------------------------------------------------------------------


def hangs_up(connection: socket.socket) -> None:
    """Hang up such that what the client sends meanwhile becomes no reset, which could take words away."""
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(1000):
        pass
    connection.close()


def says(*parts: bytes, then: Callable[[socket.socket], None] = hangs_up) -> Callable[[socket.socket], None]:
    """Say something in place of a greeting, and hang up."""

    def answer(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)
        then(connection)

    return answer


WORDS = {
    b"Exceeded MaxStartups\r\n": "Exceeded MaxStartups",
    b"Not allowed at this time\r\n": "Not allowed at this time",
    b"Too many connections": "Too many connections",
    b"All lines are busy.\n\tTry again later.\n": "All lines are busy. Try again later.",
    b"Exceeded MaxStartups\r\n\xff\xfe\0\x01": "Exceeded MaxStartups",
    "Trop de connexions, réessayez\n".encode(): "Trop de connexions, réessayez",
    b"x" * 300: "x" * 200 + "… (100 more)",
}


@pytest.mark.parametrize("said", WORDS)
def test_what_a_server_says_before_it_hangs_up_is_told_as_it_is(said: bytes) -> None:
    with leaving_nothing(), listening(says(said)) as port:
        error = failure_at_deadline(port, 1)
        assert isinstance(error, ConnectionLost)
        assert error.message.endswith(f"and said: {WORDS[said]}")
        *_, last = diagnose(settings_for(port))
        assert (last.name, last.code, last.found) == ("ssh_version", "connection_lost", error.message)


@pytest.mark.parametrize("said", [b"\x15\x03\x01\x00\x02\x02\x0a", b"\xff" * 100, b"\0\0\r\n\x1b[2J\r\n"])
def test_what_is_no_text_is_not_told(said: bytes) -> None:
    with listening(says(said)) as port:
        error = failure_at_deadline(port, 1)
        assert error.code == "connection_lost"
        assert "is no text: is this an SSH server?" in error.message


def test_a_server_that_speaks_another_protocol_is_called_so() -> None:
    with listening(says(b"220 mail.example ESMTP\r\n")) as port:
        error = failure_at_deadline(port, 1)
        assert "this is a mail or FTP server" in error.message


def test_words_of_a_server_that_then_is_silent_are_told_at_the_connect_limit() -> None:
    with listening(says(b"Please wait\r\n", then=never_answers)) as port:
        error, _ = failure_of(port, time_limits=TimeLimits(connect=0.5))
        assert error.code == "unreachable"
        assert "Please wait" in error.message


def test_lines_before_a_greeting_that_comes_are_passed_over(openssh_server: Server) -> None:
    def greets_first(client: socket.socket) -> None:
        client.sendall(b"\xe9 Authorized use only\r\n" + b"line\n" * 500)
        pipe(client, (openssh_server.host, openssh_server.port))

    with listening(greets_first) as port, session_of(openssh_server, port=port) as session:
        assert session.exists(".")
        assert [step.passed for step in diagnose(session.settings)] == [True] * 8


def test_lines_without_end_are_no_ssh_server() -> None:
    def goes_on(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"a line\n" * 100)

    with listening(goes_on) as port:
        error, seconds = failure_of(port)
        assert isinstance(error, Unsupported)
        assert seconds < LONG


@pytest.mark.parametrize("timeout", [20, None])
def test_a_server_that_is_too_busy_for_a_while_is_asked_again(openssh_server: Server, timeout: float | None) -> None:
    """OpenSSH turns connections away with these words (MaxStartups, PerSourcePenalties)."""
    turned_away: list[socket.socket] = []

    def busy(client: socket.socket) -> None:
        if len(turned_away) < 4:
            turned_away.append(client)
            says(b"Exceeded MaxStartups\r\n")(client)
            return
        pipe(client, (openssh_server.host, openssh_server.port))

    with listening(busy) as port, session_of(openssh_server, port=port) as session:
        assert session.exists(".", timeout=timeout)
    assert len(turned_away) == 4


def test_a_call_without_a_deadline_outlasts_the_shortest_penalty_of_openssh(
    openssh_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSH since 9.8 turns an address away for 15 s at least (PerSourcePenalties). Here all is 20 times faster."""
    faster = 20
    usual = RetryPolicy()
    set_retry_policy(monkeypatch, first_pause=usual.first_pause / faster, longest_pause=usual.longest_pause / faster)
    monkeypatch.setattr(random, "uniform", lambda least, _: least)
    over = time.monotonic() + 15 / faster

    def penalises(client: socket.socket) -> None:
        if time.monotonic() < over:
            says(b"Not allowed at this time\r\n")(client)
            return
        pipe(client, (openssh_server.host, openssh_server.port))

    with listening(penalises) as port, session_of(openssh_server, port=port) as session:
        assert session.exists(".", timeout=None)
    assert time.monotonic() > over


def test_more_logins_at_a_time_than_openssh_takes_all_come_in(tmp_path: Path) -> None:
    with openssh(tmp_path / "sshd", "MaxStartups 2") as server, ThreadPoolExecutor(8) as pool:

        def call(_: int) -> bool:
            with session_of(server) as session:
                return session.exists(".", timeout=40)

        assert all(pool.map(call, range(8)))


# --- algorithms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option, offered, ours",
    [
        ("KexAlgorithms sntrup761x25519-sha512@openssh.com", "sntrup761x25519-sha512@openssh.com", "curve25519-sha256"),
        ("Ciphers 3des-cbc", "3des-cbc", "aes128-gcm@openssh.com"),
    ],
)
def test_what_both_sides_have_is_told_where_nothing_is_in_common(
    tmp_path: Path, option: str, offered: str, ours: str
) -> None:
    with openssh(tmp_path / "sshd", option) as server, session_of(server, time_limits=SHORT) as session:
        with pytest.raises(Unsupported) as failure:
            session.exists("x")
        *_, last = diagnose(session.settings)
    for told in (failure.value.message, last.found):
        assert f": {offered}. This client has " in told
        assert ours in told
        assert ("old" in told) == (offered == "3des-cbc")
    assert (last.name, last.code) == ("algorithms", "unsupported")
    assert "safe" not in last.advice


def test_a_host_key_with_sha1_only_is_called_old(tmp_path: Path) -> None:
    rsa = tmp_path / "rsa"
    paramiko.RSAKey.generate(2048).write_private_key_file(str(rsa))
    options = [f"HostKey {rsa}", "HostKeyAlgorithms ssh-rsa"]
    with (
        openssh(tmp_path / "sshd", *options) as server,
        session_of(server, time_limits=SHORT) as session,
        pytest.raises(Unsupported, match=r"no type of host key in common.*old ones.*: ssh-rsa"),
    ):
        session.exists("x")


@pytest.mark.parametrize("signature", ["rsa-sha2-256", "rsa-sha2-512"])
def test_an_rsa_host_key_is_taken_with_sha2(tmp_path: Path, signature: str) -> None:
    rsa = tmp_path / "rsa"
    paramiko.RSAKey.generate(2048).write_private_key_file(str(rsa))
    options = [f"HostKey {rsa}", f"HostKeyAlgorithms {signature}"]
    with openssh(tmp_path / "sshd", *options) as server, session_of(server) as session:
        assert session.exists(".")
        found = {step.name: step.found for step in diagnose(session.settings)}
    assert f", {signature}, " in found["algorithms"]
