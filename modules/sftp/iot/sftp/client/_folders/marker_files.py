"""The files that follow an arrival at its destination: removed, written and compared, on either side."""

from __future__ import annotations

import os
import posixpath
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Protocol

from iot.sftp.client._base.errors import (
    IsADirectory,
    NotADirectory,
    NotFound,
    PermissionDenied,
    SFTPError,
    Unsupported,
)
from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._ssh.packets import OpenFlag
from iot.sftp.client._transfer.memory_file import memory_file
from iot.sftp.client._transfer.replace import replace_local
from iot.sftp.client._transfer.temporary_files import claim, temporary_name
from iot.sftp.client._transfer.transfer_context import do_nothing
from iot.sftp.client._transfer.upload import upload_file
from iot.sftp.client._transfer.upload_job import OWNER_MAY_WRITE, no_spare
from iot.sftp.client._transfer.verify import hash_of_local, way_to_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._files.local_files import LocalName
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._folders.folder_order import FolderOrder
    from iot.sftp.client._folders.local_destination import LocalDestination
    from iot.sftp.client._transfer.transfer_context import TransferContext


class MarkerFiles(Protocol):
    """One side as a destination. Paths are relative to it."""

    def remove(self, remote: RemoteFiles, paths: list[str], *, unless: str | None) -> None:
        """Remove what is at these paths, one after the other, before another file gets their file's name.

        Parameters:
            remote: the server's files.
            paths: of a file's markers.
            unless: nothing is removed while something is at this path: it would not be replaced.

        Raises:
            SFTPError: one of them is there, and stays.
        """

    def write(self, remote: RemoteFiles, path: str, content: bytes) -> None:
        """Write a small file, atomically replacing what is there."""

    def has_hash(self, remote: RemoteFiles, path: str, sha256: str) -> bool | None:
        """Return whether a file has a hash; `None` if nothing is there."""


class RemoteMarkerFiles:
    """The server as a destination: see `MarkerFiles`."""

    def __init__(self, dest: str, context: TransferContext) -> None:
        """Take the folder, as the server names it, and how files in it are written."""
        self._dest = dest
        self._context = context

    def remove(self, remote: RemoteFiles, paths: list[str], *, unless: str | None) -> None:
        """Remove what is at these paths."""
        if unless is not None and remote.attributes_of([self._end_of(unless)], follow_links=False) != [None]:
            return
        for path in map(self._end_of, paths):
            try:
                remote.remove(path)
            except (NotFound, NotADirectory):
                continue
            except (IsADirectory, PermissionDenied, Unsupported) as refusal:
                if remote.attributes_of([path], follow_links=False) != [None]:
                    raise type(refusal)(_stays(refusal), path=path) from refusal

    def write(self, remote: RemoteFiles, path: str, content: bytes) -> None:
        """Write a small file."""
        with memory_file(content, path) as descriptor:
            upload_file(
                remote, descriptor, None, self._end_of(path), context=self._context, spare=no_spare, is_settled=True
            )

    def has_hash(self, remote: RemoteFiles, path: str, sha256: str) -> bool | None:
        """Return whether a file has a hash."""
        end = self._end_of(path)
        try:
            with remote.opened(end, OpenFlag.READ, wait_for_close=False) as handle:
                return bool(way_to_hash(remote, handle, end, bytes.fromhex(sha256)))
        except (NotFound, NotADirectory):
            return None

    def _end_of(self, path: str) -> str:
        return posixpath.join(self._dest, path)


class LocalMarkerFiles:
    """A local directory as a destination: see `MarkerFiles`."""

    def __init__(self, dest: LocalDestination, context: TransferContext) -> None:
        """Take the directory, and how files in it are written."""
        self._dest = dest
        self._context = context

    def remove(self, remote: RemoteFiles, paths: list[str], *, unless: str | None) -> None:
        """Remove what is at these paths."""
        del remote
        if unless is not None and self._dest.stat(unless) is not None:
            return
        for path in paths:
            with suppress(NotFound, NotADirectory), closing(_Opened(self._dest.own_place(path, create=False))) as at:
                try:
                    os.unlink(at.place.name, dir_fd=at.place.directory)
                except OSError as error:
                    reason = from_os_error(error, at.place.path)
                    if isinstance(reason, NotFound):
                        continue
                    raise type(reason)(_stays(reason), path=at.place.path) from error

    def write(self, remote: RemoteFiles, path: str, content: bytes) -> None:
        """Write a small file."""
        del remote
        with closing(_Opened(self._dest.own_place(path, create=True))) as at:
            try:
                _write_local(at.place, content, self._context)
            except OSError as error:
                raise from_os_error(error, at.place.path) from error

    def has_hash(self, remote: RemoteFiles, path: str, sha256: str) -> bool | None:
        """Return whether a file has a hash."""
        try:
            with self._dest.source(path) as descriptor:
                return hash_of_local(descriptor, remote.deadline.check).hex() == sha256
        except (NotFound, NotADirectory):
            return None


class _Opened:
    """A local name whose directory is closed at the end."""

    def __init__(self, place: LocalName) -> None:
        self.place = place

    def close(self) -> None:
        os.close(self.place.directory)


def _write_local(place: LocalName, content: bytes, context: TransferContext) -> None:
    mode = context.modes.local
    temporary = temporary_name()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o666 if mode is None else 0o600, dir_fd=place.directory)
    try:
        claim(descriptor)
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]
        replace_local(place, temporary, descriptor, None if mode is None else mode | OWNER_MAY_WRITE, context)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=place.directory)
        raise
    finally:
        os.close(descriptor)


def _stays(reason: SFTPError) -> str:
    return (
        "what is there of an earlier file, its marker or checksum, cannot be removed, and would be taken for that of "
        f"the new one: nothing was replaced ({reason.message})"
    )


def clearing_markers(order: FolderOrder, files: MarkerFiles, remote: RemoteFiles, dest: str) -> Callable[[], object]:
    """Return what removes the markers of an earlier file at a destination, just before the new file is there.

    The marker goes first, and its checksum behind it, so that neither is ever beside a file that it is not for. Where
    what is at the destination is not replaced, its markers stay with it.
    """
    if not order.markers.is_written:
        return do_nothing
    unless = dest if order.keeps_existing else None
    return lambda: files.remove(remote, order.markers.at(dest), unless=unless)
