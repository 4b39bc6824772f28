"""List everything in a directory with its details, all of it or page by page: see also `listing`, for files only."""

from __future__ import annotations

import posixpath
from contextlib import closing
from dataclasses import replace
from sys import getsizeof
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import NotADirectory, NotFound, TooLarge
from iot.sftp.client._base.memory import Budget
from iot.sftp.client._files.file_info import FileInfo
from iot.sftp.client._files.listing import LINKS_IN_FLIGHT, SLACK, entries_of
from iot.sftp.client._files.remote_paths import listed
from iot.sftp.client._ssh.packets import decode_path

if TYPE_CHECKING:
    from iot.sftp.client._files.remote_files import RemoteFiles

INFO_SIZE = 240  # bytes that a `FileInfo` takes beside its path: the object, its three numbers, its place in a list


def list_directory(
    remote: RemoteFiles,
    directory: str,
    path: str,
    *,
    limit: int | None = None,
    after: str | None = None,
    longest: int | None = None,
) -> list[FileInfo]:
    """Return what is directly in a directory, sorted by path; links are not followed.

    Parameters:
        remote: the server's files.
        directory: the server's path of the directory.
        path: the caller's path of it.
        limit: so many at most, the first ones.
        after: only those that sort after this path.
        longest: characters that their paths may have together; with `limit`, the page is cut to these, but never to
            nothing.

    Raises:
        TooLarge: there is no limit, and the paths have more; or they take more memory than any listing may.
        Busy: there is no memory for them beside the names that other calls keep.
        NotADirectory: there is a file at `path`.
        NotFound: nothing is there.
    """
    prefix = listed(path, "")
    with closing(_DirectoryPage(limit, longest)) as page:
        try:
            for entry in entries_of(remote, directory):
                name = prefix + decode_path(entry.name)
                if after is None or name > after:
                    page.add(FileInfo.of(name, entry.attributes))
        except (NotADirectory, NotFound) as error:
            error.path = path
            raise
        return _with_kinds(remote, directory, page.first())


def info_of(remote: RemoteFiles, place: str, path: str) -> FileInfo | None:
    """Return what the server reports of a path, links followed; `None` if it says that nothing is there.

    Parameters:
        remote: the server's files.
        place: the server's path.
        path: the caller's path of it.
    """
    try:
        info = FileInfo.of(path, remote.stat(place))
    except (NotFound, NotADirectory):
        return None
    if info.kind is None and remote.is_listable(place):
        return replace(info, kind="directory")
    return info


class _DirectoryPage:
    """Collects the first entries of a listing that comes in any order: no more are kept than a page needs."""

    def __init__(self, limit: int | None, longest: int | None) -> None:
        self._limit = limit
        self._longest = longest
        self._length = 0
        self._budget = Budget()
        self._found: list[FileInfo] = []
        self._last: str | None = None  # nothing behind this one is on the page

    def add(self, info: FileInfo) -> None:
        """Take one more entry into account."""
        if self._last is not None and info.path > self._last:
            return
        self._budget.take(_size(info))
        self._found.append(info)
        if self._limit is not None:
            if len(self._found) >= 2 * self._limit + SLACK:
                self._cut(self._limit)
            return
        self._length += len(info.path)
        if self._longest is not None and self._length > self._longest:
            message = f"the paths have more than {self._longest} characters together: ask for pages"
            raise TooLarge(message)

    def first(self) -> list[FileInfo]:
        """Return the page, when all was added."""
        self._cut(len(self._found) if self._limit is None else self._limit)
        if self._longest is not None:
            self._cut(max(1, self._fitting(self._longest)))
        return self._found

    def close(self) -> None:
        """Release all names."""
        self._found = []
        self._budget.close()

    def _cut(self, count: int) -> None:
        self._found.sort(key=lambda info: info.path)
        if 0 < count <= len(self._found):
            self._last = self._found[count - 1].path
        self._budget.give_back(sum(map(_size, self._found[count:])))
        del self._found[count:]

    def _fitting(self, longest: int) -> int:
        """Return how many of the first entries have so many characters together."""
        for count, info in enumerate(self._found):
            longest -= len(info.path)
            if longest < 0:
                return count
        return len(self._found)


def _with_kinds(remote: RemoteFiles, directory: str, found: list[FileInfo]) -> list[FileInfo]:
    """Ask the server what those are whose type the listing does not show, many at once."""
    unknown = [place for place, info in enumerate(found) if info.kind is None]
    for start in range(0, len(unknown), LINKS_IN_FLIGHT):
        places = unknown[start : start + LINKS_IN_FLIGHT]
        paths = [posixpath.join(directory, posixpath.basename(found[place].path)) for place in places]
        for place, attributes in zip(places, remote.attributes_of(paths, follow_links=False), strict=True):
            if attributes is not None:
                found[place] = FileInfo.of(found[place].path, attributes)
    return found


def _size(info: FileInfo) -> int:
    return getsizeof(info.path) + INFO_SIZE
