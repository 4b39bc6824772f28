"""Have what was written on the disk: fsync(2), as far as the file system has it."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

# What a file system says that has no fsync: FUSE and some network file systems.
NOT_OFFERED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


def sync_file(descriptor: int) -> None:
    """Have the bytes of a file on the disk.

    Raises:
        OSError: the disk has failed, or is full.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_OFFERED:
            raise


def sync_directory(descriptor: int) -> None:
    """Have the names in a directory on the disk, if the file system offers that; some that do not have many words."""
    with suppress(OSError):
        os.fsync(descriptor)
