"""What all operations of a session share: its settings, its one connection, and what it has learned and counted."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from iot.sftp.client._base.counts import Counts
from iot.sftp.client._base.deadline import Deadline
from iot.sftp.client._base.errors import ConnectionLost, DeadlineExceeded, SFTPError
from iot.sftp.client._base.messages import DISCONNECTED
from iot.sftp.client._calls.calls import Calls
from iot.sftp.client._calls.live_connection import ConnectionFactory, LiveConnection
from iot.sftp.client._calls.retry_policy import RetryPolicy
from iot.sftp.client._files.local_files import LocalFiles
from iot.sftp.client._files.remote_files import RemoteFiles
from iot.sftp.client._files.remote_paths import RemotePaths
from iot.sftp.client._folders.delivery_ledger import SessionLedgers
from iot.sftp.client._transfer.abandoned_transfers import clean_up_locally, clean_up_remotely
from iot.sftp.client._transfer.file_order import AS_THEIR_SOURCES, Modes, Verify
from iot.sftp.client._transfer.rate_limit import RateLimit
from iot.sftp.client._transfer.resume_records import ResumeRecords
from iot.sftp.client._transfer.transfer_context import TransferContext, ignore_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._base.settings import ServerSettings
    from iot.sftp.client._ssh.connection import Connection
    from iot.sftp.client._ssh.handshake import ServerInfo


class SessionCore:
    """The state of an `SFTPSession`, and the life of its connection; the operations are classes that inherit it."""

    _retry_policy = RetryPolicy()  # of all sessions; tests set another one

    def __init__(
        self,
        settings: ServerSettings,
        *,
        local_files: LocalFiles | None = None,
        limit: RateLimit | None = None,
        on_connected: Callable[[ServerInfo], object] = lambda _info: None,
        shares_failures: bool = False,
    ) -> None:
        """Take the settings; nothing is opened yet.

        Parameters:
            settings: the server, the credentials and the time limits.
            local_files: how local paths are reached; all of the local file system if it is left out.
            limit: the bytes per second of all sessions that are given the same one; if it is left out, the session has
                its own.
            on_connected: receives what the server has shown, each time that a connection was opened; it must not raise.
            shares_failures: for whoever has calls queued: those that begin within half a second after a slow attempt to
                connect failed, fail as it did. Else they are answered one connect timeout after the other.
        """
        self.settings = settings
        self._local_files = local_files or LocalFiles()
        self._paths = RemotePaths(settings.root)
        self._server = settings.place, settings.port, settings.user
        self._records = ResumeRecords.of(settings.state)
        self._limit = limit or RateLimit()
        self._ledgers = SessionLedgers()
        self._counts = Counts()
        self._live = LiveConnection(
            ConnectionFactory(settings, on_connected),
            self._counts,
            before_opening=lambda: clean_up_locally(self._records),
            before_use=self._clean_up_remotely,
            shares_failures=shares_failures,
        )
        self._calls = Calls(self._live, self._paths, self._counts, self._retry_policy)

    @property
    def is_open(self) -> bool:
        """Whether a session is open and has not been seen to break; the server is not asked."""
        return self._live.is_open

    @property
    def counts(self) -> Counts:
        """What the session has done so far: `connections`, `retries`, and the bytes `downloaded` and `uploaded`."""
        return self._counts

    def connect(self, *, timeout: float | None = None) -> ServerInfo:
        """Open the session now, if it is not open, in one attempt, and return what the server showed of itself."""
        with self._calls.once("connect", None, timeout) as attempt:
            return attempt.connection.info

    def is_connected(self, *, timeout: float | None = None) -> bool:
        """Ask the live session whether the server is there; never opens one, never raises.

        A server that does not answer within `timeout`, or the connect limit if that is shorter, counts as gone.
        """
        connection = self._live.current
        if connection is None or not connection.alive:
            return False
        deadline = Deadline(timeout).within(self.settings.time_limits.connect)
        try:
            RemoteFiles(connection, connection.quick, deadline).real_path(".")
        except ConnectionLost:
            self._live.drop(connection)
            return False
        except DeadlineExceeded:
            return False
        except SFTPError:
            return True  # a refusal is an answer
        return True

    def disconnect(self) -> None:
        """End the session, its threads and its socket; calls in flight fail with `ConnectionLost`.

        Idempotent. A later call opens a new session.
        """
        self._live.end(DISCONNECTED)

    def close(self, *, when_idle: bool = False) -> None:
        """End the session, at once or as soon as no call is in flight."""
        self._live.close(when_idle=when_idle)

    def _transfer_context(
        self,
        verify: Verify,
        progress: Callable[[int, int | None], object] | None = None,
        modes: Modes | None = None,
    ) -> TransferContext:
        return TransferContext(
            self._server,
            verify,
            self._records,
            self._limit,
            self._counts,
            progress or ignore_progress,
            modes=modes or AS_THEIR_SOURCES,
        )

    def _clean_up_remotely(self, connection: Connection) -> None:
        """Clean up after earlier transfers before any call runs: else the next one would find its destination busy."""
        limit = Deadline(self.settings.time_limits.connect)
        with suppress(SFTPError):  # the next connection brings the next chance
            clean_up_remotely(self._records, RemoteFiles(connection, connection.quick, limit), self._server)
