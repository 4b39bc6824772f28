"""When something is allowed, and when it is due: pure functions of a moment, in seconds since 1970."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from iot.sftp.module._calendar.wall_clock import DAY, MINUTE, WallClock
from iot.sftp.module._calendar.weekly_window import WeeklyWindow

if TYPE_CHECKING:
    from collections.abc import Iterator

NEVER = float("inf")
HORIZON = 22 * DAY  # seconds: three weeks, as summer time may leave out a window, and a day more


@dataclass(frozen=True)
class Calendar:
    """A window in which something is allowed, and times of day at which it is due; all on the clock of a time zone.

    Attributes:
        clock: of the time zone.
        window: when it is open.
        at: minutes of the day at which something is due, as long as it is open then.
    """

    clock: WallClock = field(default_factory=WallClock)
    window: WeeklyWindow = field(default_factory=WeeklyWindow)
    at: tuple[int, ...] = ()

    def is_open(self, moment: float) -> bool:
        """Return whether the window is open."""
        return self.window.covers(self.clock.shows(moment))

    def opens(self, moment: float) -> float:
        """Return the first moment from this one on at which the window is open; `NEVER` if there is none."""
        return moment if self.is_open(moment) else self._becomes(moment, is_open=True)

    def closes(self, moment: float) -> float:
        """Return the first moment from this one on at which the window is not open; `NEVER` if there is none."""
        return NEVER if self.window.is_always else self._becomes(moment, is_open=False)

    def next_due(self, moment: float) -> float:
        """Return the first time of `at` behind a moment; `NEVER` if there is none.

        A time that comes twice, as the clock is put back, counts once: the first one. A time that the clock jumps over
        is due at the jump.
        """
        if not self.at:
            return NEVER
        first = _day_of(self.clock.shows(moment)) - DAY
        days = range(first, first + int(HORIZON), DAY)
        return next((due for day in days for due in self._due_on(day) if due > moment), NEVER)

    def last_due(self, moment: float) -> float | None:
        """Return the last time of `at` until a moment; `None` if there is none."""
        if not self.at:
            return None
        last = _day_of(self.clock.shows(moment)) + DAY
        days = range(last, last - int(HORIZON), -DAY)
        return next((due for day in days for due in reversed(list(self._due_on(day))) if due <= moment), None)

    def _due_on(self, day: int) -> Iterator[float]:
        """Return the moments of `at` on a day in which the window is open, in order."""
        for minute in self.at:
            due = self.clock.reaches(day + minute * MINUTE)
            if due is not None and self.is_open(due):
                yield due

    def _becomes(self, moment: float, *, is_open: bool) -> float:
        marks = sorted({0, self.window.start, self.window.end})
        for begin, end, offset in self.clock.steady(moment, moment + HORIZON):
            candidates = (
                day + mark * MINUTE - offset
                for day in range(_day_of(begin + offset), int(end + offset) + 1, DAY)
                for mark in marks
            )
            for candidate in (begin, *candidates):
                if begin <= candidate < end and self.window.covers(candidate + offset) is is_open:
                    return candidate
        return NEVER


def _day_of(wall: float) -> int:
    """Return the midnight before a time on the wall."""
    return int(wall // DAY) * DAY
