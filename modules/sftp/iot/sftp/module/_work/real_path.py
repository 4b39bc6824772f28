"""The path of an open directory, as the system knows it: without links, wherever it was moved."""

from __future__ import annotations

import fcntl
import os


def real_path(directory: int) -> str:
    """Return the path of an open directory, without links.

    Raises:
        OSError: the system does not report it.
    """
    get_path = getattr(fcntl, "F_GETPATH", None)  # macOS
    if get_path is not None:
        return os.fsdecode(fcntl.fcntl(directory, get_path, bytes(1024)).rstrip(b"\0"))
    return os.readlink(f"/proc/self/fd/{directory}")
