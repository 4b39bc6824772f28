"""SFTP requests in flight: what is sent, what is expected in return, and where it goes."""

from __future__ import annotations

import logging
import os
import struct
import threading
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, NamedTuple, Protocol

from iot.sftp.client._base.errors import SFTPError, TransferIncomplete
from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._ssh.packets import UINT32, Kind, Reader, string

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._ssh.open_files import Place

logger = logging.getLogger(__name__)

HEADER = struct.Struct(">IBI")  # a packet's length and type, and the number of its request

# Requests that may take a server long: an object store copies in a RENAME, and writes in a CLOSE; an archive fetches
# what is opened, and many servers list all of a large directory before they answer.
SLOW_KINDS = frozenset(
    {
        *(Kind.OPEN, Kind.CLOSE, Kind.OPENDIR, Kind.READDIR, Kind.SETSTAT, Kind.FSETSTAT),
        *(Kind.REMOVE, Kind.MKDIR, Kind.RMDIR, Kind.RENAME, Kind.EXTENDED),
    }
)
QUICK_EXTENSIONS = (string(b"limits@openssh.com"), string(b"statvfs@openssh.com"))


class Reply(NamedTuple):
    """An answer: its packet type, and its fields behind the request's number."""

    kind: int
    fields: Reader


class Answer(Future[Reply]):
    """The future answer to a request.

    Most answers are there before anybody waits for one: so it makes the lock that a wait needs when one begins. Of a
    `Future` it has what an answer needs: it cannot be cancelled.

    Attributes:
        is_slow: whether the request may take the server long.
        place: of what is opened by the request, if it opens something.
        closes: the handle that is closed by the request, if it is a CLOSE.
    """

    def __init__(self, kind: Kind, fields: bytes = b"", place: Place | None = None) -> None:
        """Expect the answer to a request of this type and with these fields."""
        self.is_slow = kind in SLOW_KINDS and not fields.startswith(QUICK_EXTENSIONS)
        self.place = place
        self.closes = fields[UINT32.size :] if kind == Kind.CLOSE else None
        self._reply: Reply | None = None
        self._error: BaseException | None = None
        self._is_done = False
        self._arrival: threading.Lock | None = None  # held until it is there, once somebody waits
        self._actions: list[Callable[[Future[Reply]], object]] = []

    def __repr__(self) -> str:
        """Show whether it is there."""
        return f"<{type(self).__name__}, {'done' if self._is_done else 'pending'}>"

    def done(self) -> bool:
        """Return whether it is there, or an error in its place."""
        return self._is_done

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for it, and return the error in its place, if there is one.

        Raises:
            TimeoutError: it did not come within so many seconds.
        """
        if not self._is_done:
            with _completing:
                if self._arrival is None:
                    self._arrival = threading.Lock()
                    if not self._is_done:
                        self._arrival.acquire()
            if self._arrival.acquire(timeout=-1 if timeout is None else timeout):
                self._arrival.release()  # others may wait too
            elif not self._is_done:
                raise FutureTimeoutError
        return self._error

    def result(self, timeout: float | None = None) -> Reply:
        """Wait for it, and return it; raise the error in its place, if there is one, or `TimeoutError`."""
        error = self._error if self._is_done else self.exception(timeout)
        if error is not None:
            raise error
        return self._reply  # type: ignore[return-value] # it is there

    def add_done_callback(self, fn: Callable[[Future[Reply]], object]) -> None:
        """Call a function with it once it is there, in the thread that completes it; at once if it is there."""
        with _completing:
            if not self._is_done:
                self._actions.append(fn)
                return
        fn(self)

    def set_result(self, result: Reply) -> None:
        """Complete it; `InvalidStateError` if that was done before."""
        self._complete(result, None)

    def set_exception(self, exception: BaseException | None) -> None:
        """Put an error in its place; `InvalidStateError` if it is there."""
        self._complete(None, exception)

    def _complete(self, reply: Reply | None, error: BaseException | None) -> None:
        with _completing:
            if self._is_done:
                raise InvalidStateError
            self._reply, self._error, self._is_done = reply, error, True
            arrival = self._arrival
        if arrival is not None:
            arrival.release()
        for action in self._actions:
            try:
                action(self)
            except Exception:  # the others have to be called too
                logger.exception("Internal error in what follows an answer")


_completing = threading.Lock()  # of all answers: it is held for a moment only


class Landing(Protocol):
    """Where the data of a READ goes. paramiko's thread, which serves all channels, calls all of this: so be quick."""

    def announce(self, size: int) -> None:
        """Take note of how many bytes will come."""

    def take(self, data: memoryview) -> None:
        """Take a piece; the view is valid until the call returns."""

    def finish(self, reply: Reply | None, error: SFTPError | None) -> None:
        """End: with neither, all data was taken; `reply` is another answer than data, `error` stands for none."""


Expected = Future[Reply] | Landing


class Source:
    """A local file that is read by the writer threads of channels, as long as its upload runs."""

    def __init__(self, descriptor: int) -> None:
        """Read this descriptor, which belongs to the caller."""
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._has_ended = False

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer.

        Raises:
            SFTPError: the file cannot be read, became shorter, or the upload has ended.
        """
        with self._lock:
            if self._has_ended:
                message = "the upload has ended"
                raise TransferIncomplete(message)
            try:
                while buffer:
                    count = os.preadv(self._descriptor, [buffer], offset)
                    if count == 0:
                        message = "the file became shorter while it was read"
                        raise TransferIncomplete(message)
                    buffer, offset = buffer[count:], offset + count
            except OSError as error:
                raise from_os_error(error) from error

    def end(self) -> None:
        """Stop reading: the descriptor may belong to another file from now on."""
        with self._lock:
            self._has_ended = True


class FileWrite:
    """A WRITE request whose data is read from a file at the moment at which it is sent; its length is the packet's."""

    __slots__ = ("_fields", "_length", "_offset", "_source", "number")

    def __init__(self, number: int, handle: bytes, source: Source, offset: int, length: int) -> None:
        """Assemble what is before the data (draft-ietf-secsh-filexfer-02, section 6.4).

        Parameters:
            number: of the request.
            handle: of the remote file.
            source: of the data.
            offset: of the data, in both files.
            length: of the data.
        """
        self.number = number
        self._source = source
        self._offset = offset
        self._length = length
        fields = string(handle) + struct.pack(">QI", offset, length)
        self._fields = HEADER.pack(5 + len(fields) + length, Kind.WRITE, number) + fields

    def __len__(self) -> int:
        """Return how many bytes `packet_into` writes."""
        return len(self._fields) + self._length

    def packet_into(self, buffer: memoryview) -> int:
        """Assemble the packet, and return its length.

        Raises:
            SFTPError: the file cannot be read, or became shorter.
        """
        start, end = len(self._fields), len(self)
        buffer[:start] = self._fields
        self._source.read_into(buffer[start:end], self._offset)
        return end


Outgoing = bytes | FileWrite


def complete(expected: Expected, reply: Reply | None = None, error: SFTPError | None = None) -> None:
    """Complete what a request expects: with an answer, an error, or neither where a landing has taken all data."""
    if not isinstance(expected, Future):
        expected.finish(reply, error)
        return
    try:
        if error is not None:
            expected.set_exception(error)
        else:
            expected.set_result(reply)  # type: ignore[arg-type] # only a landing is completed with neither
    except InvalidStateError:
        pass  # answered twice, or failed meanwhile: the first outcome stands
