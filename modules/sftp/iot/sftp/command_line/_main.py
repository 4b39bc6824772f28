"""The program: from the command line to an exit status."""

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

DONE, NOT_DONE, NOT_UNDERSTOOD = 0, 1, 2
SIGNAL_BASE = 128  # the exit status of a program that a signal ended, as shells have it
CLEANING_LIMIT = 10.0  # seconds
CANCELLED_BY_ITSELF = {"get", "put"}  # they clean up when they are told to end


class Interrupted(BaseException):
    """A signal asked the program to end."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that is named; return the exit status."""
    if sys.stdout is None or sys.stderr is None:  # it was closed by whoever has started the program
        sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115 - until the end
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    _show_warnings()
    top = parser()
    said = top.parse_arguments(sys.argv[1:] if arguments is None else arguments)
    signals = _Signals()
    try:
        if said.command == "completion":
            print(script(top, said.shell), end="")
            status = DONE
        else:
            status = _run(said, signals)
        sys.stdout.flush()
    except UsageError as error:
        say(f"iot-sftp: {error}")
        return NOT_UNDERSTOOD
    except Interrupted:
        status = NOT_DONE
    except BrokenPipeError:
        _close_output()  # whoever reads has enough, as `head` does
        return SIGNAL_BASE + signal.SIGPIPE
    except OSError as error:  # those of files have become an `SFTPError`
        say(f"iot-sftp: what there is to say cannot be written: {error.strerror}")
        _close_output()
        return NOT_DONE
    if signals.number and status != DONE:
        return SIGNAL_BASE + signals.number
    return status


def _run(arguments: argparse.Namespace, signals: _Signals) -> int:
    if arguments.command == "check":
        return check(arguments, os.environ)
    session = SFTPSession(settings_of(arguments, os.environ))
    signals.in_good_order = arguments.command in CANCELLED_BY_ITSELF
    try:
        COMMANDS[arguments.command](session, arguments, signals.cancelled)
    except AlreadyShownError as error:
        say(f"iot-sftp: {error.__cause__}")
        return NOT_DONE
    except SFTPError as error:
        if arguments.json:
            document(**failed(error))
        if isinstance(error, Cancelled):
            say("iot-sftp: ended by a signal; at the destination is the old file or the new one, whole")
            if arguments.command == "put" and session.counts.connections:
                _clean_up(session)
        else:
            say(f"iot-sftp: {error} [{error.code}]")
        return NOT_DONE
    finally:
        session.disconnect()
    return DONE


def _clean_up(session: SFTPSession) -> None:
    """Connect anew, which removes what the call that was cancelled has left on the server."""
    session.disconnect()
    try:
        session.connect(timeout=CLEANING_LIMIT)
    except SFTPError:
        say("iot-sftp: what is left on the server begins with .iot-sftp-, and is removed by the next command")


def _close_output() -> None:
    """Have Python not complain once more when it flushes at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Signals:
    """Let Ctrl-C and SIGTERM end a transfer in good order, anything else at once; a second one ends all at once.

    Attributes:
        cancelled: set by the first one.
        number: of the last one, or 0.
        in_good_order: whether what runs looks at `cancelled`.
    """

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.number = 0
        self.in_good_order = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._end)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        at_once = not self.in_good_order or self.cancelled.is_set()
        self.number = number
        self.cancelled.set()
        if at_once:
            raise Interrupted


def _show_warnings() -> None:
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # they are for whoever writes programs
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("iot-sftp: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
