"""The clock on the wall: which time of day it is at a moment, and at which moment it shows a time of day.

A moment is a number of seconds since 1970. The time on the wall is counted in the same way, as if it were UTC: seconds
since 1970 that jump where the time zone changes its offset.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timezone, tzinfo
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MINUTE, DAY = 60, 86_400  # seconds
STEP = DAY // 4  # seconds in which no time zone changes its offset twice


@dataclass(frozen=True)
class WallClock:
    """The clock on the wall of a time zone."""

    zone: tzinfo = timezone.utc

    def offset(self, moment: float) -> int:
        """Return the seconds that it is ahead of UTC."""
        offset = datetime.fromtimestamp(moment, self.zone).utcoffset()
        return 0 if offset is None else int(offset.total_seconds())

    def shows(self, moment: float) -> float:
        """Return the time on the wall."""
        return moment + self.offset(moment)

    def reaches(self, wall: int) -> int | None:
        """Return the first moment at which it shows a time, or a later one where it jumps over it.

        Where the clock is put back, the time comes twice: the first one counts. `None` if there is no such day: a time
        zone that moves over the date line leaves one out.
        """
        naive = datetime.fromtimestamp(wall, timezone.utc).replace(tzinfo=self.zone)
        early, late = (int(naive.replace(fold=fold).timestamp()) for fold in (1, 0))
        if late + self.offset(late) == wall:
            return late
        jump = self._change_between(early, late)  # PEP 495: a time that is missing has the earlier moment with fold 1
        day = wall - wall % DAY
        is_whole_day = jump + self.offset(jump - 1) <= day and jump + self.offset(jump) >= day + DAY
        return None if is_whole_day else jump

    def steady(self, begin: float, end: float) -> Iterator[tuple[float, float, int]]:
        """Return the parts of a span, each with one offset: their begin, end and offset."""
        offset = self.offset(begin)
        while begin < end:
            following = min(end, begin + STEP)
            after = self.offset(following)
            if after != offset:
                following = self._change_between(math.floor(begin), math.ceil(following))
                after = self.offset(following)
            yield begin, following, offset
            begin, offset = following, after

    def _change_between(self, before: int, after: int) -> int:
        """Return the first second with another offset."""
        offset = self.offset(before)
        while after - before > 1:
            middle = (before + after) // 2
            if self.offset(middle) == offset:
                before = middle
            else:
                after = middle
        return after
