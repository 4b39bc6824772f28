"""Whatever is to be reported, the hub accepts it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iot.sftp.module._hub.reported import Reporter
from iot.sftp.module._hub.twin_limits import DEPTH_MAXIMUM, KEY_MAXIMUM, NUMBER_MAXIMUM, STRING_MAXIMUM

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


@settings(max_examples=20)  # a large one takes a second
@given(sections=st.dictionaries(st.text(), st.dictionaries(st.text(), ANYTHING, max_size=5), max_size=8))
def test_any_sections_fit_into_a_twin(sections: dict[str, Any]) -> None:
    document = reporter_of(sections).document
    check_limits(document)
    assert len(json.dumps(document, ensure_ascii=False).encode()) <= 32 * 1024


@pytest.mark.parametrize("size", [100, 10_000])
def test_strings_are_cut_before_sections_are_left_out(size: int) -> None:
    rules = {f"rule-{number}": {"ac": 200, "message": "x" * size} for number in range(20)}
    document = reporter_of({"connection": {"state": "failed", "message": "y" * 50}, "rules": {"value": rules}}).document
    assert document["connection"]["message"] == "y" * 50
    assert {rule["ac"] for rule in document["rules"]["value"].values()} == {200}
    lengths = {len(rule["message"]) for rule in document["rules"]["value"].values()}
    assert lengths == {min(size, 1_000)}


def test_the_largest_section_is_left_out_when_nothing_else_helps() -> None:
    keys = {f"{number}-{'k' * 900}": 1 for number in range(40)}
    assert reporter_of({"connection": {"state": "connected"}, "junk": keys}).document == {
        "connection": {"state": "connected"}
    }


def test_keys_and_values_that_a_twin_refuses_are_replaced() -> None:
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


def test_a_section_with_an_odd_name_can_be_removed_again() -> None:
    reporter = reporter_of({"odd name": {"ac": 400}})
    reporter.set("odd name", None)
    assert reporter.document == {}


def test_strings_are_cut_to_the_limit_and_are_printable() -> None:
    section = reporter_of({"sftp": {"ad": "é" * 10_000, "value": {"host": "a\n\udc80"}, "none": None}}).document["sftp"]
    assert len(section["ad"].encode()) == STRING_MAXIMUM
    assert section["value"] == {"host": r"a\n\udc80"}
    assert "none" not in section
