"""A calendar means the moments that a clock on the wall shows, compared with one that is looked at each minute."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from iot.sftp.module._calendar.calendar import NEVER, Calendar
from iot.sftp.module._calendar.wall_clock import WallClock
from iot.sftp.module._calendar.weekly_window import EVERY_DAY, WeeklyWindow

MINUTE, DAY = 60, 86_400  # seconds
STARTS, AHEAD = 5, 8  # days: of the moments, and that the model looks ahead
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",  # puts the clock forward at midnight, and back to midnight
    "America/Nuuk",
    "Australia/Lord_Howe",  # half an hour of summer time
    "Pacific/Apia",  # left out 2011-12-30
    "Asia/Kolkata",
    "Pacific/Kiritimati",
    "Africa/Casablanca",
]
# Some days before each of these something happens to the clock somewhere
BEFORE_CHANGES = [
    datetime(2011, 12, 26, tzinfo=timezone.utc),
    datetime(2026, 3, 6, tzinfo=timezone.utc),
    datetime(2026, 3, 27, tzinfo=timezone.utc),
    datetime(2026, 4, 2, tzinfo=timezone.utc),
    datetime(2026, 10, 1, tzinfo=timezone.utc),
    datetime(2026, 10, 23, tzinfo=timezone.utc),
    datetime(2026, 10, 30, tzinfo=timezone.utc),
    datetime(2026, 7, 1, tzinfo=timezone.utc),
]


@cache
def walls_of(zone: ZoneInfo, begin: datetime) -> list[tuple[int, int, int]]:
    """Return what the clock shows each minute, from two days before on: the date's number, the weekday, the minute."""
    first = int(begin.timestamp()) - 2 * DAY
    walls = (datetime.fromtimestamp(first + number * MINUTE, zone) for number in range((4 + STARTS + AHEAD) * 1440))
    return [(wall.toordinal(), wall.weekday(), wall.hour * 60 + wall.minute) for wall in walls]


class Model:
    """The same by looking at the clock on the wall each minute; nothing of it is shared with the code under test."""

    def __init__(self, zone: ZoneInfo, begin: datetime, window: WeeklyWindow, at: tuple[int, ...] = ()) -> None:
        self.first, self.walls = int(begin.timestamp()) - 2 * DAY, walls_of(zone, begin)
        self.window, self.at = window, at
        self.open = [self._is_open(weekday, minute) for _, weekday, minute in self.walls]

    def _is_open(self, weekday: int, minute: int) -> bool:
        days, start, end = self.window.days, self.window.start, self.window.end
        if start < end:
            return weekday in days and start <= minute < end
        return (weekday in days and minute >= start) or ((weekday + 6) % 7 in days and minute < end)

    def is_open(self, moment: float) -> bool:
        return self.open[int(moment - self.first) // MINUTE]

    def next(self, moment: float, *, is_open: bool) -> float:
        if self.is_open(moment) is is_open:
            return moment
        number = int(moment - self.first) // MINUTE
        return next(
            (self.first + each * MINUTE for each in range(number, len(self.open)) if self.open[each] is is_open), NEVER
        )

    def dues(self, begin: float, end: float) -> list[float]:
        """Return when something is due, by going through the minutes: each date has each time once."""
        found, seen = list[float](), set[tuple[int, int]]()
        for number in range(1, int(end - self.first) // MINUTE):
            before, wall, moment = self.walls[number - 1], self.walls[number], self.first + number * MINUTE
            last, now = (before[0], before[2]), (wall[0], wall[2])
            if now == (last[0], last[1] + 1) and now[1] not in self.at:
                continue
            dates = {before[0], wall[0]}  # what is between them is a day that there is not
            passed = {(date, time) for date in dates for time in self.at if last < (date, time) <= now} - seen
            seen |= passed
            if passed and self.open[number] and begin <= moment < end:
                found.append(moment)
        return found


windows = st.builds(
    WeeklyWindow,
    days=st.just(EVERY_DAY) | st.frozensets(st.integers(0, 6), min_size=1),
    start=st.sampled_from([0, 30, 90, 120, 150, 170, 1320, 1425]) | st.integers(0, 1439),
    end=st.sampled_from([0, 60, 120, 150, 180, 360, 1440]) | st.integers(0, 1440),
).filter(lambda window: window.start != window.end)
zones = st.sampled_from(ZONES).map(ZoneInfo)
begins = st.sampled_from(BEFORE_CHANGES)
afters = st.integers(0, STARTS * DAY) | st.floats(0, STARTS * DAY)
times = st.lists(
    st.sampled_from([0, 30, 120, 150, 1410]) | st.integers(0, 1439), min_size=1, max_size=4, unique=True
).map(lambda at: tuple(sorted(at)))
often = settings(max_examples=40, deadline=None, phases=set(Phase) - {Phase.explain})


@often
@given(zones, begins, windows, afters)
def test_a_window_opens_and_closes_when_the_clock_on_the_wall_says_so(
    zone: ZoneInfo, begin: datetime, window: WeeklyWindow, after: float
) -> None:
    moment = begin.timestamp() + after
    calendar, model = Calendar(WallClock(zone), window), Model(zone, begin, window)
    assert calendar.is_open(moment) is model.is_open(moment)
    for is_open, found in ((True, calendar.opens(moment)), (False, calendar.closes(moment))):
        expected = model.next(moment, is_open=is_open)
        if expected == NEVER:  # the model does not look as far
            assert found > moment + AHEAD * DAY
        else:
            assert found == expected


@often
@given(zones, begins, st.just(WeeklyWindow()) | windows, times, afters)
def test_each_day_each_time_is_due_once(
    zone: ZoneInfo, begin: datetime, window: WeeklyWindow, at: tuple[int, ...], after: float
) -> None:
    first = (begin.timestamp() + after) // MINUTE * MINUTE
    end = first + 3 * DAY
    calendar, model = Calendar(WallClock(zone), window, at), Model(zone, begin, window, at)
    found, due = list[float](), first - 1
    while (due := calendar.next_due(due)) < end:
        found.append(due)
    assert found == model.dues(first, end)
    for each, following in pairwise([*found, end]):
        assert calendar.last_due(each) == calendar.last_due(following - 1) == each
        assert calendar.next_due(each - 0.5) == each


def berlin(*date: int) -> float:
    """Return a moment of the winter in Berlin, or of the summer's first hour after the jump."""
    return datetime(*date, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()  # type: ignore[misc,arg-type]


def in_berlin(window: WeeklyWindow | None = None, at: tuple[int, ...] = ()) -> Calendar:
    return Calendar(WallClock(ZoneInfo("Europe/Berlin")), window or WeeklyWindow(), at)


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    nights = in_berlin(WeeklyWindow(frozenset({4}), 1320, 360))  # Friday, from 22:00 to 06:00
    friday = berlin(2026, 11, 27, 0, 0)
    assert nights.opens(friday) == berlin(2026, 11, 27, 22, 0)
    assert nights.closes(berlin(2026, 11, 27, 23, 0)) == berlin(2026, 11, 28, 6, 0)
    assert nights.opens(berlin(2026, 11, 28, 6, 0)) == berlin(2026, 12, 4, 22, 0)


def test_whole_days_that_follow_each_other_are_one_window() -> None:
    week = in_berlin(WeeklyWindow(frozenset(range(5))))
    assert week.closes(berlin(2026, 11, 23, 12, 0)) == berlin(2026, 11, 28, 0, 0)
    assert week.opens(berlin(2026, 11, 28, 0, 0)) == berlin(2026, 11, 30, 0, 0)


def test_what_is_always_open_never_closes() -> None:
    assert in_berlin().closes(berlin(2026, 3, 1, 0, 0)) == NEVER
    assert in_berlin().opens(berlin(2026, 3, 1, 0, 0)) == berlin(2026, 3, 1, 0, 0)
    assert in_berlin().next_due(0) == NEVER
    assert in_berlin().last_due(0) is None


def test_a_time_that_summer_time_leaves_out_is_due_at_the_jump_and_one_that_comes_twice_is_due_once() -> None:
    calendar = in_berlin(at=(150,))  # 02:30
    jump = berlin(2026, 3, 29, 3, 0)
    assert calendar.next_due(berlin(2026, 3, 28, 12, 0)) == jump
    assert calendar.next_due(jump) == berlin(2026, 3, 30, 2, 30)
    first = berlin(2026, 10, 25, 2, 30)  # fold 0: in summer time
    assert calendar.next_due(berlin(2026, 10, 24, 12, 0)) == first
    assert calendar.next_due(first) == berlin(2026, 10, 26, 2, 30)


def test_a_window_that_summer_time_leaves_out_stays_closed_and_one_that_comes_twice_is_longer() -> None:
    calendar = in_berlin(WeeklyWindow(EVERY_DAY, 120, 180))  # from 02:00 to 03:00
    assert calendar.opens(berlin(2026, 3, 28, 12, 0)) == berlin(2026, 3, 30, 2, 0)
    opens = calendar.opens(berlin(2026, 10, 24, 12, 0))
    assert calendar.closes(opens) - opens == 2 * 3600


def test_a_day_that_there_is_not_has_no_times() -> None:
    calendar = Calendar(WallClock(ZoneInfo("Pacific/Apia")), WeeklyWindow(), (720,))
    noon = datetime(2011, 12, 29, 12, tzinfo=ZoneInfo("Pacific/Apia")).timestamp()
    assert calendar.next_due(noon) == noon + 86_400
    assert datetime.fromtimestamp(noon + 86_400, ZoneInfo("Pacific/Apia")).day == 31


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Pacific/Auckland", "America/Sao_Paulo"])
def test_a_calendar_that_is_never_open_ends_its_search(zone: str) -> None:
    calendar = Calendar(WallClock(ZoneInfo(zone)), WeeklyWindow(EVERY_DAY, 60, 120), (600,))
    assert calendar.next_due(1_795_906_800.0) == NEVER
    assert calendar.last_due(1_795_906_800.0) is None
