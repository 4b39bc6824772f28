"""One look into one folder: find what is too old or too much there, and delete it, the oldest first."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iot.sftp.client import NotFound, SFTPError
from iot.sftp.client._base.text import excerpt
from iot.sftp.client._files.file_version import SECOND
from iot.sftp.client._files.set_aside import VersionChanged
from iot.sftp.module._retention.excess import Excess
from iot.sftp.module._retention.found_file import OldestFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iot.sftp.client import Selection
    from iot.sftp.module._documents.retention import RetentionEntry
    from iot.sftp.module._retention.deletions import Deletions
    from iot.sftp.module._retention.found_file import FoundFile
    from iot.sftp.module._retention.local_tree import LocalTree
    from iot.sftp.module._retention.proof import DeliveryProofs
    from iot.sftp.module._work.room import Need

REASONS_SHOWN = 3


@dataclass(frozen=True)
class Remaining:
    """What is too much still after a look, and why it stayed.

    Attributes:
        too_old: files.
        surplus: bytes of files beyond what the folder may hold.
        missing: bytes that are missing on the disk.
        reasons: why files stayed that would have had to go, with their numbers.
    """

    too_old: int
    surplus: int
    missing: int
    reasons: tuple[tuple[str, int], ...]

    def in_words(self) -> str | None:
        """Return the same for people; `None` if nothing is too much."""
        much = [f"{self.too_old} files are too old"] if self.too_old else []
        much += [f"there are {self.surplus} bytes too many"] if self.surplus > 0 else []
        much += [f"{self.missing} bytes are missing on the disk"] if self.missing > 0 else []
        if not much:
            return None
        reasons = [f"{count} files: {reason}" for reason, count in self.reasons[:REASONS_SHOWN]]
        return f"{' and '.join(much)} ({'; '.join(reasons) or 'no file is left that could go'})"


class Look:
    """One look into a folder; used by one thread."""

    def __init__(
        self,
        tree: LocalTree,
        entry: RetentionEntry,
        proofs: DeliveryProofs,
        deletions: Deletions,
        proceed: Callable[[], object],
    ) -> None:
        """Take what is looked at.

        Parameters:
            tree: the folder.
            entry: what is too much in it.
            proofs: prove that files are delivered.
            deletions: records each file that is deleted.
            proceed: called for each file; ends the look by raising.
        """
        self._tree = tree
        self._entry = entry
        self._selection: Selection = entry.selection()
        self._proofs = proofs
        self._deletions = deletions
        self._proceed = proceed
        self._wanted = 0  # bytes that have to be free
        self._excess = Excess()
        self._too_old = 0
        self._kept: Counter[str] = Counter()

    def run(self, now: int | None, need: Need | None) -> Remaining:
        """Delete what is too much; return what is still.

        Parameters:
            now: the time for ages, in nanoseconds since 1970; `None` if no clock is to be trusted.
            need: the room that is needed; `None` for what the entry says by itself.

        Raises:
            SFTPError: the ledgers cannot be used.
        """
        space = self._tree.space()
        self._wanted, free = self._wanted_space(need), space.f_bavail * space.f_frsize
        self._excess.missing = self._wanted - free
        if now is not None and self._entry.max_age is not None:
            self._excess.oldest_kept = now - int(self._entry.max_age * SECOND)
        oldest = self._survey()
        while self._remove_all(oldest.in_order()) and oldest.is_full:
            oldest = self._next(oldest.in_order()[-1])
        excess = self._excess
        reasons = tuple(self._kept.most_common())
        return Remaining(self._too_old, max(0, excess.surplus), max(0, excess.missing), reasons)

    def _wanted_space(self, need: Need | None) -> int:
        space = self._tree.space()
        size, free = space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize
        wanted = 0 if self._entry.min_free is None or not size else self._entry.min_free.of(size)
        return wanted if need is None else max(wanted, need.wanted(free))

    def _survey(self) -> OldestFiles:
        """Walk the folder: count its bytes, and find the oldest files."""
        oldest, total = OldestFiles(), 0
        for file in self._files():
            total += file.size
            oldest.offer(file)
        if self._entry.max_bytes is not None:
            self._excess.surplus = total - self._entry.max_bytes
        return oldest

    def _next(self, after: FoundFile) -> OldestFiles:
        oldest = OldestFiles(after)
        for file in self._files():
            oldest.offer(file)
        return oldest

    def _files(self) -> Iterator[FoundFile]:
        selects = self._selection.selects
        for file in self._tree.files(self._proceed, self._selection.goes_into):
            if selects(file.path, file.path):
                yield file

    def _remove_all(self, files: list[FoundFile]) -> bool:
        """Remove those that have to go; return whether those that come after them may have to go too."""
        for file in files:
            self._proceed()
            if self._excess.is_over(file):
                return False
            if self._excess.takes(file):
                self._remove(file)
        return True

    def _remove(self, file: FoundFile) -> None:
        """Remove a file, unless it has to stay."""
        lacks = self._lack_of(file)
        if lacks is not None and self._entry.only_delivered:
            self._keep(file, lacks)
            return
        try:
            self._tree.remove(file)
        except (NotFound, VersionChanged):
            return  # the next look sees what is there by then
        except SFTPError as error:
            self._keep(file, excerpt(error.message))
            return
        space = self._tree.space()
        self._excess.note_removed(file, space.f_bavail * space.f_frsize, self._wanted)
        self._deletions.note(file, lacks=lacks)

    def _lack_of(self, file: FoundFile) -> str | None:
        try:
            return self._proofs.lack(file)
        except SFTPError:
            if self._entry.only_delivered:
                raise
            return "not known to be delivered"

    def _keep(self, file: FoundFile, reason: str) -> None:
        self._too_old += self._excess.is_too_old(file)
        self._kept[reason] += 1
