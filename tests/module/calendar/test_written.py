"""Days and times of day as people write them; what is none is refused in words that show how it is written."""

from __future__ import annotations

import pytest

from iot.sftp.module._calendar.written import DAYS_EXPECTED, read_days, read_span, read_time


@pytest.mark.parametrize(
    "written, days",
    [
        ("Mon-Fri", {0, 1, 2, 3, 4}),
        ("Sat", {5}),
        ("Fri-Mon", {4, 5, 6, 0}),
        ("Sun-Sat", {0, 1, 2, 3, 4, 5, 6}),
        ("Wed-Wed", {2}),
        (["Mon-Tue", "Sat", "Sat-Sun"], {0, 1, 5, 6}),
    ],
)
def test_days_are_a_day_a_span_or_a_list_of_them(written: object, days: set[int]) -> None:
    assert read_days(written) == days


@pytest.mark.parametrize(
    "written",
    ["", "Mo", "mon", "Mon-", "-Fri", "Mon-Fri-Sun", "Mon,Tue", "Mon - Fri", [], [[]], None, 1, {}, ["Sat", 6]],
)
def test_what_is_no_day_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="such as") as refused:
        read_days(written)
    assert str(refused.value) == DAYS_EXPECTED


def test_a_list_of_days_is_bounded() -> None:
    with pytest.raises(ValueError, match="such as"):
        read_days(["Mon"] * 15)


@pytest.mark.parametrize("written, minute", [("00:00", 0), ("09:05", 545), ("23:59", 1439)])
def test_a_time_is_a_minute_of_the_day(written: str, minute: int) -> None:
    assert read_time(written) == minute


@pytest.mark.parametrize(
    "written",
    ["24:00", "9:05", "09:60", "0905", "09:05:00", " 09:05", "09:05\n", "", 905, None, "\u0660\u0669:\u0660\u0665"],
)
def test_what_is_no_time_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match='"00:00" to "23:59"'):
        read_time(written)


def test_a_span_may_end_with_the_day_and_must_not_be_empty() -> None:
    assert read_span("22:00", "24:00") == (1320, 1440)
    assert read_span("22:00", "06:00") == (1320, 360)
    with pytest.raises(ValueError, match="at which it begins"):
        read_span("08:00", "08:00")
    with pytest.raises(ValueError, match="time of day"):
        read_span("24:00", "06:00")
