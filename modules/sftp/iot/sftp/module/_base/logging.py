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
import sys
import threading
import time
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from iot.sftp.module._base.repeats import Repeats
from iot.sftp.module._base.waiting import ABANDONED

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any

    from iot.sftp.client import SFTPError

    ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler  # Python 3.10 does not take a parameter here

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
LINE_MAXIMUM = 12_000  # bytes; container engines cut a line at 16 KiB, and the rest would lose its severity
PATH_SHOWN = 200  # characters

_SEVERITIES = (
    (logging.CRITICAL, 2, "FTL"),
    (logging.ERROR, 3, "ERR"),
    (logging.WARNING, 4, "WRN"),
    (logging.INFO, 6, "INF"),
    (logging.NOTSET, 7, "DBG"),
)

# Where the SDK tells of each connection that broke, in two records; when that is worth a warning, the module says so
_SDK_BACKGROUND = "azure.iot.device.common.handle_exceptions"

# Where the client has paramiko log, at level debug only
_PARAMIKO = "iot.sftp.client.ssh."

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
    set_level(level)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread
    sys.unraisablehook = _log_unraisable


def set_level(level: str) -> None:
    """Take another level at once: `debug`, `info`, `warning` or `error`."""
    # Lower than WARNING, the SDK logs whole twins, with the passwords in them: that is not open to configuration.
    logging.getLogger().setLevel(max(logging.WARNING, LEVELS[level]))
    logging.getLogger("iot").setLevel(LEVELS[level])
    logging.getLogger("paramiko").setLevel(logging.INFO if level == "debug" else logging.CRITICAL)


def log_what_was_counted() -> None:
    """Tell of the failures that came again and were not told yet: there may be no later moment."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LineHandler):
            handler.emit_rest()


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


def told(error: SFTPError) -> str:
    """Return what an error says, with the path that it is about."""
    if error.path is None:
        return error.message
    path = shortened(printable(error.path), PATH_SHOWN)
    return error.message if f"'{path}'" in error.message else f"'{path}': {error.message}"


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
        text = _within(text.encode(encoding, "backslashreplace"), LINE_MAXIMUM).decode(encoding, "ignore")
        return f"<{severity}> {moment}.{int(record.msecs):03d} +00:00 [{name}] {text}"


class LineHandler(_StreamHandler):
    """Writes records to a stream, the same failure not again and again."""

    def __init__(self, stream: TextIO) -> None:
        """Take the stream."""
        super().__init__(stream)
        self._repeats = Repeats()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, and what it brings about."""
        for line in self._repeats.take(record):
            super().emit(line)

    def emit_rest(self) -> None:
        """Write what was counted and not told yet."""
        with self.lock or nullcontext():
            for line in self._repeats.rest():
                super().emit(line)


def log_loop_exception(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what asyncio would print over several lines, but not that something is gone which was given up before."""
    task: asyncio.Task[Any] | None = context.get("task")
    if task is not None and task.get_name() == ABANDONED:
        _log.debug("in the event loop: %s", context.get("message"))
        return
    error = context.get("exception")
    trace = (type(error), error, error.__traceback__) if isinstance(error, BaseException) else None
    _log.error("in the event loop: %s", context.get("message"), exc_info=trace)


def _within(text: bytes, maximum: int) -> bytes:
    return text if len(text) <= maximum else text[:maximum] + b"... (cut)"


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
    if (record.name or "root").partition(".")[0] not in {"iot", "root"}:
        library = f"{record.name}: "
    else:
        library = "paramiko: " if f"{record.name}.".startswith(_PARAMIKO) else ""
    return library if named is None else f"{named.name}: {library}"


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _log.critical("uncaught: %r", error, exc_info=(kind, error, trace))


def _log_unraisable(arguments: sys.UnraisableHookArgs) -> None:
    error = arguments.exc_value or arguments.exc_type()
    trace = (arguments.exc_type, error, arguments.exc_traceback)
    try:
        thing = repr(arguments.object)
    except Exception:  # noqa: BLE001 - it is half gone
        thing = type(arguments.object).__name__
    _log.error("uncaught where nobody can catch it, in %s: %r", thing, error, exc_info=trace)


def _log_uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    error = arguments.exc_value or arguments.exc_type()
    _log.error(
        "uncaught in thread %s: %r",
        arguments.thread.name if arguments.thread else "?",
        error,
        exc_info=(arguments.exc_type, error, arguments.exc_traceback),
    )
