"""The program: parses the arguments, runs a command, returns the exit status."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from typing import TYPE_CHECKING

from iot.sftp.client import Cancelled, SFTPError, SFTPSession
from iot.sftp.client._base.text import printable
from iot.sftp.command_line._arguments import parser
from iot.sftp.command_line._check import check
from iot.sftp.command_line._commands import COMMANDS, AlreadyShownError
from iot.sftp.command_line._completion import script
from iot.sftp.command_line._output import document, failed, say
from iot.sftp.command_line._server import UsageError, settings_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from types import FrameType

SUCCESS, FAILURE, USAGE_ERROR = 0, 1, 2
SIGNAL_BASE = 128  # plus the number: the exit status of a program that a signal ended, as shells report it
CLEANUP_LIMIT = 10.0  # seconds
CANCELLABLE = {"get", "put", "rmdir"}  # commands that come to an orderly end when they are cancelled


class Interrupted(BaseException):
    """A signal asked the program to end."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    if sys.stdout is None or sys.stderr is None:  # the parent process has closed it
        sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115 - until the end
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    _show_warnings()
    top = parser()
    parsed = top.parse_arguments(sys.argv[1:] if arguments is None else arguments)
    signals = _Signals()
    try:
        if parsed.command == "completion":
            print(script(top, parsed.shell), end="")
            status = SUCCESS
        else:
            status = _run(parsed, signals)
        sys.stdout.flush()
    except UsageError as error:
        say(f"iot-sftp: {error}")
        return USAGE_ERROR
    except Interrupted:
        status = FAILURE
    except BrokenPipeError:
        _close_output()  # the reader has closed the pipe, as `head` does
        return SIGNAL_BASE + signal.SIGPIPE
    except OSError as error:  # not one of a transferred file, which is an `SFTPError`
        say(f"iot-sftp: the output cannot be written: {error.strerror}")
        _close_output()
        return FAILURE
    if signals.number and status != SUCCESS:
        return SIGNAL_BASE + signals.number
    return status


def _run(arguments: argparse.Namespace, signals: _Signals) -> int:
    if arguments.command == "check":
        return check(arguments, os.environ)
    session = SFTPSession(settings_of(arguments, os.environ))
    signals.is_cancellable = arguments.command in CANCELLABLE
    try:
        COMMANDS[arguments.command](session, arguments, signals.cancelled)
    except AlreadyShownError as error:
        say(f"iot-sftp: {error.__cause__}")
        return FAILURE
    except SFTPError as error:
        if arguments.json:
            document(**failed(error))
        if isinstance(error, Cancelled) and arguments.command == "rmdir":
            say(f"iot-sftp: ended by a signal: {error}")
        elif isinstance(error, Cancelled):
            say("iot-sftp: ended by a signal; the destination is the complete old file or the complete new one")
            if arguments.command == "put" and session.counts.connections:
                _clean_up(session)
        else:
            say(f"iot-sftp: {error} [{error.code}]")
        return FAILURE
    finally:
        session.disconnect()
    return SUCCESS


def _clean_up(session: SFTPSession) -> None:
    """Reconnect, which removes the temporary files of the cancelled transfer from the server."""
    session.disconnect()
    try:
        session.connect(timeout=CLEANUP_LIMIT)
    except SFTPError:
        say("iot-sftp: temporary files on the server, .iot-sftp-…, are left; the next command removes them")


def _close_output() -> None:
    """Redirect the output, so that Python's flush at the exit does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Signals:
    """Handles Ctrl-C and SIGTERM: the first one cancels a transfer, a second one, or any other command, ends at once.

    Attributes:
        cancelled: set by the first signal.
        number: of the last signal, or 0.
        is_cancellable: whether the running command checks `cancelled`.
    """

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.number = 0
        self.is_cancellable = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._end)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        at_once = not self.is_cancellable or self.cancelled.is_set()
        self.number = number
        self.cancelled.set()
        if at_once:
            raise Interrupted


def _show_warnings() -> None:
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # they are for developers
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("iot-sftp: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
