"""The speed of transfers: the window of bytes in flight, and the rate limit that transfers share."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from iot.sftp.client._transfer.bandwidth import Bandwidth
from iot.sftp.client._transfer.file_order import Direction

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._base.deadline import Deadline

START = 1024 * 1024  # bytes in flight at first
LEAST, MOST = 128 * 1024, 64 * 1024 * 1024  # bytes
QUEUE = 0.1  # seconds: how long what is in flight may wait at the narrowest place of the link
SHORT_QUEUE, SHORTEST = 0.01, 64 * 1024  # seconds and bytes: the same where short calls would wait behind it
SHORTEST_ROUND = 0.02  # seconds over which a rate is measured
GROWTH = 63  # bytes that a window grows by for each that has arrived: the first round may open all of it
FURTHER = 2 * 1024 * 1024  # bytes that it grows by for each further channel: OpenSSH's window of one
STILL_GROWING = 1.25  # by which a round is faster than the best one, while the link is not filled yet
FORGET = 0.98  # of the best rate that is left of it after each round: a link may become slower

BURST = 0.1  # seconds' worth of bytes that a limited transfer may be ahead of its limit
LOOK_PERIOD = 1.0  # seconds between two looks for another limit
UNLIMITED = Bandwidth()


class TransferWindow:
    """How many bytes may be in flight, sized to the link.

    It begins small and grows with what arrives, as long as each round trip brings more than the best one before. From
    then on it is what the link carries in two round trips, and a little for waiting in line: so the link is full, and a
    short request of another call does not wait long behind it. It never grows beyond twice that at the speed at which
    bytes are arriving just now, which TCP may be about to double: that is what keeps a slow link from being flooded.
    """

    def __init__(self, round_trip: float, has_short_calls: Callable[[], bool] = lambda: False) -> None:
        """Begin on a link.

        Parameters:
            round_trip: of the link, in seconds.
            has_short_calls: returns whether other calls are made meanwhile, which wait behind what is in flight.
        """
        self.size = START
        self._has_short_calls = has_short_calls
        self._worth = START  # what has arrived is worth, if the link carries so much
        self._carried_for = 2 * round_trip + QUEUE  # seconds
        self._carried_beside_short_calls_for = 2 * round_trip + SHORT_QUEUE
        self._round = max(round_trip, SHORTEST_ROUND)
        self._since: float | None = None
        self._count = 0
        self._best = 0.0
        self._growing = True

    def grow(self) -> None:
        """Look again for how much the link carries: there is a further channel."""
        self._growing = True
        self._worth = max(self._worth, self.size) + FURTHER

    def arrived(self, count: int) -> None:
        """Record bytes that are not in flight any more."""
        now = time.monotonic()
        self._worth += GROWTH * count
        if self._since is None:
            self._since = now  # answers come in bursts: a round begins behind one
            return
        self._count += count
        elapsed = now - self._since
        if self._growing:
            carried = 2 * self._count * self._carried_for / max(elapsed, 1e-6)
            self.size = max(self.size, int(min(MOST, self._worth, carried)))
        if elapsed < self._round:
            return
        rate = self._count / elapsed
        self._growing = self._growing and rate > self._best * STILL_GROWING
        self._best = max(rate, self._best * FORGET)
        if not self._growing and self._has_short_calls():
            self.size = int(min(MOST, max(SHORTEST, self._best * self._carried_beside_short_calls_for)))
        elif not self._growing:
            self.size = int(min(MOST, max(LEAST, self._best * self._carried_for)))
        self._since, self._count = now, 0


class RateLimit:
    """The bytes per second that all transfers of a session share, or of all sessions that are given it.

    Thread-safe; `bandwidth`, or `bytes_per_second` for both directions together, may be changed at any time.
    """

    def __init__(self) -> None:
        """Start unlimited."""
        self._lock = threading.Lock()
        self._bandwidth = UNLIMITED
        self._free_at = dict[Direction | None, float]()  # when the next byte may go, on the monotonic clock
        self._schedule: Callable[[], Bandwidth] | None = None
        self._next_look = 0.0  # at the schedule

    @property
    def bytes_per_second(self) -> int | None:
        """The limit of both directions together; `None` for none. Setting it removes all other limits."""
        return self._bandwidth.total

    @bytes_per_second.setter
    def bytes_per_second(self, rate: int | None) -> None:
        self.bandwidth = Bandwidth(rate)

    @property
    def bandwidth(self) -> Bandwidth:
        """The limits in force."""
        return self._bandwidth

    @bandwidth.setter
    def bandwidth(self, bandwidth: Bandwidth) -> None:
        with self._lock:
            self._schedule = None
            self._replace(bandwidth)

    def follow(self, schedule: Callable[[], Bandwidth]) -> None:
        """Have limits that change with time: what a function returns, from now on.

        Parameters:
            schedule: asked once a second at most, and only while bytes are moved; must neither block nor raise.
        """
        with self._lock:
            self._schedule = schedule
            self._look(time.monotonic())

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit now."""
        return self._current() is not UNLIMITED

    def largest(self, size: int, direction: Direction | None = None) -> int:
        """Return how many bytes to ask for at a time, where `size` would be asked for without a limit."""
        bandwidth = self._current()
        if bandwidth is UNLIMITED:
            return size
        return min([size, *(max(1, int(rate * BURST / 2)) for rate in bandwidth.of(direction).values())])

    def wait_for_turn(self, count: int, deadline: Deadline, direction: Direction | None = None) -> None:
        """Wait until so many bytes may go. A limit that changes meanwhile counts from then on.

        Raises:
            DeadlineExceeded: the call's time has run out.
        """
        start, bandwidth = self._reserve(count, direction)
        while (wait := start - time.monotonic()) > 0:
            deadline.pause(min(wait, LOOK_PERIOD))
            deadline.check()
            if self._current() is not bandwidth:
                start, bandwidth = self._reserve(count, direction)

    def _reserve(self, count: int, direction: Direction | None) -> tuple[float, Bandwidth]:
        """Take the next turn for so many bytes; return when it is, and the limits that it was taken with."""
        bandwidth = self._current()
        if bandwidth is UNLIMITED:
            return 0.0, bandwidth
        with self._lock:
            bandwidth, now, start = self._bandwidth, time.monotonic(), 0.0
            for key, rate in bandwidth.of(direction).items():
                free_at = max(self._free_at.get(key, 0.0), now - BURST)
                start = max(start, free_at)
                self._free_at[key] = free_at + count / rate
            return start, bandwidth

    def _current(self) -> Bandwidth:
        """Return the limits in force, as the schedule has them now."""
        if self._schedule is not None and (now := time.monotonic()) >= self._next_look:
            with self._lock:
                self._look(now)
        return self._bandwidth

    def _look(self, now: float) -> None:
        """Look at the schedule, with the lock held."""
        if self._schedule is not None:
            self._next_look = now + LOOK_PERIOD
            self._replace(self._schedule())

    def _replace(self, bandwidth: Bandwidth) -> None:
        """Put other limits into force, with the lock held: what was taken of the ones before is given back."""
        if bandwidth != self._bandwidth:
            self._bandwidth, self._free_at = UNLIMITED if bandwidth == UNLIMITED else bandwidth, {}
