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

from iot.sftp.client._base.errors import (
    Busy,
    ConnectionLost,
    DeadlineExceeded,
    EndOfFile,
    HandleInUse,
    IsADirectory,
    NoSpace,
    NotADirectory,
    NotFound,
    NotSFTP,
    PathNotAllowed,
    PermissionDenied,
    SFTPError,
    StatusReply,
    TooLarge,
    Unsupported,
)
from iot.sftp.client._base.sftp_statuses import SSH_FX_OK, from_status, is_of_a_limit, is_plain_refusal
from iot.sftp.client._ssh.packets import Attributes, Entry, Kind, OpenFlag, Reader, decode_path, encode_path, string

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._ssh.channel import Landing, Reply, SFTPChannel, Source
    from iot.sftp.client._ssh.connection import Connection
    from iot.sftp.client._ssh.open_files import Place
    from iot.sftp.client._ssh.server_traits import ServerTraits

logger = logging.getLogger(__name__)

POSIX_RENAME = "posix-rename@openssh.com"
FSYNC = "fsync@openssh.com"
LIMITS = "limits@openssh.com"
STATVFS = "statvfs@openssh.com"

# What every server of version 3 takes (section 3 demands packets of 34,000 bytes), and the least that is asked for: a
# server that announces less would have a file moved in millions of requests.
SAFE_REQUEST = 32 * 1024
LARGEST_REQUEST = 255 * 1024
NO_FILES = frozenset({b"", b".", b".."})
LONGEST_NAME = 4096  # bytes: the longest path that Linux takes (PATH_MAX); names have 255 there
MOST_NAMES = 10_000_000  # of one directory: a listing that goes on behind them has no end
LISTING_WINDOW = 8  # READDIR requests in flight: a round trip is not waited for after each hundred names
MOST_IN_FLIGHT = 1024  # requests on a channel: OpenSSH's client has 64 by default, and 1,024 at most
NAMES_LOOKED_THROUGH = 10_000  # of a directory, to find out whether there is one that the server says nothing about
# Seconds for which an OPEN that was refused waits to be tried without any other file open: of a quick call, a transfer
ALONE_WITHIN = 3.0, 30.0
# Pauses in seconds after which a place is asked for that others, who are not of this session, have
LIMIT_PAUSES = (0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 5.0, 5.0)


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
            raise NotSFTP(message)
        return fields

    @property
    def has_room(self) -> bool:
        """Whether a further request may be sent for the sake of speed: no server keeps any number of them."""
        return self._channel.in_flight < MOST_IN_FLIGHT

    def stat(self, path: str) -> Attributes:
        """Return what the server tells of a path, links followed (section 6.8); of a link itself, if it refuses STAT.

        Raises:
            NotFound: the server says that nothing is there; or shows a directory that does not hold it, after it has
                refused the question without a word on why.
        """
        try:
            told = self._attributes(Kind.STAT, path)
        except (PermissionDenied, Unsupported) as refusal:
            return self._attributes_otherwise(Kind.LSTAT, path, refusal)
        if told == Attributes():
            # Apache MINA answers so for what cannot be there, since a part of the path is a file.
            with suppress(PermissionDenied, Unsupported):
                return self._attributes_in_listing(path, Unsupported("the server tells nothing of it", path=path))
        return told

    def lstat(self, path: str) -> Attributes:
        """Return what the server tells of a path (section 6.8), links not followed unless it refuses LSTAT."""
        lacks = self.traits.lacks
        if Kind.LSTAT in lacks:
            return self.stat(path)
        try:
            return self._attributes(Kind.LSTAT, path)
        except (PermissionDenied, Unsupported) as refusal:
            told = self._attributes_otherwise(Kind.STAT, path, refusal)
            if told.mode is not None:
                lacks.add(Kind.LSTAT)  # whoever may follow a link may look at it
            return told

    def _attributes_otherwise(self, kind: Kind, path: str, refusal: SFTPError) -> Attributes:
        """Find out about a path in other ways than the one that was refused; raise that refusal where none tells."""
        with suppress(PermissionDenied, Unsupported):
            return self._attributes(kind, path)
        if is_plain_refusal(refusal):
            raise refusal
        try:
            self._begin_to_list(path)
        except NotADirectory:
            return Attributes()  # so there is something else
        except (NotFound, PermissionDenied, Unsupported):  # OpenSSH says NO_SUCH_FILE of a file as well
            return self._attributes_in_listing(path, refusal)
        return Attributes(mode=stat.S_IFDIR)

    def _attributes_in_listing(self, path: str, refusal: SFTPError) -> Attributes:
        """Look a path up in the listing of its directory."""
        directory, name = posixpath.split(path.rstrip("/"))
        if name in {"", ".", ".."}:
            raise refusal
        try:
            for count, entry in enumerate(self.entries(directory or ".")):
                if entry.name == encode_path(name):
                    return entry.attributes
                if count >= NAMES_LOOKED_THROUGH:
                    raise refusal
        except (PermissionDenied, Unsupported, TooLarge):
            raise refusal from None
        message = "there is no such file or directory on the server"
        raise NotFound(message, path=path)

    def kind_of(self, path: str) -> int | None:
        """Return the type bits of what is at `path`, 0 if the server does not tell, `None` if nothing is there."""
        try:
            kind = stat.S_IFMT(self.stat(path).mode or 0)
            return kind or self._is_listable(path) * stat.S_IFDIR
        except (NotFound, NotADirectory):
            return None

    def _is_listable(self, path: str) -> bool:
        """Tell whether a path is that of a directory by listing it, where the server tells no types."""
        try:
            self._begin_to_list(path)
        except (NotFound, NotADirectory, PermissionDenied, Unsupported):
            return False
        return True

    def _begin_to_list(self, path: str) -> None:
        """Raise unless a path can be listed: asyncssh opens any path as a directory, and fails only at reading it."""
        handle = self._handle(Kind.OPENDIR, path, looks_further=False)
        try:
            with suppress(EndOfFile):
                self.wait(self.send(Kind.READDIR, string(handle)), path, Kind.NAME)
        finally:
            self.send(Kind.CLOSE, string(handle))

    def is_missing(self, path: str) -> bool:
        """Tell whether the server says, in one way or another, that nothing is at a path; a refusal does not."""
        try:
            return self.kind_of(path) is None
        except (PermissionDenied, Unsupported):
            return False

    def attributes_of(self, paths: list[str], *, follow_links: bool = True) -> list[Attributes | None]:
        """Return the attributes of each path, asking for all before the first answer; `None` where that is refused."""
        kind = Kind.STAT if follow_links or Kind.LSTAT in self.traits.lacks else Kind.LSTAT
        futures = [self.send(kind, string(encode_path(path))) for path in paths]
        answers: list[Attributes | None] = []
        for future, path in zip(futures, paths, strict=True):
            try:
                answers.append(self.wait(future, path, Kind.ATTRS).attributes())
            except (NotFound, NotADirectory, PathNotAllowed, PermissionDenied, IsADirectory):
                answers.append(None)
            except Unsupported:
                answers.append(self._attributes_or_none(path))
        return answers

    def _attributes_or_none(self, path: str) -> Attributes | None:
        with suppress(NotFound, NotADirectory, PermissionDenied, Unsupported):
            return self.stat(path)
        return None

    def real_path(self, path: str) -> str:
        """Return the server's own form of a path (section 6.11); the cheapest question that there is."""
        for entry in self._ask(Kind.REALPATH, path, due=Kind.NAME).entries():
            return decode_path(entry.name)
        return path  # an answer without a name is an answer

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
        """Open a file and return its handle (section 6.3), once the server has a place for one more."""
        creates = bool(flags & OpenFlag.CREATE)
        fields = struct.pack(">I", flags) + (attributes or Attributes()).pack()
        return self._handle(Kind.OPEN, path, fields, needs=posixpath.dirname(path) or "." if creates else path)

    def told(self, asked: Future[Reply], path: str) -> Attributes | None:
        """Return the attributes in an answer; `None` where the server refuses them, with whatever status."""
        try:
            return self.wait(asked, path, Kind.ATTRS).attributes()
        except (ConnectionLost, DeadlineExceeded, HandleInUse):
            raise
        except SFTPError as error:
            logger.debug("The server does not tell of %r: %s", path, error.message)
            return None

    def is_directory(self, asked: Future[Reply], path: str) -> bool:
        """Tell whether the answer to STAT is that of a directory, or a path can be listed, where there is none.

        A folder may be written without being looked at.
        """
        try:
            kind = stat.S_IFMT(self.wait(asked, path, Kind.ATTRS).attributes().mode or 0)
        except (NotFound, NotADirectory):
            return False
        except (PermissionDenied, Unsupported) as refusal:
            kind = stat.S_IFREG if is_plain_refusal(refusal) else 0
        return stat.S_ISDIR(kind) if kind else self._is_listable(path)

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
        with self._clearer_refusal(path):
            self._ask(Kind.REMOVE, path)

    def rename(self, source: str, dest: str) -> None:
        """Rename a file; most servers refuse if `dest` exists (section 6.5)."""
        with self._clearer_refusal(posixpath.dirname(dest) or ".", source):
            self.wait(self.send(Kind.RENAME, string(encode_path(source)) + string(encode_path(dest))), dest)

    def posix_rename(self, source: str, dest: str) -> None:
        """Rename a file, replacing `dest` at one blow (OpenSSH PROTOCOL, section 4.3)."""
        with self._clearer_refusal(posixpath.dirname(dest) or ".", source):
            self.extended(POSIX_RENAME, string(encode_path(source)) + string(encode_path(dest)), dest)

    @contextmanager
    def _clearer_refusal(self, *needed: str) -> Iterator[None]:
        """Look, where the server refuses without a reason, whether what the request needs is there.

        Version 3 has FAILURE for nearly everything (section 7), and servers say it, or PERMISSION_DENIED, of what is
        missing too. A few more questions, of which none is asked after a success, find out.
        """
        try:
            yield
        except PermissionDenied as refusal:
            for path in needed:
                if self.is_missing(path):
                    message = "there is no such file or directory on the server"
                    raise NotFound(message, path=path) from refusal
            raise

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
                packet, read, write = fields.uint64(), fields.uint64(), fields.uint64()
                # Behind the header of a WRITE: its kind, number, handle (256 bytes at most), offset and length
                longest = packet - 1024 if packet else LARGEST_REQUEST
                self._channel.request_sizes = _request_size(read, longest), _request_size(write, longest)
                if not fields.at_end():
                    self.traits.files.announce(fields.uint64())
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
        """Make a directory and its missing parents (section 6.6), also where the server lets nobody look at any."""
        missing: list[str] = []
        ancestor = path.rstrip("/") or "/"
        try:
            while (kind := self.kind_of(ancestor)) is None:
                missing.append(ancestor)
                parent = posixpath.dirname(ancestor) or "."
                if parent == ancestor:
                    break
                ancestor = parent
        except (PermissionDenied, Unsupported):
            self._make_directories_unseen(path)
            return
        if kind not in {None, 0, stat.S_IFDIR}:
            message = f"{ancestor} is a file on the server, not a directory"
            raise NotADirectory(message, path=path)
        refusal: SFTPError | None = None
        for directory in reversed(missing):
            try:
                self._make_directory(directory)
            except (NotFound, PermissionDenied, Unsupported) as error:
                refusal = refusal or error
            else:
                refusal = None  # of a parent: it is there, and the server does not tell
        if refusal is not None:
            raise refusal

    def _make_directories_unseen(self, path: str) -> None:
        """Ask for each directory on the way; one that is refused may be there, as the next request shows."""
        names = path.strip("/").split("/")
        root = "/" if path.startswith("/") else ""
        for count in range(1, len(names) + 1):
            with suppress(PermissionDenied, Unsupported, NotFound, NotADirectory):
                self._ask(Kind.MKDIR, root + "/".join(names[:count]), Attributes().pack())

    def _make_directory(self, path: str) -> None:
        try:
            self._ask(Kind.MKDIR, path, Attributes().pack())
        except SFTPError as refusal:
            if isinstance(refusal, ConnectionLost | DeadlineExceeded):
                raise
            if self.kind_of(path) == stat.S_IFDIR:
                return  # somebody else has made it meanwhile
            if isinstance(refusal, PermissionDenied) and self.is_full(posixpath.dirname(path) or "."):
                message = "the server's disk is full"
                raise NoSpace(message, path=path) from refusal
            raise

    def _attributes(self, kind: Kind, path: str) -> Attributes:
        return self._ask(kind, path, due=Kind.ATTRS).attributes()

    def _ask(self, kind: Kind, path: str, more: bytes = b"", due: Kind = Kind.STATUS) -> Reader:
        return self.wait(self.send(kind, string(encode_path(path)) + more), path, due)

    def _handle(
        self, kind: Kind, path: str, more: bytes = b"", *, needs: str = "", looks_further: bool = True
    ) -> bytes:
        """Open what is at a path; where the server has no place for it, wait until it has.

        Parameters:
            kind: OPEN or OPENDIR.
            path: of what is opened.
            more: fields behind the path.
            needs: what has to be there; the path itself if it is empty.
            looks_further: find out what a refusal stands for.
        """
        files, fields = self.traits.files, string(encode_path(path)) + more
        pauses, crowd = iter(LIMIT_PAUSES), 0
        place = self._take_place(is_directory=kind == Kind.OPENDIR)
        while True:
            try:
                handle = self._open_in(place, kind, fields, path)
            except PermissionDenied as refusal:
                if not looks_further:
                    raise
                if not files.may_be_of_limit(place, refusal):
                    with self._clearer_refusal(needs or path):
                        raise
                crowd = place.others or crowd
                place = self._take_another_place(place, refusal, pauses)
            else:
                if place.is_alone:
                    files.learn(crowd)
                return handle

    def _take_place(self, *, is_directory: bool) -> Place:
        is_quick = self._channel is self._connection.quick
        files = self.traits.files
        return files.take_place(self._channel, self.deadline, is_directory=is_directory, is_quick=is_quick)

    def _take_another_place(self, refused: Place, refusal: SFTPError, pauses: Iterator[float]) -> Place:
        """Take the place that is needed to open a file, after the server has refused it beside others, as it seems.

        Raises:
            Busy: there is none to be had.
        """
        files = self.traits.files
        if not refused.others + refused.unclear:  # others than this session have what there is
            seconds = next(pauses, None)
            if seconds is None:
                message = f"others have as many files open as the server allows: {refusal.message}"
                raise Busy(message, path=refusal.path) from refusal
            self.deadline.pause(seconds)
            self.deadline.check()
        elif refused.is_own_crowd:
            message = f"the server does not let a further file be open beside this one: {refusal.message}"
            raise Busy(message, path=refusal.path) from refusal
        elif is_of_a_limit(refusal) and refused.others:
            files.learn(refused.others)
        else:
            seconds = ALONE_WITHIN[self._channel is not self._connection.quick]
            place = files.take_place_alone(refused, self.deadline, seconds)
            if place is not None:
                return place
        return self._take_place(is_directory=refused.is_directory)

    def _open_in(self, place: Place, kind: Kind, fields: bytes, path: str) -> bytes:
        future = self._channel.request(kind, fields, place)
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


def _request_size(limit: int, longest: int) -> int:
    return max(SAFE_REQUEST, min(limit, longest, LARGEST_REQUEST)) if limit else SAFE_REQUEST
