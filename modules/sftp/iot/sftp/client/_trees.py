"""What is in a folder: files to be transferred, on either side, as deep as is asked for."""

from __future__ import annotations

import posixpath
import stat
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from sys import getsizeof
from typing import TYPE_CHECKING, NamedTuple

from iot.sftp.client._errors import PathNotAllowed, SFTPError
from iot.sftp.client._listing import LINKS_IN_FLIGHT, entries_of
from iot.sftp.client._packets import Attributes, decode_path
from iot.sftp.client._remote_paths import TEMPORARY_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from concurrent.futures import Executor, Future

    from iot.sftp.client._listing import Budget
    from iot.sftp.client._local_files import LocalFiles
    from iot.sftp.client._remote_files import RemoteFiles

DEEPEST = 100  # folders within folders: a server that shows links as folders could lead round and round
LISTINGS_AT_ONCE = 16
LISTINGS_AHEAD = 64  # that are under way or done before their turn comes
FOUND_SIZE = 200  # bytes that a file takes beside its path


class Found(NamedTuple):
    """A file in a folder.

    `path` is relative to the folder, `size` in bytes, `modified` in seconds since 1970 (`None` if it is not told).
    """

    path: str
    size: int
    modified: float | None


@dataclass
class Listing:
    """What is directly in one directory: its files, and the relative paths of its directories."""

    files: list[Found] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)


class Unlisted(NamedTuple):
    """A directory in a folder that could not be listed, and why."""

    path: str
    error: SFTPError


def walk(
    look: Callable[[str], Listing], *, recursive: bool, ends_all: Callable[[SFTPError], bool]
) -> Iterator[Found | Unlisted]:
    """Give what is in a folder, level by level, listing many directories at a time.

    Parameters:
        look: lists a directory, given by its path relative to the folder, which is `""` itself.
        recursive: go into directories.
        ends_all: tells whether a failure to list a directory is one of the whole walk.

    Raises:
        SFTPError: the folder itself could not be listed, or another failure is one of the whole walk.
    """
    level = [""]
    with ThreadPoolExecutor(LISTINGS_AT_ONCE, thread_name_prefix="sftp-walk") as threads:
        for depth in range(DEEPEST + 1):
            directories = list[str]()
            with closing(_ahead(threads, look, level)) as listings:
                for path, listing in listings:
                    try:
                        found = listing.result()
                    except SFTPError as error:
                        if depth == 0 or ends_all(error):
                            raise
                        yield Unlisted(path, error)
                    else:
                        yield from found.files
                        directories += found.directories
            level = directories
            if not recursive or not level:
                return
        message = f"folders within folders, more than {DEEPEST} deep, are left alone"
        yield from (Unlisted(path, PathNotAllowed(message, path=path)) for path in level)


def _ahead(
    threads: Executor, look: Callable[[str], Listing], paths: list[str]
) -> Generator[tuple[str, Future[Listing]]]:
    """Give directories in their order, each with its listing: so many are begun ahead, however many there are."""
    begun: deque[tuple[str, Future[Listing]]] = deque()
    try:
        for path in paths:
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


def look_on_server(remote: RemoteFiles, folder: str, directory: str, *, recursive: bool, budget: Budget) -> Listing:
    """List a directory on the server: what is a file, or a link to one, and which directories there are.

    A link to a directory is left out: it may lead round in a circle. What the server does not tell the type of counts
    as a file, rather than as nothing.

    Parameters:
        remote: the server's files.
        folder: the server's path of the folder.
        directory: relative to the folder.
        recursive: whether the directories are wanted.
        budget: the memory for all names of the folder.

    Raises:
        NotADirectory, NotFound, PermissionDenied: see `entries_of`.
        TooLarge, Busy: there is no memory for the names.
    """
    listing, links, unclear = Listing(), list[str](), list[str]()
    others = {stat.S_IFLNK: links, 0: unclear} | ({stat.S_IFDIR: listing.directories} if recursive else {})
    for entry in entries_of(remote, below(folder, directory)):
        name = decode_path(entry.name)
        if name.startswith(TEMPORARY_PREFIX):
            continue
        kind, path = stat.S_IFMT(entry.attributes.mode or 0), posixpath.join(directory, name)
        if kind == stat.S_IFREG:
            budget.take(size_of(path))
            listing.files.append(_found(path, entry.attributes))
        elif kind in others:
            budget.take(size_of(path))
            others[kind].append(path)
    listing.directories += _resolve(remote, folder, unclear, listing)
    _resolve(remote, folder, links, listing)
    listing.directories = list(_not_links(remote, folder, listing.directories)) if recursive else []
    return listing


def _batches(paths: list[str]) -> Iterator[list[str]]:
    return (paths[start : start + LINKS_IN_FLIGHT] for start in range(0, len(paths), LINKS_IN_FLIGHT))


def _not_links(remote: RemoteFiles, folder: str, directories: list[str]) -> Iterator[str]:
    """Leave out links: some servers show in a listing what links lead to."""
    for some in _batches(directories):
        places = [below(folder, path) for path in some]
        for path, own in zip(some, remote.attributes_of(places, follow_links=False), strict=True):
            if own is None or not stat.S_ISLNK(own.mode or 0):
                yield path


def _resolve(remote: RemoteFiles, folder: str, paths: list[str], listing: Listing) -> list[str]:
    """Find out what links, and names of which the type was not told, stand for; return those that are directories."""
    directories = []
    for some in _batches(paths):
        for path, meant in zip(some, remote.attributes_of([below(folder, path) for path in some]), strict=True):
            kind = None if meant is None else stat.S_IFMT(meant.mode or 0)
            if meant is not None and kind in {0, stat.S_IFREG}:
                listing.files.append(_found(path, meant))
            elif kind == stat.S_IFDIR:
                directories.append(path)
    return directories


def _found(path: str, attributes: Attributes) -> Found:
    return Found(path, attributes.size or 0, attributes.modification_time)


def look_locally(local_files: LocalFiles, folder: str, directory: str, budget: Budget) -> Listing:
    """List a local directory: see `look_on_server`."""
    listing = Listing()
    for entry in local_files.entries(below(folder, directory)):
        if entry.name.startswith(TEMPORARY_PREFIX):
            continue
        path = posixpath.join(directory, entry.name)
        budget.take(size_of(path))
        if entry.is_directory:
            listing.directories.append(path)
        else:
            listing.files.append(Found(path, entry.size, entry.modified))
    return listing
