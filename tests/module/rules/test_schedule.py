"""A rule runs when it is due: soon after an event, not during a pause, at once when the server is back."""

from __future__ import annotations

import threading
import time

import pytest

from iot.sftp.module._rules.rule_hours import CalendarState
from iot.sftp.module._rules.schedule import NEVER, RuleSchedule

LONG = 100.0  # seconds
SOON = 60.0


def never() -> float:
    """Report nothing."""
    return NEVER


@pytest.fixture
def schedule() -> RuleSchedule:
    """A schedule after its first run."""
    schedule = RuleSchedule()
    assert schedule.wait(never)
    return schedule


def waiting(schedule: RuleSchedule) -> tuple[threading.Thread, list[bool]]:
    """Wait in a thread; return it, and what comes of it."""
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(schedule.wait(never)))
    thread.start()
    return thread, found


def test_the_earliest_moment_counts(schedule: RuleSchedule) -> None:
    started = time.monotonic()
    schedule.run_by(started + LONG)
    schedule.run_by(started + 0.1)
    schedule.run_by(started + LONG)
    assert schedule.wait(never)
    assert 0.1 <= time.monotonic() - started < SOON


@pytest.mark.parametrize("ends", ["wake", "end_pause"])
def test_a_pause_holds_until_it_is_ended(schedule: RuleSchedule, ends: str) -> None:
    schedule.pause(LONG, until_reachable=True)
    thread, found = waiting(schedule)
    schedule.run_by(0.0)
    thread.join(0.1)
    assert thread.is_alive()
    if ends == "wake":
        schedule.wake()
    else:
        schedule.end_pause()
        schedule.run_by(0.0)
    thread.join(SOON)
    assert found == [True]


def test_waking_shortens_no_pause_for_another_reason(schedule: RuleSchedule) -> None:
    schedule.pause(LONG, until_reachable=False)
    schedule.run_by(0.0)
    thread, found = waiting(schedule)
    schedule.wake()
    thread.join(0.1)
    assert thread.is_alive()
    schedule.stop()
    thread.join(SOON)
    assert found == [False]


def test_a_report_that_is_due_meanwhile_is_made(schedule: RuleSchedule) -> None:
    moments = iter([time.monotonic() + 0.05, NEVER])
    reported = threading.Event()

    def report() -> float:
        moment = next(moments, NEVER)
        if moment == NEVER:
            reported.set()
        return moment

    thread = threading.Thread(target=schedule.wait, args=(report,))
    thread.start()
    assert reported.wait(SOON)
    schedule.stop()
    thread.join(SOON)
    assert not thread.is_alive()


# --- with a calendar


class Calendar:
    """What a calendar says, one look after the other; the last one stays."""

    def __init__(self, *looks: CalendarState) -> None:
        self.looks = list(looks)
        self.count = 0

    def __call__(self) -> CalendarState:
        self.count += 1
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


def test_a_rule_waits_until_its_window_opens_whatever_is_due() -> None:
    calendar = Calendar(CalendarState(closed=LONG, again=0.01), CalendarState(closed=LONG, again=0.01), CalendarState())
    schedule = RuleSchedule(calendar)
    schedule.run_by(0.0)
    assert schedule.wait(never)
    assert calendar.count == 3


def test_a_clock_that_is_set_is_noticed_at_the_next_look_though_the_wait_was_long() -> None:
    schedule = RuleSchedule(Calendar(CalendarState(closed=LONG * LONG, again=0.05), CalendarState()))
    thread, found = waiting(schedule)
    thread.join(SOON)
    assert found == [True]


def test_with_times_a_rule_runs_for_each_of_them_and_for_nothing_else() -> None:
    calendar = Calendar(CalendarState(has_times=True, again=0.01), CalendarState(has_times=True, due=5.0))
    schedule = RuleSchedule(calendar)
    schedule.run_by(0.0)
    assert schedule.wait(never)
    assert calendar.count == 2

    calendar.looks = [CalendarState(has_times=True, due=5.0, again=0.01)] * 3 + [CalendarState(has_times=True, due=7.0)]
    assert schedule.wait(never)  # it was not done for the first one, and has the next one
    assert calendar.looks == [CalendarState(has_times=True, due=7.0)]


def test_with_times_a_run_that_goes_on_is_not_begun_again_sooner() -> None:
    schedule = RuleSchedule(Calendar(CalendarState(has_times=True, due=5.0, again=0.01)))
    assert schedule.wait(never)
    started = time.monotonic()
    schedule.run_by(started + 0.2)
    assert schedule.wait(never)
    assert time.monotonic() - started >= 0.2


def test_with_times_what_is_left_when_the_window_ends_waits_for_the_next_time() -> None:
    due, over = CalendarState(has_times=True, due=5.0), CalendarState(has_times=True, again=LONG)
    schedule = RuleSchedule(Calendar(due, over))
    assert schedule.wait(never)
    schedule.run_by(0.0)
    thread, found = waiting(schedule)
    thread.join(0.1)
    assert thread.is_alive()
    schedule.stop()
    thread.join(SOON)
    assert found == [False]
