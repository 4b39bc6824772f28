"""Exponential backoff with jitter, computed in one place."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def backoff(attempt: int, *, first: float, longest: float, jitter: bool = True) -> float:
    """Return the seconds to wait after a failed attempt: doubled each time, and not the same in two processes.

    Parameters:
        attempt: the number of the attempt that failed, from 1.
        first: seconds after the first one, before the jitter takes up to half of them.
        longest: seconds, at most.
        jitter: take away up to half of it, so that devices that failed together do not come back together.
    """
    pause = min(longest, first * 2.0 ** min(attempt - 1, 30))
    return pause * random.uniform(0.5, 1.0) if jitter else pause  # noqa: S311 - not a secret


@dataclass(frozen=True)
class Backoff:
    """The pauses between attempts, as a value that limits hold.

    Attributes:
        first: seconds after the first failure, before the jitter.
        longest: seconds, at most.
    """

    first: float
    longest: float

    def after(self, failures: int) -> float:
        """Return the seconds to wait after so many failures in a row."""
        return backoff(failures, first=self.first, longest=self.longest)

    def pauses(self) -> Iterator[float]:
        """Give the seconds to wait after the first failure, the second, and so on, without end."""
        return map(self.after, itertools.count(1))
