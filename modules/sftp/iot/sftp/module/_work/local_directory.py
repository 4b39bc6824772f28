"""List a directory of the local root, and delete a file in it, as direct methods ask for it.

Both go through descriptors of directories (see `local_files`). A link is described or deleted itself, never followed.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import posixpath
import stat
from typing import TYPE_CHECKING

from iot.sftp.client import Busy, FileInfo, IsADirectory, LocalFiles, PathNotAllowed, SFTPError, from_os_error
from iot.sftp.client._base.deadline import Deadline
from iot.sftp.client._base.messages import IS_A_LOCAL_DIRECTORY
from iot.sftp.client._files.local_files import check_text
from iot.sftp.client._files.remote_paths import TEMPORARY_PREFIX, listed

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
_SECOND = 1_000_000_000  # nanoseconds


def list_local_directory(
    local_files: LocalFiles, path: str, *, limit: int, after: str | None, timeout: float
) -> list[FileInfo]:
    """Return the first entries of a directory, sorted by path: files, directories, links and all else.

    Only the names of one page are kept, however many there are.

    Parameters:
        local_files: the local root.
        path: of the directory; the paths returned begin with it, except for `.`.
        limit: so many at most.
        after: only paths that sort after this one.
        timeout: seconds.

    Raises:
        SFTPError: `NotFound`, `NotADirectory`, `PermissionDenied`, `PathNotAllowed` or `DeadlineExceeded`.
    """
    deadline = Deadline(timeout)
    directory = local_files.open_directory(path)
    try:
        while True:
            names = heapq.nsmallest(limit, _names_after(directory, path, after, deadline))
            page = [info for name in names if (info := _describe(directory, path, name, deadline))]
            if page or not names:
                return page
            after = listed(path, names[-1])  # they have all gone meanwhile: an empty page would be the last one
    except OSError as error:
        raise from_os_error(error, path) from error
    finally:
        os.close(directory)


def _names_after(directory: int, path: str, after: str | None, deadline: Deadline) -> Iterator[str]:
    with os.scandir(directory) as found:
        for entry in found:
            deadline.check()
            if after is None or listed(path, entry.name) > after:
                yield entry.name


def _describe(directory: int, path: str, name: str, deadline: Deadline) -> FileInfo | None:
    deadline.check()
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None  # it has just gone
    return FileInfo(
        listed(path, name),
        _KINDS.get(stat.S_IFMT(status.st_mode), "other"),
        size=status.st_size,
        modified=status.st_mtime_ns // _SECOND,
        mode=stat.S_IMODE(status.st_mode),
    )


def delete_local_file(local_files: LocalFiles, path: str) -> None:
    """Delete a file; of a symbolic link the link, not what it leads to.

    Raises:
        SFTPError: `NotFound`, `IsADirectory`, `PermissionDenied` or `PathNotAllowed`, also for what is no file; `Busy`
            if it is the temporary file of a transfer that is running.
    """
    check_text(path)
    folder, name = posixpath.split(path)
    if name in {"", "."}:
        os.close(local_files.open_directory(path))
        raise IsADirectory(IS_A_LOCAL_DIRECTORY, path=path)
    if name == "..":
        raise PathNotAllowed("a local path holds no '..': write it from the local root", path=path)
    try:
        directory = local_files.open_directory(folder or ".")
    except SFTPError as error:
        error.path = path
        raise
    try:
        _check_deletable(directory, name, path)
        os.unlink(name, dir_fd=directory)
    except OSError as error:
        raise from_os_error(error, path) from error
    finally:
        os.close(directory)


def _check_deletable(directory: int, name: str, path: str) -> None:
    kind = stat.S_IFMT(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectory(IS_A_LOCAL_DIRECTORY, path=path)
    if kind not in {stat.S_IFREG, stat.S_IFLNK}:
        raise PathNotAllowed("this is neither a file nor a directory, and is left alone", path=path)
    if kind == stat.S_IFREG and name.startswith(TEMPORARY_PREFIX) and _is_locked(directory, name):
        raise Busy("this is the temporary file of a transfer that is running", path=path)


def _is_locked(directory: int, name: str) -> bool:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
