"""What each operation does on a server: the steps, and what they make sure of. Paths are the server's."""

from __future__ import annotations

import posixpath
import stat
from typing import TYPE_CHECKING

from iot.sftp.client._errors import IsADirectory, NotADirectory, NotFound, PermissionDenied
from iot.sftp.client._replace import replace_remote, replacing

if TYPE_CHECKING:
    from iot.sftp.client._remote_files import RemoteFiles
    from iot.sftp.client._terms import Terms


def delete_file(remote: RemoteFiles, path: str, *, again: bool) -> None:
    """Remove a file or a link.

    Parameters:
        again: the answer to an earlier try was lost, so that what is gone now was deleted by that one.
    """
    try:
        _refuse_directory(remote, path)
        remote.remove(path)
    except NotFound:
        if not again:
            raise


def move_file(remote: RemoteFiles, source: str, dest: str, terms: Terms, *, again: bool) -> bool:
    """Rename a file, replacing `dest` and creating its parents; tell whether that was one atomic step.

    Parameters:
        remote: the server's files.
        source: the file.
        dest: its new path, or a directory.
        terms: what keeps two writers of one destination apart.
        again: the answer to an earlier try was lost, so that what is at `dest` now may have been moved by that one.
    """
    target = into_directory(remote, dest, source)
    try:
        _refuse_directory(remote, source)
    except NotFound:
        if again and remote.kind_of(target) is not None:
            return True
        raise
    if posixpath.normpath(source) == posixpath.normpath(target):
        return True
    with replacing(remote, target, terms) as put_aside:
        try:
            return replace_remote(remote, source, target, put_aside)
        except (NotFound, NotADirectory):
            remote.make_directories(posixpath.dirname(target) or ".")
            return replace_remote(remote, source, target, put_aside)


def into_directory(remote: RemoteFiles, dest: str, source: str) -> str:
    """Return where a file goes: into `dest` under its own name where that is a directory or ends with `/`."""
    if not dest.endswith("/"):
        try:
            if remote.kind_of(dest) != stat.S_IFDIR:
                return dest
        except PermissionDenied:
            return dest  # a folder may be written without being looked at
    return posixpath.join(dest, posixpath.basename(source))


def _refuse_directory(remote: RemoteFiles, path: str) -> None:
    """Raise where a directory is at `path`, or nothing; a link counts as itself."""
    if stat.S_ISDIR(remote.lstat(path).mode or 0):
        message = "this is a directory on the server: only files are moved and deleted"
        raise IsADirectory(message, path=path)
