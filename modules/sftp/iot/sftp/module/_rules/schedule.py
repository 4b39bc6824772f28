"""Decide when a rule runs: after an event of the file system, a period, or a pause; when its calendar lets it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.module._rules.rule_hours import CalendarState

NEVER = float("inf")


class RuleSchedule:
    """When one rule runs next; thread-safe. All moments are in `time.monotonic()`.

    Its own lock protects it, and is held for moments; `wait` calls `report` with it, which must not block.
    """

    def __init__(self, look: Callable[[], CalendarState] | None = None) -> None:
        """Be due at once.

        Parameters:
            look: returns what the calendar says now; called without the lock. `None` for a rule without a calendar.
        """
        self._look = look
        self._begun: float | None = None  # the time of `at` that the last run was made for, or is to be made
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
            if moment < self._due:
                self._due = moment
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
            self._changed.notify_all()

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
        while True:
            seen = None if self._look is None else self._look()
            with self._changed:
                if self._is_stopped:
                    return False
                pause = max(self._due_at(seen), self._not_before) - time.monotonic()
                pause = pause if seen is None else max(pause, seen.closed)
                if pause <= 0:
                    self._due = NEVER
                    return True
                longest = pause if seen is None else min(pause, seen.again)
                report_due = report()
                self._changed.wait(min(longest, max(0.0, report_due - time.monotonic()), threading.TIMEOUT_MAX))

    def _due_at(self, seen: CalendarState | None) -> float:
        """Return when to run, whatever the pause; with times of `at` only for one that is due."""
        if seen is not None and seen.has_times:
            if seen.due is None:
                self._due = NEVER
            elif seen.due != self._begun:
                self._due = 0.0
            self._begun = seen.due
        return self._due
