"""A time of day on some days of the week, as the clock on the wall shows it."""

from __future__ import annotations

from dataclasses import dataclass

from iot.sftp.module._calendar.wall_clock import DAY, MINUTE

FIRST_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0
MINUTES = DAY // MINUTE  # of a day
EVERY_DAY = frozenset(range(7))


@dataclass(frozen=True)
class WeeklyWindow:
    """From one time of day to another one, on some days. Over midnight, it belongs to the day on which it begins.

    Attributes:
        days: of the week; Monday is 0.
        start: its first minute of the day.
        end: the first minute behind it. If it is not behind `start`, it is one of the next day.
    """

    days: frozenset[int] = EVERY_DAY
    start: int = 0
    end: int = MINUTES

    @property
    def is_always(self) -> bool:
        """Whether it never ends."""
        return self == WeeklyWindow()

    def has(self, minute: int) -> bool:
        """Return whether a minute of the day is in it, on some day."""
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end

    def covers(self, wall: float) -> bool:
        """Return whether it is open when the clock on the wall shows a time."""
        number, second = divmod(wall, DAY)
        minute, day = second // MINUTE, int(number) + FIRST_WEEKDAY
        if self.start < self.end:
            return day % 7 in self.days and self.start <= minute < self.end
        is_evening, is_morning = minute >= self.start, minute < self.end
        return (is_evening and day % 7 in self.days) or (is_morning and (day - 1) % 7 in self.days)
