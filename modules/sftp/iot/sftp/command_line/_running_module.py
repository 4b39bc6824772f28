"""Asks the running module, in whose container this program is, to diagnose its connection."""

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
from iot.sftp.module._app.check_socket import (
    ANSWER_MAXIMUM,
    CHECK,
    CHECK_LIMIT,
    LIST,
    NAME,
    ROOT,
    connect,
    directories,
    encode_line,
    parse_line,
)
from iot.sftp.module._base.environment import Environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FIRST_LIMIT = 20.0  # seconds until the first line of the answer


def traces_of_module(variables: Mapping[str, str]) -> dict[Path, int | None]:
    """Return the directories in which there is a socket of a module, and the user that each has to belong to.

    Anybody can make a directory in the temporary one, so there it has to be our own. The state directory belongs to the
    module: there root may connect to any user's socket.
    """
    own = os.geteuid()
    in_state, in_temporary = directories(Environment.read(variables).state_dir)
    owners = {in_state: None if own == ROOT else own, in_temporary: own}
    return {directory: owner for directory, owner in owners.items() if _is_there(directory / NAME)}


def servers_of_module(owners: Mapping[Path, int | None], timeout: float | None) -> list[str]:
    """Return the names of the module's servers.

    Parameters:
        owners: the directories in which it may listen, and the user that each has to belong to.
        timeout: seconds for each line of the answer; `None` for the module's own limit.

    Raises:
        SFTPError: the module does not answer, or the reason why it refuses.
    """
    names: list[str] = []
    with _connected(owners) as connection, connection.makefile("rb") as answer:
        with suppress(OSError):  # the module may have refused already: its answer is read below
            connection.settimeout(FIRST_LIMIT if timeout is None else min(FIRST_LIMIT, timeout))
            connection.sendall(encode_line(command=LIST))
        while "end" not in (content := _next(answer.readline)):
            found = content.get("servers")
            if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
                raise _invalid_answer()
            names += found
        _raise_failure(content["end"])
    return names


def steps_of_module(
    owners: Mapping[Path, int | None],
    timeout: float | None,
    *,
    name: str | None = None,
    first_limit: float = FIRST_LIMIT,
) -> Iterator[Step]:
    """Yield each step of the module's diagnosis as it is done.

    Parameters:
        owners: the directories in which it may listen, and the user that each has to belong to.
        timeout: seconds for each step, and for the first line of the answer; `None` for the module's own limits.
        name: of the server; `None` for the default one.
        first_limit: seconds for the first line of the answer at most.

    Raises:
        SFTPError: the module does not answer, or the reason why it refuses the diagnosis.
    """
    end = time.monotonic() + CHECK_LIMIT + first_limit
    with _connected(owners) as connection, connection.makefile("rb") as answer:
        with suppress(OSError):  # the module may have refused already: its answer is read below
            connection.settimeout(first_limit if timeout is None else min(first_limit, timeout))
            options = {"timeout": timeout, "name": name}
            given = {key: value for key, value in options.items() if value is not None}
            connection.sendall(encode_line(command=CHECK, **given))
        while True:
            content = _next(answer.readline)
            connection.settimeout(max(0.001, end - time.monotonic()))
            if "end" in content:
                _raise_failure(content["end"])
                return
            if "server" in content:
                say(f"iot-sftp: asking the running module about {content['server']}")
            else:
                yield _step(content)


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except PermissionError:  # it belongs to another user: connecting to it reports that
        return True
    except (OSError, ValueError):
        return False
    return True


def _connected(owners: Mapping[Path, int | None]) -> socket.socket:
    """Connect to the first one that answers, or raise the reason why the first one does not."""
    failures: list[SFTPError] = []
    for directory, owner in owners.items():
        try:
            return connect(directory, owner=owner)
        except PermissionError:
            message = f"the module's socket in {directory} belongs to another user: run this as the module's user"
            failures.append(PermissionDenied(message))
        except OSError as error:
            words = "no process listens" if isinstance(error, ConnectionRefusedError) else error.strerror or str(error)
            message = f"the module does not answer in {directory} ({words}): check that it runs, and read its log"
            failures.append(Unreachable(message))
    raise failures[0]


def _next(readline: Any) -> dict[str, Any]:
    try:
        text = readline(ANSWER_MAXIMUM)
    except TimeoutError:
        message = "the module accepted the connection and does not answer: read its log"
        raise DeadlineExceeded(message) from None
    except OSError:
        text = b""
    if not text:
        message = "the module disconnected before the end: check whether it was stopped, and read its log"
        raise ConnectionLost(message)
    try:
        return parse_line(text)
    except ValueError as error:
        raise _invalid_answer() from error


def _step(content: dict[str, Any]) -> Step:
    try:
        return Step(**content["step"])
    except (KeyError, TypeError) as error:
        raise _invalid_answer() from error


def _raise_failure(end: Any) -> None:
    if not isinstance(end, dict):
        raise _invalid_answer()
    if end.get("code") is not None:
        raise error_for_code(end["code"])(str(end.get("message")))


def _invalid_answer() -> SFTPError:
    return Internal("the module's answer is invalid: is the module of another version than this program?")
