"""The last steps with markers: what follows an arrival at the destination, and what is left of it at the source.

After an arrival come, in this order: the checksum, the marker, the removal of the source, and that of the source's own
marker. What is still to be done is recorded before it is, and done by the next call where this one is cut off. By then
the destination may hold another file, and the source's marker be for another one: both are compared first.
"""

from __future__ import annotations

import logging
import posixpath
from typing import TYPE_CHECKING, TypeVar

from iot.sftp.client._base.errors import NotADirectory, NotFound, Scope, SFTPError
from iot.sftp.client._base.memory import Budget
from iot.sftp.client._files.set_aside import VersionChanged
from iot.sftp.client._folders.folder_page import FolderPage, FoundFile
from iot.sftp.client._folders.markers import OwedMarkers, SpentMarker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from iot.sftp.client._files.file_version import FileVersion
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._folders.folder_direction import FolderDirection
    from iot.sftp.client._folders.folder_order import FolderOrder
    from iot.sftp.client._folders.markers import MarkerRecord

    Fail = Callable[[str, SFTPError, str], object]

logger = logging.getLogger(__name__)

Row = TypeVar("Row")

NOT_WRITTEN = "it was delivered, and its marker cannot be written"
NOT_REMOVED = "it was delivered, and its marker cannot be removed at its source"


class MarkerSteps:
    """What is still to be done with the markers of files that have arrived; thread-safe, but for `catch_up`.

    Attributes:
        unmarked: the paths of files that have arrived in an earlier call, and whose markers could not be written yet.
    """

    def __init__(self, order: FolderOrder, direction: FolderDirection, fail: Fail) -> None:
        """Have nothing to do yet.

        Parameters:
            order: which markers.
            direction: reaches both sides.
            fail: receives the path, the reason and what it is about, of a file whose last step failed.
        """
        self._order = order
        self._markers = order.markers
        self._direction = direction
        self._fail = fail
        self._owed: dict[str, OwedMarkers] = {}  # by the paths of files that have arrived in this call
        self._spent: dict[str, SpentMarker] = {}  # by the paths of files that are about to go, or gone
        self._is_caught_up = order.markers.record is None
        self.unmarked = set[str]()

    def is_missing(self, remote: RemoteFiles, path: str) -> bool:
        """Return whether a file has to wait for its marker."""
        marker = self._markers.waited_for(path)
        return marker is not None and self._direction.version_of(remote, marker) is None

    # --- at the destination

    def announce(self, path: str, dest: str, sha256: str) -> None:
        """Note what is owed for a file whose arrival is recorded next."""
        owed = self._owed[path] = OwedMarkers(path, dest, sha256)
        if self._markers.record is not None:
            self._markers.record.announce(owed)

    def write(self, remote: RemoteFiles, path: str) -> bool:
        """Write what is owed for a file of this call; return whether nothing is owed any more."""
        owed = self._owed.get(path)
        if owed is None:
            return path not in self.unmarked
        try:
            self._write(remote, owed)
        except SFTPError as error:
            if error.scope is not Scope.FILE:
                raise
            self._fail(path, error, NOT_WRITTEN)
            return False
        del self._owed[path]
        return True

    def _write(self, remote: RemoteFiles, owed: OwedMarkers) -> None:
        for marker, content in self._markers.contents_at(owed):
            self._direction.marker_files.write(remote, marker, content)
        self._record(lambda record: record.settle_owed(owed.dest))

    # --- at the source

    def spend(self, remote: RemoteFiles, path: str, file: FileVersion, *, move_to: str | None = None) -> None:
        """Note the marker of a file that is about to be deleted or moved."""
        marker = self._markers.waited_for(path)
        if marker is None or path in self._spent:
            return
        version = self._direction.version_of(remote, marker)
        if version is not None:
            spent = self._spent[path] = SpentMarker(marker, version, path, file, move_to)
            self._record(lambda record: record.note_spent(spent))

    def keep(self, path: str) -> None:
        """Leave the marker of a file alone that has stayed."""
        spent = self._spent.pop(path, None)
        if spent is not None:
            self._record(lambda record: record.settle_spent(spent.marker))

    def release(self, remote: RemoteFiles, path: str, place: str | None = None) -> None:
        """Remove the marker of a file that is gone; one that other files may have too, at the end of the call.

        Parameters:
            remote: the server's files.
            path: the file's.
            place: where the file was put aside, if it was.
        """
        spent = self._spent.get(path)
        if spent is None or self._is_shared:
            return
        self._spent.pop(path)
        target = None if place is None else self._markers.waited_for(place)
        self._release(remote, spent, target)

    def release_shared(self, remote: RemoteFiles) -> None:
        """Remove the markers of files that are gone, where no other file waits that has the same one."""
        self._release_all(remote, [*self._spent.values()])
        self._spent.clear()

    def _release_all(self, remote: RemoteFiles, spent: list[SpentMarker]) -> None:
        needed = self._needed(remote, spent) if self._is_shared else set()
        for each in spent:
            remote.deadline.check()
            if each.marker not in needed:
                self._release(remote, each)

    def _release(self, remote: RemoteFiles, spent: SpentMarker, target: str | None = None) -> None:
        """Remove a marker, unless it is another one by now: that is for another file."""
        try:
            now = self._direction.version_of(remote, spent.marker)
            is_kept = self._order.keeps_source and spent.move_to is None  # by now: the rule has changed
            if now is not None and not is_kept and _is_same(spent.version, now):
                self._remove(remote, spent, now, target)
        except VersionChanged:
            pass
        except SFTPError as error:
            if error.scope is not Scope.FILE:
                raise
            if not (isinstance(error, NotFound) and self._is_gone(remote, spent.marker)):
                self._fail(spent.path, error, NOT_REMOVED)
                return
        self._record(lambda record: record.settle_spent(spent.marker))

    def _is_gone(self, remote: RemoteFiles, marker: str) -> bool:
        """Return whether a marker is not there any more: else what was not found is where it was to be moved to."""
        return self._direction.version_of(remote, marker) is None

    def _remove(self, remote: RemoteFiles, spent: SpentMarker, now: FileVersion, target: str | None) -> None:
        if spent.move_to is None:
            self._direction.remove_source(remote, FoundFile(spent.marker, now), now, lambda _: None)
        else:
            target = target or posixpath.join(spent.move_to, spent.marker)
            self._direction.put_aside(remote, spent.marker, now, target)

    @property
    def _is_shared(self) -> bool:
        return self._markers.wait is not None and self._markers.wait.is_shared

    def _needed(self, remote: RemoteFiles, spent: list[SpentMarker]) -> set[str]:
        """Return those markers that other files wait for which are still there."""
        needed = set[str]()
        markers = {each.marker for each in spent}
        for directory in {posixpath.dirname(marker) for marker in markers}:
            budget = Budget()
            page = FolderPage(
                budget,
                wants=lambda path: self._order.selects(path) and self._markers.waited_for(path) in markers,
                enters=lambda _path: False,
            )
            try:
                self._direction.list_source(remote, directory, page)
                files = page.files()
            except (NotFound, NotADirectory):
                continue
            finally:
                budget.close()
            if page.bound is not None:  # there are more than memory takes: none is removed yet
                needed |= markers
            needed |= {marker for each in files if (marker := self._markers.waited_for(each.path)) is not None}
        return needed

    # --- after an earlier call

    def catch_up(self, remote: RemoteFiles) -> None:
        """Do what earlier calls have left to do; once in each call.

        Raises:
            SFTPError: what ends the call.
        """
        if self._is_caught_up:
            return
        record = self._markers.record
        assert record is not None  # noqa: S101 - else there is nothing to catch up with
        if self._markers.is_written:
            self._write_owed(remote, _all(record.owed, lambda owed: owed.dest))
        if self._markers.wait is not None:
            self._release_left(remote, _all(record.spent, lambda spent: spent.marker))
        self._is_caught_up = True

    def _write_owed(self, remote: RemoteFiles, owed: Iterable[OwedMarkers]) -> None:
        refused: dict[str, SFTPError] = {}  # by folder: what fails there need not be read back for each file
        for each in owed:
            remote.deadline.check()
            if not self._order.selects(each.path):
                continue
            folder = posixpath.dirname(each.dest)
            try:
                if folder in refused:
                    raise refused[folder]
                self._write_if_there(remote, each)
            except SFTPError as error:
                if error.scope is not Scope.FILE:
                    raise
                refused[folder] = error
                self.unmarked.add(each.path)
                self._fail(each.path, error, NOT_WRITTEN)

    def _write_if_there(self, remote: RemoteFiles, owed: OwedMarkers) -> None:
        """Write what is owed for a file, if it is at its destination still, and no other one."""
        if self._direction.marker_files.has_hash(remote, owed.dest, owed.sha256):
            self._write(remote, owed)
            logger.info("the marker of %r is written, which an earlier call could not do", owed.dest)
        else:
            self._record(lambda record: record.settle_owed(owed.dest))
            logger.info("%r has no marker: what an earlier call has delivered is not there any more", owed.dest)

    def _release_left(self, remote: RemoteFiles, spent: Iterable[SpentMarker]) -> None:
        gone = []
        for each in spent:
            remote.deadline.check()
            if self._order.selects(each.path):
                file = self._direction.version_of(remote, each.path)
                if file is None or not _is_same(each.file, file):
                    gone.append(each)
        self._release_all(remote, gone)

    def _record(self, change: Callable[[MarkerRecord], object]) -> None:
        """Change the record; what cannot be written is found out again, by comparing, in the next call."""
        if self._markers.record is not None:
            try:
                change(self._markers.record)
            except SFTPError as error:
                logger.debug("the record of markers cannot be written: %s", error)


def _all(read: Callable[[str], list[Row]], key: Callable[[Row], str]) -> Iterator[Row]:
    """Give all rows of a record, part by part."""
    after = ""
    while rows := read(after):
        yield from rows
        after = key(rows[-1])


def _is_same(kept: FileVersion, now: FileVersion) -> bool:
    """Return whether this is the same version, after whatever a restart or an interrupted removal has changed."""
    return kept._replace(device=None, changed=None).is_same_as(now)
