"""What is done where something is at a file's destination: `if_exists`, and what has arrived before."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import AlreadyExists
from iot.sftp.client._files.file_version import SECOND, FileVersion
from iot.sftp.client._files.numbered_names import numbered_in_parts
from iot.sftp.client._folders.folder_order import IfExists
from iot.sftp.client._transfer.put_in_place import already_exists

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._base.steps import Steps
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._folders.deliveries import Deliveries
    from iot.sftp.client._folders.destinations import Destinations
    from iot.sftp.client._folders.folder_direction import FolderDirection
    from iot.sftp.client._folders.folder_order import FolderOrder
    from iot.sftp.client._folders.folder_page import FoundFile

COMPARED = 16  # files at the destination, with the bytes of one at the source
LATEST = 0xFFFFFFFF * SECOND  # nanoseconds since 1970: SFTP version 3 has no later time


class ExistingFiles:
    """Finds out where a file is to be written, and whether it is at all; thread-safe."""

    def __init__(
        self,
        order: FolderOrder,
        direction: FolderDirection,
        deliveries: Deliveries,
        destinations: Destinations,
        accept: Callable[[FoundFile, FileVersion], object],
    ) -> None:
        """Look at nothing yet.

        Parameters:
            order: what is to be done where a file is.
            direction: looks at both sides.
            deliveries: what has arrived.
            destinations: chooses paths.
            accept: receives the version that has arrived; raises to skip the file.
        """
        self._order = order
        self._direction = direction
        self._deliveries = deliveries
        self._destinations = destinations
        self._accept = accept

    def target_of(self, remote: RemoteFiles, found: FoundFile) -> Steps[str | None]:
        """Return, in steps, where a file is to be written, relative to the destination; `None` if it is not.

        What is proven to be the same is recorded as an arrival.

        Raises:
            AlreadyExists: something is there, and is to be left alone.
        """
        dest = self._destinations.of(found.path)
        if self._order.if_exists is IfExists.RENAME:
            return self._free_of(remote, found, dest)
        return None if (yield from self._is_to_be_skipped(remote, found, dest)) else dest

    def _is_to_be_skipped(self, remote: RemoteFiles, found: FoundFile, dest: str) -> Steps[bool]:
        order = self._order
        is_replaced = order.if_exists in {IfExists.REPLACE, IfExists.BACKUP}
        if is_replaced and not order.verify_existing and not found.is_delivered:
            return False
        there = yield from self._direction.looking_at_dest(remote, dest)
        if there is None:
            return False
        at_source = self._at_source(remote, found)
        is_proven = self._is_proven(remote, found, at_source, there, dest)
        if is_proven is not None:
            is_skipped = is_proven or order.if_exists is IfExists.SKIP
        else:
            resembles = resemble(there, at_source)
            is_skipped = is_left_alone(order.if_exists, resembles=resembles)
            if resembles and is_skipped:
                self._deliveries.suppose_arrival(found)
        if order.if_exists is IfExists.FAIL and not is_skipped and not self._direction.may_have_arrived(found, dest):
            raise already_exists(dest)
        return is_skipped

    def _free_of(self, remote: RemoteFiles, found: FoundFile, dest: str) -> str | None:
        """Return the first path that is free, with a number if need be; `None` if the file is under one of them."""
        chosen = self._destinations.chosen(found.path)
        if chosen is not None:  # by an attempt that has broken: it may have arrived there
            return chosen
        taken = list[tuple[str, FileVersion]]()
        for dests in numbered_in_parts(dest):
            for each, there in zip(dests, self._direction.versions_at_dest(remote, dests), strict=True):
                if there is not None and not self._direction.may_have_arrived(found, each):
                    taken.append((each, there))
                    continue
                if there is None and self._has_arrived_as_one_of(remote, found, taken):
                    return None
                taken.clear()
                if self._destinations.choose(found.path, each):
                    return each
        message = "all numbered names are taken at the destination"
        raise AlreadyExists(message, path=dest)

    def _has_arrived_as_one_of(
        self, remote: RemoteFiles, found: FoundFile, taken: list[tuple[str, FileVersion]]
    ) -> bool:
        """Return whether a file is under one of the names that are taken, where a crash may have hidden its arrival."""
        if not self._order.verify_existing or not taken:
            return False
        proven = self._proven_among(remote, found, taken)
        if proven is None:
            return False
        dest, version = proven
        self._accept(found, version)
        self._deliveries.note_proven(remote, found, version, dest)
        return True

    def _proven_among(
        self, remote: RemoteFiles, found: FoundFile, taken: list[tuple[str, FileVersion]]
    ) -> tuple[str, FileVersion] | None:
        """Return the name that the source's bytes have, of these, and their version; the last ones are compared."""
        at_source = self._at_source(remote, found)
        # Not every server keeps times, and the sizes of all may be the same: no more are compared than arrive at once
        alike = [each for each, there in taken if there.size == at_source.size]
        same = [each for each, there in taken if resemble(there, at_source)]
        for dest in dict.fromkeys((*reversed(same[-COMPARED:]), *reversed(alike[-COMPARED:]))):
            version = self._deliveries.proven(partial(self._direction.proven_version, remote, found, dest))
            if version is not None:
                return dest, version
        return None

    def proven_version(self, remote: RemoteFiles, found: FoundFile) -> FileVersion | None:
        """Return the source's version whose bytes are at the destination, under whichever number; else `None`."""
        dest = self._destinations.of(found.path)
        if self._order.if_exists is not IfExists.RENAME:
            return self._direction.proven_version(remote, found, dest)
        taken = list[tuple[str, FileVersion]]()
        for dests in numbered_in_parts(dest):
            versions = self._direction.versions_at_dest(remote, dests)
            taken += [(each, there) for each, there in zip(dests, versions, strict=True) if there is not None]
            if None in versions:
                break
        proven = self._proven_among(remote, found, taken)
        return None if proven is None else proven[1]

    def _is_proven(
        self, remote: RemoteFiles, found: FoundFile, at_source: FileVersion, there: FileVersion, dest: str
    ) -> bool | None:
        """Return whether what is there has the same bytes, which is an arrival; `None` if that is not asked."""
        order = self._order
        if order.keeps_source and not order.verify_existing:
            return None
        # Where a side does not report the time, its size has to be enough of a reason to compare the bytes; and so it
        # has where the file would be refused after a crash, as it is there
        may_have_crashed = order.verify_existing and order.if_exists is IfExists.FAIL
        is_vague = None in (there.modified, at_source.modified) or may_have_crashed
        if not resemble(there, at_source) and not (is_vague and there.size == at_source.size):
            return False
        version = self._deliveries.proven(lambda: self._direction.proven_version(remote, found, dest))
        if version is None:
            return False
        self._accept(found, version)
        self._deliveries.note_proven(remote, found, version, dest)
        return True

    def _at_source(self, remote: RemoteFiles, found: FoundFile) -> FileVersion:
        if found.version.modified is None:  # by the listing
            return self._direction.version_at_source(remote, found)
        return found.version


def is_left_alone(if_exists: IfExists, *, resembles: bool) -> bool:
    """Return whether what is at a file's destination is left alone, where nothing is proven."""
    return if_exists is IfExists.SKIP or (if_exists is IfExists.SKIP_SAME and resembles)


def resemble(there: FileVersion, at_source: FileVersion) -> bool:
    """Return whether two sides' files have the same size and the same time, as far as SFTP can tell."""
    size, modified = there.size, there.modified
    if size is None or size != at_source.size or modified is None or at_source.modified is None:
        return False
    return _as_sftp_reports(modified) == _as_sftp_reports(at_source.modified)


def _as_sftp_reports(modified: int) -> int:
    """Return the nearest time that SFTP version 3 can report: 1970 to 2106, in whole seconds."""
    return (modified if 0 <= modified <= LATEST else max(0, min(LATEST, modified))) // SECOND
