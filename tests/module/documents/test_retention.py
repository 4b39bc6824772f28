"""The section `retention`: what it takes, and what is said about what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from iot.sftp.module._documents.retention import ENTRIES_MAXIMUM
from iot.sftp.module._documents.template import Placeholders
from iot.sftp.module._documents.twin import read_desired

UNUSABLE: tuple[Any, ...] = ("10", "100%", "0%", "-1%", "٣%", "ten", 0, -1, True, 1.5, [])  # as minFree
PLACEHOLDERS = Placeholders("device-42", "sftp", "hub")


def error_of(content: Any) -> str:
    desired = read_desired({"retention": content}, PLACEHOLDERS)
    assert desired.refused == ["retention"]
    assert desired.retention.error is not None
    return desired.retention.error


def test_an_entry_is_read_with_its_placeholders_and_reported_as_it_was_written() -> None:
    written = {"path": "out/{line}", "include": ["*.csv"], "maxAge": 604800, "maxBytes": 10, "minFree": "12.5%"}
    entries = [written, {"path": "in/{server}", "minFree": 5, "onlyDelivered": False}]
    desired = read_desired({"retention": entries, "variables": {"line": "7"}}, PLACEHOLDERS)
    assert (desired.refused, desired.unknown) == ([], ())
    first, second = desired.retention.value or ()
    assert first.path.fill() == "out/7"
    assert second.path.fill() == "in/sftp"
    assert first.only_delivered
    assert first.min_free is not None
    assert first.min_free.of(1000) == 125
    assert second.min_free is not None
    assert second.min_free.of(1000) == 5
    assert first.as_properties() == {**written, "include": ("*.csv",), "onlyDelivered": True}
    assert second.as_properties() == {"path": "in/{server}", "include": (), "minFree": 5, "onlyDelivered": False}
    assert first.selection().selects("a/b.csv", "a/b.csv") is False
    assert hash(first) != hash(second)


def test_no_section_and_an_empty_one_are_valid() -> None:
    assert read_desired({}).retention.value is None
    assert read_desired({"retention": []}).retention.value == ()


@pytest.mark.parametrize(
    "content, words",
    [
        ({}, "'retention' must be a list of objects"),
        ([{"path": "a", "maxAge": 1}] * (ENTRIES_MAXIMUM + 1), "'retention' holds more than 20 objects"),
        (["a"], "entry 1: must be an object"),
        ([{"path": "a"}], "entry 1: needs at least one of maxAge, maxBytes and minFree"),
        ([{"maxAge": 1}], "entry 1: 'path' is missing"),
        ([{"path": "a", "maxAge": 1}, {"path": "{lin}", "maxAge": 1}], "entry 2: 'path' has the unknown placeholder"),
        ([{"path": "a", "maxage": 1}], "entry 1: 'maxage' is not known here; known are: include, maxAge"),
        ([{"path": "a", "maxAge": -1}], "'maxAge' must be a number of seconds"),
        ([{"path": "a", "maxBytes": 1.5}], "'maxBytes' must be"),
        ([{"path": "a", "maxBytes": -1}], "'maxBytes' must be"),
        ([{"path": "a/../../b", "maxAge": 1}], "entry 1: 'path' must not contain '..'"),
        ([{"path": "a\0", "maxAge": 1}], "entry 1: 'path' must not contain a NUL character"),
        ([{"path": "a", "include": "*"}], "'include' must be a list"),
        ([{"path": "a", "maxAge": 1, "onlyDelivered": "no"}], "'onlyDelivered' must be true or false"),
        *(
            (
                [{"path": "a", "minFree": value}],
                "'minFree' must be a whole number of bytes from 1, or",
            )
            for value in UNUSABLE
        ),
    ],
)
def test_what_is_wrong_is_named(content: Any, words: str) -> None:
    assert words in error_of(content)
