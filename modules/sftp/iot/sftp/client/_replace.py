"""Replacing a file at one blow: a temporary file beside it is filled, checked, and renamed over it.

Temporary names are hidden, unguessable and recognisable: `.iot-sftp-` and 16 hexadecimal digits.
"""

from __future__ import annotations

import logging
import os
import posixpath
import re
import secrets
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from iot.sftp.client._errors import IsADirectory, NotFound, PermissionDenied, SFTPError, Unsupported
from iot.sftp.client._remote_files import POSIX_RENAME, RemoteFiles
from iot.sftp.client._remote_paths import TEMPORARY_PREFIX
from iot.sftp.client._unfinished import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iot.sftp.client._local_files import LocalName
    from iot.sftp.client._terms import Terms

logger = logging.getLogger(__name__)


def temporary_name() -> str:
    """Return a name that no other file has, and that tells whose it is."""
    return f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"


def is_temporary(name: str) -> bool:
    """Tell whether this is a name that `temporary_name` gives."""
    return re.fullmatch(re.escape(TEMPORARY_PREFIX) + "[0-9a-f]{16}", name) is not None


def replace_local(place: LocalName, name: str, descriptor: int, permissions: int | None) -> None:
    """Put the file `name` beside a destination in its place, with all its bytes on the disk."""
    if permissions is not None:
        os.fchmod(descriptor, permissions)
    os.fsync(descriptor)
    os.replace(name, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory)
    os.fsync(place.directory)


def replace_remote(
    remote: RemoteFiles, source: str, dest: str, put_aside: Callable[[str], object] = lambda _: None
) -> bool:
    """Rename `source` to `dest`, replacing it; tell whether that was one atomic step.

    Where the server has no atomic replacement, the old file is kept under another name until the new one is in
    place, and is put back if that fails. So there is always a whole file, though for a moment not under `dest`.

    Parameters:
        remote: the server's files.
        source: the new file, complete.
        dest: the path that it gets.
        put_aside: told the other name before the old file gets it.
    """
    remote.deadline.check()
    remote = remote.patient()  # who cancels from here on would not know which of the two files is there
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
        kind = remote.kind_of(dest)
        if kind is None:
            raise
        if kind == stat.S_IFDIR:
            message = "this is a directory on the server: name a file in it"
            raise IsADirectory(message, path=dest) from None
        _replace_in_steps(remote, source, dest, put_aside)
        logger.warning("%r was replaced in two steps: the server has no atomic replacement", dest)
        return False
    return True


@contextmanager
def replacing(remote: RemoteFiles, dest: str, terms: Terms) -> Iterator[Callable[[str], None]]:
    """Keep a remote destination for one move, and give what `replace_remote` tells the other name of the old file.

    Raises:
        Busy: another transfer is writing it.
    """
    with terms.unfinished.held(remote_key(terms, dest), dest) as record:
        earlier = record.load()
        if earlier is not None and earlier.aside:
            put_back(remote, earlier.aside, dest)
        progress = earlier or Progress("upload", list(terms.server), dest)

        def put_aside(aside: str) -> None:
            progress.aside = aside
            record.save(progress)

        yield put_aside
        if progress.aside:
            progress.aside = ""
            record.save(progress)
        if not progress.temporary:
            record.forget()


def remote_key(terms: Terms, dest: str) -> tuple[object, ...]:
    """Return what tells a remote destination from others."""
    return "upload", terms.server, posixpath.normpath(dest)


def put_back(remote: RemoteFiles, aside: str, dest: str) -> None:
    """Finish a replacement in steps that was cut in its middle: there is a file at `dest`, and no other."""
    if not is_temporary(posixpath.basename(aside)):
        return
    try:
        remote.rename(aside, dest)
    except NotFound:
        return
    except (PermissionDenied, Unsupported):
        if remote.kind_of(dest) is None:
            raise
        with suppress(NotFound):
            remote.remove(aside)


def _replace_in_steps(remote: RemoteFiles, source: str, dest: str, put_aside: Callable[[str], object]) -> None:
    directory, slash, _ = dest.rpartition("/")
    aside = f"{directory}{slash}{temporary_name()}"
    put_aside(aside)
    remote.rename(dest, aside)
    try:
        remote.rename(source, dest)
    except SFTPError:
        remote.rename(aside, dest)
        raise
    with suppress(NotFound):
        remote.remove(aside)
