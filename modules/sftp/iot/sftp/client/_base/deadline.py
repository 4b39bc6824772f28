"""The deadline of a call: everything that waits asks it for how long."""

from __future__ import annotations

import threading
import time

from iot.sftp.client._base.errors import Cancelled, DeadlineExceeded

FOREVER = float("inf")
LONGEST_WAIT = 1_000_000.0  # seconds; Python's waits overflow above some hundred years
PATIENCE = 5.0  # seconds that the last step of a cancelled call may still take
GLANCE = 0.1  # seconds between two checks for a cancellation, while the call waits for something else


class Interruption(threading.Event):
    """An event that ends a call, for good or for now.

    Attributes:
        goes_on: whether what a transfer has moved so far is kept, for a later one to resume. `False` removes it.
    """

    goes_on = False

    def interrupt(self) -> None:
        """End the call for now."""
        self.goes_on = True
        self.set()


class Deadline:
    """The moment by which a call ends, on the monotonic clock; or sooner, if its caller cancels it."""

    __slots__ = ("_cancelled", "_moment", "_seconds")

    def __init__(self, seconds: float | None, cancelled: threading.Event | None = None) -> None:
        """Start the clock; `None` is no time limit. Setting `cancelled` ends the call at once."""
        self._seconds = FOREVER if seconds is None else seconds
        self._moment = time.monotonic() + self._seconds
        self._cancelled = cancelled

    @property
    def limited(self) -> bool:
        """Whether the call has a time limit."""
        return self._seconds != FOREVER

    def remaining(self) -> float:
        """Return the seconds that are left: 0 if there are none, infinity without a time limit."""
        if self._cancelled is not None and self._cancelled.is_set():
            return 0.0
        return max(0.0, self._moment - time.monotonic())

    @property
    def keeps(self) -> bool:
        """Whether a transfer that is cut short leaves what it has moved for a later one to resume."""
        cancelled = self._cancelled
        return cancelled is None or not cancelled.is_set() or bool(getattr(cancelled, "goes_on", False))

    def wait_at_most(self, seconds: float = FOREVER) -> float:
        """Return how long to wait for something else before checking this deadline again."""
        longest = min(seconds, self.remaining(), LONGEST_WAIT)
        return longest if self._cancelled is None else min(longest, GLANCE)

    def within(self, seconds: float) -> Deadline:
        """Return a deadline for a part of the call: `seconds` from now, or this one if it is sooner."""
        return Deadline(min(seconds, self.remaining()), self._cancelled)

    def patient(self) -> Deadline:
        """Return the same deadline with a grace period after a cancellation: a last step that has begun may end."""
        return _PatientDeadline(self._seconds, self._cancelled, self._moment)

    def pause(self, seconds: float) -> None:
        """Sleep for some seconds, or until the call ends."""
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
        """Return the error that names the time limit, or the cancellation."""
        if self._cancelled is not None and self._cancelled.is_set():
            return Cancelled("this was cancelled by its caller")
        return DeadlineExceeded(f"this did not end within {self._seconds:.3g} s: give a longer timeout, or try again")


class _PatientDeadline(Deadline):
    """A deadline with a grace period of `PATIENCE` seconds after a cancellation."""

    __slots__ = ("_end",)

    def __init__(self, seconds: float, cancelled: threading.Event | None, moment: float) -> None:
        super().__init__(seconds, cancelled)
        self._moment = moment
        self._end: float | None = None  # of the grace period, once a cancellation was seen

    def remaining(self) -> float:
        now = time.monotonic()
        if self._end is None and self._cancelled is not None and self._cancelled.is_set():
            self._end = now + PATIENCE
        return max(0.0, min(self._moment, FOREVER if self._end is None else self._end) - now)

    def exceeded(self) -> DeadlineExceeded:
        if self._end is not None:
            return Cancelled("this was cancelled while the server did its last step, and whether it has is not known")
        return super().exceeded()
