"""What is in a folder: files to be transferred, on either side, as deep as is asked for, as many as memory allows.

A folder may hold more names than there is memory for. So they are found in pages: `Page` keeps the first ones of those
that are wanted, in one order of all paths, and the next page begins behind them. The order is that of the paths' parts,
one after the other, so that everything in a directory comes together, and a directory that lies outside a page is not
even listed for it.
"""

from __future__ import annotations

import posixpath
import stat
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from sys import getsizeof
from typing import TYPE_CHECKING, NamedTuple

from iot.sftp.client._base.errors import Busy, PathNotAllowed, SFTPError, TooLarge
from iot.sftp.client._files.file_version import FileVersion
from iot.sftp.client._files.listing import LINKS_IN_FLIGHT, entries_of
from iot.sftp.client._files.remote_paths import TEMPORARY_PREFIX
from iot.sftp.client._ssh.packets import Attributes, decode_path

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from concurrent.futures import Executor, Future

    from iot.sftp.client._base.memory import Budget
    from iot.sftp.client._files.local_files import LocalFiles
    from iot.sftp.client._files.remote_files import RemoteFiles

DEEPEST = 100  # folders within folders: a server that shows links as folders could lead round and round
MOST_FOUND = 10_000_000  # files and directories of a folder: one that goes on behind them has no end
LISTINGS_AT_ONCE = 16
LISTINGS_AHEAD = 64  # that are under way or done before their turn comes
FOUND_SIZE = 400  # bytes that a file takes beside its path, most of them for its version


class Found(NamedTuple):
    """A file in a folder.

    Attributes:
        path: relative to the folder.
        version: which version of the file was seen there.
        seen: a moment on the clock that nobody can set (`time.monotonic`): it was looked at then, or later.
        was_taken: it has just been put back by `LocalFiles.entries`.
        is_delivered: this version has arrived before, and only what is to become of the source is left to be done.
    """

    path: str
    version: FileVersion
    seen: float = 0.0
    was_taken: bool = False
    is_delivered: bool = False

    @property
    def size(self) -> int:
        """Its size in bytes; 0 if it is not told."""
        return self.version.size or 0


class Unlisted(NamedTuple):
    """A directory in a folder that could not be listed, and why."""

    path: str
    error: SFTPError


def key_of(path: str) -> str:
    """Return what sorts paths part by part: what is in a directory comes together, and in front of its siblings."""
    return path.replace("/", "\0")  # which no path holds, and nothing sorts in front of


class Page:
    """The first files of a folder, from one place in the order of all paths on, as many as there is memory for.

    Files and directories are added in any order and from several threads, while the folder is walked. If there is no
    memory left, the last ones of what was kept are let go, and everything behind them is left to the next page.

    Attributes:
        bound: where the next page begins; `None` if nothing is left for it.
        count: files and directories that were found on this page and those before.
    """

    def __init__(
        self,
        budget: Budget,
        start: str = "",
        choose: Callable[[Found], Found | None] = lambda it: it,
        excluded: str | None = None,
        count: int = 0,
    ) -> None:
        """Keep nothing yet.

        Parameters:
            budget: the memory for the names.
            start: the `bound` of the page before.
            choose: returns what is to be kept of a file that was found: the same, more of it, or nothing.
            excluded: a directory that is not gone into.
            count: that of the page before.
        """
        self._budget = budget
        self._start = start
        self._choose = choose
        self._excluded = excluded
        self._lock = threading.Lock()
        self._files: list[Found] = []
        self._directories: list[str] = []  # of the next level
        self._level = set[str]()  # of the level that is being listed, those that are not listed yet
        self.count = count
        self.bound: str | None = None

    def covers(self, path: str) -> bool:
        """Tell whether a file belongs to this page, as far as is known by now."""
        key = key_of(path)
        return key >= self._start and (self.bound is None or key < self.bound)

    def goes_into(self, path: str) -> bool:
        """Tell whether anything in a directory may belong to this page."""
        if path == self._excluded:
            return False
        key = key_of(path)
        return (key >= self._start or self._start.startswith(f"{key}\0")) and (self.bound is None or key < self.bound)

    def add_file(self, found: Found) -> None:
        """Take a file into account.

        Raises:
            TooLarge, Busy: there is no memory for even one name.
        """
        if self.covers(found.path):
            chosen = self._choose(found)
            if chosen is not None and self._take(chosen.path):
                with self._lock:
                    self._files.append(chosen)

    def add_directory(self, path: str) -> None:
        """Take a directory into account, to be listed for the next level; raises as `add_file` does."""
        if self.goes_into(path) and self._take(path):
            with self._lock:
                self._directories.append(path)

    def next_level(self) -> list[str]:
        """Return the directories that were added since the last call, sorted."""
        with self._lock:
            added, self._directories = self._directories, []
            self._level = set(added)
            self._budget.give_back(sum(map(size_of, added)) - sum(map(size_of, self._level)))
            return sorted(self._level, key=key_of)

    def let_go(self, directory: str) -> None:
        """Take note that a directory of `next_level` has been listed, or need not be.

        Raises:
            TooLarge: the folder has no end.
        """
        with self._lock:
            if directory in self._level:
                self._level.remove(directory)
                self._budget.give_back(size_of(directory))
        self._count(1)

    def files(self) -> list[Found]:
        """Return the page, sorted, when all of the folder was walked; a file that was found twice is in it once.

        Raises:
            TooLarge: the folder has no end.
        """
        files = {key_of(found.path): found for found in self._files}
        self._files = [files[key] for key in sorted(files) if self.bound is None or key < self.bound]
        self._count(len(self._files))
        return self._files

    def _count(self, number: int) -> None:
        self.count += number
        if self.count > MOST_FOUND:
            message = f"the folder holds more than {MOST_FOUND} names, and goes on: transfer its parts one by one"
            raise TooLarge(message)

    def _take(self, path: str) -> bool:
        """Find memory for a path; tell whether it still is on this page."""
        size = size_of(path)
        while True:
            try:
                self._budget.take(size)
            except (TooLarge, Busy):
                self._budget.give_back(size)
                with self._lock:
                    if not self._cut():
                        raise
                if not self.goes_into(path):
                    return False
            else:
                return True

    def _cut(self) -> bool:
        """Let go of the last half of what is kept; tell whether that has made room, and leaves this page something."""
        keys = [key_of(path) for path in (*(found.path for found in self._files), *self._directories, *self._level)]
        keys.sort()
        bound = next((key for key in keys[len(keys) // 2 :] if key > self._start), None)
        if bound is None or (self.bound is not None and bound >= self.bound):
            return False
        self.bound = bound
        before = self._size()
        self._files = [found for found in self._files if key_of(found.path) < bound]
        self._directories = [path for path in self._directories if key_of(path) < bound]
        self._level = {path for path in self._level if key_of(path) < bound}
        self._budget.give_back(before - self._size())
        return True

    def _size(self) -> int:
        paths = (*(found.path for found in self._files), *self._directories, *self._level)
        return sum(map(size_of, paths))


def walk(
    look: Callable[[str], object], page: Page, *, recursive: bool, ends_all: Callable[[SFTPError], bool]
) -> Iterator[Unlisted]:
    """Find what is in a folder, level by level, many directories at a time; give those that could not be listed.

    Parameters:
        look: lists a directory, given by its path relative to the folder, which is `""` itself, onto the page.
        page: collects what is found.
        recursive: go into directories.
        ends_all: tells whether a failure to list a directory is one of the whole walk.

    Raises:
        SFTPError: the folder itself could not be listed, or another failure is one of the whole walk.
    """
    level = [""]
    with ThreadPoolExecutor(LISTINGS_AT_ONCE, thread_name_prefix="sftp-walk") as threads:
        for depth in range(DEEPEST + 1):
            with closing(_ahead(threads, look, level, page)) as listings:
                for path, listing in listings:
                    try:
                        listing.result()
                    except SFTPError as error:
                        if depth == 0 or ends_all(error):
                            raise
                        if page.goes_into(path):
                            yield Unlisted(path, error)
                    page.let_go(path)
            level = page.next_level()
            if not recursive or not level:
                return
        message = f"folders within folders, more than {DEEPEST} deep, are left alone"
        yield from (Unlisted(path, PathNotAllowed(message, path=path)) for path in level if page.covers(path))


def _ahead(
    threads: Executor, look: Callable[[str], object], paths: list[str], page: Page
) -> Generator[tuple[str, Future[object]]]:
    """Give directories in their order, each with its listing: so many are begun ahead, however many there are."""
    begun: deque[tuple[str, Future[object]]] = deque()
    try:
        for path in paths:
            if path and not page.goes_into(path):  # the page has become shorter
                page.let_go(path)
                continue
            begun.append((path, threads.submit(look, path)))
            if len(begun) >= LISTINGS_AHEAD:
                yield begun.popleft()
        while begun:
            yield begun.popleft()
    finally:
        for _, listing in begun:
            listing.cancel()


def size_of(path: str) -> int:
    """Return how much memory what is found under a path takes."""
    return getsizeof(path) + FOUND_SIZE


def below(folder: str, path: str) -> str:
    """Return a path that is given relative to a folder; `""` is the folder itself."""
    return posixpath.join(folder, path) if path else folder


def look_on_server(remote: RemoteFiles, folder: str, directory: str, page: Page, *, recursive: bool) -> None:
    """List a directory on the server: what is a file, or a link to one, and which directories there are.

    A link to a directory is left out: it may lead round in a circle. What the server does not tell the type of counts
    as a file, rather than as nothing.

    Parameters:
        remote: the server's files.
        folder: the server's path of the folder.
        directory: relative to the folder.
        page: collects what is found.
        recursive: whether the directories are wanted.

    Raises:
        NotADirectory, NotFound, PermissionDenied: see `entries_of`.
        TooLarge, Busy: there is no memory for the names, or the server's list has no end.
    """
    look = _Look(remote, folder, page, recursive=recursive)
    for entry in entries_of(remote, below(folder, directory)):
        name = decode_path(entry.name)
        if not name.startswith(TEMPORARY_PREFIX):
            look.take(posixpath.join(directory, name), entry.attributes)
    look.end()


class _Look:
    """One listing on the server: links, and what the type is not told of, are asked about by the dozen."""

    def __init__(self, remote: RemoteFiles, folder: str, page: Page, *, recursive: bool) -> None:
        self._remote = remote
        self._folder = folder
        self._page = page
        self._recursive = recursive
        self._seen = time.monotonic()
        self._links: list[str] = []
        self._unclear: list[str] = []
        self._directories: list[str] = []

    def take(self, path: str, attributes: Attributes) -> None:
        kind = stat.S_IFMT(attributes.mode or 0)
        if kind == stat.S_IFREG:
            self._page.add_file(Found(path, FileVersion.of_remote(attributes), self._seen))
        elif kind == stat.S_IFLNK:
            if self._page.covers(path):
                self._links.append(path)
                self._ask_if(len(self._links) >= LINKS_IN_FLIGHT)
        elif kind == 0:
            if self._page.goes_into(path):
                self._unclear.append(path)
                self._ask_if(len(self._unclear) >= LINKS_IN_FLIGHT)
        elif kind == stat.S_IFDIR:
            self._take_directory(path)

    def end(self) -> None:
        self._ask_if(True)  # noqa: FBT003 - whatever is left
        self._take_own_directories()

    def _take_directory(self, path: str) -> None:
        if self._recursive and self._page.goes_into(path):
            self._directories.append(path)
            if len(self._directories) >= LINKS_IN_FLIGHT:
                self._take_own_directories()

    def _ask_if(self, due: bool) -> None:  # noqa: FBT001 - that is what it is about
        """Find out what links, and names of which the type was not told, stand for."""
        if not due:
            return
        links, unclear = self._links, self._unclear
        self._links, self._unclear = [], []
        for paths, are_links in ((links, True), (unclear, False)):
            answers = self._remote.attributes_of([below(self._folder, path) for path in paths])
            for path, meant in zip(paths, answers, strict=True):
                kind = None if meant is None else stat.S_IFMT(meant.mode or 0)
                if meant is not None and kind in {0, stat.S_IFREG}:
                    self._page.add_file(Found(path, FileVersion.of_remote(meant), self._seen))
                elif kind == stat.S_IFDIR and not are_links:
                    self._take_directory(path)

    def _take_own_directories(self) -> None:
        """Leave out links: some servers show in a listing what links lead to."""
        paths, self._directories = self._directories, []
        places = [below(self._folder, path) for path in paths]
        for path, own in zip(paths, self._remote.attributes_of(places, follow_links=False), strict=True):
            if own is None or not stat.S_ISLNK(own.mode or 0):
                self._page.add_directory(path)


def look_locally(
    local_files: LocalFiles, folder: str, directory: str, page: Page, proceed: Callable[[], object] = lambda: None
) -> None:
    """List a local directory: see `look_on_server`. `proceed` is called for each name, and ends it by raising."""
    seen = time.monotonic()
    for entry in local_files.entries(below(folder, directory), proceed):
        if entry.name.startswith(TEMPORARY_PREFIX):
            continue
        path = posixpath.join(directory, entry.name)
        if entry.is_directory:
            page.add_directory(path)
        else:
            page.add_file(Found(path, entry.version, seen, entry.was_taken))
