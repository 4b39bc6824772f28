"""Callers that read their answers themselves: whoever waits alone does, and what is not for callers is left alone."""

from __future__ import annotations

import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import paramiko
import pytest
from tests.clients import HUNG, connection_of, session_of
from tests.folders import write_as_long_ago
from tests.servers import Relay, Server, openssh, shut_down

from iot.sftp.client import SFTPSession
from iot.sftp.client._ssh import algorithms
from iot.sftp.client._ssh import connection as connections
from iot.sftp.client._ssh.channel import SFTPChannel
from iot.sftp.client._ssh.packets import Kind, string
from iot.sftp.client._ssh.paramiko_internals import reading
from iot.sftp.client._ssh.paramiko_internals.reading import ReadingPacketizer

A_WHILE = 300  # calls: some in which paramiko's thread looks whether it is needed


class InPieces(Relay):
    """Sends a few bytes at a time to the client."""

    def _pump(self, source: socket.socket, sink: socket.socket, *, count: bool) -> None:
        if not count:
            super()._pump(source, sink, count=count)
            return
        sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while data := source.recv(65536):
                for start in range(0, len(data), size := max(11, len(data) // 20)):
                    sink.sendall(data[start : start + size])
        finally:
            shut_down(source, sink)


def packetizer_of(session: SFTPSession) -> ReadingPacketizer:
    packetizer = connection_of(session).transport.packetizer
    assert isinstance(packetizer, ReadingPacketizer)
    return packetizer


def have_callers_read(session: SFTPSession) -> None:
    """Make calls until paramiko's thread rests."""
    end = time.monotonic() + HUNG
    while packetizer_of(session)._reading.locked():
        assert session.exists(".", timeout=HUNG)
        assert time.monotonic() < end


def call_all(session: SFTPSession, server: Server, tmp_path: Path, *, times: int = 10) -> None:
    """Make calls of all kinds, and see that they do what they should."""
    content = bytes(range(256)) * 40
    write_as_long_ago(tmp_path / "source", content)
    for number in range(times):
        session.upload_file(str(tmp_path / "source"), f"copy-{number}", timeout=HUNG)
        session.download_file(f"copy-{number}", str(tmp_path / "back"), timeout=HUNG)
        assert (tmp_path / "back").read_bytes() == (server.directory / f"copy-{number}").read_bytes() == content
        assert session.exists(f"copy-{number}", timeout=HUNG)
        assert not session.exists("missing", timeout=HUNG)


def test_a_caller_that_is_alone_reads_what_it_waits_for(
    openssh_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handover from another thread takes longer than the answer does."""
    readers = []
    receive = SFTPChannel._receive

    def note_and_receive(channel: SFTPChannel, data: bytes | memoryview) -> None:
        readers.append(threading.current_thread())
        receive(channel, data)

    monkeypatch.setattr(SFTPChannel, "_receive", note_and_receive)
    monkeypatch.setattr(reading, "REST", HUNG)  # a busy machine may keep us from calling again for long
    monkeypatch.setattr(reading, "CROWD", 0.0)
    with session_of(openssh_server) as session:
        session.exists(".", timeout=HUNG)
        readers.clear()
        for _ in range(A_WHILE):
            assert session.exists(".", timeout=HUNG)
    assert readers.count(threading.current_thread()) > A_WHILE * 0.9


@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr"])
@pytest.mark.parametrize("soon", [0.1, 0.001])
def test_answers_in_pieces_are_read_by_one_thread_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cipher: str, soon: float
) -> None:
    """A caller whose time to read ends in the middle of a packet leaves the rest to the next one."""
    monkeypatch.setattr(connections, "GLANCE", soon)
    monkeypatch.setattr(algorithms, "CIPHERS", (cipher,))
    with openssh(tmp_path / "sshd", "MACs hmac-sha2-256,hmac-sha2-256-etm@openssh.com") as server:
        relay = InPieces((server.host, server.port))
        with relay.running() as port, session_of(server, port=port) as session:
            call_all(session, server, tmp_path)
            assert relay.connections == 1


def test_callers_at_the_same_time_get_their_own_answers(openssh_server: Server, tmp_path: Path) -> None:
    with session_of(openssh_server) as session, ThreadPoolExecutor(5) as threads:
        session.connect()
        places = [tmp_path / str(number) for number in range(4)]
        for place in places:
            place.mkdir()
        (openssh_server.directory / "large").write_bytes(bytes(20_000_000))
        large = threads.submit(session.download_file, "large", str(tmp_path / "large"), timeout=HUNG)
        for _ in threads.map(lambda place: call_repeatedly(session, openssh_server, place), places):
            pass
        assert large.result().bytes == 20_000_000
        assert session.is_open


def call_repeatedly(session: SFTPSession, server: Server, place: Path) -> None:
    name = f"from-{place.name}"
    content = name.encode() * 1000
    write_as_long_ago(place / "source", content)
    for _ in range(20):
        session.upload_file(str(place / "source"), name, timeout=HUNG)
        session.download_file(name, str(place / "back"), timeout=HUNG)
        assert (place / "back").read_bytes() == (server.directory / name).read_bytes() == content


@pytest.mark.parametrize("who", ["we", "the server"])
def test_new_keys_amid_short_calls_disturb_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    options = ["RekeyLimit 32K"] if who == "the server" else []
    if who == "we":
        monkeypatch.setattr(ReadingPacketizer, "REKEY_PACKETS", 20)
    agreed = []
    agree = paramiko.Transport._parse_newkeys  # type: ignore[attr-defined] # paramiko's own

    def note_and_agree(transport: paramiko.Transport, message: paramiko.Message) -> None:
        agreed.append(threading.current_thread())
        agree(transport, message)

    monkeypatch.setattr(paramiko.Transport, "_parse_newkeys", note_and_agree)
    with openssh(tmp_path / "sshd", *options) as server, session_of(server) as session:
        session.connect()
        call_all(session, server, tmp_path, times=20)
        assert session.is_open
        assert packetizer_of(session)._left is None
        assert len(agreed) > 4
        assert set(agreed) == {connection_of(session).transport}


def test_what_a_server_asks_while_paramikos_thread_rests_is_answered(tmp_path: Path) -> None:
    """Three keep-alive requests without an answer, and sshd ends the connection."""
    options = ["ClientAliveInterval 1", "ClientAliveCountMax 1"]
    with openssh(tmp_path / "sshd", *options) as server, session_of(server) as session:
        session.connect()
        end = time.monotonic() + 4
        while time.monotonic() < end:
            assert session.exists(".", timeout=HUNG)
            time.sleep(0.4)
        assert session.is_open
        assert connection_of(session).info is session.connect()


class _Signal(BaseException):
    """What a handler of a signal raises."""


def test_a_signal_that_ends_a_wait_leaves_the_connection_as_it_is(
    openssh_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer that comes too late is read by the next caller, and is nobody's."""
    monkeypatch.setattr(reading, "REST", HUNG)
    monkeypatch.setattr(reading, "CROWD", 0.0)

    class Interrupted:
        """A wait that a signal ends."""

        def register(self, *_: object) -> None:
            pass

        def poll(self, _: float) -> list[tuple[int, int]]:
            raise _Signal

    with session_of(openssh_server) as session:
        session.exists(".", timeout=HUNG)
        connection = connection_of(session)
        for _ in range(3):
            have_callers_read(session)
            with monkeypatch.context() as patch:
                patch.setattr(reading, "select", SimpleNamespace(poll=Interrupted, POLLIN=select.POLLIN))
                with pytest.raises(_Signal):
                    session.exists(".", timeout=HUNG)
            assert not session.exists("missing", timeout=HUNG)
            assert session.exists(".", timeout=HUNG)
        assert connection_of(session) is connection
        assert connection.alive


def test_a_signal_amid_what_was_received_ends_the_connection_and_nothing_else(
    openssh_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much of it was taken is not known: what comes next might be taken for something else."""
    monkeypatch.setattr(reading, "REST", HUNG)
    with session_of(openssh_server) as session:
        session.exists(".", timeout=HUNG)
        have_callers_read(session)
        connection, packetizer = connection_of(session), packetizer_of(session)
        hand_on, main = packetizer._hand_on, threading.current_thread()

        def hand_on_or_end(payload: memoryview) -> bool:
            if threading.current_thread() is main:
                raise _Signal
            return hand_on(payload)

        monkeypatch.setattr(packetizer, "_hand_on", hand_on_or_end)
        with pytest.raises(_Signal):
            session.exists(".", timeout=HUNG)
        assert session.exists(".", timeout=HUNG)
        assert connection_of(session) is not connection


def test_a_signal_amid_the_turn_to_read_does_not_let_the_next_call_wait_for_ever(
    openssh_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PATIENCE", 0.2)
    with session_of(openssh_server) as session:
        session.exists(".", timeout=HUNG)
        connection, packetizer = connection_of(session), packetizer_of(session)
        end = time.monotonic() + HUNG
        while not packetizer._reading.acquire(blocking=False):  # as a call that a signal ends just here
            packetizer._is_to_rest = True
            assert session.exists(".", timeout=HUNG)
            assert time.monotonic() < end
        assert session.exists(".", timeout=HUNG)
        assert connection_of(session) is not connection


def test_a_connection_that_breaks_while_a_caller_reads_is_replaced(openssh_server: Server) -> None:
    relay = Relay((openssh_server.host, openssh_server.port))
    with relay.running() as port, session_of(openssh_server, port=port) as session:
        for _ in range(3):
            assert session.exists(".", timeout=HUNG)
            relay.cut_after = 1
        assert session.exists(".", timeout=HUNG)
        assert relay.connections > 1


def test_a_request_that_nobody_waits_for_is_answered_while_callers_rest(openssh_server: Server) -> None:
    with session_of(openssh_server) as session:
        for _ in range(3):
            session.exists(".", timeout=HUNG)
        quick = connection_of(session).quick
        asked = quick.request(Kind.REALPATH, string(b"."))
        assert asked.result(HUNG).kind == Kind.NAME
        assert session.exists(".", timeout=HUNG)
