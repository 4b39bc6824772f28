"""The speed of transfers: the window of bytes in flight, and the rate limit that transfers share."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iot.sftp.client._base.deadline import Deadline

START = 1024 * 1024  # bytes in flight at first
LEAST, MOST = 128 * 1024, 64 * 1024 * 1024  # bytes
QUEUE = 0.1  # seconds: how long what is in flight may wait at the narrowest place of the link
SHORTEST_ROUND = 0.02  # seconds over which a rate is measured
STILL_GROWING = 1.25  # by which a round is faster than the best one, while the link is not filled yet
FORGET = 0.98  # of the best rate that is left of it after each round: a link may become slower

BURST = 0.1  # seconds' worth of bytes that a limited transfer may be ahead of its limit


class TransferWindow:
    """How many bytes may be in flight, sized to the link.

    It begins small and grows by three bytes for each one that arrives, as long as each round trip brings more than the
    best one before. From then on it is what the link carries in two round trips, and a little for waiting in line: so
    the link is full, and a short request of another call does not wait long behind it.
    """

    def __init__(self, round_trip: float) -> None:
        """Begin on a link with this round trip in seconds."""
        self.size = START
        self._round_trip = round_trip
        self._round = max(round_trip, SHORTEST_ROUND)
        self._since: float | None = None
        self._count = 0
        self._best = 0.0
        self._growing = True

    def grow(self) -> None:
        """Look again for how much the link carries: there is a further channel."""
        self._growing = True

    def arrived(self, count: int) -> None:
        """Record bytes that are not in flight any more."""
        now = time.monotonic()
        if self._growing:
            self.size = min(MOST, self.size + 3 * count)
        if self._since is None:
            self._since = now  # answers come in bursts: a round begins behind one
            return
        self._count += count
        elapsed = now - self._since
        if elapsed < self._round:
            return
        rate = self._count / elapsed
        self._growing = self._growing and rate > self._best * STILL_GROWING
        self._best = max(rate, self._best * FORGET)
        if not self._growing:
            self.size = int(min(MOST, max(LEAST, self._best * (2 * self._round_trip + QUEUE))))
        self._since, self._count = now, 0


class RateLimit:
    """A number of bytes per second that all transfers of a session share, or of all sessions that are given it.

    Thread-safe; `bytes_per_second` may be changed at any time.
    """

    def __init__(self) -> None:
        """Start unlimited."""
        self._lock = threading.Lock()
        self._rate: int | None = None
        self._free_at = 0.0  # when the next byte may go, on the monotonic clock

    @property
    def bytes_per_second(self) -> int | None:
        """The limit; `None` for none."""
        return self._rate

    @bytes_per_second.setter
    def bytes_per_second(self, rate: int | None) -> None:
        if rate is not None and (type(rate) is not int or rate < 1):
            message = f"a limit is a whole number of bytes per second, at least 1, or None, not {rate!r}"
            raise ValueError(message)
        with self._lock:
            self._rate, self._free_at = rate, 0.0

    def largest(self, size: int) -> int:
        """Return how many bytes to ask for at a time, where `size` would be asked for without a limit."""
        rate = self._rate
        return size if rate is None else min(size, max(1, int(rate * BURST / 2)))

    def wait_for_turn(self, count: int, deadline: Deadline) -> None:
        """Wait until so many bytes may go.

        Raises:
            DeadlineExceeded: the call's time has run out.
        """
        with self._lock:
            if self._rate is None:
                return
            now = time.monotonic()
            start = max(self._free_at, now - BURST)
            self._free_at = start + count / self._rate
        while (wait := start - time.monotonic()) > 0 and self._rate is not None:
            deadline.pause(wait)
            deadline.check()
