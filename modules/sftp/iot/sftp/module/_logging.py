"""Log lines in the form of IoT Edge's own modules, one record a line.

    <6> 2026-11-23 15:49:59.123 +00:00 [INF] text

The number is the syslog severity (RFC 5424, section 6.2.1), by which the edge agent's GetModuleLogs filters.

What is logged on behalf of a call, a task or a rule begins with its name, also where the client logs it:

    with subject("call 3fa2c1 download_file"):
        _log.info("done")                                                 # call 3fa2c1 download_file: done

A failure that is the same as one of the last minutes is counted, and told in one line later. `about` says of what it is
a failure, and a record below `warning` that is about the same thing tells that it has ended:

    _log.warning("no way: %s", reason, extra=about("rule a"))
    _log.info("all is well again", extra=about("rule a"))
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Any

    ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
LINE_MAXIMUM = 12_000  # characters; container engines cut a line at 16 KiB, and the rest would lose its severity
PATH_SHOWN = 200  # characters
REPEATED_FOR = 300.0  # seconds in which the same failure is told once
REPEATED_KEPT = 256  # failures that are remembered
REPEATED_SHOWN = 500  # characters of a failure that are remembered

_SEVERITIES = (
    (logging.CRITICAL, 2, "FTL"),
    (logging.ERROR, 3, "ERR"),
    (logging.WARNING, 4, "WRN"),
    (logging.INFO, 6, "INF"),
    (logging.NOTSET, 7, "DBG"),
)

# What differs between two tries of the same: it makes no other failure
_QUANTITY = re.compile(r"\b\d+(\.\d+)? ?(s|ms|min|seconds|bytes)\b")
# Where the SDK tells of each connection that broke, in two records; when that is worth a warning, the module says so
_SDK_BACKGROUND = "azure.iot.device.common.handle_exceptions"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Subject:
    """On whose behalf something is logged: its name, and what outlives it (a call that is made again)."""

    name: str
    thing: str


_subject: ContextVar[_Subject | None] = ContextVar("subject", default=None)


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Send every record of this process to `stream` (standard output by default), one line each."""
    logging.raiseExceptions = False  # a broken pipe must not fill standard error with traces
    handler = LineHandler(sys.stdout if stream is None else stream)
    handler.setFormatter(LineFormatter())
    handler.addFilter(_is_for_people)
    handler.addFilter(_add_subject)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Lower than this, the SDK logs whole twins, with the passwords in them: its level is not open to configuration.
    root.setLevel(logging.WARNING)
    set_level(level)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def set_level(level: str) -> None:
    """Take another level at once: `debug`, `info`, `warning` or `error`."""
    logging.getLogger("iot").setLevel(LEVELS[level])
    logging.getLogger("paramiko").setLevel(logging.INFO if level == "debug" else logging.CRITICAL)


@contextmanager
def subject(name: str, thing: str | None = None) -> Iterator[None]:
    """Put a name before each line that is logged meanwhile, in this thread and in those that the client starts.

    Parameters:
        name: such as `call 3fa2c1 download_file`.
        thing: what failures are about, where that is something else than the name.
    """
    token = _subject.set(_Subject(name, thing or name))
    try:
        yield
    finally:
        _subject.reset(token)


def about(thing: str) -> dict[str, str]:
    """Return the `extra` of a record that tells of a failure of something, or that it is well again."""
    return {"thing": thing}


def quoted(path: str) -> str:
    """Return a path for a line: printable, in quotes, not too long."""
    return repr(shortened(path, PATH_SHOWN))


def rate(size: float, seconds: float) -> str:
    """Word a rate, as `21.8 MB/s`."""
    value = size / max(seconds, 1e-3)
    for unit in ("B", "kB", "MB"):
        if value < 1000:  # noqa: PLR2004 - the step between two units
            return f"{value:.3g} {unit}/s"
        value /= 1000
    return f"{value:.3g} GB/s"


def printable(text: str) -> str:
    """Escape what would break a line or act on a terminal: control and bidirectional characters, lone surrogates."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def shortened(text: str, maximum: int) -> str:
    """Cut a text that is longer than `maximum` characters, and say how much is missing."""
    return text if len(text) <= maximum else f"{text[:maximum]}… ({len(text) - maximum} more)"


class LineFormatter(logging.Formatter):
    """Formats a record, its trace included, as one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        severity, name = next((number, name) for level, number, name in _SEVERITIES if record.levelno >= level)
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record.created))
        try:
            text = super().format(record)
        except Exception as error:  # noqa: BLE001 - a record that cannot be formatted is still worth a line
            text = f"{record.msg!r} with {record.args!r} cannot be formatted: {error!r}"
        text = f"{_origin(record)}{text}"
        text = printable(shortened(printable(shortened(text, LINE_MAXIMUM)), LINE_MAXIMUM))
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        return f"<{severity}> {moment}.{int(record.msecs):03d} +00:00 [{name}] {text}"


@dataclass
class _Repeated:
    """A failure that was told, and how often it came again."""

    thing: str
    prefix: str
    since: float
    text: str = ""
    times: int = 0


class Repeats:
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
        self._told[key] = _Repeated(thing, _prefix_of(record), now)
        return [*counted, record]

    def _end(self, keys: list[tuple[object, ...]], now: float) -> list[logging.LogRecord]:
        ended = [(key, self._told.pop(key)) for key in keys]
        return [_summary(failure, now, int(str(key[0]))) for key, failure in ended if failure.times]


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes records to a stream, the same failure not again and again."""

    def __init__(self, stream: TextIO) -> None:
        """Take the stream."""
        super().__init__(stream)
        self._repeats = Repeats()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, and what it brings about."""
        for line in self._repeats.take(record):
            super().emit(line)


def log_loop_exception(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what asyncio would print over several lines."""
    error = context.get("exception")
    trace = (type(error), error, error.__traceback__) if isinstance(error, BaseException) else None
    _log.error("in the event loop: %s", context.get("message"), exc_info=trace)


def _is_for_people(record: logging.LogRecord) -> bool:
    # paramiko logs each line of a trace as a record of its own; the client reports the same failure once, by its name
    if record.name.partition(".")[0] == "paramiko" and record.levelno >= logging.ERROR:
        return False
    if record.name == _SDK_BACKGROUND:
        return _is_news_of_the_sdk(record)
    return True


def _is_news_of_the_sdk(record: logging.LogRecord) -> bool:
    """Reword what the SDK says of an exception in its threads; its first record of two says only that there is one."""
    if not isinstance(record.msg, list):
        return not str(record.msg).startswith("Exception caught in background thread")
    record.msg = "".join(str(part) for part in record.msg).strip()
    if "ConnectionDroppedError" in record.msg or "ConnectionFailedError" in record.msg:
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.repeated = True  # it comes again with each try to connect
    return _log.isEnabledFor(record.levelno)


def _add_subject(record: logging.LogRecord) -> bool:
    if not hasattr(record, "subject"):
        record.subject = _subject.get()
    return True


def _origin(record: logging.LogRecord) -> str:
    """Return what a line begins with: on whose behalf it is logged, and by which library if it is none of ours."""
    named = getattr(record, "subject", None)
    library = "" if (record.name or "root").partition(".")[0] in {"iot", "root"} else f"{record.name}: "
    return library if named is None else f"{named.name}: {library}"


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
    template = _QUANTITY.sub("#", str(record.msg)[:REPEATED_SHOWN])
    said = tuple(_QUANTITY.sub("#", word[:REPEATED_SHOWN]) for word in words)
    error = repr(record.exc_info[1])[:REPEATED_SHOWN] if record.exc_info else ""
    return (record.levelno, record.name, thing, template, said, error), shortened(text, REPEATED_SHOWN)


def _summary(failure: _Repeated, now: float, level: int) -> logging.LogRecord:
    seconds = now - failure.since
    period = f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} min"  # noqa: PLR2004 - a minute
    times = "once more" if failure.times == 1 else f"{failure.times} more times"
    text = f"{failure.prefix}… {times} in {period}: {failure.text}"
    return logging.makeLogRecord({"name": _log.name, "msg": text, "levelno": level})


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _log.critical("uncaught: %r", error, exc_info=(kind, error, trace))


def _log_uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    error = arguments.exc_value or arguments.exc_type()
    _log.error(
        "uncaught in thread %s: %r",
        arguments.thread.name if arguments.thread else "?",
        error,
        exc_info=(arguments.exc_type, error, arguments.exc_traceback),
    )
