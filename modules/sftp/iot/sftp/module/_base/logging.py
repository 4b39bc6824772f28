"""Format log lines as IoT Edge's own modules do, one line for each record: see `LineFormatter`.

    <6> 2026-11-23 15:49:59.123 +00:00 [INF] text

The number is the syslog severity (RFC 5424, section 6.2.1), by which the edge agent's GetModuleLogs filters.

What is logged on behalf of a call, a task or a rule begins with its name, also where the client logs it:

    with subject("call 3fa2c1 download_file"):
        _log.info("done")                                                 # call 3fa2c1 download_file: done

A failure that repeats one of the last minutes is counted, and summed up in one line later (`log_suppression`). `about`
names what failed; a record below `warning` about the same thing reports the recovery:

    _log.warning("no way: %s", reason, extra=about("rule a"))
    _log.info("all is well again", extra=about("rule a"))
"""

from __future__ import annotations

import logging
import sys
import time
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from iot.sftp.client._base.text import excerpt, printable, shortened
from iot.sftp.module._base.log_filters import is_of_interest
from iot.sftp.module._base.log_suppression import LogSuppression
from iot.sftp.module._base.uncaught import log_uncaught_exceptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler  # Python 3.10 does not take a parameter here

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
LINE_MAXIMUM = 12_000  # bytes; container engines cut a line at 16 KiB, and the rest would lose its severity

_SEVERITIES = (
    (logging.CRITICAL, 2, "FTL"),
    (logging.ERROR, 3, "ERR"),
    (logging.WARNING, 4, "WRN"),
    (logging.INFO, 6, "INF"),
    (logging.NOTSET, 7, "DBG"),
)

# Where the client has paramiko log, at level debug only
_PARAMIKO = "iot.sftp.client.ssh."


@dataclass(frozen=True)
class _Subject:
    """On whose behalf something is logged: its name, and the thing that failures are counted by."""

    name: str
    thing: str


_subject: ContextVar[_Subject | None] = ContextVar("subject", default=None)


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Write every record of this process to `stream` (standard output by default), one line each."""
    logging.raiseExceptions = False  # a broken pipe must not fill standard error with traces
    handler = LineHandler(sys.stdout if stream is None else stream)
    handler.setFormatter(LineFormatter())
    handler.addFilter(is_of_interest)
    handler.addFilter(_add_subject)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)
    logging.captureWarnings(capture=True)
    log_uncaught_exceptions()


def set_level(level: str) -> None:
    """Change the level at once: `debug`, `info`, `warning` or `error`."""
    # Lower than WARNING, the SDK logs whole twins, with the passwords in them: no configuration allows that.
    logging.getLogger().setLevel(max(logging.WARNING, LEVELS[level]))
    logging.getLogger("iot").setLevel(LEVELS[level])
    logging.getLogger("paramiko").setLevel(logging.INFO if level == "debug" else logging.CRITICAL)


def log_what_was_counted() -> None:
    """Log the sums of repeated failures that were not logged yet, before the process ends."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LineHandler):
            handler.emit_rest()


@contextmanager
def subject(name: str, thing: str | None = None) -> Iterator[None]:
    """Begin each line that is logged in the block with a name, also in threads that the client starts.

    Parameters:
        name: such as `call 3fa2c1 download_file`.
        thing: what failures are counted by, where that is not the name.
    """
    token = _subject.set(_Subject(name, thing or name))
    try:
        yield
    finally:
        _subject.reset(token)


def about(thing: str) -> dict[str, str]:
    """Return the `extra` of a record that reports the failure of a thing, or its recovery."""
    return {"thing": thing}


class LineFormatter(logging.Formatter):
    """Formats a record, its trace included, as one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        severity, name = next((number, name) for level, number, name in _SEVERITIES if record.levelno >= level)
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record.created))
        try:
            text = super().format(record)
        except Exception as error:  # noqa: BLE001 - a record that cannot be formatted is still logged
            text = f"{record.msg!r} with {record.args!r} cannot be formatted: {error!r}"
        text = f"{_origin(record)}{text}"
        text = excerpt(printable(shortened(text, LINE_MAXIMUM)), LINE_MAXIMUM)
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        text = _within(text.encode(encoding, "backslashreplace"), LINE_MAXIMUM).decode(encoding, "ignore")
        return f"<{severity}> {moment}.{int(record.msecs):03d} +00:00 [{name}] {text}"


class LineHandler(_StreamHandler):
    """Writes records to a stream, without repeated failures."""

    def __init__(self, stream: TextIO) -> None:
        """Take the stream."""
        super().__init__(stream)
        self._repeats = LogSuppression()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, and the sums that are due."""
        for line in self._repeats.take(record):
            super().emit(line)

    def emit_rest(self) -> None:
        """Write the sums of repeats that were not written yet."""
        with self.lock or nullcontext():
            for line in self._repeats.rest():
                super().emit(line)


def _within(text: bytes, maximum: int) -> bytes:
    return text if len(text) <= maximum else text[:maximum] + b"... (cut)"


def _add_subject(record: logging.LogRecord) -> bool:
    if not hasattr(record, "subject"):
        record.subject = _subject.get()
    return True


def _origin(record: logging.LogRecord) -> str:
    """Return the beginning of a line: on whose behalf it is logged, and the library if it is not this project."""
    named = getattr(record, "subject", None)
    if (record.name or "root").partition(".")[0] not in {"iot", "root"}:
        library = f"{record.name}: "
    else:
        library = "paramiko: " if f"{record.name}.".startswith(_PARAMIKO) else ""
    return library if named is None else f"{named.name}: {library}"
