"""What each operation does on a server: the steps, and what they make sure of. Paths are the server's."""

from __future__ import annotations

import os
import posixpath
import stat
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from iot.sftp.client._errors import (
    IsADirectory,
    NotADirectory,
    NotFound,
    PathNotAllowed,
    PermissionDenied,
    SFTPError,
    TransferIncomplete,
)
from iot.sftp.client._packets import Attributes, OpenFlag, decode_path
from iot.sftp.client._remote_paths import listed
from iot.sftp.client._replace import claimed, replace_remote, replaced_local
from iot.sftp.client._transfer import Download, Upload

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from iot.sftp.client._local_files import LocalFiles
    from iot.sftp.client._packets import Entry
    from iot.sftp.client._remote_files import RemoteFiles

Server = tuple[str, int, str]

PERMISSION_BITS = 0o777
LINKS_IN_FLIGHT = 64


def list_files(remote: RemoteFiles, directory: str, path: str, file_pattern: str | None) -> list[str]:
    """Return the sorted paths, as the caller sees them below `path`, of the files directly in a directory.

    A link to a file is a file. `[]` if nothing is there.
    """
    try:
        entries = list(remote.entries(directory))
    except (NotFound, NotADirectory, PermissionDenied):
        # Servers do not say that a path is no directory: it is "no such file" or just a failure.
        kind = remote.kind_of(directory)
        if kind is None:
            return []
        if kind in {0, stat.S_IFDIR}:
            raise
        message = "this is a file on the server, not a directory"
        raise NotADirectory(message, path=path) from None
    shown = ((entry, listed(path, decode_path(entry.name))) for entry in entries)
    wanted = ((entry, name) for entry, name in shown if file_pattern is None or file_pattern in name)
    return sorted(name for name in _files(remote, directory, wanted))


def _files(remote: RemoteFiles, directory: str, entries: Iterable[tuple[Entry, str]]) -> Iterator[str]:
    """Give the names of what is a file. The server is asked about links, many at once."""
    unknown: deque[tuple[str, str]] = deque()
    for entry, name in entries:
        kind = stat.S_IFMT(entry.attributes.mode or 0)
        if kind == stat.S_IFREG:
            yield name
        elif kind in {0, stat.S_IFLNK}:
            unknown.append((posixpath.join(directory, decode_path(entry.name)), name))
    while unknown:
        batch = [unknown.popleft() for _ in range(min(LINKS_IN_FLIGHT, len(unknown)))]
        answers = remote.attributes_of([path for path, _ in batch])
        # A server that never tells types shows everything as a file, rather than nothing.
        yield from (name for (_, name), told in zip(batch, answers, strict=True) if told is not None and _is_file(told))


def _is_file(attributes: Attributes) -> bool:
    return stat.S_IFMT(attributes.mode or 0) in {0, stat.S_IFREG}


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


def move_file(remote: RemoteFiles, source: str, dest: str, server: Server, *, again: bool) -> bool:
    """Rename a file, replacing `dest` and creating its parents; tell whether that was one atomic step.

    Parameters:
        server: whose file this is, to keep two writers of one destination apart.
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
    with claimed((server, posixpath.normpath(target)), target):
        try:
            return replace_remote(remote, source, target)
        except (NotFound, NotADirectory):
            remote.make_directories(posixpath.dirname(target) or ".")
            return replace_remote(remote, source, target)


def download_file(remote: RemoteFiles, source: str, local_files: LocalFiles, dest: str) -> int:
    """Write a remote file's bytes, permissions and modification time to a local one; return its size."""
    attributes = remote.stat(source)
    _refuse_irregular(attributes, source)
    permissions = None if attributes.mode is None else attributes.mode & PERMISSION_BITS
    with (
        local_files.destination(dest, posixpath.basename(source)) as place,
        replaced_local(place, permissions) as descriptor,
    ):
        with remote.opened(source, OpenFlag.READ) as handle:
            size = Download(remote, handle, source, descriptor).run(remote.fstat(handle, source).size)
            after = remote.fstat(handle, source)
        _compare(size, after.size, source)
        if after.access_time is not None and after.modification_time is not None:
            os.utime(descriptor, (after.access_time, after.modification_time))
    return size


def upload_file(remote: RemoteFiles, descriptor: int, dest: str, name: str, server: Server) -> tuple[int, bool]:
    """Write a local file's bytes, permissions and modification time to a remote one.

    Parameters:
        remote: the server's files.
        descriptor: of the local file.
        dest: the remote file.
        name: of the temporary file beside it.
        server: whose file this is, to keep two writers of one destination apart.

    Returns its size, and whether the destination was replaced in one atomic step.
    """
    directory = posixpath.dirname(dest)
    temporary = posixpath.join(directory, name)
    with claimed((server, posixpath.normpath(dest)), dest):
        try:
            try:
                size = _fill(remote, temporary, descriptor)
            except (NotFound, NotADirectory):
                remote.make_directories(directory or ".")
                size = _fill(remote, temporary, descriptor)
            return size, replace_remote(remote, temporary, dest)
        except BaseException:
            with suppress(SFTPError):  # the reason why we are here is what counts
                remote.remove(temporary)
            raise


def into_directory(remote: RemoteFiles, dest: str, source: str) -> str:
    """Return where a file goes: into `dest` under its own name where that is a directory or ends with `/`."""
    if not dest.endswith("/"):
        try:
            if remote.kind_of(dest) != stat.S_IFDIR:
                return dest
        except PermissionDenied:
            return dest  # a folder may be written without being looked at
    return posixpath.join(dest, posixpath.basename(source))


def _fill(remote: RemoteFiles, path: str, descriptor: int) -> int:
    source = os.fstat(descriptor)
    attributes = Attributes(
        mode=source.st_mode & PERMISSION_BITS,
        access_time=int(source.st_atime) & 0xFFFFFFFF,
        modification_time=int(source.st_mtime) & 0xFFFFFFFF,
    )
    flags = OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.TRUNCATE
    with remote.opened(path, flags, Attributes(mode=attributes.mode)) as handle:
        size = Upload(remote, handle, path, descriptor).run()
        # A server may keep its own permissions and times: that is no failure.
        remote.set_attributes(handle, attributes, path)
        remote.sync(handle, path)
        written = remote.fstat(handle, path).size
    _compare(size, os.fstat(descriptor).st_size, path)
    _compare(size, written, path)
    return size


def _compare(moved: int, size: int | None, path: str) -> None:
    if size is not None and size != moved:
        message = f"{moved} bytes were moved, but the file has {size}: it changed meanwhile, or the server cut it short"
        raise TransferIncomplete(message, path=path)


def _refuse_directory(remote: RemoteFiles, path: str) -> None:
    """Raise where a directory is at `path`, or nothing; a link counts as itself."""
    if stat.S_ISDIR(remote.lstat(path).mode or 0):
        message = "this is a directory on the server: only files are moved and deleted"
        raise IsADirectory(message, path=path)


def _refuse_irregular(attributes: Attributes, path: str) -> None:
    """Raise where what is to be read is known not to be a regular file: opening a pipe would hang the server."""
    kind = stat.S_IFMT(attributes.mode or 0)
    if kind == stat.S_IFDIR:
        message = "this is a directory on the server: name a file in it"
        raise IsADirectory(message, path=path)
    if kind not in {0, stat.S_IFREG}:
        message = "this is neither a file nor a directory on the server, and is left alone"
        raise PathNotAllowed(message, path=path)
