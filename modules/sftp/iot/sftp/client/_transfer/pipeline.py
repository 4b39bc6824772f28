"""Moving a file's bytes: a window of READ or WRITE requests is kept in flight.

One request at a time would make each wait for a round trip. Here the next ones are on their way while answers are
awaited, which may come in any order. What is proven to be at its place is the part before the first hole: so much can
be built on when a transfer goes on later. Section numbers are those of draft-ietf-secsh-filexfer-02.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from iot.sftp.client._base.counts import Counts
from iot.sftp.client._base.errors import (
    ConnectionLost,
    EndOfFile,
    NoSpace,
    PermissionDenied,
    SFTPError,
    TransferIncomplete,
)
from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._files.remote_files import SAFE_REQUEST
from iot.sftp.client._ssh.channel import Source
from iot.sftp.client._ssh.packets import Kind, string
from iot.sftp.client._transfer.rate_limit import Limit, Window

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._ssh.channel import Reply

# What one of several lanes is given at most: what a channel of OpenSSH carries in one and a half round trips. More
# would wait there while other lanes have nothing to do.
OF_A_LANE = 3 * 1024 * 1024
TICK = 0.1  # seconds between two reports of progress
READ_AHEAD = 8 * 1024 * 1024  # bytes, at most, that are asked for behind what is there of a file of unknown size


class SourceChanged(TransferIncomplete):
    """The source is not what it was when its transfer began: another try may have it whole."""


class Pieces:
    """What has arrived of a file, in whatever order."""

    def __init__(self, start: int) -> None:
        """Begin with a file whose first `start` bytes are there."""
        self.whole = start  # bytes from the beginning on, without a hole
        self._behind: dict[int, int] = {}  # start and end of what is behind a hole

    def add(self, start: int, end: int) -> None:
        """Take note of a piece."""
        self._behind[start] = end
        while (end := self._behind.pop(self.whole, 0)) > self.whole:
            self.whole = end


class Work:
    """What downloads and uploads have in common: bytes in flight, an end, and someone who waits for it.

    Answers are taken in paramiko's thread, requests are made and waiting is done in the caller's; `_lock` is between
    them.
    """

    def __init__(
        self, remote: RemoteFiles, path: str, limit: Limit, counts: Counts, on_progress: Callable[[int], None]
    ) -> None:
        """Move bytes of the remote file `path`, and tell `on_progress` how many are at their place, now and then."""
        self._remote = remote
        self._path = path
        self._limit = limit
        self._counts = counts
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._window = Window(remote.round_trip)
        self._pieces = Pieces(0)
        self._in_flight = 0
        self._failure: SFTPError | None = None
        self._next_report = 0.0

    @property
    def whole(self) -> int:
        """How many bytes from the beginning on are at their place."""
        return self._pieces.whole

    def _sent(self, count: int) -> None:
        with self._lock:
            self._in_flight += count

    def _answered(self, count: int) -> None:
        """Take note of an answer, under the lock, and wake the one who waits if there is something to do."""
        self._in_flight -= count
        self._window.arrived(count)
        if self._in_flight <= self._window.size * 3 // 4 or self._failure:
            self._wake.set()

    def _request_length(self, largest: int) -> int:
        """Return how many bytes to ask for at a time: a small window is filled by several requests too."""
        return self._limit.largest(min(largest, max(SAFE_REQUEST, self._window.size // 4)))

    def _has_room(self, count: int) -> bool:
        """Tell whether so many bytes may go: within the window, and within the number of requests of a channel.

        One request is always in flight, whatever others do on the channel: its answer brings the next look.
        """
        fits = self._in_flight + count <= self._window.size
        return fits and (self._in_flight == 0 or self._remote.has_room)

    def _take_turn(self, count: int) -> None:
        """Wait until so many bytes may go. Under a limit this may be where all the time goes."""
        self._limit.wait_for_turn(count, self._remote.deadline)
        self._report()
        self._raise_failure()

    def _wait(self) -> None:
        """Wait until there is something to do, and report progress meanwhile."""
        self._remote.wait_until(self._ready)
        self._wake.clear()
        self._report()
        self._raise_failure()

    def _ready(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            if self._wake.wait(max(0.0, min(TICK, left))):
                return True
            self._report()
            if left <= 0:
                return False

    def _report(self) -> None:
        now = time.monotonic()
        if now >= self._next_report:
            self._next_report = now + TICK
            self._on_progress(self.whole)

    def _raise_failure(self) -> None:
        if self._failure is None:
            return
        # SFTP version 3 has no status for a full disk: most servers say FAILURE.
        if isinstance(self._failure, PermissionDenied) and self._remote.is_full(self._path):
            message = "the server's disk is full"
            raise NoSpace(message, path=self._path)
        reason = self._remote.reason(self._failure)
        raise type(reason)(reason.message, path=reason.path or self._path)


class Download(Work):
    """Reads a remote file into a local one."""

    def __init__(
        self,
        remote: RemoteFiles,
        handle: bytes,
        path: str,
        descriptor: int,
        *,
        limit: Limit,
        counts: Counts,
        on_progress: Callable[[int], None],
    ) -> None:
        """Read the open file `handle` (`path` is for messages) into `descriptor`."""
        super().__init__(remote, path, limit, counts, on_progress)
        self._handle = handle
        self._descriptor = descriptor
        self._request_size = remote.request_sizes()[0]
        self._again: list[tuple[int, int]] = []  # what short answers have left out
        self._next = self._size = 0
        self._size_is_known = True
        self._probing = False
        self._end: int | None = None  # where the server has said that the file ends
        self._over = False
        self.after: Future[Reply] | None = None

    def run(self, start: int, size: int | None) -> int:
        """Read to the end of the file and return where that is.

        Parameters:
            start: what is there already.
            size: what the server says that the file has, if it does. So much is asked for, and one request more,
                which has to meet the end of the file. Where the server keeps the order of requests, the question of
                the file's attributes goes with that one: the future `after`.

        Raises:
            SourceChanged: there is more than that. A server that goes on and on must not fill the disk.
        """
        self._pieces = Pieces(start)
        self._size_is_known = size is not None
        self._next, self._size = start, max(start, size or 0)
        try:
            while not self._done():
                self._ask()
                self._wait()
            self._raise_failure()  # of the last answers
        finally:
            with self._lock:
                self._over = True  # late answers are not written: the descriptor is not ours any more
        return self.whole

    def _done(self) -> bool:
        with self._lock:
            return self._end is not None and not self._in_flight and not self._again

    def _ask(self) -> None:
        while (piece := self._next_piece()) is not None:
            offset, length = piece
            self._take_turn(length)
            self._sent(length)
            is_last = offset >= self._size and self._size_is_known and self._remote.traits.keeps_order
            self._remote.read(self._handle, offset, length, _Piece(self, offset, length))
            # What the rest of a short answer is read after is not what it is by then: that is asked anew.
            self.after = self._remote.send(Kind.FSTAT, string(self._handle)) if is_last else None

    def _next_piece(self) -> tuple[int, int] | None:
        """Return offset and length of what to ask for next, if there is room for it in the window."""
        largest = self._request_length(self._request_size)
        with self._lock:
            if self._again:
                return self._again.pop()
            if self._end is not None or self._probing:
                return None
            length = min(largest, self._size - self._next) or largest
            if not self._has_room(length):
                return None
            offset = self._next
            self._probing = offset >= self._size
            self._next += length
            return offset, length

    def store(self, data: memoryview, offset: int) -> None:
        """Write what has arrived to its place, in paramiko's thread."""
        with self._lock:
            if self._over or self._failure is not None:
                return
            try:
                while data:
                    written = os.pwrite(self._descriptor, data, offset)
                    data, offset = data[written:], offset + written
            except OSError as error:
                self._failure = from_os_error(error)

    def landed(self, piece: _Piece, reply: Reply | None, error: SFTPError | None) -> None:
        """Take note of what has become of a request, in paramiko's thread."""
        with self._lock:
            if error is not None:
                self._failure = self._failure or error
            elif reply is not None:
                self._meet_end_or_refusal(piece, reply)
            elif not self._over and self._failure is None:  # otherwise it was not stored
                self._pieces.add(piece.offset, piece.offset + piece.got)
                self._counts.add(downloaded=piece.got)
                if not piece.got:
                    self._meet_end(piece)
                elif piece.offset >= self._size:
                    self._go_behind_the_end(piece)
                elif piece.got < piece.wanted:
                    # A short answer is not the end of the file (section 6.4): its rest is asked for.
                    self._again.append((piece.offset + piece.got, piece.wanted - piece.got))
            self._answered(piece.wanted)
            if self._again or not self._in_flight:
                self._wake.set()

    def _go_behind_the_end(self, piece: _Piece) -> None:
        if self._size_is_known:
            message = f"the server said that the file has {self._size} bytes, and gives more: it was written meanwhile"
            self._failure = self._failure or SourceChanged(message)
        self._next = piece.offset + piece.got
        self._size = self._next + min(self._next, READ_AHEAD)
        self._probing = False
        self._wake.set()

    def answered_wrongly(self, error: SFTPError) -> None:
        """End the download, in paramiko's thread."""
        with self._lock:
            self._failure = self._failure or error
            self._wake.set()

    def _meet_end_or_refusal(self, piece: _Piece, reply: Reply) -> None:
        try:
            if reply.kind == Kind.STATUS and self.may_end_at(piece.offset):
                self._remote.accept(reply, self._path)  # OK is no refusal
                self._meet_end(piece)
                return
            self._remote.accept(reply, self._path, Kind.DATA)
            message = "the server's answer to a READ is not SFTP: its lengths contradict each other"
            raise ConnectionLost(message)
        except EndOfFile:
            self._meet_end(piece)
        except SFTPError as error:
            self._failure = self._failure or error

    def may_end_at(self, offset: int) -> bool:
        """Tell whether the file is known to end there: then nothing, or OK, says it as well as EOF does."""
        return self._size_is_known and offset >= self._size

    def _meet_end(self, piece: _Piece) -> None:
        self._end = piece.offset if self._end is None else min(self._end, piece.offset)
        self._again = [(offset, length) for offset, length in self._again if offset < self._end]


class _Piece:
    """The landing of one READ."""

    __slots__ = ("_download", "got", "offset", "wanted")

    def __init__(self, download: Download, offset: int, wanted: int) -> None:
        self._download = download
        self.offset = offset
        self.wanted = wanted
        self.got = 0

    def announce(self, size: int) -> None:
        """Take note of how much there is."""
        is_end = size == 0 and self._download.may_end_at(self.offset)
        if not is_end and not 0 < size <= self.wanted:
            message = f"the server answered a READ of {self.wanted} bytes with {size}"
            self._download.answered_wrongly(TransferIncomplete(message))

    def take(self, data: memoryview) -> None:
        """Store a part of it."""
        self._download.store(data, self.offset + self.got)
        self.got += len(data)

    def finish(self, reply: Reply | None, error: SFTPError | None) -> None:
        """End."""
        self._download.landed(self, reply, error)


@dataclass
class Lane:
    """A way for one file's bytes: a handle of the file, over a channel of its own."""

    remote: RemoteFiles
    handle: bytes
    in_flight: int = 0


class Upload(Work):
    """Writes a local file into a remote one, over one lane or several."""

    def __init__(
        self,
        remote: RemoteFiles,
        handle: bytes,
        path: str,
        descriptor: int,
        *,
        limit: Limit,
        counts: Counts,
        on_progress: Callable[[int], None],
    ) -> None:
        """Write `descriptor` into the open file `handle` (`path` is for messages)."""
        super().__init__(remote, path, limit, counts, on_progress)
        self._lanes = [Lane(remote, handle)]
        self._source = Source(descriptor)
        self.several = False  # whether further lanes are there or to come
        self._request_size = remote.request_sizes()[1]

    def add_lane(self, lane: Lane) -> None:
        """Use a further way from now on."""
        with self._lock:
            self._lanes.append(lane)
            self._window.grow()
            self._wake.set()

    def send(self, start: int, size: int) -> None:
        """Send all that there is room for, and return when the last request is on its way.

        Parameters:
            start: what is there already.
            size: of the local file.
        """
        self._pieces = Pieces(start)
        offset = start
        while offset < size:
            length = min(self._request_length(self._request_size), size - offset)
            lane = self._free_lane(length)
            if lane is None:
                self._wait()
                continue
            self._take_turn(length)
            self._sent(length)
            future = lane.remote.write(lane.handle, offset, length, self._source)
            future.add_done_callback(partial(self._acknowledged, lane, offset, length))
            offset += length

    def finish(self) -> int:
        """Wait until the server has taken everything, and return how much that is."""
        while self._in_flight:
            self._wait()
        self._raise_failure()
        return self.whole

    def stop(self) -> None:
        """Read the local file no more: requests that were not sent yet fail by themselves when their turn comes."""
        self._source.end()

    def _free_lane(self, length: int) -> Lane | None:
        with self._lock:
            lane = min(self._lanes, key=_in_flight)
            if not self._has_room(length) or (self.several and lane.in_flight + length > OF_A_LANE):
                return None
            lane.in_flight += length
            return lane

    def _acknowledged(self, lane: Lane, offset: int, length: int, future: Future[Reply]) -> None:
        error = future.exception()
        with self._lock:
            lane.in_flight -= length
            if self.several:
                self._wake.set()  # this lane has room, whatever the others have
            if isinstance(error, SFTPError):
                self._failure = self._failure or error
            else:
                self._accept(future.result(), offset, length)
            self._answered(length)
            if not self._in_flight:
                self._wake.set()

    def _accept(self, reply: Reply, offset: int, length: int) -> None:
        try:
            self._remote.accept(reply, self._path)
        except SFTPError as error:
            self._failure = self._failure or error
        else:
            self._pieces.add(offset, offset + length)
            self._counts.add(uploaded=length)


def _in_flight(lane: Lane) -> int:
    return lane.in_flight
