"""The session in use: lent to calls, replaced under them, and what is known about its connection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.clients import SHORT, settings_of
from tests.faulty_servers import PASSWORD as FAULTY_PASSWORD
from tests.faulty_servers import FaultyServer
from tests.servers import Server, free_port, listening, never_answers

from iot.sftp.client import (
    AuthenticationFailed,
    ConnectionLost,
    NotConfigured,
    NotFound,
    Secret,
    ServerSettings,
    SFTPSession,
    Unreachable,
    Unsupported,
)
from iot.sftp.module._work.current_session import ConnectionState, CurrentSession


class Watcher:
    """Keeps the states that are told, and waits for one."""

    def __init__(self) -> None:
        self.states: list[ConnectionState] = []
        self._changed = threading.Condition()

    def __call__(self, state: ConnectionState) -> None:
        with self._changed:
            self.states.append(state)
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[ConnectionState], bool]) -> ConnectionState:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.states[-1]), 10), self.states
            return self.states[-1]

    def wait_for_state(self, state: str) -> ConnectionState:
        return self.wait_for(lambda found: found.state == state)


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def current(watcher: Watcher) -> Iterator[CurrentSession]:
    current = CurrentSession(watcher)
    yield current
    current.close()


def session_of(server: Server, **options: object) -> SFTPSession:
    return SFTPSession(settings_of(server, time_limits=SHORT, **options))


def test_a_call_while_the_module_stops_is_refused_for_that_reason(
    current: CurrentSession, openssh_server: Server, watcher: Watcher
) -> None:
    current.replace(session_of(openssh_server))
    watcher.wait_for_state("connected")
    current.close()
    with pytest.raises(ConnectionLost, match="when it has restarted"), current.use():
        pass


def test_without_a_session_the_error_says_which_setting_is_missing(current: CurrentSession) -> None:
    assert current.state.state == "not_configured"
    assert current.is_connected(1) is False
    current.disconnect()
    current.replace(None, "host is missing")
    with pytest.raises(NotConfigured, match="host is missing"), current.use():
        pass


def test_a_new_session_is_opened_at_once(current: CurrentSession, watcher: Watcher, openssh_server: Server) -> None:
    current.replace(session_of(openssh_server))
    state = watcher.wait_for_state("connected")
    assert [found.state for found in watcher.states] == ["not_configured", "connecting", "connected"]
    assert state.host_key == openssh_server.host_key
    assert state.server is not None
    assert state.server.startswith("SSH-2.0-OpenSSH")
    assert state.since.endswith("Z")
    assert set(state.as_properties()) == {"state", "since", "server", "host_key"}
    assert current.is_connected(5) is True


def test_a_question_right_after_a_configuration_waits_for_the_session(
    current: CurrentSession, openssh_server: Server
) -> None:
    current.replace(session_of(openssh_server))
    assert current.is_connected(5) is True


def test_a_wrong_password_shows_before_the_first_call(
    current: CurrentSession, watcher: Watcher, proftpd_server: Server
) -> None:
    current.replace(session_of(proftpd_server, password=Secret("wrong")))
    state = watcher.wait_for_state("failed")
    assert state.code == "authentication_failed"
    with pytest.raises(AuthenticationFailed), current.use() as session:
        session.exists("x")


def test_a_port_where_nobody_listens_shows_before_the_first_call(
    current: CurrentSession, watcher: Watcher, openssh_server: Server
) -> None:
    current.replace(session_of(openssh_server, port=free_port()))
    assert watcher.wait_for_state("failed").code == "unreachable"
    with pytest.raises(Unreachable), current.use() as session:
        session.exists("x")


def test_the_state_follows_what_calls_find(current: CurrentSession, watcher: Watcher, openssh_server: Server) -> None:
    current.replace(session_of(openssh_server))
    connected = watcher.wait_for_state("connected")
    current.disconnect()
    disconnected = watcher.wait_for_state("disconnected")
    assert disconnected.code is None
    assert current.is_connected(1) is False
    with pytest.raises(NotFound), current.use() as session:
        session.delete_file("there is no such file")
    with current.use() as session:
        assert session.exists(".")
    assert watcher.wait_for_state("connected").host_key == connected.host_key


def test_a_server_that_went_away_is_found_by_the_question(
    current: CurrentSession, watcher: Watcher, openssh_server: Server
) -> None:
    current.replace(session_of(openssh_server))
    watcher.wait_for_state("connected")
    with current.use() as session:
        session.disconnect()  # without the current session's knowledge, as a server does it
    assert current.is_connected(2) is False
    state = watcher.wait_for_state("disconnected")
    assert state.code == "connection_lost"


def test_a_server_that_comes_back_without_sftp_is_no_connection(current: CurrentSession, watcher: Watcher) -> None:
    server = FaultyServer()
    with server.running() as port:
        settings = ServerSettings("127.0.0.1", port, "device", Secret(FAULTY_PASSWORD), time_limits=SHORT)
        current.replace(SFTPSession(settings))
        watcher.wait_for_state("connected")
        server.speak(6)
        server.hang_up()
        with pytest.raises(Unsupported), current.use() as session:
            session.exists(".", timeout=5)
        assert watcher.wait_for_state("failed").code == "unsupported"
        assert current.failures.counts()[("unsupported",)] == 1


def test_what_a_server_cannot_do_says_nothing_about_the_connection(
    current: CurrentSession, watcher: Watcher, openssh_server: Server
) -> None:
    current.replace(session_of(openssh_server))
    watcher.wait_for_state("connected")

    def call() -> None:
        with current.use() as session:
            session.exists(".")
            raise Unsupported("it has no such thing")

    with pytest.raises(Unsupported):
        call()
    assert current.state.state == "connected"


def test_calls_that_disconnect_ends_do_not_turn_the_state_into_a_failure(
    current: CurrentSession, watcher: Watcher, openssh_server: Server
) -> None:
    current.replace(session_of(openssh_server))
    watcher.wait_for_state("connected")

    def call() -> None:
        with current.use():
            current.disconnect()
            raise ConnectionLost("ended by disconnect")

    with pytest.raises(ConnectionLost):
        call()
    assert current.state.state == "disconnected"


def test_a_session_that_was_replaced_lives_until_its_last_call_ends(
    current: CurrentSession, watcher: Watcher, openssh_server: Server
) -> None:
    old, new = session_of(openssh_server), session_of(openssh_server)
    current.replace(old)
    watcher.wait_for_state("connected")
    with current.use() as session:
        assert session is old
        current.replace(new)
        watcher.wait_for_state("connected")
        with current.use() as another:
            assert another is new
        assert old.is_connected(timeout=5)
        assert old.exists(".")
    assert not old.is_connected(timeout=5)
    assert new.is_connected(timeout=5)


def test_an_idle_session_that_was_replaced_ends_at_once(
    current: CurrentSession, watcher: Watcher, openssh_server: Server
) -> None:
    closed = threading.Event()

    class Told(SFTPSession):
        def close(self, *, when_idle: bool = False) -> None:
            super().close(when_idle=when_idle)
            closed.set()

    old = Told(settings_of(openssh_server))
    current.replace(old)
    watcher.wait_for_state("connected")
    assert old.is_connected(timeout=5)
    current.replace(None, "gone")
    assert closed.wait(60)
    assert not old.is_connected(timeout=5)


def test_without_a_free_thread_a_session_is_replaced_and_opened_by_its_first_call(
    current: CurrentSession, watcher: Watcher, openssh_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (SFTPSession(settings_of(openssh_server)) for _ in range(2))
    current.replace(old)
    watcher.wait_for_state("connected")
    begin = threading.Thread.start

    def begin_unless_ours(thread: threading.Thread) -> None:
        if thread.name in {"close", "open"}:
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", begin_unless_ours)
    current.replace(new)
    assert not old.is_open
    assert not current.is_connected(60)
    with current.use() as session:
        assert session.exists(".")
    assert current.is_connected(60)


def test_what_an_old_session_finds_does_not_count(
    current: CurrentSession, watcher: Watcher, openssh_server: Server, tmp_path: Path
) -> None:
    with listening(never_answers) as port:
        current.replace(session_of(openssh_server, port=port, known_hosts=tmp_path / "known_hosts"))
        current.replace(session_of(openssh_server))
        watcher.wait_for_state("connected")

        def call() -> None:
            with current.use():
                current.replace(None, "nothing any more")
                raise Unreachable("the old one")

        with pytest.raises(Unreachable):
            call()
        assert current.state.state == "not_configured"
