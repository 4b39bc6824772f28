"""The one clock of a call: everything that waits asks it how long it may."""

from __future__ import annotations

import threading
import time

from iot.sftp.client._errors import Cancelled, DeadlineExceeded

FOREVER = float("inf")
LONGEST_WAIT = 1_000_000.0  # seconds; Python's waits take no more than some hundred years
GLANCE = 0.1  # seconds between two looks at whether the call was cancelled, while it waits for something else


class Interruption(threading.Event):
    """Ends a call when it is set, for good or for now.

    Attributes:
        goes_on: whether what a transfer has moved so far is kept, for a later one to go on with. `False` removes it.
    """

    goes_on = False

    def interrupt(self) -> None:
        """End the call for now."""
        self.goes_on = True
        self.set()


class Deadline:
    """A moment by which a call ends, on the clock that nobody can set; sooner, if its caller cancels it."""

    __slots__ = ("_cancelled", "_moment", "_seconds")

    def __init__(self, seconds: float | None, cancelled: threading.Event | None = None) -> None:
        """Start now; `None` never ends. Setting `cancelled` ends it at once."""
        self._seconds = FOREVER if seconds is None else seconds
        self._moment = time.monotonic() + self._seconds
        self._cancelled = cancelled

    @property
    def limited(self) -> bool:
        """Whether the caller gave a time at all."""
        return self._seconds != FOREVER

    def remaining(self) -> float:
        """Seconds that are left, 0 when there are none, infinity without a limit."""
        if self._cancelled is not None and self._cancelled.is_set():
            return 0.0
        return max(0.0, self._moment - time.monotonic())

    @property
    def keeps(self) -> bool:
        """Whether a transfer that ends before its time leaves what it has moved for a later one."""
        cancelled = self._cancelled
        return cancelled is None or not cancelled.is_set() or bool(getattr(cancelled, "goes_on", False))

    def wait_at_most(self, seconds: float = FOREVER) -> float:
        """Return for how long something else may be waited for before looking at this clock again."""
        longest = min(seconds, self.remaining(), LONGEST_WAIT)
        return longest if self._cancelled is None else min(longest, GLANCE)

    def within(self, seconds: float) -> Deadline:
        """Return a deadline for a part of the call: `seconds` from now, or this one if it is sooner."""
        return Deadline(min(seconds, self.remaining()), self._cancelled)

    def uninterrupted(self) -> Deadline:
        """Return a deadline of the same moment that nobody can cancel: for what must not be left half done."""
        deadline = Deadline(self._seconds)
        deadline._moment = self._moment
        return deadline

    def pause(self, seconds: float) -> None:
        """Do nothing for some seconds, or until the call ends."""
        seconds = min(seconds, self.remaining())
        if self._cancelled is None:
            time.sleep(seconds)
        else:
            self._cancelled.wait(seconds)

    def check(self) -> None:
        """Raise `DeadlineExceeded` once the time has run out, `Cancelled` once the caller has ended the call."""
        if self.remaining() == 0.0:
            raise self.exceeded()

    def exceeded(self) -> DeadlineExceeded:
        """Return the error that says how long the call had."""
        if self._cancelled is not None and self._cancelled.is_set():
            return Cancelled("this was cancelled by its caller")
        return DeadlineExceeded(f"this did not end within {self._seconds:.3g} s: give a longer timeout, or try again")
