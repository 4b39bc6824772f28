"""Lend the session in use to calls, replace it with the configuration, and report the state of its connection."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from iot.sftp.client import (
    ConnectionLost,
    Fault,
    NotConfigured,
    SFTPError,
    TransportError,
    Unsupported,
    error_classes,
)
from iot.sftp.module._base.counters import LabelledCounter
from iot.sftp.module._base.logging import about, subject
from iot.sftp.module._base.times import rfc3339_now
from iot.sftp.module._documents.servers import DEFAULT_SERVER, on_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iot.sftp.client import Counts, SFTPSession
    from iot.sftp.client._base.settings import ServerSettings
    from iot.sftp.module._work.device_key import DeviceKey

OPENING_WAIT = 5.0  # seconds

_log = logging.getLogger(__name__)


class SessionState(str, Enum):
    """The state of a connection in one word, as it is reported."""

    NOT_CONFIGURED = "not_configured"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    FAILED = "failed"


@dataclass(frozen=True)
class ConnectionState:
    """The state of the connection to the server, as it was last seen.

    Attributes:
        state: one word.
        code: why it is not connected: the code of an `SFTPError`.
        message: the same for people.
        since: when this state began, in UTC (ISO 8601).
        server: the server's version string, while connected.
        host_key: the fingerprint of the server's key, while connected.
    """

    state: SessionState
    code: str | None = None
    message: str | None = None
    since: str = ""
    server: str | None = None
    host_key: str | None = None

    def as_properties(self) -> dict[str, str]:
        """Return what is reported of it."""
        properties = vars(self) | {"state": self.state.value}
        return {key: value for key, value in properties.items() if value is not None}


@dataclass
class Totals:
    """What all sessions have done since the process began.

    Attributes:
        reconnects: how often a session was opened again, after it broke or was closed.
        retries: how often an operation was retried, after a break.
        downloaded: bytes of files.
        uploaded: bytes of files.
    """

    reconnects: int = 0
    retries: int = 0
    downloaded: int = 0
    uploaded: int = 0

    def include(self, counts: Counts) -> None:
        """Add what one session has done."""
        self.reconnects += max(0, counts.connections - 1)
        self.retries += counts.retries
        self.downloaded += counts.downloaded
        self.uploaded += counts.uploaded


def do_nothing() -> None:
    """Prepare nothing."""


class CurrentSession:
    """Lends the session in use to calls, thread-safe; a session that was replaced is closed after its last call.

    One lock protects it; `on_change` is called with it.

    Attributes:
        prepare: called before the session is lent, in the caller's thread: replaces it, if the date makes it another
            one. It may raise an `SFTPError`, for the caller.
        account: what stands for the account and its root in records, where these depend on the time.
        device_key: the key that the device makes for the server itself; `None` if it is given one.
    """

    prepare: Callable[[], None]
    account: list[object] | None
    device_key: DeviceKey | None

    def __init__(self, on_change: Callable[[ConnectionState], None], server: str = DEFAULT_SERVER) -> None:
        """Begin without a session.

        Parameters:
            on_change: called with each new state, from any thread; must not block.
            server: its name, for the log.
        """
        self._thing = on_server("server", server)
        self.prepare, self.account, self.device_key = do_nothing, None, None
        self._on_change = on_change
        self._lock = threading.RLock()
        self._session: SFTPSession | None = None
        self._users: dict[SFTPSession, int] = {}
        self._past = Totals()  # of the sessions that have ended
        self.failures = LabelledCounter(*((code,) for code in _codes_of_a_connection()))
        self._state = ConnectionState(SessionState.NOT_CONFIGURED)
        self._closed = False
        self._opened = threading.Event()  # cleared while a new configuration's session is being opened
        self.replace(None, "the module has not received its desired properties yet")

    @property
    def state(self) -> ConnectionState:
        """The state as it was last seen."""
        return self._state

    @property
    def settings(self) -> ServerSettings | None:
        """Those of the session in use; `None` if there is none."""
        session = self._session
        return None if session is None else session.settings

    @property
    def is_in_use(self) -> bool:
        """Whether a call is in flight, on this session or on one that it has replaced."""
        with self._lock:
            return bool(self._users)

    def totals(self) -> Totals:
        """Return what all sessions have done."""
        with self._lock:
            totals = Totals(**vars(self._past))
            for session in {*self._users, *([self._session] if self._session else [])}:
                totals.include(session.counts)
        return totals

    def replace(self, session: SFTPSession | None, missing: str = "") -> None:
        """Use another session from the next call on, and open it in the background.

        Parameters:
            session: the new one; `None` if there is none to use.
            missing: what is missing, if there is none.
        """
        with self._lock:
            old, self._session = self._session, session
            if session is None:
                self._set(ConnectionState(SessionState.NOT_CONFIGURED, NotConfigured.code, missing))
                self._opened.set()
            else:
                self._set(ConnectionState(SessionState.CONNECTING))
                self._opened.clear()
            unused = old is not None and not self._users.get(old)
            if old is not None and unused:
                self._past.include(old.counts)
        if old is not None and unused:
            try:
                threading.Thread(target=old.close, name="close", daemon=True).start()
            except RuntimeError:  # no thread is left
                old.close()
        if session is not None:
            try:
                threading.Thread(target=self._open, name="open", daemon=True).start()
            except RuntimeError:  # whoever uses it first opens it
                self._opened.set()

    @contextmanager
    def use(self) -> Iterator[SFTPSession]:
        """Lend the session for one operation, whose outcome shows the state of the connection.

        Raises:
            NotConfigured: there is none; the message says what is missing.
            ConnectionLost: the module exits.
        """
        self.prepare()
        session = self._take()
        if self._closed and session is None:
            message = "the module stops: call again when it has restarted"
            raise ConnectionLost(message)
        if session is None:
            raise NotConfigured(self._state.message or "there are no settings yet")
        try:
            yield session
        except SFTPError as error:
            is_of_login = error.fault is Fault.SERVER and not session.is_open  # no algorithm in common, or no SFTP
            if error.fault is Fault.CONNECTION or is_of_login:
                self._note_failure(session, error)
            raise
        else:
            self._note_success(session)
        finally:
            self._give_back(session)

    def is_connected(self, timeout: float) -> bool:
        """Return whether the server answers on the open session; never opens one, never raises.

        A new configuration's session that is just being opened is waited for, for a short while.
        """
        deadline = time.monotonic() + timeout
        self._opened.wait(min(timeout, OPENING_WAIT))
        session = self._take()
        if session is None:
            return False
        try:
            connected = session.is_connected(timeout=max(0.0, deadline - time.monotonic()))
            if connected:
                self._note_success(session)
            elif self._state.state is SessionState.CONNECTED:
                message = "the server is gone; the next call connects again"
                self._note(session, ConnectionState(SessionState.DISCONNECTED, ConnectionLost.code, message))
        finally:
            self._give_back(session)
        return connected

    def disconnect(self) -> None:
        """Close the connection; calls in flight fail, a later call connects again."""
        session = self._take()
        if session is None:
            return
        try:
            self._note(session, ConnectionState(SessionState.DISCONNECTED))
            session.disconnect()
        finally:
            self._give_back(session)

    def close(self) -> None:
        """Close the session for good; calls in flight fail."""
        with self._lock:
            sessions = {*self._users, *([self._session] if self._session else [])}
            self._session, self._closed = None, True
        for session in sessions:
            session.close()

    def _open(self) -> None:
        try:
            with subject(self._thing) if self._thing != "server" else nullcontext(), self.use() as session:
                try:
                    session.connect()
                except SFTPError as error:
                    text = "the session cannot be opened: %s: %s"
                    _log.warning(text, error.code, error.message, extra=about(self._thing))
                    self._note_failure(session, error)
        except (NotConfigured, ConnectionLost):
            pass  # there is no session any more, or the module exits
        finally:
            self._opened.set()

    def _take(self) -> SFTPSession | None:
        with self._lock:
            session = self._session
            if session is not None:
                self._users[session] = self._users.get(session, 0) + 1
            return session

    def _give_back(self, session: SFTPSession) -> None:
        with self._lock:
            self._users[session] -= 1
            unused = not self._users[session]
            if unused:
                del self._users[session]
            replaced = session is not self._session
            if unused and replaced:
                self._past.include(session.counts)
        if unused and replaced:
            session.close()

    def _note_success(self, session: SFTPSession) -> None:
        if self._state.state is SessionState.CONNECTED:
            return
        try:
            server = session.connect(timeout=1)  # open already: nothing is sent
        except SFTPError:
            return  # it has just broken; the next call reports that
        self._note(session, ConnectionState(SessionState.CONNECTED, server=server.server, host_key=server.host_key))

    def _note_failure(self, session: SFTPSession, error: SFTPError) -> None:
        if isinstance(error, ConnectionLost) and self._state.state is SessionState.DISCONNECTED:
            return  # `disconnect` closed it, and with it this call
        self.failures.add(error.code)
        self._note(session, ConnectionState(SessionState.FAILED, error.code, error.message))

    def _note(self, session: SFTPSession, state: ConnectionState) -> None:
        with self._lock:
            if session is self._session:
                self._set(state)

    def _set(self, state: ConnectionState) -> None:
        with self._lock:
            old = self._state
            if (state.state, state.code) == (old.state, old.code) and state.host_key == old.host_key:
                since = old.since
            else:
                since = rfc3339_now()
            self._state = ConnectionState(state.state, state.code, state.message, since, state.server, state.host_key)
            if self._state != old:
                self._on_change(self._state)


def _codes_of_a_connection() -> dict[str, None]:
    """Return the reasons for which a connection can fail, without repetition; without settings nothing is tried."""
    errors: list[type[SFTPError]] = [*error_classes(TransportError), Unsupported]
    return dict.fromkeys(error.code for error in errors if "code" in vars(error) and error is not NotConfigured)
