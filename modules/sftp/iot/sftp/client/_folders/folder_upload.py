"""Upload a folder: a local directory is the source, the server the destination."""

from __future__ import annotations

import os
import posixpath
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import NotADirectory, NotFound
from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._files.file_version import FileVersion
from iot.sftp.client._files.put_aside import put_aside
from iot.sftp.client._folders.folder_direction import relative_to_source
from iot.sftp.client._folders.folder_walk import below, list_locally
from iot.sftp.client._folders.marker_files import RemoteMarkerFiles, clearing_markers
from iot.sftp.client._folders.remote_directories import RemoteDirectories
from iot.sftp.client._folders.settling import settled_version, settling_version
from iot.sftp.client._folders.transferred import Transferred
from iot.sftp.client._ssh.packets import OpenFlag, decode_path
from iot.sftp.client._transfer.abandoned_transfers import discard_upload
from iot.sftp.client._transfer.transfer_context import Backup
from iot.sftp.client._transfer.upload import forget_rename, may_have_arrived, uploading
from iot.sftp.client._transfer.upload_job import no_spare
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
    from iot.sftp.client._transfer.transfer_context import TransferContext


class FolderUpload:
    """From a local directory to the server: see `FolderDirection`."""

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
        self._paths = paths
        self._dest = paths.on_server(order.dest)
        self._context = context
        self._local_files = local_files
        self._directories = RemoteDirectories(self._dest, self._order.modes.directory)
        self.excluded = relative_to_source(order.source, order.emptied_into)
        self.marker_files: MarkerFiles = RemoteMarkerFiles(self._dest, context)

    def begin(self) -> None:
        """Prepare for an attempt: the server may be another one behind the same name."""
        self._directories = RemoteDirectories(self._dest, self._order.modes.directory)

    def end(self) -> None:
        """Release nothing: no file is held open."""

    def make_directory_of(self, remote: RemoteFiles, found: FoundFile) -> None:
        """Make the directory that a file goes to, if it is missing and the file can be read."""
        with self._local_files.source(self._path_of(found)):
            self._directories.make_parent(remote, found.path)

    def list_source(self, remote: RemoteFiles, directory: str, findings: Findings) -> None:
        """List a local directory."""
        list_locally(self._local_files, self._order.source, directory, findings, remote.deadline.check)

    def version_at_source(self, remote: RemoteFiles, found: FoundFile) -> FileVersion:
        """Return the version of the local file that is there now."""
        del remote
        with self._local_files.source(self._path_of(found)) as descriptor:
            return FileVersion.of_local(os.fstat(descriptor))

    def version_of(self, remote: RemoteFiles, path: str) -> FileVersion | None:
        """Return the version of a local file."""
        del remote
        try:
            place = self._local_files.open_parent(posixpath.join(self._order.source, path), create=False)
        except (NotFound, NotADirectory):
            return None
        try:
            status = os.stat(place.name, dir_fd=place.directory, follow_symlinks=False) if place.name else None
        except OSError as error:
            reason = from_os_error(error, place.path)
            if isinstance(reason, NotFound):
                return None
            raise reason from error
        finally:
            os.close(place.directory)
        return FileVersion.of_local(status) if status is not None and stat.S_ISREG(status.st_mode) else None

    def is_about_source(self, error: SFTPError, path: str) -> bool:
        """Return whether an error is about a local file."""
        return error.path == posixpath.join(self._order.source, path)

    def looking_at_dest(self, remote: RemoteFiles, dest: str) -> Steps[FileVersion | None]:
        """Return, in steps, the version of the server's file that would be replaced."""
        try:
            return FileVersion.of_remote((yield from remote.looking_at(self._end_of(dest))))
        except (NotFound, NotADirectory):
            return None

    def versions_at_dest(self, remote: RemoteFiles, dests: list[str]) -> list[FileVersion | None]:
        """Return the version of what has each of these names, links included."""
        found = remote.attributes_of([self._end_of(dest) for dest in dests], follow_links=False)
        return [None if each is None else FileVersion.of_remote(each) for each in found]

    def list_dest(self, remote: RemoteFiles, directory: str) -> Generator[list[tuple[str, FileVersion | None]]]:
        """Give the names in a directory on the server."""
        for entries in remote.entries_if_shown(below(self._dest, directory)):
            yield [
                (decode_path(name), FileVersion.of_remote(each) if stat.S_ISREG(each.mode or 0) else None)
                for name, each in entries
            ]

    def may_have_arrived(self, found: FoundFile, dest: str) -> bool:
        """Return whether the answer to an earlier rename of this version to that name was lost."""
        with self._local_files.source(self._path_of(found)) as descriptor:
            return may_have_arrived(descriptor, self._end_of(dest), self._context)

    def proven_version(self, remote: RemoteFiles, found: FoundFile, dest: str) -> FileVersion | None:
        """Return the version of the local file whose bytes the server's has, by a hash; `None` if it has others."""
        end = self._end_of(dest)
        with self._local_files.source(self._path_of(found)) as descriptor:
            before = settled_version(descriptor, remote.deadline)
            if before is None:
                return None
            with remote.opened(end, OpenFlag.READ, wait_for_close=False) as handle:
                compare_hashes(remote, handle, end, descriptor)
            if before != FileVersion.of_local(os.fstat(descriptor)):
                return None
        forget_rename(remote, end, self._context)
        return before

    def transfer(
        self,
        remote: RemoteFiles,
        found: FoundFile,
        dest: str,
        accept: Callable[[FileVersion], object],
        progress: Callable[[int, int | None], None],
    ) -> Steps[Transferred]:
        """Upload a file, in steps."""
        backup = self._order.backup_of(found.path, dest)
        with self._local_files.source(self._path_of(found)) as descriptor:
            self._directories.make_parent(remote, dest)  # takes round trips, in which the file may be written
            settled = (yield from settling_version(descriptor, remote.deadline)) if self._is_remembered else None
            version = settled or FileVersion.of_local(os.fstat(descriptor))
            accept(version)
            context = replace(
                self._context,
                on_progress=progress,
                keeps_existing=self._order.keeps_existing,
                backup=None if backup is None else Backup(self._paths.on_server(backup)),
                computes_hash=self._order.markers.is_written,
                before_replacing=clearing_markers(self._order, self.marker_files, remote, dest),
            )
            end = self._end_of(dest)
            outcome = yield from uploading(remote, descriptor, None, end, context=context, spare=no_spare)
            return Transferred(outcome.size, version, sha256=outcome.sha256)

    def hash_of_arrived(self, remote: RemoteFiles, found: FoundFile, dest: str) -> str:
        """Return the SHA-256 of the local file."""
        del dest
        with self._local_files.source(self._path_of(found)) as descriptor:
            return hash_of_local(descriptor, remote.deadline.check).hex()

    def vanished(self, remote: RemoteFiles, found: FoundFile) -> bool:
        """Return whether the local file is not there any more."""
        del remote
        try:
            with self._local_files.source(self._path_of(found)):
                return False
        except NotFound:
            return True

    def discard_unfinished(self, remote: RemoteFiles, dest: str) -> None:
        """Remove the temporary file of an upload whose source is gone."""
        discard_upload(remote, self._end_of(dest), self._context)

    def remove_source(
        self, remote: RemoteFiles, found: FoundFile, version: FileVersion, on_restored: Callable[[FileVersion], object]
    ) -> None:
        """Delete or move the local file, if it still is the version that has arrived."""
        path = self._path_of(found)
        if self._order.move_to is None:
            self._local_files.remove_version(path, version, on_restored)
        else:
            target = posixpath.join(self._order.move_to, found.path)
            self._local_files.move_version(path, target, version, on_restored, remote.deadline.check)

    def put_aside(self, remote: RemoteFiles, path: str, version: FileVersion, target: str) -> str:
        """Move a local file to a path that nothing has."""
        source = posixpath.join(self._order.source, path)
        return put_aside(self._local_files, source, target, version, remote.deadline.check)

    def _path_of(self, found: FoundFile) -> str:
        return posixpath.join(self._order.source, found.path)

    def _end_of(self, dest: str) -> str:
        return posixpath.join(self._dest, dest)
