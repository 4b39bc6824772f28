"""Asks the module that runs on this device, in whose container this program is, to diagnose its connection."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from iot.sftp.client import (
    ConnectionLost,
    DeadlineExceeded,
    Internal,
    PermissionDenied,
    SFTPError,
    Step,
    Unreachable,
    error_for_code,
)
from iot.sftp.command_line._output import say
from iot.sftp.module._app.check_socket import ANSWER_MAXIMUM, CHECK_LIMIT, NAME, ROOT, connect, content_of, line, places
from iot.sftp.module._base.environment import Environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FIRST_LIMIT = 20.0  # seconds in which the module has to answer at all
LAST_LIMIT = CHECK_LIMIT + FIRST_LIMIT


def traces_of_module(variables: Mapping[str, str]) -> dict[Path, int | None]:
    """Return where a module on this machine has a socket, or has left one, and whose each has to be.

    Anybody can make a directory in the temporary one, so that there it has to be our own. The state directory is the
    module's: there root may ask whoever it belongs to.
    """
    own = os.geteuid()
    in_state, in_temporary = places(Environment.read(variables).state_dir)
    owners = {in_state: None if own == ROOT else own, in_temporary: own}
    return {directory: owner for directory, owner in owners.items() if _is_there(directory / NAME)}


def steps_of_module(owners: Mapping[Path, int | None], timeout: float | None) -> Iterator[Step]:
    """Give each step of the module's diagnosis as it is done.

    Parameters:
        owners: in which directories it may listen, and whose they have to be.
        timeout: seconds for each step, and for the module to answer at all; `None` for its own limits.

    Raises:
        SFTPError: the module does not answer, or why it does not make a diagnosis.
    """
    end = time.monotonic() + LAST_LIMIT
    with _connected(owners) as connection, connection.makefile("rb") as answer:
        with suppress(OSError):  # it may have refused already: that is read below
            connection.settimeout(FIRST_LIMIT if timeout is None else min(FIRST_LIMIT, timeout))
            connection.sendall(line(command="check", **({} if timeout is None else {"timeout": timeout})))
        while True:
            content = _next(answer.readline)
            connection.settimeout(max(0.001, end - time.monotonic()))
            if "end" in content:
                _raise_failure(content["end"])
                return
            if "server" in content:
                say(f"iot-sftp: the running module is asked, about {content['server']}")
            else:
                yield _step(content)


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except PermissionError:  # it is another user's: that is told by whoever asks it
        return True
    except (OSError, ValueError):
        return False
    return True


def _connected(owners: Mapping[Path, int | None]) -> socket.socket:
    """Connect to the first one that answers, or tell why the first one does not."""
    failures: list[SFTPError] = []
    for directory, owner in owners.items():
        try:
            return connect(directory, owner=owner)
        except PermissionError:
            message = f"the module's socket in {directory} is another user's: run this as the module's user"
            failures.append(PermissionDenied(message))
        except OSError as error:
            words = "nobody listens" if isinstance(error, ConnectionRefusedError) else error.strerror or str(error)
            message = f"the module does not answer in {directory} ({words}): see whether it runs, and what its log says"
            failures.append(Unreachable(message))
    raise failures[0]


def _next(readline: Any) -> dict[str, Any]:
    try:
        text = readline(ANSWER_MAXIMUM)
    except TimeoutError:
        message = "the module accepts the question and does not answer: see what its log says"
        raise DeadlineExceeded(message) from None
    except OSError:
        text = b""
    if not text:
        message = "the module hung up before the end: see whether it was stopped, and what its log says"
        raise ConnectionLost(message)
    try:
        return content_of(text)
    except ValueError as error:
        raise _senseless() from error


def _step(content: dict[str, Any]) -> Step:
    try:
        return Step(**content["step"])
    except (KeyError, TypeError) as error:
        raise _senseless() from error


def _raise_failure(end: Any) -> None:
    if not isinstance(end, dict):
        raise _senseless()
    if end.get("code") is not None:
        raise error_for_code(end["code"])(str(end.get("message")))


def _senseless() -> SFTPError:
    return Internal("the module's answer makes no sense: is it of another version than this program?")
