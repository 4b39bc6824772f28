"""A token bucket: bursts are allowed, the long-term rate is bounded."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class TokenBucket:
    """Allows a burst, and one event per period in the long run; thread-safe."""

    def __init__(self, burst: int, period: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with a full bucket.

        Parameters:
            burst: how many events may follow each other.
            period: seconds after which there is another token.
            clock: returns seconds.
        """
        self._burst = burst
        self._period = period
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens = float(burst)
        self._refilled = clock()

    def wait(self) -> float:
        """Return the seconds until there is a token."""
        with self._lock:
            now = self._clock()
            self._tokens = min(self._burst, self._tokens + (now - self._refilled) / self._period)
            self._refilled = now
            return max(0.0, (1 - self._tokens) * self._period)

    def take(self) -> None:
        """Take a token, whether there is one or not."""
        with self._lock:
            self._tokens -= 1
