"""A file without a name, in memory where the system offers that: the local side of a transfer without a local file."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from iot.sftp.client._base.os_errors import from_os_error

if TYPE_CHECKING:
    from collections.abc import Iterator

MODE = 0o644  # what an upload gives to the remote file, as a new local file has it


@contextmanager
def memory_file(content: bytes, path: str) -> Iterator[int]:
    """Yield a descriptor of a file that holds this content and that nobody else can open by a name; close it.

    Linux keeps it in memory, memfd_create(2): a container may have no writable directory at all. Other systems have an
    unlinked file in the directory for temporary files.

    Parameters:
        content: of the file.
        path: that the content is for, or of; for messages.

    Raises:
        SFTPError: there is no descriptor, or no memory.
    """
    try:
        descriptor = _filled(content)
    except OSError as error:
        raise from_os_error(error, path) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _filled(content: bytes) -> int:
    descriptor = _nameless()
    try:
        os.fchmod(descriptor, MODE)
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _nameless() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("iot-sftp", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
