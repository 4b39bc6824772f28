"""The two directions of a folder: where its files are found, where they go, what becomes of the originals."""

from __future__ import annotations

import os
import posixpath
import stat
import threading
from collections import OrderedDict
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from iot.sftp.client._download import download_file
from iot.sftp.client._errors import NotADirectory, NotFound, PermissionDenied, TransferIncomplete, from_os_error
from iot.sftp.client._local_files import LocalFiles, LocalName, check_name
from iot.sftp.client._replace import replace_remote, replacing
from iot.sftp.client._trees import below, look_locally, look_on_server
from iot.sftp.client._upload import no_spare, upload_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._folders import FolderOrder
    from iot.sftp.client._listing import Budget
    from iot.sftp.client._remote_files import RemoteFiles
    from iot.sftp.client._remote_paths import RemotePaths
    from iot.sftp.client._terms import Terms
    from iot.sftp.client._trees import Found, Listing

DIRECTORIES_OPEN = 32  # descriptors that are kept for the next file in the same directory

SizeAndTime = tuple[int | None, int | None]


class Downloads:
    """From the server into a local directory."""

    def __init__(self, order: FolderOrder, local_files: LocalFiles, paths: RemotePaths, terms: Terms) -> None:
        """Take what is to be done, and how both sides are reached."""
        self._order = order
        self._source = paths.on_server(order.source)
        self._move_to = None if order.move_to is None else paths.on_server(order.move_to)
        self._terms = terms
        self._dest = _LocalTree(local_files, order.dest)
        self._moved = _RemoteTree(self._move_to or "")

    def begin(self) -> None:
        """Prepare for an attempt: nothing has to be."""

    def end(self) -> None:
        """Close the directories."""
        self._dest.close()

    def look(self, remote: RemoteFiles, directory: str, budget: Budget) -> Listing:
        """List a directory on the server; what is to be moved away is not found again."""
        recursive = self._order.recursive
        listing = look_on_server(remote, self._source, directory, recursive=recursive, budget=budget)
        return _without(listing, self._source, self._move_to)

    def state_of_dest(self, remote: RemoteFiles, found: Found) -> SizeAndTime | None:
        """Return size and time of the local file that would be replaced."""
        del remote
        status = self._dest.stat(found.path)
        return None if status is None else (status.st_size, int(status.st_mtime))

    def transfer(self, remote: RemoteFiles, found: Found, progress: Callable[[int, int | None], None]) -> int:
        """Download a file."""
        source = posixpath.join(self._source, found.path)
        return download_file(remote, source, self._dest, found.path, replace(self._terms, on_progress=progress)).size

    def vanished(self, remote: RemoteFiles, found: Found) -> bool:
        """Tell whether the server's file is not there any more."""
        try:
            remote.lstat(posixpath.join(self._source, found.path))
        except (NotFound, NotADirectory):
            return True
        return False

    def afterwards(self, remote: RemoteFiles, found: Found) -> None:
        """Delete or move the server's file, if it still is what was listed."""
        source = posixpath.join(self._source, found.path)
        now = remote.stat(source)
        if (now.size or 0, now.modification_time) != (found.size, found.modified):
            raise _changed(source)
        if self._move_to is None:
            remote.remove(source)
            return
        self._moved.make_parent(remote, found.path)
        target = posixpath.join(self._move_to, found.path)
        with replacing(remote, target, self._terms) as put_aside:
            replace_remote(remote, source, target, put_aside)


class Uploads:
    """From a local directory to the server."""

    def __init__(self, order: FolderOrder, local_files: LocalFiles, paths: RemotePaths, terms: Terms) -> None:
        """Take what is to be done, and how both sides are reached."""
        self._order = order
        self._dest = paths.on_server(order.dest)
        self._terms = terms
        self._local_files = local_files
        self._tree = _RemoteTree(self._dest)
        self._sent: dict[str, tuple[int, ...]] = {}  # what was sent, where something is to become of it

    def begin(self) -> None:
        """Prepare for an attempt: the server may be another one behind the same name."""
        self._tree = _RemoteTree(self._dest)

    def end(self) -> None:
        """Give nothing back: no file is held open."""

    def look(self, remote: RemoteFiles, directory: str, budget: Budget) -> Listing:
        """List a local directory; what is to be moved away is not found again."""
        del remote
        listing = look_locally(self._local_files, self._order.source, directory, budget)
        return _without(listing, self._order.source, self._order.move_to)

    def state_of_dest(self, remote: RemoteFiles, found: Found) -> SizeAndTime | None:
        """Return size and time of the server's file that would be replaced."""
        try:
            there = remote.stat(posixpath.join(self._dest, found.path))
        except (NotFound, NotADirectory):
            return None
        return there.size, there.modification_time

    def transfer(self, remote: RemoteFiles, found: Found, progress: Callable[[int, int | None], None]) -> int:
        """Upload a file."""
        with self._local_files.source(self._path_of(found)) as descriptor:
            identity = _identity(descriptor)
            self._tree.make_parent(remote, found.path)
            end = posixpath.join(self._dest, found.path)
            terms = replace(self._terms, on_progress=progress)
            size = upload_file(remote, descriptor, None, end, terms=terms, spare=no_spare).size
        if self._order.then != "keep":
            self._sent[found.path] = identity
        return size

    def vanished(self, remote: RemoteFiles, found: Found) -> bool:
        """Tell whether the local file is not there any more."""
        del remote
        try:
            with self._local_files.source(self._path_of(found)):
                return False
        except NotFound:
            return True

    def afterwards(self, remote: RemoteFiles, found: Found) -> None:
        """Delete or move the local file, if it still is what was sent."""
        del remote
        path = self._path_of(found)
        with self._local_files.source(path) as descriptor:
            now = _identity(descriptor)
            status = os.fstat(descriptor)
        sent = self._sent.pop(found.path, None)
        if now != sent if sent else (status.st_size, status.st_mtime) != (found.size, found.modified):
            raise _changed(path)
        if self._order.move_to is None:
            self._local_files.remove(path)
        else:
            self._local_files.rename(path, posixpath.join(self._order.move_to, found.path))

    def _path_of(self, found: Found) -> str:
        return posixpath.join(self._order.source, found.path)


class _LocalTree(LocalFiles):
    """A local directory to write into, by paths relative to it, whose names come from a server.

    Each directory is walked to once, in the way of the `LocalFiles` underneath; its descriptor is kept for the next
    file in it.
    """

    def __init__(self, local_files: LocalFiles, root: str) -> None:
        self._local_files = local_files
        self._root = root
        self._lock = threading.Lock()
        self._open: OrderedDict[str, int] = OrderedDict()

    def open_parent(self, path: str, *, create: bool) -> LocalName:
        parent, name = posixpath.split(path)
        for part in (*parent.split("/"), name) if parent else (name,):
            check_name(part)
        directory = self._directory(parent, create=create)
        shown = posixpath.join(self._root, path)
        try:
            is_link = stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            is_link = False
        except OSError as error:
            os.close(directory)
            raise from_os_error(error, shown) from error
        if is_link:  # of whoever rules here: it is followed as elsewhere
            os.close(directory)
            return self._local_files.open_parent(shown, create=create)
        return LocalName(directory, name, shown)

    def stat(self, path: str) -> os.stat_result | None:
        """Return what is told of a file; `None` if it is not there."""
        try:
            place = self.open_parent(path, create=False)
        except (NotFound, NotADirectory):
            return None
        try:
            return os.stat(place.name or ".", dir_fd=place.directory, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise from_os_error(error, place.path) from error
        finally:
            os.close(place.directory)

    def close(self) -> None:
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1])

    def _directory(self, path: str, *, create: bool) -> int:
        """Return a descriptor of a directory, which the caller closes."""
        with self._lock:
            kept = self._open.get(path)
            if kept is not None:
                self._open.move_to_end(path)
                return os.dup(kept)
        opened = self._local_files.open_directory(below(self._root, path), create=create)
        with self._lock:
            if path not in self._open:
                self._open[path] = os.dup(opened)
            if len(self._open) > DIRECTORIES_OPEN:
                os.close(self._open.popitem(last=False)[1])
        return opened


_MADE: Future[None] = Future()  # what stands for all directories that are there: a future of each would take 2 KB
_MADE.set_result(None)


class _RemoteTree:
    """The directories below one on the server: each is made, if it is missing, by the first who needs it."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._made: dict[str, Future[None]] = {}

    def make_parent(self, remote: RemoteFiles, path: str) -> None:
        """Make the directory of a file, given relative to the root; wait for whoever is just making it."""
        parent = posixpath.dirname(path)
        with self._lock:
            made = self._made.get(parent)
            is_first = made is None
            if made is None:
                made = self._made[parent] = Future()
        if not is_first:
            made.result()
            return
        try:
            # A folder may be written without being looked at: the upload itself tells.
            with suppress(PermissionDenied):
                remote.make_directories(below(self._root, parent))
        except BaseException as error:
            with self._lock:
                del self._made[parent]
            made.set_exception(error)
            raise
        made.set_result(None)
        with self._lock:
            self._made[parent] = _MADE


def _without(listing: Listing, folder: str, excluded: str | None) -> Listing:
    """Take a directory out of those that are gone into."""
    if excluded is not None:
        place = posixpath.normpath(excluded)
        listing.directories = [
            path for path in listing.directories if posixpath.normpath(posixpath.join(folder, path)) != place
        ]
    return listing


def _identity(descriptor: int) -> tuple[int, ...]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _changed(path: str) -> TransferIncomplete:
    message = "it was transferred, and changed meanwhile: what is there now was left alone, and is for the next time"
    return TransferIncomplete(message, path=path)
