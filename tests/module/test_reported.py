"""Reported properties: only differences, rarely, and right in the end whatever is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from iot.sftp.module._reported import STRING_MAXIMUM, Reporter, difference, merged

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


def test_changes_that_come_together_are_sent_together_and_the_next_only_after_a_while() -> None:
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


def test_nothing_is_sent_before_it_is_known_what_the_hub_has() -> None:
    async def scenario(hub: RecordingHub, reporter: Reporter) -> None:
        hub.reported = {"module": {"version": "1"}, "gone": {"ac": 200}}
        reporter.set("module", {"version": "1"})
        await asyncio.sleep(GATHERING * 2)
        assert hub.patches == []
        reporter.rebase(hub.reported | {"$version": 5})
        await hub.until(lambda: bool(hub.patches))
        assert hub.patches == [{"gone": None}]

    run(scenario)


def test_keys_that_must_go_are_sent_as_null() -> None:
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


def test_an_update_that_arrived_without_an_answer_does_not_confuse_what_follows() -> None:
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


def test_a_hub_that_forgot_everything_is_told_again() -> None:
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


def test_strings_are_cut_to_what_a_twin_takes_and_are_printable() -> None:
    async def scenario(hub: RecordingHub, reporter: Reporter) -> None:
        reporter.rebase({})
        reporter.set("sftp", {"ad": "é" * 10_000, "value": {"host": "a\n\udc80"}, "none": None})
        await hub.until(lambda: bool(hub.reported))
        assert len(hub.reported["sftp"]["ad"].encode()) == STRING_MAXIMUM
        assert hub.reported["sftp"]["value"] == {"host": r"a\n\udc80"}
        assert "none" not in hub.reported["sftp"]

    run(scenario)


DOCUMENTS = st.recursive(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 3) | st.text(max_size=2)),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner | st.integers(0, 3)),
    max_leaves=10,
)


@given(old=DOCUMENTS, new=DOCUMENTS)
def test_a_difference_makes_the_old_document_into_the_new_one(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert merged(old, difference(old, new)) == new
    assert difference(new, new) == {}
