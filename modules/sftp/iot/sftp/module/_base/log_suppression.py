"""The same failure again: told once, then counted, and told together with the others afterwards."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATED_FOR = 300.0  # seconds in which the same failure is told once
REPEATED_KEPT = 256  # failures that are remembered
REPEATED_SHOWN = 500  # characters of a failure that are remembered

# What differs between two tries of the same: it makes no other failure
_QUANTITY = re.compile(r"\b\d+(\.\d+)? ?(s|ms|min|seconds|bytes|files|attempts|tries)\b")


def without_quantities(text: str) -> str:
    """Return what is the same in two tries that fail for the same reason, however long or far each has come."""
    return _QUANTITY.sub("#", text)


@dataclass
class _Repeated:
    """A failure that was told, and how often it came again."""

    level: int
    thing: str
    prefix: str
    since: float
    text: str = ""
    times: int = 0


class LogSuppression:
    """Lets the first of equal failures through, counts those of the next minutes, and tells how many there were.

    Nothing happens by itself: what was counted is told before the next record, whatever that is about, once its time
    is over; at once before a record that tells that all is well again.
    """

    def __init__(self, interval: float = REPEATED_FOR, clock: Callable[[], float] = time.monotonic) -> None:
        """Know of no failure yet.

        Parameters:
            interval: seconds in which the same failure is told once.
            clock: tells the seconds.
        """
        self._interval = interval
        self._clock = clock
        self._told: dict[tuple[object, ...], _Repeated] = {}  # the oldest first

    def take(self, record: logging.LogRecord) -> list[logging.LogRecord]:
        """Return what is to be logged now that a record has come: what was counted, and mostly the record itself."""
        now = self._clock()
        ended = [key for key, failure in self._told.items() if now - failure.since >= self._interval]
        thing = _thing_of(record)
        if record.levelno < logging.WARNING and not hasattr(record, "repeated"):
            if getattr(record, "thing", None) is not None:
                ended += [key for key, failure in self._told.items() if failure.thing == thing and key not in ended]
            return [*self._end(ended, now), record]
        key, text = _identity(record, thing)
        known = None if key in ended else self._told.get(key)
        if known is not None:
            known.times, known.text = known.times + 1, text
            return self._end(ended, now)
        if len(self._told) - len(ended) >= REPEATED_KEPT:
            ended.append(next(other for other in self._told if other not in ended))
        counted = self._end(ended, now)
        self._told[key] = _Repeated(record.levelno, thing, _prefix_of(record), now)
        return [*counted, record]

    def rest(self) -> list[logging.LogRecord]:
        """Return what was counted and not told yet."""
        return self._end(list(self._told), self._clock())

    def _end(self, keys: list[tuple[object, ...]], now: float) -> list[logging.LogRecord]:
        ended = [self._told.pop(key) for key in keys]
        return [_summary(failure, now) for failure in ended if failure.times]


def _prefix_of(record: logging.LogRecord) -> str:
    named = getattr(record, "subject", None)
    return "" if named is None else f"{getattr(record, 'thing', named.thing)}: "


def _thing_of(record: logging.LogRecord) -> str:
    named = getattr(record, "subject", None)
    return str(getattr(record, "thing", record.name if named is None else named.thing))


def _identity(record: logging.LogRecord, thing: str) -> tuple[tuple[object, ...], str]:
    """Return what two records have in common that tell of the same failure, and its text."""
    given = record.args.values() if isinstance(record.args, Mapping) else record.args or ()
    try:
        text = record.getMessage()
        words = [str(value) for value in given if not isinstance(value, int | float)]
    except Exception:  # noqa: BLE001 - such a record is still worth a line
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
