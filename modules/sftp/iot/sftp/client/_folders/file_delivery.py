"""Deliver one file of a folder: decide whether it is transferred, transfer it, and remove its source."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import AlreadyExists, LocalBusy, Scope, SFTPError
from iot.sftp.client._base.steps import ALONE
from iot.sftp.client._folders.destinations import Destinations
from iot.sftp.client._folders.existing_files import ExistingFiles
from iot.sftp.client._folders.folder_order import IfExists
from iot.sftp.client._folders.workers import is_busy, pauses_while_local_busy

if TYPE_CHECKING:
    from iot.sftp.client._base.steps import Steps
    from iot.sftp.client._files.file_version import FileVersion
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._folders.deliveries import Deliveries
    from iot.sftp.client._folders.folder_direction import FolderDirection
    from iot.sftp.client._folders.folder_order import FolderOrder
    from iot.sftp.client._folders.folder_page import FoundFile
    from iot.sftp.client._folders.folder_progress import FolderTally
    from iot.sftp.client._folders.quarantine_run import QuarantineRun

logger = logging.getLogger(__name__)

NAMES_TRIED = 20  # by one file whose name is taken by others again and again, just before it is there


class _IsTooYoungError(Exception):
    """The file is left for the next call: it is no failure."""


class _HasNoMarkerError(Exception):
    """The file is left until its marker is there: it is no failure."""


class FileDelivery:
    """Delivers the files of a folder, each when its turn comes: it may be minutes since the folder was listed."""

    def __init__(
        self,
        order: FolderOrder,
        direction: FolderDirection,
        deliveries: Deliveries,
        tally: FolderTally,
        quarantine: QuarantineRun,
    ) -> None:
        """Deliver nothing yet.

        Parameters:
            order: which files, and how.
            direction: transfers them.
            deliveries: what has arrived.
            tally: counts what becomes of the files.
            quarantine: what fails by itself.
        """
        self._quarantine = quarantine
        self._order = order
        self._direction = direction
        self._deliveries = deliveries
        self._tally = tally
        self._destinations = Destinations(order)
        self._existing = ExistingFiles(order, direction, deliveries, self._destinations, self._accept)
        deliveries.prove = self._existing.proven_version
        self.busy: list[FoundFile] = []  # files whose destination another transfer was writing: once more at the end
        self.is_second_round = False
        self.was_short = False  # the local system, of something that files in flight take

    def deliver(self, remote: RemoteFiles, found: FoundFile) -> Steps[None]:
        """Do all that is to be done with one file, in steps.

        Its failure is noted, one that ends the whole call is raised.
        """
        try:
            if self._deliveries.arrived_version(found) is None:
                if found.is_delivered and (yield from self._deliveries.settle_delivered(remote, found)):
                    self._destinations.end(found.path)
                    return
                yield from self._transfer_patiently(remote, found)
        except _IsTooYoungError:
            self._tally.remove_found(found.size_to_move, is_young=True)
        except _HasNoMarkerError:
            self._tally.remove_found(found.size_to_move)
        except SFTPError as error:
            if error.scope is not Scope.FILE:
                raise
            self._settle_failure(remote, found, error)
        else:
            arrived = self._deliveries.arrived_version(found)
            if arrived is not None:
                yield from self._deliveries.complete(remote, found, arrived)
        self._destinations.end(found.path)

    def _settle_failure(self, remote: RemoteFiles, found: FoundFile, error: SFTPError) -> None:
        if is_busy(error) and not self.is_second_round:
            self.busy.append(found)
        elif self._deliveries.has_vanished(remote, found):
            self._discard_unfinished(remote, found)
            self._tally.remove_found(found.size_to_move)
        else:
            self._deliveries.fail(found.path, error)
            self._quarantine.note(found, error)

    def _discard_unfinished(self, remote: RemoteFiles, found: FoundFile) -> None:
        """Remove what earlier attempts have left of a file that is gone: it is not resumed."""
        dest = self._destinations.last_of(found.path)
        if dest is None:
            return
        try:
            self._direction.discard_unfinished(remote, dest)
        except SFTPError as error:
            if error.scope is not Scope.FILE:
                raise
            logger.debug("what is left of %r cannot be removed: %s", dest, error)

    def _transfer_patiently(self, remote: RemoteFiles, found: FoundFile) -> Steps[None]:
        """Transfer a file; retry it as long as the local system is short of something, once others have ended."""
        for pause in pauses_while_local_busy():
            try:
                return (yield from self._transfer_unless_there(remote, found))
            except LocalBusy as error:
                self.was_short = True
                yield ALONE
                pause(remote.deadline, error)
        return (yield from self._transfer_unless_there(remote, found))

    def _transfer_unless_there(self, remote: RemoteFiles, found: FoundFile) -> Steps[None]:
        # In front of all that looks at the file: what is complete when its marker is there may not have been before
        if self._deliveries.steps.is_missing(remote, found.path):
            raise _HasNoMarkerError
        if self._order.append is not None:  # whatever is there is the beginning of the file, or left alone
            yield from self.transfer(remote, found, self._destinations.of(found.path))
            return
        for tries_left in range(NAMES_TRIED - 1, -1, -1):
            dest = yield from self._existing.target_of(remote, found)
            if dest is None:
                self._tally.add_skipped()
                return
            try:
                yield from self.transfer(remote, found, dest)
            except AlreadyExists:  # it has appeared since then
                self._destinations.discard(found.path)
                if self._order.if_exists is IfExists.SKIP:
                    self._tally.add_skipped()
                    return
                if self._order.if_exists is not IfExists.RENAME or not tries_left:
                    raise
            else:
                return

    def _accept(self, found: FoundFile, version: FileVersion) -> None:
        """Accept the version that is there when a file's turn comes, unless it is too young by now."""
        if self._order.selection.is_too_young(version):
            raise _IsTooYoungError
        if not version.is_same_as(found.version):
            logger.debug("%r has changed since it was listed: it is transferred as it is now", found.path)

    def transfer(self, remote: RemoteFiles, found: FoundFile, dest: str) -> Steps[None]:
        """Transfer a file to a path relative to the destination, and record its arrival."""

        def note(done: int, _total: int | None) -> None:
            self._tally.note_in_flight(found.path, done)

        try:
            self._order.markers.at(dest)
            done = yield from self._direction.transfer(remote, found, dest, partial(self._accept, found), note)
            yield from self._deliveries.note_transfer(found, done, dest)
        finally:
            self._tally.end_in_flight(found.path)
        for finished in done.finished:
            self._tally.add_delivered(finished.size, 0)
        if done.is_new:
            logger.debug("%r was transferred to %r: %d bytes", found.path, dest, done.size)
            self._tally.add_delivered(done.size, found.size_to_move, is_atomic=done.is_atomic)
        else:
            self._tally.remove_found(found.size_to_move)
        self._quarantine.forget(found.path)
