"""Reported properties: only differences, rarely, and right in the end whatever is lost."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot.sftp.module._hub.reported import (
    DEPTH_MAXIMUM,
    KEY_MAXIMUM,
    NUMBER_MAXIMUM,
    STRING_MAXIMUM,
    Allowance,
    Reporter,
    difference,
    merged,
    steady,
)

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


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["x" * 5_000, "漢" * 2_000]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=60,
)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def check_limits(value: Any, depth: int = 0) -> None:
    """Hold what IoT Hub holds of a twin."""
    assert depth <= DEPTH_MAXIMUM
    if isinstance(value, dict):
        for key, inner in value.items():
            assert 0 < len(key.encode()) <= KEY_MAXIMUM
            assert not re.search(r"[.$ ]", key)
            assert not CONTROL.search(key)
            check_limits(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            check_limits(inner, depth + 1)
    elif isinstance(value, str):
        assert len(value.encode()) <= STRING_MAXIMUM
    else:
        assert isinstance(value, bool | int | float)
        assert abs(value) <= NUMBER_MAXIMUM


def reporter_of(sections: Mapping[str, Any]) -> Reporter:
    async def send(_patch: dict[str, Any]) -> None:
        """Nothing is sent here."""

    reporter = Reporter(send, lambda: None)
    for name, value in sections.items():
        reporter.set(name, value)
    return reporter


@given(sections=st.dictionaries(st.text(), st.dictionaries(st.text(), ANYTHING, max_size=5), max_size=8))
def test_whatever_is_to_be_reported_a_twin_holds_it(sections: dict[str, Any]) -> None:
    document = reporter_of(sections).document
    check_limits(document)
    assert len(json.dumps(document, ensure_ascii=False).encode()) <= 32 * 1024


@pytest.mark.parametrize("size", [100, 10_000])
def test_texts_are_cut_before_sections_are_left_out(size: int) -> None:
    rules = {f"rule-{number}": {"ac": 200, "message": "x" * size} for number in range(20)}
    document = reporter_of({"connection": {"state": "failed", "message": "y" * 50}, "rules": {"value": rules}}).document
    assert document["connection"]["message"] == "y" * 50
    assert {rule["ac"] for rule in document["rules"]["value"].values()} == {200}
    lengths = {len(rule["message"]) for rule in document["rules"]["value"].values()}
    assert lengths == {min(size, 1_000)}


def test_the_largest_section_goes_when_nothing_else_helps() -> None:
    keys = {f"{number}-{'k' * 900}": 1 for number in range(40)}
    assert reporter_of({"connection": {"state": "connected"}, "junk": keys}).document == {
        "connection": {"state": "connected"}
    }


def test_what_a_twin_does_not_take_is_told_in_another_way() -> None:
    given: dict[str, Any] = {"a.b $c": 2**60, "nan": float("nan"), "none": [None, 1], "": "\x00", "deep": {}}
    inner = given["deep"]
    for _ in range(12):
        inner["down"] = inner = {}
    shown = reporter_of({"x y": given}).document["x_y"]
    assert {key: value for key, value in shown.items() if key != "deep"} == {
        "a_b__c": "…",
        "nan": "…",
        "none": [1],
        "_": r"\x00",
    }
    check_limits({"x_y": shown})


def test_a_section_with_an_odd_name_can_be_taken_away_again() -> None:
    reporter = reporter_of({"odd name": {"ac": 400}})
    reporter.set("odd name", None)
    assert reporter.document == {}


DOCUMENTS = st.recursive(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 3) | st.text(max_size=2)),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner | st.integers(0, 3)),
    max_leaves=10,
)


@given(old=DOCUMENTS, new=DOCUMENTS)
def test_a_difference_makes_the_old_document_into_the_new_one(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert merged(old, difference(old, new)) == new
    assert difference(new, new) == {}


REFUSED = "the server refused the password of 'device'"
PAUSE = "Nothing was sent now: the same credentials are tried again in {} s at the earliest, others at once"


def test_what_only_counts_down_is_one_update() -> None:
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
def test_a_message_is_reported_without_what_is_wrong_a_moment_later(message: str, reported: str) -> None:
    assert steady({}, {"value": {"a": {"message": message}}}) == {"value": {"a": {"message": reported}}}


def test_a_message_stays_as_it_was_while_only_its_quantities_change() -> None:
    first = {"message": "1000 bytes were moved in 3 s", "failed": 1}
    later = {"message": "1500 bytes were moved in 9 s", "failed": 2}
    moved = steady({}, first)["message"]
    assert steady(steady({}, first), later) == {"message": moved, "failed": 2}
    assert steady(first, {"message": "other"}) == {"message": "other"}


def test_what_changes_all_the_time_is_reported_as_often_as_is_allowed() -> None:
    now = 0.0
    allowance = Allowance(3, 60, clock=lambda: now)
    taken = 0
    while now < 3_600:
        if allowance.wait() == 0:
            allowance.take()
            taken += 1
        now += 1
    assert 60 <= taken <= 63
    now += 10_000
    for _ in range(3):
        assert allowance.wait() == 0
        allowance.take()
    assert 59 < allowance.wait() <= 60
