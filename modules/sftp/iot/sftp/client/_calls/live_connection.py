"""The one connection of a session: opened once for many threads, shared by all calls, dropped when it breaks."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING

from iot.sftp.client._base.deadline import Deadline
from iot.sftp.client._base.errors import ConnectionLost, LocalBusy, SFTPError, Unreachable
from iot.sftp.client._base.messages import DISCONNECTED
from iot.sftp.client._base.threads import start_thread
from iot.sftp.client._ssh.channel_pool import ChannelBudget
from iot.sftp.client._ssh.connection import Connection
from iot.sftp.client._ssh.host_keys import HostKeyPolicy
from iot.sftp.client._ssh.server_traits import ServerTraits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iot.sftp.client._base.counts import Counts
    from iot.sftp.client._base.settings import ServerSettings
    from iot.sftp.client._ssh.handshake import ServerInfo

logger = logging.getLogger(__name__)

SLOW, SHARED_FOR = 1.0, 0.5  # seconds after which an attempt to connect is slow; for which its failure is shared


class ConnectionFactory:
    """Open connections to one server, and keep what was learned about it from one to the next.

    Attributes:
        policy: which host keys are accepted.
        traits: what is known of the server beyond what its protocol promises.
    """

    def __init__(
        self, settings: ServerSettings, on_connected: Callable[[ServerInfo], object] = lambda _info: None
    ) -> None:
        """Open nothing yet.

        Parameters:
            settings: the server.
            on_connected: receives what the server has shown, each time, before the connection is used.
        """
        self._settings = settings
        self._on_connected = on_connected
        self._budget = ChannelBudget()
        self.traits = ServerTraits()
        self.policy = HostKeyPolicy.of(settings)

    def open(
        self, deadline: Deadline, policy: HostKeyPolicy, announce: Callable[[Connection], object] = lambda _: None
    ) -> Connection:
        """Open a connection within the connect timeout.

        Parameters:
            deadline: of the call.
            policy: which host keys are accepted.
            announce: receives the connection first, for whoever may close it while it is being opened.
        """
        limit = deadline.within(self._settings.time_limits.connect)
        try:
            connection = Connection(self._settings, policy, limit, self._budget, announce, traits=self.traits)
        except SFTPError:
            deadline.check()
            raise
        info = connection.info
        logger.info(
            "Connected to %s port %s (%s, %s)", self._settings.host, self._settings.port, info.server, info.cipher
        )
        self._on_connected(info)
        return connection


class LiveConnection:
    """The connection of a session and its life; thread-safe.

    Attributes:
        current: the open connection, which may have broken; `None` before the first call and after `disconnect`.
        opening: the connection that is being opened.
        in_flight: how many calls are running.
        disconnects: how often the session was ended: a call that was running then is not retried.
    """

    def __init__(
        self,
        factory: ConnectionFactory,
        counts: Counts,
        *,
        before_opening: Callable[[], object],
        before_use: Callable[[Connection], object],
        shares_failures: bool = False,
    ) -> None:
        """Open nothing yet.

        Parameters:
            factory: opens connections.
            counts: where opened connections are counted.
            before_opening: called before a connection is opened, in the thread that opens it.
            before_use: receives a new connection before any call uses it.
            shares_failures: whether a slow attempt that failed is the failure of calls that begin just after it.
        """
        self.factory = factory
        self._counts = counts
        self._before_opening = before_opening
        self._before_use = before_use
        self._shares_failures = shares_failures
        self._lock = threading.Lock()
        self.current: Connection | None = None
        self._connecting: Future[Connection] | None = None
        self.opening: Connection | None = None
        self._slow_failure: tuple[float, Unreachable] | None = None
        self.disconnects = 0
        self.in_flight = 0
        self._close_when_idle = False

    @property
    def is_open(self) -> bool:
        """Whether a connection is open and has not been seen to break; the server is not asked."""
        connection = self.current
        return connection is not None and connection.alive

    def end(self, reason: str) -> None:
        """End the connection and the one that is being opened; calls in flight fail with `ConnectionLost`."""
        with self._lock:
            self.disconnects += 1
            self._connecting = None  # the thread that opens a connection finds that it is not wanted any more
            connection, self.current = self.current, None
            opening, self.opening = self.opening, None
            self._slow_failure = None
        for ended in (connection, opening):
            if ended is not None:
                ended.close(ConnectionLost(reason))

    def close(self, *, when_idle: bool) -> None:
        """End the connection, at once or as soon as no call is in flight."""
        with self._lock:
            self._close_when_idle = when_idle
            wait = when_idle and self.in_flight > 0
        if not wait:
            self.end("the session was closed while this was under way")

    @contextmanager
    def serving_a_call(self) -> Iterator[None]:
        """Count a call in flight; the last one ends a connection that is to be closed when idle."""
        with self._lock:
            self.in_flight += 1
        try:
            yield
        finally:
            with self._lock:
                self.in_flight -= 1
                last = self._close_when_idle and self.in_flight == 0
            if last:
                self.end(DISCONNECTED)

    def get(self, deadline: Deadline) -> Connection:
        """Return the open connection; open one if there is none. Callers at the same time share one attempt.

        The attempt has a thread of its own: a caller whose time runs out leaves it to the others, and to the next.
        """
        with self._lock:
            if self.current is not None and self.current.alive:
                return self.current
            self._raise_shared_failure()
            broken, self.current = self.current, None
            attempt = self._connecting
            if attempt is None:
                attempt = self._connecting = Future()
                # In its caller's context, so that log records of the attempt can be attributed to that call
                args = (self._open, attempt, broken)
                try:
                    start_thread(copy_context().run, *args, name="sftp-opening")
                except LocalBusy:
                    self._connecting = None
                    raise
        while True:
            try:
                return attempt.result(deadline.wait_at_most())
            except (FutureTimeoutError, TimeoutError):
                deadline.check()

    def drop(self, connection: Connection) -> None:
        """Close a connection that broke; the next call opens another one."""
        with self._lock:
            if self.current is connection:
                self.current = None
        connection.close()

    def _raise_shared_failure(self) -> None:
        """Fail calls that queued behind a slow attempt as that one failed, rather than let each wait in turn."""
        if self._slow_failure is not None:
            since, error = self._slow_failure
            if time.monotonic() - since < SHARED_FOR:
                raise Unreachable(error.message)
            self._slow_failure = None

    def _open(self, attempt: Future[Connection], broken: Connection | None) -> None:
        """Open a connection in a thread of its own, and give it, or the failure, to all who wait."""
        if broken is not None:
            broken.close()
        started = time.monotonic()
        try:
            self._before_opening()
            connection = self.factory.open(Deadline(None), self.factory.policy, self._announce)
            self._before_use(connection)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for whoever waits
            now = time.monotonic()
            with self._lock:
                if self._shares_failures and isinstance(error, Unreachable) and now - started >= SLOW:
                    self._slow_failure = now, error
                if self._connecting is attempt:
                    self._connecting = None
            attempt.set_exception(error)
            return
        with self._lock:
            is_wanted = self._connecting is attempt
            if is_wanted:
                self._connecting, self.current = None, connection
        if is_wanted:
            self._counts.add(connections=1)
            attempt.set_result(connection)
        else:
            ended = ConnectionLost("disconnect was called while the session was being opened")
            connection.close(ended)
            attempt.set_exception(ended)

    def _announce(self, connection: Connection) -> None:
        with self._lock:
            self.opening = connection
