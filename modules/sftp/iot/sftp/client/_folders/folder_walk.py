"""Walk a folder, on either side: level by level, many directories at a time, onto a page."""

from __future__ import annotations

import posixpath
import stat
import time
from collections import deque
from contextlib import closing
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import PathNotAllowed, SFTPError
from iot.sftp.client._base.threads import WorkerThreads
from iot.sftp.client._files.file_version import FileVersion
from iot.sftp.client._files.listing import LINKS_IN_FLIGHT, entries_by_dozens
from iot.sftp.client._files.remote_paths import TEMPORARY_PREFIX
from iot.sftp.client._folders.folder_page import FoundFile, UnlistedDirectory
from iot.sftp.client._ssh.packets import decode_path

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from concurrent.futures import Executor, Future

    from iot.sftp.client._files.local_files import LocalFiles
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._folders.findings import Findings
    from iot.sftp.client._folders.folder_page import FolderPage
    from iot.sftp.client._ssh.packets import Entry

TYPE_BITS = 0o170000  # of a mode: S_IFMT of inode(7)
DEEPEST = 100  # folders within folders: a server that shows links as folders could lead in a circle
LISTINGS_AT_ONCE = 16
LISTINGS_AHEAD = 64  # that are under way or done before their turn comes
FILES_AT_ONCE = 256  # of a local directory, that are put onto a page together


def walk(
    look: Callable[[str], object], page: FolderPage, *, recursive: bool, ends_all: Callable[[SFTPError], bool]
) -> Iterator[UnlistedDirectory]:
    """Find what is in a folder, level by level, many directories at a time; give those that could not be listed.

    Parameters:
        look: lists a directory, given by its path relative to the folder, which is `""` itself, onto the page.
        page: collects what is found.
        recursive: go into directories.
        ends_all: returns whether a failure to list a directory ends the whole walk.

    Raises:
        SFTPError: the folder itself could not be listed, or another failure ends the whole walk.
    """
    level = [""]
    with WorkerThreads(LISTINGS_AT_ONCE, name="sftp-walk") as threads:
        for depth in range(DEEPEST + 1):
            with closing(_ahead(threads, look, level, page)) as listings:
                for path, listing in listings:
                    try:
                        listing.result()
                    except SFTPError as error:
                        if depth == 0 or ends_all(error):
                            raise
                        if page.goes_into(path):
                            yield UnlistedDirectory(path, error)
                    page.let_go(path)
            level = page.next_level()
            if not recursive or not level:
                return
        message = f"folders within folders, more than {DEEPEST} deep, are left alone"
        yield from (UnlistedDirectory(path, PathNotAllowed(message, path=path)) for path in level if page.covers(path))


def _ahead(
    threads: Executor, look: Callable[[str], object], paths: list[str], page: FolderPage
) -> Generator[tuple[str, Future[object]]]:
    """Give directories in their order, each with its listing: so many are begun ahead, however many there are."""
    begun: deque[tuple[str, Future[object]]] = deque()
    try:
        for path in paths:
            while begun and not _may_begin(begun, page):
                yield begun.popleft()
            if path and not begun:
                page.end_if_full(path)
            if path and not page.goes_into(path):  # the page has become shorter
                page.let_go(path, is_listed=False)
                continue
            begun.append((path, threads.submit(look, path)))
        while begun:
            yield begun.popleft()
    finally:
        for _, listing in begun:
            listing.cancel()


def _may_begin(begun: deque[tuple[str, Future[object]]], page: FolderPage) -> bool:
    """Return whether a further directory may be listed ahead: what does not fit is listed in vain."""
    finished = sum(listing.done() for _, listing in begun)
    return len(begun) < LISTINGS_AHEAD and len(begun) - finished < page.likely_to_fit(finished)


def below(folder: str, path: str) -> str:
    """Return a path that is given relative to a folder; `""` is the folder itself."""
    return posixpath.join(folder, path) if path else folder


def list_on_server(remote: RemoteFiles, folder: str, directory: str, findings: Findings, *, recursive: bool) -> None:
    """List a directory on the server: what is a file, or a link to one, and which directories there are.

    A link to a directory is left out: it may lead in a circle. What the server reports no type of counts
    as a file, rather than as nothing.

    Parameters:
        remote: the server's files.
        folder: the server's path of the folder.
        directory: relative to the folder.
        findings: collects what is found.
        recursive: whether the directories are wanted.

    Raises:
        NotADirectory, NotFound, PermissionDenied: see `entries_by_dozens`.
        TooLarge, Busy: there is no memory for the names, or the server's list has no end.
    """
    listing = _RemoteListing(remote, folder, findings, recursive=recursive)
    prefix = f"{directory}/" if directory else ""
    for entries in entries_by_dozens(remote, below(folder, directory)):
        listing.take(prefix, entries)
    listing.end()


class _RemoteListing:
    """One listing on the server: links, and names without a type, are asked about by the dozen."""

    def __init__(self, remote: RemoteFiles, folder: str, findings: Findings, *, recursive: bool) -> None:
        self._remote = remote
        self._folder = folder
        self._findings = findings
        self._recursive = recursive
        self._seen = time.monotonic()
        self._links: list[str] = []
        self._unclear: list[str] = []
        self._directories: list[str] = []

    def take(self, prefix: str, entries: list[Entry]) -> None:
        files, of_remote, seen = list[FoundFile](), FileVersion.of_remote, self._seen
        for encoded, attributes in entries:
            name = decode_path(encoded)
            if name.startswith(TEMPORARY_PREFIX):
                continue
            kind = (attributes.mode or 0) & TYPE_BITS
            if kind == stat.S_IFREG:
                files.append(FoundFile(prefix + name, of_remote(attributes), seen))
            else:
                self._take_other(prefix + name, kind)
        self._findings.add_files(files)

    def _take_other(self, path: str, kind: int) -> None:
        if kind == stat.S_IFLNK:
            if self._findings.covers(path):
                self._links.append(path)
                self._ask_if(len(self._links) >= LINKS_IN_FLIGHT)
        elif kind == 0:
            if self._findings.covers(path) or self._findings.goes_into(path):
                self._unclear.append(path)
                self._ask_if(len(self._unclear) >= LINKS_IN_FLIGHT)
        elif kind == stat.S_IFDIR:
            self._take_directory(path)

    def end(self) -> None:
        self._ask_if(True)  # noqa: FBT003 - whatever is left
        self._take_own_directories()

    def _take_directory(self, path: str) -> None:
        if self._recursive and self._findings.goes_into(path):
            self._directories.append(path)
            if len(self._directories) >= LINKS_IN_FLIGHT:
                self._take_own_directories()

    def _ask_if(self, due: bool) -> None:  # noqa: FBT001 - that is what it is about
        """Find out what links, and names without a type, stand for."""
        if not due:
            return
        links, unclear = self._links, self._unclear
        self._links, self._unclear = [], []
        for paths, are_links in ((links, True), (unclear, False)):
            answers = self._remote.attributes_of([below(self._folder, path) for path in paths])
            for path, meant in zip(paths, answers, strict=True):
                kind = None if meant is None else stat.S_IFMT(meant.mode or 0)
                if meant is not None and kind in {0, stat.S_IFREG}:
                    self._findings.add_files([FoundFile(path, FileVersion.of_remote(meant), self._seen)])
                elif kind == stat.S_IFDIR and not are_links:
                    self._take_directory(path)

    def _take_own_directories(self) -> None:
        """Leave out links: some servers show in a listing what links lead to."""
        paths, self._directories = self._directories, []
        places = [below(self._folder, path) for path in paths]
        for path, own in zip(paths, self._remote.attributes_of(places, follow_links=False), strict=True):
            if own is None or not stat.S_ISLNK(own.mode or 0):
                self._findings.add_directory(path)


def list_locally(
    local_files: LocalFiles,
    folder: str,
    directory: str,
    findings: Findings,
    proceed: Callable[[], object] = lambda: None,
) -> None:
    """List a local directory: see `list_on_server`. `proceed` is called every few names, and ends it by raising."""
    seen, prefix, files = time.monotonic(), f"{directory}/" if directory else "", list[FoundFile]()
    for entry in local_files.entries(below(folder, directory), proceed):
        if entry.name.startswith(TEMPORARY_PREFIX):
            continue
        if entry.is_directory:
            findings.add_directory(prefix + entry.name)
            continue
        files.append(FoundFile(prefix + entry.name, entry.version, seen, entry.was_taken))
        if len(files) >= FILES_AT_ONCE:
            findings.add_files(files)
            files = []
    findings.add_files(files)
