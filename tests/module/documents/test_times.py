"""The times of rules and the timetable of the bandwidth: read in the time zone in force, or refused by their keys."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot.sftp.client import Bandwidth
from iot.sftp.module._calendar.calendar import Calendar
from iot.sftp.module._calendar.wall_clock import WallClock
from iot.sftp.module._calendar.weekly_window import EVERY_DAY, WeeklyWindow
from iot.sftp.module._documents.rule import Rule
from iot.sftp.module._documents.twin import read_desired

BERLIN = ZoneInfo("Europe/Berlin")
RULE = {"name": "a", "direction": "upload", "source": "a", "dest": "b"}
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["Mon-Fri", "02:00", "24:00"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["days", "from", "to", "upload", "download"]) | st.text(), inner, max_size=5)
    ),
    max_leaves=8,
)


def rule_of(zone: str = "Europe/Berlin", /, **keys: Any) -> Rule:
    section = read_desired({"rules": [RULE | keys], "timeZone": zone}).rules
    assert section is not None
    assert not section.errors, section.errors
    return section.rules["a"]


def error_of(**keys: Any) -> str:
    section = read_desired({"rules": [RULE | keys]}).rules
    assert section is not None
    return section.errors["a"]


def berlin(*date: int) -> float:
    return datetime(*date, tzinfo=BERLIN).timestamp()  # type: ignore[misc,arg-type]


# --- rules


@pytest.mark.parametrize(
    "keys, window, at",
    [
        ({"days": "Mon-Fri"}, WeeklyWindow(frozenset(range(5))), ()),
        ({"between": ["22:00", "06:00"]}, WeeklyWindow(EVERY_DAY, 1320, 360), ()),
        ({"at": ["14:00", "02:00", "02:00"]}, WeeklyWindow(), (120, 840)),
        (
            {"days": ["Sat", "Sun"], "between": ["22:00", "24:00"], "at": ["23:00"]},
            WeeklyWindow(frozenset({5, 6}), 1320, 1440),
            (1380,),
        ),
    ],
)
def test_a_rule_has_a_calendar_in_the_time_zone_in_force(
    keys: dict[str, Any], window: WeeklyWindow, at: tuple[int, ...]
) -> None:
    rule = rule_of(**keys)
    assert rule.calendar == Calendar(WallClock(BERLIN), window, at)
    shown = rule.model_dump()
    assert {key: shown[key] for key in keys} == keys
    assert (shown["every"] is None) == ("at" in keys)


def test_a_change_of_the_time_zone_changes_the_rules_with_a_calendar_and_no_others() -> None:
    assert rule_of().calendar is None
    assert rule_of("UTC") == rule_of("Europe/Berlin")
    assert rule_of("UTC", at=["02:00"]) != rule_of("Europe/Berlin", at=["02:00"])
    assert rule_of("UTC", days="Sat") == rule_of("UTC", days="Sat")


@pytest.mark.parametrize(
    "keys, words",
    [
        ({"days": "Mo"}, "'days' must be days such as \"Mon-Fri\""),
        ({"days": []}, "'days' must be days such as \"Mon-Fri\""),
        ({"between": ["22:00"]}, "'between' must be two times of day"),
        ({"between": "22:00-06:00"}, "'between' must be two times of day"),
        ({"between": ["22:00", "25:00"]}, "'between' must be a time of day in quotes"),
        ({"between": ["22:00", "22:00"]}, "'between' begins and ends at the same time"),
        ({"between": [[], []]}, "'between' must be a time of day in quotes"),
        ({"at": "02:00"}, "'at' must be a list of times of day"),
        ({"at": []}, "'at' must be a list of times of day"),
        ({"at": ["02:00"] * 49}, "'at' must be a list of times of day, 1 to 48"),
        ({"at": ["24:00"]}, "'at' must be a time of day in quotes"),
        ({"at": ["02:00"], "every": 60}, "'every' must not be there together with 'at'"),
        ({"at": ["05:00", "06:00"], "between": ["22:00", "06:00"]}, "'at' has \"06:00\", which is not in 'between'"),
    ],
)
def test_what_is_wrong_with_the_times_of_a_rule_is_told_by_its_key(keys: dict[str, Any], words: str) -> None:
    assert error_of(**keys).startswith(words)


# --- the bandwidth

OFFICE = {"days": "Mon-Fri", "from": "08:00", "to": "18:00", "upload": 1000}
NIGHT = {"days": "Fri", "from": "22:00", "to": "06:00"}


def limits_at(limit: Any, *moments: float) -> list[Bandwidth]:
    desired = read_desired({"transfers": {"bandwidthLimit": limit}, "timeZone": "Europe/Berlin"}).transfers
    assert desired.value is not None, desired.error
    assert desired.value.as_properties()["bandwidthLimit"] == limit
    assert desired.value.bandwidth_limit is not None
    return [desired.value.bandwidth_limit.at(moment) for moment in moments]


@pytest.mark.parametrize(
    "limit, bandwidth",
    [
        (1000, Bandwidth(1000)),
        ({"upload": 5}, Bandwidth(upload=5)),
        ({"upload": 5, "download": 6}, Bandwidth(upload=5, download=6)),
        ({}, Bandwidth()),
        ([], Bandwidth()),
    ],
)
def test_a_limit_may_be_for_both_directions_or_for_each(limit: Any, bandwidth: Bandwidth) -> None:
    assert limits_at(limit, 0.0, berlin(2026, 11, 23, 12, 0)) == [bandwidth, bandwidth]


def test_the_first_entry_that_applies_counts() -> None:
    moments = [
        berlin(2026, 11, 23, 7, 59),
        berlin(2026, 11, 23, 8, 0),
        berlin(2026, 11, 23, 17, 59),
        berlin(2026, 11, 23, 18, 0),
        berlin(2026, 11, 28, 12, 0),  # a Saturday
        berlin(2026, 11, 28, 5, 59),  # the end of the night that began on Friday
        berlin(2026, 11, 28, 6, 0),
    ]
    found = limits_at([OFFICE, NIGHT, {"download": 7}], *moments)
    day, office, night = Bandwidth(download=7), Bandwidth(upload=1000), Bandwidth()
    assert found == [day, office, office, day, day, night, day]
    assert limits_at([OFFICE], moments[0]) == [Bandwidth()]


def test_while_the_clock_is_not_set_the_lowest_limits_count() -> None:
    assert limits_at([OFFICE, {"upload": 2000, "download": 7}, {"upload": 3}], 0.0) == [Bandwidth(upload=3, download=7)]


@pytest.mark.parametrize(
    "limit, words",
    [
        (
            "fast",
            '\'bandwidthLimit\' must be a whole number of bytes per second, null, {"upload", "download"} or',
        ),
        (1.5, "'bandwidthLimit' must be a whole number"),
        (True, "'bandwidthLimit' must be a whole number"),
        (0, "'bandwidthLimit' must be greater than or equal to 1"),
        (10**12 + 1, "'bandwidthLimit' must be less than or equal to 1000000000000"),
        ({"upload": 0}, "'bandwidthLimit.upload' must be greater than or equal to 1"),
        ({"uplod": 1}, "'bandwidthLimit.uplod' is not known here; known are: download, upload"),
        ([5], "'bandwidthLimit.0' must be an object"),
        ([{}, {"from": "08:00"}], "'bandwidthLimit.1' has only one of 'from' and 'to'"),
        ([{"to": "08:00"}], "'bandwidthLimit.0' has only one of 'from' and 'to'"),
        ([{"from": "8:00", "to": "09:00"}], "'bandwidthLimit.0.from' must be a time of day"),
        ([{"from": "08:00", "to": "08:00"}], "'bandwidthLimit.0.to' is the time at which it begins"),
        ([{"days": "Mo"}], "'bandwidthLimit.0.days' must be days such as"),
        ([{"until": "08:00"}], "'bandwidthLimit.0.until' is not known here; known are: days, download, from, to,"),
        ([{}] * 33, "'bandwidthLimit' must have 32 entries at most"),
    ],
)
def test_what_is_wrong_with_a_limit_is_told_by_its_place(limit: Any, words: str) -> None:
    error = read_desired({"transfers": {"bandwidthLimit": limit}}).transfers.error
    assert error is not None
    assert error.startswith(words)


def test_a_limit_may_be_written_with_an_exponent() -> None:
    assert limits_at(1e6, 0.0) == limits_at(1_000_000, 0.0) == [Bandwidth(1_000_000)]
    assert limits_at({"upload": 2.5e5}, 0.0) == [Bandwidth(upload=250_000)]


@given(json_values)
def test_any_limit_and_any_times_are_read_or_refused_in_words(value: Any) -> None:
    desired = read_desired(
        {"transfers": {"bandwidthLimit": value}, "rules": [RULE | {"days": value, "between": value}]}
    )
    assert (desired.transfers.value is None) == (desired.transfers.error is not None)
    if desired.transfers.value is not None and desired.transfers.value.bandwidth_limit is not None:
        desired.transfers.value.bandwidth_limit.at(berlin(2026, 3, 29, 3, 0))
    assert desired.rules is not None
    assert desired.rules.rules or desired.rules.errors
