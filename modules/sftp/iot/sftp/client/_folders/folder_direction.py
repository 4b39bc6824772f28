"""What differs between downloads and uploads of a folder: the interface of both directions."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from iot.sftp.client._base.errors import SFTPError
    from iot.sftp.client._base.steps import Steps
    from iot.sftp.client._files.file_version import FileVersion
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._folders.findings import Findings
    from iot.sftp.client._folders.folder_page import FoundFile
    from iot.sftp.client._folders.marker_files import MarkerFiles
    from iot.sftp.client._folders.transferred import Transferred


class FolderDirection(Protocol):
    """One direction of a folder's transfer: where its files are found, where they go, how originals are removed.

    Attributes:
        excluded: the directories that files are moved to, relative to the source: not to be found again.
        marker_files: the markers at the destination.
    """

    excluded: frozenset[str]
    marker_files: MarkerFiles

    def list_source(self, remote: RemoteFiles, directory: str, findings: Findings) -> None:
        """List a directory of the source, given relative to it."""

    def begin(self) -> None:
        """Prepare for an attempt."""

    def end(self) -> None:
        """Release what an attempt holds."""

    def make_directory_of(self, remote: RemoteFiles, found: FoundFile) -> None:
        """Make the directory that a file goes to, if that takes round trips; else the file itself does.

        Nothing is made for a file that cannot be transferred.

        Raises:
            SFTPError: it cannot be, or there is no such directory to be had.
        """

    def version_at_source(self, remote: RemoteFiles, found: FoundFile) -> FileVersion:
        """Return the version of the source's file that is there now."""

    def version_of(self, remote: RemoteFiles, path: str) -> FileVersion | None:
        """Return the version of the file at a path relative to the source, `None` where there is none."""

    def is_about_source(self, error: SFTPError, path: str) -> bool:
        """Return whether an error is about the file at a path relative to the source."""

    def looking_at_dest(self, remote: RemoteFiles, dest: str) -> Steps[FileVersion | None]:
        """Return, in steps, the version of what is at a path relative to the destination, `None` where nothing is."""

    def versions_at_dest(self, remote: RemoteFiles, dests: list[str]) -> list[FileVersion | None]:
        """Return the version of what has each of these names, links included, `None` where nothing does."""

    def list_dest(self, remote: RemoteFiles, directory: str) -> Generator[list[tuple[str, FileVersion | None]]]:
        """Give the names in a directory of the destination, some at a time; `None` for what is no regular file.

        Of the versions, sizes and modification times are enough.
        """

    def may_have_arrived(self, found: FoundFile, dest: str) -> bool:
        """Return whether this version may have got that name by an earlier request, whose answer was lost."""

    def proven_version(self, remote: RemoteFiles, found: FoundFile, dest: str) -> FileVersion | None:
        """Return the version of the source's file whose bytes are at the destination, by a hash; else `None`."""

    def transfer(
        self,
        remote: RemoteFiles,
        found: FoundFile,
        dest: str,
        accept: Callable[[FileVersion], object],
        progress: Callable[[int, int | None], None],
    ) -> Steps[Transferred]:
        """Transfer a file, in steps.

        Parameters:
            remote: the server's files.
            found: the file.
            dest: where it goes, relative to the destination.
            accept: receives the version that is there now, before it is transferred; raises to skip the file.
            progress: receives the bytes that are at the destination, and those that there will be.
        """

    def hash_of_arrived(self, remote: RemoteFiles, found: FoundFile, dest: str) -> str:
        """Return the SHA-256 of a file that is known to be at its destination, from what is local of it."""

    def vanished(self, remote: RemoteFiles, found: FoundFile) -> bool:
        """Return whether the source's file is not there any more."""

    def discard_unfinished(self, remote: RemoteFiles, dest: str) -> None:
        """Remove what an unfinished transfer to a path relative to the destination has left: its source is gone."""

    def remove_source(
        self, remote: RemoteFiles, found: FoundFile, version: FileVersion, on_restored: Callable[[FileVersion], object]
    ) -> None:
        """Delete or move the source's file, if it still is the version that has arrived.

        Parameters:
            remote: the server's files.
            found: the file.
            version: the one that has arrived.
            on_restored: receives the version that it is by now, where it was set aside and had to be restored.

        Raises:
            VersionChanged: it is another version, and was not touched.
        """

    def put_aside(self, remote: RemoteFiles, path: str, version: FileVersion, target: str) -> str:
        """Move a file of the source to a path on its side that nothing has, numbered if need be; return that path.

        Parameters:
            remote: the server's files.
            path: the file's, relative to the source.
            version: which one it has to be.
            target: where it goes; nothing there is replaced.

        Raises:
            VersionChanged: it is another version, and was not touched.
        """


def relative_to_source(source: str, folders: Iterable[str]) -> frozenset[str]:
    """Return the paths of folders relative to a source, of those that are inside it."""
    inside = (relative_to(source, folder) for folder in folders)
    return frozenset(path for path in inside if path is not None)


def relative_to(folder: str, place: str | None) -> str | None:
    """Return the path of a place relative to a folder, if it is inside it: as far as their text shows."""
    if place is None:
        return None
    folder, place = posixpath.normpath(folder), posixpath.normpath(place)
    if folder == ".":
        return None if place.startswith(("/", "..")) else place
    prefix = folder.rstrip("/") + "/"
    return place[len(prefix) :] if place.startswith(prefix) else None
