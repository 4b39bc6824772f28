"""Download a folder: the server is the source, a local directory the destination."""

from __future__ import annotations

import logging
import os
import posixpath
import stat
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    IsADirectory,
    NotADirectory,
    NotFound,
    PermissionDenied,
    TransferIncomplete,
    Unsupported,
)
from iot.sftp.client._base.steps import LATER, finish
from iot.sftp.client._files.file_version import FileVersion, Observed
from iot.sftp.client._files.set_aside import VersionChanged, own_place
from iot.sftp.client._folders.folder_direction import relative_to_source
from iot.sftp.client._folders.folder_walk import list_on_server
from iot.sftp.client._folders.local_destination import LocalDestination
from iot.sftp.client._folders.marker_files import LocalMarkerFiles, clearing_markers
from iot.sftp.client._folders.remote_directories import RemoteDirectories
from iot.sftp.client._folders.settling import settles_in
from iot.sftp.client._folders.transferred import Transferred
from iot.sftp.client._ssh.packets import OpenFlag
from iot.sftp.client._transfer.abandoned_transfers import discard_download
from iot.sftp.client._transfer.download import downloading
from iot.sftp.client._transfer.put_aside import put_aside
from iot.sftp.client._transfer.remote_copy import move_by_copy
from iot.sftp.client._transfer.replace import replace_remote, replacing
from iot.sftp.client._transfer.transfer_context import Backup
from iot.sftp.client._transfer.verify import compare_hashes, hash_of_local

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from iot.sftp.client._base.errors import SFTPError
    from iot.sftp.client._base.steps import Steps
    from iot.sftp.client._files.local_files import LocalFiles
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._files.remote_paths import RemotePaths
    from iot.sftp.client._folders.findings import Findings
    from iot.sftp.client._folders.folder_order import FolderOrder
    from iot.sftp.client._folders.folder_page import FoundFile
    from iot.sftp.client._folders.marker_files import MarkerFiles
    from iot.sftp.client._ssh.packets import Attributes
    from iot.sftp.client._transfer.transfer_context import TransferContext

logger = logging.getLogger(__name__)

ATTEMPTS = 5  # to read a file on the server that is being written, before it is left for the next call


class _UnsettledError(Exception):
    """The file is read again in a moment: it is no failure."""


class FolderDownload:
    """From the server into a local directory: see `FolderDirection`."""

    def __init__(
        self,
        order: FolderOrder,
        local_files: LocalFiles,
        paths: RemotePaths,
        context: TransferContext,
        *,
        is_remembered: bool,
    ) -> None:
        """Take what is to be done, and how both sides are reached.

        Parameters:
            order: which files, and how.
            local_files: how local files are reached.
            paths: how remote ones are.
            context: how each file is transferred.
            is_remembered: whether a ledger remembers which versions have arrived.
        """
        self._order = order
        self._is_remembered = is_remembered
        self._source = paths.on_server(order.source)
        self._move_to = None if order.move_to is None else paths.on_server(order.move_to)
        self._context = context
        self._local_files = local_files
        self._dest = LocalDestination(local_files, order.dest, order.modes.directory)
        self._moved = RemoteDirectories(self._move_to or "", order.modes.directory)
        self._apart = set[tuple[str, str]]()  # directories that are not one and the same
        self.excluded = relative_to_source(self._source, map(paths.on_server, order.emptied_into))
        self._paths = paths
        self.marker_files: MarkerFiles = LocalMarkerFiles(self._dest, context)

    def begin(self) -> None:
        """Prepare nothing."""

    def end(self) -> None:
        """Close the local directories."""
        self._dest.close()

    def make_directory_of(self, remote: RemoteFiles, found: FoundFile) -> None:
        """Make nothing: it is a local one."""

    def list_source(self, remote: RemoteFiles, directory: str, findings: Findings) -> None:
        """List a directory on the server."""
        list_on_server(remote, self._source, directory, findings, recursive=self._order.selection.recursive)

    def version_at_source(self, remote: RemoteFiles, found: FoundFile) -> FileVersion:
        """Return the version of the server's file that is there now."""
        return FileVersion.of_remote(remote.stat(self._path_of(found)))

    def version_of(self, remote: RemoteFiles, path: str) -> FileVersion | None:
        """Return the version of a file on the server."""
        (there,) = remote.attributes_of([posixpath.join(self._source, path)])
        if there is None or stat.S_IFMT(there.mode or stat.S_IFREG) != stat.S_IFREG:
            return None
        return FileVersion.of_remote(there)

    def is_about_source(self, error: SFTPError, path: str) -> bool:
        """Return whether an error is about a file on the server."""
        return error.path == posixpath.join(self._source, path)

    def looking_at_dest(self, remote: RemoteFiles, dest: str) -> Steps[FileVersion | None]:
        """Return the version of the local file that would be replaced."""
        yield from ()
        return self.versions_at_dest(remote, [dest])[0]

    def versions_at_dest(self, remote: RemoteFiles, dests: list[str]) -> list[FileVersion | None]:
        """Return the version of what has each of these names, links included."""
        del remote
        found = [self._dest.stat(dest) for dest in dests]
        return [None if status is None else FileVersion.of_local(status) for status in found]

    def list_dest(self, remote: RemoteFiles, directory: str) -> Generator[list[tuple[str, FileVersion | None]]]:
        """Give the names in a local directory."""
        for statuses in self._dest.statuses(directory, remote.deadline.check):
            yield [
                (name, FileVersion(each.st_size, each.st_mtime_ns) if stat.S_ISREG(each.st_mode) else None)
                for name, each in statuses
            ]

    def may_have_arrived(self, found: FoundFile, dest: str) -> bool:
        """Return `False`: no answer of this machine's is lost."""
        del found, dest
        return False

    def proven_version(self, remote: RemoteFiles, found: FoundFile, dest: str) -> FileVersion | None:
        """Return the version of the server's file whose bytes the local one has, by a hash; `None` if it has others."""
        source = self._path_of(found)
        before = FileVersion.of_remote(remote.stat(source))
        if not before.tells_time:
            return None
        finish(self._settling(remote, Observed(before, found.seen if before == found.version else time.monotonic())))
        with (
            self._dest.source(dest) as descriptor,
            remote.opened(source, OpenFlag.READ, wait_for_close=False) as handle,
        ):
            compare_hashes(remote, handle, source, descriptor)
        return before if before.is_same_as(FileVersion.of_remote(remote.stat(source))) else None

    def transfer(
        self,
        remote: RemoteFiles,
        found: FoundFile,
        dest: str,
        accept: Callable[[FileVersion], object],
        progress: Callable[[int, int | None], None],
    ) -> Steps[Transferred]:
        """Download a file, in steps."""
        backup = self._order.backup_of(found.path, dest)
        observed, source = Observed(found.version, found.seen), self._path_of(found)
        context = replace(
            self._context,
            on_progress=progress,
            keeps_existing=self._order.keeps_existing,
            backup=None if backup is None else Backup(backup, self._local_files),
            computes_hash=self._order.markers.is_written,
            before_replacing=clearing_markers(self._order, self.marker_files, remote, dest),
        )

        def look(attributes: Attributes) -> None:
            nonlocal observed
            version = FileVersion.of_remote(attributes)
            accept(version)
            if version != observed.version:
                observed = Observed(version, time.monotonic())
            if self._is_remembered and settles_in(observed):
                raise _UnsettledError

        for _ in range(ATTEMPTS):
            yield from self._settling(remote, observed)
            with suppress(_UnsettledError):
                outcome = yield from downloading(
                    remote, source, self._dest, dest, context, observed=observed, accept=look
                )
                return Transferred(outcome.size, observed.version, sha256=outcome.sha256)
        message = "the file is being written all the time: it is left for the next call"
        raise TransferIncomplete(message, path=source)

    def _settling(self, remote: RemoteFiles, observed: Observed) -> Steps[None]:
        """Wait, in steps, until the version's time would show a further write, if that version is to be remembered.

        Else one that is written in the same second, and as long, would be taken for it, and be lost.
        """
        if self._is_remembered and settles_in(observed):
            yield LATER
            remote.deadline.pause(settles_in(observed))
            remote.deadline.check()

    def hash_of_arrived(self, remote: RemoteFiles, found: FoundFile, dest: str) -> str:
        """Return the SHA-256 of the local file."""
        del found
        with self._dest.source(dest) as descriptor:
            return hash_of_local(descriptor, remote.deadline.check).hex()

    def vanished(self, remote: RemoteFiles, found: FoundFile) -> bool:
        """Return whether the server's file is not there any more."""
        try:
            remote.stat(self._path_of(found))
        except (NotFound, NotADirectory):
            return True
        return False

    def discard_unfinished(self, remote: RemoteFiles, dest: str) -> None:
        """Remove the temporary file of a download whose source is gone."""
        del remote
        place = self._dest.open_parent(dest, create=False)
        try:
            discard_download(place, self._context)
        finally:
            os.close(place.directory)

    def remove_source(
        self, remote: RemoteFiles, found: FoundFile, version: FileVersion, on_restored: Callable[[FileVersion], object]
    ) -> None:
        """Delete or move the server's file, if it still is the version that has arrived."""
        del on_restored  # what is on the server stays in its place
        source = self._path_of(found)
        if not FileVersion.of_remote(remote.stat(source)).is_same_as(version):
            raise VersionChanged(source)
        if self._move_to is None:
            remote.remove(source)
            return
        self._moved.make_parent(remote, found.path)
        target = posixpath.join(self._move_to, found.path)
        self._refuse_own_place(remote, source, target)
        try:
            with replacing(remote, target, self._context) as note_backup:
                replace_remote(remote, source, target, note_backup)
        except (PermissionDenied, Unsupported) as error:
            if remote.kind_of(target) == stat.S_IFDIR:
                message = "there is a directory on the server in the place that the file is to be moved to"
                raise IsADirectory(message, path=target) from error
            logger.debug("%r is not renamed to %r: %s", source, target, error)
            move_by_copy(remote, source, target, self._context)

    def put_aside(self, remote: RemoteFiles, path: str, version: FileVersion, target: str) -> str:
        """Move a file on the server to a path that nothing has."""
        source, goal = posixpath.join(self._source, path), self._paths.on_server(target)
        remote.make_directories(posixpath.dirname(goal) or ".", self._order.modes.directory)
        self._refuse_own_place(remote, source, goal)
        place = put_aside(remote, source, goal, version, self._context)
        return posixpath.join(posixpath.dirname(target), posixpath.basename(place))

    def _refuse_own_place(self, remote: RemoteFiles, source: str, target: str) -> None:
        """Raise where a link leads from the folder to move into to the source: a copy's original would be the copy."""
        places = posixpath.dirname(source), posixpath.dirname(target)
        if places in self._apart:
            return
        with suppress(PermissionDenied, Unsupported, NotFound):
            real = remote.real_path(places[0] or ".")
            # A server that has one answer to every REALPATH proves nothing by it
            if real == remote.real_path(places[1] or ".") and real != remote.real_path(source):
                raise own_place(target)
        self._apart.add(places)

    def _path_of(self, found: FoundFile) -> str:
        return posixpath.join(self._source, found.path)
