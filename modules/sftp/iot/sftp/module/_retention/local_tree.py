"""A local folder and the folders in it: find its files, and remove one that is still what was found.

Everything goes through descriptors of directories, and no link is followed: neither a link that was found, nor one that
was put in the place of a directory meanwhile. What is mounted below the folder belongs to another disk, and is left
alone.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from iot.sftp.client import from_os_error
from iot.sftp.client._base.text import quoted
from iot.sftp.client._files.set_aside import SentFile, VersionChanged, setting_aside
from iot.sftp.module._retention.tree_walk import ENTER, TreeWalk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from iot.sftp.client import LocalFiles
    from iot.sftp.module._retention.found_file import FoundFile

# O_NONBLOCK: opening a named pipe would wait for a writer
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LocalTree:
    """A folder, held open.

    Attributes:
        problem: why the last walk could not look into a folder.
    """

    def __init__(self, directory: int, path: str, forbidden: tuple[int, int] | None) -> None:
        """Take a folder.

        Parameters:
            directory: a descriptor, which the caller closes.
            path: of the folder, for messages.
            forbidden: device and inode of a directory that is left out, as the module's own state.
        """
        self.directory = directory
        self._path = path
        self._forbidden = forbidden
        self._device = os.fstat(directory).st_dev
        self.problem: str | None = None

    def space(self) -> os.statvfs_result:
        """Return what is free on the folder's file system."""
        return os.statvfs(self.directory)

    def files(self, proceed: Callable[[], object], goes_into: Callable[[str], bool]) -> Iterator[FoundFile]:
        """Give all regular files, in no order: see `TreeWalk`.

        Parameters:
            proceed: called for each name; ends the walk by raising.
            goes_into: returns whether a folder in it, by its relative path, is walked.
        """
        walk = TreeWalk(self._is_ours, proceed, goes_into)
        yield from walk.below(self.directory)
        self.problem = None if walk.problem is None else f"{quoted(self._path)}: {walk.problem}"

    def _is_ours(self, directory: int) -> bool:
        """Return whether a directory is on the folder's own disk, and not the module's state directory."""
        status = os.fstat(directory)
        return status.st_dev == self._device and (status.st_dev, status.st_ino) != self._forbidden

    def remove(self, file: FoundFile) -> None:
        """Remove a file, if it is still the version that was found, and no process has it open for writing.

        Raises:
            VersionChanged: it is another one by now, and is left alone.
            SFTPError: it cannot be removed; `NotFound` if it has gone already.
        """
        folder, name = os.path.split(file.path)
        path = os.path.join(self._path, file.path)
        try:
            with self._entered(folder) as directory:
                descriptor = os.open(name, _READ, dir_fd=directory)
                try:
                    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                        raise VersionChanged(path)
                    sent = SentFile(directory, name, path, descriptor, file.version)
                    with setting_aside(sent, lambda _version: None) as aside:
                        aside.remove()
                finally:
                    os.close(descriptor)
        except OSError as error:
            raise from_os_error(error, path) from error

    @contextmanager
    def _entered(self, folder: str) -> Iterator[int]:
        """Open a folder within this one, step by step."""
        directory = os.dup(self.directory)
        try:
            for name in filter(None, folder.split("/")):
                inner = os.open(name, ENTER, dir_fd=directory)
                os.close(directory)
                directory = inner
                if not self._is_ours(directory):
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            yield directory
        finally:
            os.close(directory)


@contextmanager
def opened_tree(local_files: LocalFiles, path: str, state_dir: Path) -> Iterator[LocalTree]:
    """Open a folder of the local root.

    Raises:
        SFTPError: it cannot be opened; `NotFound` if there is none.
    """
    directory = local_files.open_directory(path)
    try:
        yield LocalTree(directory, path, _identity(state_dir))
    finally:
        os.close(directory)


def _identity(directory: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(directory)
    except OSError:
        return None
    return status.st_dev, status.st_ino
