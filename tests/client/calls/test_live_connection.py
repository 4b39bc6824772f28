"""A session that nobody uses: keep-alive messages, a peer that goes meanwhile, and its end after a while."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from tests.clients import connection_of, session_of, settings_of
from tests.servers import Relay, Server, black_hole, listening, never_answers

from iot.sftp.client import ConnectionLost, IoTSFTPClient, SFTPSession, TimeLimits, Unreachable


def wait_until_closed(session: SFTPSession, limit: float) -> float:
    """Wait until the connection of a session has ended by itself; return the seconds it took."""
    connection = connection_of(session)
    started = time.monotonic()
    assert connection._ended.wait(limit)
    return time.monotonic() - started


def test_a_peer_that_freezes_while_nobody_calls_is_noticed(server: Server) -> None:
    relay = Relay((server.host, server.port))
    limits = TimeLimits(connect=5, stall=0.5, keep_alive=0.2)
    with relay.running() as port, session_of(server, port=port, time_limits=limits) as session:
        session.connect()
        relay.frozen.set()
        assert wait_until_closed(session, 5) < 2
        relay.frozen.clear()
        assert session.exists(".", timeout=60)


def test_a_session_that_is_kept_alive_stays_open(server: Server) -> None:
    relay = Relay((server.host, server.port))
    limits = TimeLimits(keep_alive=0.05)
    with relay.running() as port, session_of(server, port=port, time_limits=limits) as session:
        session.connect()
        asked = threading.Event()
        count = []
        request = connection_of(session).quick.request

        def counting(*arguments: object) -> object:
            count.append(arguments)
            if len(count) == 5:
                asked.set()
            return request(*arguments)  # type: ignore[arg-type]

        connection_of(session).quick.request = counting  # type: ignore[assignment,method-assign]
        assert asked.wait(60)
        assert session.is_connected()
        assert relay.connections == 1


def test_a_session_that_nobody_uses_is_closed_and_opened_again(server: Server) -> None:
    limits = TimeLimits(keep_alive=0, idle=0.3)
    with session_of(server, time_limits=limits) as session:
        shown = session.connect()
        connection = connection_of(session)
        assert wait_until_closed(session, 5) < 2
        assert not session.is_connected()
        assert connection.info == shown  # also where it ended before anybody looked
        assert session.exists(".")


def test_a_session_in_use_is_not_idle(server: Server) -> None:
    limits = TimeLimits(keep_alive=0, idle=0.2)
    with session_of(server, time_limits=limits) as session:
        session.connect()
        connection = connection_of(session)
        with connection.in_use():
            assert not connection._ended.wait(1)
        assert connection._ended.wait(60)


def test_disconnect_ends_an_attempt_to_connect(server: Server) -> None:
    is_asked = threading.Event()

    def accepts_and_is_silent(connection: socket.socket) -> None:
        is_asked.set()
        never_answers(connection)

    with listening(accepts_and_is_silent) as port, session_of(server, port=port) as session:
        failures: list[ConnectionLost] = []

        def call() -> None:
            with pytest.raises(ConnectionLost, match="disconnect was called") as failure:
                session.exists("x", timeout=120)
            failures.append(failure.value)

        thread = threading.Thread(target=call)
        thread.start()
        assert is_asked.wait(30)
        started = time.monotonic()
        session.disconnect()
        thread.join(60)
        assert time.monotonic() - started < 25
        assert len(failures) == 1


def test_calls_that_come_late_to_a_slow_failure_do_not_wait_again(server: Server) -> None:
    with black_hole() as port:
        session = SFTPSession(settings_of(server, port=port, time_limits=TimeLimits(connect=1.2)), shares_failures=True)
        started = time.monotonic()
        for _ in range(20):
            with pytest.raises(Unreachable):
                session.exists("x", timeout=60)
        assert time.monotonic() - started < 18  # one after the other, 24 s
        started = time.monotonic()
        session.disconnect()
        with pytest.raises(Unreachable):
            session.exists("x", timeout=60)
        assert time.monotonic() - started > 1  # it was tried


def test_the_next_call_after_a_slow_failure_finds_a_server_that_is_back(server: Server) -> None:
    relay = Relay((server.host, server.port))
    relay.frozen.set()
    with relay.running() as port, session_of(server, port=port, time_limits=TimeLimits(connect=2)) as session:
        with pytest.raises(Unreachable):
            session.exists("x", timeout=60)
        relay.frozen.clear()
        assert not session.exists("x", timeout=60)


def test_a_client_that_is_kept_alive_ends_its_threads(server: Server) -> None:
    before = threading.active_count()
    client = IoTSFTPClient(
        server.host, server.port, server.user, server.password, private_key=server.key_file, keep_alive=0.05
    )
    assert client.is_connected()
    client.disconnect()
    assert threading.active_count() == before
