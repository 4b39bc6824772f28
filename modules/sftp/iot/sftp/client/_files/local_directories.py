"""Local directories: opened to reach what is in them, links followed, and made where they are missing."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
NO_NAMES = frozenset({"", ".", ".."})


def open_directory_of(path: str, *, create: bool, mode: int | None) -> tuple[int, str]:
    """Open the directory that holds a path, and return its descriptor and the path's name in it: see `LocalFiles`.

    Parameters:
        path: of a file; of a directory, that itself is opened and the name is empty.
        create: make the missing directories.
        mode: the permissions of those; `None` leaves them to the umask.

    Raises:
        OSError: it is not there, or cannot be made or opened.
    """
    found = _open_without_links(path)
    if found is not None:
        return found
    real = os.path.realpath(path)
    directory, name = (real, "") if path.endswith("/") or os.path.isdir(real) else os.path.split(real)
    if create:
        make_directories(directory, mode)
    return os.open(directory, DIRECTORY_FLAGS), name


def _open_without_links(path: str) -> tuple[int, str] | None:
    """Do it in two system calls, where the directory is there and the name in it is no link and no directory."""
    parent, name = os.path.split(path)
    if name in NO_NAMES:
        return None
    try:
        directory = os.open(parent or ".", DIRECTORY_FLAGS)
    except OSError:
        return None
    try:
        kind = stat.S_IFMT(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return directory, name
    except OSError:
        kind = stat.S_IFLNK  # the other way names what is wrong
    if kind in {stat.S_IFLNK, stat.S_IFDIR}:
        os.close(directory)
        return None
    return directory, name


def make_directories(path: str, mode: int | None) -> None:
    """Make a directory and its missing parents, with these permissions."""
    if mode is None:
        os.makedirs(path, exist_ok=True)
        return
    parent, name = os.path.split(path)
    if name and not os.path.isdir(path):
        make_directories(parent or ".", mode)
        with suppress(FileExistsError):  # another call may be faster
            os.mkdir(path)
            set_mode_of_directory(path, mode)


def set_mode_of_directory(name: str, mode: int, parent: int | None = None) -> None:
    """Give a directory that was just made its permissions; it keeps the group that it has from its parent.

    Parameters:
        name: of the directory; no link is followed.
        mode: its owner can use it in any case.
        parent: a descriptor of the directory that it is in, if `name` is relative to that.
    """
    with suppress(OSError):  # a file system may keep its own
        directory = os.open(name, DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=parent)
        try:
            inherited = os.fstat(directory).st_mode & stat.S_ISGID
            os.fchmod(directory, mode | inherited | stat.S_IRWXU)
        finally:
            os.close(directory)
