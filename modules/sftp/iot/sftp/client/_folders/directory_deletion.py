"""Delete a directory with all that is in it: many requests in flight, in the memory of a few thousand names.

A file costs one REMOVE, of which many are in flight while the listing still arrives; a directory a listing and one
RMDIR, for many directories at once. Nothing is ever deleted through a link: what a listing shows as a directory is
looked at again, by LSTAT and READLINK together with OPENDIR. SFTP version 3 has paths only, no way to open a directory
without following links, and no way to delete relative to an open one. So who may write in the directory can swap a part
of it for a link between that look and the requests that follow, for one or two round trips, and have files of the same
names deleted where the link leads, if the account may delete there.
"""

from __future__ import annotations

import posixpath
import stat
import threading
from contextlib import closing, suppress
from contextvars import copy_context
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    DeadlineExceeded,
    FileError,
    NotADirectory,
    NotEmpty,
    NotFound,
    PermissionDenied,
    SFTPError,
    Unsupported,
)
from iot.sftp.client._base.threads import WorkerThreads
from iot.sftp.client._files.protected_directories import refuse_protected
from iot.sftp.client._files.remote_paths import listed
from iot.sftp.client._folders.directory_operations import (
    check_directory,
    outcome_unknown,
    refuse_full,
    remove_directory,
    without_slashes,
)
from iot.sftp.client._folders.folder_walk import below
from iot.sftp.client._folders.removals import Removals
from iot.sftp.client._folders.workers import PROGRESS_INTERVAL
from iot.sftp.client._ssh.packets import decode_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._ssh.packets import Entry
    from iot.sftp.client._ssh.requests import Reply

DIRECTORIES_AT_ONCE = 64
MOST_WAITING = 10_000  # directories that are known and not deleted: with more, listings are left, and start over later
PER_LISTING = 1_000  # directories that are taken from a listing before it is left
MOST_PASSES = 5  # over a directory that others put something into meanwhile
DEEPEST = 2_048  # directories within directories: Linux takes paths of 4,096 bytes


class DirectoryDeletion:
    """The deletion of one directory, over as many attempts as it takes: what is gone stays gone.

    Attributes:
        removed: how many files, links and directories were deleted.
    """

    def __init__(self, path: str, *, resumes: bool = False, progress: Callable[[int], object] | None = None) -> None:
        """Start nothing yet.

        Parameters:
            path: of the directory, as the caller knows it.
            resumes: whether an earlier call may have deleted it.
            progress: receives `removed`, at most ten times a second, in the thread of `attempt`.
        """
        self.removed = 0
        self._path = path
        self._may_be_gone = resumes
        self._is_last_requested = False  # the RMDIR of the directory itself: then it was empty
        self._progress = progress
        self._lock = threading.Lock()

    def attempt(self, remote: RemoteFiles, directory: str, root: str | None) -> None:
        """Delete what is left.

        Parameters:
            remote: the server's files.
            directory: the server's path of it.
            root: that is configured, if any.

        Raises:
            SFTPError: what the server refused first, with its path, and how many were deleted before.
        """
        directory = without_slashes(directory)
        try:
            check_directory(remote, directory, "delete_file deletes it")
            directory = refuse_protected(remote, directory, root)
            if self._is_last_requested:
                self._remove_last(remote, directory)
            else:
                _TreeRemoval(remote, directory, self).run()
        except NotFound as error:
            if not (self._may_be_gone or self._is_last_requested or self.removed):
                raise
            if error.path not in {None, directory}:
                raise
        except (FileError, Unsupported, DeadlineExceeded) as error:
            raise self._in_terms_of_caller(error, directory) from error
        self.report()

    def count(self) -> None:
        """Count one more that was deleted."""
        with self._lock:
            self.removed += 1

    def report(self) -> None:
        """Report the progress."""
        if self._progress is not None:
            self._progress(self.removed)

    def expect_the_last(self) -> None:
        """Record that the directory itself, now empty, is about to be removed."""
        self._is_last_requested = True

    def _remove_last(self, remote: RemoteFiles, directory: str) -> None:
        """Remove the directory, which was empty when an earlier attempt asked for that, if it still is."""
        try:
            refuse_full(remote, directory)
            remove_directory(remote, directory)
        except NotEmpty as error:
            raise outcome_unknown(directory) from error
        self.count()

    def _in_terms_of_caller(self, error: SFTPError, directory: str) -> SFTPError:
        message = error.message
        if self.removed:
            message = f"{message} ({self.removed} entries were deleted before: another call goes on with what is left)"
        path = error.path
        if path is not None and path.startswith(f"{directory}/"):
            path = listed(self._path, path[len(directory) + 1 :])
        return type(error)(message, path=path)


@dataclass(eq=False)
class _Directory:
    """A directory that was found and is not deleted yet.

    Attributes:
        path: relative to the one that is deleted; `""` is that one itself.
        parent: the directory that it is in.
        depth: below the one that is deleted.
        pending: how many directories in it are not deleted yet.
        found: how many entries the last listing of it has shown.
        is_listed: whether that listing came to its end.
        passes: how often it was listed since it should have been empty.
        refusal: why it was not deleted as a file, or cannot be listed.
        asked: its RMDIR, if that was sent already.
    """

    path: str
    parent: _Directory | None = None
    depth: int = 0
    pending: int = 0
    found: int = 0
    is_listed: bool = False
    is_gone: bool = False
    passes: int = 0
    refusal: SFTPError | None = None
    asked: Future[Reply] | None = None


class _Stopped(Exception):  # noqa: N818 - it is no error: another thread has one
    """Ends the work of a thread, since the whole deletion ends."""


class _TreeRemoval:
    """One attempt to delete a tree: the deepest directories first, each by the next thread that is free."""

    def __init__(self, remote: RemoteFiles, top: str, deletion: DirectoryDeletion) -> None:
        self._remote = remote
        self._top = top
        self._deletion = deletion
        self._lock = threading.Lock()
        self._waiting: list[_Directory] = []
        self._known = 0  # directories that are not deleted yet
        self._failure: BaseException | None = None
        self._ended = threading.Event()
        self._threads = WorkerThreads(DIRECTORIES_AT_ONCE, name="sftp-delete")

    def run(self) -> None:
        """Delete everything, and report the progress in this thread.

        Raises:
            SFTPError: the first failure; requests in flight were waited for.
        """
        with self._threads:
            self._add([_Directory("")])
            try:
                while not self._ended.wait(PROGRESS_INTERVAL):
                    self._deletion.report()
                    self._remote.deadline.check()
            except BaseException as error:
                self._fail(error)
                raise
        failure = self._failure
        if isinstance(failure, SFTPError):
            # Not the object itself: the connection keeps it, and with it the names that its traceback holds
            raise type(failure)(failure.message, path=failure.path) from None
        if failure is not None:
            raise failure

    # --- the directories, and the threads ---

    def _add(self, directories: list[_Directory]) -> None:
        with self._lock:
            self._waiting += directories
            self._known += len(directories)
        self._wake(len(directories))

    def _wake(self, count: int) -> None:
        for _ in range(count):
            if not self._ended.is_set():
                with suppress(RuntimeError):  # it has just ended, and takes no more
                    self._threads.submit(copy_context().run, self._work)

    def _work(self) -> None:
        """Take the directory that was found last, so that few are known at a time."""
        with self._lock:
            directory = None if self._failure is not None or not self._waiting else self._waiting.pop()
        if directory is None:
            return
        try:
            self._delete(directory)
        except _Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._failure = self._failure or error
        self._ended.set()

    def _check(self) -> None:
        if self._failure is not None:
            raise _Stopped

    # --- one directory ---

    def _delete(self, directory: _Directory) -> None:
        """Delete a directory, and those above it that become empty; leave it if there are others in it."""
        if self._empty(directory):
            return
        while self._remove(directory):
            parent = directory.parent
            if parent is None:
                self._ended.set()
                return
            with self._lock:
                self._known -= 1
                parent.pending -= 1
                is_last = parent.pending == 0
            if not is_last:
                return
            directory = parent
            if not directory.is_listed:
                break
        with self._lock:
            self._waiting.append(directory)
        self._wake(1)

    def _empty(self, directory: _Directory) -> bool:
        """List a directory, and delete the files in it; return whether there are directories in it, to go first."""
        path = below(self._top, directory.path)
        directory.found, directory.is_listed = 0, False
        removals = Removals(self._remote, self._top, self._deletion.count)
        room = max(1, min(PER_LISTING, MOST_WAITING - self._known))
        try:
            found = self._list(directory, path, removals, room)
            if directory.is_listed and not found and directory.parent and self._remote.traits.keeps_order:
                directory.asked = self._remote.begin_remove_directory(path)  # carried out behind all REMOVEs
            removals.settle_all()
        except BaseException:
            removals.give_up()
            raise
        found += removals.directories
        if found and directory.depth >= DEEPEST:
            message = f"there are directories within directories, more than {DEEPEST} of them"
            raise Unsupported(message, path=path)
        if found:
            directory.asked = None
            directory.pending = len(found)
            depth = directory.depth + 1
            self._add([_Directory(name, directory, depth, refusal=refusal) for name, refusal in found])
        return bool(found)

    def _list(
        self, directory: _Directory, path: str, removals: Removals, room: int
    ) -> list[tuple[str, SFTPError | None]]:
        """List a directory, send REMOVE for all that is none, and return the directories in it, `room` at most."""
        found: list[tuple[str, SFTPError | None]] = []
        asked = self._remote.begin_own_look(path)  # in one flight with OPENDIR
        try:
            with closing(self._remote.entries(path)) as entries:
                first = next(entries, None)
                _, target = self._remote.own_look(asked, path)
                if target is not None:
                    self._remove_as_file(directory, path)
                    return []
                for entry in chain([] if first is None else [first], entries):
                    self._check()
                    directory.found += 1
                    self._take(entry, directory, removals, found)
                    if len(found) + len(removals.directories) >= room:
                        return found
        except NotFound:
            pass  # others were faster
        except PermissionDenied as refusal:
            directory.refusal = directory.refusal or refusal  # it may be empty, and be deleted without being listed
        except NotADirectory:
            self._remove_as_file(directory, path)
        directory.is_listed = True
        return found

    def _take(
        self, entry: Entry, directory: _Directory, removals: Removals, found: list[tuple[str, SFTPError | None]]
    ) -> None:
        name = posixpath.join(directory.path, decode_path(entry.name))
        kind = stat.S_IFMT(entry.attributes.mode or 0)
        if kind == stat.S_IFDIR:
            found.append((name, None))
        else:
            removals.send(name, is_clear=kind != 0)

    def _remove_as_file(self, directory: _Directory, path: str) -> None:
        """Delete what is no directory after all: a link that is shown as what it leads to, or was just put there."""
        if directory.parent is None:
            message = "a link or a file has just been put in the place of the directory"
            raise NotADirectory(message, path=path)
        if directory.refusal is not None:
            raise directory.refusal
        with suppress(NotFound):
            self._remote.remove(path)
            self._deletion.count()
        directory.is_listed = directory.is_gone = True

    def _remove(self, directory: _Directory) -> bool:
        """Remove an empty directory; return `False` if it has to be listed once more, since it is not empty."""
        if directory.is_gone:
            return True
        self._check()
        path = below(self._top, directory.path)
        if directory.parent is None:
            self._deletion.expect_the_last()
        asked, directory.asked = directory.asked, None
        try:
            if asked is None:
                remove_directory(self._remote, path)
            else:
                self._remote.wait(asked, path)
        except NotFound:
            return True
        except (NotEmpty, PermissionDenied) as error:
            if not directory.found:
                raise directory.refusal or error from None
            directory.passes += 1
            if directory.passes >= MOST_PASSES:
                message = "this cannot be emptied: others put something into it as fast as it is deleted"
                raise NotEmpty(message, path=path) from error
            return False
        self._deletion.count()
        return True
