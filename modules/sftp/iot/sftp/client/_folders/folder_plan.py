"""Find the files of a folder that are to be transferred, page by page, as many as there is memory for."""

from __future__ import annotations

import logging
import posixpath
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import Scope, SFTPError
from iot.sftp.client._base.memory import Budget
from iot.sftp.client._files.file_version import SECOND
from iot.sftp.client._folders.findings import DirectoryFindings
from iot.sftp.client._folders.folder_page import FIRST, FolderPage, FoundFile, UnlistedDirectory, rank_of, size_of
from iot.sftp.client._folders.folder_progress import FAILURES_REPORTED
from iot.sftp.client._folders.folder_walk import walk
from iot.sftp.client._folders.selection import Order
from iot.sftp.client._folders.workers import is_busy, retry_while_local_busy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._folders.compared_listings import ComparedListings
    from iot.sftp.client._folders.delivery_ledger import SessionLedger
    from iot.sftp.client._folders.folder_direction import FolderDirection
    from iot.sftp.client._folders.folder_order import FolderOrder
    from iot.sftp.client._folders.folder_page import Rank
    from iot.sftp.client._folders.folder_progress import FolderTally
    from iot.sftp.client._folders.workers import ChannelLender

logger = logging.getLogger(__name__)

SMALL = 256 * 1024  # bytes: what is not larger goes in one request or two
PAGE = 16 * 1024 * 1024  # bytes for the names of a page, at first: some 30,000 files
LOOK_AGAIN_AFTER = 1.0  # seconds at least until a folder is listed again for newer files, where the newest come first
LOOK_AGAIN_PART = 10  # of the time is spent on that at most: a tenth
AHEAD = 86_400 * SECOND  # nanoseconds that a server's clock may be ahead of ours


class FolderPlan:
    """The files of one page that are still to be transferred, and where the next page begins.

    Attributes:
        small: files that go in one request or two.
        large: all others.
        pages: how many pages were found.
        has_page: whether a page was found and is not worked off yet.
    """

    def __init__(
        self,
        order: FolderOrder,
        direction: FolderDirection,
        ledger: SessionLedger | None,
        tally: FolderTally,
        fail: Callable[[str, SFTPError], object],
        *,
        listings: ComparedListings,
    ) -> None:
        """Find nothing yet.

        Parameters:
            order: which files.
            direction: lists the source.
            ledger: which versions have arrived before.
            tally: counts what is found.
            fail: receives the path and the reason of a directory that cannot be listed.
            listings: show what is at its destination already.
        """
        self._order = order
        self._direction = direction
        self._ledger = ledger
        self._tally = tally
        self._fail = fail
        self._listings = listings
        self._next_start: Rank | None = FIRST  # where the next page of the folder begins; `None` behind the last one
        self._page_size = PAGE
        self._count = 0  # files and directories found so far
        self._budgets: list[Budget] = []  # of the names below, which count as long as they are held
        self._ledger_failure: SFTPError | None = None
        self._newest: Rank | None = None  # of the files found so far; what appears is before it, if it is newer
        self._newer: dict[str, FoundFile] = {}  # what has appeared while this page is worked off
        self._next_look = 0.0
        self.pages = 0
        self.has_page = False
        self.small: deque[FoundFile] = deque()
        self.large: deque[FoundFile] = deque()

    @property
    def is_done(self) -> bool:
        """Whether all pages were found and worked off."""
        return not self.has_page and self._next_start is None

    @property
    def is_waiting(self) -> bool:
        """Whether files wait for their turn."""
        return bool(self.small or self.large)

    def remove(self, paths: set[str]) -> None:
        """Take out files that need not be looked at any more."""
        if paths:
            self.small = deque(found for found in self.small if found.path not in paths)
            self.large = deque(found for found in self.large if found.path not in paths)

    def close(self) -> None:
        """Release the names and their memory, also where somebody holds an error of this plan."""
        self.small.clear()
        self.large.clear()
        self._newer.clear()
        for budget in self._budgets:
            budget.close()
        self._budgets.clear()

    def find_next_page(self, lender: ChannelLender, deadline: Deadline) -> None:
        """Find the next files, as many as there is memory for. Nothing is kept of an attempt that breaks."""
        self.close()
        unlisted, reported = 0, list[UnlistedDirectory]()
        budget, page = self._new_page(self._next_start or FIRST)
        for directory in self._walk(lender, deadline, page):
            unlisted += 1
            # There may be as many as there are names, and each error takes much more memory
            if len(reported) < FAILURES_REPORTED:
                reported.append(directory)
        files, young = self._old_enough(page)
        self._add(budget, files)
        self.small.extend(file for file in files if file.size <= SMALL)
        self.large.extend(file for file in files if file.size > SMALL)
        total = sum(file.size_to_move for file in files)
        skipped = self._listings.note_skipped(page)
        self._tally.add_found(len(files) + skipped, total, young=young, unlisted=unlisted - len(reported))
        self._next_start, self.has_page = page.bound, True
        # Of one large directory, each page lists all of it
        is_of_one = bool(files) and posixpath.dirname(files[0].path) == posixpath.dirname(files[-1].path)
        self._page_size = 2 * self._page_size if is_of_one else PAGE
        self._count = page.count
        self.pages += 1
        for path, error in reported:
            self._fail(path, error)

    def look_for_newer(self, lender: ChannelLender, deadline: Deadline) -> None:
        """Have files that appear meanwhile go before those that wait, as long as any do."""
        while self.is_waiting:
            if time.monotonic() >= self._next_look:
                self._find_newer(lender, deadline)
            deadline.pause(LOOK_AGAIN_AFTER / 10)
            deadline.check()

    def is_superseded(self, found: FoundFile) -> bool:
        """Return whether a file whose turn has come is found again as a newer one, or has arrived as such already."""
        newer = self._newer.get(found.path)
        if newer is None:
            return False
        if newer.version != found.version:
            return True
        return not found.is_delivered and self._ledger is not None and self._ledger.knows(found.path, found.version)

    def _find_newer(self, lender: ChannelLender, deadline: Deadline) -> None:
        """Find files that are newer than all that were found before, and have them come first.

        What is dated a day ahead was found with the first page, and would hide everything that is not.
        """
        ahead = -(time.time_ns() + AHEAD), ""
        start = ahead if self._newest is None or self._newest >= ahead else FIRST
        budget, page = self._new_page(start, self._newest)
        try:
            for _ in self._walk(lender, deadline, page):
                pass  # it was reported with the first page
        except SFTPError as error:
            if self._ends_planning(error):
                raise
            logger.debug("%r is not listed again for newer files: %s", self._order.source, error)
            return
        files, _ = self._old_enough(page)
        for file in files:
            self._newer[file.path] = file
        self._tally.add_found(len(files), sum(file.size_to_move for file in files), young=0, unlisted=0)
        self._add(budget, files)
        self.small.extendleft(file for file in reversed(files) if file.size <= SMALL)
        self.large.extendleft(file for file in reversed(files) if file.size > SMALL)

    def _new_page(self, start: Rank, end: Rank | None = None) -> tuple[Budget, FolderPage]:
        excluded, selection = self._direction.excluded, self._order.selection
        budget = Budget(self._page_size if selection.order is Order.NAME else None)
        page = FolderPage(
            budget,
            start,
            self._select,
            self._count,
            wants=self._order.selects if _is_selective(self._order) else None,
            enters=lambda path: path not in excluded and selection.goes_into(path),
            order=selection.order,
            end=end,
        )
        return budget, page

    def _walk(self, lender: ChannelLender, deadline: Deadline, page: FolderPage) -> Iterator[UnlistedDirectory]:
        """Walk the folder onto a page; give the directories that could not be listed."""
        started = time.monotonic()
        list_one = partial(self._list, lender, deadline, page)
        try:
            yield from walk(list_one, page, recursive=self._order.selection.recursive, ends_all=self._ends_planning)
        finally:
            now = time.monotonic()
            self._next_look = now + max(LOOK_AGAIN_AFTER, LOOK_AGAIN_PART * (now - started))

    def _old_enough(self, page: FolderPage) -> tuple[list[FoundFile], int]:
        """Return the files of a page that are not too young, and how many are."""
        if not self._order.selection.min_age:
            return page.files(), 0
        files, young = list[FoundFile](), 0
        for file in page.files():
            if self._order.selection.is_too_young(file.version) and not file.is_delivered:
                young += 1
            else:
                files.append(file)
        return files, young

    def _add(self, budget: Budget, files: list[FoundFile]) -> None:
        """Account for files that are to be transferred."""
        budget.keep_only(sum(size_of(file.path) for file in files))
        self._budgets.append(budget)
        if self._order.selection.order is Order.NEWEST:
            ahead = -(time.time_ns() + AHEAD), ""
            ranks = [rank_of(file, Order.NEWEST) for file in files]
            newest = min((rank for rank in ranks if rank >= ahead), default=min(ranks, default=None))
            if newest is not None:
                self._newest = newest if self._newest is None else min(self._newest, newest)

    def _select(self, files: list[FoundFile]) -> list[FoundFile]:
        """Return the files that are to be transferred, with what the ledger knows of them."""
        ledger = self._ledger
        if ledger is None or ledger.is_empty:
            return files
        return [chosen for found in files if (chosen := self._selected(ledger, found)) is not None]

    def _selected(self, ledger: SessionLedger, found: FoundFile) -> FoundFile | None:
        """Return a file that is to be transferred, with what the ledger knows of it; `None` for any other."""
        try:
            if found.was_restored:  # which has changed its change time, and nothing else
                is_known = ledger.knows(found.path, found.version._replace(changed=None))
                if is_known:
                    ledger.note(found.path, found.version)
            else:
                is_known = ledger.knows(found.path, found.version)
        except SFTPError as error:
            self._ledger_failure = error
            raise
        if not is_known:
            return found
        # Without a time in the listing, the server may report more of the single file
        is_settled = self._order.keeps_source and found.version.modified is not None
        return None if is_settled else found._replace(is_delivered=True)

    def _list(self, lender: ChannelLender, deadline: Deadline, page: FolderPage, directory: str) -> None:
        deadline.check()
        with lender.transfer(deadline) as remote:
            if not self._listings.is_enough:
                retry_while_local_busy(deadline, lambda: self._direction.list_source(remote, directory, page))
                return
            files = retry_while_local_busy(deadline, lambda: self._found_in(remote, directory, page))
            page.keep(self._listings.skip_in(directory, files, page, remote, deadline))

    def _found_in(self, remote: RemoteFiles, directory: str, page: FolderPage) -> list[FoundFile]:
        """Return the files of a directory, to be compared before they are kept."""
        findings = DirectoryFindings(page)
        self._direction.list_source(remote, directory, findings)
        return findings.files

    def _ends_planning(self, error: SFTPError) -> bool:
        return error is self._ledger_failure or error.scope is not Scope.FILE or is_busy(error)


def _is_selective(order: FolderOrder) -> bool:
    """Return whether an order may leave out any file by its path."""
    selection = order.selection
    has_patterns = selection.include or selection.exclude or selection.file_pattern is not None
    return bool(has_patterns) or order.markers.wait is not None
