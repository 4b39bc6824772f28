"""A file that a look has found, and the oldest of many of them in bounded memory."""

from __future__ import annotations

from typing import NamedTuple

from iot.sftp.client import FileVersion

KEPT_AT_ONCE = 8_192  # files of one walk: some megabytes


class FoundFile(NamedTuple):
    """A local file as a walk has found it; sorted by age, the oldest first.

    Attributes:
        modified: the modification time in nanoseconds since 1970.
        path: relative to the folder.
        size: bytes.
        allocated: bytes of the disk that it takes; holes take none.
        links: how many names it has: the last one that goes makes room.
        version: which version of the file it is.
    """

    modified: int
    path: str
    size: int
    allocated: int
    links: int
    version: FileVersion


class OldestFiles:
    """The oldest files of all that it is offered, as many as it has room for."""

    def __init__(self, after: FoundFile | None = None, room: int = KEPT_AT_ONCE) -> None:
        """Keep no file yet.

        Parameters:
            after: only files that come after this one.
            room: so many at most.
        """
        self._after = after
        self._room = room
        self._files: list[FoundFile] = []
        self._last: FoundFile | None = None  # what comes after it has no place
        self.is_full = False  # some were left out

    def offer(self, file: FoundFile) -> None:
        """Keep a file, if it is among the oldest."""
        if (self._after is not None and file <= self._after) or (self._last is not None and file > self._last):
            return
        self._files.append(file)
        if len(self._files) >= 2 * self._room:
            self._cut()

    def in_order(self) -> list[FoundFile]:
        """Return the files, the oldest first."""
        self._cut()
        return self._files

    def _cut(self) -> None:
        self._files.sort()
        if len(self._files) > self._room:
            del self._files[self._room :]
            self._last = self._files[-1]
            self.is_full = True
