"""What is too much in a folder: the decision which files go, without touching any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from iot.sftp.module._retention.age_clock import has_known_age

if TYPE_CHECKING:
    from iot.sftp.module._retention.found_file import FoundFile


@dataclass
class Excess:
    """How much is too much, while files go one by one, the oldest first.

    Attributes:
        oldest_kept: files that were modified before it are too old (nanoseconds since 1970); `None` if none is.
        surplus: bytes of files beyond what the folder may hold.
        missing: bytes that are missing on the disk.
    """

    oldest_kept: int | None = None
    surplus: int = 0
    missing: int = 0

    def is_over(self, file: FoundFile) -> bool:
        """Return whether this file, and whatever is younger, may stay."""
        return (self.oldest_kept is None or file.modified >= self.oldest_kept) and max(self.surplus, self.missing) <= 0

    def is_too_old(self, file: FoundFile) -> bool:
        """Return whether a file is too old."""
        is_older = self.oldest_kept is not None and file.modified < self.oldest_kept
        return is_older and has_known_age(file.version)

    def takes(self, file: FoundFile) -> bool:
        """Return whether a file has to go: one with another name frees no space when it goes."""
        return self.is_too_old(file) or self.surplus > 0 or (self.missing > 0 and file.links == 1)

    def note_removed(self, file: FoundFile, free: int | None, wanted: int) -> None:
        """Count a file that has gone.

        What is free by then may be reported late, as some file systems free space in the background: so what it took
        counts as free at once. Otherwise far too many files would go.

        Parameters:
            file: which one.
            free: bytes of the disk that are free by now, if known.
            wanted: how many have to be.
        """
        self.surplus -= file.size
        self.missing -= file.allocated if file.links == 1 else 0
        if free is not None:
            self.missing = min(self.missing, wanted - free)
