"""Reported properties: only differences, rarely, and right in the end whatever is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from iot.sftp.module._hub.merge_patch import merged
from iot.sftp.module._hub.reported import Reporter, steady

GATHERING = 0.05  # seconds


class RecordingHub:
    """Stands at the far end: keeps what it gets, and fails as often as it is told."""

    def __init__(self) -> None:
        self.patches: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.failures = 0
        self.loses_answers = 0
        self.reported: dict[str, Any] = {}
        self.arrived = asyncio.Event()

    async def send(self, patch: dict[str, Any]) -> None:
        self.times.append(asyncio.get_running_loop().time())
        self.patches.append(patch)
        if self.failures:
            self.failures -= 1
            raise TimeoutError("no answer within 15 s")
        self.reported = merged(self.reported, patch)
        self.arrived.set()
        if self.loses_answers:
            self.loses_answers -= 1
            raise TimeoutError("no answer within 15 s")

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.arrived.clear()
            await asyncio.wait_for(self.arrived.wait(), 5)


def run(scenario: Callable[[RecordingHub, Reporter], Awaitable[None]], interval: float = 0.05) -> None:
    async def main() -> None:
        hub = RecordingHub()
        reporter = Reporter(hub.send, lambda: reporter.rebase(hub.reported), interval=interval, gathering=GATHERING)
        task = asyncio.create_task(reporter.run())
        try:
            await scenario(hub, reporter)
        finally:
            task.cancel()

    asyncio.run(main())


def test_changes_at_once_are_one_update_and_the_next_comes_after_a_pause() -> None:
    async def scenario(hub: RecordingHub, reporter: Reporter) -> None:
        reporter.rebase({"$version": 1})
        started = asyncio.get_running_loop().time()
        reporter.set("module", {"version": "1"})
        for number in range(10):
            reporter.set("connection", {"state": f"state {number}"})
        await hub.until(lambda: "connection" in hub.reported)
        for number in range(10):
            reporter.set("connection", {"state": f"later {number}"})
        await hub.until(lambda: hub.reported["connection"]["state"] == "later 9")
        assert hub.patches == [
            {"module": {"version": "1"}, "connection": {"state": "state 9"}},
            {"connection": {"state": "later 9"}},
        ]
        assert hub.times[0] - started < GATHERING + 0.2
        assert hub.times[1] - hub.times[0] >= 0.5

    run(scenario, interval=0.5)


def test_nothing_is_sent_before_the_state_of_the_hub_is_known() -> None:
    async def scenario(hub: RecordingHub, reporter: Reporter) -> None:
        hub.reported = {"module": {"version": "1"}, "gone": {"ac": 200}}
        reporter.set("module", {"version": "1"})
        await asyncio.sleep(GATHERING * 2)
        assert hub.patches == []
        reporter.rebase(hub.reported | {"$version": 5})
        await hub.until(lambda: bool(hub.patches))
        assert hub.patches == [{"gone": None}]

    run(scenario)


def test_removed_keys_are_sent_as_null() -> None:
    async def scenario(hub: RecordingHub, reporter: Reporter) -> None:
        reporter.rebase({})
        reporter.set("connection", {"state": "failed", "code": "unreachable"})
        reporter.set("sftp", {"ac": 200})
        await hub.until(lambda: bool(hub.patches))
        reporter.set("connection", {"state": "connected"})
        reporter.set("sftp", None)
        await hub.until(lambda: len(hub.patches) == 2)
        assert hub.patches[1] == {"connection": {"state": "connected", "code": None}, "sftp": None}
        assert hub.reported == {"connection": {"state": "connected"}}

    run(scenario)


def test_an_update_that_failed_is_sent_again() -> None:
    async def scenario(hub: RecordingHub, reporter: Reporter) -> None:
        hub.failures = 2
        reporter.rebase({})
        reporter.set("module", {"version": "1"})
        await hub.until(lambda: bool(hub.reported))
        assert hub.patches == [{"module": {"version": "1"}}] * 3

    run(scenario)


def test_an_update_that_arrived_without_an_answer_does_no_harm() -> None:
    async def scenario(hub: RecordingHub, reporter: Reporter) -> None:
        reporter.rebase({})
        reporter.set("connection", {"state": "connected"})
        await hub.until(lambda: bool(hub.reported))
        hub.loses_answers = 1
        reporter.set("connection", {"state": "failed"})
        await hub.until(lambda: hub.reported == {"connection": {"state": "failed"}})
        reporter.set("connection", {"state": "connected"})
        await hub.until(lambda: hub.reported == {"connection": {"state": "connected"}})

    run(scenario)


def test_a_hub_that_lost_its_state_gets_everything_again() -> None:
    async def scenario(hub: RecordingHub, reporter: Reporter) -> None:
        reporter.rebase({})
        reporter.set("module", {"version": "1"})
        await hub.until(lambda: bool(hub.reported))
        hub.reported = {}
        reporter.doubt()
        reporter.rebase(hub.reported)
        await hub.until(lambda: bool(hub.reported))
        assert hub.reported == {"module": {"version": "1"}}

    run(scenario)


REFUSED = "the server refused the password of 'device'"
PAUSE = "Nothing was sent now: the same credentials are tried again in {} s at the earliest, others at once"


def test_a_countdown_causes_one_update_only() -> None:
    async def scenario(hub: RecordingHub, reporter: Reporter) -> None:
        reporter.rebase({})
        messages = [REFUSED, *(f"{REFUSED}. {PAUSE.format(seconds)}" for seconds in (5, 4, 1)), REFUSED]
        for message in messages:
            reporter.set("connection", {"state": "failed", "message": message})
            await asyncio.sleep(GATHERING * 3)
        assert hub.patches == [{"connection": {"state": "failed", "message": REFUSED}}]
        reporter.set("connection", {"state": "failed", "message": "the host key is another one"})
        await hub.until(lambda: len(hub.patches) == 2)
        assert reporter.wanted["connection"]["message"] == "the host key is another one"

    run(scenario)


@pytest.mark.parametrize(
    "message, reported",
    [
        ("it is tried again in 4.5 s", "it is tried again later"),
        ("the server did not answer within 15 s", "the server did not answer within 15 s"),
        (f"a; {PAUSE.format(7)}; b", "a; b"),
    ],
)
def test_a_message_is_reported_without_its_countdown(message: str, reported: str) -> None:
    assert steady({}, {"value": {"a": {"message": message}}}) == {"value": {"a": {"message": reported}}}


def test_a_message_stays_the_same_while_only_its_quantities_change() -> None:
    first = {"message": "1000 bytes were moved in 3 s", "failed": 1}
    later = {"message": "1500 bytes were moved in 9 s", "failed": 2}
    moved = steady({}, first)["message"]
    assert steady(steady({}, first), later) == {"message": moved, "failed": 2}
    assert steady(first, {"message": "other"}) == {"message": "other"}
