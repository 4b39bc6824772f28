"""The one clock of a call: everything that waits asks it how long it may."""

from __future__ import annotations

import time

from iot.sftp.client._errors import DeadlineExceeded

FOREVER = float("inf")


class Deadline:
    """A moment by which a call ends, on the clock that nobody can set."""

    __slots__ = ("_moment", "_seconds")

    def __init__(self, seconds: float | None) -> None:
        """Start now; `None` never ends."""
        self._seconds = FOREVER if seconds is None else seconds
        self._moment = time.monotonic() + self._seconds

    @property
    def limited(self) -> bool:
        """Whether the caller gave a time at all."""
        return self._seconds != FOREVER

    def remaining(self) -> float:
        """Seconds that are left, 0 when there are none, infinity without a limit."""
        return max(0.0, self._moment - time.monotonic())

    def within(self, seconds: float) -> Deadline:
        """Return a deadline for a part of the call: `seconds` from now, or this one if it is sooner."""
        return Deadline(min(seconds, self.remaining()))

    def check(self) -> None:
        """Raise `DeadlineExceeded` once the time has run out."""
        if self.remaining() == 0.0:
            raise self.exceeded()

    def exceeded(self) -> DeadlineExceeded:
        """Return the error that says how long the call had."""
        return DeadlineExceeded(f"this did not end within {self._seconds:.3g} s: give a longer timeout, or try again")
