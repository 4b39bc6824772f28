"""Remote files that were rotated: finish what is here under their old names, and keep it if they are still wanted.

What is here of a file is recorded under its path. A remote file that does not begin with that any more was rotated, or
rewritten. A server reports no inode: so the old one is looked for beside it by its name, which begins with that of the
log or differs by a number, and by its bytes. Its last bytes are appended to what is here, before the new file replaces
that. If it is selected under its new name too, it keeps there what is here, and is not fetched again.
"""

from __future__ import annotations

import heapq
import logging
import os
import posixpath
import re
import stat
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import NotFound, Scope, SFTPError
from iot.sftp.client._files.file_version import FileVersion
from iot.sftp.client._files.listing import entries_of
from iot.sftp.client._folders.destinations import Destinations
from iot.sftp.client._folders.rotation import CANDIDATES, shorter_names
from iot.sftp.client._folders.transferred import Finished
from iot.sftp.client._folders.workers import is_busy
from iot.sftp.client._ssh.packets import OpenFlag, decode_path
from iot.sftp.client._transfer.append_download import RemoteGrowth, WasRotated, append_download
from iot.sftp.client._transfer.download_source import look_at_source
from iot.sftp.client._transfer.growth import NOTHING
from iot.sftp.client._transfer.second_name import give_second_name
from iot.sftp.client._transfer.verify import beginning_is_same

if TYPE_CHECKING:
    from iot.sftp.client._files.local_files import LocalFiles
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._folders.delivery_ledger import SessionLedger
    from iot.sftp.client._folders.folder_order import FolderOrder
    from iot.sftp.client._transfer.growth import Append, GrowthRecord
    from iot.sftp.client._transfer.transfer_context import TransferContext

logger = logging.getLogger(__name__)

LISTINGS = 256  # of one attempt, each for one file that was rotated or rewritten: the folder may hold any number
NUMBER = re.compile(r"[._-]\d+(?=(\.[a-z]\w*)?$)")  # in a rotated name: `app.log.1`, `app.log.2.gz`, `app-3.log`


def without_number(path: str) -> str:
    """Return a path without the number that rotation has given it."""
    directory, name = posixpath.split(path)
    return posixpath.join(directory, NUMBER.sub("", name, count=1))


def earlier_names(path: str) -> list[str]:
    """Return the paths that a rotated file may have had first, the longest one first."""
    return [each for each in dict.fromkeys((*shorter_names(path), without_number(path))) if each != path]


class RemoteRotation:
    """The files of a remote folder that have other names by now; thread-safe, for one attempt."""

    def __init__(
        self,
        order: FolderOrder,
        append: Append,
        source: str,
        dest: LocalFiles,
        *,
        context: TransferContext,
        ledger: SessionLedger,
    ) -> None:
        """Take what is to be done, the folder as the server names it, and what was delivered of each file."""
        self._order = order
        self._append = append
        self._source = source
        self._dest = dest
        self._context = context
        self._ledger = ledger
        self._destinations = Destinations(order)
        self._lock = threading.Lock()  # one rotation at a time: it moves what belongs to other files
        self._listings = LISTINGS

    def may_be_renamed(self, path: str) -> bool:
        """Return whether a file that is not here yet may have been delivered under an earlier name."""
        return any(self._ledger.growth(each) is not None for each in earlier_names(path))

    def settle(self, remote: RemoteFiles, path: str) -> list[Finished]:
        """Finish what is here of the file that had a path before, and what the file that has it now may have had.

        Returns:
            The files whose last bytes were delivered.
        """
        finished: list[Finished] = []
        with self._lock:
            seen = set[str]()
            for each in (path, *earlier_names(path)):
                self._make_way(remote, each, seen, finished)
        return finished

    def _make_way(self, remote: RemoteFiles, path: str, seen: set[str], finished: list[Finished]) -> None:
        """Finish the file that was delivered under a path, if it is not there any more, and keep it if it is wanted."""
        growth = None if path in seen else self._ledger.growth(path)
        seen.add(path)
        if growth is None or not growth.length:
            return
        now = self._name_of(remote, path, growth)
        if now is None or self._is_kept(remote, now, growth):
            return
        try:
            delivered, last = self._finish(remote, path, now, growth)
            place = self._destinations.of(path)
            if self._order.selects(now):
                self._make_way(remote, now, seen, finished)
                place = self._keep(path, now, delivered)
        except WasRotated:  # once more, meanwhile
            return
        except SFTPError as error:
            if error.scope is not Scope.FILE or is_busy(error):
                raise
            logger.warning("%r was rotated to %r, and cannot be finished: %s", path, now, error.message)
            return
        if last is not None:
            finished.append(last._replace(dest=place))

    def _finish(
        self, remote: RemoteFiles, path: str, now: str, growth: GrowthRecord
    ) -> tuple[GrowthRecord, Finished | None]:
        """Append the last bytes of a file that was rotated to what is here of it."""
        source, place = posixpath.join(self._source, now), self._destinations.of(path)
        attributes = look_at_source(remote, source, lambda _seen: None)

        def note_coming(here: GrowthRecord, coming: GrowthRecord) -> None:
            self._ledger.note_growth(path, replace(here, coming=coming), None)

        what = RemoteGrowth(source, attributes, self._append.lines, growth, note_coming, finds_rotated=True)
        done = append_download(remote, what, self._dest, place, self._context)
        self._ledger.note_growth(path, done.record, None)
        logger.info("%r was rotated to %r: its last %d bytes are delivered", path, now, done.sent)
        last = Finished(now, place, done.sent, FileVersion.of_remote(attributes)) if done.sent else None
        return done.record, last

    def _keep(self, path: str, now: str, delivered: GrowthRecord) -> str:
        """Have what is here of a file under its new name too, unless others have written there; return where it is."""
        here, there, known = self._destinations.of(path), self._destinations.of(now), self._ledger.growth(now)
        if not self._may_be_replaced(there, known):
            return here
        self._ledger.note_growth(now, replace(known or NOTHING, coming=delivered), None)
        give_second_name(self._dest, here, there, self._context)
        self._ledger.note_growth(now, delivered, None)
        return there

    def _may_be_replaced(self, place: str, known: GrowthRecord | None) -> bool:
        try:
            with self._dest.source(place) as descriptor:
                is_ours = known is not None and os.fstat(descriptor).st_size <= known.reach
                return is_ours and known is not None and known.is_beginning_of(descriptor)
        except NotFound:
            return True

    def _is_kept(self, remote: RemoteFiles, now: str, growth: GrowthRecord) -> bool:
        """Return whether as much of a file is here under its new name already."""
        known = self._ledger.growth(now) if self._order.selects(now) else None
        if known is None or known.length < growth.length:
            return False
        try:
            with self._dest.source(self._destinations.of(now)) as descriptor:
                return known.is_beginning_of(descriptor) and self._begins(remote, now, descriptor, known)
        except NotFound:
            return False

    def _name_of(self, remote: RemoteFiles, path: str, growth: GrowthRecord) -> str | None:
        """Return the path by now of the file that was delivered under a path; `None` if it is not another one."""
        try:
            with self._dest.source(self._destinations.of(path)) as descriptor:
                if not growth.is_beginning_of(descriptor, remote.deadline.check):
                    return None
                if self._begins(remote, path, descriptor, growth):
                    return None
                for each in self._candidates(remote, path, growth.length):
                    if self._begins(remote, each, descriptor, growth):
                        return each
        except NotFound:
            return None
        logger.info("%r was rotated or rewritten, and what it held before is not beside it any more", path)
        return None

    def _begins(self, remote: RemoteFiles, path: str, descriptor: int, growth: GrowthRecord) -> bool:
        """Return whether a remote file begins with what is here."""
        source = posixpath.join(self._source, path)
        try:
            with remote.opened(source, OpenFlag.READ, wait_for_close=False) as handle:
                return beginning_is_same(remote, handle, source, descriptor, growth.length)
        except SFTPError as error:
            if error.scope is not Scope.FILE:
                raise
            return False  # it is gone, or nobody may read it

    def _candidates(self, remote: RemoteFiles, path: str, length: int) -> list[str]:
        """Return what may be a file that was rotated, beside its old place; the one that was written last first."""
        if self._listings <= 0:
            return []
        self._listings -= 1
        directory, name = posixpath.split(path)
        found = []
        for entry in entries_of(remote, posixpath.join(self._source, directory) if directory else self._source):
            other, there = decode_path(entry.name), entry.attributes
            if other == name or not (other.startswith(name) or without_number(other) == without_number(name)):
                continue
            is_file = stat.S_IFMT(there.mode or 0) in {0, stat.S_IFREG}
            if is_file and (there.size is None or there.size >= length):
                found.append((there.modification_time or 0, other))
                if len(found) > 2 * CANDIDATES:
                    found = heapq.nlargest(CANDIDATES, found)
        return [posixpath.join(directory, other) for _, other in heapq.nlargest(CANDIDATES, found)]
