"""Slots: so many transfers at a time, and calls that somebody waits for share the slots fairly with tasks.

Within each of the two, whoever came first is first. Where both wait, a free slot goes to the one that has fewer, and if
both have as many, to the one whose turn it was not last. A call that finds every slot taken by tasks interrupts the
youngest of them once its time slice is over: a task goes on later from where it was, a call's caller does not wait for
hours.

There is no starvation either way. A call gets the slot after one slice. A task gets it back after one call, and its
slice doubles each time that it kept nothing of what it did in the last one (see `TimeSlice`): on however slow a link,
with however large a folder to list, a slice is long enough in the end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

from iot.sftp.client import Busy

if TYPE_CHECKING:
    from collections.abc import Callable

QUEUE_MAXIMUM = 1_000  # calls that wait for their turn
SLICE = 2.0  # seconds that a task may run before it has to make way: enough to get further on most links
SLICE_LONGEST = 86_400.0  # seconds


class Kind(Enum):
    """Who asks for a place."""

    CALL = "call"
    TASK = "task"


class TimeSlice:
    """How long a task runs before it is interrupted: twice as long each time that it kept nothing of its last slice.

    Whether anything was kept shows when the next try begins: a transfer that is resumed begins with more bytes than it
    did before, one that is begun anew does not. So nothing needs to be known about what a server can resume.
    """

    def __init__(self, shortest: float) -> None:
        """Begin with the shortest slice."""
        self.seconds = shortest
        self._shortest = shortest
        self._highest = 0  # bytes with which a try has begun
        self._first: int | None = None  # bytes that were there when this try began
        self._is_further = False

    def note(self, count: int, *, files: int = 0) -> None:
        """Take how far the try is.

        Parameters:
            count: bytes that are there.
            files: of a folder: those that are done for good.
        """
        if self._first is None and count:
            self._first = count
        self._is_further = self._is_further or files > 0

    def interrupt(self) -> None:
        """End the try, which was interrupted, and measure the next slice."""
        first = self._first or 0
        further = self._is_further or first > self._highest > 0
        self._highest, self._first, self._is_further = max(first, self._highest), None, False
        self.seconds = self._shortest if further else min(SLICE_LONGEST, 2 * self.seconds)


class Turn:
    """A place that was asked for: waiting, taken, or given back."""

    def __init__(
        self, slots: Slots, kind: Kind, on_turn: Callable[[Turn], None], make_way: Callable[[Turn], None] | None
    ) -> None:
        """Made by `Slots.ask`."""
        self.kind = kind
        self.on_turn = on_turn
        self.make_way = make_way
        self.asked = time.monotonic()
        self.since = 0.0  # when it was taken, in time.monotonic()
        self.slice = slots.time_slice  # seconds that it may be kept while others wait; to be set by its task
        self._slots = slots

    @property
    def has_come(self) -> bool:
        """Whether the place is taken."""
        return self.since > 0

    def withdraw(self) -> bool:
        """Wait no more; `False` if the turn has come already, and is to be given back by `leave`."""
        return self._slots.withdraw(self)

    def leave(self) -> None:
        """Give the place back; safe to repeat."""
        self._slots.leave(self)


class Slots:
    """So many places; for any number of threads."""

    def __init__(self, width: int, *, length: int = QUEUE_MAXIMUM, time_slice: float = SLICE) -> None:
        """Have all places free.

        Parameters:
            width: how many places there are.
            length: how many calls may wait. How many tasks may, is not decided here.
            time_slice: seconds that a task may run before it has to make way for a call.
        """
        self._width = width
        self._length = length
        self.time_slice = time_slice
        self._lock = threading.Lock()
        self._waiting: dict[Kind, deque[Turn]] = {kind: deque() for kind in Kind}
        self._taken: dict[Kind, list[Turn]] = {kind: [] for kind in Kind}
        self._last = Kind.TASK
        self._asked: set[Turn] = set()  # tasks that are making way
        self._look_again: threading.Timer | None = None
        self._look_due = 0.0  # in time.monotonic()

    def widen(self, width: int) -> None:
        """Have another number of places from now on; who has one keeps it."""
        self._width = width
        self._let_in()

    @property
    def width(self) -> int:
        """How many places there are."""
        return self._width

    @property
    def running(self) -> int:
        """How many places are taken."""
        return sum(len(taken) for taken in self._taken.values())

    def waiting(self, kind: Kind) -> tuple[int, float]:
        """Return how many wait, and the seconds for which the first of them has; waits for no lock."""
        waiting = list(self._waiting[kind])
        return len(waiting), max(0.0, time.monotonic() - waiting[0].asked) if waiting else 0.0

    def ask(self, kind: Kind, on_turn: Callable[[Turn], None], make_way: Callable[[Turn], None] | None = None) -> Turn:
        """Wait for a place without blocking.

        Parameters:
            kind: who asks.
            on_turn: told when the turn has come, at once or later, from any thread; must not block.
            make_way: asked to leave soon, as a call waits; must not block. `None` never makes way.

        Raises:
            Busy: too many calls wait already.
        """
        turn = Turn(self, kind, on_turn, make_way)
        with self._lock:
            if kind is Kind.CALL and len(self._waiting[kind]) >= self._length:
                message = f"{self._length} calls are waiting already: try again later"
                raise Busy(message)
            self._waiting[kind].append(turn)
        self._let_in()
        return turn

    def withdraw(self, turn: Turn) -> bool:
        """See `Turn.withdraw`."""
        with self._lock:
            if turn not in self._waiting[turn.kind]:
                return False
            self._waiting[turn.kind].remove(turn)
            return True

    def leave(self, turn: Turn) -> None:
        """See `Turn.leave`."""
        with self._lock:
            self._asked.discard(turn)
            if turn in self._taken[turn.kind]:
                self._taken[turn.kind].remove(turn)
        self._let_in()

    def _let_in(self) -> None:
        with self._lock:
            come = []
            while self._free() > 0 and (kind := self._next()) is not None:
                turn = self._waiting[kind].popleft()
                turn.since = time.monotonic()
                self._taken[kind].append(turn)
                self._last = kind
                come.append(turn)
            yielding = self._who_makes_way()
        for turn in come:
            turn.on_turn(turn)
        if yielding is not None and yielding.make_way is not None:
            yielding.make_way(yielding)

    def _free(self) -> int:
        return self._width - sum(len(taken) for taken in self._taken.values())

    def _next(self) -> Kind | None:
        """Say whose turn it is."""
        waiting = [kind for kind in Kind if self._waiting[kind]]
        return min(waiting, key=lambda kind: (len(self._taken[kind]), kind is self._last), default=None)

    def _who_makes_way(self) -> Turn | None:
        """Choose a task that has to make way for a call that waits, if it does while tasks have every place."""
        if not self._waiting[Kind.CALL] or self._taken[Kind.CALL] or self._asked:
            return None
        willing = [turn for turn in self._taken[Kind.TASK] if turn.make_way is not None]
        if not willing:
            return None
        now = time.monotonic()
        ready = [turn for turn in willing if turn.since + turn.slice <= now]
        if not ready:
            self._look_later(min(turn.since + turn.slice for turn in willing) - now)
            return None
        youngest = max(ready, key=lambda turn: turn.since)
        self._asked.add(youngest)
        return youngest

    def _look_later(self, seconds: float) -> None:
        """Look again whether somebody has to make way, in a while, or sooner if that was asked for before."""
        due = time.monotonic() + seconds
        if self._look_again is not None:
            if self._look_due <= due:
                return
            self._look_again.cancel()

        def look() -> None:
            self._look_again = None
            self._let_in()

        self._look_due = due
        self._look_again = threading.Timer(seconds, look)
        self._look_again.daemon = True
        self._look_again.start()
