"""Deliver one file of a folder: decide whether it is transferred, transfer it, and remove its source."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import Scope, SFTPError
from iot.sftp.client._files.file_version import SECOND
from iot.sftp.client._folders.folder_order import IfExists
from iot.sftp.client._folders.workers import is_busy, retry_while_local_busy

if TYPE_CHECKING:
    from iot.sftp.client._files.file_version import FileVersion
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._folders.deliveries import Deliveries
    from iot.sftp.client._folders.folder_direction import FolderDirection
    from iot.sftp.client._folders.folder_order import FolderOrder
    from iot.sftp.client._folders.folder_page import FoundFile
    from iot.sftp.client._folders.folder_progress import FolderTally

logger = logging.getLogger(__name__)

LATEST = 0xFFFFFFFF * SECOND  # nanoseconds since 1970: SFTP version 3 has no later time


class _IsTooYoungError(Exception):
    """The file is left for the next call: it is no failure."""


class FileDelivery:
    """Delivers the files of a folder, each when its turn comes: it may be minutes since the folder was listed."""

    def __init__(
        self, order: FolderOrder, direction: FolderDirection, deliveries: Deliveries, tally: FolderTally
    ) -> None:
        """Deliver nothing yet.

        Parameters:
            order: which files, and how.
            direction: transfers them.
            deliveries: what has arrived.
            tally: counts what becomes of the files.
        """
        self._order = order
        self._direction = direction
        self._deliveries = deliveries
        self._tally = tally
        self.busy: list[FoundFile] = []  # files whose destination another transfer was writing: once more at the end
        self.is_second_round = False

    def deliver(self, remote: RemoteFiles, found: FoundFile) -> None:
        """Do all that is to be done with one file; its failure is noted, one that ends the whole call is raised."""
        try:
            if self._deliveries.arrived_version(found) is None:
                if found.is_delivered and self._deliveries.settle_delivered(remote, found):
                    return
                retry_while_local_busy(remote.deadline, lambda: self._transfer_unless_there(remote, found))
        except _IsTooYoungError:
            self._tally.remove_found(found.size_to_move, is_young=True)
        except SFTPError as error:
            if error.scope is not Scope.FILE:
                raise
            if is_busy(error) and not self.is_second_round:
                self.busy.append(found)
            elif self._deliveries.has_vanished(remote, found):
                self._tally.remove_found(found.size_to_move)
            else:
                self._deliveries.fail(found.path, error)
        else:
            arrived = self._deliveries.arrived_version(found)
            if arrived is not None:
                self._deliveries.remove_source(remote, found, arrived)

    def _transfer_unless_there(self, remote: RemoteFiles, found: FoundFile) -> None:
        if not self._is_to_be_skipped(remote, found):
            self.transfer(remote, found)

    def _is_to_be_skipped(self, remote: RemoteFiles, found: FoundFile) -> bool:
        """Return whether a file is skipped because of `if_exists`; what is proven to be the same counts as arrived."""
        order = self._order
        if order.if_exists is IfExists.REPLACE and not order.verify_existing and not found.is_delivered:
            return False
        there = self._direction.version_at_dest(remote, found)
        if there is None:
            return False
        at_source = found.version
        if at_source.modified is None:  # by the listing
            at_source = self._direction.version_at_source(remote, found)
        resembles = _as_sftp_reports(there).resembles(_as_sftp_reports(at_source))
        if order.keeps_source and not order.verify_existing:
            skips_same = order.if_exists is IfExists.SKIP_SAME and resembles
            is_skipped = order.if_exists is IfExists.SKIP or skips_same
            if resembles and is_skipped:
                self._deliveries.suppose_arrival(found)
        else:
            # Where a side does not report the time, its size has to be enough of a reason to compare the bytes
            times = (there.modified, at_source.modified)
            may_be_same = resembles or (there.size == at_source.size and None in times)
            version = self._deliveries.proven_version(remote, found) if may_be_same else None
            if version is not None:
                self._accept(found, version)
                self._deliveries.note_arrival(found, version)
            is_skipped = version is not None or order.if_exists is IfExists.SKIP
        if is_skipped:
            self._tally.add_skipped()
        return is_skipped

    def _accept(self, found: FoundFile, version: FileVersion) -> None:
        """Accept the version that is there when a file's turn comes, unless it is too young by now."""
        if self._order.selection.is_too_young(version):
            raise _IsTooYoungError
        if not version.is_same_as(found.version):
            logger.debug("%r has changed since it was listed: it is transferred as it is now", found.path)

    def transfer(self, remote: RemoteFiles, found: FoundFile) -> None:
        """Transfer a file, and record its arrival."""

        def note(done: int, _total: int | None) -> None:
            self._tally.note_in_flight(found.path, done)

        try:
            size, version = self._direction.transfer(remote, found, partial(self._accept, found), note)
        finally:
            self._tally.end_in_flight(found.path)
        logger.debug("%r was transferred: %d bytes", found.path, size)
        self._tally.add_delivered(size, found.size_to_move)
        self._deliveries.note_arrival(found, version)


def _as_sftp_reports(version: FileVersion) -> FileVersion:
    """Return a version with the nearest time that SFTP version 3 can report: 1970 to 2106, in whole seconds."""
    if version.modified is None:
        return version
    return version._replace(modified=max(0, min(LATEST, version.modified)))
