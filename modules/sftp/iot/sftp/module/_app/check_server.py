"""Answers `iot-sftp check` on this device: the module diagnoses its own connection, with the secrets that it has.

A client cannot block the module: the number of connections and the time for each are bounded, and each has a thread of
its own.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from iot.sftp.client import (
    Busy,
    ConnectionLost,
    DeadlineExceeded,
    InvalidRequest,
    PermissionDenied,
    SFTPError,
    diagnose,
)
from iot.sftp.module._app.check_socket import (
    CHECK,
    CHECK_LIMIT,
    LIST,
    REQUEST_MAXIMUM,
    ROOT,
    Listener,
    directories,
    encode_line,
    parse_line,
    peer,
)
from iot.sftp.module._app.diagnosis import Diagnosis
from iot.sftp.module._base.logging import subject
from iot.sftp.module._documents.servers import DEFAULT_SERVER

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from iot.sftp.client import ServerSettings, Step
    from iot.sftp.module._app.diagnosis import Diagnose

CONNECTIONS = 4  # at a time
DIAGNOSES = 2  # at a time: one that hangs in a step does not prevent another one from showing where it hangs
ACCEPT_PAUSE = 1.0  # seconds after a connection that could not be accepted
SHORTEST = 0.1  # seconds that may be asked for a step

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CheckLimits:
    """Time limits, in seconds.

    Attributes:
        check: for a diagnosis.
        request: until the request has arrived.
        send: until the client has received a line.
        accept: between two looks whether the socket is still in its place.
        stop: until the server has ended.
    """

    check: float = CHECK_LIMIT
    request: float = 5.0
    send: float = 5.0
    accept: float = 5.0
    stop: float = 1.0


class CheckServer:
    """Serves a Unix socket on which root and the module's own user can ask for a diagnosis."""

    def __init__(
        self,
        state_dir: Path,
        settings: Callable[[str], ServerSettings],
        servers: Callable[[], Sequence[str]] = lambda: (DEFAULT_SERVER,),
        *,
        diagnose: Diagnose = diagnose,
        limits: CheckLimits | None = None,
    ) -> None:
        """Take where to listen, and what to diagnose; nothing is started.

        Parameters:
            state_dir: the state directory; where it cannot be written, the temporary directory takes its place.
            settings: returns those in force of a server, or raises an `SFTPError`; called from any thread.
            servers: returns the names of the servers that can be diagnosed; called from any thread.
            diagnose: yields the steps of a diagnosis.
            limits: time limits.
        """
        self._directories = directories(state_dir)
        self._settings = settings
        self._servers = servers
        self._diagnose = diagnose
        self._limits = limits or CheckLimits()
        self._connections = threading.BoundedSemaphore(CONNECTIONS)
        self._diagnoses = threading.BoundedSemaphore(DIAGNOSES)
        self._stopping = threading.Event()
        self._listener: Listener | None = None
        self._warned = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to serve; where no socket can be made, log one warning, and retry until it can."""
        self._listener = self._listen()
        self._thread = threading.Thread(target=self._serve, name="check-server", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop to serve, and remove the socket."""
        self._stopping.set()
        listener = self._listener
        if listener is not None:
            with suppress(OSError):
                listener.socket.shutdown(socket.SHUT_RDWR)  # which wakes the thread that accepts
        if self._thread is not None:
            self._thread.join(self._limits.stop)

    # --- In the server's thread

    def _serve(self) -> None:
        while not self._stopping.is_set():
            if self._listener is None:
                if not self._stopping.wait(self._limits.accept):
                    self._listener = self._listen()
            elif self._listener.can_be_reached:
                self._accept(self._listener.socket)
            else:  # the directory was removed, with the socket in it
                self._listener.close()
                self._listener = self._listen()
        if self._listener is not None:
            self._listener.close()

    def _listen(self) -> Listener | None:
        reasons = []
        for directory in self._directories:
            try:
                return Listener(directory, self._limits.accept)
            except OSError as error:
                reasons.append(f"{directory}: {error.strerror or error}")
        level = logging.DEBUG if self._warned else logging.WARNING
        self._warned = True
        _log.log(level, "iot-sftp check cannot ask this module, as no socket can be made: %s", "; ".join(reasons))
        return None

    def _accept(self, listener: socket.socket) -> None:
        """Wait for a connection, for a while."""
        try:
            connection, _ = listener.accept()
        except BlockingIOError:  # none came
            pass
        except OSError:  # the end, or no descriptor is left
            self._stopping.wait(ACCEPT_PAUSE)
        else:
            self._admit(connection)

    def _admit(self, connection: socket.socket) -> None:
        """Answer in a thread of its own, or refuse at once."""
        user = peer(connection)
        if user not in (ROOT, os.geteuid()):
            _refuse(connection, PermissionDenied(f"the module answers root and its own user, not uid {user}"))
        elif not self._connections.acquire(blocking=False):
            _refuse(connection, Busy(f"{CONNECTIONS} other clients are connected: try again in a moment"))
        else:
            try:
                threading.Thread(target=self._answer, args=(connection, user), name="check", daemon=True).start()
            except RuntimeError:  # no thread is left
                self._connections.release()
                _refuse(connection, Busy("no thread is left: try again in a moment"))

    # --- In the thread of a connection

    def _answer(self, connection: socket.socket, user: int) -> None:
        try:
            with connection, subject("check"):
                outcome = self._check(connection)
                _log.info("asked for by uid %d: %s", user, outcome)
        finally:
            self._connections.release()

    def _check(self, connection: socket.socket) -> str:
        """Read the request and answer it; return the outcome, for the log."""
        where = ""
        try:
            request = _read_request(connection, self._limits.request)
            connection.settimeout(self._limits.send)
            if request == {"command": LIST}:
                connection.sendall(encode_line(servers=list(self._servers())))
                _end(connection, None, "")
                return "the names of the servers"
            server, settings = self._requested(request)
            where = "" if server == DEFAULT_SERVER else f"{server}: "
            connection.sendall(encode_line(server=f"{where}{settings.user} at {settings.host} port {settings.port}"))
            outcome = f"{where}no step was done"
            with closing(self._steps(settings)) as steps:
                for step in steps:
                    connection.sendall(encode_line(step=asdict(step)))
                    outcome = where + ("all is well" if step.passed else f"{step.name} fails: {step.code}")
        except SFTPError as error:
            _refuse(connection, error)
            return f"{where}{error.code}: {error.message}"
        except OSError:
            return f"{where}the client disconnected before the end"
        _end(connection, None, "")
        return outcome

    def _requested(self, request: dict[str, Any]) -> tuple[str, ServerSettings]:
        """Return the server that a request asks for, and its settings with the time limit that it asks for."""
        timeout, name = request.get("timeout"), request.get("name", DEFAULT_SERVER)
        is_time = isinstance(timeout, int | float) and not isinstance(timeout, bool) and timeout >= SHORTEST
        if request.keys() - {"command", "timeout", "name"} or request.get("command") != CHECK:
            message = f"the only commands are '{CHECK}' and '{LIST}'"
            raise InvalidRequest(message)
        if not isinstance(name, str):
            message = "name must be the name of a server"
            raise InvalidRequest(message)
        if timeout is not None and not is_time:
            message = f"timeout must be a number of seconds, {SHORTEST:g} at least"
            raise InvalidRequest(message)
        settings, longest = self._settings(name), self._limits.check
        limits = settings.time_limits
        connect = min(limits.connect, longest, longest if timeout is None else timeout)
        return name, replace(settings, time_limits=replace(limits, connect=connect, stall=min(limits.stall, longest)))

    def _steps(self, settings: ServerSettings) -> Generator[Step]:
        """Yield the steps of a diagnosis in a thread of its own, until its time limit."""
        if not self._diagnoses.acquire(blocking=False):
            message = f"{DIAGNOSES} checks are running: try again when they have ended"
            raise Busy(message)
        diagnosis = Diagnosis(self._diagnose, settings, self._diagnoses.release)
        try:
            diagnosis.start()
        except RuntimeError:  # no thread is left
            self._diagnoses.release()
            message = "no thread is left: try again in a moment"
            raise Busy(message) from None
        yield from diagnosis.steps(self._limits.check)


def _read_request(connection: socket.socket, limit: float) -> dict[str, Any]:
    """Return the request: one short line that has to arrive in time."""
    end = time.monotonic() + limit
    text = b""
    while b"\n" not in text and len(text) <= REQUEST_MAXIMUM:
        connection.settimeout(max(0.001, end - time.monotonic()))
        try:
            piece = connection.recv(REQUEST_MAXIMUM + 1 - len(text))
        except TimeoutError:
            message = f"no request arrived within {limit:g} s"
            raise DeadlineExceeded(message) from None
        if not piece:
            message = "the client disconnected"
            raise ConnectionLost(message)
        text += piece
    try:
        return parse_line(text)
    except ValueError as error:
        message = f"the request cannot be read: {error}"
        raise InvalidRequest(message) from None


def _refuse(connection: socket.socket, error: SFTPError) -> None:
    _end(connection, error.code, error.message)


def _end(connection: socket.socket, code: str | None, message: str) -> None:
    """Send the last line, if the client still reads, and disconnect."""
    with suppress(OSError), connection:
        connection.settimeout(0)
        connection.sendall(encode_line(end={"code": code, "message": message}))
