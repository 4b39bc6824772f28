"""Find what is at its destination already by listing the directories there, rather than by a request for each file.

A second run over a folder mostly finds everything in its place: one answer to READDIR describes a hundred files of
OpenSSH's, one to STAT a single file. Whatever a listing leaves in doubt, and whatever is missing in it, is looked at
when the file's turn comes, as if there had been no listing: a server may have other names for a file than ours. So a
listing that is refused, cut off or never answered costs time, and fails nothing; after one that was not just refused,
no other is asked for in this call.
"""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import ConnectionLost, HandleInUse, Internal, Scope, SFTPError
from iot.sftp.client._folders.existing_files import is_left_alone, resemble
from iot.sftp.client._folders.folder_order import IfExists
from iot.sftp.client._folders.workers import run_in_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._files.file_version import FileVersion
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._folders.deliveries import Deliveries
    from iot.sftp.client._folders.folder_direction import FolderDirection
    from iot.sftp.client._folders.folder_order import FolderOrder
    from iot.sftp.client._folders.folder_page import FoundFile
    from iot.sftp.client._folders.folder_plan import FolderPlan
    from iot.sftp.client._folders.folder_progress import FolderTally
    from iot.sftp.client._folders.workers import ChannelLender

logger = logging.getLogger(__name__)

WORTH_A_LISTING = 16  # files of one directory: fewer are asked about one by one
NAMES_FOR_EACH = 20  # that are looked through for each file at most: the destination may hold many others
LISTINGS_AT_ONCE = 8
SECONDS_FOR_EACH, PART_FOR_EACH = 60.0, 4  # a listing gets so long, and of the time that is left this part at most

Wanted = dict[str, "FoundFile"]  # the files of one directory by their names


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

    def skip(self, plan: FolderPlan, lender: ChannelLender, report: Callable[[], object]) -> None:
        """Skip files of a page that was just found.

        Raises:
            SFTPError: what ends the attempt; what was skipped by then need not be looked at again.
        """
        if not self._is_enough:
            return
        directories = defaultdict[str, Wanted](dict)
        for found in (*plan.small, *plan.large):
            if not found.is_delivered:
                directory, _, name = found.path.rpartition("/")
                directories[directory][name] = found
        waiting = deque(each for each in directories.items() if len(each[1]) >= WORTH_A_LISTING)
        skipped = set[str]()
        step = partial(self._compare, waiting, skipped)
        try:
            run_in_threads(lender, [step] * min(LISTINGS_AT_ONCE, len(waiting)), report)
        finally:
            plan.remove(skipped)

    def _compare(
        self, waiting: deque[tuple[str, Wanted]], skipped: set[str], lender: ChannelLender, deadline: Deadline
    ) -> None:
        """Compare one directory after the other, in one thread, until none waits."""
        while waiting and self._is_enough:
            try:
                directory, wanted = waiting.popleft()
            except IndexError:
                return
            deadline.check()
            seconds = min(SECONDS_FOR_EACH, deadline.remaining() / PART_FOR_EACH)
            with lender.transfer(deadline) as remote:
                try:
                    self._compare_directory(remote.within(seconds), directory, wanted, skipped)
                except SFTPError as error:
                    deadline.check()
                    self._do_without(remote, directory, error)

    def _do_without(self, remote: RemoteFiles, directory: str, error: SFTPError) -> None:
        """Leave the files of a directory that cannot be listed to be looked at one by one; raise if nothing can be."""
        if isinstance(error, HandleInUse | Internal):
            raise error
        self._is_enough = self._is_enough and error.scope is Scope.FILE
        logger.debug("%r is not listed at the destination, its files are looked at one by one: %s", directory, error)
        if not remote.is_connected:
            raise ConnectionLost(error.message, path=error.path) from error

    def _compare_directory(self, remote: RemoteFiles, directory: str, wanted: Wanted, skipped: set[str]) -> None:
        names_left = NAMES_FOR_EACH * len(wanted)
        paths = list[str]()
        try:
            with closing(self._direction.list_dest(remote, directory)) as there:
                for name, version in there:
                    names_left -= 1
                    found = wanted.pop(name, None)
                    if found is not None and self._is_skipped(found, version):
                        paths.append(found.path)
                    if not wanted or not names_left:
                        return
        finally:
            skipped.update(paths)
            self._tally.add_skipped(len(paths))

    def _is_skipped(self, found: FoundFile, there: FileVersion | None) -> bool:
        """Return whether a file is skipped, as `ExistingFiles` does; `there` is `None` for what is no regular file."""
        if there is None:
            return False
        resembles = resemble(there, found.version)
        if not is_left_alone(self._if_exists, resembles=resembles):
            return False
        if resembles:
            self._deliveries.suppose_arrival(found)
        return True
