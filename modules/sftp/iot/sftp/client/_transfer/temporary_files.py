"""Temporary files of transfers: their names, who uses them, and how those that were left behind are removed.

Names are hidden, unguessable and recognisable: `.iot-sftp-` and 16 hexadecimal digits.
"""

from __future__ import annotations

import fcntl
import logging
import os
import posixpath
import re
import secrets
import stat
import threading
import time
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import ConnectionLost, DeadlineExceeded, NotFound, SFTPError
from iot.sftp.client._files.remote_paths import TEMPORARY_PREFIX
from iot.sftp.client._transfer.resume_records import KEPT_FOR

if TYPE_CHECKING:
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._transfer.resume_records import ResumeState

logger = logging.getLogger(__name__)

_searched: set[tuple[int, int]] = set()  # local directories that were searched for leftovers
_searched_lock = threading.Lock()


def temporary_name() -> str:
    """Return a name that no other file has, and that shows whose it is."""
    return f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"


def is_temporary(name: str) -> bool:
    """Return whether this is a name that `temporary_name` gives."""
    return re.fullmatch(re.escape(TEMPORARY_PREFIX) + "[0-9a-f]{16}", name) is not None


def claim(descriptor: int) -> None:
    """Lock a temporary file as long as this descriptor is open: it is in use."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


def remove_leftovers(directory: int) -> None:
    """Remove temporary files from a local directory whose record was lost, once for each directory of this process.

    They are older than what is resumed, and no process has them open.
    """
    status = os.fstat(directory)
    place = status.st_dev, status.st_ino
    with _searched_lock:
        if place in _searched:
            return
        _searched.add(place)
    with suppress(OSError), os.scandir(directory) as names:
        for name in [found.name for found in names if is_temporary(found.name)]:
            with suppress(OSError):
                _remove_leftover(directory, name)


def _remove_leftover(directory: int, name: str) -> None:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and time.time() - found.st_mtime > KEPT_FOR:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name, dir_fd=directory)
            logger.info("Removed %r, which a transfer has left that was cut off long ago", name)
    finally:
        os.close(descriptor)


class Removal(Enum):
    """What became of a remote temporary file that was to be removed."""

    DONE = "it is gone"
    LATER = "the server may still create it, as asked over a connection that is lost"
    REFUSED = "it is there, and the server does not let it be removed"
    RENAMED = "it has got its name"


def remove_temporary(remote: RemoteFiles, state: ResumeState) -> Removal:
    """Remove the temporary file of an upload, if the server lets us.

    Raises:
        ConnectionLost, DeadlineExceeded: it may be there still.
    """
    if is_temporary(posixpath.basename(state.temporary)):
        try:
            remote.remove(state.temporary)
        except (ConnectionLost, DeadlineExceeded):
            raise
        except NotFound:
            # Else the request for it may still reach the server, out of a lost connection
            return Removal.DONE if state.opened else Removal.LATER
        except SFTPError as error:
            logger.debug("%r cannot be removed: %s", state.temporary, error)
            return Removal.REFUSED
    return Removal.DONE
