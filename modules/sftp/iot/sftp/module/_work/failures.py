"""The last failures of calls, tasks, rules and the connection, for whoever asks what went wrong."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

from iot.sftp.client._base.text import excerpt
from iot.sftp.module._base.times import moment
from iot.sftp.module._work.advice import ADVICE

FAILURES_KEPT = 30
TEXT_SHOWN = 300  # characters of what failed, and of why


@dataclass
class _Failure:
    """Something that failed, the last time, and how often it did."""

    message: str
    moment: float
    times: int = 0


class Failures:
    """The last failures, for any number of threads; what fails again and again is there once."""

    def __init__(self, maximum: int = FAILURES_KEPT) -> None:
        """Know of none yet; keep so many."""
        self._maximum = maximum
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], _Failure] = {}  # the oldest first

    def note(self, what: str, code: str, message: str) -> None:
        """Keep a failure.

        Parameters:
            what: failed: a call with its paths, a task, a rule, the connection.
            code: that of an `SFTPError`.
            message: the same for people.
        """
        what, message = (excerpt(text, TEXT_SHOWN) for text in (what, message))
        with self._lock:
            failure = self._kept.pop((what, code), None) or _Failure(message, 0.0)
            failure.message, failure.moment, failure.times = message, time.time(), failure.times + 1
            self._kept[what, code] = failure
            if len(self._kept) > self._maximum:
                del self._kept[next(iter(self._kept))]

    def newest_first(self) -> list[dict[str, Any]]:
        """Return each failure with its time, what failed, why, how often, and what to do about it."""
        with self._lock:
            kept = list(self._kept.items())
        return [
            {
                "time": moment(failure.moment),
                "what": what,
                "code": code,
                "message": failure.message,
                "times": failure.times,
                "advice": ADVICE.get(code),
            }
            for (what, code), failure in reversed(kept)
        ]
