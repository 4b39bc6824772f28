"""Transfer a folder: many files in flight at once over one connection, each complete or not at all.

A file by itself costs a few round trips. Here the steps of many files are in flight together: small files by the
dozen; large ones, each of which fills the link by itself, a few at a time, so that the memory for what is in flight is
bounded. One file's failure is reported and does not stop the others; after a broken connection only what is not done is
done again.
"""

from __future__ import annotations

import posixpath
from functools import partial
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import Scope, SFTPError
from iot.sftp.client._base.steps import finish
from iot.sftp.client._folders.batch import run_together
from iot.sftp.client._folders.compared_listings import ComparedListings
from iot.sftp.client._folders.deliveries import Deliveries
from iot.sftp.client._folders.file_delivery import FileDelivery
from iot.sftp.client._folders.folder_order import IfExists
from iot.sftp.client._folders.folder_plan import FolderPlan
from iot.sftp.client._folders.folder_progress import FolderProgress, FolderTally, FolderTransfer
from iot.sftp.client._folders.quarantine_run import QuarantineRun
from iot.sftp.client._folders.selection import Order
from iot.sftp.client._folders.workers import Step, run_in_threads
from iot.sftp.client._transfer.file_order import Direction

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterator

    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._base.steps import Steps
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._folders.delivery_ledger import SessionLedger
    from iot.sftp.client._folders.folder_direction import FolderDirection
    from iot.sftp.client._folders.folder_order import FolderOrder
    from iot.sftp.client._folders.folder_page import FoundFile
    from iot.sftp.client._folders.folder_progress import FileOutcome
    from iot.sftp.client._folders.workers import ChannelLender

SMALL_AT_ONCE, LARGE_AT_ONCE = 64, 4  # files in flight, each in a thread of its own
BATCHES_AT_ONCE, BATCH = 4, 32  # threads, and small files that each of them has in flight
SEVERAL = 2  # small files from which on they go together: one by itself has nobody to share a step with
BATCH_SIZE = 1024 * 1024  # bytes from which on no further file is added to a batch
READY = 4  # threads of each kind at least, where files may appear that go before those that wait
IDLE_PAUSE = 0.05  # seconds


class FolderRun:
    """The transfer of one folder, over as many attempts as it takes: what is done stays done."""

    def __init__(
        self,
        order: FolderOrder,
        direction: FolderDirection,
        ledger: SessionLedger | None,
        progress: Callable[[FolderProgress], object] | None,
        on_file: Callable[[FileOutcome], object] | None = None,
    ) -> None:
        """Start nothing yet.

        Parameters:
            order: which files, and how.
            direction: how its files are listed, transferred and removed.
            ledger: which versions of files have arrived before.
            progress: receives each change, at most ten times a second, in the thread of `attempt`.
            on_file: receives what becomes of each file, in the threads that transfer them.
        """
        self._direction = direction
        self._progress = progress
        self._has_markers = order.markers.is_used
        self._newest_first = order.selection.order is Order.NEWEST
        self._is_plain = _is_plain(order) and (ledger is None or ledger.gathers)
        self._tally = FolderTally()
        self._deliveries = Deliveries(order, direction, ledger, self._tally, on_file)
        self._quarantine = QuarantineRun(order, direction, self._deliveries, self._tally, on_file)
        self._delivery = FileDelivery(order, direction, self._deliveries, self._tally, self._quarantine)
        self._listings = ComparedListings(order, direction, self._deliveries, self._tally)
        self._plan = FolderPlan(order, direction, ledger, self._tally, self._deliveries.fail, listings=self._listings)
        self._attempts = 0
        self._reported = FolderProgress()

    @property
    def done(self) -> int:
        """How much is done: it grows with each file that need not be looked at again."""
        return self._plan.pages + self._tally.settled

    def result(self, seconds: float) -> FolderTransfer:
        """Return what was done."""
        return FolderTransfer(**vars(self._tally.snapshot()), seconds=seconds, attempts=self._attempts)

    def close(self) -> None:
        """Release all names, also where somebody holds the error of this run: it is not resumed."""
        self._delivery.busy.clear()
        self._deliveries.clear()
        self._plan.close()

    def attempt(self, lender: ChannelLender) -> None:
        """Do all that is not done yet over a connection.

        Raises:
            SFTPError: what ended it for all files: see `Scope`, and the folder itself that could not be listed.
        """
        self._attempts += 1
        self._direction.begin()
        plan, delivery = self._plan, self._delivery
        try:
            if self._has_markers:
                run_in_threads(lender, [self._catch_up], self._report)
            while not plan.is_done:
                if not plan.has_page:
                    run_in_threads(lender, [plan.find_next_page], self._report)
                    self._listings.skip((*plan.small, *plan.large), plan.remove, lender, self._report)
                self._work_off_page(lender)
                # What a broken attempt has left may just have been cleaned up, which holds a destination for a moment.
                plan.small += delivery.busy
                delivery.busy, delivery.is_second_round = [], True
                self._work_off_page(lender)
                plan.has_page = delivery.is_second_round = False
            if self._has_markers or self._quarantine.has_failures:
                run_in_threads(lender, [self._end], self._report)
        finally:
            self._direction.end()
            self._report()

    def _catch_up(self, lender: ChannelLender, deadline: Deadline) -> None:
        """Do what earlier calls have left to do, before anything else is found."""
        with lender.transfer(deadline) as remote:
            self._deliveries.steps.catch_up(remote)

    def _end(self, lender: ChannelLender, deadline: Deadline) -> None:
        """Do what can be decided only when all files have had their turn."""
        with lender.transfer(deadline) as remote:
            self._quarantine.put_aside(remote)
            self._deliveries.steps.release_shared(remote)

    def _report(self) -> None:
        """Report progress, if there is any."""
        now = self._tally.snapshot()
        if self._progress is not None and now != self._reported:
            self._reported = now
            self._progress(now)

    def _work_off_page(self, lender: ChannelLender) -> None:
        plan = self._plan
        while plan.is_waiting:
            goes_together = self._goes_together(lender)
            if goes_together:
                self._have_directories_made(lender)
            widths = ((plan.small, 0 if goes_together else SMALL_AT_ONCE), (plan.large, LARGE_AT_ONCE))
            least = READY if self._newest_first else 0
            queues = [queue for queue, width in widths for _ in range(max(least, min(width, len(queue))))]
            steps: list[Step] = [partial(self._work_off, queue) for queue in queues]
            if goes_together:
                steps += [self._work_off_together] * min(BATCHES_AT_ONCE, -(-len(plan.small) // BATCH))
            if self._newest_first:
                steps.append(plan.look_for_newer)
            run_in_threads(lender, steps, self._report, needs_all=self._newest_first)

    def _goes_together(self, lender: ChannelLender) -> bool:
        """Return whether one thread may have several small files in flight: one answer is the last one then."""
        if not self._is_plain or len(self._plan.small) < SEVERAL:
            return False
        with lender.transfer() as remote:
            return remote.traits.keeps_order

    def _have_directories_made(self, lender: ChannelLender) -> None:
        """Have the directories made that small files go to: each takes round trips, for which a batch would wait."""
        first_files: dict[str, FoundFile] = {}  # of each directory
        for found in self._plan.small:
            if not found.is_delivered:  # whoever took it away may have removed its directory too
                first_files.setdefault(posixpath.dirname(found.path), found)
        if len(first_files) > 1:
            files = [*reversed(first_files.values())]
            steps: list[Step] = [partial(self._make, files)] * min(SMALL_AT_ONCE, len(files))
            run_in_threads(lender, steps, self._report)

    def _make(self, files: list[FoundFile], lender: ChannelLender, deadline: Deadline) -> None:
        """Make the directories of files, one after the other, in one thread; a failure is met again by the files."""
        while True:
            deadline.check()
            try:
                found = files.pop()
            except IndexError:
                return
            try:
                with lender.transfer(deadline) as remote:
                    self._direction.make_directory_of(remote, found)
            except SFTPError as error:
                if error.scope is Scope.CALL:
                    raise

    def _work_off_together(self, lender: ChannelLender, deadline: Deadline) -> None:
        """Deliver one batch of small files after the other, in one thread, until no file waits."""
        queue = self._plan.small
        while queue:
            deadline.check()
            with lender.transfer(deadline) as remote:
                run_together(remote, self._next_batch(remote, deadline))

    def _next_batch(self, remote: RemoteFiles, deadline: Deadline) -> Iterator[Steps[None]]:
        """Take small files from those that wait, as they are begun."""
        size = count = 0
        queue = self._plan.small
        while count < (1 if self._delivery.was_short else BATCH) and size < BATCH_SIZE:
            try:
                found = queue.popleft()
            except IndexError:
                return
            size += found.size
            count += 1
            yield self._delivering(remote, deadline, found)

    def _delivering(self, remote: RemoteFiles, deadline: Deadline, found: FoundFile) -> Steps[None]:
        try:
            deadline.check()
            yield from self._delivery.deliver(remote, found)
        except BaseException:
            self._plan.small.appendleft(found)  # for the next attempt
            raise

    def _work_off(self, queue: deque[FoundFile], lender: ChannelLender, deadline: Deadline) -> None:
        """Deliver one file after the other, in one thread, until no file waits."""
        while True:
            try:
                found = queue.popleft()
            except IndexError:
                if not self._newest_first or not self._plan.is_waiting:
                    return
                deadline.pause(IDLE_PAUSE)
                deadline.check()
                continue
            try:
                deadline.check()
                if self._plan.is_superseded(found):
                    self._tally.remove_found(found.size_to_move)
                    continue
                with lender.transfer(deadline) as remote:
                    finish(self._delivery.deliver(remote, found))
            except BaseException:
                queue.appendleft(found)  # for the next attempt
                raise


def _is_plain(order: FolderOrder) -> bool:
    """Return whether each small file takes a fixed number of steps, the same for all of them and in any order."""
    is_local = order.keeps_source or order.direction is Direction.UPLOAD  # what becomes of a source
    looks_at_dest = order.verify_existing or order.if_exists not in {IfExists.REPLACE, IfExists.SKIP_SAME}
    reads_back = order.verify != "size" or order.append is not None
    is_in_turn = order.markers.is_used or order.selection.order is Order.NEWEST
    keeps_path = order.rename is None  # so that the directories are known
    return is_local and not looks_at_dest and not reads_back and not is_in_turn and keeps_path
