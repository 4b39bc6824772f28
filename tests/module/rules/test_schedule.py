"""A rule runs when it is due: soon after an event, not during a pause, at once when the server is back."""

from __future__ import annotations

import threading
import time

import pytest

from iot.sftp.module._rules.schedule import NEVER, RuleSchedule

LONG = 100.0  # seconds
SOON = 30.0


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
