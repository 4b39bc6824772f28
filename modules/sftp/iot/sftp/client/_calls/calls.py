"""Run the calls of a session: each under its deadline, retried after a break, its failures in the caller's context."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from iot.sftp.client._base.deadline import Deadline
from iot.sftp.client._base.errors import (
    Cancelled,
    ConnectionLost,
    DeadlineExceeded,
    HandleInUse,
    Internal,
    Retry,
    SFTPError,
    Unreachable,
    Unsupported,
)
from iot.sftp.client._base.lower_layers import from_lower_layer
from iot.sftp.client._calls.retry_policy import Attempts
from iot.sftp.client._files.remote_files import RemoteFiles
from iot.sftp.client._transfer.upload_body import channels_worth

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from iot.sftp.client._base.counts import Counts
    from iot.sftp.client._calls.live_connection import LiveConnection
    from iot.sftp.client._calls.retry_policy import RetryPolicy
    from iot.sftp.client._files.remote_paths import RemotePaths
    from iot.sftp.client._ssh.connection import Connection

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass
class CallAttempt:
    """What an operation works with: a connection, the call's deadline, and the number of this attempt (from 0)."""

    connection: Connection
    deadline: Deadline
    number: int = 0

    @property
    def remote(self) -> RemoteFiles:
        """The server's files, over the channel for quick calls."""
        self.connection.note_short_call()
        return RemoteFiles(self.connection, self.connection.quick, self.deadline)

    @contextmanager
    def transfer(self, deadline: Deadline | None = None) -> Iterator[RemoteFiles]:
        """Lend the server's files over a channel for one transfer, under a deadline of its own if one is given."""
        deadline = deadline or self.deadline
        with self.connection.transfer_channel(deadline) as channel:
            yield RemoteFiles(self.connection, channel, deadline)

    @contextmanager
    def upload(self, size: int) -> Iterator[RemoteFiles]:
        """Lend a channel for an upload of so many bytes, and have the further ones opened that it is worth."""
        connection = self.connection
        if connection.traits.parts_in_any_order:
            count = channels_worth(RemoteFiles(connection, connection.quick, self.deadline).round_trip, size)
            if count > 1:
                connection.channels.prepare(count)
        with self.transfer() as remote:
            yield remote

    @contextmanager
    def spare(self) -> Iterator[RemoteFiles | None]:
        """Lend the server's files over a further channel to a transfer that has one already, if there is any."""
        with self.connection.spare_channel(self.deadline) as channel:
            yield None if channel is None else RemoteFiles(self.connection, channel, self.deadline)


class Calls:
    """Run operations over the live connection of a session."""

    def __init__(self, connection: LiveConnection, paths: RemotePaths, counts: Counts, policy: RetryPolicy) -> None:
        """Run nothing yet.

        Parameters:
            connection: of the session.
            paths: turn the server's path in an error into the caller's.
            counts: where retries are counted.
            policy: how often an operation is attempted.
        """
        self._live = connection
        self._paths = paths
        self._counts = counts
        self._policy = policy

    def run(
        self,
        operation: str,
        path: str,
        timeout: float | None,
        work: Callable[[CallAttempt], Result],
        dest: str = "",
        *,
        cancelled: threading.Event | None = None,
    ) -> Result:
        """Run an operation under its deadline, retried after a break.

        Parameters:
            operation: its name, for errors.
            path: that it is about, as the caller gave it.
            timeout: seconds; `None` for no limit.
            work: one attempt. It has to be idempotent.
            dest: a second path, as the caller gave it.
            cancelled: ends the call when it is set.
        """
        deadline, attempts = Deadline(timeout, cancelled), Attempts(self._policy)
        try:
            with self._live.serving_a_call():
                return self._retry(work, deadline, attempts)
        except Exception as error:
            named = as_error_of(error, operation, path)
            named.path = self._paths.of_caller(named.path or path, path, dest)
            named.attempts = attempts.begun
            if isinstance(named, Internal):
                logger.exception("Internal error in %s", operation)
            raise named from error

    def run_while_it_advances(
        self,
        operation: str,
        path: str,
        timeout: float | None,
        work: Callable[[CallAttempt], None],
        dest: str,
        *,
        done: Callable[[], int],
        cancelled: threading.Event | None,
    ) -> None:
        """Run an operation as `run` does; without a timeout, retry it as long as each call got further.

        Parameters:
            operation, path, timeout, work, dest, cancelled: see `run`.
            done: returns how much is done.
        """
        disconnects = self._live.disconnects
        while True:
            before = done()
            try:
                self.run(operation, path, timeout, work, dest, cancelled=cancelled)
            except ConnectionLost:
                # Without a deadline, a link that breaks now and then is retried as long as files get through.
                if timeout is not None or done() == before or self._live.disconnects != disconnects:
                    raise
            else:
                return

    @contextmanager
    def once(self, operation: str, path: str | None, timeout: float | None) -> Iterator[CallAttempt]:
        """Lend a connection to an operation that is not retried; its failures are in the caller's context."""
        deadline = Deadline(timeout)
        try:
            with self._live.serving_a_call():
                connection = self._live.get(deadline)
                with connection.in_use():
                    yield CallAttempt(connection, deadline)
        except Exception as error:
            named = as_error_of(error, operation, path)
            if path is not None:
                named.path = self._paths.of_caller(named.path or path, path)
            raise named from error

    def _retry(self, work: Callable[[CallAttempt], Result], deadline: Deadline, attempts: Attempts) -> Result:
        """Retry after each break, with exponential backoff, until the deadline or the policy's last attempt.

        A deadline that runs out after a break is reported as that break: the caller can act on it.
        """
        disconnects = self._live.disconnects
        lost: SFTPError | None = None
        while True:
            attempts.begun += 1
            try:
                return self._attempt(work, deadline, attempts)
            except (Unreachable, DeadlineExceeded) as error:
                if lost is None or isinstance(error, Cancelled):
                    raise
            except SFTPError as error:
                if not error.retry.is_within_call:
                    raise
                if error.retry is Retry.AT_ONCE:
                    continue
                lost = error
            pause = self._policy.pause_after(attempts.begun)
            is_exhausted = attempts.are_exhausted_by(lost, deadline)
            if self._live.disconnects != disconnects or is_exhausted or pause >= deadline.remaining():
                raise lost
            logger.info("Trying again in %.1f s: %s", pause, lost.message)
            self._counts.add(retries=1)
            deadline.pause(pause)

    def _attempt(self, work: Callable[[CallAttempt], Result], deadline: Deadline, attempts: Attempts) -> Result:
        connection = self._live.get(deadline)
        attempts.were_connected = True
        try:
            with connection.in_use():
                return work(CallAttempt(connection, deadline, attempts.begun - 1))
        except ConnectionLost:
            self._live.drop(connection)
            raise
        except HandleInUse:
            if attempts.begun < self._policy.attempts:
                raise
            message = "the server gives out handles that are in use, also with one file at a time"
            raise Unsupported(message) from None


def as_error_of(error: Exception, operation: str, path: str | None) -> SFTPError:
    """Return an error of this call's own: one broken connection fails many calls with the same object."""
    named = from_lower_layer(error)
    return type(named)(named.message, operation=operation, path=named.path if named.path is not None else path)
