"""The operations of SFTP version 3 on a server's files, each waiting for its answer until the call's deadline.

Section numbers are those of draft-ietf-secsh-filexfer-02.
"""

from __future__ import annotations

import posixpath
import stat
import struct
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from iot.sftp.client._errors import (
    SSH_FX_OK,
    ConnectionLost,
    DeadlineExceeded,
    EndOfFile,
    NotADirectory,
    NotFound,
    PathNotAllowed,
    PermissionDenied,
    SFTPError,
    StatusReply,
    Unsupported,
    from_status,
)
from iot.sftp.client._packets import Attributes, Entry, Kind, Reader, decode_path, encode_path, string

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from iot.sftp.client._channel import Reply, SFTPChannel
    from iot.sftp.client._connection import Connection
    from iot.sftp.client._deadline import Deadline

POSIX_RENAME = "posix-rename@openssh.com"
FSYNC = "fsync@openssh.com"
LIMITS = "limits@openssh.com"
STATVFS = "statvfs@openssh.com"

# What every server of version 3 takes (section 3 demands packets of 34,000 bytes).
SAFE_REQUEST = 32 * 1024
LARGEST_REQUEST = 255 * 1024
LISTING_WINDOW = 8  # READDIR requests in flight: a round trip is not waited for after each hundred names


class RemoteFiles:
    """A server's files, over one channel and under one deadline. Paths are as the server takes them."""

    def __init__(self, connection: Connection, channel: SFTPChannel, deadline: Deadline) -> None:
        """Use this channel of this connection until the deadline."""
        self._connection = connection
        self._channel = channel
        self._deadline = deadline

    def offers(self, extension: str) -> bool:
        """Tell whether the server announced an extension."""
        return extension in self._channel.extensions

    def send(self, kind: Kind, fields: bytes) -> Future[Reply]:
        """Send a request without waiting for its answer."""
        return self._channel.request(kind, fields)

    def wait(self, future: Future[Reply], path: str, due: Kind = Kind.STATUS) -> Reader:
        """Wait for an answer of the kind that is due, and give a refusal its name."""
        kind, fields = self._connection.wait(future, self._deadline)
        if kind == Kind.STATUS:
            status = fields.uint32()
            # Some servers leave the words out, which version 3 demands.
            words = "" if fields.at_end() else fields.string().decode("utf-8", "replace")
            if status != SSH_FX_OK:
                raise from_status(StatusReply(status, words), path)
        if kind != due:
            message = f"the server's answer is not SFTP: packet type {kind} where {due.name} was due"
            raise ConnectionLost(message)
        return fields

    def stat(self, path: str) -> Attributes:
        """Return what the server tells of a path, links followed (section 6.8)."""
        return self._attributes(Kind.STAT, path)

    def lstat(self, path: str) -> Attributes:
        """Return what the server tells of a path, links not followed (section 6.8)."""
        return self._attributes(Kind.LSTAT, path)

    def kind_of(self, path: str) -> int | None:
        """Return the type bits of what is at `path`, 0 if the server does not tell, `None` if nothing is there."""
        try:
            return stat.S_IFMT(self.stat(path).mode or 0)
        except (NotFound, NotADirectory):
            return None

    def attributes_of(self, paths: list[str], *, follow_links: bool = True) -> list[Attributes | None]:
        """Return the attributes of each path, asking for all before the first answer; `None` where that is refused."""
        kind = Kind.STAT if follow_links else Kind.LSTAT
        futures = [self.send(kind, string(encode_path(path))) for path in paths]
        answers: list[Attributes | None] = []
        for future, path in zip(futures, paths, strict=True):
            try:
                answers.append(self.wait(future, path, Kind.ATTRS).attributes())
            except (NotFound, NotADirectory, PathNotAllowed, PermissionDenied):
                answers.append(None)
        return answers

    def real_path(self, path: str) -> str:
        """Return the server's own form of a path (section 6.11); the cheapest question that there is."""
        for entry in self._ask(Kind.REALPATH, path, due=Kind.NAME).entries():
            return decode_path(entry.name)
        message = "the server's answer holds no name"
        raise ConnectionLost(message)

    @contextmanager
    def opened(self, path: str, flags: int, attributes: Attributes | None = None) -> Iterator[bytes]:
        """Open a file and give its handle (section 6.3); close it without waiting on the way out of a failure."""
        fields = struct.pack(">I", flags) + (attributes or Attributes()).pack()
        handle = self._handle(Kind.OPEN, path, fields)
        try:
            yield handle
        except BaseException:
            self.send(Kind.CLOSE, string(handle))
            raise
        self.wait(self.send(Kind.CLOSE, string(handle)), path)

    def fstat(self, handle: bytes, path: str) -> Attributes:
        """Return what the server tells of an open file (section 6.8), or of its path where it does not tell the size.

        Raises:
            Unsupported: it tells the size of neither, so that no transfer can be checked.
        """
        with suppress(Unsupported):
            attributes = self.wait(self.send(Kind.FSTAT, string(handle)), path, Kind.ATTRS).attributes()
            if attributes.size is not None:
                return attributes
        attributes = self.stat(path)
        if attributes.size is None:
            message = "the server does not tell the size of the file, so that the transfer cannot be checked"
            raise Unsupported(message, path=path)
        return attributes

    def entries(self, path: str) -> Iterator[Entry]:
        """Give what is in a directory, in the server's order, without `.` and `..` (section 6.7).

        Names that hold a `/` or a NUL, which no file has, are left out.
        """
        handle = self._handle(Kind.OPENDIR, path)
        window: deque[Future[Reply]] = deque()
        try:
            more = True
            while more or window:
                while more and len(window) < LISTING_WINDOW:
                    window.append(self.send(Kind.READDIR, string(handle)))
                try:
                    names = list(self.wait(window.popleft(), path, Kind.NAME).entries())
                except EndOfFile:
                    names = []
                more = more and bool(names)  # some servers end with an answer that holds none
                yield from filter(_usable, names)
        finally:
            self.send(Kind.CLOSE, string(handle))

    def remove(self, path: str) -> None:
        """Remove a file (section 6.5)."""
        self._ask(Kind.REMOVE, path)

    def rename(self, source: str, dest: str) -> None:
        """Rename a file; most servers refuse if `dest` exists (section 6.5)."""
        self.wait(self.send(Kind.RENAME, string(encode_path(source)) + string(encode_path(dest))), dest)

    def posix_rename(self, source: str, dest: str) -> None:
        """Rename a file, replacing `dest` at one blow (OpenSSH PROTOCOL, section 4.3)."""
        self._extended(POSIX_RENAME, string(encode_path(source)) + string(encode_path(dest)), dest)

    def sync(self, handle: bytes, path: str) -> None:
        """Have the server write an open file to its disk (OpenSSH PROTOCOL, section 4.7), where it can."""
        if self.offers(FSYNC):
            with suppress(Unsupported):
                self._extended(FSYNC, string(handle), path)

    def set_attributes(self, handle: bytes, attributes: Attributes, path: str) -> bool:
        """Set an open file's attributes (section 6.9); tell whether the server did."""
        try:
            self.wait(self.send(Kind.FSETSTAT, string(handle) + attributes.pack()), path)
        except (PermissionDenied, NotFound, Unsupported):
            return False
        return True

    def request_sizes(self) -> tuple[int, int]:
        """Return the bytes to ask for in a READ and to send in a WRITE (OpenSSH PROTOCOL, section 4.8)."""
        if not self.offers(LIMITS):
            return SAFE_REQUEST, SAFE_REQUEST
        if self._channel.request_sizes is None:
            try:
                fields = self._extended(LIMITS, b"", "", Kind.EXTENDED_REPLY)
                fields.uint64()
                self._channel.request_sizes = _request_size(fields.uint64()), _request_size(fields.uint64())
            except DeadlineExceeded:
                raise
            except SFTPError:  # this is about speed only: whatever else is wrong, the next request meets too
                self._channel.request_sizes = SAFE_REQUEST, SAFE_REQUEST
        return self._channel.request_sizes

    def is_full(self, path: str) -> bool:
        """Tell whether the file system of a path has no space left, as far as the server tells (statvfs, 4.4)."""
        if not self.offers(STATVFS):
            return False
        try:
            fields = self._extended(STATVFS, string(encode_path(path)), path, Kind.EXTENDED_REPLY)
            numbers = [fields.uint64() for _ in range(5)]
        except SFTPError:
            return False
        return numbers[4] == 0  # f_bavail: blocks for others than the superuser

    def make_directories(self, path: str) -> None:
        """Make a directory and its missing parents (section 6.6)."""
        missing: list[str] = []
        ancestor = path.rstrip("/") or "/"
        while (kind := self.kind_of(ancestor)) is None:
            missing.append(ancestor)
            parent = posixpath.dirname(ancestor) or "."
            if parent == ancestor:
                break
            ancestor = parent
        if kind not in {None, 0, stat.S_IFDIR}:
            message = f"{ancestor} is a file on the server, not a directory"
            raise NotADirectory(message, path=path)
        for directory in reversed(missing):
            self._make_directory(directory)

    def _make_directory(self, path: str) -> None:
        try:
            self._ask(Kind.MKDIR, path, Attributes().pack())
        except (PermissionDenied, NotFound):
            if self.kind_of(path) != stat.S_IFDIR:  # somebody else may have made it meanwhile
                raise

    def _attributes(self, kind: Kind, path: str) -> Attributes:
        return self._ask(kind, path, due=Kind.ATTRS).attributes()

    def _ask(self, kind: Kind, path: str, more: bytes = b"", due: Kind = Kind.STATUS) -> Reader:
        return self.wait(self.send(kind, string(encode_path(path)) + more), path, due)

    def _handle(self, kind: Kind, path: str, more: bytes = b"") -> bytes:
        future = self.send(kind, string(encode_path(path)) + more)
        try:
            return self.wait(future, path, Kind.HANDLE).string()
        except BaseException:
            # A handle that comes too late for its caller is given back.
            future.add_done_callback(self._give_back)
            raise

    def _give_back(self, future: Future[Reply]) -> None:
        if future.exception() is None and future.result().kind == Kind.HANDLE:
            with suppress(ConnectionLost):
                self.send(Kind.CLOSE, string(future.result().fields.string()))

    def _extended(self, name: str, fields: bytes, path: str, due: Kind = Kind.STATUS) -> Reader:
        return self.wait(self.send(Kind.EXTENDED, string(name.encode()) + fields), path, due)


def _request_size(limit: int) -> int:
    return min(limit, LARGEST_REQUEST) if limit else SAFE_REQUEST


def _usable(entry: Entry) -> bool:
    return entry.name not in {b"", b".", b".."} and b"/" not in entry.name and b"\0" not in entry.name
