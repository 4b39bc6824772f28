"""Suppress repeated log lines: the first failure is logged, its repeats are counted and summed up in one line later."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATED_FOR = 300.0  # seconds in which the same failure is logged once
REPEATED_KEPT = 256  # failures that are remembered
REPEATED_SHOWN = 500  # characters of a failure that are compared

# What differs between two attempts that fail for the same reason
_QUANTITY = re.compile(r"\b\d+(\.\d+)? ?(s|ms|min|seconds|bytes|files|attempts|tries)\b")


def without_quantities(text: str) -> str:
    """Return a text without its quantities: equal for two attempts that fail for the same reason."""
    return _QUANTITY.sub("#", text)


@dataclass
class _Repeated:
    """A failure that was logged, and how often it was repeated."""

    level: int
    thing: str
    prefix: str
    since: float
    text: str = ""
    times: int = 0


class LogSuppression:
    """Passes the first of equal failures, counts those of the next minutes, and sums them up in one record.

    There is no timer. The sum is logged before the next record of any kind once the interval is over, or before a
    record that reports the recovery.
    """

    def __init__(self, interval: float = REPEATED_FOR, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without failures.

        Parameters:
            interval: seconds in which the same failure is logged once.
            clock: returns seconds, and never goes back.
        """
        self._interval = interval
        self._clock = clock
        self._logged: dict[tuple[object, ...], _Repeated] = {}  # the oldest first

    def take(self, record: logging.LogRecord) -> list[logging.LogRecord]:
        """Return what to log for a record: the sums that are due, and the record itself unless it is a repeat."""
        now = self._clock()
        ended = [key for key, failure in self._logged.items() if now - failure.since >= self._interval]
        thing = _thing_of(record)
        if record.levelno < logging.WARNING and not hasattr(record, "repeated"):
            if getattr(record, "thing", None) is not None:
                ended += [key for key, failure in self._logged.items() if failure.thing == thing and key not in ended]
            return [*self._end(ended, now), record]
        key, text = _identity(record, thing)
        known = None if key in ended else self._logged.get(key)
        if known is not None:
            known.times, known.text = known.times + 1, text
            return self._end(ended, now)
        if len(self._logged) - len(ended) >= REPEATED_KEPT:
            ended.append(next(other for other in self._logged if other not in ended))
        counted = self._end(ended, now)
        self._logged[key] = _Repeated(record.levelno, thing, _prefix_of(record), now)
        return [*counted, record]

    def rest(self) -> list[logging.LogRecord]:
        """Return the sums of all repeats that were not logged yet."""
        return self._end(list(self._logged), self._clock())

    def _end(self, keys: list[tuple[object, ...]], now: float) -> list[logging.LogRecord]:
        ended = [self._logged.pop(key) for key in keys]
        return [_summary(failure, now) for failure in ended if failure.times]


def _prefix_of(record: logging.LogRecord) -> str:
    named = getattr(record, "subject", None)
    return "" if named is None else f"{getattr(record, 'thing', named.thing)}: "


def _thing_of(record: logging.LogRecord) -> str:
    named = getattr(record, "subject", None)
    return str(getattr(record, "thing", record.name if named is None else named.thing))


def _identity(record: logging.LogRecord, thing: str) -> tuple[tuple[object, ...], str]:
    """Return the key that two records of the same failure share, and the text."""
    given = record.args.values() if isinstance(record.args, Mapping) else record.args or ()
    try:
        text = record.getMessage()
        words = [str(value) for value in given if not isinstance(value, int | float)]
    except Exception:  # noqa: BLE001 - such a record is still logged
        text, words = str(record.msg), []
    template = without_quantities(str(record.msg)[:REPEATED_SHOWN])
    said = tuple(without_quantities(word[:REPEATED_SHOWN]) for word in words)
    error = repr(record.exc_info[1])[:REPEATED_SHOWN] if record.exc_info else ""
    return (record.levelno, record.name, thing, template, said, error), text[:REPEATED_SHOWN]


def _summary(failure: _Repeated, now: float) -> logging.LogRecord:
    seconds = now - failure.since
    period = f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} min"  # noqa: PLR2004 - a minute
    times = "once more" if failure.times == 1 else f"{failure.times} more times"
    text = f"{failure.prefix}… {times} in {period}: {failure.text}"
    return logging.makeLogRecord({"name": __name__, "msg": text, "levelno": failure.level})
