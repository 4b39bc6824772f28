"""New keys that become due in the middle of something: nobody waits for them who must not, and no byte is lost."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import paramiko
import pytest
from paramiko.common import (
    MSG_KEXINIT,
    MSG_NEWKEYS,
    cMSG_CHANNEL_CLOSE,
    cMSG_CHANNEL_DATA,
    cMSG_CHANNEL_REQUEST,
    cMSG_CHANNEL_SUCCESS,
    cMSG_CHANNEL_WINDOW_ADJUST,
    cMSG_GLOBAL_REQUEST,
)
from tests.clients import HUNG, connection_of
from tests.faulty_servers import PASSWORD, FaultyServer
from tests.servers import Relay, shut_down

from iot.sftp.client import ConnectionLost, DeadlineExceeded, Secret, ServerSettings, SFTPSession, TimeLimits
from iot.sftp.client._base.deadline import Deadline
from iot.sftp.client._ssh.packets import Kind, string
from iot.sftp.client._ssh.paramiko_internals.direct import DirectPacketizer
from iot.sftp.client._ssh.paramiko_internals.sending import MOST_HELD_BACK
from iot.sftp.client._ssh.requests import Reply

HIGHEST_KEX_MESSAGE = 49  # RFC 4250, section 4.1.2


class HoldsUp(Relay):
    """Takes nothing from the client while `flows` is not set."""

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(target)
        self.flows = threading.Event()
        self.flows.set()

    def _pump(self, source: socket.socket, sink: socket.socket, *, count: bool) -> None:
        if count:
            super()._pump(source, sink, count=count)
            return
        try:
            while self.flows.wait(HUNG) and (data := source.recv(65536)):
                sink.sendall(data)
        finally:
            shut_down(source, sink)


@contextmanager
def session_with(port: int) -> Iterator[SFTPSession]:
    limits = TimeLimits(connect=60, stall=20)
    settings = ServerSettings("127.0.0.1", port, "device", Secret(PASSWORD), time_limits=limits)
    session = SFTPSession(settings)
    try:
        session.connect()
        yield session
    finally:
        session.disconnect()


def packetizer_of(session: SFTPSession) -> Any:
    packetizer = connection_of(session).transport.packetizer
    assert isinstance(packetizer, DirectPacketizer)
    return packetizer


def new_keys(session: SFTPSession) -> None:
    """Wait until the keys that are due are there."""
    end = time.monotonic() + HUNG
    while packetizer_of(session).need_rekey():
        assert time.monotonic() < end
        time.sleep(0.01)


def half_sent_requests(session: SFTPSession) -> list[Future[Reply]]:
    """Make requests, each in this thread, until the socket takes a part of one only."""
    connection = connection_of(session)
    writer: Any = connection.quick._writer
    asked = []
    while True:
        while not writer._has_rest and not writer._is_sending:
            asked.append(connection.quick.request(Kind.STAT, string(b"x" * 20_000)))
        time.sleep(0.2)  # the kernels of both sides may still find room for it
        if writer._is_sending:
            assert not connection.transport.clear_to_send_lock.locked(), "it is not the rest of a packet that is sent"
            return asked


class TakesMuch(FaultyServer):
    """Its channels have a window that no test fills."""

    def accepted(self, transport: paramiko.Transport) -> None:
        transport.default_window_size = 1 << 30
        super().accepted(transport)


def test_reading_goes_on_while_new_keys_are_due_and_a_packet_is_sent_in_part() -> None:
    """A server may read nothing before we have read what it sends: to wait for it would be a deadlock."""
    server = TakesMuch()
    with server.running() as there:
        relay = HoldsUp(("127.0.0.1", there))
        with relay.running() as port, session_with(port) as session:
            relay.flows.clear()
            asked = half_sent_requests(session)
            packetizer = packetizer_of(session)
            packetizer._trigger_rekey()
            end, already = time.monotonic() + HUNG, packetizer._Packetizer__received_packets
            for _ in range(20):
                server.transports[0].send_ignore(30_000)
            while packetizer._Packetizer__received_packets < already + 20:
                assert time.monotonic() < end
                time.sleep(0.01)
            relay.flows.set()
            new_keys(session)
            assert {answer.result(HUNG).kind for answer in asked} == {Kind.STATUS}
            assert not session.exists("x", timeout=HUNG)
            assert relay.connections == 1


def test_a_call_that_ends_while_a_packet_is_sent_in_part_disturbs_no_other() -> None:
    """Its request is sent to the end, and its answer ignored."""
    server = TakesMuch()
    with server.running() as there:
        relay = HoldsUp(("127.0.0.1", there))
        with relay.running() as port, session_with(port) as session:
            other = connection_of(session).channels.open_channel(Deadline(HUNG))
            relay.flows.clear()
            asked = half_sent_requests(session)
            with pytest.raises(DeadlineExceeded):
                session.exists("x", timeout=1)
            after = other.request(Kind.STAT, string(b"y"))
            relay.flows.set()
            assert after.result(HUNG).kind == Kind.STATUS
            assert {answer.result(HUNG).kind for answer in asked} == {Kind.STATUS}
            assert not session.exists("x", timeout=HUNG)
            assert relay.connections == 1


def test_the_end_of_a_channel_whose_packet_is_sent_in_part_disturbs_no_other() -> None:
    server = TakesMuch()
    with server.running() as there:
        relay = HoldsUp(("127.0.0.1", there))
        with relay.running() as port, session_with(port) as session:
            other = connection_of(session).channels.open_channel(Deadline(HUNG))
            relay.flows.clear()
            asked = half_sent_requests(session)
            connection_of(session).quick.fail(ConnectionLost("ended"))
            after = other.request(Kind.STAT, string(b"y"))
            relay.flows.set()
            assert after.result(HUNG).kind == Kind.STATUS
            assert {type(answer.exception(HUNG)) for answer in asked[-1:]} == {ConnectionLost}
            assert relay.connections == 1


def test_a_server_that_asks_on_and_on_and_reads_no_answer_is_hung_up_on() -> None:
    """Its answers would fill the memory."""
    server = TakesMuch()
    with server.running() as there:
        relay = HoldsUp(("127.0.0.1", there))
        with relay.running() as port, session_with(port) as session:
            transport = connection_of(session).transport
            relay.flows.clear()
            half_sent_requests(session)
            question = paramiko.Message()
            question.add_byte(cMSG_GLOBAL_REQUEST)
            question.add_bytes(string(b"keepalive@openssh.com") + b"\1")
            for _ in range(MOST_HELD_BACK + 1):
                server.transports[0]._send_message(question)  # type: ignore[attr-defined] # paramiko's own
            transport.join(HUNG)
            assert not transport.is_alive()
            relay.flows.set()


class SaysMoreAmidKeys(FaultyServer):
    """Sends a message of a channel when it is asked for new keys, before it answers that, or between both."""

    def __init__(self, kind: bytes, fields: bytes, *, before: bool) -> None:
        super().__init__()
        self.received: list[int] = []  # the types of messages since it was asked for new keys
        self._message = kind, fields
        self._before = before

    def accepted(self, transport: paramiko.Transport) -> None:
        handlers: Any = transport._handler_table  # type: ignore[attr-defined] # paramiko's own
        negotiate = handlers[MSG_KEXINIT]

        def say_more() -> None:
            if len(self.channels) > 1:
                kind, fields = self._message
                more = paramiko.Message()
                more.add_byte(kind)
                if kind != cMSG_GLOBAL_REQUEST:
                    more.add_int(self.channels[-1].remote_chanid)
                more.add_bytes(fields)
                transport._send_message(more)  # type: ignore[attr-defined] # paramiko's own

        def negotiate_and_say_more(message: paramiko.Message) -> None:
            if self._before:
                say_more()
            negotiate(message)
            if not self._before:
                say_more()

        read = transport.packetizer.read_message

        def read_and_note() -> tuple[int, paramiko.Message]:
            kind, message = read()
            if len(self.channels) > 1:
                self.received.append(kind)
            return kind, message

        transport.packetizer.read_message = read_and_note  # type: ignore[method-assign]
        handlers[MSG_KEXINIT] = negotiate_and_say_more
        super().accepted(transport)


CLOSES = (cMSG_CHANNEL_CLOSE, b"")
ASKS = (cMSG_CHANNEL_REQUEST, string(b"keepalive@openssh.com") + b"\1")
ASKS_ALL = (cMSG_GLOBAL_REQUEST, string(b"keepalive@openssh.com") + b"\1")
WIDENS = (cMSG_CHANNEL_WINDOW_ADJUST, bytes(4))
SENDS = (cMSG_CHANNEL_DATA, string(b""))
CONFIRMS = (cMSG_CHANNEL_SUCCESS, b"")


def calls_go_on_with_new_keys(server: FaultyServer) -> None:
    with server.running() as port, session_with(port) as session:
        connection_of(session).channels.open_channel(Deadline(HUNG))
        packetizer_of(session)._trigger_rekey()
        started = time.monotonic()
        assert not session.exists("x", timeout=HUNG)
        new_keys(session)
        assert not session.exists("x", timeout=HUNG)
        assert time.monotonic() - started < 20  # paramiko would wait for 30 s, and then end the connection
        assert server.connections == 1


@pytest.mark.parametrize("more", [CLOSES, ASKS, ASKS_ALL])
def test_a_message_that_wants_an_answer_amid_our_request_for_new_keys_gets_it_behind_them(
    more: tuple[bytes, bytes],
) -> None:
    """Go's server, for one, takes nothing else between the messages of a key exchange."""
    server = SaysMoreAmidKeys(*more, before=True)
    calls_go_on_with_new_keys(server)
    kinds = server.received
    amid = kinds[kinds.index(MSG_KEXINIT) : kinds.index(MSG_NEWKEYS)]
    assert [kind for kind in amid if kind > HIGHEST_KEX_MESSAGE] == []


@pytest.mark.parametrize("more", [CLOSES, ASKS, ASKS_ALL, WIDENS, SENDS, CONFIRMS])
def test_what_a_server_says_too_early_amid_new_keys_is_taken(more: tuple[bytes, bytes]) -> None:
    """paramiko's server confirms what was asked of it before; OpenSSH's client takes that."""
    calls_go_on_with_new_keys(SaysMoreAmidKeys(*more, before=False))


def test_new_keys_that_had_to_wait_for_a_sender_are_asked_for_soon_after_it() -> None:
    """Others cannot send meanwhile; a thread that reads waits for 10 s at a time once a connection is idle."""
    server = FaultyServer()
    with server.running() as port, session_with(port) as session:
        transport, packetizer = connection_of(session).transport, packetizer_of(session)
        end = time.monotonic() + HUNG
        while not packetizer._is_patient:
            assert time.monotonic() < end
            time.sleep(0.01)
        with transport.clear_to_send_lock:  # as if this thread were sending
            packetizer._trigger_rekey()
            server.transports[0].send_ignore(10)
            while transport.clear_to_send.is_set():
                assert time.monotonic() < end
                time.sleep(0.001)
        started = time.monotonic()
        new_keys(session)
        assert time.monotonic() - started < 8


class IsStrictTooLate(FaultyServer):
    """Offers a strict key exchange in later ones only, where that is to be ignored (OpenSSH's PROTOCOL)."""

    def accepted(self, transport: paramiko.Transport) -> None:
        ours: Any = transport
        ours.advertise_strict_kex = False
        begin = ours._send_kex_init

        def offer() -> None:
            ours.advertise_strict_kex = ours.initial_kex_done
            begin()
            ours.advertise_strict_kex = False

        ours._send_kex_init = offer
        super().accepted(transport)


def test_a_server_that_is_strict_too_late_is_not_believed() -> None:
    """Sequence numbers would begin with 0 again on one side only."""
    server = IsStrictTooLate()
    with server.running() as port, session_with(port) as session:
        for _ in range(2):
            packetizer_of(session)._trigger_rekey()
            assert not session.exists("x", timeout=HUNG)
            new_keys(session)
        assert not session.exists("x", timeout=HUNG)
        assert not connection_of(session).transport.agreed_on_strict_kex
        assert server.connections == 1
