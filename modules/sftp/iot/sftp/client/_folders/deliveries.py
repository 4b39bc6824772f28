"""What has arrived of a folder, and the removal of its sources: only of the very version that has arrived.

No source is deleted or moved unless that version is known to have arrived: because it was just transferred, by a
ledger's record, or by equal hashes (`file_version` says why sizes and times do not prove that).
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import Scope, SFTPError
from iot.sftp.client._base.steps import finish
from iot.sftp.client._files.remote_paths import listed
from iot.sftp.client._files.set_aside import VersionChanged
from iot.sftp.client._folders.folder_order import Then
from iot.sftp.client._folders.folder_progress import FileFailure, FileOutcome
from iot.sftp.client._folders.marker_steps import NOT_REMOVED, NOT_WRITTEN, MarkerSteps
from iot.sftp.client._folders.workers import retry_while_local_busy

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._base.steps import Steps
    from iot.sftp.client._files.file_version import FileVersion
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._folders.delivery_ledger import SessionLedger
    from iot.sftp.client._folders.folder_direction import FolderDirection
    from iot.sftp.client._folders.folder_order import FolderOrder
    from iot.sftp.client._folders.folder_page import FoundFile
    from iot.sftp.client._folders.folder_progress import FolderTally
    from iot.sftp.client._folders.transferred import Transferred

logger = logging.getLogger(__name__)

LEFT_BY_MARKER = "%r is delivered, but for its marker: %s: %s"
TOUCHED_RETRIES = 3  # of the removal of a file whose change time keeps changing


class Deliveries:
    """Which versions of a folder's files have arrived, and what becomes of their sources; thread-safe.

    Attributes:
        steps: those with markers that follow an arrival.
        prove: returns the source's version whose bytes are at the destination, by a hash; set by who knows where.
    """

    def __init__(
        self,
        order: FolderOrder,
        direction: FolderDirection,
        ledger: SessionLedger | None,
        tally: FolderTally,
        on_file: Callable[[FileOutcome], object] | None = None,
    ) -> None:
        """Start without any arrival.

        Parameters:
            order: what becomes of the files at their source.
            direction: removes them.
            ledger: remembers what has arrived from one call to the next.
            tally: counts removals and failures.
            on_file: called for each file that is delivered, before its arrival is recorded, and for each that is not.
        """
        self._order = order
        self._direction = direction
        self._ledger = ledger
        self._tally = tally
        self._on_file = on_file
        self.steps = MarkerSteps(order, direction, self._fail_last_step)
        self.prove: Callable[[RemoteFiles, FoundFile], FileVersion | None] = lambda _remote, _found: None
        self._lock = threading.Lock()
        self._arrived: dict[str, FileVersion] = {}  # files that only have to be removed at their source

    def arrived_version(self, found: FoundFile) -> FileVersion | None:
        """Return the version of a file that has arrived, and whose source is still to be removed."""
        return self._arrived.get(found.path)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._arrived.clear()

    def note_proven(self, remote: RemoteFiles, found: FoundFile, version: FileVersion, dest: str) -> None:
        """Report a version whose bytes are at its destination already, and record it, with what is to follow.

        Parameters:
            remote: the server's files.
            found: the file.
            version: which one.
            dest: where it is, relative to the destination.
        """
        if self._order.markers.is_written:
            self._order.markers.at(dest)
            digest = self._direction.hash_of_arrived(remote, found, dest)
            if not self._direction.version_at_source(remote, found).is_same_as(version):
                raise VersionChanged(found.path)
            self.steps.announce(found.path, dest, digest)
        self.report(found.path, dest, version.size, version)
        finish(self.note_arrival(found, version))

    def note_transfer(self, found: FoundFile, done: Transferred, dest: str) -> Steps[None]:
        """Report a file that has just arrived, and record it, in steps; `dest` is relative to the destination."""
        if done.sha256:
            self.steps.announce(found.path, dest, done.sha256)
        for each in done.finished:
            self.report(each.path, each.dest, each.size, each.version)
        if done.is_new:
            self.report(found.path, dest, done.size, done.version)
        if done.growth is None:
            yield from self.note_arrival(found, done.version)
        elif self._ledger is not None:
            try:
                self._ledger.note_growth(found.path, done.growth, done.version if done.is_settled else None)
            except SFTPError as error:
                self.fail(found.path, error, delivered="it was delivered, and that cannot be recorded")

    def report(self, path: str, dest: str, size: int | None, version: FileVersion) -> None:
        """Report a file that has arrived; `dest` is relative to the destination."""
        if self._on_file is not None:
            source, place = listed(self._order.source, path), listed(self._order.dest, dest)
            self._on_file(FileOutcome(path, source, place, size, version.modified))

    def note_arrival(self, found: FoundFile, version: FileVersion) -> Steps[None]:
        """Record a version that has arrived, in steps, so that no later failure is a reason to send it again."""
        with self._lock:
            if not self._order.keeps_source or self._order.markers.is_written:
                self._arrived[found.path] = version
        if self._ledger is None:
            return
        try:
            yield from self._ledger.note(found.path, version)
        except SFTPError as error:
            if self._order.keeps_source:
                self.fail(found.path, error, delivered="it was delivered, and that cannot be recorded", is_over=False)
            else:
                logger.warning("that %r was delivered cannot be recorded: %s", found.path, error.message)

    def suppose_arrival(self, found: FoundFile) -> None:
        """Take a version for one that has arrived, without proof, for the life of the session."""
        if self._ledger is not None:
            self._ledger.suppose(found.path, found.version)

    def settle_delivered(self, remote: RemoteFiles, found: FoundFile) -> Steps[bool]:
        """Remove, in steps, the source of what a ledger knows to have arrived; `False` if another version is there."""
        version, is_kept = found.version, self._order.keeps_source
        if version.modified is None:  # by the listing; the server may report more of a single file
            version = self._direction.version_at_source(remote, found)
            assert self._ledger is not None  # noqa: S101 - it has reported that the file is delivered
            is_known = self._ledger.knows(found.path, version)
            if not is_known or (version.modified is None and not is_kept):
                return False
        if found.path in self.steps.unmarked:
            return True  # its failure is counted, and its source stays until its marker is there
        if is_kept:
            self._tally.add_skipped()
            return True
        return (yield from self.remove_source(remote, found, version))

    def complete(self, remote: RemoteFiles, found: FoundFile, version: FileVersion) -> Steps[None]:
        """Do what follows the arrival of a file, in steps."""
        if not self.steps.write(remote, found.path):
            return
        if self._order.keeps_source:
            with self._lock:
                self._arrived.pop(found.path, None)
        else:
            yield from self.remove_source(remote, found, version)

    def remove_source(self, remote: RemoteFiles, found: FoundFile, version: FileVersion) -> Steps[bool]:
        """Delete or move the source's file after its arrival, in steps.

        Returns:
            `False` where another version has taken the place of one that has arrived in an earlier call.
        """
        versions = [version]

        def note(now: FileVersion) -> None:
            versions[0] = now  # renaming it has changed its change time
            finish(self.note_arrival(found, now))

        try:
            self.steps.spend(remote, found.path, version)
            self._remove_unless_changed(remote, found, versions, note)
        except VersionChanged as error:
            self.steps.keep(found.path)
            if found.is_delivered and found.path not in self._arrived:
                return False
            self.fail(found.path, error, delivered="")
            return True
        except SFTPError as error:
            # The place that it is moved to concerns this file only: others may arrive, at least
            if error.scope is Scope.CALL:
                raise
            if not self.has_vanished(remote, found):
                self.steps.keep(found.path)
                done = "deleted" if self._order.then is Then.DELETE else "moved"
                reason = f"it was delivered, and cannot be {done} at its source"
                self.fail(found.path, error, delivered=reason, is_known=found.is_delivered, not_removed=True)
                return True
        with self._lock:
            was_transferred = self._arrived.pop(found.path, None) is not None
        if not was_transferred:
            self._tally.add_skipped()
        if self._ledger is not None:
            with suppress(SFTPError):  # what is remembered of a file that is gone does no harm
                yield from self._ledger.settle(found.path)
        self.steps.release(remote, found.path)
        return True

    def _remove_unless_changed(
        self,
        remote: RemoteFiles,
        found: FoundFile,
        versions: list[FileVersion],
        note: Callable[[FileVersion], object],
    ) -> None:
        """Delete or move the source's file.

        If nothing but the change time differs, it most likely has a link, an owner or a permission more or less than
        when it arrived: its bytes are compared, and not sent again.
        """
        for retries_left in range(TOUCHED_RETRIES, -1, -1):
            try:
                retry_while_local_busy(
                    remote.deadline, lambda: self._direction.remove_source(remote, found, versions[0], note)
                )
            except VersionChanged:
                now = self._direction.version_at_source(remote, found)
                is_touched = now != versions[0] and now._replace(changed=None).is_same_as(versions[0])
                proven = self.proven(lambda: self.prove(remote, found)) if is_touched and retries_left else None
                if proven is None:
                    raise
                note(proven)
            else:
                return

    def proven(self, compare: Callable[[], FileVersion | None]) -> FileVersion | None:
        """Return the source's version whose bytes are at the destination, by a hash; `None` if that is not proven."""
        try:
            return compare()
        except SFTPError as error:  # the bytes differ, or cannot be compared: nothing is proven
            if error.scope is not Scope.FILE:
                raise
            logger.debug("%r is not known to be at its destination: %s", error.path, error)
            return None

    def has_vanished(self, remote: RemoteFiles, found: FoundFile) -> bool:
        """Return whether the source's file is not there any more; a refusal proves nothing."""
        try:
            return self._direction.vanished(remote, found)
        except SFTPError as error:
            if error.scope is not Scope.FILE:
                raise
            return False

    def _fail_last_step(self, path: str, error: SFTPError, what: str) -> None:
        self.fail(path, error, delivered=what, not_removed=True)

    def fail(
        self,
        path: str,
        error: SFTPError,
        *,
        delivered: str | None = None,
        is_known: bool = False,
        not_removed: bool = False,
        is_over: bool = True,
    ) -> None:
        """Count a failure, and log the first ones.

        Parameters:
            path: the file's, relative to the source.
            error: the reason.
            delivered: what to say in front of it if the file has arrived all the same.
            is_known: an earlier call has logged it.
            not_removed: it was delivered, and could not be removed at its source.
            is_over: nothing else is to be done with it in this call.
        """
        message = f"{delivered}: {error.message}" if delivered else error.message
        failure = FileFailure(listed(self._order.source, path), error.code, message, delivered is not None)
        if is_over:
            with self._lock:
                self._arrived.pop(path, None)
        if delivered is None and self._on_file is not None:
            dest = listed(self._order.dest, path) if self._order.rename is None else None
            self._on_file(FileOutcome(path, failure.path, dest, code=error.code, message=message))
        is_reported = self._tally.add_failed(failure, not_removed=not_removed)
        if is_reported and delivered is None:
            logger.warning("%r was not transferred: %s: %s", failure.path, failure.code, failure.message)
        elif is_reported and not is_known:
            text = LEFT_BY_MARKER if delivered in {NOT_WRITTEN, NOT_REMOVED} else "%r is still at its source: %s: %s"
            logger.warning(text, failure.path, failure.code, failure.message)
