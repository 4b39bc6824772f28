"""Share a number of slots fairly between calls, for which somebody waits, and tasks.

A slot is the right to transfer. Each of the two kinds has a queue: first come, first served. Where both wait, a free
slot goes to the kind that has fewer, and if both have as many, to the kind that did not get the last one. A call that
finds every slot taken by tasks preempts the youngest of them as soon as its time slice is over: the task resumes later,
and the call's caller does not wait for hours.

There is no starvation. A call gets a slot after one time slice. A task gets it back after one call, and its slice
doubles each time that nothing of its last one was kept (see `TimeSlice`): on however slow a link, with however large a
folder to list, a slice is long enough in the end.
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

QUEUE_MAXIMUM = 1_000  # calls that wait for a slot
SLICE = 2.0  # seconds that a task may run before a call preempts it: enough to get further on most links
SLICE_LONGEST = 86_400.0  # seconds


class Kind(Enum):
    """Who asks for a slot."""

    CALL = "call"
    TASK = "task"


class TimeSlice:
    """How long a task runs before it may be preempted: twice as long each time that nothing of its last slice was kept.

    Whether anything was kept shows when the next attempt begins: a transfer that is resumed begins with more bytes than
    the last one did, one that is restarted does not. So nothing needs to be known about what a server can resume.
    """

    def __init__(self, shortest: float) -> None:
        """Begin with the shortest slice."""
        self.seconds = shortest
        self._shortest = shortest
        self._highest = 0  # bytes with which an attempt has begun
        self._first: int | None = None  # bytes that were there when this attempt began
        self._is_further = False

    def note(self, count: int, *, files: int = 0) -> None:
        """Take the progress of the attempt.

        Parameters:
            count: bytes that have arrived.
            files: files of a folder that are finished.
        """
        if self._first is None and count:
            self._first = count
        self._is_further = self._is_further or files > 0

    def interrupt(self) -> None:
        """End an attempt that was interrupted, and compute the next slice."""
        first = self._first or 0
        further = self._is_further or first > self._highest > 0
        self._highest, self._first, self._is_further = max(first, self._highest), None, False
        self.seconds = self._shortest if further else min(SLICE_LONGEST, 2 * self.seconds)


class Turn:
    """A request for a slot: waiting, granted, or released."""

    def __init__(
        self, slots: Slots, kind: Kind, on_turn: Callable[[Turn], None], preempt: Callable[[Turn], None] | None
    ) -> None:
        """Made by `Slots.ask`."""
        self.kind = kind
        self.on_turn = on_turn
        self.preempt = preempt
        self.asked = time.monotonic()
        self.since = 0.0  # when it was granted, in time.monotonic()
        self.slice = slots.time_slice  # seconds until a call may preempt it; set by its task
        self._slots = slots

    @property
    def has_come(self) -> bool:
        """Whether the slot was granted."""
        return self.since > 0

    def withdraw(self) -> bool:
        """Stop waiting; `False` if the slot was granted already, and has to be released by `leave`."""
        return self._slots.withdraw(self)

    def leave(self) -> None:
        """Release the slot; idempotent."""
        self._slots.leave(self)


class Slots:
    """A number of slots, and the queues for them; thread-safe.

    One lock protects everything, and is held for moments. Callbacks are called without it.
    """

    def __init__(self, width: int, *, length: int = QUEUE_MAXIMUM, time_slice: float = SLICE) -> None:
        """Begin with all slots free.

        Parameters:
            width: the number of slots.
            length: the number of calls that may wait; the number of tasks is not limited here.
            time_slice: seconds that a task may run before a call preempts it.
        """
        self._width = width
        self._length = length
        self.time_slice = time_slice
        self._lock = threading.Lock()
        self._waiting: dict[Kind, deque[Turn]] = {kind: deque() for kind in Kind}
        self._taken: dict[Kind, list[Turn]] = {kind: [] for kind in Kind}
        self._last = Kind.TASK
        self._preempted: set[Turn] = set()  # tasks that were asked to release their slots
        self._check_timer: threading.Timer | None = None
        self._check_due = 0.0  # in time.monotonic()

    def widen(self, width: int) -> None:
        """Change the number of slots; those that are granted are kept."""
        self._width = width
        self._grant()

    @property
    def width(self) -> int:
        """The number of slots."""
        return self._width

    @property
    def running(self) -> int:
        """The number of slots that are taken."""
        return sum(len(taken) for taken in self._taken.values())

    def waiting(self, kind: Kind) -> tuple[int, float]:
        """Return how many wait, and for how many seconds the first of them has; takes no lock."""
        waiting = list(self._waiting[kind])
        return len(waiting), max(0.0, time.monotonic() - waiting[0].asked) if waiting else 0.0

    def ask(self, kind: Kind, on_turn: Callable[[Turn], None], preempt: Callable[[Turn], None] | None = None) -> Turn:
        """Ask for a slot without blocking.

        Parameters:
            kind: who asks.
            on_turn: called when the slot is granted, at once or later, from any thread; must not block.
            preempt: called when a call needs the slot: it has to be released soon; must not block. `None` is never
                preempted.

        Raises:
            Busy: too many calls wait already.
        """
        turn = Turn(self, kind, on_turn, preempt)
        with self._lock:
            if kind is Kind.CALL and len(self._waiting[kind]) >= self._length:
                message = f"{self._length} calls are waiting already: try again later"
                raise Busy(message)
            self._waiting[kind].append(turn)
        self._grant()
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
            self._preempted.discard(turn)
            if turn in self._taken[turn.kind]:
                self._taken[turn.kind].remove(turn)
        self._grant()

    def _grant(self) -> None:
        with self._lock:
            come = []
            while self._free() > 0 and (kind := self._next()) is not None:
                turn = self._waiting[kind].popleft()
                turn.since = time.monotonic()
                self._taken[kind].append(turn)
                self._last = kind
                come.append(turn)
            preempted = self._task_to_preempt()
        for turn in come:
            turn.on_turn(turn)
        if preempted is not None and preempted.preempt is not None:
            preempted.preempt(preempted)

    def _free(self) -> int:
        return self._width - sum(len(taken) for taken in self._taken.values())

    def _next(self) -> Kind | None:
        """Return which kind gets the next slot."""
        waiting = [kind for kind in Kind if self._waiting[kind]]
        return min(waiting, key=lambda kind: (len(self._taken[kind]), kind is self._last), default=None)

    def _task_to_preempt(self) -> Turn | None:
        """Choose the task to preempt for a call, if one waits while tasks have every slot."""
        if not self._waiting[Kind.CALL] or self._taken[Kind.CALL] or self._preempted:
            return None
        willing = [turn for turn in self._taken[Kind.TASK] if turn.preempt is not None]
        if not willing:
            return None
        now = time.monotonic()
        ready = [turn for turn in willing if turn.since + turn.slice <= now]
        if not ready:
            self._check_later(min(turn.since + turn.slice for turn in willing) - now)
            return None
        youngest = max(ready, key=lambda turn: turn.since)
        self._preempted.add(youngest)
        return youngest

    def _check_later(self, seconds: float) -> None:
        """Check again in so many seconds whom to preempt, unless a check is due sooner."""
        due = time.monotonic() + seconds
        if self._check_timer is not None:
            if self._check_due <= due:
                return
            self._check_timer.cancel()

        def check() -> None:
            self._check_timer = None
            self._grant()

        timer = threading.Timer(seconds, check)
        timer.daemon = True
        self._check_timer, self._check_due = timer, due
        try:
            timer.start()
        except RuntimeError:  # no thread is left: whoever asks or leaves next checks again
            self._check_timer = None
