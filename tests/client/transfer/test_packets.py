"""What one small file costs: SSH packets and bytes, which are counted, and the ways in which they are sent."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.clients import connection_of, session_of
from tests.faulty_servers import FaultyServer, data
from tests.servers import Server
from tests.trees import session_with

from iot.sftp.client import ConnectionLost, SFTPSession, TimeLimits
from iot.sftp.client._base.deadline import Deadline
from iot.sftp.client._ssh.packets import Kind, Reader, string
from iot.sftp.client._ssh.paramiko_internals.direct import DirectPacketizer

SIZE = 10 * 1024
LONG_AGO = (1_700_000_000, 1_700_000_000)  # seconds: a file that is settled


def sent(session: SFTPSession) -> tuple[int, int]:
    """Return the packets and the bytes that were sent so far."""
    packetizer = connection_of(session).transport.packetizer
    assert isinstance(packetizer, DirectPacketizer)
    return packetizer._Packetizer__sent_packets, packetizer._Packetizer__sent_bytes


def cost_of(session: SFTPSession, call: Callable[[], object]) -> tuple[int, int]:
    """Return the packets and the bytes that a call sends, once channels and limits are there."""
    call()
    before = sent(session)
    call()
    after = sent(session)
    return after[0] - before[0], after[1] - before[1]


@pytest.mark.parametrize("size", [0, 1, SIZE, 30_000])
def test_a_small_file_takes_one_packet_for_each_round_trip(openssh_server: Server, tmp_path: Path, size: int) -> None:
    """Each has a header, a padding, a tag, an encryption and a system call of its own."""
    here, there = tmp_path / "small-file", openssh_server.directory / "small-file"
    here.write_bytes(os.urandom(size))
    os.utime(here, LONG_AGO)
    with session_of(openssh_server) as session:
        packets, count = cost_of(session, lambda: session.upload_file(str(here), there.name, timeout=60))
        assert packets == 3
        assert count - size <= 420
        assert there.read_bytes() == here.read_bytes()
        packets, count = cost_of(session, lambda: session.download_file(there.name, str(here), timeout=60))
        assert packets == 3
        assert count <= 260
        assert there.read_bytes() == here.read_bytes()
    there.unlink()


def test_quick_calls_take_one_packet_for_each_round_trip(openssh_server: Server) -> None:
    one, other = (openssh_server.directory / name for name in ("packets-one", "packets-other"))
    with session_of(openssh_server) as session:
        assert cost_of(session, lambda: session.exists(one.name, timeout=60))[0] == 1

        one.write_bytes(b"x")
        before = sent(session)
        session.delete_file(one.name, timeout=60)
        assert sent(session)[0] - before[0] == 2
        one.write_bytes(b"x")
        before = sent(session)
        session.move_file(one.name, other.name, timeout=60)
        assert sent(session)[0] - before[0] == 2
    other.unlink()


def test_what_is_asked_of_several_paths_or_of_one_directory_goes_together(openssh_server: Server) -> None:
    with session_of(openssh_server) as session:

        def packets_of(call: Callable[..., object], *arguments: Any, **options: Any) -> int:
            before = sent(session)
            call(*arguments, **options)
            return sent(session)[0] - before[0]

        session.connect(timeout=60)
        assert packets_of(session.create_directory, "packets/a/b/c/d") == 2
        assert packets_of(session.create_directory, "packets/a/b/c/d") == 1
        assert packets_of(session.list_directory, "packets") <= 4  # of eleven requests
        assert packets_of(session.delete_directory, "packets/a/b/c/d") <= 9
        assert (openssh_server.directory / "packets/a/b/c").is_dir()
        session.delete_directory("packets", recursive=True)


# --- a socket that does not take all ---------------------------------------------------------------------------------


class TakesAPart:
    """A socket whose buffer has room for so many bytes."""

    def __init__(self, connection: socket.socket, room: int) -> None:
        self._connection = connection
        self._room = room

    def send(self, packet: memoryview) -> int:
        if self._room == 0:
            raise BlockingIOError
        return self._connection.send(packet[: self._room])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.mark.parametrize("room", [0, 1, 50, 5000])
def test_what_a_socket_does_not_take_at_once_is_sent_behind_it(
    openssh_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    plain = DirectPacketizer._without_waiting
    monkeypatch.setattr(DirectPacketizer, "_without_waiting", lambda self: TakesAPart(plain(self), room))
    both_ways(openssh_server, tmp_path)


def test_files_are_whole_where_nothing_can_be_sent_at_once(
    openssh_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> socket.socket:
        raise BlockingIOError

    monkeypatch.setattr(DirectPacketizer, "_without_waiting", refuse)
    both_ways(openssh_server, tmp_path)


def both_ways(server: Server, tmp_path: Path) -> None:
    here, there = tmp_path / "here", server.directory / "there"
    with session_of(server) as session:
        for size in (0, SIZE, 300_000):
            here.write_bytes(content := os.urandom(size))
            session.upload_file(str(here), there.name, timeout=60)
            assert there.read_bytes() == content
            session.download_file(there.name, str(here), timeout=60)
            assert here.read_bytes() == content
        assert session.counts.connections == 1
    there.unlink()


def test_a_signal_in_the_middle_of_sending_ends_what_was_being_sent(
    openssh_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much of it was sent is not known: nothing may be sent a second time, or behind a part of a packet."""
    plain = DirectPacketizer._without_waiting

    def interrupt(packetizer: DirectPacketizer) -> socket.socket:
        monkeypatch.setattr(DirectPacketizer, "_without_waiting", plain)
        del packetizer
        raise KeyboardInterrupt

    with session_of(openssh_server) as session:
        session.connect(timeout=60)
        monkeypatch.setattr(DirectPacketizer, "_without_waiting", interrupt)
        with pytest.raises(KeyboardInterrupt):
            session.exists(".", timeout=60)
        assert session.exists(".", timeout=60)
        assert session.counts.connections == 2


def test_a_signal_that_leaves_a_packet_sent_in_part_ends_the_connection_for_all_its_channels(
    openssh_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server would take what others send for the rest of that packet, and answer nothing."""
    plain = DirectPacketizer._without_waiting

    class Interrupted:
        def __init__(self, connection: socket.socket) -> None:
            self._connection = connection

        def send(self, packet: memoryview) -> int:
            self._connection.send(packet[:20])
            raise KeyboardInterrupt

    with session_of(openssh_server, time_limits=TimeLimits(stall=60)) as session:
        session.connect(timeout=60)
        connection = connection_of(session)
        other = connection.channels.open_channel(Deadline(60))
        with monkeypatch.context() as patch:
            patch.setattr(DirectPacketizer, "_without_waiting", lambda self: Interrupted(plain(self)))
            with pytest.raises(KeyboardInterrupt):
                connection.quick.request(Kind.STAT, string(b"x" * 20_000))
        with pytest.raises(ConnectionLost):
            other.request(Kind.REALPATH, string(b"/")).result(20)
        assert session.exists(".", timeout=60)
        assert session.counts.connections == 2


# --- a file that is closed behind its bytes --------------------------------------------------------------------------


class AnswersInPart(FaultyServer):
    """Answers each READ with half of what was asked for; the answer to CLOSE follows, if that came with it."""

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        if kind != Kind.READ:
            return super().truth(kind, fields)
        handle, offset, length = fields.string(), fields.uint64(), fields.uint32()
        half = struct.pack(">I", len(handle)) + handle + struct.pack(">QI", offset, (length + 1) // 2)
        return super().truth(kind, Reader(half))


@pytest.mark.parametrize("size", [1, SIZE])
def test_a_file_that_is_answered_in_parts_is_read_again_before_it_is_closed(tmp_path: Path, size: int) -> None:
    server, content = AnswersInPart(), os.urandom(size)
    server.modified = LONG_AGO[0]
    server.files["source"] = bytearray(content)
    with session_with(server) as session:
        session.connect(timeout=60)
        session._live.factory.traits.keeps_order = True
        assert session.download_file("source", str(tmp_path / "dest"), timeout=60).bytes == size
    assert (tmp_path / "dest").read_bytes() == content
    assert server._open == {}, "a file was left open"


class GrowsBehindItsSize(FaultyServer):
    """Gives more of a file than it says that there is."""

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        return data(b"x" * (SIZE + 1)) if kind == Kind.READ else super().truth(kind, fields)


def test_a_byte_behind_the_end_is_noticed_without_a_request_of_its_own(tmp_path: Path) -> None:
    server = GrowsBehindItsSize()
    server.modified = LONG_AGO[0]
    server.files["source"] = bytearray(SIZE)
    with session_with(server) as session:
        session.connect(timeout=60)
        session._live.factory.traits.keeps_order = True
        with pytest.raises(Exception, match="gives more: it was written meanwhile"):
            session.download_file("source", str(tmp_path / "dest"), timeout=60)
    assert not (tmp_path / "dest").exists()
