"""Keep the last failures of calls, tasks, rules and the connection, for `get_status`."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

from iot.sftp.client._base.text import excerpt
from iot.sftp.module._base.times import rfc3339
from iot.sftp.module._work.advice import ADVICE

FAILURES_KEPT = 30
TEXT_SHOWN = 300  # characters of what failed, and of why


@dataclass
class _Failure:
    """The last failure of one thing for one reason, and how often there was one."""

    message: str
    moment: float
    times: int = 0


class Failures:
    """The last failures, thread-safe; what fails repeatedly is there once."""

    def __init__(self, maximum: int = FAILURES_KEPT) -> None:
        """Begin with none; keep so many."""
        self._maximum = maximum
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], _Failure] = {}  # the oldest first

    def note(self, what: str, code: str, message: str) -> None:
        """Keep a failure.

        Parameters:
            what: what failed: a call with its paths, a task, a rule, the connection.
            code: the code of its `SFTPError`.
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
                "time": rfc3339(failure.moment),
                "what": what,
                "code": code,
                "message": failure.message,
                "times": failure.times,
                "advice": ADVICE.get(code),
            }
            for (what, code), failure in reversed(kept)
        ]
