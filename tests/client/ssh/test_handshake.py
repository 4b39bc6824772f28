"""A session and `check` run the same handshake: its stages, their order, their errors, and what they leave behind."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import paramiko
import pytest
from tests import faulty_servers as faulty
from tests.clients import settings_of
from tests.faulty_servers import PASSWORD, FaultyServer
from tests.servers import Relay, Server, closes_at_once, free_port, listening

from iot.sftp.client import (
    ConnectionLost,
    HostKeyMismatch,
    Secret,
    ServerSettings,
    SFTPError,
    SFTPSession,
    TimeLimits,
    Unreachable,
    diagnose,
)
from iot.sftp.client._base.deadline import Deadline
from iot.sftp.client._ssh.dial import DirectDialer
from iot.sftp.client._ssh.handshake import Handshake, Stage
from iot.sftp.client._ssh.host_keys import HostKeyPolicy
from iot.sftp.client._ssh.login_backoff import LOGIN_BACKOFF
from iot.sftp.client._ssh.paramiko_internals.transport import Transport
from iot.sftp.client._ssh.route import dialer_of

LIMIT = 1.0  # seconds


def settings_for(port: int, password: str = PASSWORD, **options: object) -> ServerSettings:
    limits = TimeLimits(connect=LIMIT, stall=LIMIT)
    values: dict[str, object] = {"password": Secret(password), "time_limits": limits} | options
    return ServerSettings(host="127.0.0.1", port=port, user="device", **values)  # type: ignore[arg-type]


@contextmanager
def handshake_with(settings: ServerSettings, seconds: float = 10, **options: object) -> Iterator[Handshake]:
    options = {"dialer": dialer_of(settings)} | options
    handshake = Handshake(settings, HostKeyPolicy.of(settings), Deadline(seconds), **options)  # type: ignore[arg-type]
    try:
        yield handshake
    finally:
        handshake.close(ConnectionLost("the test has ended"))


def threads() -> list[threading.Thread]:
    return [
        thread for thread in threading.enumerate() if isinstance(thread, Transport) or thread.name.startswith("sftp-")
    ]


def test_the_stages_are_the_steps_of_check_in_their_order(server: Server) -> None:
    settings, direct = settings_of(server), [stage for stage in Stage if stage not in {Stage.PROXY, Stage.JUMP}]
    with handshake_with(settings) as handshake:
        assert list(handshake.stages()) == direct
        assert handshake.info.host_key == server.host_key
    assert [step.name for step in diagnose(settings)] == [*(stage.value for stage in direct), "speed"]


FAILURES: dict[type[FaultyServer], Stage] = {
    faulty.FrozenBeforeTheBanner: Stage.GREETING,
    faulty.FrozenInTheKeyExchange: Stage.KEY_EXCHANGE,
    faulty.HangsUpInTheKeyExchange: Stage.KEY_EXCHANGE,
    faulty.FrozenInTheLogin: Stage.LOGIN,
    faulty.DropsInTheLogin: Stage.LOGIN,
    faulty.RefusesAndHangsUp: Stage.LOGIN,
    faulty.FrozenAfterInit: Stage.SFTP,
}


@pytest.mark.parametrize("kind", FAILURES, ids=lambda kind: kind.__name__)
def test_check_reports_a_failure_in_the_words_of_a_session(kind: type[FaultyServer]) -> None:
    with kind().running() as port:
        settings = settings_for(port)
        same_failure(settings, FAILURES[kind])


def test_check_reports_what_is_no_ssh_server_in_the_words_of_a_session() -> None:
    with listening(closes_at_once) as port:
        same_failure(settings_for(port), Stage.GREETING)


def test_check_reports_a_closed_port_in_the_words_of_a_session() -> None:
    same_failure(settings_for(free_port()), Stage.DIAL)


def test_check_reports_a_wrong_key_in_the_words_of_a_session(server: Server) -> None:
    error = same_failure(settings_of(server, host_keys=("SHA256:" + "A" * 43,)), Stage.HOST_KEY)
    assert isinstance(error, HostKeyMismatch)


def same_failure(settings: ServerSettings, stage: Stage) -> SFTPError:
    """Check that a session and a diagnosis fail with the same words and code, and leave nothing behind."""
    before = len(threads())
    session = SFTPSession(settings)
    with pytest.raises(SFTPError) as failure:
        session.connect()
    session.disconnect()
    LOGIN_BACKOFF.forget_all()
    *_, last = diagnose(settings)
    assert (last.name, last.code, last.found) == (stage.value, failure.value.code, failure.value.message)
    for thread in threads()[before:]:
        thread.join(60)
    assert len(threads()) == before
    return failure.value


def test_all_stages_share_one_deadline() -> None:
    """A server that takes its time in two stages gets no more of it than one that does so in one."""

    class Slow(faulty.FrozenInTheLogin):
        def accepted(self, transport: paramiko.Transport) -> None:
            time.sleep(LIMIT / 4)
            super().accepted(transport)

    with Slow().running() as port, handshake_with(settings_for(port), LIMIT) as handshake:
        started = time.monotonic()
        with pytest.raises(Unreachable, match="did not let us in"):
            handshake.run()
        assert time.monotonic() - started < LIMIT + 10
        assert handshake.stage is Stage.LOGIN


def test_a_handshake_can_be_ended_between_two_stages(openssh_server: Server) -> None:
    before = len(threads())
    with handshake_with(settings_of(openssh_server)) as handshake:
        stages = handshake.stages()
        while next(stages) is not Stage.HOST_KEY:
            continue
        handshake.close(ConnectionLost("disconnect was called"))
        with pytest.raises(ConnectionLost, match="disconnect was called"):
            next(stages)
    assert len(threads()) == before


def test_a_handshake_that_is_closed_while_it_dials_opens_nothing(openssh_server: Server) -> None:
    class ClosesMeanwhile(DirectDialer):
        def connect(self, deadline: Deadline) -> socket.socket:
            connection = super().connect(deadline)
            handshake.close(ConnectionLost("disconnect was called"))
            return connection

    dialer = ClosesMeanwhile(openssh_server.host, openssh_server.port, LIMIT)
    with handshake_with(settings_of(openssh_server), dialer=dialer) as handshake:
        with pytest.raises(ConnectionLost, match="disconnect was called"):
            handshake.run()
        assert handshake.stage is Stage.DIAL


def test_another_dialer_is_another_way_to_the_same_server(openssh_server: Server) -> None:
    """The host key is that of the server, by its own name, whatever the way to it is."""
    relay = Relay((openssh_server.host, openssh_server.port))
    settings = settings_of(openssh_server, host_keys=(openssh_server.host_key,), port=22)
    with relay.running() as port:
        dialer = DirectDialer("127.0.0.1", port, LIMIT)
        with handshake_with(settings, dialer=dialer) as handshake:
            handshake.run()
            assert handshake.dialer.peer == f"127.0.0.1 port {port}"
            assert handshake.info.host_key == openssh_server.host_key
    assert relay.connections == 1


def test_credentials_that_have_to_wait_are_not_even_dialled_with(openssh_server: Server) -> None:
    relay = Relay((openssh_server.host, openssh_server.port))
    with relay.running() as port:
        settings = settings_of(openssh_server, port=port, private_key=None, password=Secret("wrong"))
        session = SFTPSession(settings)
        for _ in range(2):
            with pytest.raises(SFTPError) as failure:
                session.connect()
            assert failure.value.code == "authentication_failed"
        assert relay.connections == 1
        *_, last = diagnose(settings)
        assert (last.name, last.code) == ("authentication", "authentication_failed")
