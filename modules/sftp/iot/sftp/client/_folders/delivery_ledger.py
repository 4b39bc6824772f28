"""Which versions of a folder's files have arrived, remembered from one call to the next.

A caller gives a ledger of its own, which may outlive the process. What has arrived and could not be recorded there
is remembered by the session, as is what it moves without a ledger: a source that cannot be deleted is not sent again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from iot.sftp.client._base.errors import SFTPError
from iot.sftp.client._base.steps import TOGETHER, finish

if TYPE_CHECKING:
    from iot.sftp.client._base.steps import Steps
    from iot.sftp.client._files.file_version import FileVersion
    from iot.sftp.client._transfer.growth import GrowthRecord

MOST_REMEMBERED = 4096  # files of all folders of a session: some hundred bytes each


class Ledger(Protocol):
    """Remembers from one call to the next which versions of a folder's files have arrived.

    A file is given by its path relative to the folder. Two versions are compared with `FileVersion.is_same_as`. All
    methods are called from several threads, and may raise an `SFTPError`.
    """

    def knows(self, path: str, version: FileVersion) -> bool:
        """Return whether this very version has arrived before; asked about each file that is found and selected."""

    def note(self, path: str, version: FileVersion) -> None:
        """Record that this version has arrived; called at once, before its source is deleted or moved."""

    def settle(self, path: str) -> None:
        """Record that the source is deleted or moved as well: nothing is left to be remembered."""


@runtime_checkable
class GrowthLedger(Ledger, Protocol):
    """A ledger that also remembers how much of files that grow was delivered: see `FolderOrder.append`."""

    def growth(self, path: str) -> GrowthRecord | None:
        """Return what was delivered of the file that has, or had, this path."""

    def growing_as(self, inode: int) -> list[str]:
        """Return under which paths a local file with this inode is recorded."""

    def note_growth(self, path: str, growth: GrowthRecord, version: FileVersion | None) -> None:
        """Record how much was delivered; and with it, as `note` does, which version, if that is settled."""


class Handed(Protocol):
    """Waits until what was handed in is recorded."""

    def __call__(self, *, is_complete: bool) -> None:
        """Return when it is recorded, with all that was handed in by then; raise an `SFTPError` if it cannot be.

        Parameters:
            is_complete: nothing is to be waited for that others may be about to hand in.
        """


@runtime_checkable
class GatheringLedger(Ledger, Protocol):
    """A ledger that records what became of several files in one go: one thread may have many of them in flight."""

    def hand_in(self, path: str, version: FileVersion) -> Handed:
        """Take that this version has arrived, as `note` does; it is recorded when what is returned has returned."""

    def hand_in_settled(self, path: str) -> Handed:
        """Take that the source is deleted or moved, as `settle` does; recorded in the same way."""


class SessionLedgers:
    """What a session remembers; for any number of threads."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._lock = threading.Lock()
        self._versions: OrderedDict[tuple[object, str], FileVersion] = OrderedDict()
        self._growths: OrderedDict[tuple[object, str], GrowthRecord] = OrderedDict()

    def of(self, place: object, ledger: Ledger | None) -> SessionLedger:
        """Return the ledger of one folder: `place` tells it from others; `ledger` is the caller's, if there is any."""
        return SessionLedger(self, place, ledger)

    @property
    def remembers_any(self) -> bool:
        """Whether any version is remembered, of whatever folder."""
        return bool(self._versions)

    def get(self, place: object, path: str) -> FileVersion | None:
        """Return the version that has arrived."""
        with self._lock:
            return self._versions.get((place, path))

    def put(self, place: object, path: str, version: FileVersion) -> None:
        """Remember a version, and forget the one that was remembered longest if there are too many."""
        with self._lock:
            self._versions[place, path] = version
            self._versions.move_to_end((place, path))
            if len(self._versions) > MOST_REMEMBERED:
                self._versions.popitem(last=False)

    def growth(self, place: object, path: str) -> GrowthRecord | None:
        """Return what was delivered of a growing file."""
        with self._lock:
            return self._growths.get((place, path))

    def growing_as(self, place: object, inode: int) -> list[str]:
        """Return under which paths a file with this inode was delivered."""
        with self._lock:
            kept = self._growths.items()
            return [path for (where, path), growth in kept if where == place and growth.inode == inode]

    def put_growth(self, place: object, path: str, growth: GrowthRecord) -> None:
        """Remember what was delivered of a growing file, and forget the one that was remembered longest."""
        with self._lock:
            self._growths[place, path] = growth
            self._growths.move_to_end((place, path))
            if len(self._growths) > MOST_REMEMBERED:
                self._growths.popitem(last=False)

    def forget(self, place: object, path: str) -> None:
        """Forget a file."""
        with self._lock:
            self._versions.pop((place, path), None)


class SessionLedger:
    """A folder's ledger: the caller's, and what the session remembers beside it. See `Ledger`."""

    def __init__(self, versions: SessionLedgers, place: object, ledger: Ledger | None) -> None:
        """Made by `SessionLedgers.of`."""
        self._versions = versions
        self._place = place
        self._ledger = ledger
        self._gathering = ledger if isinstance(ledger, GatheringLedger) else None

    @property
    def gathers(self) -> bool:
        """Whether to record several files in one go takes no longer than to record one."""
        return self._ledger is None or self._gathering is not None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known to have arrived."""
        return self._ledger is None and not self._versions.remembers_any

    def knows(self, path: str, version: FileVersion) -> bool:
        """Return whether this very version has arrived before."""
        arrived = self._versions.get(self._place, path)
        if arrived is not None and arrived.is_same_as(version):
            return True
        return self._ledger is not None and self._ledger.knows(path, version)

    def suppose(self, path: str, version: FileVersion) -> None:
        """Remember for the life of the session that this version is taken to have arrived, without proof."""
        self._versions.put(self._place, path, version)

    def note(self, path: str, version: FileVersion) -> Steps[None]:
        """Record that this version has arrived; the session remembers what the caller's ledger does not take."""
        if self._ledger is None:
            self._versions.put(self._place, path, version)
            return
        try:
            if self._gathering is None:
                self._ledger.note(path, version)
            else:
                yield from _recorded(self._gathering.hand_in(path, version))
        except SFTPError:
            self._versions.put(self._place, path, version)
            raise
        self._versions.forget(self._place, path)

    def settle(self, path: str) -> Steps[None]:
        """Record that nothing is left to be remembered of a file."""
        self._versions.forget(self._place, path)
        if self._gathering is not None:
            yield from _recorded(self._gathering.hand_in_settled(path))
        elif self._ledger is not None:
            self._ledger.settle(path)

    # --- files that grow

    def growth(self, path: str) -> GrowthRecord | None:
        """Return what was delivered of a growing file: by the caller's ledger, if that remembers it."""
        if isinstance(self._ledger, GrowthLedger):
            return self._ledger.growth(path)
        return self._versions.growth(self._place, path)

    def growing_as(self, inode: int) -> list[str]:
        """Return under which paths a local file with this inode is recorded."""
        if isinstance(self._ledger, GrowthLedger):
            return self._ledger.growing_as(inode)
        return self._versions.growing_as(self._place, inode)

    def note_growth(self, path: str, growth: GrowthRecord, version: FileVersion | None) -> None:
        """Record how much of a growing file was delivered, and which version, if that is settled."""
        if isinstance(self._ledger, GrowthLedger):
            self._ledger.note_growth(path, growth, version)
            return
        self._versions.put_growth(self._place, path, growth)
        if version is not None:
            finish(self.note(path, version))


def _recorded(handed: Handed) -> Steps[None]:
    """Have recorded what was handed in: with what all others of a thread have handed in by the same step."""
    has_others = yield TOGETHER
    handed(is_complete=bool(has_others))
