"""A pipeline of READ or WRITE requests for one file: a window of requests is kept in flight.

One request at a time would make each wait for a round trip. Here the next ones are in flight while answers are awaited,
which may arrive in any order. All bytes before the contiguous offset are proven to be at their
place: from there a transfer is resumed later. `read_pipeline` and `write_pipeline` are the two directions.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import NoSpace, PermissionDenied, SFTPError, TransferIncomplete
from iot.sftp.client._base.messages import REMOTE_DISK_FULL
from iot.sftp.client._files.remote_requests import SAFE_REQUEST
from iot.sftp.client._transfer.rate_limit import RateLimit, TransferWindow

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._base.counts import Counts
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._transfer.file_order import Direction

TICK = 0.1  # seconds between two reports of progress


class SourceChanged(TransferIncomplete):
    """The source changed since its transfer began: another attempt may have all of it."""


class ReceivedRanges:
    """Which ranges of a file have arrived, in whatever order.

    Attributes:
        contiguous: the contiguous offset: all bytes before it have arrived.
    """

    def __init__(self, start: int) -> None:
        """Start with a file whose first `start` bytes are there."""
        self.contiguous = start
        self._behind: dict[int, int] = {}  # start and end of what is behind the first gap

    def add(self, start: int, end: int) -> None:
        """Add a range."""
        self._behind[start] = end
        while (end := self._behind.pop(self.contiguous, 0)) > self.contiguous:
            self.contiguous = end


class Pipeline:
    """What downloads and uploads have in common: bytes in flight, an end, and someone thread that waits for it.

    Answers are taken in paramiko's thread, requests are made and waiting is done in the caller's; `_lock` is between
    them.
    """

    _direction: Direction  # whose limit counts

    def __init__(
        self, remote: RemoteFiles, path: str, limit: RateLimit, counts: Counts, on_progress: Callable[[int], None]
    ) -> None:
        """Move bytes of the remote file `path`, and report the contiguous offset to `on_progress` now and then."""
        self._remote = remote
        self._path = path
        self._limit = limit
        self._counts = counts
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._window = TransferWindow(remote.round_trip, remote.has_short_calls)
        self._ranges = ReceivedRanges(0)
        self._in_flight = 0
        self._failure: SFTPError | None = None
        self._next_report = 0.0

    @property
    def contiguous(self) -> int:
        """How many bytes from the beginning on are at their place."""
        return self._ranges.contiguous

    def _sent(self, count: int) -> None:
        with self._lock:
            self._in_flight += count

    def _answered(self, count: int) -> None:
        """Note an answer, under the lock, and wake the one thread that waits if there is something to do."""
        self._in_flight -= count
        self._window.arrived(count)
        if self._in_flight <= self._window.size * 3 // 4 or self._failure:
            self._wake.set()

    def _request_length(self, largest: int) -> int:
        """Return how many bytes to ask for at a time: a small window is filled by several requests too."""
        return self._limit.largest(min(largest, max(SAFE_REQUEST, self._window.size // 4)), self._direction)

    def _has_room(self, count: int) -> bool:
        """Return whether so many bytes may go: within the window, and within the number of requests of a channel.

        One request is always in flight, whatever others do on the channel: its answer brings the next look.
        """
        fits = self._in_flight + count <= self._window.size
        return fits and (self._in_flight == 0 or self._remote.has_room)

    def _take_turn(self, count: int) -> None:
        """Wait until so many bytes may go. Under a limit this may be where all the time goes."""
        if self._limit.is_limited:
            self._remote.send_gathered()
        self._limit.wait_for_turn(count, self._remote.deadline, self._direction)
        self._report()
        self._raise_failure()

    def _wait(self) -> None:
        """Wait until there is something to do, and report progress meanwhile."""
        if not self._wake.is_set():  # as it is where the last answer of a small file has been waited for
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
            self._on_progress(self.contiguous)

    def _raise_failure(self) -> None:
        if self._failure is None:
            return
        # SFTP version 3 has no status for a full disk: most servers say FAILURE.
        if isinstance(self._failure, PermissionDenied) and self._remote.is_full(self._path):
            raise NoSpace(REMOTE_DISK_FULL, path=self._path)
        reason = self._remote.reason(self._failure)
        raise type(reason)(reason.message, path=reason.path or self._path)
