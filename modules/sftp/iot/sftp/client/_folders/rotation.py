"""Files that were rotated: finish what was delivered under their old names, and keep it if they are still wanted.

What was delivered of a file is recorded under its path. A file that does not begin with that any more was rotated: it
was renamed, or it was copied and cut. The old one is looked for beside it, by its inode and by its bytes, and its last
bytes are delivered. If it is selected under its new name too, it keeps there what was delivered, and is not sent again.
"""

from __future__ import annotations

import logging
import os
import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import Scope, SFTPError
from iot.sftp.client._files.file_version import FileVersion
from iot.sftp.client._folders.transferred import Finished
from iot.sftp.client._folders.workers import is_busy
from iot.sftp.client._transfer.append_dest import beginning_at
from iot.sftp.client._transfer.growth import NOTHING, record_of
from iot.sftp.client._transfer.remote_copy import copy_to
from iot.sftp.client._transfer.replace import replace_remote, replacing

if TYPE_CHECKING:
    from iot.sftp.client._files.local_files import LocalEntry
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._folders.growing_files import GrowingFiles
    from iot.sftp.client._transfer.growth import GrowthRecord

logger = logging.getLogger(__name__)

CANDIDATES = 32  # files of a directory that are compared with what was delivered of one that was rotated
SEPARATORS = frozenset(".-_")  # between a log's name and what rotation appends to it


def shorter_names(path: str) -> list[str]:
    """Return the paths that a rotated file may have had: `app.log` of `app.log.1`, the longest one first."""
    directory, name = posixpath.split(path)
    shorter = [name[:end] for end in range(1, len(name)) if name[end] in SEPARATORS]
    return [posixpath.join(directory, each) for each in reversed(shorter)]


class Rotation:
    """Files that have other names by now, or are others under their names: the oldest one makes way first.

    Attributes:
        finished: the files whose last bytes were delivered.
    """

    def __init__(self, files: GrowingFiles, remote: RemoteFiles) -> None:
        """Look at nothing yet."""
        self._files = files
        self._ledger = files.ledger
        self._remote = remote
        self._seen = set[str]()
        self.finished: list[Finished] = []

    def settle(self, path: str, descriptor: int) -> GrowthRecord | None:
        """Finish what was delivered under a path before; return what was delivered of the file that has it now.

        Parameters:
            path: of the file.
            descriptor: of it.
        """
        growth = self._ledger.growth(path)
        if growth is not None and growth.is_beginning_of(descriptor):
            return growth  # another thread has settled it
        self._make_way(path)
        for other in self._earlier_names(path, descriptor):
            known = self._ledger.growth(other)
            if known is not None and known.length and known.is_beginning_of(descriptor):
                self._make_way(other)
        return self._ledger.growth(path)

    def _earlier_names(self, path: str, descriptor: int) -> list[str]:
        """Return under which paths a file may have been delivered: as its inode, or as a shorter name."""
        known = self._ledger.growing_as(os.fstat(descriptor).st_ino)
        return [each for each in dict.fromkeys((*known, *shorter_names(path))) if each != path]

    def _make_way(self, path: str) -> None:
        """Finish the file that was delivered under a path, if it is not there any more, and keep it if it is wanted."""
        if path in self._seen:
            return
        self._seen.add(path)
        growth = self._ledger.growth(path)
        if growth is None or not growth.length or self._files.holds(path, growth):
            return
        now = self._find(growth, path)
        if now is None:
            logger.info("%r was rotated or rewritten, and what it held before is not beside it any more", path)
            return
        known = self._ledger.growth(now) if self._files.order.selects(now) else None
        if known is not None and known.length >= growth.length and self._files.holds(now, known):
            return  # it has been kept
        try:
            self._finish(path, now, growth)
        except SFTPError as error:
            if error.scope is not Scope.FILE or is_busy(error):
                raise
            logger.warning("%r was rotated to %r, and cannot be finished: %s", path, now, error.message)

    def _finish(self, path: str, now: str, growth: GrowthRecord) -> None:
        """Deliver the last bytes of a file that was rotated; keep it under its new name, if that is selected."""
        files, remote = self._files, self._remote
        with files.source(now) as descriptor:
            if not growth.is_beginning_of(descriptor):
                return
            version = FileVersion.of_local(os.fstat(descriptor))
            done = files.deliver(remote, descriptor, path, growth, files.context)
            self._ledger.note_growth(path, done.record, None)
            logger.info("%r was rotated to %r: its last %d bytes are delivered", path, now, done.sent)
            place = files.place_of(path)
            if files.order.selects(now):
                self._make_way(now)
                self._keep(path, now, descriptor, done.record)
                place = files.place_of(now)
        if done.sent:
            self.finished.append(Finished(now, place, done.sent, version))

    def _keep(self, path: str, now: str, descriptor: int, delivered: GrowthRecord) -> None:
        """Have what was delivered under a path at the destination of its new name, unless others have written there.

        Raises:
            AlreadyExists: they have.
        """
        known = self._ledger.growth(now)
        was_cut = known is not None and not known.is_beginning_of(descriptor)
        there = beginning_at(self._remote, self._files.dest_of(now), descriptor, known, was_cut=was_cut)
        if there.length < delivered.length:
            before = there.known or (record_of(descriptor, there.length) if there.length else NOTHING)
            self._ledger.note_growth(now, replace(before, coming=delivered), None)
            self._move(path, now)
        self._ledger.note_growth(now, delivered, None)

    def _move(self, path: str, now: str) -> None:
        """Give what is at the destination of a path its new name: as a copy, if the server makes it, without a gap."""
        remote, context = self._remote, self._files.context
        here, there = self._files.dest_of(path), self._files.dest_of(now)
        if remote.offers_copy and not remote.traits.refuses_copy:
            copy_to(remote, here, there, remote.stat(here), context)
            return
        with replacing(remote, there, context) as note_backup:
            replace_remote(remote, here, there, note_backup)

    def _find(self, growth: GrowthRecord, path: str) -> str | None:
        """Return the path of the file that begins with what was delivered: beside its old place, by whatever name."""
        directory, name = posixpath.split(path)
        candidates: list[LocalEntry] = []
        for entry in self._files.beside(path, self._remote.deadline.check):
            is_like = entry.version.inode == growth.inode or entry.name.startswith(name)
            if is_like and (entry.version.size or 0) >= growth.length:
                candidates.append(entry)
        candidates.sort(key=lambda entry: (entry.version.inode != growth.inode, -(entry.version.changed or 0)))
        paths = [posixpath.join(directory, entry.name) for entry in candidates[:CANDIDATES]]
        return next((each for each in paths if self._files.holds(each, growth)), None)
