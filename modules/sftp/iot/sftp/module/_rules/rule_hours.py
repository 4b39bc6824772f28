"""Compare a rule's calendar with the clock of the device: whether it may run now, and which time of `at` is due."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iot.sftp.client import SFTPError
from iot.sftp.module._calendar.calendar import NEVER
from iot.sftp.module._calendar.wall_clock import DAY
from iot.sftp.module._documents.template_parts import CLOCK_STARTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iot.sftp.client import Interruption
    from iot.sftp.module._calendar.calendar import Calendar
    from iot.sftp.module._documents.rule import Rule
    from iot.sftp.module._work.due_times import DueTimes


@dataclass(frozen=True)
class CalendarState:
    """What the calendar says at a moment.

    Attributes:
        closed: seconds until the rule may run; 0 if it may.
        due: the time of `at` whose run has to be made now; `None` if none has.
        again: seconds until the calendar has to be looked at again, at most.
        next: when the rule runs next, in seconds since 1970, if it waits for its calendar.
        has_times: whether it runs at times of `at` only.
        knows_time: whether the clock is set.
    """

    closed: float = 0.0
    due: float | None = None
    again: float = NEVER
    next: float | None = None
    has_times: bool = False
    knows_time: bool = True


class RuleHours:
    """The calendar of one rule; `interrupting` has a thread of its own, the rest is used by the rule's thread.

    While the clock is not set, the rule may run, and is due: its run reports why nothing is done.

    Attributes:
        has_times: whether the rule runs at times of `at` only.
        last: what was seen last.
    """

    def __init__(self, rule: Rule, clock: Callable[[], float], due_times: DueTimes, period: float) -> None:
        """Take the calendar of a rule.

        Parameters:
            rule: whose.
            clock: the device's, in seconds since 1970.
            due_times: remember which times are done.
            period: seconds between two looks at the clock.
        """
        calendar = self._calendar = rule.calendar
        self._rule = rule.name
        self._clock = clock
        self._due_times = due_times
        self._period = period
        self._identity = "" if calendar is None else _identity_of(calendar)
        self.has_times = calendar is not None and bool(calendar.at)
        self.last = CalendarState()

    def look(self) -> CalendarState:
        """Return what the calendar says now."""
        self.last = self._look()
        return self.last

    def _look(self) -> CalendarState:
        calendar, now = self._calendar, self._clock()
        if calendar is None:
            return CalendarState()
        if now < CLOCK_STARTS:
            due = 0.0 if self.has_times else None
            return CalendarState(due=due, again=self._period, has_times=self.has_times, knows_time=False)
        due = self._due(now)
        opens = calendar.opens(now)
        following = opens
        if self.has_times:
            following = now if due is not None else calendar.next_due(now)
        return CalendarState(
            closed=opens - now,
            due=due,
            again=min(self._period, following - now) if following > now else self._period,
            next=following if now < following < NEVER else None,
            has_times=self.has_times,
        )

    def may_run(self) -> bool:
        """Return whether the rule may run now."""
        calendar, now = self._calendar, self._clock()
        return calendar is None or now < CLOCK_STARTS or calendar.is_open(now)

    def note_done(self, due: float | None) -> None:
        """Note that what is due at a time of `at` is done."""
        if due:
            self._due_times.note_done(self._rule, self._identity, due)

    def _due(self, now: float) -> float | None:
        """Return the last time of `at`, if it is not done yet, and its window still open."""
        calendar = self._calendar
        last = None if calendar is None else calendar.last_due(now)
        if calendar is None or last is None:
            return None
        try:
            done = self._due_times.last_done(self._rule, self._identity)
        except SFTPError:
            return None  # the directory may be free at the next look
        if done is None or done > now + DAY:  # the rule is new, or the clock was wrong by then
            self._due_times.note_done(self._rule, self._identity, last)
            return None
        return last if last > done and calendar.closes(last) > now else None

    @contextmanager
    def interrupting(self, interruption: Interruption) -> Iterator[None]:
        """Interrupt a run when its window ends."""
        if self._calendar is None or self._calendar.window.is_always:
            yield
            return
        ended = threading.Event()
        thread = threading.Thread(
            target=self._interrupt, args=(interruption, ended), name=f"rule-{self._rule}-window", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _interrupt(self, interruption: Interruption, ended: threading.Event) -> None:
        while self.may_run():
            if ended.wait(self._until_close()):
                return
        interruption.interrupt()

    def _until_close(self) -> float:
        """Return the seconds until the window has to be looked at again."""
        assert self._calendar is not None  # noqa: S101 - see `interrupting`
        now = self._clock()
        return self._period if now < CLOCK_STARTS else min(self._period, max(0.0, self._calendar.closes(now) - now))


def _identity_of(calendar: Calendar) -> str:
    """Return what stands for a calendar over restarts: what is done of one says nothing about another one."""
    window = calendar.window
    return json.dumps([str(calendar.clock.zone), sorted(window.days), window.start, window.end, calendar.at])
