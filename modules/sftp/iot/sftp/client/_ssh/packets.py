"""The format of SFTP version 3 packets (draft-ietf-secsh-filexfer-02), and nothing about when they are sent.

Paths are bytes here. Text becomes bytes as UTF-8 with `surrogateescape`, so that a name that is not UTF-8 can be
listed, and sent back to the server byte by byte.
"""

from __future__ import annotations

import re
import stat
import struct
from contextlib import suppress
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from iot.sftp.client._base.errors import NotSFTP, PathNotAllowed
from iot.sftp.client._base.messages import NUL_IN_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = 3


class Kind(IntEnum):
    """Packet types (section 3)."""

    INIT = 1
    VERSION = 2
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    SETSTAT = 9
    FSETSTAT = 10
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    REALPATH = 16
    STAT = 17
    RENAME = 18
    READLINK = 19
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED = 200
    EXTENDED_REPLY = 201


class OpenFlag(IntEnum):
    """How a file is opened (section 6.3)."""

    READ = 0x01
    WRITE = 0x02
    APPEND = 0x04
    CREATE = 0x08
    TRUNCATE = 0x10
    EXCLUSIVE = 0x20


UINT32 = struct.Struct(">I")
ATTR_SIZE, ATTR_UIDGID, ATTR_PERMISSIONS, ATTR_ACMODTIME, ATTR_EXTENDED = 0x01, 0x02, 0x04, 0x08, 0x80000000

ATTR_USUAL = ATTR_SIZE | ATTR_UIDGID | ATTR_PERMISSIONS | ATTR_ACMODTIME
USUAL = struct.Struct(">IQ8xIII")  # the flags ATTR_USUAL and what follows them, without owner and group
ENTRIES_AT_ONCE = 256  # of a listing that is read: OpenSSH sends a hundred in a packet, others a whole directory

# The beginning of a line of `ls -l`. Version 3 lets a server write there what it likes (section 7); all of them write
# this, and it is the only hint at a file's type from those that send no permissions, or none with a type in them.
LONG_NAME = re.compile(rb"[-dlbcps](?:[-r][-w][-xsStT]){3}")
TYPES = {
    b"-": stat.S_IFREG,
    b"d": stat.S_IFDIR,
    b"l": stat.S_IFLNK,
    b"b": stat.S_IFBLK,
    b"c": stat.S_IFCHR,
    b"p": stat.S_IFIFO,
    b"s": stat.S_IFSOCK,
}


class Attributes(NamedTuple):
    """What a server reports about a file (section 5); `None` for what it does not report.

    `mode` holds type and permissions as `st_mode` does, times are seconds since 1970.
    """

    size: int | None = None
    mode: int | None = None
    access_time: int | None = None
    modification_time: int | None = None

    def pack(self) -> bytes:
        """Return the bytes that set these attributes in a request."""
        flags, parts = 0, b""
        if self.size is not None:
            flags, parts = flags | ATTR_SIZE, parts + struct.pack(">Q", self.size)
        if self.mode is not None:
            flags, parts = flags | ATTR_PERMISSIONS, parts + struct.pack(">I", self.mode)
        if self.access_time is not None and self.modification_time is not None:
            flags, parts = flags | ATTR_ACMODTIME, parts + struct.pack(">II", self.access_time, self.modification_time)
        return struct.pack(">I", flags) + parts


class Entry(NamedTuple):
    """One directory entry: its name, and its attributes without following a link."""

    name: bytes
    attributes: Attributes


class Reader:
    """Reads the fields of a packet in their order. Raises `NotSFTP` if the packet is truncated."""

    __slots__ = ("_data", "_held", "_position")

    def __init__(self, data: bytes, position: int = 0, held: object = None) -> None:
        """Start at the first field, which is at `position`; `held` is kept alive as long as the reader."""
        self._data = data
        self._position = position
        self._held = held

    def uint32(self) -> int:
        """Read a 32-bit number."""
        try:
            (number,) = UINT32.unpack_from(self._data, self._position)
        except struct.error:
            raise self._truncated(4) from None
        self._position += 4
        return int(number)

    def uint64(self) -> int:
        """Read a 64-bit number."""
        return int.from_bytes(self._take(8), "big")

    def boolean(self) -> bool:
        """Read a byte that is 0 for false (RFC 4251, section 5)."""
        return self._take(1) != b"\0"

    def string(self) -> bytes:
        """Read a string: its length and its bytes."""
        return self._take(self.uint32())

    def attributes(self) -> Attributes:
        """Read the attributes of a file: those that nearly all servers send at once, any other field by field."""
        if self._position + USUAL.size <= len(self._data):
            flags, *fields = USUAL.unpack_from(self._data, self._position)
            if flags == ATTR_USUAL:
                self._position += USUAL.size
                return Attributes(*fields)
        flags = self.uint32()
        size = self.uint64() if flags & ATTR_SIZE else None
        if flags & ATTR_UIDGID:
            self.uint64()
        mode = self.uint32() if flags & ATTR_PERMISSIONS else None
        access_time, modification_time = (self.uint32(), self.uint32()) if flags & ATTR_ACMODTIME else (None, None)
        if flags & ATTR_EXTENDED:
            for _ in range(self.uint32()):
                self.string()
                self.string()
        return Attributes(size, mode, access_time, modification_time)

    def entries(self) -> Iterator[Entry]:
        """Read the directory entries of a NAME packet (section 7).

        The `ls -l` line between name and attributes is used for the type, if the attributes do not contain it.
        """
        for entries in self.entries_by_dozens():
            yield from entries

    def entries_by_dozens(self) -> Iterator[list[Entry]]:
        """Read the directory entries of a NAME packet, some at a time, as one packet may hold more than memory does.

        A listing may have a hundred thousand: the form that nearly all servers send is unpacked at once, any other
        field by field.
        """
        left = self.uint32()
        while left:
            count = min(left, ENTRIES_AT_ONCE)
            left -= count
            entries = self._usual_entries(count)
            while len(entries) < count:
                name, long_name = self.string(), self.string()
                entries.append(Entry(name, _with_type(self.attributes(), long_name)))
                entries += self._usual_entries(count - len(entries))
            yield entries

    def _usual_entries(self, count: int) -> list[Entry]:
        """Read up to so many entries that have the usual form, and leave off in front of the first one that has not."""
        data, uint32_at, usual_at = self._data, UINT32.unpack_from, USUAL.unpack_from
        new, size, place, entries = tuple.__new__, USUAL.size, self._position, list[Entry]()
        with suppress(struct.error):  # shorter attributes at the end of the packet; or it ends too early
            for _ in range(count):
                end = place + 4 + uint32_at(data, place)[0]
                attributes_at = end + 4 + uint32_at(data, end)[0]
                flags, length, mode, access_time, modification_time = usual_at(data, attributes_at)
                if flags != ATTR_USUAL or not mode & 0o170000:
                    break
                attributes = new(Attributes, (length, mode, access_time, modification_time))
                entries.append(new(Entry, (data[place + 4 : end], attributes)))
                place = attributes_at + size
        self._position = place
        return entries

    def rest(self) -> bytes:
        """Read everything that is left."""
        return self._take(len(self._data) - self._position)

    def at_end(self) -> bool:
        """Return whether everything has been read."""
        return self._position >= len(self._data)

    def extensions(self) -> Iterator[tuple[str, bytes]]:
        """Read the pairs at the end of a VERSION packet (section 4); anything that is not a pair is ignored."""
        with suppress(NotSFTP):
            while not self.at_end():
                name = self.string().decode("utf-8", "replace")
                yield name, self.string()

    def _take(self, length: int) -> bytes:
        start, end = self._position, self._position + length
        if end > len(self._data):
            raise self._truncated(length)
        self._position = end
        return self._data[start:end]

    def _truncated(self, length: int) -> NotSFTP:
        missing = self._position + length - len(self._data)
        return NotSFTP(f"the server's answer is not SFTP: it ends {missing} bytes too early")


def _with_type(attributes: Attributes, long_name: bytes) -> Attributes:
    mode = attributes.mode
    if stat.S_IFMT(mode or 0) or not LONG_NAME.match(long_name):
        return attributes
    if mode is None:
        mode = sum(1 << 8 - place for place, letter in enumerate(long_name[1:10]) if letter not in b"-ST")
    return attributes._replace(mode=TYPES[long_name[:1]] | mode)


def string(value: bytes) -> bytes:
    """Return a string field: its length and its bytes."""
    return struct.pack(">I", len(value)) + value


def encode_path(path: str) -> bytes:
    """Return a path as it is sent to a server.

    Raises:
        PathNotAllowed: it contains a NUL, or a surrogate that cannot be encoded.
    """
    if "\0" in path:
        raise PathNotAllowed(NUL_IN_PATH, path=path)
    try:
        return path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        message = "the path holds a character that cannot be written as UTF-8"
        raise PathNotAllowed(message, path=path) from None


def decode_path(path: bytes) -> str:
    """Return a server's path as text; `encode_path` returns the same bytes again."""
    return path.decode("utf-8", "surrogateescape")
