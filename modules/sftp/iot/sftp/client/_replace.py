"""Replacing a file at one blow: a temporary file beside it is filled, checked, and renamed over it.

Temporary names are hidden, unguessable and recognisable: `.iot-sftp-` and 16 hexadecimal digits.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from iot.sftp.client._errors import Busy, NotFound, PermissionDenied, SFTPError, Unsupported, from_os_error
from iot.sftp.client._remote_files import POSIX_RENAME, RemoteFiles
from iot.sftp.client._remote_paths import TEMPORARY_PREFIX

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from iot.sftp.client._local_files import LocalName

logger = logging.getLogger(__name__)

_being_written: set[Hashable] = set()
_lock = threading.Lock()


def temporary_name() -> str:
    """Return a name that no other file has, and that tells whose it is."""
    return f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"


@contextmanager
def claimed(destination: Hashable, path: str) -> Iterator[None]:
    """Keep a destination for one transfer of this process.

    Raises:
        Busy: another transfer is writing it.
    """
    with _lock:
        if destination in _being_written:
            message = "another transfer is writing this destination: try again when it has ended"
            raise Busy(message, path=path)
        _being_written.add(destination)
    try:
        yield
    finally:
        with _lock:
            _being_written.discard(destination)


@contextmanager
def replaced_local(place: LocalName, permissions: int | None) -> Iterator[int]:
    """Give a descriptor of a new file; what it holds at the end takes the destination's place, or nothing changes.

    Parameters:
        place: the destination.
        permissions: of the new file; `None` gives it those that new files have here.

    Raises:
        SFTPError: the local file system refused, or is full.
    """
    try:
        status = os.fstat(place.directory)
        with claimed((status.st_dev, status.st_ino, place.name), place.path), _temporary(place, permissions) as file:
            name, descriptor = file
            yield descriptor
            if permissions is not None:
                os.fchmod(descriptor, permissions)
            os.fsync(descriptor)
            os.replace(name, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory)
            os.fsync(place.directory)
    except OSError as error:
        raise from_os_error(error, place.path) from error


@contextmanager
def _temporary(place: LocalName, permissions: int | None) -> Iterator[tuple[str, int]]:
    name = temporary_name()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    # Until it is whole, a file whose permissions are known is nobody else's business.
    descriptor = os.open(name, flags, 0o666 if permissions is None else 0o600, dir_fd=place.directory)
    try:
        yield name, descriptor
    except BaseException:
        with suppress(OSError):
            os.unlink(name, dir_fd=place.directory)
        raise
    finally:
        os.close(descriptor)


def replace_remote(remote: RemoteFiles, source: str, dest: str) -> bool:
    """Rename `source` to `dest`, replacing it; tell whether that was one atomic step.

    Where the server has no atomic replacement, the old file is kept under another name until the new one is in
    place, and is put back if that fails. So there is always a whole file, though for a moment not under `dest`.
    """
    if remote.offers(POSIX_RENAME):
        try:
            remote.posix_rename(source, dest)
        except Unsupported:
            logger.debug("The server announces %s and does not carry it out", POSIX_RENAME)
        else:
            return True
    try:
        remote.rename(source, dest)
    except (PermissionDenied, Unsupported):
        if remote.kind_of(dest) is None:
            raise
        _replace_in_steps(remote, source, dest)
        logger.warning("%r was replaced in two steps: the server has no atomic replacement", dest)
        return False
    return True


def _replace_in_steps(remote: RemoteFiles, source: str, dest: str) -> None:
    directory, slash, _ = dest.rpartition("/")
    aside = f"{directory}{slash}{temporary_name()}"
    remote.rename(dest, aside)
    try:
        remote.rename(source, dest)
    except SFTPError:
        remote.rename(aside, dest)
        raise
    with suppress(NotFound):
        remote.remove(aside)
