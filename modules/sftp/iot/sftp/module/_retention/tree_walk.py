"""Walk a folder and the folders in it, in bounded memory, without following links."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from iot.sftp.client import FileVersion
from iot.sftp.client._base.text import quoted
from iot.sftp.client._files.local_directories import DIRECTORY_FLAGS
from iot.sftp.client._files.remote_paths import TEMPORARY_PREFIX
from iot.sftp.client._files.set_aside import is_set_aside, restore_abandoned
from iot.sftp.module._retention.found_file import FoundFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENTER = DIRECTORY_FLAGS | os.O_NOFOLLOW
DEPTH_MAXIMUM = 64  # folders in folders; each level takes two descriptors while they are walked
BLOCK = 512  # bytes: the unit of st_blocks, stat(2)


class TreeWalk:
    """One walk. At any time one directory is open for each level, however many there are.

    Attributes:
        problem: why a folder could not be looked into, of the first one.
    """

    def __init__(
        self, is_ours: Callable[[int], bool], proceed: Callable[[], object], goes_into: Callable[[str], bool]
    ) -> None:
        """Take what is walked.

        Parameters:
            is_ours: returns whether a folder, by its descriptor, is walked.
            proceed: called for each name; ends the walk by raising.
            goes_into: returns whether a folder, by its relative path, is walked.
        """
        self._is_ours = is_ours
        self._proceed = proceed
        self._goes_into = goes_into
        self.problem: str | None = None

    def below(self, directory: int, prefix: str = "", depth: int = 0) -> Iterator[FoundFile]:
        """Give all regular files; those of our own, such as temporary files, are left out.

        What a process that was killed had taken out of the producers' reach is put back: the next walk finds it.

        Parameters:
            directory: a descriptor.
            prefix: of the files' paths: nothing, or that of a folder with a slash at its end.
            depth: in how many folders it is.
        """
        abandoned = list[str]()
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    self._proceed()
                    if is_set_aside(entry.name):
                        abandoned.append(entry.name)
                    elif entry.name.startswith(TEMPORARY_PREFIX):
                        continue
                    elif entry.is_dir(follow_symlinks=False):
                        yield from self._within(directory, entry.name, prefix, depth + 1)
                    elif entry.is_file(follow_symlinks=False):
                        with suppress(FileNotFoundError):
                            yield _found(prefix + entry.name, entry.stat(follow_symlinks=False))
        except OSError as error:
            self._note_problem(prefix, error)
        for aside in abandoned:
            restore_abandoned(directory, aside)

    def _within(self, parent: int, name: str, prefix: str, depth: int) -> Iterator[FoundFile]:
        path = prefix + name
        if not self._goes_into(path):
            return
        if depth > DEPTH_MAXIMUM:
            self.problem = self.problem or f"folders are looked into {DEPTH_MAXIMUM} deep only"
            return
        try:
            directory = os.open(name, ENTER, dir_fd=parent)
        except FileNotFoundError:
            return
        except OSError as error:
            self._note_problem(path, error)
            return
        try:
            if self._is_ours(directory):
                yield from self.below(directory, f"{path}/", depth)
        finally:
            os.close(directory)

    def _note_problem(self, path: str, error: OSError) -> None:
        self.problem = self.problem or f"{quoted(path or '.')} cannot be looked into: {error.strerror}"


def _found(path: str, status: os.stat_result) -> FoundFile:
    version = FileVersion.of_local(status)
    allocated = status.st_blocks * BLOCK
    return FoundFile(status.st_mtime_ns, path, status.st_size, allocated, status.st_nlink, version)
