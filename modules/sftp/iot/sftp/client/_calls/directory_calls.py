"""The operations of a session on names and directories: what is there, and creating, moving and deleting it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import InvalidRequest
from iot.sftp.client._calls.calls import CallAttempt
from iot.sftp.client._calls.session_core import SessionCore
from iot.sftp.client._files.directory_listing import info_of, list_directory
from iot.sftp.client._files.file_info import FileInfo
from iot.sftp.client._files.listing import entries_of, list_files
from iot.sftp.client._files.remote_paths import listed
from iot.sftp.client._folders.directory_deletion import DirectoryDeletion
from iot.sftp.client._folders.directory_operations import (
    RequestedChange,
    create_directory,
    delete_empty_directory,
    move_directory,
)
from iot.sftp.client._ssh.packets import decode_path

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator


class DirectoryCalls(SessionCore):
    """What is on the server, and its directories: see `SFTPSession`."""

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
            directory = self._paths.directory_on_server(path)
            if delete_empty_directory(attempt.remote, directory, self._paths.root, requested):
                deletion.count()

        def delete_tree(attempt: CallAttempt) -> None:
            with attempt.transfer() as remote:
                deletion.attempt(remote, self._paths.directory_on_server(path), self._paths.root)

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
            start, end = self._paths.directory_on_server(source), self._paths.on_server(dest)
            move_directory(attempt.remote, start, end, self._paths.root, requested)

        self._calls.run("move_directory", source, timeout, work, dest)


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        message = "limit must be 1 or more"
        raise InvalidRequest(message)
