"""The session with one server: the public operations, raising `SFTPError`s, thread-safe, reconnecting by itself.

What an operation does is below this file: `_calls` opens the connection and retries, `_transfer` and `_folders` move
files, `_files` has the server's files.
"""

from __future__ import annotations

import posixpath
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from iot.sftp.client._base.counts import Counts
from iot.sftp.client._base.deadline import Deadline
from iot.sftp.client._base.errors import ConnectionLost, DeadlineExceeded, InvalidRequest, SFTPError
from iot.sftp.client._base.messages import DISCONNECTED
from iot.sftp.client._calls.calls import CallAttempt, Calls, as_error_of
from iot.sftp.client._calls.live_connection import ConnectionFactory, LiveConnection
from iot.sftp.client._calls.retry_policy import RetryPolicy
from iot.sftp.client._files.directory_listing import info_of, list_directory
from iot.sftp.client._files.file_info import FileInfo
from iot.sftp.client._files.listing import entries_of, list_files
from iot.sftp.client._files.local_files import LocalFiles
from iot.sftp.client._files.remote_files import RemoteFiles
from iot.sftp.client._files.remote_paths import RemotePaths, check_names_file, listed
from iot.sftp.client._folders.delivery_ledger import SessionLedgers
from iot.sftp.client._folders.directory_deletion import DirectoryDeletion
from iot.sftp.client._folders.directory_operations import (
    RequestedChange,
    create_directory,
    delete_empty_directory,
    move_directory,
)
from iot.sftp.client._folders.folder_download import FolderDownload
from iot.sftp.client._folders.folder_order import FolderOrder, IfExists, Then
from iot.sftp.client._folders.folder_run import FolderRun
from iot.sftp.client._folders.folder_upload import FolderUpload
from iot.sftp.client._folders.selection import Order, Selection
from iot.sftp.client._ssh.packets import decode_path
from iot.sftp.client._transfer import operations
from iot.sftp.client._transfer.abandoned_transfers import clean_up_locally, clean_up_remotely
from iot.sftp.client._transfer.download import download_file
from iot.sftp.client._transfer.file_content import FileContent, read_content
from iot.sftp.client._transfer.file_order import Direction, FileOrder, Modes, Verify
from iot.sftp.client._transfer.memory_file import memory_file
from iot.sftp.client._transfer.outcome import Transfer
from iot.sftp.client._transfer.rate_limit import RateLimit
from iot.sftp.client._transfer.resume_records import ResumeRecords
from iot.sftp.client._transfer.transfer_context import TransferContext, ignore_progress
from iot.sftp.client._transfer.upload import upload_file

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from iot.sftp.client._base.settings import ServerSettings
    from iot.sftp.client._folders.delivery_ledger import Ledger
    from iot.sftp.client._folders.folder_progress import FileOutcome, FolderProgress, FolderTransfer
    from iot.sftp.client._ssh.connection import Connection
    from iot.sftp.client._ssh.handshake import ServerInfo


class SFTPSession:
    """The operations of `IoTSFTPClient`, raising `SFTPError`s instead of returning `False`; thread-safe.

    The connection is opened by the first call that needs it, and again after it broke. An idempotent operation is
    retried after a break, with exponential backoff, within its deadline. Every method takes `timeout`: seconds for the
    whole call, `None` for no limit but those of `TimeLimits` for each step.

    This class stays in one piece because it is the public API: each method only says which step below does the work.
    """

    _retry_policy = RetryPolicy()  # of all sessions; tests set another one

    def __init__(
        self,
        settings: ServerSettings,
        *,
        local_files: LocalFiles | None = None,
        limit: RateLimit | None = None,
        on_connected: Callable[[ServerInfo], object] = lambda _info: None,
    ) -> None:
        """Take the settings; nothing is opened yet.

        Parameters:
            settings: the server, the credentials and the time limits.
            local_files: how local paths are reached; all of the local file system if it is left out.
            limit: the bytes per second of all sessions that are given the same one; if it is left out, the session has
                its own.
            on_connected: receives what the server has shown, each time that a connection was opened; it must not raise.
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

    def exists(self, path: str, *, timeout: float | None = None) -> bool:
        """Return whether a file or a directory is there. `False` only when the server says that it is not."""

        def work(attempt: CallAttempt) -> bool:
            return attempt.remote.kind_of(self._paths.on_server(path)) is not None

        return self._calls.run("exists", path, timeout, work)

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
            longest: characters that all paths together may have; if they have more, `TooLarge` is raised as
                soon as that is known.
            timeout: seconds.
        """
        _check_limit(limit)

        def work(attempt: CallAttempt) -> list[str]:
            directory = self._paths.on_server(path)
            return list_files(attempt.remote, directory, path, file_pattern, limit=limit, after=after, longest=longest)

        return self._calls.run("list_files", path, timeout, work)

    def list_directory(
        self,
        path: str,
        *,
        limit: int | None = None,
        after: str | None = None,
        longest: int | None = None,
        timeout: float | None = None,
    ) -> list[FileInfo]:
        """Return everything directly under `path`, sorted by path, with what the server reports of it.

        Links are not followed. A page takes the time of listing all, and the memory of a page.

        Parameters:
            path: a remote directory; the paths returned begin with it, except for `.`.
            limit: so many entries at most, the first ones.
            after: only entries that sort after this path: the last one of the page before.
            longest: characters that all paths together may have. If they have more, a page is cut short, though never
                to nothing; without `limit`, `TooLarge` is raised as soon as that is known.
            timeout: seconds.
        """
        _check_limit(limit)

        def work(attempt: CallAttempt) -> list[FileInfo]:
            directory = self._paths.on_server(path)
            return list_directory(attempt.remote, directory, path, limit=limit, after=after, longest=longest)

        return self._calls.run("list_directory", path, timeout, work)

    def stat(self, path: str, *, timeout: float | None = None) -> FileInfo | None:
        """Return what the server reports of a path, links followed; `None` only if it says that nothing is there."""

        def work(attempt: CallAttempt) -> FileInfo | None:
            return info_of(attempt.remote, self._paths.on_server(path), path)

        return self._calls.run("stat", path, timeout, work)

    def scan(self, path: str, *, timeout: float | None = None) -> Iterator[FileInfo]:
        """Yield what is directly in a directory, directories and links too, in the server's order.

        Each entry is yielded as it arrives, so that a directory may hold any number of them. A scan that breaks is not
        retried, since a part of it was yielded already. `timeout` counts from the first one.
        """
        with self._calls.once("scan", path, timeout) as attempt:
            for entry in entries_of(attempt.remote, self._paths.on_server(path)):
                yield FileInfo.of(listed(path, decode_path(entry.name)), entry.attributes)

    def create_directory(self, path: str, *, timeout: float | None = None) -> None:
        """Create a directory and its missing parents; one that is there already is left as it is.

        Raises:
            NotADirectory: a file is in its place, or in that of a parent.
        """

        def work(attempt: CallAttempt) -> None:
            create_directory(attempt.remote, self._paths.on_server(path))

        self._calls.run("create_directory", path, timeout, work)

    def delete_directory(
        self,
        path: str,
        *,
        recursive: bool = False,
        resumes: bool = False,
        timeout: float | None = None,
        progress: Callable[[int], object] | None = None,
        cancelled: threading.Event | None = None,
    ) -> int:
        """Delete a directory, and return how many files, links and directories that were.

        Links are deleted as links, and never followed. The root of the account, the configured root and the directories
        above them are refused, whatever the path that leads to them looks like. The first entry that the server refuses
        to delete ends the call; another call goes on with what is left.

        Parameters:
            path: the directory.
            recursive: delete what is in it too; else it must be empty.
            resumes: whether this goes on with a call that was ended: then it is a success if nothing is there any more.
            timeout: seconds.
            progress: receives how many were deleted so far, at most ten times a second, in this thread.
            cancelled: ends the call with `Cancelled` when it is set; an `Interruption` ends it for now.

        Raises:
            NotADirectory: a file or a link is there.
            NotEmpty: there is something in it, and `recursive` is not set; or others keep adding to it.
            PathNotAllowed: it is one of the roots, or above one.
        """
        requested = RequestedChange(is_sent=resumes)
        deletion = DirectoryDeletion(path, resumes=resumes, progress=progress)

        def delete_empty(attempt: CallAttempt) -> None:
            directory = self._paths.on_server(path)
            if delete_empty_directory(attempt.remote, directory, self._paths.root, requested):
                deletion.count()

        def delete_tree(attempt: CallAttempt) -> None:
            with attempt.transfer() as remote:
                deletion.attempt(remote, self._paths.on_server(path), self._paths.root)

        self._calls.run_while_it_advances(
            "delete_directory",
            path,
            timeout,
            delete_tree if recursive else delete_empty,
            "",
            done=lambda: deletion.removed,
            cancelled=cancelled,
        )
        return deletion.removed

    def move_directory(self, source: str, dest: str, *, timeout: float | None = None) -> None:
        """Move a directory, creating the parents of `dest`; nothing may be at `dest`.

        Raises:
            AlreadyExists: something is at `dest`.
            InvalidRequest: `dest` is in `source`.
            NotADirectory: a file or a link is at `source`.
            PathNotAllowed: `source` is one of the roots, or above one: see `delete_directory`.
        """
        requested = RequestedChange()

        def work(attempt: CallAttempt) -> None:
            start, end = self._paths.on_server(source), self._paths.on_server(dest)
            move_directory(attempt.remote, start, end, self._paths.root, requested)

        self._calls.run("move_directory", source, timeout, work, dest)

    def delete_file(self, path: str, *, timeout: float | None = None) -> None:
        """Delete a file or a link; a directory is refused."""
        requested = operations.RequestedVersion()

        def work(attempt: CallAttempt) -> None:
            operations.delete_file(attempt.remote, self._paths.on_server(path), requested)

        self._calls.run("delete_file", path, timeout, work)

    def move_file(self, source: str, dest: str, *, timeout: float | None = None) -> bool:
        """Move a file, creating or replacing `dest` and creating its parents; a directory as `source` is refused.

        Returns whether the destination was replaced in one atomic step.
        """
        requested = operations.RequestedVersion()

        def work(attempt: CallAttempt) -> bool:
            start, end = self._paths.on_server(source), self._paths.on_server(dest)
            return operations.move_file(attempt.remote, start, end, self._transfer_context("size"), requested)

        return self._calls.run("move_file", source, timeout, work, dest)

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
        """Download a file, atomically creating or replacing `dest` and creating its parents.

        What a broken attempt has left is resumed by the next one, in this process or a later one, as long as the source
        is the same.

        Parameters:
            source: the remote file.
            dest: the local file; an existing directory, or a path that ends with `/`, keeps the source's name.
            timeout: seconds.
            verify: `size`, or `sha256` to compare the hash of all bytes too.
            progress: receives the bytes that are there and those that there will be, at most ten times a second, in
                this thread.
            cancelled: ends the call with `Cancelled` when it is set; an `Interruption` ends it for now.
        """
        order = FileOrder(Direction.DOWNLOAD, source, dest, verify=verify)
        return self.transfer_file(order, timeout=timeout, progress=progress, cancelled=cancelled)

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
        """Upload a file, atomically creating or replacing `dest` and creating its parents: see `download_file`.

        Parameters:
            source: the local file.
            dest: the remote file; an existing directory, or a path that ends with `/`, keeps the source's name.
            timeout: seconds.
            verify: `size`, or `sha256` to compare the hash of all bytes too.
            progress: receives the bytes that are there and those that there will be, at most ten times a second, in
                this thread.
            cancelled: ends the call with `Cancelled` when it is set; an `Interruption` ends it for now.
        """
        order = FileOrder(Direction.UPLOAD, source, dest, verify=verify)
        return self.transfer_file(order, timeout=timeout, progress=progress, cancelled=cancelled)

    def transfer_file(
        self,
        order: FileOrder,
        *,
        timeout: float | None = None,
        progress: Callable[[int, int | None], object] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Transfer:
        """Carry out an order for one file, as `download_file` and `upload_file` do.

        Parameters:
            order: which file, where to, and how.
            timeout, progress, cancelled: see `download_file`.
        """
        started = time.monotonic()
        context = self._transfer_context(order.verify, progress, order.modes)

        def download(attempt: CallAttempt) -> Transfer:
            with attempt.transfer() as remote:
                source = self._paths.on_server(order.source)
                outcome = download_file(remote, source, self._local_files, order.dest, context)
            return Transfer.of(outcome, time.monotonic() - started, attempt.number + 1)

        def upload(attempt: CallAttempt) -> Transfer:
            with self._local_files.source(order.source) as descriptor, attempt.transfer() as remote:
                end, name = self._paths.on_server(order.dest), posixpath.basename(order.source)
                outcome = upload_file(remote, descriptor, name, end, context=context, spare=attempt.spare)
            return Transfer.of(outcome, time.monotonic() - started, attempt.number + 1)

        work = download if order.direction is Direction.DOWNLOAD else upload
        return self._calls.run(order.operation, order.source, timeout, work, order.dest, cancelled=cancelled)

    def read_file(
        self, path: str, *, longest: int | None = None, timeout: float | None = None, verify: Verify = "size"
    ) -> FileContent:
        """Return the bytes of a remote file, all of one version of it, as a download does, without a local file.

        Parameters:
            path: the remote file.
            longest: bytes that it may have; with more, `TooLarge` is raised.
            timeout: seconds.
            verify: see `download_file`.
        """
        context = self._transfer_context(verify)

        def work(attempt: CallAttempt) -> FileContent:
            with attempt.transfer() as remote:
                return read_content(remote, self._paths.on_server(path), longest, context)

        return self._calls.run("read_file", path, timeout, work)

    def write_file(
        self,
        path: str,
        content: bytes,
        *,
        timeout: float | None = None,
        verify: Verify = "size",
        modes: Modes | None = None,
    ) -> Transfer:
        """Atomically create or replace a remote file with these bytes, creating its parents, as an upload does.

        Parameters:
            path: the remote file; a directory is refused, and a link to one.
            content: all that the file is to hold.
            timeout: seconds.
            verify: see `upload_file`.
            modes: the permissions of what is created.
        """
        started = time.monotonic()
        context = self._transfer_context(verify, modes=modes)

        def work(attempt: CallAttempt) -> Transfer:
            end = self._paths.on_server(check_names_file(path))
            with attempt.transfer() as remote:
                outcome = upload_file(
                    remote, descriptor, "", end, context=context, spare=attempt.spare, is_settled=True
                )
            return Transfer.of(outcome, time.monotonic() - started, attempt.number + 1)

        with memory_file(content, path) as descriptor:
            return self._calls.run("write_file", path, timeout, work)

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
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        file_pattern: str | None = None,
        recursive: bool = False,
        order: str = "name",
        rename: Callable[[str], str] | None = None,
        if_exists: str = "replace",
        backup_to: str | None = None,
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

        One file's failure does not stop the others: it is counted, and the first 20 are reported. A file that is
        deleted before its turn comes is no failure. Links to files are taken as files, links to directories are not
        followed.

        Parameters:
            source: the remote folder.
            dest: the local folder, made if it is missing.
            include: globs of which a file has to match one; all files if there is none. They are relative to `source`:
                `*` and `?` stand for characters of a name, `**` for folders, none included (`**/x` is also `x`).
            exclude: globs of which a file must match none.
            file_pattern: a substring of a file's path, as `list_files` shows it.
            recursive: take the folders in it too, into folders of the same names.
            order: which files come first: by `name`, or the `oldest` or `newest`, over all folders. Small files are in
                flight by the dozen, so that they need not arrive in the order in which they begin. With `newest`, files
                that appear meanwhile go before those that wait.
            rename: returns where a file goes, relative to `dest`, by its path relative to `source`. Two files of one
                call never replace each other: the second one fails (`AlreadyExists`).
            if_exists: `replace`; `skip` leaves alone what is there under that name; `skip_same` what has the same size
                and time (whole seconds) too; `rename` gives the file a number (`a-1.csv`); `fail` is its failure
                (`AlreadyExists`); `backup` keeps what is there in `backup_to`, before it is replaced.
            backup_to: a folder on the side of `dest`, in which replaced files keep their paths; a second one of the
                same path gets a number.
            then: `keep`, `delete` or `move` (into `move_to`) the file at the source after its own success, unless it
                has changed meanwhile. That needs proof that this very version has arrived: where `if_exists` finds the
                same size and time, the bytes are compared by a hash, and are transferred if they differ. A file that
                cannot be deleted or moved is not transferred again; only that is tried again by the next call.
            move_to: a folder on the source's side; what is in it is not taken. If it is on another file system, files
                are copied there.
            min_age: seconds since a file's modification, so that what is still being written is left for the next
                time; looked at again when a file's turn comes. The server's clock is taken to be right.
            timeout: seconds.
            progress: receives how far it is, at most ten times a second, in the caller's thread.
            cancelled: ends the call with `Cancelled` when it is set; an `Interruption` ends it for now.
            ledger: knows which versions of files have arrived before, and records which ones have.
            verify: as for `download_file`.
            verify_existing: where a file of the same size and time is there, compare the bytes by a hash, and leave it
                alone if they are the same, also with `replace`; for a call that resumes one that was ended.

        Raises:
            SFTPError: what stopped all of it: the connection, the deadline, a full disk, a source that is not there.
        """
        folder_order = FolderOrder(
            Direction.DOWNLOAD,
            source,
            dest,
            selection=Selection(
                include=include,
                exclude=exclude,
                file_pattern=file_pattern,
                recursive=recursive,
                min_age=min_age,
                order=Order.of(order),
            ),
            rename=rename,
            if_exists=IfExists.of(if_exists),
            backup_to=backup_to,
            then=Then.of(then),
            move_to=move_to,
            verify=verify,
            verify_existing=verify_existing,
        )
        return self.transfer_folder(
            folder_order, timeout=timeout, progress=progress, cancelled=cancelled, ledger=ledger
        )

    def upload_files(
        self,
        source: str,
        dest: str,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        file_pattern: str | None = None,
        recursive: bool = False,
        order: str = "name",
        rename: Callable[[str], str] | None = None,
        if_exists: str = "replace",
        backup_to: str | None = None,
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
        folder_order = FolderOrder(
            Direction.UPLOAD,
            source,
            dest,
            selection=Selection(
                include=include,
                exclude=exclude,
                file_pattern=file_pattern,
                recursive=recursive,
                min_age=min_age,
                order=Order.of(order),
            ),
            rename=rename,
            if_exists=IfExists.of(if_exists),
            backup_to=backup_to,
            then=Then.of(then),
            move_to=move_to,
            verify=verify,
            verify_existing=verify_existing,
        )
        return self.transfer_folder(
            folder_order, timeout=timeout, progress=progress, cancelled=cancelled, ledger=ledger
        )

    def transfer_folder(
        self,
        order: FolderOrder,
        *,
        timeout: float | None = None,
        progress: Callable[[FolderProgress], object] | None = None,
        cancelled: threading.Event | None = None,
        ledger: Ledger | None = None,
        on_file: Callable[[FileOutcome], object] | None = None,
    ) -> FolderTransfer:
        """Carry out an order for a folder, as `download_files` and `upload_files` do.

        Parameters:
            order: which files of which folder, and how.
            timeout, progress, cancelled, ledger: see `download_files`.
            on_file: receives what becomes of each file, in threads of the call: of one that is delivered, just before
                the ledger's `note`. It must not raise. What is skipped is not reported.

        Raises:
            SFTPError: see `download_files`.
        """
        started = time.monotonic()
        key = order.direction, order.source, order.dest, order.then
        # Without a ledger, what is kept at the source is transferred by each call
        known = None if ledger is None and order.keeps_source else self._ledgers.of(key, ledger)
        way = FolderDownload if order.direction is Direction.DOWNLOAD else FolderUpload
        direction = way(
            order,
            self._local_files,
            self._paths,
            self._transfer_context(order.verify, modes=order.modes),
            is_remembered=known is not None,
        )
        with closing(FolderRun(order, direction, known, progress, on_file)) as run:
            self._calls.run_while_it_advances(
                order.operation,
                order.source,
                timeout,
                run.attempt,
                order.dest,
                done=lambda: run.done,
                cancelled=cancelled,
            )
            return run.result(time.monotonic() - started)

    def test_connection(self, *, learn: bool = False, timeout: float | None = None) -> ServerInfo:
        """Open another connection with these settings, beside the session's, and return what the server showed.

        Parameters:
            learn: remember the key that the server shows, in the place of the one that is remembered (never in that of
                a pinned one); that one stays if no key is shown.
            timeout: seconds.
        """
        deadline, factory = Deadline(timeout), self._live.factory
        try:
            connection = factory.open(deadline, factory.policy.learning() if learn else factory.policy)
        except Exception as error:
            raise as_error_of(error, "test_connection", None) from error
        info = connection.info
        connection.close()
        return info

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
            modes=modes or Modes(),
        )

    def _clean_up_remotely(self, connection: Connection) -> None:
        """Clean up after earlier transfers before any call runs: else the next one would find its destination busy."""
        limit = Deadline(self.settings.time_limits.connect)
        with suppress(SFTPError):  # the next connection brings the next chance
            clean_up_remotely(self._records, RemoteFiles(connection, connection.quick, limit), self._server)


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        message = "limit must be 1 or more"
        raise InvalidRequest(message)
