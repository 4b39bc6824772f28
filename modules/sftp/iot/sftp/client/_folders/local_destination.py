"""A local directory that a folder is downloaded into: each directory is opened once, and files written through it."""

from __future__ import annotations

import os
import posixpath
import stat
import threading
from collections import OrderedDict
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    NotADirectory,
    NotFound,
)
from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._files.local_directories import DIRECTORY_FLAGS
from iot.sftp.client._files.local_files import NAMES_AT_ONCE, LocalFiles, LocalName, check_name
from iot.sftp.client._folders.folder_walk import below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DIRECTORIES_OPEN = 32  # descriptors that are kept for the next file in the same directory


class LocalDestination(LocalFiles):
    """A local directory to write into, by paths relative to it, whose names come from a server.

    Each directory is walked to once, in the way of the `LocalFiles` underneath; its descriptor is kept for the next
    file in it.
    """

    def __init__(self, local_files: LocalFiles, root: str, mode: int | None = None) -> None:
        """Take the directory, how it is reached, and the permissions of new directories in it."""
        self._local_files = local_files
        self._mode = mode
        self._root = root
        self._lock = threading.Lock()
        self._open: OrderedDict[str, int] = OrderedDict()

    def open_parent(self, path: str, *, create: bool, mode: int | None = None) -> LocalName:
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
        if is_link:  # of the owner of the destination: it is followed as elsewhere
            os.close(directory)
            return self._local_files.open_parent(shown, create=create, mode=mode or self._mode)
        return LocalName(directory, name, shown)

    def own_place(self, path: str, *, create: bool) -> LocalName:
        """Open the directory that holds a name, which is not resolved if it is a link; the caller closes it."""
        parent, name = posixpath.split(path)
        for part in (*parent.split("/"), name) if parent else (name,):
            check_name(part)
        return LocalName(self._directory(parent, create=create), name, posixpath.join(self._root, path))

    def stat(self, path: str) -> os.stat_result | None:
        """Return the status of a file; `None` if it is not there."""
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

    def statuses(self, directory: str, proceed: Callable[[], object]) -> Iterator[list[tuple[str, os.stat_result]]]:
        """Give the names in a directory with their status, of a link its own, some at a time.

        `proceed` is called before each of these, and ends it by raising.
        """
        opened = _opened_again(self._directory(directory, create=False))
        try:
            with os.scandir(opened) as names:
                while some := list(islice(names, NAMES_AT_ONCE)):
                    proceed()
                    yield list(_statuses_of(some))
        except OSError as error:
            raise from_os_error(error, below(self._root, directory)) from error
        finally:
            os.close(opened)

    def close(self) -> None:
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1])

    def _directory(self, path: str, *, create: bool) -> int:
        """Return a descriptor of a directory, which the caller closes."""
        try:
            with self._lock:
                kept = self._open.get(path)
                if kept is not None:
                    self._open.move_to_end(path)
                    return os.dup(kept)
            opened = self._local_files.open_directory(below(self._root, path), create=create, mode=self._mode)
            self._keep(path, opened)
        except OSError as error:  # there may be no descriptor left at the moment
            raise from_os_error(error, below(self._root, path)) from error
        return opened

    def _keep(self, path: str, opened: int) -> None:
        """Keep a descriptor of a directory for the next file in it, unless there is none left for that."""
        with self._lock:
            if path not in self._open:
                with suppress(OSError):
                    self._open[path] = os.dup(opened)
            if len(self._open) > DIRECTORIES_OPEN:
                os.close(self._open.popitem(last=False)[1])


def _statuses_of(names: list[os.DirEntry[str]]) -> Iterator[tuple[str, os.stat_result]]:
    for found in names:
        try:
            status = found.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue  # it has just gone
        yield found.name, status


def _opened_again(directory: int) -> int:
    """Return a descriptor of a directory in the place of this one, whose position is that of the one that is kept."""
    try:
        return os.open(".", DIRECTORY_FLAGS, dir_fd=directory)
    finally:
        os.close(directory)
