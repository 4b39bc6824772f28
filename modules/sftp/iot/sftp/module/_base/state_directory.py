"""The state directory: its lock, whether it can be written, and why not."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import platform
import tempfile
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from iot.sftp.client import NoSpace, PermissionDenied, SFTPError, from_os_error

if TYPE_CHECKING:
    from pathlib import Path

TRIAL_SIZE = 4096  # bytes, a block of usual file systems
TEMPORARY_PREFIX = ".iot-sftp-"  # of temporary files; a power cut may leave them
LOCK = "lock"  # the lock file
OWNER_MAXIMUM = 200  # bytes of the owner's name in the lock file
INTEGER_MAXIMUM = 2**63 - 1  # what SQLite takes; a server may claim more bytes than that

_log = logging.getLogger(__name__)


class StateLock:
    """The lock that keeps a second module out of a state directory, held until the process ends; thread-safe.

    Two modules on one directory would each run the other's tasks, and delete what the other has just sent. The kernel
    releases the lock when the process ends, for whatever reason: there are no stale locks.
    """

    def __init__(self, directory: Path) -> None:
        """Store the directory; nothing is locked yet."""
        self._directory = directory
        self._path = directory / LOCK
        self._lock = threading.Lock()
        self._descriptor: int | None = None

    def check(self) -> None:
        """Lock the directory, unless it is locked already.

        Raises:
            PermissionDenied: another process holds the lock. The next access to a file in it finds other problems.
        """
        with self._lock:
            try:
                if self._descriptor is not None and inode(self._path) == _identity(self._descriptor):
                    return
                self._take()
            except BlockingIOError:
                message = (
                    f"the module's state directory {self._directory} is in use by another module ({self._owner()}): "
                    "give each module a directory of its own"
                )
                raise PermissionDenied(message) from None
            except OSError as error:
                _log.debug("the state directory cannot be locked: %s", error)

    def release(self) -> None:
        """Release the lock; `check` takes it again."""
        with self._lock:
            self._close()

    def _take(self) -> None:
        self._close()
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            owner = f"process {os.getpid()} on {platform.node()}"
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, owner.encode()[:OWNER_MAXIMUM], 0)
        except BlockingIOError:
            os.close(descriptor)
            raise
        except OSError as error:  # a file system without locks, or a full one
            _log.debug("%s: %s", self._path, error)
        self._descriptor = descriptor
        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        """Remove temporary files that a power cut has left: no other process uses the directory now."""
        with suppress(OSError), os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.name.startswith(TEMPORARY_PREFIX) and entry.is_file(follow_symlinks=False):
                    with suppress(OSError):
                        os.unlink(entry.path)

    def _owner(self) -> str:
        try:
            with open(self._path, "rb") as file:
                return file.read(OWNER_MAXIMUM).decode("utf-8", "replace") or "unknown"
        except OSError:
            return "unknown"

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def try_to_write(directory: Path) -> None:
    """Write a temporary file: permission bits show neither a full disk nor a read-only mount.

    Raises:
        OSError: the directory cannot be written or listed.
    """
    with tempfile.TemporaryFile(dir=directory, prefix=TEMPORARY_PREFIX, buffering=0) as file:
        if os.pwrite(file.fileno(), bytes(TRIAL_SIZE), 0) < TRIAL_SIZE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.close(os.open(directory, os.O_RDONLY | os.O_DIRECTORY))  # to list it, another permission is needed


def why_unusable(directory: Path, purpose: str, error: Exception) -> SFTPError:
    """Return the error for a file in the state directory that cannot be used.

    Parameters:
        directory: the state directory.
        purpose: what it cannot be used for.
        error: the system's, or SQLite's. SQLite reports "unable to open database file" for all kinds of reasons, so
            that the directory itself is tested.
    """
    found = error if isinstance(error, OSError) else _found_by_trial(directory)
    if found is None:
        is_full, words = "full" in str(error), str(error)
    else:
        is_full, words = isinstance(from_os_error(found), NoSpace), found.strerror or "no reason given"
    reason = NoSpace if is_full else PermissionDenied
    return reason(f"the module's state directory {directory} cannot be used {purpose}: {words}")


def inode(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file, which differ for another file in its place; `None` if it does not exist.

    Raises:
        OSError: whether it exists is not known.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def _found_by_trial(directory: Path) -> OSError | None:
    try:
        try_to_write(directory)
    except OSError as error:
        return error
    return None
