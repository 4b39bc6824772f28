"""Listing a directory, whole or page by page, without keeping more of it than the page needs."""

from __future__ import annotations

import gc
import posixpath
import stat
import threading
from contextlib import closing
from sys import getsizeof
from typing import TYPE_CHECKING
from weakref import WeakSet

from iot.sftp.client._errors import Busy, NotADirectory, NotFound, PermissionDenied, TooLarge, Unsupported
from iot.sftp.client._memory import memory_limit
from iot.sftp.client._packets import decode_path
from iot.sftp.client._remote_paths import listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iot.sftp.client._errors import SFTPError
    from iot.sftp.client._packets import Entry
    from iot.sftp.client._remote_files import RemoteFiles

LINKS_IN_FLIGHT = 64
LINKS_KEPT = 4096  # that are not asked about yet: more are asked about before the listing goes on
SLACK = 1000  # paths that are collected beyond a page before they are sorted and cut
# Bytes that the names of all calls may take together: a million names of 255 letters fit in. Where the memory that this
# process may use is small, it is only this part of it: there are other things to keep, and answers that are on the way.
MOST_KEPT = 512 * 1024 * 1024
PART_KEPT = 4
STEP = 64 * 1024  # bytes by which a budget grows, so that not each name is settled with all other calls
# Bytes that they take beside their own: the place in a list, what allocation rounds up to; and what holds both together
PATH_SIZE, NAME_SIZE = 24, 88

_lock = threading.Lock()
_budgets: WeakSet[Budget] = WeakSet()


def most_kept() -> int:
    """Return how many bytes the names of all calls of this process may take together."""
    limit = memory_limit()
    return MOST_KEPT if limit is None else min(MOST_KEPT, limit // PART_KEPT)


class Budget:
    """The memory for the names that one call keeps, in one thread or several, out of what there is for all calls.

    So no server can fill all memory, nor can several calls at once. It counts until it is closed, or until nobody holds
    it any more: it is to be held by what holds the names.

    Attributes:
        granted: bytes that may be kept without asking. Those of all calls together never are more than `most_kept`.
    """

    def __init__(self) -> None:
        """Nothing is kept yet."""
        self._most = most_kept()
        self._kept = 0
        self.granted = 0
        with _lock:
            _budgets.add(self)

    def take(self, size: int) -> None:
        """Take note that so many bytes are kept.

        Raises:
            TooLarge: there never is room for so much.
            Busy: there is none beside what other calls keep.
        """
        with _lock:
            self._kept += size
            if self._kept <= self.granted:
                return
        if self._grant():
            return
        if self._kept <= self._most:
            gc.collect()  # the names of a call that broke may be in the way, and only wait to be collected
            if self._grant():
                return
        raise self._refusal()

    def give_back(self, size: int) -> None:
        """Take note that so many bytes are not kept any more."""
        with _lock:
            self._kept -= size
            self.granted = min(self.granted, self._kept + STEP)

    def keep_only(self, size: int) -> None:
        """Take note that of all that was taken so many bytes are left."""
        with _lock:
            self._kept = self.granted = size

    def close(self) -> None:
        """Take note that nothing is kept any more."""
        self.keep_only(0)

    def _grant(self) -> bool:
        with _lock:
            room = self._most - sum(budget.granted for budget in _budgets if budget is not self)
            if self._kept > room:
                return False
            self.granted = min(self._kept + STEP, room)
            return True

    def _refusal(self) -> SFTPError:
        most = f"{self._most >> 20} MiB of memory"
        if self._kept > self._most:
            message = (
                f"the names take more than {most}: ask for pages of a listing, transfer the parts of a folder one by "
                "one, or allow this process more memory"
            )
            return TooLarge(message)
        message = f"the names, and those that other calls keep, take more than {most}: try again when others have ended"
        return Busy(message)


def list_files(
    remote: RemoteFiles,
    directory: str,
    path: str,
    file_pattern: str | None,
    *,
    limit: int | None = None,
    after: str | None = None,
    longest: int | None = None,
) -> list[str]:
    """Return the sorted paths, as the caller sees them below `path`, of the files directly in a directory.

    A link to a file is a file.

    Parameters:
        remote: the server's files.
        directory: the server's path of the directory.
        path: the caller's path of it.
        file_pattern: a substring of the paths.
        limit: so many at most, the first ones.
        after: only those that sort after this path.
        longest: characters that the paths may have together.

    Raises:
        TooLarge: they have more, or take more memory than any listing may; where there is no limit, the rest of the
            directory is not waited for.
        Busy: there is no memory for them beside the names that other calls keep.
        NotADirectory: there is a file at `path`.
        NotFound: nothing is there.
    """
    prefix = listed(path, "")
    with closing(_Page(remote, directory, limit, longest)) as page:
        try:
            for entry in entries_of(remote, directory):
                name = prefix + decode_path(entry.name)
                if (file_pattern is None or file_pattern in name) and (after is None or name > after):
                    page.add(name, entry)
        except (NotADirectory, NotFound) as error:
            error.path = path
            raise
        return page.paths()


def entries_of(remote: RemoteFiles, directory: str) -> Iterator[Entry]:
    """Give what is in a directory.

    Raises:
        NotADirectory: there is a file.
        NotFound, PermissionDenied: nothing is there, or the server refuses.
    """
    try:
        yield from remote.entries(directory)
    except (NotFound, NotADirectory, PermissionDenied) as refusal:
        # Servers do not say that a path is no directory: it is "no such file" or just a failure. Others (Erlang's) say
        # that it is none of what is not there.
        try:
            kind = remote.kind_of(directory)
        except (PermissionDenied, Unsupported):
            raise refusal from None
        if kind in {0, stat.S_IFDIR}:
            raise
        if kind is None:
            message = "there is no such directory on the server"
            raise NotFound(message, path=directory) from None
        message = "this is a file on the server, not a directory"
        raise NotADirectory(message, path=directory) from None


class _Page:
    """Collects the first paths of a listing that comes in any order.

    What sorts behind `limit` files that were found already is not kept. Links, and what the server does not tell the
    type of, are kept beside them until the server was asked: only about those that may be on the page.
    """

    def __init__(self, remote: RemoteFiles, directory: str, limit: int | None, longest: int | None) -> None:
        self._remote = remote
        self._directory = directory
        self._limit = limit
        self._longest = longest
        self._length = 0
        self._budget = Budget()
        self._files: list[str] = []
        self._unknown: list[tuple[str, bytes]] = []
        self._last: str | None = None  # nothing behind this one is on the page

    def add(self, path: str, entry: Entry) -> None:
        """Take one more path into account."""
        if self._last is not None and path > self._last:
            return
        kind = stat.S_IFMT(entry.attributes.mode or 0)
        if kind == stat.S_IFREG:
            self._take(path)
        elif kind in {0, stat.S_IFLNK}:
            self._budget.take(_size(path, entry.name))
            self._unknown.append((path, entry.name))
            if len(self._unknown) >= LINKS_KEPT:
                self._resolve()

    def paths(self) -> list[str]:
        """Return the page, when all was added."""
        self._cut()
        self._resolve()
        self._cut()
        if self._longest is not None and sum(map(len, self._files)) > self._longest:
            raise self._too_large()
        return self._files

    def close(self) -> None:
        """Keep nothing any more: whoever holds the error of a call that failed does not hold its names."""
        self._files, self._unknown = [], []
        self._budget.close()

    def _take(self, path: str) -> None:
        self._budget.take(_size(path))
        self._files.append(path)
        if self._limit is None:
            self._length += len(path)
            if self._longest is not None and self._length > self._longest:
                raise self._too_large()
        elif len(self._files) >= 2 * self._limit + SLACK:
            self._cut()

    def _cut(self) -> None:
        self._files.sort()
        if self._limit is not None and len(self._files) >= self._limit:
            last = self._last = self._files[self._limit - 1]
            self._budget.give_back(sum(map(_size, self._files[self._limit :])))
            self._budget.give_back(sum(_size(path, name) for path, name in self._unknown if path >= last))
            del self._files[self._limit :]
            self._unknown = [(path, name) for path, name in self._unknown if path < last]

    def _resolve(self) -> None:
        """Ask the server about links, many at once."""
        unknown, self._unknown = self._unknown, []
        self._budget.give_back(sum(_size(path, name) for path, name in unknown))
        for start in range(0, len(unknown), LINKS_IN_FLIGHT):
            some = unknown[start : start + LINKS_IN_FLIGHT]
            answers = self._remote.attributes_of(
                [posixpath.join(self._directory, decode_path(name)) for _, name in some]
            )
            for (path, _), told in zip(some, answers, strict=True):
                # A server that never tells types shows everything as a file, rather than nothing.
                if told is not None and stat.S_IFMT(told.mode or 0) in {0, stat.S_IFREG}:
                    self._take(path)

    def _too_large(self) -> TooLarge:
        message = f"the paths have more than {self._longest} characters together: ask for pages"
        return TooLarge(message)


def _size(path: str, name: bytes | None = None) -> int:
    """Return how much memory a path takes, and its name beside it."""
    size = getsizeof(path) + PATH_SIZE
    return size if name is None else size + getsizeof(name) + NAME_SIZE
