"""Replacing a file at one blow: a temporary file beside it is filled, checked, and renamed over it.

Temporary names are hidden, unguessable and recognisable: `.iot-sftp-` and 16 hexadecimal digits.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import posixpath
import re
import secrets
import stat
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import IsADirectory, NotFound, PermissionDenied, SFTPError, Unsupported
from iot.sftp.client._base.sftp_statuses import is_plain_refusal
from iot.sftp.client._files.remote_files import POSIX_RENAME, RemoteFiles
from iot.sftp.client._files.remote_paths import TEMPORARY_PREFIX
from iot.sftp.client._transfer.unfinished import KEPT_FOR, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iot.sftp.client._files.local_files import LocalName
    from iot.sftp.client._transfer.terms import Terms

logger = logging.getLogger(__name__)

# What a file system says that has no fsync: FUSE and some network file systems.
NOT_OFFERED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})

_looked_at: set[tuple[int, int]] = set()  # local directories that were searched for leftovers
_looked_lock = threading.Lock()


def temporary_name() -> str:
    """Return a name that no other file has, and that tells whose it is."""
    return f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"


def is_temporary(name: str) -> bool:
    """Tell whether this is a name that `temporary_name` gives."""
    return re.fullmatch(re.escape(TEMPORARY_PREFIX) + "[0-9a-f]{16}", name) is not None


def replace_local(place: LocalName, name: str, descriptor: int, permissions: int | None) -> None:
    """Put the file `name` beside a destination in its place, with all its bytes on the disk.

    A file system may keep its own permissions (CIFS, exFAT, a mount of another owner), and may have no way to
    synchronise a directory: neither makes the file less whole.
    """
    if permissions is not None:
        with _optional("its permissions", place.path):
            os.fchmod(descriptor, permissions)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_OFFERED:
            raise
    os.replace(name, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory)
    with _optional("that its directory is on the disk", place.path):
        os.fsync(place.directory)


def keep_times(descriptor: int, accessed: int, modified: int, path: str) -> None:
    """Give a local file its times, as far as its file system and this machine's clock take them."""
    with _optional("its times", path):
        os.utime(descriptor, (accessed, modified))


@contextmanager
def _optional(what: str, path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, OverflowError, ValueError) as error:  # a 32-bit time_t ends in 2038
        logger.debug("%r is whole, but the local file system does not keep %s: %s", path, what, error)


def claim(descriptor: int) -> None:
    """Show that a temporary file is in use, as long as this descriptor is open."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


def remove_leftovers(directory: int) -> None:
    """Remove temporary files from a local directory whose record was lost, once for each directory of this process.

    They are as old as what nobody goes on with, and nobody has them open.
    """
    status = os.fstat(directory)
    place = status.st_dev, status.st_ino
    with _looked_lock:
        if place in _looked_at:
            return
        _looked_at.add(place)
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
    try:
        return try_to_replace(remote, source, dest, put_aside)
    except RenameRefused as refused:
        raise refused.reason from refused


def try_to_replace(remote: RemoteFiles, source: str, dest: str, put_aside: Callable[[str], object]) -> bool:
    """Do what `replace_remote` does.

    Raises:
        RenameRefused: no rename was carried out.
    """
    remote.deadline.check()
    remote = remote.patient()  # who cancels from here on would not know which of the two files is there
    if remote.offers(POSIX_RENAME):
        try:
            remote.posix_rename(source, dest)
        except (PermissionDenied, Unsupported) as error:
            # Win32-OpenSSH says FAILURE where `dest` is there, others announce what they do not carry out.
            logger.debug("The server announces %s and refuses it: %s", POSIX_RENAME, error.message)
        else:
            return True
    try:
        remote.rename(source, dest)
    except (PermissionDenied, Unsupported) as error:
        kind = _kind_if_told(remote, dest)
        if kind == stat.S_IFDIR:
            message = "this is a directory on the server: name a file in it"
            raise IsADirectory(message, path=dest) from None
        if kind is None:
            raise RenameRefused(error, dest, is_there=False) from error
        if kind == NOT_TOLD:
            raise RenameRefused(error, dest, is_there=None) from error
        _replace_in_steps(remote, source, dest, put_aside)
        logger.warning("%r was replaced in two steps: the server has no atomic replacement", dest)
        return False
    return True


NOT_TOLD = -1  # instead of the type of a file


class RenameRefused(Unsupported):
    """The server refuses to rename: the file cannot get its name in the usual way.

    Attributes:
        cause: what the server has answered.
        is_there: whether something has that name; `None` where the server does not tell.
    """

    def __init__(self, cause: SFTPError, dest: str, *, is_there: bool | None) -> None:
        """Name the rename as what was refused."""
        way = "cannot replace this file" if is_there else "cannot give the file its name"
        advice = "Allow renaming in that folder"
        if is_there is None:
            advice += ", or, if a file has that name already, renaming over it (posix-rename@openssh.com)"
        super().__init__(f"{way}: renaming was refused ({cause.message}). {advice}", path=dest)
        self.cause = cause
        self.is_there = is_there

    @property
    def reason(self) -> SFTPError:
        """The error for callers: the server's own, unless that may be how it says that the name is taken."""
        taken = self.is_there is None and not is_plain_refusal(self.cause)
        return (Unsupported if taken else type(self.cause))(self.message, path=self.path)


def _kind_if_told(remote: RemoteFiles, path: str) -> int | None:
    try:
        return remote.kind_of(path)
    except (PermissionDenied, Unsupported):
        return NOT_TOLD


@contextmanager
def replacing(remote: RemoteFiles, dest: str, terms: Terms) -> Iterator[Callable[[str], None]]:
    """Keep a remote destination for one move, and give what `replace_remote` tells the other name of the old file.

    Raises:
        Busy: another transfer is writing it.
    """
    with terms.unfinished.held(remote_key(terms, dest), dest) as record:
        earlier = record.load()
        if earlier is not None and earlier.aside:
            settle_aside(remote, earlier)
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


def settle_aside(remote: RemoteFiles, progress: Progress) -> None:
    """Finish a replacement in steps that was cut in its middle, as its temporary file tells how far it came."""
    if not is_temporary(posixpath.basename(progress.aside)):
        return
    if progress.renaming and remote.is_missing(progress.temporary):  # the new one has its name, or had it already
        with suppress(NotFound, PermissionDenied, Unsupported):
            remote.remove(progress.aside)
    else:
        _put_back(remote, progress.aside, progress.dest)


def _put_back(remote: RemoteFiles, aside: str, dest: str) -> None:
    """Have a file at `dest`, and no other."""
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
    try:
        remote.rename(dest, aside)
    except (PermissionDenied, Unsupported) as error:
        put_aside("")
        raise RenameRefused(error, dest, is_there=True) from error
    try:
        remote.rename(source, dest)
    except SFTPError:
        remote.rename(aside, dest)
        raise
    try:
        remote.remove(aside)
    except NotFound:
        pass
    except (PermissionDenied, Unsupported):  # the new one is in its place
        logger.warning("The file that was at %r stays as %r: the server lets nobody remove it", dest, aside)
