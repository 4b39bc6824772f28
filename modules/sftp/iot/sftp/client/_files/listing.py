"""List a directory, all of it or page by page, without keeping more of it than the page needs."""

from __future__ import annotations

import posixpath
import stat
from contextlib import closing
from sys import getsizeof
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import NotADirectory, NotFound, PermissionDenied, TooLarge, Unsupported
from iot.sftp.client._base.memory import Budget
from iot.sftp.client._base.messages import NO_SUCH_DIRECTORY
from iot.sftp.client._files.remote_paths import listed
from iot.sftp.client._files.remote_queries import possible_files
from iot.sftp.client._ssh.packets import decode_path

if TYPE_CHECKING:
    from collections.abc import Generator

    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._ssh.packets import Entry

LINKS_IN_FLIGHT = 64
LINKS_KEPT = 4096  # that are not asked about yet: with more, they are asked about before the next entry
SLACK = 1000  # paths that are collected beyond a page before they are sorted and cut
# Bytes that they take beside their own: the place in a list, what allocation rounds up to; and what holds both together
PATH_SIZE, NAME_SIZE = 24, 88


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
    with closing(ListedPaths(remote, directory, limit, longest)) as page:
        try:
            for entry in entries_of(remote, directory):
                name = prefix + decode_path(entry.name)
                if (file_pattern is None or file_pattern in name) and (after is None or name > after):
                    page.add(name, entry)
        except (NotADirectory, NotFound) as error:
            error.path = path
            raise
        return page.paths()


def entries_of(remote: RemoteFiles, directory: str) -> Generator[Entry, None, None]:
    """Yield what is in a directory: see `entries_by_dozens`."""
    for entries in entries_by_dozens(remote, directory):
        yield from entries


def entries_by_dozens(remote: RemoteFiles, directory: str) -> Generator[list[Entry], None, None]:
    """Yield what is in a directory, some at a time.

    Raises:
        NotADirectory: there is a file.
        NotFound, PermissionDenied: nothing is there, or the server refuses.
    """
    has_any = False
    try:
        for entries in remote.all_entries(directory):
            has_any = True
            yield possible_files(entries)
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
            raise NotFound(NO_SUCH_DIRECTORY, path=directory) from None
        message = "this is a file on the server, not a directory"
        raise NotADirectory(message, path=directory) from None
    # Object stores list what is not there as something empty, without the `.` and `..` that a directory has.
    if not has_any and remote.is_missing(directory):
        raise NotFound(NO_SUCH_DIRECTORY, path=directory)


class ListedPaths:
    """Collects the first paths of a listing that comes in any order.

    What sorts behind `limit` files that were found already is not kept. Links, and names without a
    type, are kept beside them until the server was asked: only about those that may be on the page.
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
        """Release all names: an error of the call that somebody keeps does not keep them."""
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
                # A server that never reports types shows everything as a file, rather than nothing.
                if told is not None and stat.S_IFMT(told.mode or 0) in {0, stat.S_IFREG}:
                    self._take(path)

    def _too_large(self) -> TooLarge:
        message = f"the paths have more than {self._longest} characters together: ask for pages"
        return TooLarge(message)


def _size(path: str, name: bytes | None = None) -> int:
    """Return how much memory a path takes, and its name beside it."""
    size = getsizeof(path) + PATH_SIZE
    return size if name is None else size + getsizeof(name) + NAME_SIZE
