"""Decide when a rule runs: after an event of the file system, a period, or a pause."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

NEVER = float("inf")


class RuleSchedule:
    """When one rule runs next; thread-safe. All moments are in `time.monotonic()`.

    Its own lock protects it, and is held for moments; `wait` calls `report` with it, which must not block.
    """

    def __init__(self) -> None:
        """Be due at once."""
        self._changed = threading.Condition()
        self._due = 0.0
        self._not_before = 0.0  # the end of a pause after a failure
        self._waits_for_server = False
        self._is_stopped = False

    def is_stopped(self) -> bool:
        """Whether there are no more runs."""
        return self._is_stopped

    def run_by(self, moment: float) -> None:
        """Run at this moment, if not sooner."""
        with self._changed:
            self._due = min(self._due, moment)
            self._changed.notify_all()

    def pause(self, seconds: float, *, until_reachable: bool) -> None:
        """Do not run for so long, or until `wake` if the server could not be reached."""
        with self._changed:
            self._not_before = time.monotonic() + seconds
            self._waits_for_server = until_reachable

    def end_pause(self) -> None:
        """Run whenever it is due."""
        with self._changed:
            self._waits_for_server, self._not_before = False, 0.0

    def wake(self) -> None:
        """Run at once, if the server could not be reached: it may be reachable again."""
        with self._changed:
            if self._waits_for_server:
                self._due = self._not_before = 0.0
                self._changed.notify_all()

    def stop(self) -> None:
        """Have no more runs."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def wait(self, report: Callable[[], float]) -> bool:
        """Wait until the rule is due; return `False` if there are no more runs.

        Parameters:
            report: called now and then; returns the moment at which it has to be called again.
        """
        with self._changed:
            while not self._is_stopped:
                pause = max(self._due, self._not_before) - time.monotonic()
                if pause <= 0:
                    self._due = NEVER
                    return True
                report_due = report()
                self._changed.wait(min(pause, max(0.0, report_due - time.monotonic()), threading.TIMEOUT_MAX))
            return False
