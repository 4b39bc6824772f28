"""The files of a folder that are kept at once: pages in one order of all files, as large as memory allows.

A folder may hold more names than there is memory for. So they are found in pages: `FolderPage` keeps the first ones of
those that are wanted, and the next page begins behind them. By name, the order is that of the paths' parts, one after
the other, so that everything in a directory comes together, and a directory that lies outside a page is not even listed
for it. By time, the whole folder is walked for each page, and the directories of a level have to fit into memory.
"""

from __future__ import annotations

import threading
from collections import deque
from operator import attrgetter, itemgetter
from sys import getsizeof
from typing import TYPE_CHECKING, NamedTuple

from iot.sftp.client._base.errors import Busy, SFTPError, TooLarge
from iot.sftp.client._files.file_version import FileVersion
from iot.sftp.client._folders.selection import Order
from iot.sftp.client._folders.skipped_names import SkippedNames

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from iot.sftp.client._base.memory import Budget

Rank = tuple[int, str]  # what sorts files: by a time in nanoseconds, or 0; and by `key_of` their paths
FIRST: Rank = (-(1 << 127), "")
MOST_FOUND = 10_000_000  # files and directories of a folder: more are taken for a folder without end
KEPT_AT_LEAST = 0.75  # of what there is memory for, where more is found
LISTINGS_AT_FIRST = 16  # directories, while nothing shows how much is in each
FOUND_SIZE = 400  # bytes that a file takes beside its path, most of them for its version
LATEST_SKIPPED = 4096  # of the files that were left out, which are kept for those who want to remember them

PATH = attrgetter("path")


class FoundFile(NamedTuple):
    """A file in a folder.

    Attributes:
        path: relative to the folder.
        version: which version of the file was seen there.
        seen: a moment on the monotonic clock: it was looked at then, or later.
        was_restored: `LocalFiles.entries` has just restored it after a process was killed.
        is_delivered: this version has arrived before; only its source is to be removed.
    """

    path: str
    version: FileVersion
    seen: float = 0.0
    was_restored: bool = False
    is_delivered: bool = False

    @property
    def size(self) -> int:
        """Its size in bytes; 0 if it is not known."""
        return self.version.size or 0

    @property
    def size_to_move(self) -> int:
        """How many bytes are to be transferred."""
        return 0 if self.is_delivered else self.size


class UnlistedDirectory(NamedTuple):
    """A directory in a folder that could not be listed, and why."""

    path: str
    error: SFTPError


def key_of(path: str) -> str:
    """Return what sorts paths part by part: what is in a directory comes together, and in front of its siblings."""
    return path.replace("/", "\0")  # which no path holds, and nothing sorts in front of


def rank_of(found: FoundFile, order: Order) -> Rank:
    """Return what sorts a file among all others; one without a time counts as the oldest."""
    if order is Order.NAME:
        return 0, key_of(found.path)
    time = found.version.modified or 0
    return (time if order is Order.OLDEST else -time), key_of(found.path)


class FolderPage:
    """The first files of a folder, from one place in the order of all files on, as many as there is memory for.

    Files and directories are added in any order and from several threads, while the folder is walked. If there is no
    memory left, the last ones of what was kept are discarded, and everything behind them is left to the next page.

    Attributes:
        bound: where the next page begins; `None` if nothing is left for it.
        count: files and directories that were found on this page and those before.
    """

    def __init__(
        self,
        budget: Budget,
        start: Rank = FIRST,
        choose: Callable[[list[FoundFile]], list[FoundFile]] = lambda files: files,
        count: int = 0,
        *,
        wants: Callable[[str], bool] | None = None,
        enters: Callable[[str], bool] = lambda _path: True,
        order: Order = Order.NAME,
        end: Rank | None = None,
    ) -> None:
        """Keep nothing yet.

        Parameters:
            budget: the memory for the names.
            start: the `bound` of the page before.
            choose: returns what is to be kept of wanted files that were found: the same, more of them, or fewer.
            count: that of the page before.
            wants: returns whether a file is wanted at all, by its path; `None` if all are.
            enters: returns whether any file in a directory may be wanted.
            order: what sorts the files.
            end: the first rank behind the page; `None` for no other limit than memory.
        """
        self._budget = budget
        self._start = start
        self._choose = choose
        self._wants = wants
        self._enters = enters
        self._order = order
        self._lock = threading.Lock()
        self._files: list[FoundFile] = []
        self._directories: list[str] = []  # of the next level
        self._level = set[str]()  # of the level that is being listed, those that are not listed yet
        self._listed, self._used_before = 0, 0.0  # directories of the level, and of the memory before the level
        self._cuts = 0
        self._skipped = SkippedNames()
        self._latest_skipped = deque[FoundFile](maxlen=LATEST_SKIPPED)
        self.count = count
        self.bound = end

    def covers(self, path: str) -> bool:
        """Return whether a file may belong to this page, as far as its path shows by now."""
        is_wanted = self._wants is None or self._wants(path)
        return is_wanted and (self._order is not Order.NAME or self._holds((0, key_of(path))))

    def goes_into(self, path: str) -> bool:
        """Return whether anything in a directory may belong to this page."""
        if not self._enters(path):
            return False
        if self._order is not Order.NAME:
            return True
        key = key_of(path)
        is_before = (0, key) < self._start and not self._start[1].startswith(f"{key}\0")
        return not is_before and (self.bound is None or (0, key) < self.bound)

    def _holds(self, rank: Rank) -> bool:
        return rank >= self._start and (self.bound is None or rank < self.bound)

    def add_files(self, files: list[FoundFile]) -> None:
        """Take files into account: see `chosen` and `keep`."""
        self.keep(self.chosen(files))

    def chosen(self, files: list[FoundFile]) -> list[FoundFile]:
        """Return what is to be kept of files that were found, as far as they may belong to this page."""
        if (wants := self._wants) is not None:
            files = [found for found in files if wants(found.path)]
        if self._start != FIRST or self.bound is not None:
            files = [found for found in files if self._holds(rank_of(found, self._order))]
        return self._choose(files)

    def keep(self, files: Sequence[FoundFile]) -> None:
        """Keep chosen files, one by one where there is no memory for all.

        Raises:
            TooLarge, Busy: there is no memory for even one name.
        """
        if len(files) > 1 and self._take_all(files):
            with self._lock:
                self._files.extend(files)
            return
        for found in files:
            rank = rank_of(found, self._order)
            if self._holds(rank) and self._take(found.path, lambda: self._holds(rank)):  # noqa: B023 - now
                with self._lock:
                    self._files.append(found)

    def skip(self, directory: str, files: list[FoundFile], alike: list[FoundFile]) -> None:
        """Leave chosen files of a directory out, since they are at their destination: only by name.

        Parameters:
            directory: the path of theirs.
            files: those that are left out.
            alike: those of them that resemble what is there.
        """
        prefix = f"{key_of(directory)}\0" if directory else ""
        with self._lock:
            self._skipped.add(prefix, [found.path[len(prefix) :] for found in files])
            self._latest_skipped.extend(alike)

    def skipped(self) -> tuple[int, list[FoundFile]]:
        """Return how many files of the page were left out, and the last ones that were alike, when all was walked.

        Raises:
            TooLarge: the folder has no end.
        """
        latest = [found for found in self._latest_skipped if self._holds(rank_of(found, self._order))]
        number = self._skipped.count(None if self.bound is None else self.bound[1])
        self._count(number)
        return number, latest

    def add_directory(self, path: str) -> None:
        """Take a directory into account, to be listed for the next level; raises as `keep` does."""
        if self.goes_into(path) and self._take(path, lambda: self.goes_into(path)):
            with self._lock:
                self._directories.append(path)

    def next_level(self) -> list[str]:
        """Return the directories that were added since the last call, sorted."""
        with self._lock:
            added, self._directories = self._directories, []
            self._level = set(added)
            self._budget.give_back(sum(map(size_of, added)) - sum(map(size_of, self._level)))
            self._listed, self._used_before = 0, self._budget.used
            return sorted(self._level, key=key_of)

    def likely_to_fit(self, finished: int) -> int:
        """Return how many further directories are likely to fit, if they hold as much as those before on their level.

        Parameters:
            finished: how many have been listed, beside those that were let go.
        """
        if self._skipped.is_full:
            return 0
        used = self._budget.used
        by_these = used - self._used_before
        if not self._listed + finished or by_these <= 0:
            return LISTINGS_AT_FIRST
        return int((self._listed + finished) * (1 - used) / by_these)

    def end_if_full(self, directory: str) -> None:
        """End in front of a directory of the level if it is not likely to fit, before it is listed in vain.

        All that are in front of it on this level have been listed.
        """
        is_full = self._skipped.is_full or self._budget.used >= KEPT_AT_LEAST
        if self._order is Order.NAME and is_full and self.likely_to_fit(0) < 1:
            with self._lock:
                bound = 0, key_of(directory)
                if bound > self._start and (self.bound is None or bound < self.bound):
                    self.bound = bound

    def let_go(self, directory: str, *, is_listed: bool = True) -> None:
        """Record that a directory of `next_level` has been listed, or need not be.

        Raises:
            TooLarge: the folder has no end.
        """
        with self._lock:
            if directory in self._level:
                self._level.remove(directory)
                self._budget.give_back(size_of(directory))
            self._listed += is_listed
        self._count(1)

    def files(self) -> list[FoundFile]:
        """Return the page, sorted, when all of the folder was walked; a file that was found twice is in it once.

        Raises:
            TooLarge: the folder has no end.
        """
        order = self._order
        ranked = [(rank_of(found, order), found) for found in {found.path: found for found in self._files}.values()]
        if self.bound is not None:
            ranked = [each for each in ranked if self._holds(each[0])]
        ranked.sort(key=itemgetter(0))
        self._files = [found for _, found in ranked]
        self._count(len(self._files))
        return self._files

    def _count(self, number: int) -> None:
        self.count += number
        if self.count > MOST_FOUND:
            message = f"the folder holds more than {MOST_FOUND} names, without an end: transfer its parts one by one"
            raise TooLarge(message)

    def _take_all(self, files: Sequence[FoundFile]) -> bool:
        """Find memory for files; return whether there is enough."""
        size = sum(map(getsizeof, map(PATH, files))) + FOUND_SIZE * len(files)
        try:
            self._budget.take(size)
        except (TooLarge, Busy):
            self._budget.give_back(size)
            return False
        return True

    def _take(self, path: str, is_wanted: Callable[[], bool]) -> bool:
        """Find memory for a path; return whether it still is on this page."""
        size = size_of(path)
        while True:
            cuts = self._cuts
            try:
                self._budget.take(size)
            except (TooLarge, Busy):
                self._budget.give_back(size)
                with self._lock:
                    # Of the threads that find no memory at the same moment, one makes room for all
                    if cuts == self._cuts and not self._cut():
                        raise
                if not is_wanted():
                    return False
            else:
                return True

    def _cut(self) -> bool:
        """Discard the end of what is kept; return whether that has made room, and leaves this page something."""
        is_by_name = self._order is Order.NAME  # of a directory, no time says what is in it
        ranks = [rank_of(found, self._order) for found in self._files]
        if is_by_name:
            ranks += [(0, key_of(path)) for path in (*self._directories, *self._level)]
        ranks.sort()
        bound = next((rank for rank in ranks[int(len(ranks) * KEPT_AT_LEAST) :] if rank > self._start), None)
        if bound is None or (self.bound is not None and bound >= self.bound):
            return False
        self.bound = bound
        self._cuts += 1
        before = self._size()
        self._files = [found for found in self._files if rank_of(found, self._order) < bound]
        if is_by_name:
            self._directories = [path for path in self._directories if key_of(path) < bound[1]]
            self._level = {path for path in self._level if key_of(path) < bound[1]}
        self._budget.give_back(before - self._size())
        return True

    def _size(self) -> int:
        paths = (*(found.path for found in self._files), *self._directories, *self._level)
        return sum(map(size_of, paths))


def size_of(path: str) -> int:
    """Return how much memory what is found under a path takes."""
    return getsizeof(path) + FOUND_SIZE
