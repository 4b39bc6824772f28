"""Find what is at its destination already by listing the directories there, rather than by a request for each file.

A second run over a folder mostly finds everything in its place: one answer to READDIR describes a hundred files of
OpenSSH's, one to STAT a single file. Whatever a listing leaves in doubt, and whatever is missing in it, is looked at
when the file's turn comes, as if there had been no listing: a server may have other names for a file than ours. So a
listing that is refused, cut off or never answered costs time, and fails nothing; after one that was not just refused,
no other is asked for in this call.

By name, that is done as soon as a directory of the source was listed: the listings of both sides overlap, over all
directories that are listed at the same time, and what is skipped takes no place on the page. What is left is done page
by page: a directory of very many files, and any other order.
"""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from iot.sftp.client._base.errors import ConnectionLost, HandleInUse, Internal, Scope, SFTPError
from iot.sftp.client._folders.existing_files import is_left_alone, resemble
from iot.sftp.client._folders.folder_order import IfExists
from iot.sftp.client._folders.selection import Order
from iot.sftp.client._folders.workers import run_in_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._folders.deliveries import Deliveries
    from iot.sftp.client._folders.folder_direction import FolderDirection
    from iot.sftp.client._folders.folder_order import FolderOrder
    from iot.sftp.client._folders.folder_page import FolderPage, FoundFile
    from iot.sftp.client._folders.folder_progress import FolderTally
    from iot.sftp.client._folders.workers import ChannelLender

logger = logging.getLogger(__name__)

WORTH_A_LISTING = 16  # files of one directory: fewer are asked about one by one
NAMES_FOR_EACH = 20  # that are looked through for each file at most: the destination may hold many others
LISTINGS_AT_ONCE = 8
SECONDS_FOR_EACH, PART_FOR_EACH = 60.0, 4  # a listing gets so long, and of the time that is left this part at most

Wanted = dict[str, "FoundFile"]  # the files of one directory by their names


class Comparison(NamedTuple):
    """What a listing of the destination shows: the files that are skipped, and which of them resemble what is there."""

    skipped: list[FoundFile]
    alike: list[FoundFile]


class ComparedListings:
    """Skips the files of a page that listings of the destination show to be there."""

    def __init__(
        self, order: FolderOrder, direction: FolderDirection, deliveries: Deliveries, tally: FolderTally
    ) -> None:
        """List nothing yet.

        Parameters:
            order: what is to be done where a file is.
            direction: lists the destination.
            deliveries: remembers what is taken to have arrived.
            tally: counts what is skipped.
        """
        self._if_exists = order.if_exists
        self._selection = order.selection
        self._compared = set[str]()  # directories, before their files came onto the page
        self._direction = direction
        self._deliveries = deliveries
        self._tally = tally
        # Where more than a name, a size and a time decides, each file is looked at by itself
        self._is_enough = (
            order.if_exists in {IfExists.SKIP, IfExists.SKIP_SAME}
            and order.keeps_source
            and order.rename is None
            and order.append is None
            and not order.verify_existing
            and not order.markers.is_used
        )

    @property
    def is_enough(self) -> bool:
        """Whether directories are compared as they are found."""
        return self._is_enough and self._selection.order is Order.NAME

    def skip_in(
        self, directory: str, files: list[FoundFile], page: FolderPage, remote: RemoteFiles, deadline: Deadline
    ) -> list[FoundFile]:
        """Skip files that were just found in a directory, all of that, and return those that are left.

        Raises:
            SFTPError: what ends the attempt.
        """
        start = len(directory) + 1 if directory else 0
        wanted = {found.path[start:]: found for found in files if not found.is_delivered}
        if self._selection.min_age:
            is_too_young = self._selection.is_too_young
            wanted = {name: found for name, found in wanted.items() if not is_too_young(found.version)}
        if len(wanted) < WORTH_A_LISTING:
            return files
        self._compared.add(directory)
        skipped, alike = self._compare(directory, wanted, remote, deadline)
        if not skipped:
            return files
        page.skip(directory, skipped, alike)
        if len(skipped) == len(files):
            return []
        paths = {found.path for found in skipped}
        return [found for found in files if found.path not in paths]

    def note_skipped(self, page: FolderPage) -> int:
        """Count what was left out of a page that is complete by now, and return how many files that were."""
        skipped, alike = page.skipped()
        self._tally.add_skipped(skipped)
        for found in alike:
            self._deliveries.suppose_arrival(found)
        return skipped

    def skip(
        self,
        files: Iterable[FoundFile],
        remove: Callable[[set[str]], object],
        lender: ChannelLender,
        report: Callable[[], object],
    ) -> None:
        """Skip files of a page that was just found, of those directories that were not compared before.

        Parameters:
            files: of the page.
            remove: receives the paths of those that are skipped.
            lender: lends channels.
            report: called ten times a second.

        Raises:
            SFTPError: what ends the attempt; what was skipped by then need not be looked at again.
        """
        compared, self._compared = self._compared, set()
        if not self._is_enough:
            return
        directories = defaultdict[str, Wanted](dict)
        for found in files:
            if not found.is_delivered:
                directory, _, name = found.path.rpartition("/")
                directories[directory][name] = found
        waiting = deque(
            each for each in directories.items() if len(each[1]) >= WORTH_A_LISTING and each[0] not in compared
        )
        skipped = set[str]()
        step = partial(self._compare_waiting, waiting, skipped)
        try:
            run_in_threads(lender, [step] * min(LISTINGS_AT_ONCE, len(waiting)), report)
        finally:
            remove(skipped)

    def _compare_waiting(
        self, waiting: deque[tuple[str, Wanted]], skipped: set[str], lender: ChannelLender, deadline: Deadline
    ) -> None:
        """Compare one directory after the other, in one thread, until none waits."""
        while waiting and self._is_enough:
            try:
                directory, wanted = waiting.popleft()
            except IndexError:
                return
            deadline.check()
            with lender.transfer(deadline) as remote:
                found = self._compare(directory, wanted, remote, deadline)
            for each in found.alike:
                self._deliveries.suppose_arrival(each)
            skipped.update(each.path for each in found.skipped)
            self._tally.add_skipped(len(found.skipped))

    def _compare(self, directory: str, wanted: Wanted, remote: RemoteFiles, deadline: Deadline) -> Comparison:
        """Compare one directory with its destination, as far as that can be listed."""
        found = Comparison([], [])
        seconds = min(SECONDS_FOR_EACH, deadline.remaining() / PART_FOR_EACH)
        try:
            self._compare_directory(remote.within(seconds), directory, wanted, found)
        except SFTPError as error:
            deadline.check()
            self._do_without(remote, directory, error)
        return found

    def _do_without(self, remote: RemoteFiles, directory: str, error: SFTPError) -> None:
        """Leave the files of a directory that cannot be listed to be looked at one by one; raise if nothing can be."""
        if isinstance(error, HandleInUse | Internal):
            raise error
        self._is_enough = self._is_enough and error.scope is Scope.FILE
        logger.debug("%r is not listed at the destination, its files are looked at one by one: %s", directory, error)
        if not remote.is_connected:
            raise ConnectionLost(error.message, path=error.path) from error

    def _compare_directory(self, remote: RemoteFiles, directory: str, wanted: Wanted, comparison: Comparison) -> None:
        """Compare files, as `ExistingFiles` does, with what a listing shows to be regular files."""
        names_left = NAMES_FOR_EACH * len(wanted)
        skipped, alike = comparison
        with closing(self._direction.list_dest(remote, directory)) as listing:
            for some in listing:
                for name, there in some:
                    found = wanted.pop(name, None)
                    if found is None or there is None:
                        continue
                    resembles = resemble(there, found.version)
                    if is_left_alone(self._if_exists, resembles=resembles):
                        skipped.append(found)
                        if resembles:
                            alike.append(found)
                names_left -= len(some)
                if not wanted or names_left <= 0:
                    return
