"""When a rule runs: its days, its window, its times of day; and the calendar that is made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import PlainValidator, PrivateAttr, ValidationInfo, field_serializer
from pydantic_core import PydanticCustomError

from iot.sftp.module._calendar.calendar import Calendar
from iot.sftp.module._calendar.wall_clock import WallClock
from iot.sftp.module._calendar.weekly_window import EVERY_DAY, WeeklyWindow
from iot.sftp.module._calendar.written import read_days, read_span, read_time
from iot.sftp.module._documents.fields import TemplateContext, check_seconds
from iot.sftp.module._documents.template import Placeholders
from iot.sftp.module._documents.validation import Document

EVERY_DEFAULT, EVERY_MAXIMUM = 300.0, 7 * 86_400  # seconds
TIMES_MAXIMUM = 48  # of `at`
BETWEEN_LENGTH = 2  # a window begins and ends

T = TypeVar("T")


def readable(read: Callable[[], T]) -> T:
    """Return what a function reads, for a validator."""
    try:
        return read()
    except ValueError as error:
        raise PydanticCustomError("calendar", "{reason}", {"reason": str(error)}) from None


def check_days(value: object) -> str | list[str] | None:
    """Return days of the week as they are written, for a validator."""
    if value is not None:
        readable(lambda: read_days(value))
    return value  # type: ignore[return-value] # it was read


def _between(value: object) -> list[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != BETWEEN_LENGTH:
        raise PydanticCustomError("calendar", 'must be two times of day, such as ["22:00", "06:00"]')
    start, end = value
    if start == end and isinstance(start, str):
        raise PydanticCustomError("calendar", 'begins and ends at the same time; a whole day is ["00:00", "24:00"]')
    readable(lambda: read_span(start, end))
    return value


def _at(value: object, info: ValidationInfo) -> list[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not 0 < len(value) <= TIMES_MAXIMUM:
        raise PydanticCustomError(
            "calendar", f'must be a list of times of day, 1 to {TIMES_MAXIMUM} of them, such as ["02:00", "14:00"]'
        )
    between = info.data.get("between")
    for written in value:
        minute = readable(lambda written=written: read_time(written))  # type: ignore[misc] # defaults bind
        if between is not None and not WeeklyWindow(EVERY_DAY, *read_span(*between)).has(minute):
            raise PydanticCustomError("calendar", "has {time}, which is not in 'between'", {"time": f'"{written}"'})
    return value


def _every(value: object, info: ValidationInfo) -> float:
    if info.data.get("at") is not None:
        raise PydanticCustomError("calendar", "must not be there together with 'at': leave one of them out")
    return check_seconds(value, 1, EVERY_MAXIMUM)


def clock_of(info: Any) -> WallClock:
    """Return the clock of the time zone in force, of the context of a validation."""
    placeholders = info.placeholders if isinstance(info, TemplateContext) else Placeholders()
    return WallClock(placeholders.zone)


class RuleTimes(Document):
    """The keys of a rule that say when it runs."""

    days: Annotated[str | list[str] | None, PlainValidator(check_days)] = None
    between: Annotated[list[str] | None, PlainValidator(_between)] = None  # in front of `at`, which looks at it
    at: Annotated[list[str] | None, PlainValidator(_at)] = None  # in front of `every`, which looks at it
    every: Annotated[float, PlainValidator(_every)] = EVERY_DEFAULT
    _calendar: Calendar | None = PrivateAttr(None)

    @property
    def calendar(self) -> Calendar | None:
        """What `days`, `between` and `at` say, in the time zone in force; `None` if there are none of them."""
        return self._calendar

    def model_post_init(self, context: Any) -> None:
        """Make the calendar: rules are equal if their calendars are."""
        if self.days is None and self.between is None and self.at is None:
            return
        days = EVERY_DAY if self.days is None else read_days(self.days)
        window = WeeklyWindow(days) if self.between is None else WeeklyWindow(days, *read_span(*self.between))
        at = tuple(sorted({read_time(written) for written in self.at or ()}))
        self._calendar = Calendar(clock_of(context), window, at)

    @field_serializer("every")
    def _every_shown(self, every: float) -> float | None:
        return None if self.at else every
