"""Accounts are locked after a handful of wrong passwords: what was refused once waits before it is sent again."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paramiko
import pytest
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL
from tests.clients import client_of, session_of
from tests.faulty_servers import PASSWORD, AsksByKeyboard, DropsInTheLogin, FaultyServer
from tests.servers import Server

from iot.sftp.client import (
    AuthenticationFailed,
    ConnectionLost,
    IoTSFTPClient,
    Secret,
    ServerSettings,
    SFTPSession,
)
from iot.sftp.client._ssh import login_backoff

WRONG = "a wrong password"
AT_ONCE = 20  # seconds; on a busy machine


class CountsLogins(FaultyServer):
    """Writes down every password that it is asked about; `password` is the right one."""

    def __init__(self) -> None:
        super().__init__()
        self.logins: list[tuple[str, str]] = []
        self.password = PASSWORD

    def check_auth_password(self, username: str, password: str) -> int:
        self.logins.append((username, password))
        return AUTH_SUCCESSFUL if password == self.password else AUTH_FAILED


class CountsLoginsByKeyboard(AsksByKeyboard):
    def __init__(self) -> None:
        super().__init__("Password: ")
        self.logins: list[list[str]] = []

    def check_auth_interactive_response(self, responses: list[str]) -> int:
        self.logins.append(responses)
        return super().check_auth_interactive_response(responses)


class RefusesUntilReady(CountsLogins):
    ready = False

    def check_auth_password(self, username: str, password: str) -> int:
        super().check_auth_password(username, password)
        return AUTH_SUCCESSFUL if self.ready else AUTH_FAILED


class DropsWhenTold(CountsLogins):
    drops = False

    def check_auth_password(self, username: str, password: str) -> int:
        if self.drops:
            raise EOFError
        return super().check_auth_password(username, password)


def settings_for(port: int, password: str | Secret = WRONG, **options: Any) -> ServerSettings:
    secret = Secret(password) if isinstance(password, str) else password
    values: dict[str, Any] = {"host": "127.0.0.1", "port": port, "user": "device", "password": secret}
    return ServerSettings(**(values | options))


@contextmanager
def session_with(port: int, password: str | Secret = WRONG, **options: Any) -> Iterator[SFTPSession]:
    session = SFTPSession(settings_for(port, password, **options))
    try:
        yield session
    finally:
        session.disconnect()


def refused(call: Callable[[], object]) -> str:
    """Call; return what the refusal says, if it is one and came at once."""
    started = time.monotonic()
    with pytest.raises(AuthenticationFailed) as failure:
        call()
    assert time.monotonic() - started < AT_ONCE
    return failure.value.message


class Clock:
    """The clock of the backoff, which only a test puts forward: no pause ends while a busy machine takes its time."""

    def __init__(self) -> None:
        self.began, self.ahead = time.monotonic(), 0.0

    def __call__(self) -> float:
        return self.began + self.ahead


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(login_backoff.LOGIN_BACKOFF, "clock", clock)
    return clock


def calls_of(session: SFTPSession, here: Path) -> list[Callable[[], object]]:
    (here / "source").touch()
    return [
        lambda: session.exists("x"),
        lambda: session.list_files("."),
        lambda: session.delete_file("x"),
        lambda: session.move_file("x", "y"),
        lambda: session.download_file("x", str(here / "dest")),
        lambda: session.upload_file(str(here / "source"), "x"),
        session.connect,
        session.test_connection,
    ]


def test_twenty_calls_with_a_wrong_password_make_at_most_two_logins(tmp_path: Path) -> None:
    server = CountsLogins()
    with server.running() as port, session_with(port) as session:
        calls = calls_of(session, tmp_path)
        messages = [refused(calls[number % len(calls)]) for number in range(20)]
    assert 1 <= len(server.logins) <= 2
    assert server.connections <= 2
    for message in messages[2:]:
        assert re.search(r"\b\d+ s\b", message), message
        assert WRONG not in message


def test_twenty_clients_made_anew_make_at_most_two_logins(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "iot.sftp")
    server = CountsLogins()
    with server.running() as port:
        for _ in range(20):
            started = time.monotonic()
            with IoTSFTPClient("127.0.0.1", port, "device", WRONG) as client:
                assert client.last_error is not None
                assert client.last_error.code == "authentication_failed"
                assert not client.exists("x")
            assert time.monotonic() - started < AT_ONCE
    assert 1 <= len(server.logins) <= 2
    assert WRONG not in caplog.text


def test_twenty_callers_at_the_same_time_make_at_most_two_logins() -> None:
    server = CountsLogins()
    with server.running() as port, ThreadPoolExecutor(20) as pool:

        def call(number: int) -> str:
            with session_with(port) as session, pytest.raises(AuthenticationFailed) as failure:
                session.test_connection() if number % 2 else session.exists("x")
            return failure.value.message

        assert len(list(pool.map(call, range(20)))) == 20
    assert 1 <= len(server.logins) <= 2


def test_twenty_tests_of_the_connection_make_at_most_two_logins() -> None:
    server = CountsLogins()
    with server.running() as port, session_with(port) as session:
        for number in range(20):
            refused(lambda number=number: session.test_connection(learn=number % 2 == 0))  # type: ignore[misc]
    assert 1 <= len(server.logins) <= 2


def test_a_password_asked_for_by_keyboard_waits_too() -> None:
    server = CountsLoginsByKeyboard()
    with server.running() as port, session_with(port) as session:
        for _ in range(20):
            refused(lambda: session.exists("x"))
    assert 1 <= len(server.logins) <= 2


def test_a_key_that_real_servers_refuse_waits_too(openssh_server: Server, tmp_path: Path) -> None:
    key = paramiko.ECDSAKey.generate()
    key.write_private_key_file(str(tmp_path / "key"))
    before = "".join(openssh_server.log).count("Connection from")
    with session_of(openssh_server, private_key=Secret.from_file(tmp_path / "key")) as session:
        for _ in range(20):
            with pytest.raises(AuthenticationFailed):
                session.exists("x")
    assert "".join(openssh_server.log).count("Connection from") - before <= 2
    with client_of(openssh_server) as client:
        assert client.exists(".")


def test_a_real_server_is_asked_about_a_wrong_password_twice_at_most(proftpd_server: Server) -> None:
    with client_of(proftpd_server) as client:
        assert client.exists(".")
        with session_of(proftpd_server, password=Secret(WRONG)) as session:
            for _ in range(20):
                with pytest.raises(AuthenticationFailed):
                    session.exists("x")
        client.disconnect()
        assert client.exists("."), "the right password does not wait for the wrong one"


def test_the_pause_grows_from_five_seconds_to_five_minutes(clock: Clock) -> None:
    server = CountsLogins()
    with server.running() as port, session_with(port) as session:
        refused(lambda: session.exists("x"))
        logins = len(server.logins)
        for pause in (5, 10, 20, 40, 80, 160, 300, 300):
            clock.ahead += pause - 2
            assert "again in" in refused(lambda: session.exists("x"))
            assert len(server.logins) == logins
            clock.ahead += 2.001
            refused(lambda: session.exists("x"))
            logins += 1
            assert len(server.logins) == logins


def test_the_message_says_when_the_next_try_is_due(clock: Clock) -> None:
    server = CountsLogins()
    with server.running() as port, session_with(port) as session:
        for _ in range(3):
            refused(lambda: session.exists("x"))
            clock.ahead += 1000
        refused(lambda: session.exists("x"))
        seconds = re.search(r"\b(\d+) s\b", refused(lambda: session.exists("x")))
        assert seconds is not None
        assert 35 <= int(seconds[1]) <= 40


def test_a_success_forgets_the_refusals(clock: Clock) -> None:
    server = RefusesUntilReady()
    with server.running() as port, session_with(port) as session:
        for _ in range(4):
            refused(lambda: session.exists("x"))
            clock.ahead += 1000
        server.ready = True
        assert not session.exists("x")
        session.disconnect()
        server.ready = False
        refused(lambda: session.exists("x"))
        clock.ahead += 5.001
        logins = len(server.logins)
        refused(lambda: session.exists("x"))
        assert len(server.logins) == logins + 1


def test_a_secret_file_that_was_rotated_is_tried_at_once(tmp_path: Path) -> None:
    server, file = CountsLogins(), tmp_path / "password"
    file.write_text(WRONG)
    with server.running() as port, session_with(port, Secret.from_file(file)) as session:
        for _ in range(5):
            refused(lambda: session.exists("x"))
        file.write_text(f"{PASSWORD}\n")
        assert not session.exists("x")
        file.write_text("another wrong one")
        assert not session.exists("x"), "an open session stays open"
        session.disconnect()
        for _ in range(5):
            refused(lambda: session.exists("x"))
    assert [password for _, password in server.logins] == [WRONG, PASSWORD, "another wrong one"]


def test_a_variable_that_was_changed_is_tried_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    server = CountsLogins()
    monkeypatch.setenv("SFTP_TEST_PASSWORD", WRONG)
    with server.running() as port, session_with(port, Secret.from_environment("SFTP_TEST_PASSWORD")) as session:
        refused(lambda: session.exists("x"))
        monkeypatch.setenv("SFTP_TEST_PASSWORD", PASSWORD)
        assert not session.exists("x")


def test_other_credentials_another_user_and_another_server_are_tried_at_once() -> None:
    server, other = CountsLogins(), CountsLogins()
    with server.running() as port, other.running() as other_port:
        with session_with(port) as session:
            refused(lambda: session.exists("x"))
        with session_with(port, user="somebody") as session:
            refused(lambda: session.exists("x"))
        with session_with(other_port) as session:
            refused(lambda: session.exists("x"))
        with session_with(port, host="localhost") as session:
            refused(lambda: session.exists("x"))
        with session_with(port, PASSWORD) as session:
            assert not session.exists("x")
        with session_with(port) as session:
            refused(lambda: session.exists("x"))
    assert server.logins == [("device", WRONG), ("somebody", WRONG), ("device", WRONG), ("device", PASSWORD)]
    assert other.logins == [("device", WRONG)]


def test_a_secret_that_cannot_be_read_is_no_refused_login(tmp_path: Path) -> None:
    server, file = CountsLogins(), tmp_path / "password"
    with server.running() as port, session_with(port, Secret.from_file(file)) as session:
        for _ in range(3):
            assert str(file) in refused(lambda: session.exists("x"))
        file.write_text(PASSWORD)
        assert not session.exists("x")


def test_a_drop_in_the_login_is_no_refusal_until_it_comes_again_and_again(clock: Clock) -> None:
    """Some servers hang up on a wrong password without a word; a link that breaks at that moment looks the same."""
    server = DropsInTheLogin()
    with server.running() as port, session_with(port, PASSWORD) as session:
        for _ in range(2):
            with pytest.raises(ConnectionLost, match="broke during the login"):
                session.connect()
        assert "3 times in a row" in refused(session.connect)
        assert "again in" in refused(session.connect)
        assert server.connections == 3
        clock.ahead += 5.001
        assert "4 times in a row" in refused(session.connect)


def test_a_retried_call_stops_sending_credentials_to_a_server_that_hangs_up() -> None:
    server = DropsInTheLogin()
    with server.running() as port, session_with(port, WRONG) as session:
        with pytest.raises(AuthenticationFailed):
            session.exists("x", timeout=60)
        assert server.connections <= 4


def test_a_password_known_to_be_right_is_tried_more_often_over_a_bad_link() -> None:
    server = DropsWhenTold()
    with server.running() as port, session_with(port, PASSWORD) as session:
        assert not session.exists("x")
        server.drops = True
        session.disconnect()
        for _ in range(5):
            with pytest.raises(ConnectionLost):
                session.connect()
        server.drops = False
        assert not session.exists("x")
        server.drops = True
        session.disconnect()
        with pytest.raises(ConnectionLost):
            session.connect()


def test_what_is_kept_of_refused_credentials_holds_none_of_them() -> None:
    server = CountsLogins()
    with server.running() as port, session_with(port) as session:
        refused(lambda: session.exists("x"))
    assert WRONG not in repr([vars(login_backoff), vars(login_backoff.LOGIN_BACKOFF)])


def test_an_open_session_is_not_touched_by_anothers_refusal() -> None:
    server = CountsLogins()
    with server.running() as port, session_with(port, PASSWORD) as session, session_with(port) as wrong:
        assert not session.exists("x")
        refused(lambda: wrong.exists("x"))
        assert not session.exists("x")
        assert server.connections == 2
