"""The operations of SFTP version 3 on a server's files, each waiting for its answer until the call's deadline.

Section numbers are those of draft-ietf-secsh-filexfer-02.
"""

from __future__ import annotations

import logging
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
    TooLarge,
    Unsupported,
    from_status,
)
from iot.sftp.client._packets import Attributes, Entry, Kind, Reader, decode_path, encode_path, string

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from iot.sftp.client._channel import Landing, Reply, SFTPChannel, Source
    from iot.sftp.client._connection import Connection
    from iot.sftp.client._deadline import Deadline
    from iot.sftp.client._server_traits import ServerTraits

logger = logging.getLogger(__name__)

POSIX_RENAME = "posix-rename@openssh.com"
FSYNC = "fsync@openssh.com"
LIMITS = "limits@openssh.com"
STATVFS = "statvfs@openssh.com"

# What every server of version 3 takes (section 3 demands packets of 34,000 bytes).
SAFE_REQUEST = 32 * 1024
LARGEST_REQUEST = 255 * 1024
NO_FILES = frozenset({b"", b".", b".."})
LONGEST_NAME = 4096  # bytes: the longest path that Linux takes (PATH_MAX); names have 255 there
MOST_NAMES = 10_000_000  # of one directory: a listing that goes on behind them has no end
LISTING_WINDOW = 8  # READDIR requests in flight: a round trip is not waited for after each hundred names


class RemoteFiles:
    """A server's files, over one channel and under one deadline. Paths are as the server takes them."""

    def __init__(self, connection: Connection, channel: SFTPChannel, deadline: Deadline) -> None:
        """Use this channel of this connection until the deadline."""
        self._connection = connection
        self._channel = channel
        self.deadline = deadline

    def patient(self) -> RemoteFiles:
        """Return the same files for the last step, which may end when the caller cancels the call meanwhile."""
        return RemoteFiles(self._connection, self._channel, self.deadline.patient())

    def within(self, seconds: float) -> RemoteFiles:
        """Return the same files for a part of the call, which may take so many seconds at most."""
        return RemoteFiles(self._connection, self._channel, self.deadline.within(seconds))

    def offers(self, extension: str) -> bool:
        """Tell whether the server announced an extension."""
        return extension in self._channel.extensions

    @property
    def round_trip(self) -> float:
        """The shortest time in which the server has answered a request on this channel, in seconds."""
        return min(self._channel.round_trip, 1.0)

    def send(self, kind: Kind, fields: bytes) -> Future[Reply]:
        """Send a request without waiting for its answer."""
        return self._channel.request(kind, fields)

    def read(self, handle: bytes, offset: int, length: int, landing: Landing) -> None:
        """Ask for a part of an open file, without waiting for it (section 6.4)."""
        self._channel.read(handle, offset, length, landing)

    def write(self, handle: bytes, offset: int, length: int, source: Source) -> Future[Reply]:
        """Send a part of a local file to the same place of an open one, without waiting for it (section 6.4)."""
        return self._channel.write(handle, offset, length, source)

    def wait_until(self, ready: Callable[[float], bool]) -> None:
        """Wait for what the server owes; `ready` waits for so many seconds at most, and tells whether it is there."""
        self._connection.wait_until(ready, self.deadline)

    def reason(self, error: SFTPError) -> SFTPError:
        """Return the reason behind an error that a request has met: what ended a connection is known best by itself."""
        return self._connection.lost(error) if isinstance(error, ConnectionLost) else error

    def wait(self, future: Future[Reply], path: str, due: Kind = Kind.STATUS) -> Reader:
        """Wait for an answer of the kind that is due, and give a refusal its name."""
        return self.accept(self.reply(future), path, due)

    def reply(self, future: Future[Reply]) -> Reply:
        """Wait for an answer, whatever it is."""
        return self._connection.wait(future, self.deadline)

    def accept(self, reply: Reply, path: str, due: Kind = Kind.STATUS) -> Reader:
        """Return the fields of an answer of the kind that is due, and give a refusal its name."""
        kind, fields = reply
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
    def opened(self, path: str, flags: int, *, wait_for_close: bool = True) -> Iterator[bytes]:
        """Open a file and give its handle (section 6.3); close it without waiting on the way out of a failure."""
        handle = self.open(path, flags)
        try:
            yield handle
        except BaseException:
            self.send(Kind.CLOSE, string(handle))
            raise
        closed = self.send(Kind.CLOSE, string(handle))
        if wait_for_close:
            self.wait(closed, path)

    def open(self, path: str, flags: int, attributes: Attributes | None = None) -> bytes:
        """Open a file and return its handle (section 6.3)."""
        return self._handle(Kind.OPEN, path, struct.pack(">I", flags) + (attributes or Attributes()).pack())

    def told(self, asked: Future[Reply], path: str) -> Attributes | None:
        """Return the attributes in an answer; `None` where the server refuses them, with whatever status."""
        try:
            return self.wait(asked, path, Kind.ATTRS).attributes()
        except (ConnectionLost, DeadlineExceeded):
            raise
        except SFTPError as error:
            logger.debug("The server does not tell of %r: %s", path, error.message)
            return None

    def is_directory(self, asked: Future[Reply], path: str) -> bool:
        """Tell whether the answer to STAT is that of a directory. A folder may be written without being looked at."""
        try:
            return stat.S_ISDIR(self.wait(asked, path, Kind.ATTRS).attributes().mode or 0)
        except (NotFound, NotADirectory, PermissionDenied, Unsupported):
            return False

    def read_exactly(self, handle: bytes, offset: int, length: int, path: str) -> bytes:
        """Return a part of an open file, shorter only at its end (section 6.4)."""
        data = b""
        with suppress(EndOfFile):
            while len(data) < length:
                fields = string(handle) + struct.pack(">QI", offset + len(data), length - len(data))
                piece = self.wait(self.send(Kind.READ, fields), path, Kind.DATA).string()
                data += piece
                if not piece:
                    break
        return data[:length]

    def entries(self, path: str) -> Iterator[Entry]:
        """Give what is in a directory, in the server's order, without `.` and `..` (section 6.7).

        Names that hold a `/` or a NUL, or are longer than 4,096 bytes, which no file has, are left out.

        Raises:
            TooLarge: the listing goes on and on.
        """
        handle = self._handle(Kind.OPENDIR, path)
        window: deque[Future[Reply]] = deque()
        try:
            more, count = True, 0
            while more or window:
                while more and len(window) < LISTING_WINDOW:
                    window.append(self.send(Kind.READDIR, string(handle)))
                before = count
                with suppress(EndOfFile):
                    for entry in self.wait(window.popleft(), path, Kind.NAME).entries():
                        count += 1
                        if _may_be_a_file(entry.name):
                            yield entry
                more = more and count > before  # some servers end with an answer that holds none
                if count > MOST_NAMES:
                    message = f"the server has given more than {MOST_NAMES} names of this directory, and goes on"
                    raise TooLarge(message, path=path)
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
        self.extended(POSIX_RENAME, string(encode_path(source)) + string(encode_path(dest)), dest)

    @property
    def traits(self) -> ServerTraits:
        """What is known of the server beyond what its protocol promises."""
        return self._connection.traits

    def run(self, command: str) -> bytes:
        """Return what a command says on the server; nothing where it lets nobody run one."""
        return self._connection.run(command, self.deadline)

    def request_sizes(self) -> tuple[int, int]:
        """Return the bytes to ask for in a READ and to send in a WRITE (OpenSSH PROTOCOL, section 4.8)."""
        if not self.offers(LIMITS):
            return SAFE_REQUEST, SAFE_REQUEST
        if self._channel.request_sizes is None:
            try:
                fields = self.extended(LIMITS, b"", "", Kind.EXTENDED_REPLY)
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
            fields = self.extended(STATVFS, string(encode_path(path)), path, Kind.EXTENDED_REPLY)
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

    def extended(self, name: str, fields: bytes, path: str, due: Kind = Kind.STATUS) -> Reader:
        """Ask for an extension (section 8), and return the fields of the answer."""
        return self.wait(self.send(Kind.EXTENDED, string(name.encode()) + fields), path, due)


def _may_be_a_file(name: bytes) -> bool:
    return name not in NO_FILES and b"/" not in name and b"\0" not in name and len(name) <= LONGEST_NAME


def _request_size(limit: int) -> int:
    return min(limit, LARGEST_REQUEST) if limit else SAFE_REQUEST
