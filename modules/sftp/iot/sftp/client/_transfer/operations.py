"""Delete and move single files on a server: the steps of each operation. Paths are the server's."""

from __future__ import annotations

import posixpath
import stat
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    IsADirectory,
    NotADirectory,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    Unsupported,
)
from iot.sftp.client._files.file_version import FileVersion
from iot.sftp.client._transfer.replace import replace_remote, replacing

if TYPE_CHECKING:
    from concurrent.futures import Future

    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._ssh.requests import Reply
    from iot.sftp.client._transfer.transfer_context import TransferContext


UNKNOWN = FileVersion(None)


class RequestedVersion:
    """Remembers, over the attempts of one call, which version of a file a request was sent for.

    If the answer to a deletion or a move is lost, whether it was carried out is not known, and another process may
    have put another file there meanwhile. A retry may act only on what the first attempt saw: so it is idempotent.
    """

    def __init__(self) -> None:
        """Nothing was requested."""
        self.version: FileVersion | None = None
        self._is_racy = False

    def note(self, version: FileVersion) -> None:
        """Record, before it is sent, that a request is about this version."""
        if self.version is None:
            self.version, self._is_racy = version, version.is_racy()

    def check(self, now: FileVersion, path: str) -> None:
        """Raise `OutcomeUnknown` unless what is there now is known to be what an earlier request was about.

        A file that was written in the second in which it was looked at may be another one now, of the same size.
        """
        if self.version is not None and (self._is_racy or not now.is_same_as(self.version)):
            raise self.unknown(path)

    @staticmethod
    def unknown(path: str) -> OutcomeUnknown:
        """Return the error that says so."""
        message = (
            "the answer was lost, and whether the server has carried it out is not known: what is there now may be "
            "another file, and was left alone"
        )
        return OutcomeUnknown(message, path=path)


def delete_file(remote: RemoteFiles, path: str, requested: RequestedVersion) -> None:
    """Remove a file or a link.

    Parameters:
        remote: the server's files.
        path: of the file.
        requested: what earlier attempts of the same call have asked for: what is gone now was deleted by one of them.

    Raises:
        OutcomeUnknown: the answer to an earlier attempt was lost, and there may be another file now.
    """
    is_repeated = requested.version is not None
    try:
        version = _version_of_file(remote, path, or_link_to_directory=True)
        requested.check(version, path)
        requested.note(version)
        remote.remove(path)
    except NotFound:
        if not is_repeated:
            raise


def move_file(
    remote: RemoteFiles, source: str, dest: str, context: TransferContext, requested: RequestedVersion
) -> bool:
    """Rename a file, replacing `dest` and creating its parents; return whether that was one atomic step.

    Parameters:
        remote: the server's files.
        source: the file.
        dest: its new path, or a directory.
        context: what keeps two writers of one destination apart.
        requested: what earlier attempts of the same call have asked for.

    Raises:
        OutcomeUnknown: the answer to an earlier attempt was lost, and neither the source nor the destination now is
            known to be what that one was about.
    """
    asked = None if dest.endswith("/") else remote.begin_stat(dest, with_next=True)
    version: FileVersion | None = None
    try:
        version = _version_of_file(remote, source)
    except (PermissionDenied, Unsupported):
        version = UNKNOWN  # it may be renamed without being looked at
    except NotFound:
        if requested.version is None:
            raise
    target = into_directory(remote, dest, source, asked)
    if version is None:
        _check_arrival(remote, target, requested.version or UNKNOWN)
        return True
    requested.check(version, source)
    if posixpath.normpath(source) == posixpath.normpath(target):
        return True
    with replacing(remote, target, context) as note_backup:
        requested.note(version)
        try:
            return replace_remote(remote, source, target, note_backup)
        except (NotFound, NotADirectory):
            remote.make_directories(posixpath.dirname(target) or ".")
            return replace_remote(remote, source, target, note_backup)


def _check_arrival(remote: RemoteFiles, target: str, version: FileVersion) -> None:
    """Raise unless what is at a destination is what was moved there: a rename keeps size and time."""
    try:
        there = FileVersion.of_remote(remote.lstat(target))
    except (NotFound, NotADirectory):
        raise RequestedVersion.unknown(target) from None
    if not there.resembles(version):
        raise RequestedVersion.unknown(target)


def into_directory(remote: RemoteFiles, dest: str, source: str, asked: Future[Reply] | None) -> str:
    """Return where a file goes: into `dest` under its own name where that is a directory or ends with `/`.

    Parameters:
        remote: the server's files.
        dest: the path that was given.
        source: the file.
        asked: STAT of `dest`, unless that ends with `/`.
    """
    if asked is not None and not remote.is_directory(asked, dest):
        return dest
    return posixpath.join(dest, posixpath.basename(source))


def _version_of_file(remote: RemoteFiles, path: str, *, or_link_to_directory: bool = False) -> FileVersion:
    """Return the version of the file or the link at `path`; raise where a directory is there, or nothing.

    ProFTPD follows a link to a directory in LSTAT, and in RENAME, but not in REMOVE.
    """
    attributes = remote.lstat(path)
    kind = stat.S_IFMT(attributes.mode or 0)
    is_directory = kind == stat.S_IFDIR if kind else remote.is_listable(path)
    if is_directory and not (
        or_link_to_directory and remote.own_look(remote.begin_own_look(path), path)[1] is not None
    ):
        message = "this is a directory on the server: only files are moved and deleted"
        raise IsADirectory(message, path=path)
    return FileVersion.of_remote(attributes)
