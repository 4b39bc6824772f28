"""The key `bandwidthLimit` of the section `transfers`: a number, a limit for each direction, or a timetable of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import Field, PlainSerializer, PlainValidator, ValidationError, ValidationInfo
from pydantic_core import PydanticCustomError

from iot.sftp.client import Bandwidth
from iot.sftp.module._calendar.wall_clock import WallClock
from iot.sftp.module._calendar.weekly_window import EVERY_DAY, WeeklyWindow
from iot.sftp.module._calendar.written import read_days, read_span, read_time
from iot.sftp.module._documents.fields import WholeNumber, whole_number
from iot.sftp.module._documents.template_parts import CLOCK_STARTS
from iot.sftp.module._documents.times import check_days, clock_of, readable
from iot.sftp.module._documents.validation import Document, invalid, invalid_below

BANDWIDTH_MAXIMUM = 1_000_000_000_000  # bytes per second
ENTRIES_MAXIMUM = 32  # of a timetable: it is reported, in a twin of 32 KB with everything else
EXPECTED = 'must be a whole number of bytes per second, null, {"upload", "download"} or a list of entries with times'

Rate = Annotated[int, Field(ge=1, le=BANDWIDTH_MAXIMUM), WholeNumber]
Days = Annotated[str | list[str] | None, PlainValidator(check_days)]
RatesT = TypeVar("RatesT", bound="Rates")


def _start(value: object) -> object:
    if value is not None:
        readable(lambda: read_time(value))
    return value


def _end(value: object, info: ValidationInfo) -> object:
    start = info.data.get("start")
    if value is not None and start is not None:  # else that is what is wrong
        readable(lambda: read_span(start, value))
    return value


class Rates(Document):
    """A limit for each direction; one that is left out is unlimited."""

    upload: Rate | None = None
    download: Rate | None = None

    @property
    def bandwidth(self) -> Bandwidth:
        """The same for the client."""
        return Bandwidth(upload=self.upload, download=self.download)


class TimetableEntry(Rates):
    """Limits that count on some days, from one time of day to another one."""

    days: Days = None
    start: Annotated[str | None, PlainValidator(_start)] = Field(None, alias="from")
    end: Annotated[str | None, PlainValidator(_end)] = Field(None, alias="to")

    @property
    def window(self) -> WeeklyWindow:
        """When they count."""
        days = EVERY_DAY if self.days is None else read_days(self.days)
        if self.start is None or self.end is None:
            return WeeklyWindow(days)
        return WeeklyWindow(days, *read_span(self.start, self.end))


@dataclass(frozen=True)
class BandwidthLimit:
    """The limits of transfers, which may depend on the time.

    Attributes:
        written: as they are in the document.
        entries: what counts in which window; the first one that is open.
        clock: on which the windows are.
    """

    written: Any
    entries: tuple[tuple[WeeklyWindow, Bandwidth], ...]
    clock: WallClock = field(default_factory=WallClock)

    def at(self, moment: float) -> Bandwidth:
        """Return the limits at a moment, in seconds since 1970; the lowest ones while the clock is not set."""
        if moment < CLOCK_STARTS:
            limits = [bandwidth for _, bandwidth in self.entries]
            total, upload, download = (
                min((rate for each in limits if (rate := getattr(each, key)) is not None), default=None)
                for key in ("total", "upload", "download")
            )
            return Bandwidth(total, upload, download)
        wall = self.clock.shows(moment)
        return next((bandwidth for window, bandwidth in self.entries if window.covers(wall)), Bandwidth())


def _limit(value: object, info: ValidationInfo) -> BandwidthLimit | None:
    if value is None:
        return None
    if isinstance(value, dict):
        rates = _read(Rates, value)
        return BandwidthLimit(rates.model_dump(exclude_none=True), ((WeeklyWindow(), rates.bandwidth),))
    if isinstance(value, list):
        return _timetable(value, clock_of(info.context))
    value = whole_number(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise PydanticCustomError("bandwidth", EXPECTED)
    if value < 1:
        raise PydanticCustomError("bandwidth", "must be greater than or equal to 1")
    if value > BANDWIDTH_MAXIMUM:
        raise PydanticCustomError("bandwidth", f"must be less than or equal to {BANDWIDTH_MAXIMUM}")
    return BandwidthLimit(value, ((WeeklyWindow(), Bandwidth(value)),))


def _timetable(value: list[object], clock: WallClock) -> BandwidthLimit:
    if len(value) > ENTRIES_MAXIMUM:
        raise PydanticCustomError("bandwidth", f"must have {ENTRIES_MAXIMUM} entries at most")
    entries = [_read(TimetableEntry, entry, number) for number, entry in enumerate(value)]
    for number, entry in enumerate(entries):
        if (entry.start is None) != (entry.end is None):
            raise invalid("has only one of 'from' and 'to', which belong together", number)
    written = [entry.model_dump(by_alias=True, exclude_none=True) for entry in entries]
    return BandwidthLimit(written, tuple((entry.window, entry.bandwidth) for entry in entries), clock)


def _read(model: type[RatesT], content: object, *place: int) -> RatesT:
    if not isinstance(content, dict):
        raise invalid("must be an object", *place)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise invalid_below(error, model, *place) from None


Limit = Annotated[
    BandwidthLimit | None,
    PlainValidator(_limit),
    PlainSerializer(lambda limit: None if limit is None else limit.written),
]
"""The key, with the time zone in force."""
