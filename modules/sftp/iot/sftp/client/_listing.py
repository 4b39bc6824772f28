"""Listing a directory, whole or page by page, without keeping more of it than the page needs."""

from __future__ import annotations

import posixpath
import stat
import sys
import threading
from typing import TYPE_CHECKING

from iot.sftp.client._errors import NotADirectory, NotFound, PermissionDenied, TooLarge
from iot.sftp.client._packets import decode_path
from iot.sftp.client._remote_paths import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from iot.sftp.client._packets import Entry
    from iot.sftp.client._remote_files import RemoteFiles

LINKS_IN_FLIGHT = 64
LINKS_KEPT = 4096  # that are not asked about yet: more are asked about before the listing goes on
SLACK = 1000  # paths that are collected beyond a page before they are sorted and cut
# Bytes of memory that the names of one call may take. A million names of 255 letters fit in.
MOST_KEPT = 512 * 1024 * 1024


class Budget:
    """The memory for the names that one call keeps, in one thread or several: no server can fill all there is."""

    def __init__(self) -> None:
        """Nothing is kept yet."""
        self._lock = threading.Lock()
        self._kept = 0

    def take(self, path: str, more: int = 0) -> None:
        """Take note that a path is kept, and so many bytes beside it.

        Raises:
            TooLarge: there is no room for it.
        """
        with self._lock:
            self._kept += sys.getsizeof(path) + more
            if self._kept > MOST_KEPT:
                message = (
                    f"the names that the server gives take more than {MOST_KEPT >> 20} MiB: ask for a part of them"
                )
                raise TooLarge(message)

    def give_back(self, paths: Iterable[str]) -> None:
        """Take note that paths are not kept any more."""
        with self._lock:
            self._kept -= sum(map(sys.getsizeof, paths))


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

    A link to a file is a file. `[]` if nothing is there.

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
        NotADirectory: there is a file at `path`.
    """
    page = _Page(remote, directory, limit, longest)
    prefix = listed(path, "")
    try:
        for entry in entries_of(remote, directory):
            name = prefix + decode_path(entry.name)
            if (file_pattern is None or file_pattern in name) and (after is None or name > after):
                page.add(name, entry)
    except NotADirectory as error:
        error.path = path
        raise
    except NotFound:
        return []
    return page.paths()


def entries_of(remote: RemoteFiles, directory: str) -> Iterator[Entry]:
    """Give what is in a directory.

    Raises:
        NotADirectory: there is a file.
        NotFound, PermissionDenied: nothing is there, or the server refuses.
    """
    try:
        yield from remote.entries(directory)
    except (NotFound, NotADirectory, PermissionDenied):
        # Servers do not say that a path is no directory: it is "no such file" or just a failure.
        kind = remote.kind_of(directory)
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
            self._budget.take(path)
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

    def _take(self, path: str) -> None:
        self._budget.take(path)
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
            self._budget.give_back(self._files[self._limit :])
            self._budget.give_back(path for path, _ in self._unknown if path >= last)
            del self._files[self._limit :]
            self._unknown = [(path, name) for path, name in self._unknown if path < last]

    def _resolve(self) -> None:
        """Ask the server about links, many at once."""
        unknown, self._unknown = self._unknown, []
        self._budget.give_back(path for path, _ in unknown)
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
