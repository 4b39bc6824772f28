"""Answers `iot-sftp check` on this device: the module diagnoses the connection that it has, with the secrets it has.

Whoever asks does not hold up anything: few at a time, each for a while, in threads of their own.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from contextlib import closing, suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, cast

from iot.sftp.client import (
    Busy,
    ConnectionLost,
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    PermissionDenied,
    SFTPError,
    diagnose,
)
from iot.sftp.module._app.check_socket import (
    CHECK_LIMIT,
    LOOK_EVERY,
    REQUEST_MAXIMUM,
    ROOT,
    Listener,
    content_of,
    line,
    peer,
    places,
)
from iot.sftp.module._base.logging import subject

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from iot.sftp.client import ServerSettings, Step

CONNECTIONS = 4  # at a time
DIAGNOSES = 2  # at a time: one that hangs in a step does not keep another from telling where it hangs
REQUEST_LIMIT = 5.0  # seconds in which the request has to come
SEND_LIMIT = 5.0  # seconds in which a line has to be taken
ACCEPT_PAUSE = 1.0  # seconds after a connection that could not be accepted
SHORTEST = 0.1  # seconds that may be asked for a step
STOP_LIMIT = 1.0  # seconds

_log = logging.getLogger(__name__)


class CheckServer:
    """Serves a Unix socket on which this machine's root and the module's own user may ask for a diagnosis."""

    def __init__(
        self,
        state_dir: Path,
        settings: Callable[[], ServerSettings],
        *,
        limit: float = CHECK_LIMIT,
        request_limit: float = REQUEST_LIMIT,
    ) -> None:
        """Take where to listen, and what to diagnose; nothing is started.

        Parameters:
            state_dir: the state directory; where it cannot be written, the temporary directory takes its place.
            settings: returns those in force, or raises `NotConfigured`; called from any thread.
            limit: seconds for a diagnosis.
            request_limit: seconds for a request.
        """
        self._places = places(state_dir)
        self._settings = settings
        self._limit, self._request_limit = limit, request_limit
        self._connections = threading.BoundedSemaphore(CONNECTIONS)
        self._diagnoses = threading.BoundedSemaphore(DIAGNOSES)
        self._stopping = threading.Event()
        self._listener: Listener | None = None
        self._warned = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to serve. What is in the way is one warning in the log, and it is tried again until that is gone."""
        self._listener = self._listening()
        self._thread = threading.Thread(target=self._serve, name="check-server", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Serve no more, and take the socket away."""
        self._stopping.set()
        listener = self._listener
        if listener is not None:
            with suppress(OSError):
                listener.socket.shutdown(socket.SHUT_RDWR)  # which ends the waiting for a connection
        if self._thread is not None:
            self._thread.join(STOP_LIMIT)

    def _serve(self) -> None:
        while not self._stopping.is_set():
            if self._listener is None:
                if not self._stopping.wait(LOOK_EVERY):
                    self._listener = self._listening()
            elif self._listener.can_be_reached:
                self._accept(self._listener.socket)
            else:  # the directory was taken away, with the socket in it
                self._listener.close()
                self._listener = self._listening()
        if self._listener is not None:
            self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        """Wait for a connection, for a while, and see to it."""
        try:
            connection, _ = listener.accept()
        except BlockingIOError:  # nobody came
            pass
        except OSError:  # the end, or no descriptor is left
            self._stopping.wait(ACCEPT_PAUSE)
        else:
            self._begin(connection)

    def _listening(self) -> Listener | None:
        reasons = []
        for directory in self._places:
            try:
                return Listener(directory)
            except OSError as error:
                reasons.append(f"{directory}: {error.strerror or error}")
        level = logging.DEBUG if self._warned else logging.WARNING
        self._warned = True
        _log.log(level, "iot-sftp check cannot ask this module, as no socket can be made: %s", "; ".join(reasons))
        return None

    def _begin(self, connection: socket.socket) -> None:
        """Answer in a thread of its own, or refuse at once."""
        user = peer(connection)
        if user not in (ROOT, os.geteuid()):
            _refuse(connection, PermissionDenied(f"the module answers root and its own user, not uid {user}"))
        elif not self._connections.acquire(blocking=False):
            _refuse(connection, Busy(f"{CONNECTIONS} others ask already: try again in a moment"))
        else:
            try:
                threading.Thread(target=self._answer, args=(connection, user), name="check", daemon=True).start()
            except RuntimeError:  # no thread is left
                self._connections.release()
                _refuse(connection, Busy("no thread is left: try again in a moment"))

    def _answer(self, connection: socket.socket, user: int) -> None:
        try:
            with connection, subject("check"):
                outcome = self._talk(connection)
                _log.info("asked for by uid %d: %s", user, outcome)
        finally:
            self._connections.release()

    def _talk(self, connection: socket.socket) -> str:
        """Take the request and answer it; return what came of it, for the log."""
        try:
            settings = self._asked(connection)
            connection.settimeout(SEND_LIMIT)
            connection.sendall(line(server=f"{settings.user} at {settings.host} port {settings.port}"))
            outcome = "no step was done"
            with closing(self._steps(settings)) as steps:
                for step in steps:
                    connection.sendall(line(step=asdict(step)))
                    outcome = "all is well" if step.passed else f"{step.name} fails: {step.code}"
        except SFTPError as error:
            _refuse(connection, error)
            return f"{error.code}: {error.message}"
        except OSError:
            return "gone before the end"
        _end(connection, None, "")
        return outcome

    def _asked(self, connection: socket.socket) -> ServerSettings:
        """Return the settings in force, with the time limit that was asked for."""
        request = _request(connection, self._request_limit)
        timeout = request.get("timeout")
        is_time = isinstance(timeout, int | float) and not isinstance(timeout, bool) and timeout >= SHORTEST
        if request.keys() - {"command", "timeout"} or request.get("command") != "check":
            message = "nothing but a check is done here"
            raise InvalidRequest(message)
        if timeout is not None and not is_time:
            message = f"timeout must be a number of seconds, {SHORTEST:g} at least"
            raise InvalidRequest(message)
        settings = self._settings()
        limits = settings.time_limits
        connect = min(limits.connect, self._limit, self._limit if timeout is None else timeout)
        return replace(settings, time_limits=replace(limits, connect=connect, stall=min(limits.stall, self._limit)))

    def _steps(self, settings: ServerSettings) -> Generator[Step]:
        """Give the steps of a diagnosis that is made in a thread of its own, until the time is over."""
        if not self._diagnoses.acquire(blocking=False):
            message = f"{DIAGNOSES} checks are made already: try again when they have ended"
            raise Busy(message)
        diagnosis = _Diagnosis(settings, self._diagnoses.release)
        try:
            diagnosis.start()
        except RuntimeError:  # no thread is left
            self._diagnoses.release()
            message = "no thread is left: try again in a moment"
            raise Busy(message) from None
        yield from diagnosis.steps(self._limit)


class _Diagnosis(threading.Thread):
    """One diagnosis. When nobody wants it any more, it ends after the step that it is at, which has its own limits."""

    def __init__(self, settings: ServerSettings, on_end: Callable[[], None]) -> None:
        super().__init__(name="diagnosis", daemon=True)
        self._settings = settings
        self._on_end = on_end
        self._unwanted = threading.Event()
        self._found: queue.SimpleQueue[Step | SFTPError | None] = queue.SimpleQueue()

    def steps(self, limit: float) -> Iterator[Step]:
        end = time.monotonic() + limit
        try:
            while True:
                try:
                    found = self._found.get(timeout=max(0.0, end - time.monotonic()))
                except queue.Empty:
                    message = f"the check was not done after {limit:g} s: its next step does not come to an end"
                    raise DeadlineExceeded(message) from None
                if found is None:
                    return
                if isinstance(found, SFTPError):
                    raise found
                yield found
        finally:
            self._unwanted.set()

    def run(self) -> None:
        last: SFTPError | None = None
        try:
            with subject("check"), closing(cast("Generator[Step]", diagnose(self._settings))) as steps:
                for step in steps:
                    self._found.put(step)
                    if self._unwanted.is_set():
                        return
        except SFTPError as error:
            last = error  # raised where the steps are given
        except Exception:  # noqa: BLE001 - whatever it is, whoever asks is to know that there is no more
            _log.exception("a defect of the check")
            last = Internal("a defect: the module's log tells more")
        finally:
            self._on_end()
            self._found.put(last)


def _request(connection: socket.socket, limit: float) -> dict[str, Any]:
    """Return the request, which has to come as one short line, and in time."""
    end = time.monotonic() + limit
    text = b""
    while b"\n" not in text and len(text) <= REQUEST_MAXIMUM:
        connection.settimeout(max(0.001, end - time.monotonic()))
        try:
            piece = connection.recv(REQUEST_MAXIMUM + 1 - len(text))
        except TimeoutError:
            message = f"no request came within {limit:g} s"
            raise DeadlineExceeded(message) from None
        if not piece:
            message = "whoever asked went away"
            raise ConnectionLost(message)
        text += piece
    try:
        return content_of(text)
    except ValueError as error:
        message = f"the request cannot be read: {error}"
        raise InvalidRequest(message) from None


def _refuse(connection: socket.socket, error: SFTPError) -> None:
    _end(connection, error.code, error.message)


def _end(connection: socket.socket, code: str | None, message: str) -> None:
    """Say why nothing more comes, to somebody who listens, and hang up."""
    with suppress(OSError), connection:
        connection.settimeout(0)
        connection.sendall(line(end={"code": code, "message": message}))
