"""How days and times of day are written: `"Mon-Fri"`, `"22:00"`. Errors continue a sentence that begins with a key."""

from __future__ import annotations

import re

from iot.sftp.module._calendar.weekly_window import MINUTES

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAYS_EXPECTED = f'must be days such as "Mon-Fri" or "Sat", or a list of them; the days are {", ".join(WEEKDAYS)}'
DAYS_MAXIMUM = 14  # parts of a list
TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
END_OF_DAY = "24:00"


def read_days(value: object) -> frozenset[int]:
    """Return days of the week; Monday is 0.

    Raises:
        ValueError: it is none, or names no day.
    """
    parts = value if isinstance(value, list | tuple) else [value]
    if not 0 < len(parts) <= DAYS_MAXIMUM:
        raise ValueError(DAYS_EXPECTED)
    return frozenset(day for part in parts for day in _span(part))


def _span(part: object) -> list[int]:
    names = part.split("-") if isinstance(part, str) else []
    if not 1 <= len(names) <= 2 or not set(names) <= set(WEEKDAYS):  # noqa: PLR2004 - one day, or the first and last one
        raise ValueError(DAYS_EXPECTED)
    first, last = WEEKDAYS.index(names[0]), WEEKDAYS.index(names[-1])
    return [(first + number) % 7 for number in range((last - first) % 7 + 1)]


def read_time(value: object, *, is_end: bool = False) -> int:
    """Return the minute of the day of a time.

    Parameters:
        value: such as `"22:00"`.
        is_end: whether it ends something: then it may be the end of the day, `"24:00"`.

    Raises:
        ValueError: it is none.
    """
    if is_end and value == END_OF_DAY:
        return MINUTES
    found = TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('must be a time of day in quotes, from "00:00" to "23:59"')
    return int(found[1]) * 60 + int(found[2])


def read_span(start: object, end: object) -> tuple[int, int]:
    """Return the minutes of the day at which something begins and ends.

    Raises:
        ValueError: they are none, or the same.
    """
    first, behind = read_time(start), read_time(end, is_end=True)
    if first == behind:
        raise ValueError('is the time at which it begins; a whole day is from "00:00" to "24:00"')
    return first, behind
