"""Put files aside at their source that fail by themselves again and again, when a call has dealt with all others."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from iot.sftp.client._base.errors import NotFound, Scope, SFTPError
from iot.sftp.client._files.remote_paths import listed
from iot.sftp.client._folders.folder_progress import FileOutcome
from iot.sftp.client._folders.quarantine import is_own_failure
from iot.sftp.client._folders.workers import retry_while_local_busy

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._folders.deliveries import Deliveries
    from iot.sftp.client._folders.folder_direction import FolderDirection
    from iot.sftp.client._folders.folder_order import FolderOrder
    from iot.sftp.client._folders.folder_page import FoundFile
    from iot.sftp.client._folders.folder_progress import FolderTally
    from iot.sftp.client._folders.quarantine import FailureCounts, Quarantine

logger = logging.getLogger(__name__)

MOST_COUNTED = 10_000  # failures of one call, about a kilobyte each; others are counted when these are put aside


class _Failure(NamedTuple):
    """A file that has failed, and why."""

    found: FoundFile
    error: SFTPError


class QuarantineRun:
    """The failures of one call, over all its attempts; `note` and `forget` are thread-safe."""

    def __init__(
        self,
        order: FolderOrder,
        direction: FolderDirection,
        deliveries: Deliveries,
        tally: FolderTally,
        on_file: Callable[[FileOutcome], object] | None,
    ) -> None:
        """Have no failures yet.

        Parameters:
            order: whether, when and where files are put aside.
            direction: moves them.
            deliveries: the steps with their markers.
            tally: counts them.
            on_file: receives what has become of them.
        """
        self._order = order
        self._direction = direction
        self._deliveries = deliveries
        self._tally = tally
        self._on_file = on_file
        self._failures: list[_Failure] = []

    @property
    def has_failures(self) -> bool:
        """Whether there is anything to be decided at the end."""
        return bool(self._failures)

    def note(self, found: FoundFile, error: SFTPError) -> None:
        """Note a file that could not be transferred."""
        if self._counts is not None and len(self._failures) < MOST_COUNTED:
            error.__traceback__ = None  # which would keep all that the transfer had in its hands
            self._failures.append(_Failure(found, error))

    def forget(self, path: str) -> None:
        """Forget the earlier failures of a file that has arrived."""
        if self._counts is not None:
            try:
                self._counts.forget(path)
            except SFTPError as error:  # a later failure of the same version is not likely
                logger.debug("the failures of %r are still recorded: %s", path, error)

    def put_aside(self, remote: RemoteFiles) -> None:
        """Count the failures that are the files' own, and put those aside that have failed often enough.

        Raises:
            SFTPError: what ends the call.
        """
        quarantine, counts = self._order.quarantine, self._counts
        while self._failures and quarantine is not None and counts is not None:
            remote.deadline.check()
            found, error = self._failures[-1]
            if self._is_own(found, error) and self._is_due(quarantine, counts, found):
                self._move(remote, quarantine, found, error)
            self._failures.pop()

    @property
    def _counts(self) -> FailureCounts | None:
        return None if self._order.quarantine is None else self._order.quarantine.counts

    def _is_own(self, found: FoundFile, error: SFTPError) -> bool:
        return is_own_failure(
            error,
            is_about_source=self._direction.is_about_source(error, found.path),
            have_others_arrived=self._tally.delivered > 0,
        )

    @staticmethod
    def _is_due(quarantine: Quarantine, counts: FailureCounts, found: FoundFile) -> bool:
        try:
            return counts.add(found.path, found.version) >= quarantine.after
        except SFTPError as error:
            logger.debug("the failure of %r cannot be recorded: %s", found.path, error)
            return False

    def _move(self, remote: RemoteFiles, quarantine: Quarantine, found: FoundFile, error: SFTPError) -> None:
        """Put a file aside; where that fails, it stays a file that has failed."""
        shown, steps, version = listed(self._order.source, found.path), self._deliveries.steps, found.version
        try:
            steps.spend(remote, found.path, version, move_to=quarantine.folder)
            target = quarantine.target_of(found.path)
            place = retry_while_local_busy(
                remote.deadline, lambda: self._direction.put_aside(remote, found.path, version, target)
            )
        except SFTPError as refusal:
            if isinstance(refusal, NotFound) and self._deliveries.has_vanished(remote, found):
                steps.release(remote, found.path)  # by an earlier request, whose answer was lost, or others
                return
            steps.keep(found.path)
            if refusal.scope is Scope.CALL:
                raise
            logger.warning("%r fails by itself, and cannot be put aside: %s: %s", shown, refusal.code, refusal.message)
            return
        logger.warning("%r was put aside as %r, as it fails by itself: %s: %s", shown, place, error.code, error.message)
        self._tally.add_quarantined(shown)
        if self._on_file is not None:
            size, modified = version.size, version.modified
            self._on_file(FileOutcome(found.path, shown, place, size, modified, error.code, error.message, True))  # noqa: FBT003 - is_quarantined
        self.forget(found.path)
        steps.release(remote, found.path, place)
