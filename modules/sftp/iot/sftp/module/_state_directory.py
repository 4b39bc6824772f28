"""The state directory from the outside: whether it can be written, and why not."""

from __future__ import annotations

import errno
import os
import tempfile
from typing import TYPE_CHECKING

from iot.sftp.client import NoSpace, PermissionDenied, SFTPError, from_os_error

if TYPE_CHECKING:
    from pathlib import Path

TRIAL_SIZE = 4096  # bytes, a block of usual file systems
INTEGER_MAXIMUM = 2**63 - 1  # what SQLite takes; a server may claim more bytes than that


def try_to_write(directory: Path) -> None:
    """Write to a file that is gone at once: modes tell of no full disk and no read-only mount.

    Raises:
        OSError: it cannot be written, or not be listed.
    """
    with tempfile.TemporaryFile(dir=directory, prefix=".iot-sftp-", buffering=0) as file:
        if os.pwrite(file.fileno(), bytes(TRIAL_SIZE), 0) < TRIAL_SIZE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.close(os.open(directory, os.O_RDONLY | os.O_DIRECTORY))  # to list it, another permission is needed


def why_unusable(directory: Path, purpose: str, error: Exception) -> SFTPError:
    """Name the reason why a file in the state directory cannot be used.

    Parameters:
        directory: the state directory.
        purpose: what it cannot be used for.
        error: the system's, or SQLite's. That one says "unable to open database file" of all kinds of reasons, so that
            the directory itself is tried.
    """
    found = error if isinstance(error, OSError) else _found_by_trial(directory)
    if found is None:
        is_full, words = "full" in str(error), str(error)
    else:
        is_full, words = isinstance(from_os_error(found), NoSpace), found.strerror or "no reason given"
    reason = NoSpace if is_full else PermissionDenied
    return reason(f"the module's state directory {directory} cannot be used {purpose}: {words}")


def inode(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another one in its place; `None` if there is none.

    Raises:
        OSError: there may be one.
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
