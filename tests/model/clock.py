"""The clock of the tests, which can be stepped: the one place where the system's is replaced.

The kernel's clock cannot be set in a test: what reads `time.time` and `time.time_ns` gets the stepped one. Times of
files are the kernel's; a producer of the model stamps what it writes with the stepped clock, as its kernel would.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SECOND = 1_000_000_000  # nanoseconds

_time, _time_ns = time.time, time.time_ns


class Clock:
    """Seconds that this clock is ahead of the system's."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.ahead = ahead

    def time(self) -> float:
        """Replace `time.time`."""
        return _time() + self.ahead

    def time_ns(self) -> int:
        """Replace `time.time_ns`."""
        return _time_ns() + int(self.ahead * SECOND)

    def set_to(self, moment: float) -> None:
        """Step to a moment, in seconds since 1970."""
        self.ahead = moment - _time()

    @contextmanager
    def in_force(self) -> Iterator[Clock]:
        """Be this process's clock."""
        time.time, time.time_ns = self.time, self.time_ns
        try:
            yield self
        finally:
            time.time, time.time_ns = _time, _time_ns
