"""A rule runs in its window, and once for each of its times: whatever happens to the clock, and while it was off."""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from iot.sftp.client import Interruption, PermissionDenied
from iot.sftp.module._calendar.calendar import NEVER
from iot.sftp.module._documents.rule import Rule, read_rules
from iot.sftp.module._documents.template import Placeholders
from iot.sftp.module._rules.rule_hours import RuleHours
from iot.sftp.module._work.due_times import DueTimes

BERLIN = ZoneInfo("Europe/Berlin")
PERIOD = 60.0
HOUR, DAY = 3600, 86_400
SOON = 60.0  # seconds that only bound a hang


def berlin(*date: int) -> float:
    return datetime(*date, tzinfo=BERLIN).timestamp()  # type: ignore[misc,arg-type]


TODAY = berlin(2026, 11, 23, 0, 0)  # a Monday


def rule_of(**keys: Any) -> Rule:
    rule = {"name": "a", "direction": "upload", "source": "a", "dest": "b"} | keys
    section = read_rules([rule], Placeholders(zone=BERLIN))
    assert section is not None
    assert not section.errors, section.errors
    return section.rules["a"]


class Hours:
    """The hours of a rule on a clock of the test's own."""

    def __init__(self, now: float, due_times: DueTimes | None = None, **keys: Any) -> None:
        self.now, self.keys, self.times = now, keys, due_times or DueTimes()
        self.hours = self.start()

    def start(self) -> RuleHours:
        """Start the module."""
        self.hours = RuleHours(rule_of(**self.keys), lambda: self.now, self.times, PERIOD)
        self.hours.look()
        return self.hours

    def runs_at(self, now: float) -> bool:
        """Have the rule look at the clock, and run if it is due."""
        self.now = now
        seen = self.hours.look()
        if seen.due is None or seen.closed:
            return False
        self.hours.note_done(seen.due)
        return True


def test_a_rule_without_a_calendar_may_always_run() -> None:
    seen = Hours(TODAY).hours.look()
    assert (seen.closed, seen.due, seen.next, seen.again) == (0.0, None, None, NEVER)


def test_a_rule_waits_for_its_window_and_looks_at_the_clock_each_minute() -> None:
    nights = Hours(TODAY + 12 * HOUR, between=["22:00", "06:00"])
    seen = nights.hours.look()
    assert (seen.closed, seen.next, seen.again) == (10 * HOUR, TODAY + 22 * HOUR, PERIOD)
    nights.now = TODAY + 22 * HOUR - 5
    assert nights.hours.look().again == 5
    nights.now = TODAY + 22 * HOUR
    seen = nights.hours.look()
    assert (seen.closed, seen.next) == (0.0, None)


def test_a_time_is_due_once_and_says_when_the_next_one_is() -> None:
    daily = Hours(TODAY, at=["02:00", "14:00"])
    assert daily.hours.last.next == TODAY + 2 * HOUR
    assert not daily.runs_at(TODAY + 2 * HOUR - 1)
    assert daily.runs_at(TODAY + 2 * HOUR)
    assert not daily.runs_at(TODAY + 2 * HOUR)
    assert daily.hours.last.next == TODAY + 14 * HOUR
    assert daily.runs_at(TODAY + 14 * HOUR + 0.5)
    assert not daily.runs_at(TODAY + 26 * HOUR - 1)
    assert daily.runs_at(TODAY + 26 * HOUR)


def test_a_rule_that_is_new_waits_for_its_next_time() -> None:
    assert not Hours(TODAY + 3 * HOUR, at=["02:00"]).runs_at(TODAY + 3 * HOUR)


@pytest.mark.parametrize("late", [1, 5 * HOUR, 23 * HOUR])
@pytest.mark.parametrize("is_restarted", [True, False])
def test_a_time_at_which_the_device_slept_or_was_off_is_made_up_for_once(*, late: float, is_restarted: bool) -> None:
    daily = Hours(TODAY, at=["02:00"])
    assert daily.runs_at(TODAY + 2 * HOUR)
    daily.now = TODAY + 3 * DAY + 2 * HOUR + late  # and two days more
    if is_restarted:
        daily.start()
    assert daily.runs_at(daily.now)
    assert not daily.runs_at(daily.now + 1)


def test_a_time_is_made_up_for_only_as_long_as_its_window_is_open() -> None:
    nights = Hours(TODAY, between=["22:00", "06:00"], at=["23:00"])
    assert nights.runs_at(TODAY + 29 * HOUR)  # at 5
    assert not nights.runs_at(TODAY + DAY + 30 * HOUR)
    assert nights.hours.last.next == TODAY + 2 * DAY + 23 * HOUR
    assert not nights.runs_at(TODAY + 2 * DAY + 22 * HOUR)
    assert nights.runs_at(TODAY + 2 * DAY + 23 * HOUR)


def test_a_run_that_was_not_finished_is_made_after_a_restart() -> None:
    daily = Hours(TODAY, at=["02:00"])
    daily.now = TODAY + 2 * HOUR
    assert daily.hours.look().due == TODAY + 2 * HOUR
    daily.now += 600
    assert daily.start().look().due == TODAY + 2 * HOUR


def test_a_clock_that_is_put_back_does_nothing_twice() -> None:
    daily = Hours(TODAY, at=["02:00"])
    assert daily.runs_at(TODAY + 2 * HOUR + 60)
    assert not daily.runs_at(TODAY + 2 * HOUR - 600)
    assert not daily.runs_at(TODAY + 2 * HOUR)
    assert daily.runs_at(TODAY + 26 * HOUR)


def test_a_clock_that_was_years_ahead_does_not_stop_a_rule_for_years() -> None:
    daily = Hours(TODAY, at=["02:00"])
    assert daily.runs_at(TODAY + 1000 * DAY + 3 * HOUR)
    assert not daily.runs_at(TODAY + 3 * HOUR)
    assert daily.runs_at(TODAY + 26 * HOUR)


def test_a_time_that_comes_twice_is_due_once_and_one_that_is_left_out_at_the_jump() -> None:
    autumn = Hours(berlin(2026, 10, 24, 12, 0), at=["02:30"])
    assert autumn.runs_at(berlin(2026, 10, 25, 2, 30))
    assert not autumn.runs_at(berlin(2026, 10, 25, 2, 30) + HOUR)
    spring = Hours(berlin(2026, 3, 28, 12, 0), at=["02:30"])
    assert spring.runs_at(berlin(2026, 3, 29, 3, 0))


def test_while_the_clock_is_not_set_a_rule_runs_so_that_its_run_tells_why_it_does_nothing() -> None:
    daily = Hours(0.0, at=["02:00"])
    seen = daily.hours.look()
    assert (seen.closed, seen.due, seen.knows_time, seen.next) == (0.0, 0.0, False, None)
    assert Hours(0.0, between=["22:00", "06:00"]).hours.may_run()
    daily.hours.note_done(seen.due)
    assert not daily.runs_at(TODAY + 3 * HOUR)  # it is new now
    assert daily.runs_at(TODAY + 26 * HOUR)


def test_while_another_module_uses_the_state_directory_nothing_is_due(tmp_path: Path) -> None:
    is_free = False

    def guard() -> None:
        if not is_free:
            raise PermissionDenied("it is in use by another module")

    DueTimes(tmp_path).note_done("a", Hours(TODAY, at=["02:00"]).hours._identity, TODAY - 22 * HOUR)
    daily = Hours(TODAY + 3 * HOUR, DueTimes(tmp_path, guard=guard), at=["02:00"])
    assert not daily.runs_at(daily.now)
    is_free = True
    assert daily.runs_at(daily.now)


@settings(max_examples=50, deadline=None, phases=set(Phase) - {Phase.explain})
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["pass", "pass", "pass", "set", "restart"]),
            st.floats(0, 40 * HOUR) | st.sampled_from([1.0, PERIOD, HOUR, DAY]),
        ),
        max_size=30,
    )
)
def test_whatever_happens_each_time_is_done_once_at_most_and_the_last_one_that_has_passed_always(
    events: list[tuple[str, float]],
) -> None:
    daily = Hours(TODAY, at=["02:00", "14:00"])
    done = list[float]()
    latest = TODAY  # that the clock has shown
    for what, seconds in events:
        if what == "restart":
            daily.start()
        else:
            # Clocks are put back by some hours at most here: see the clock that was years ahead
            daily.now += seconds if what == "pass" else -seconds
            daily.now = max(daily.now, latest - 20 * HOUR, TODAY)
        passed = [TODAY + day * DAY + hour * HOUR for day in range(60) for hour in (2, 14)]
        is_new = [time for time in passed if latest < time <= daily.now]
        due = daily.hours.look().due
        if daily.runs_at(daily.now):
            assert due is not None
            done.append(due)
        if is_new:
            assert done[-1] == is_new[-1]
        latest = max(latest, daily.now)
    assert len(done) == len(set(done))


def test_a_run_is_interrupted_when_its_window_ends_and_what_it_has_moved_is_kept() -> None:
    nights = Hours(TODAY + 6 * HOUR - 0.05, between=["22:00", "06:00"])
    looked = threading.Event()

    def clock() -> float:
        if looked.is_set():
            return TODAY + 6 * HOUR
        looked.set()
        return nights.now

    hours = RuleHours(rule_of(**nights.keys), clock, nights.times, 0.01)
    interruption = Interruption()
    with hours.interrupting(interruption):
        assert interruption.wait(SOON)
    assert interruption.goes_on
    with hours.interrupting(Interruption()) as nothing:
        assert nothing is None


def test_a_run_that_ends_before_its_window_is_not_interrupted() -> None:
    interruption = Interruption()
    with Hours(TODAY, between=["22:00", "06:00"]).hours.interrupting(interruption):
        pass
    assert not interruption.is_set()
    with Hours(TODAY, at=["02:00"]).hours.interrupting(interruption):
        assert not [thread for thread in threading.enumerate() if thread.name == "rule-a-window"]
