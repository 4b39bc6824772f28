"""The local side of a transfer: every file is reached through a directory that is held open.

Nothing is done by path twice: a path is walked once, to a descriptor of the directory that holds the file and the
file's name in it, and all further calls (`openat`, `renameat`, `unlinkat`) go through that descriptor. So what was
checked is what is used, whoever renames directories or plants symbolic links meanwhile.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iot.sftp.client._errors import IsADirectory, NotFound, PathNotAllowed, SFTPError, from_os_error

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True)
class LocalName:
    """A file's place: a descriptor of the directory that holds it, its name there, and the caller's own words for it.

    An empty `name` is the directory itself.
    """

    directory: int
    name: str
    path: str


class LocalFiles:
    """The whole local file system, relative paths from the current directory, symbolic links followed.

    A subclass that overrides `open_parent` confines it (the module's local root does).
    """

    def open_parent(self, path: str, *, create: bool) -> LocalName:
        """Open the directory that holds `path`; the caller closes `directory`.

        The name that comes back is not a symbolic link at the time of the call, and is opened without following one.

        Parameters:
            path: a local path; with a trailing `/`, or for `.` and the like, the directory itself is opened and the
                name is empty.
            create: make the missing directories.

        Raises:
            SFTPError: `NotFound`, `NotADirectory`, `PermissionDenied`, `PathNotAllowed` or `NoSpace`.
        """
        check_text(path)
        try:
            real = os.path.realpath(path)
            directory, name = (real, "") if path.endswith("/") or os.path.isdir(real) else os.path.split(real)
            if create:
                os.makedirs(directory, exist_ok=True)
            return LocalName(os.open(directory, DIRECTORY_FLAGS), name, path)
        except OSError as error:
            raise from_os_error(error, path) from error

    @contextmanager
    def source(self, path: str) -> Iterator[int]:
        """Open a regular file for reading, and close it.

        Raises:
            SFTPError: `NotFound`, `IsADirectory`, `NotADirectory`, `PermissionDenied` or `PathNotAllowed`.
        """
        place = self.open_parent(path, create=False)
        try:
            descriptor = _open_regular(place)
        finally:
            os.close(place.directory)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def destination(self, path: str, keep_name: str) -> Iterator[LocalName]:
        """Open the directory that a file is to be written in, made if it is missing, and close it.

        Parameters:
            path: where the file goes; an existing directory, or a path that ends with `/`, keeps the source's name.
            keep_name: the source's own name.

        Raises:
            SFTPError: as `open_parent`; `PathNotAllowed` if something is there that is not a regular file.
        """
        place = self.open_parent(path, create=True)
        try:
            if not place.name:
                place = LocalName(place.directory, check_name(keep_name), path)
            _refuse_irregular(place)
            yield place
        finally:
            os.close(place.directory)


def check_text(path: str) -> None:
    """Refuse a path that no file system takes."""
    if "\0" in path:
        message = "a path holds no NUL character"
        raise PathNotAllowed(message, path=path)
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        message = "the path holds a character that no local file name can hold"
        raise PathNotAllowed(message, path=path) from None
    if not path:
        message = "an empty path names no file; for a directory write '.'"
        raise NotFound(message, path=path)


def check_name(name: str) -> str:
    """Refuse a name that leads elsewhere: a server may send any."""
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        message = f"{name!r} cannot be the name of a local file: give one in dest"
        raise PathNotAllowed(message, path=name)
    return name


def _open_regular(place: LocalName) -> int:
    if not place.name:
        message = "this is a directory: name a file in it"
        raise IsADirectory(message, path=place.path)
    # O_NONBLOCK: opening a named pipe would wait for a writer
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(place.name, flags, dir_fd=place.directory)
    except OSError as error:
        raise from_os_error(error, place.path) from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    raise _irregular(mode, place.path)


def _refuse_irregular(place: LocalName) -> None:
    try:
        mode = os.stat(place.name, dir_fd=place.directory, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, place.path) from error
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        raise _irregular(mode, place.path)


def _irregular(mode: int, path: str) -> SFTPError:
    if stat.S_ISDIR(mode):
        return IsADirectory("this is a directory: name a file in it", path=path)
    return PathNotAllowed("this is neither a file nor a directory, and is left alone", path=path)
