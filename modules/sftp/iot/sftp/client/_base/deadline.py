"""The one clock of a call: everything that waits asks it how long it may."""

from __future__ import annotations

import threading
import time

from iot.sftp.client._base.errors import Cancelled, DeadlineExceeded

FOREVER = float("inf")
LONGEST_WAIT = 1_000_000.0  # seconds; Python's waits take no more than some hundred years
PATIENCE = 5.0  # seconds that are given to the last step of a call that was cancelled
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

    def patient(self) -> Deadline:
        """Return a deadline of the same moment that is cancelled a while later: what is as good as done may end."""
        return _PatientDeadline(self._seconds, self._cancelled, self._moment)

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


class _PatientDeadline(Deadline):
    """One that goes on for `PATIENCE` seconds after it was cancelled."""

    __slots__ = ("_end",)

    def __init__(self, seconds: float, cancelled: threading.Event | None, moment: float) -> None:
        super().__init__(seconds, cancelled)
        self._moment = moment
        self._end: float | None = None  # once it was seen to be cancelled

    def remaining(self) -> float:
        now = time.monotonic()
        if self._end is None and self._cancelled is not None and self._cancelled.is_set():
            self._end = now + PATIENCE
        return max(0.0, min(self._moment, FOREVER if self._end is None else self._end) - now)

    def exceeded(self) -> DeadlineExceeded:
        if self._end is not None:
            return Cancelled("this was cancelled while the server did its last step, and whether it has is not known")
        return super().exceeded()
