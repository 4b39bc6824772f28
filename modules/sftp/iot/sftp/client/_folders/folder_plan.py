"""Find the files of a folder that are to be transferred, page by page, as many as there is memory for."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import Scope, SFTPError
from iot.sftp.client._base.memory import Budget
from iot.sftp.client._folders.folder_page import FolderPage, FoundFile, UnlistedDirectory, size_of
from iot.sftp.client._folders.folder_progress import FAILURES_REPORTED
from iot.sftp.client._folders.folder_walk import walk
from iot.sftp.client._folders.workers import is_busy, retry_while_local_busy

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._folders.delivery_ledger import SessionLedger
    from iot.sftp.client._folders.folder_direction import FolderDirection
    from iot.sftp.client._folders.folder_order import FolderOrder
    from iot.sftp.client._folders.folder_progress import FolderTally
    from iot.sftp.client._folders.workers import ChannelLender

SMALL = 256 * 1024  # bytes: what is not larger goes in one request or two


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
    ) -> None:
        """Find nothing yet.

        Parameters:
            order: which files.
            direction: lists the source.
            ledger: which versions have arrived before.
            tally: counts what is found.
            fail: receives the path and the reason of a directory that cannot be listed.
        """
        self._order = order
        self._direction = direction
        self._ledger = ledger
        self._tally = tally
        self._fail = fail
        self._next_start: str | None = ""  # where the next page of the folder begins; `None` behind the last one
        self._count = 0  # files and directories found so far
        self._budget: Budget | None = None  # of the names below, which count as long as it is held
        self._ledger_failure: SFTPError | None = None
        self.pages = 0
        self.has_page = False
        self.small: deque[FoundFile] = deque()
        self.large: deque[FoundFile] = deque()

    @property
    def is_done(self) -> bool:
        """Whether all pages were found and worked off."""
        return not self.has_page and self._next_start is None

    def close(self) -> None:
        """Release the names and their memory, also where somebody holds an error of this plan."""
        self.small.clear()
        self.large.clear()
        if self._budget is not None:
            self._budget.close()

    def find_next_page(self, lender: ChannelLender, deadline: Deadline) -> None:
        """Find the next files, as many as there is memory for. Nothing is kept of an attempt that breaks."""
        if self._budget is not None:
            self._budget.close()
        budget, unlisted, reported = Budget(), 0, list[UnlistedDirectory]()
        page = FolderPage(budget, self._next_start or "", self._select, self._direction.excluded, self._count)
        list_one = partial(self._list, lender, deadline, page)
        for directory in walk(list_one, page, recursive=self._order.recursive, ends_all=self._ends_planning):
            unlisted += 1
            # There may be as many as there are names, and each error takes much more memory
            if len(reported) < FAILURES_REPORTED:
                reported.append(directory)
        files, young = list[FoundFile](), 0
        for file in page.files():
            if self._order.is_too_young(file.version) and not file.is_delivered:
                young += 1
            else:
                files.append(file)
        budget.keep_only(sum(size_of(file.path) for file in files))
        for file in files:
            (self.small if file.size <= SMALL else self.large).append(file)
        total = sum(file.size_to_move for file in files)
        self._tally.add_found(len(files), total, young=young, unlisted=unlisted - len(reported))
        self._budget, self._next_start, self.has_page = budget, page.bound, True
        self._count = page.count
        self.pages += 1
        for path, error in reported:
            self._fail(path, error)

    def _select(self, found: FoundFile) -> FoundFile | None:
        """Return a file that is to be transferred, with what the ledger knows of it; `None` for any other."""
        if not self._order.selects(found.path):
            return None
        ledger = self._ledger
        if ledger is None:
            return found
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
            retry_while_local_busy(deadline, lambda: self._direction.list_source(remote, directory, page))

    def _ends_planning(self, error: SFTPError) -> bool:
        return error is self._ledger_failure or error.scope is not Scope.FILE or is_busy(error)
