"""Log lines in the form of IoT Edge's own modules, one record a line.

    <6> 2026-11-23 15:49:59.123 +00:00 [INF] text

The number is the syslog severity (RFC 5424, section 6.2.1), by which the edge agent's GetModuleLogs filters.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType
    from typing import Any

    ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
LINE_MAXIMUM = 12_000  # characters; container engines cut a line at 16 KiB, and the rest would lose its severity

_SEVERITIES = (
    (logging.CRITICAL, 2, "FTL"),
    (logging.ERROR, 3, "ERR"),
    (logging.WARNING, 4, "WRN"),
    (logging.INFO, 6, "INF"),
    (logging.NOTSET, 7, "DBG"),
)

_log = logging.getLogger(__name__)


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Send every record of this process to `stream` (standard output by default), one line each."""
    logging.raiseExceptions = False  # a broken pipe must not fill standard error with traces
    handler = logging.StreamHandler(sys.stdout if stream is None else stream)
    handler.setFormatter(LineFormatter())
    handler.addFilter(_is_for_people)
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
        text = printable(shortened(printable(shortened(text, LINE_MAXIMUM)), LINE_MAXIMUM))
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        return f"<{severity}> {moment}.{int(record.msecs):03d} +00:00 [{name}] {text}"


def log_loop_exception(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what asyncio would print over several lines."""
    error = context.get("exception")
    trace = (type(error), error, error.__traceback__) if isinstance(error, BaseException) else None
    _log.error("in the event loop: %s", context.get("message"), exc_info=trace)


def _is_for_people(record: logging.LogRecord) -> bool:
    # paramiko logs each line of a trace as a record of its own; the client reports the same failure once, by its name
    return not (record.name.partition(".")[0] == "paramiko" and record.levelno >= logging.ERROR)


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
