"""The local root and nothing outside it.

A path is walked from a descriptor of the root, one component at a time, never following a symbolic link: a link is
read, and the walk goes on with its target, held to the same rules. What comes out is a descriptor of a directory that
was reached that way and a name in it, so whoever swaps directories for links meanwhile changes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import deque
from typing import TYPE_CHECKING

from iot.sftp.client import LocalFiles, LocalName, NotADirectory, NotFound, PathNotAllowed, from_os_error
from iot.sftp.client._base.messages import EMPTY_PATH, NUL_IN_PATH
from iot.sftp.client._files.local_directories import set_mode_of_directory

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LINKS_MAXIMUM = 40  # as Linux: path_resolution(7)
PATH_MAXIMUM = 4096  # bytes, as Linux's PATH_MAX
# A path has 2,048 parts at most, and so has each of 40 links; each '..' in these has the way from the root walked again
STEPS_MAXIMUM = 8192

# Search permission is enough on the way: O_PATH does not need to read the directory
_WALK = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class LocalRoot(LocalFiles):
    """Files under one directory; the state directory is out of reach even if it lies inside.

    Relative paths start at the root. An absolute path is allowed if it leads there, `..` never; symbolic links are
    followed as long as their targets stay inside.
    """

    def __init__(self, root: Path, state_dir: Path) -> None:
        """Take the directories; nothing is opened before the first use."""
        self._root = root
        self._state_dir = state_dir

    def open_parent(self, path: str, *, create: bool, mode: int | None = None) -> LocalName:
        """Open the directory that holds `path`: see `LocalFiles.open_parent`."""
        _check(path)
        try:
            walk = _Walk(self._root, self._state_dir, path, create=create, mode=mode)
            try:
                name = walk.run()
                return LocalName(os.open(".", _OPEN, dir_fd=walk.directory), name, path)
            finally:
                walk.close()
        except OSError as error:
            raise from_os_error(error, path) from error


def _check(path: str) -> None:
    if "\0" in path:
        raise PathNotAllowed(NUL_IN_PATH, path=path)
    if not path:
        raise NotFound(EMPTY_PATH, path=path)
    if ".." in path.split("/"):
        raise PathNotAllowed("a local path holds no '..': write it from the local root", path=path)
    try:
        too_long = len(os.fsencode(path)) >= PATH_MAXIMUM
    except UnicodeEncodeError:
        raise PathNotAllowed("a path holds no lone surrogates", path=path) from None
    if too_long:
        raise from_os_error(OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)), path)


class _Walk:
    """One walk from the root; holds one descriptor, `directory`, at any time."""

    def __init__(self, root: Path, state_dir: Path, path: str, *, create: bool, mode: int | None) -> None:
        self._root = root
        self._mode = mode
        self._path = path
        self._create = create
        self._is_directory = path.endswith(("/", "/.")) or path == "."
        self._forbidden = _identity(state_dir)
        self._links = self._steps = 0
        self._reached: list[str] = []  # real directories from the root to `directory`
        self._wanted = deque(self._below_root(path))
        self.directory = self._open_root()

    def close(self) -> None:
        os.close(self.directory)

    def run(self) -> str:
        """Walk to the end; return the name in `directory`, or nothing for the directory itself."""
        while self._wanted:
            name = self._wanted.popleft()
            if name == "..":
                self._go_up()
                continue
            try:
                self._enter(name)
            except NotADirectoryError:
                target = _read_link(name, self.directory)
                if target is not None:
                    self._follow(target)
                elif self._wanted or self._is_directory:
                    raise NotADirectory("a part of the path is a file, not a directory", path=self._path) from None
                else:
                    return name
            except FileNotFoundError:
                if not self._wanted and not self._is_directory:
                    return name
                if not self._create:
                    raise
                self._make(name)
        return ""

    def _below_root(self, path: str) -> list[str]:
        """Split a path into its parts from the root on."""
        if path.startswith("/"):
            for root in (str(self._root), os.path.realpath(self._root)):
                if path == root or path.startswith(root.rstrip("/") + "/"):
                    path = path[len(root) :]
                    break
            else:
                raise self._outside()
        return [part for part in path.split("/") if part not in {"", "."}]

    def _open_root(self) -> int:
        try:
            directory = os.open(self._root, _OPEN)
        except (FileNotFoundError, NotADirectoryError):
            message = f"the local root {self._root} is not there: mount a directory at it"
            raise NotFound(message, path=self._path) from None
        if self._holds_state(directory):
            os.close(directory)
            message = (
                f"the local root {self._root} is the module's state directory too, which no method may reach: set "
                "SFTP_LOCAL_ROOT and SFTP_STATE_DIR to different directories"
            )
            raise PathNotAllowed(message, path=self._path)
        return directory

    def _holds_state(self, directory: int) -> bool:
        return self._forbidden is not None and _identity(directory) == self._forbidden

    def _enter(self, name: str) -> None:
        self._steps += 1
        if self._steps > STEPS_MAXIMUM:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        self._replace(os.open(name, _WALK, dir_fd=self.directory))
        self._reached.append(name)
        if self._holds_state(self.directory):
            raise PathNotAllowed("this directory holds the module's own state", path=self._path)

    def _make(self, name: str) -> None:
        with contextlib.suppress(FileExistsError):  # another call may be faster
            os.mkdir(name, dir_fd=self.directory)
            if self._mode is not None:
                set_mode_of_directory(name, self._mode, self.directory)
        self._wanted.appendleft(name)

    def _follow(self, target: str) -> None:
        self._links += 1
        if self._links > LINKS_MAXIMUM:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if target.startswith("/"):
            self._restart(())
        self._wanted.extendleft(reversed(self._below_root(target)))

    def _go_up(self) -> None:
        # Only a link's target gets here. The kernel's own '..' is not asked: the directory may have been moved away
        # meanwhile, and its parent may be outside. The way from the root is walked again instead.
        count = 1
        while self._wanted and self._wanted[0] == "..":
            self._wanted.popleft()
            count += 1
        if len(self._reached) < count:
            raise self._outside()
        self._restart(self._reached[: len(self._reached) - count])

    def _restart(self, way: Iterable[str]) -> None:
        self._wanted.extendleft(reversed(list(way)))
        self._reached = []
        self._replace(self._open_root())

    def _replace(self, directory: int) -> None:
        os.close(self.directory)
        self.directory = directory

    def _outside(self) -> PathNotAllowed:
        message = f"this leads outside {self._root}, the only local directory that the module touches"
        return PathNotAllowed(message, path=self._path)


def _read_link(name: str, directory: int) -> str | None:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return None
        raise


def _identity(directory: Path | int) -> tuple[int, int] | None:
    try:
        status = os.stat(directory)
    except OSError:
        return None
    return status.st_dev, status.st_ino
