"""Exponential backoff with jitter, computed in one place."""

from __future__ import annotations

import random


def backoff(attempt: int, *, first: float, longest: float) -> float:
    """Return the seconds to wait after a failed attempt: doubled each time, and never the same in two processes.

    Parameters:
        attempt: the number of the attempt that failed, from 1.
        first: seconds after the first one, before the jitter takes up to half of them.
        longest: seconds, at most.
    """
    jitter = random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
    return min(longest, first * 2.0 ** min(attempt - 1, 30)) * jitter
