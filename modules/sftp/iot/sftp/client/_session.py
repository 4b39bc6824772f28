"""A session that comes back by itself: the operations, raising `SFTPError`s, from any number of threads."""

from __future__ import annotations

import logging
import posixpath
import random
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import closing, contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from iot.sftp.client._base.counts import Counts
from iot.sftp.client._base.deadline import Deadline
from iot.sftp.client._base.errors import (
    Cancelled,
    ConnectionLost,
    DeadlineExceeded,
    HandleInUse,
    Internal,
    InvalidRequest,
    Retry,
    ServerBusy,
    SFTPError,
    Unreachable,
    Unsupported,
)
from iot.sftp.client._base.lower_layers import from_lower_layer
from iot.sftp.client._files.file_info import FileInfo
from iot.sftp.client._files.listing import entries_of, list_files
from iot.sftp.client._files.local_files import LocalFiles
from iot.sftp.client._files.remote_files import RemoteFiles
from iot.sftp.client._files.remote_paths import RemotePaths, listed
from iot.sftp.client._folders.directions import Downloads, Uploads
from iot.sftp.client._folders.ledgers import Recent
from iot.sftp.client._folders.runner import FolderOrder, FolderRun, FolderTransfer
from iot.sftp.client._ssh.channel_pool import ChannelBudget
from iot.sftp.client._ssh.connection import Connection
from iot.sftp.client._ssh.handshake import ServerInfo
from iot.sftp.client._ssh.host_keys import HostKeyPolicy
from iot.sftp.client._ssh.packets import decode_path
from iot.sftp.client._ssh.server_traits import ServerTraits
from iot.sftp.client._transfer import operations
from iot.sftp.client._transfer.cleaning import clean_up_locally, clean_up_remotely
from iot.sftp.client._transfer.download import download_file
from iot.sftp.client._transfer.rate_limit import Limit
from iot.sftp.client._transfer.terms import VERIFY, Outcome, Terms, Verify, ignore_progress
from iot.sftp.client._transfer.unfinished import Unfinished
from iot.sftp.client._transfer.upload import upload_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iot.sftp.client._base.settings import ServerSettings
    from iot.sftp.client._folders.ledgers import Ledger, SessionLedger
    from iot.sftp.client._folders.runner import FolderProgress

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

ATTEMPTS = 3  # to be let in at all; and to do an operation that has no deadline
# Where the server says that it lets nobody in for now, and the call has no deadline. With the pauses between them these
# outlast OpenSSH's shortest penalty (PerSourcePenalties, min:15s), which others at our address may have earned.
BUSY_ATTEMPTS = 10
SLOW, SHARED_FOR = 1.0, 0.5  # seconds after which an attempt to connect is slow; for which its failure is shared
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds


@dataclass(frozen=True)
class Transfer:
    """What a transfer did.

    Attributes:
        bytes: the size of the file, compared between source and destination.
        seconds: from the call to the end.
        atomic: whether the destination was replaced in one step. `False` where the server does not offer that.
        verified: what was compared: `size`, or how the SHA-256 was: `check-file`, `sha256sum` or `read back`; or
            `acknowledged`: the server tells no size, and has confirmed each WRITE, or the end of the file.
        resumed: how many of the bytes were there already, from an earlier try.
        attempts: how often it was tried, the one that succeeded included; attempts to connect count too.
    """

    bytes: int
    seconds: float
    atomic: bool
    verified: str = "size"
    resumed: int = 0
    attempts: int = 1

    @classmethod
    def of(cls, outcome: Outcome, seconds: float, attempts: int) -> Transfer:
        """Return what was done in so many seconds and attempts."""
        return cls(outcome.size, seconds, outcome.atomic, outcome.verified, outcome.resumed, attempts)


@dataclass
class _Attempts:
    """The attempts of one call: how many were begun, and whether one of them had a connection."""

    begun: int = 0
    were_connected: bool = False

    def are_exhausted_by(self, failure: SFTPError, deadline: Deadline) -> bool:
        """Tell whether there is no further attempt after this failure, whatever time is left."""
        if failure.retry is Retry.AFTER_PAUSE:  # nothing is wrong with the connection
            return self.begun >= ATTEMPTS
        busy = isinstance(failure, ServerBusy)
        goes_on = (self.were_connected or busy) and deadline.limited
        return self.begun >= (BUSY_ATTEMPTS if busy else ATTEMPTS) and not goes_on


@dataclass
class _Attempt:
    """What an operation works with: a connection, the call's deadline, and which try this is (0 is the first)."""

    connection: Connection
    deadline: Deadline
    number: int

    @property
    def remote(self) -> RemoteFiles:
        """The server's files, over the channel for quick calls."""
        return RemoteFiles(self.connection, self.connection.quick, self.deadline)

    @contextmanager
    def transfer(self, deadline: Deadline | None = None) -> Iterator[RemoteFiles]:
        """Lend the server's files over a channel for one transfer, under a deadline of its own if one is given."""
        deadline = deadline or self.deadline
        with self.connection.transfer_channel(deadline) as channel:
            yield RemoteFiles(self.connection, channel, deadline)

    @contextmanager
    def spare(self) -> Iterator[RemoteFiles | None]:
        """Lend the server's files over a further channel to a transfer that has one already, if there is any."""
        with self.connection.spare_channel(self.deadline) as channel:
            yield None if channel is None else RemoteFiles(self.connection, channel, self.deadline)


class SFTPSession:
    """The operations of `IoTSFTPClient`, raising `SFTPError`s instead of returning `False`.

    The connection is opened by the first call that needs it, and again when it broke. An operation that is safe to
    repeat is repeated after a break, with growing pauses, within its deadline. Every method may be called from
    several threads at once, and takes `timeout`: seconds for the whole call, `None` for no limit but those of
    `TimeLimits` for each step.
    """

    def __init__(self, settings: ServerSettings, *, local_files: LocalFiles | None = None) -> None:
        """Take the settings; nothing is opened yet.

        Parameters:
            settings: the server, the credentials and the time limits.
            local_files: how local paths are reached; all of the local file system if it is left out.
        """
        self.settings = settings
        self._local_files = local_files or LocalFiles()
        self._paths = RemotePaths(settings.root)
        self._server = settings.host, settings.port, settings.user
        self._unfinished = Unfinished.of(settings.state)
        self._limit = Limit()
        self._recent = Recent()
        self._counts = Counts()
        self._budget = ChannelBudget()
        self._traits = ServerTraits()
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._connecting: Future[Connection] | None = None
        self._opening: Connection | None = None
        self._slow_failure: tuple[float, Unreachable] | None = None
        self._policy = HostKeyPolicy.of(settings)
        self._disconnects = 0
        self._in_flight = 0
        self._close_when_idle = False

    @property
    def is_open(self) -> bool:
        """Whether a session is open and has not been seen to break; the server is not asked."""
        connection = self._connection
        return connection is not None and connection.alive

    @property
    def counts(self) -> Counts:
        """What the session has done so far: `connections`, `retries`, and the bytes `downloaded` and `uploaded`."""
        return self._counts

    def connect(self, *, timeout: float | None = None) -> ServerInfo:
        """Open the session now, if it is not open, trying once, and return what the server showed of itself."""
        deadline = Deadline(timeout)
        try:
            with self._counted():
                return self._connected(deadline).info
        except Exception as error:
            raise _named(error, "connect", None) from error

    def is_connected(self, *, timeout: float | None = None) -> bool:
        """Ask the live session whether the server is there; never opens one, never raises.

        A server that does not answer within `timeout`, or the connect limit if that is shorter, counts as gone.
        """
        connection = self._connection
        if connection is None or not connection.alive:
            return False
        deadline = Deadline(timeout).within(self.settings.time_limits.connect)
        try:
            RemoteFiles(connection, connection.quick, deadline).real_path(".")
        except ConnectionLost:
            self._drop(connection)
            return False
        except DeadlineExceeded:
            return False
        except SFTPError:
            return True  # a refusal is an answer
        return True

    def disconnect(self) -> None:
        """End the session, its threads and its socket; calls in flight fail with `ConnectionLost`.

        Safe to repeat. A later call opens a new session.
        """
        self._end("disconnect was called while this was under way")

    def _end(self, reason: str) -> None:
        with self._lock:
            self._disconnects += 1
            self._connecting = None  # whoever is opening a session will find that nobody wants it any more
            connection, self._connection = self._connection, None
            opening, self._opening = self._opening, None
        for ended in (connection, opening):
            if ended is not None:
                ended.close(ConnectionLost(reason))

    def close(self, *, when_idle: bool = False) -> None:
        """End the session, at once or as soon as no call is in flight."""
        with self._lock:
            self._close_when_idle = when_idle
            wait = when_idle and self._in_flight > 0
        if not wait:
            self._end("the session was closed while this was under way")

    def exists(self, path: str, *, timeout: float | None = None) -> bool:
        """Tell whether a file or a directory is there. `False` only when the server says that it is not."""

        def work(attempt: _Attempt) -> bool:
            return attempt.remote.kind_of(self._paths.on_server(path)) is not None

        return self._run("exists", path, timeout, work)

    def list_files(
        self,
        path: str,
        file_pattern: str | None = None,
        *,
        limit: int | None = None,
        after: str | None = None,
        longest: int | None = None,
        timeout: float | None = None,
    ) -> list[str]:
        """Return the sorted paths of the files directly under `path`, `[]` if there are none.

        A page of a large directory takes the time of listing it, and the memory of a page.

        Parameters:
            path: a remote directory; the paths returned begin with it, except for `.`.
            file_pattern: a substring that a path must hold to be returned.
            limit: so many paths at most, the first ones.
            after: only paths that sort after this one: the last of the page before.
            longest: characters that all paths together may have; if they have more, that is `TooLarge`, told as soon
                as it is known.
            timeout: seconds.
        """
        if limit is not None and limit < 1:
            message = "limit must be 1 or more"
            raise InvalidRequest(message)

        def work(attempt: _Attempt) -> list[str]:
            directory = self._paths.on_server(path)
            return list_files(attempt.remote, directory, path, file_pattern, limit=limit, after=after, longest=longest)

        return self._run("list_files", path, timeout, work)

    def stat(self, path: str, *, timeout: float | None = None) -> FileInfo:
        """Return what the server tells of a path; a link is followed."""

        def work(attempt: _Attempt) -> FileInfo:
            return FileInfo.of(path, attempt.remote.stat(self._paths.on_server(path)))

        return self._run("stat", path, timeout, work)

    def scan(self, path: str, *, timeout: float | None = None) -> Iterator[FileInfo]:
        """Give what is directly in a directory, directories and links too, in the server's order.

        Each is given as it arrives, so that a directory may hold any number of them. A scan that breaks is not
        repeated, since a part of it was given already. `timeout` counts from the first one.
        """
        deadline = Deadline(timeout)
        try:
            with self._counted():
                connection = self._connected(deadline)
                with connection.in_use():
                    remote = RemoteFiles(connection, connection.quick, deadline)
                    for entry in entries_of(remote, self._paths.on_server(path)):
                        yield FileInfo.of(listed(path, decode_path(entry.name)), entry.attributes)
        except Exception as error:
            named = _named(error, "scan", path)
            named.path = self._paths.of_caller(named.path or path, path)
            raise named from error

    def delete_file(self, path: str, *, timeout: float | None = None) -> None:
        """Delete a file or a link; a directory is refused."""
        sent = operations.Sent()

        def work(attempt: _Attempt) -> None:
            operations.delete_file(attempt.remote, self._paths.on_server(path), sent)

        self._run("delete_file", path, timeout, work)

    def move_file(self, source: str, dest: str, *, timeout: float | None = None) -> bool:
        """Move a file, creating or replacing `dest` and creating its parents; a directory as `source` is refused.

        Returns whether the destination was replaced in one atomic step.
        """
        sent = operations.Sent()

        def work(attempt: _Attempt) -> bool:
            start, end = self._paths.on_server(source), self._paths.on_server(dest)
            return operations.move_file(attempt.remote, start, end, self._terms(), sent)

        return self._run("move_file", source, timeout, work, dest)

    def download_file(
        self,
        source: str,
        dest: str,
        *,
        timeout: float | None = None,
        verify: Verify = "size",
        progress: Callable[[int, int | None], object] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Transfer:
        """Download a file, creating or replacing `dest` at one blow and creating its parents.

        What a broken try has left is built on by the next one, in this process or a later one, as long as the source
        is the same.

        Parameters:
            source: the remote file.
            dest: the local file; an existing directory, or a path that ends with `/`, keeps the source's name.
            timeout: seconds.
            verify: `size`, or `sha256` to compare the hash of all bytes too.
            progress: told the bytes that are there and those that there will be, at most ten times a second, in this
                thread.
            cancelled: ends the call with `Cancelled` when it is set; an `Interruption` ends it for now.
        """
        started = time.monotonic()
        terms = self._terms(verify, progress)

        def work(attempt: _Attempt) -> Transfer:
            with attempt.transfer() as remote:
                outcome = download_file(remote, self._paths.on_server(source), self._local_files, dest, terms)
            return Transfer.of(outcome, time.monotonic() - started, attempt.number + 1)

        return self._run("download_file", source, timeout, work, dest, cancelled=cancelled)

    def upload_file(
        self,
        source: str,
        dest: str,
        *,
        timeout: float | None = None,
        verify: Verify = "size",
        progress: Callable[[int, int | None], object] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Transfer:
        """Upload a file, creating or replacing `dest` at one blow and creating its parents: see `download_file`.

        Parameters:
            source: the local file.
            dest: the remote file; an existing directory, or a path that ends with `/`, keeps the source's name.
            timeout: seconds.
            verify: `size`, or `sha256` to compare the hash of all bytes too.
            progress: told the bytes that are there and those that there will be, at most ten times a second, in this
                thread.
            cancelled: ends the call with `Cancelled` when it is set; an `Interruption` ends it for now.
        """
        started = time.monotonic()
        terms = self._terms(verify, progress)

        def work(attempt: _Attempt) -> Transfer:
            with self._local_files.source(source) as descriptor, attempt.transfer() as remote:
                end, name = self._paths.on_server(dest), posixpath.basename(source)
                outcome = upload_file(remote, descriptor, name, end, terms=terms, spare=attempt.spare)
            return Transfer.of(outcome, time.monotonic() - started, attempt.number + 1)

        return self._run("upload_file", source, timeout, work, dest, cancelled=cancelled)

    def limit_bandwidth(self, bytes_per_second: int | None) -> None:
        """Let all transfers together move so many bytes per second at most, from now on; `None` sets no limit.

        Raises:
            ValueError: it is not a whole number, or smaller than 1.
        """
        self._limit.bytes_per_second = bytes_per_second

    def download_files(
        self,
        source: str,
        dest: str,
        *,
        file_pattern: str | None = None,
        recursive: bool = False,
        if_exists: str = "replace",
        then: str = "keep",
        move_to: str | None = None,
        min_age: float = 0.0,
        timeout: float | None = None,
        progress: Callable[[FolderProgress], object] | None = None,
        cancelled: threading.Event | None = None,
        ledger: Ledger | None = None,
        verify: Verify = "size",
        verify_existing: bool = False,
    ) -> FolderTransfer:
        """Download the files of a folder, many at a time, each as `download_file` does.

        One file's failure does not stop the others: it is counted, and the first 20 are told. A file that is deleted
        before its turn comes is no failure. Links to files are taken as files, links to directories are not followed.

        Parameters:
            source: the remote folder.
            dest: the local folder, made if it is missing.
            file_pattern: a substring of a file's path, as `list_files` shows it.
            recursive: take the folders in it too, into folders of the same names.
            if_exists: `replace`; `skip` leaves alone what is there under that name; `skip_same` what has the same size
                and time (whole seconds) too.
            then: `keep`, `delete` or `move` (into `move_to`) the file at the source after its own success, unless it
                has changed meanwhile. That needs proof that this very version has arrived: where `if_exists` finds the
                same size and time, the bytes are compared by a hash, and are transferred if they differ. A file that
                cannot be deleted or moved is not transferred again; only that is tried again by the next call.
            move_to: a folder on the source's side; what is in it is not taken. If it is on another file system, files
                are copied there.
            min_age: seconds since a file's modification, so that what is still being written is left for the next
                time; looked at again when a file's turn comes. The server's clock is taken to be right.
            timeout: seconds.
            progress: told how far it is, at most ten times a second, in the caller's thread.
            cancelled: ends the call with `Cancelled` when it is set; an `Interruption` ends it for now.
            ledger: asked which versions of files have arrived before, and told which ones have.
            verify: as for `download_file`.
            verify_existing: where a file of the same size and time is there, compare the bytes by a hash, and leave it
                alone if they are the same, also with `replace`; for a call that goes on where another one was ended.

        Raises:
            SFTPError: what stopped all of it: the connection, the deadline, a full disk, a source that is not there.
        """
        known = self._ledger(ledger, "download", source, dest, then)
        order = FolderOrder(
            source, dest, file_pattern, recursive, if_exists, then, move_to, min_age, known, verify_existing
        )
        downloads = Downloads(order, self._local_files, self._paths, self._terms(verify))
        run = FolderRun(order, downloads, progress)
        return self._folder("download_files", run, timeout, cancelled)

    def upload_files(
        self,
        source: str,
        dest: str,
        *,
        file_pattern: str | None = None,
        recursive: bool = False,
        if_exists: str = "replace",
        then: str = "keep",
        move_to: str | None = None,
        min_age: float = 0.0,
        timeout: float | None = None,
        progress: Callable[[FolderProgress], object] | None = None,
        cancelled: threading.Event | None = None,
        ledger: Ledger | None = None,
        verify: Verify = "size",
        verify_existing: bool = False,
    ) -> FolderTransfer:
        """Upload the files of a local folder, many at a time, each as `upload_file` does: see `download_files`."""
        known = self._ledger(ledger, "upload", source, dest, then)
        order = FolderOrder(
            source, dest, file_pattern, recursive, if_exists, then, move_to, min_age, known, verify_existing
        )
        uploads = Uploads(order, self._local_files, self._paths, self._terms(verify))
        run = FolderRun(order, uploads, progress)
        return self._folder("upload_files", run, timeout, cancelled)

    def test_connection(self, *, learn: bool = False, timeout: float | None = None) -> ServerInfo:
        """Connect anew with these settings, beside the session that may be open, and return what the server showed.

        Parameters:
            learn: remember the key that the server shows, in the place of the one that is remembered (never in that of
                a pinned one); that one stays if no key is shown.
            timeout: seconds.
        """
        deadline = Deadline(timeout)
        try:
            policy = self._policy.learning() if learn else self._policy
            connection = self._new_connection(deadline, policy)
        except Exception as error:
            raise _named(error, "test_connection", None) from error
        info = connection.info
        connection.close()
        return info

    # --- one call ---

    def _terms(self, verify: Verify = "size", progress: Callable[[int, int | None], object] | None = None) -> Terms:
        if verify not in VERIFY:
            raise InvalidRequest(f"verify must be one of {', '.join(VERIFY)}")
        return Terms(self._server, verify, self._unfinished, self._limit, self._counts, progress or ignore_progress)

    def _ledger(self, ledger: Ledger | None, *place: str) -> SessionLedger | None:
        """Return the ledger of a folder's call: without one, what is kept at the source is moved each time."""
        return None if ledger is None and place[-1] == "keep" else self._recent.of(place, ledger)

    def _folder(
        self, operation: str, run: FolderRun, timeout: float | None, cancelled: threading.Event | None
    ) -> FolderTransfer:
        started, disconnects = time.monotonic(), self._disconnects
        with closing(run):
            while True:
                done = run.done
                try:
                    self._run(operation, run.order.source, timeout, run.attempt, run.order.dest, cancelled=cancelled)
                except ConnectionLost:
                    # Without a deadline, a link that breaks now and then is tried again as long as files get through.
                    if timeout is not None or run.done == done or self._disconnects != disconnects:
                        raise
                else:
                    return run.result(time.monotonic() - started)

    def _run(
        self,
        operation: str,
        path: str,
        timeout: float | None,
        work: Callable[[_Attempt], Result],
        dest: str = "",
        *,
        cancelled: threading.Event | None = None,
    ) -> Result:
        """Run an operation under its deadline, again after a break, with every failure named in the caller's terms."""
        deadline, attempts = Deadline(timeout, cancelled), _Attempts()
        try:
            with self._counted():
                return self._repeat(work, deadline, attempts)
        except Exception as error:
            named = _named(error, operation, path)
            named.path = self._paths.of_caller(named.path or path, path, dest)
            named.attempts = attempts.begun
            if isinstance(named, Internal):
                logger.exception("A defect in %s", operation)
            raise named from error

    def _repeat(self, work: Callable[[_Attempt], Result], deadline: Deadline, attempts: _Attempts) -> Result:
        """Do the work, again after each break, until the deadline; a server that lets nobody in is tried three times.

        So is what the local system cannot do at the moment.

        A deadline that runs out after a break is told as that break, which is what the caller can do something about.
        """
        disconnects = self._disconnects
        lost: SFTPError | None = None
        while True:
            attempts.begun += 1
            try:
                return self._try(work, deadline, attempts)
            except (Unreachable, DeadlineExceeded) as error:
                if lost is None or isinstance(error, Cancelled):
                    raise
            except SFTPError as error:
                if not error.retry.is_within_call:
                    raise
                if error.retry is Retry.AT_ONCE:
                    continue
                lost = error
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempts.begun) * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
            exhausted = attempts.are_exhausted_by(lost, deadline)
            if self._disconnects != disconnects or exhausted or pause >= deadline.remaining():
                raise lost
            logger.info("Trying again in %.1f s: %s", pause, lost.message)
            self._counts.add(retries=1)
            deadline.pause(pause)

    def _try(self, work: Callable[[_Attempt], Result], deadline: Deadline, attempts: _Attempts) -> Result:
        connection = self._connected(deadline)
        attempts.were_connected = True
        try:
            with connection.in_use():
                return work(_Attempt(connection, deadline, attempts.begun - 1))
        except ConnectionLost:
            self._drop(connection)
            raise
        except HandleInUse:
            if attempts.begun < ATTEMPTS:
                raise
            message = "the server gives out handles that are in use, also with one file at a time"
            raise Unsupported(message) from None

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._in_flight += 1
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1
                last = self._close_when_idle and self._in_flight == 0
            if last:
                self.disconnect()

    # --- the connection ---

    def _connected(self, deadline: Deadline) -> Connection:
        """Return the open connection; open one if there is none. Callers at the same time share one attempt.

        The attempt has a thread of its own: a caller whose time runs out leaves it to the others, and to the next.
        """
        with self._lock:
            if self._connection is not None and self._connection.alive:
                return self._connection
            self._share_slow_failure()
            broken, self._connection = self._connection, None
            attempt = self._connecting
            if attempt is None:
                attempt = self._connecting = Future()
                # In its caller's context, so that what it logs can be told to be about that call
                args = (self._open, attempt, broken)
                threading.Thread(target=copy_context().run, args=args, name="sftp-opening", daemon=True).start()
        while True:
            try:
                return attempt.result(deadline.wait_at_most())
            except (FutureTimeoutError, TimeoutError):
                deadline.check()

    def _share_slow_failure(self) -> None:
        """Tell calls that have waited for others' calls what those waited for, rather than let each wait in turn."""
        if self._slow_failure is not None:
            since, error = self._slow_failure
            if time.monotonic() - since < SHARED_FOR:
                raise Unreachable(error.message)
            self._slow_failure = None

    def _open(self, attempt: Future[Connection], broken: Connection | None) -> None:
        if broken is not None:
            broken.close()
        started = time.monotonic()
        try:
            clean_up_locally(self._unfinished)
            connection = self._new_connection(Deadline(None), self._policy, self._announce)
            # Before anybody uses it: a destination that is being cleaned up would be busy for its next transfer.
            limit = Deadline(self.settings.time_limits.connect)
            with suppress(SFTPError):  # the next connection brings the next chance
                clean_up_remotely(self._unfinished, RemoteFiles(connection, connection.quick, limit), self._server)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for whoever waits
            now = time.monotonic()
            with self._lock:
                if isinstance(error, Unreachable) and now - started >= SLOW:
                    self._slow_failure = now, error
                if self._connecting is attempt:
                    self._connecting = None
            attempt.set_exception(error)
            return
        with self._lock:
            wanted = self._connecting is attempt
            if wanted:
                self._connecting, self._connection = None, connection
        if wanted:
            self._counts.add(connections=1)
            attempt.set_result(connection)
        else:
            ended = ConnectionLost("disconnect was called while the session was being opened")
            connection.close(ended)
            attempt.set_exception(ended)

    def _announce(self, connection: Connection) -> None:
        with self._lock:
            self._opening = connection

    def _new_connection(
        self, deadline: Deadline, policy: HostKeyPolicy, announce: Callable[[Connection], object] = lambda _: None
    ) -> Connection:
        limit = deadline.within(self.settings.time_limits.connect)
        try:
            connection = Connection(self.settings, policy, limit, self._budget, announce, traits=self._traits)
        except SFTPError:
            deadline.check()
            raise
        info = connection.info
        logger.info(
            "Connected to %s port %s (%s, %s)", self.settings.host, self.settings.port, info.server, info.cipher
        )
        return connection

    def _drop(self, connection: Connection) -> None:
        with self._lock:
            if self._connection is connection:
                self._connection = None
        connection.close()


def _named(error: Exception, operation: str, path: str | None) -> SFTPError:
    """Return a reason of this call's own: one broken connection fails many calls with the same object."""
    named = from_lower_layer(error)
    return type(named)(named.message, operation=operation, path=named.path if named.path is not None else path)
