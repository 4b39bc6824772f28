"""Replace a file atomically: the complete temporary file beside it is renamed over it; see `temporary_files`."""

from __future__ import annotations

import logging
import os
import posixpath
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    AlreadyExists,
    IsADirectory,
    NotFound,
    PermissionDenied,
    SFTPError,
    Unsupported,
)
from iot.sftp.client._base.messages import IS_A_REMOTE_DIRECTORY
from iot.sftp.client._base.sftp_statuses import is_plain_refusal
from iot.sftp.client._base.steps import TOGETHER, finish
from iot.sftp.client._files.disk_sync import sync_file
from iot.sftp.client._files.local_backup import keep_backup
from iot.sftp.client._files.remote_files import POSIX_RENAME, RemoteFiles
from iot.sftp.client._files.set_aside import move_without_replacing
from iot.sftp.client._transfer.file_order import Direction
from iot.sftp.client._transfer.resume_records import ResumeState
from iot.sftp.client._transfer.temporary_files import is_temporary, temporary_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iot.sftp.client._base.steps import Steps
    from iot.sftp.client._files.local_files import LocalName
    from iot.sftp.client._transfer.transfer_context import TransferContext

logger = logging.getLogger(__name__)


def replace_local(
    place: LocalName, name: str, descriptor: int, permissions: int | None, context: TransferContext
) -> None:
    """Put the file `name` beside a destination in its place: see `replacing_local`."""
    finish(replacing_local(place, name, descriptor, permissions, context))


def replacing_local(
    place: LocalName, name: str, descriptor: int, permissions: int | None, context: TransferContext
) -> Steps[None]:
    """Put the file `name` beside a destination in its place, in steps, with all its bytes on the disk.

    What is synced in one go, by one thread, is mostly one transaction of the file system's.

    A file system may keep its own permissions (CIFS, exFAT, a mount of another owner), and may have no way to
    synchronise a directory: the file is complete all the same.
    """
    if permissions is not None:
        _do_if_possible("its permissions", place.path, os.fchmod, descriptor, permissions)
    yield TOGETHER
    sync_file(descriptor)
    if context.keeps_existing:
        if not move_without_replacing(place.directory, name, place.name):
            message = "something is at the destination already, and was left alone: move it away"
            raise AlreadyExists(message, path=place.path)
    else:
        if context.backup is not None and context.backup.local_files is not None:
            keep_backup(context.backup.local_files, place, context.backup.path, mode=context.modes.directory)
        os.replace(name, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory)
    yield TOGETHER
    _do_if_possible("that its directory is on the disk", place.path, os.fsync, place.directory)


def keep_times(descriptor: int, accessed: int, modified: int, path: str) -> None:
    """Give a local file its times, as far as its file system and this machine's clock take them."""
    _do_if_possible("its times", path, os.utime, descriptor, (accessed, modified))


def _do_if_possible(what: str, path: str, action: Callable[..., object], *arguments: object) -> None:
    try:
        action(*arguments)
    except (OSError, OverflowError, ValueError) as error:  # a 32-bit time_t ends in 2038
        logger.debug("%r is complete, but the local file system does not keep %s: %s", path, what, error)


def replace_remote(
    remote: RemoteFiles, source: str, dest: str, note_backup: Callable[[str], object] = lambda _: None
) -> bool:
    """Rename `source` to `dest`, replacing it; return whether that was one atomic step.

    Where the server has no atomic replacement, the old file is kept under another name until the new one is in
    place, and is restored if that fails. So there is always a complete file, though for a moment not under `dest`.

    Parameters:
        remote: the server's files.
        source: the new file, complete.
        dest: the path that it gets.
        note_backup: receives the backup path before the old file gets it.
    """
    try:
        return try_to_replace(remote, source, dest, note_backup)
    except RenameRefused as refused:
        raise refused.reason from refused


def try_to_replace(remote: RemoteFiles, source: str, dest: str, note_backup: Callable[[str], object]) -> bool:
    """Do what `replace_remote` does: see `replacing_in_steps`."""
    return finish(replacing_in_steps(remote, source, dest, note_backup))


def replacing_in_steps(
    remote: RemoteFiles, source: str, dest: str, note_backup: Callable[[str], object]
) -> Steps[bool]:
    """Do what `replace_remote` does, in steps.

    Raises:
        RenameRefused: no rename was carried out.
    """
    remote.deadline.check()
    remote = remote.patient()  # a caller that cancels from here on would not know which of the two files is there
    if remote.offers_posix_rename:
        try:
            yield from remote.posix_rename(source, dest)
        except (PermissionDenied, Unsupported) as error:
            # Win32-OpenSSH says FAILURE where `dest` is there, others announce what they do not carry out.
            logger.debug("The server announces %s and refuses it: %s", POSIX_RENAME, error.message)
        else:
            return True
    try:
        remote.rename(source, dest)
    except (PermissionDenied, Unsupported) as error:
        kind = kind_if_reported(remote, dest)
        if kind == stat.S_IFDIR:
            raise IsADirectory(IS_A_REMOTE_DIRECTORY, path=dest) from None
        if kind is None:
            raise RenameRefused(error, dest, is_there=False) from error
        if kind == NOT_REPORTED:
            raise RenameRefused(error, dest, is_there=None) from error
        _replace_in_steps(remote, source, dest, note_backup)
        logger.warning("%r was replaced in two steps: the server has no atomic replacement", dest)
        return False
    return True


NOT_REPORTED = -1  # instead of the type of a file


class RenameRefused(Unsupported):
    """The server refuses to rename: the file cannot get its name in the usual way.

    Attributes:
        cause: what the server has answered.
        is_there: whether something has that name; `None` where the server does not report it.
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


def kind_if_reported(remote: RemoteFiles, path: str) -> int | None:
    """Return the type of what is at a path, `None` for nothing, and `NOT_REPORTED` where the server refuses."""
    try:
        return remote.kind_of(path)
    except (PermissionDenied, Unsupported):
        return NOT_REPORTED


@contextmanager
def replacing(remote: RemoteFiles, dest: str, context: TransferContext) -> Iterator[Callable[[str], None]]:
    """Keep a remote destination for one move, and yield what `replace_remote` calls with the backup path.

    Raises:
        Busy: another transfer is writing it.
    """
    with context.records.held(remote_key(context, dest), dest) as record:
        earlier = record.load()
        if earlier is not None and earlier.backup:
            settle_backup(remote, earlier)
        state = earlier or ResumeState(Direction.UPLOAD.value, list(context.server), dest)

        def note_backup(backup: str) -> None:
            state.backup = backup
            record.save(state)

        yield note_backup
        if state.backup:
            state.backup = ""
            record.save(state)
        if not state.temporary:
            record.forget()


def remote_key(context: TransferContext, dest: str) -> tuple[object, ...]:
    """Return the key of a remote destination's resume record."""
    return "upload", context.server, posixpath.normpath(dest)


def settle_backup(remote: RemoteFiles, state: ResumeState) -> None:
    """Finish a replacement in steps that was cut in its middle, as its temporary file shows how far it came."""
    if not is_temporary(posixpath.basename(state.backup)):
        return
    if state.pending_rename and remote.is_missing(state.temporary):  # the new one has its name, or had it already
        with suppress(NotFound, PermissionDenied, Unsupported):
            remote.remove(state.backup)
    else:
        _restore_backup(remote, state.backup, state.dest)


def _restore_backup(remote: RemoteFiles, backup: str, dest: str) -> None:
    """Have a file at `dest`, and no other."""
    try:
        remote.rename(backup, dest)
    except NotFound:
        return
    except (PermissionDenied, Unsupported):
        if remote.kind_of(dest) is None:
            raise
        with suppress(NotFound):
            remote.remove(backup)


def put_back(rename: Callable[[str, str], object], backup: str, dest: str) -> bool:
    """Give an old file its place again, and return whether that was done; why not is logged.

    It is the failure before it that callers have to know: its class says whether the new file may have arrived.

    Parameters:
        rename: never replaces what has appeared there meanwhile.
        backup: the old file's name now.
        dest: its place.
    """
    try:
        rename(backup, dest)
    except SFTPError as error:
        words = "The file that was at %r is kept as %r, since it cannot be put back now: %s"
        logger.warning(words, dest, backup, error.message)
        return False
    return True


def _replace_in_steps(remote: RemoteFiles, source: str, dest: str, note_backup: Callable[[str], object]) -> None:
    directory, slash, _ = dest.rpartition("/")
    backup = f"{directory}{slash}{temporary_name()}"
    note_backup(backup)
    try:
        remote.rename(dest, backup)
    except (PermissionDenied, Unsupported) as error:
        note_backup("")
        raise RenameRefused(error, dest, is_there=True) from error
    try:
        remote.rename(source, dest)
    except SFTPError:
        if put_back(remote.rename, backup, dest):
            note_backup("")
        raise
    try:
        remote.remove(backup)
    except NotFound:
        pass
    except (PermissionDenied, Unsupported):  # the new one is in its place
        logger.warning("The file that was at %r stays as %r: the server refuses to remove it", dest, backup)
