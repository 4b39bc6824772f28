"""What a server sends on an SFTP channel, cut as it likes: the first byte tells in which pieces the rest arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from iot.sftp.client import FileInfo, SFTPError
from iot.sftp.client._base.deadline import Deadline
from iot.sftp.client._files.remote_files import RemoteFiles
from iot.sftp.client._ssh.packets import Kind, Reader
from iot.sftp.client._ssh.replies import LONGEST_PACKET, ReplyParser
from iot.sftp.client._ssh.requests import Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

WORDS = (*("\x00\x00\x00\x05", "\x00\x00\x00\x0d", "\xff\xff\xff\xff"), *(f"\x09{chr(kind)}" for kind in Kind))
AWAITED = range(4)  # numbers of requests to READ
NOBODY = cast("Any", None)


def check(data: bytes) -> None:
    """The stream is understood or refused by name, in whatever pieces it comes, and no more is kept than a packet."""
    size, stream = 1 + (data[0] if data else 0), data[1:]
    whole = _Client().take_all(iter([stream]))
    pieces = (stream[start : start + size] for start in range(0, len(stream), size))
    assert _Client().take_all(pieces) == whole


class _Client:
    """Takes note of all that arrives."""

    def __init__(self) -> None:
        self._said: list[Any] = []
        self._awaited = {number: _Data(self._said) for number in AWAITED}

    def take_all(self, pieces: Iterator[bytes]) -> list[Any]:
        """Return what has arrived, with the name of what ended it at last."""
        parser = ReplyParser(self._awaited.get, self._landed, self._take_packet)
        try:
            for piece in pieces:
                parser.take(memoryview(piece))
                assert parser.is_amid_a_listing or parser.kept <= LONGEST_PACKET + 4
        except SFTPError as error:
            self._said.append(error.code)
        return self._said

    def _landed(self, number: int) -> None:
        self._awaited.pop(number)
        self._said.append(number)

    def _take_packet(self, packet: bytes, held: object = None) -> None:
        assert held is not None or len(packet) <= LONGEST_PACKET
        try:
            self._said.append((packet[0], _fields_of(packet)))
        except SFTPError as error:
            assert error.message.isprintable()
            self._said.append((packet[0], error.code, error.message))


class _Data:
    """The data of one READ."""

    def __init__(self, said: list[Any]) -> None:
        self._said = said

    def announce(self, size: int) -> None:
        self._said.append(size)
        self._said.append(bytearray())

    def take(self, data: memoryview) -> None:
        self._said[-1] += data

    def finish(self, reply: Reply | None, error: SFTPError | None) -> None:
        raise NotImplementedError


def _fields_of(packet: bytes) -> Any:
    """Read a packet as those do who wait for it."""
    kind, fields = packet[0], Reader(packet[1:])
    if kind == Kind.VERSION:
        return fields.uint32(), dict(fields.extensions())
    fields.uint32()
    due = Kind(kind) if kind in set(Kind) else Kind.STATUS
    fields = RemoteFiles(NOBODY, NOBODY, Deadline(None)).accept(Reply(kind, fields), "path", due)
    match kind:
        case Kind.NAME:
            return list(fields.entries())
        case Kind.ATTRS:
            return FileInfo.of("path", fields.attributes())
        case Kind.HANDLE | Kind.DATA:
            return fields.string()
        case Kind.EXTENDED_REPLY:
            return [fields.uint64() for _ in range(5)]
    return fields.rest()
