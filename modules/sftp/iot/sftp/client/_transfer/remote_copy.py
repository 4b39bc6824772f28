"""Moving a file on the server to where a rename does not lead: another file system, another mount, another export.

Servers answer such a rename with FAILURE, as OpenSSH does for EXDEV, and do not say why. The file is copied beside its
new place, by the server itself where it offers `copy-data` (draft-ietf-secsh-filexfer-extensions-00, section 7; OpenSSH
9.0), else through this machine; its size is compared, and it is renamed before the original is removed.
"""

from __future__ import annotations

import logging
import posixpath
from contextlib import suppress
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    ConnectionLost,
    DeadlineExceeded,
    EndOfFile,
    HandleInUse,
    NoSpace,
    SFTPError,
    TransferIncomplete,
)
from iot.sftp.client._files.file_version import FileVersion
from iot.sftp.client._files.remote_requests import SAFE_REQUEST
from iot.sftp.client._files.set_aside import VersionChanged
from iot.sftp.client._ssh.packets import Attributes, OpenFlag
from iot.sftp.client._transfer.replace import replace_remote, replacing
from iot.sftp.client._transfer.resume_records import ResumeState
from iot.sftp.client._transfer.server_copy import copied_by_server
from iot.sftp.client._transfer.temporary_files import Removal, is_temporary, remove_temporary, temporary_name
from iot.sftp.client._transfer.verify import remote_files_are_same

if TYPE_CHECKING:
    from concurrent.futures import Future

    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._ssh.requests import Reply
    from iot.sftp.client._transfer.transfer_context import TransferContext

logger = logging.getLogger(__name__)

IN_FLIGHT = 16  # READs, or WRITEs
PERMISSION_BITS = 0o777


def move_by_copy(remote: RemoteFiles, source: str, target: str, context: TransferContext) -> None:
    """Copy a file to its new place on the server, replacing what is there, and remove the original.

    Parameters:
        remote: the server's files.
        source: the file.
        target: its new path, in a directory that is there.
        context: what keeps two writers of one destination apart.

    Raises:
        TransferIncomplete: the file changed meanwhile, or the copy is shorter: both places hold what they held before.
        VersionChanged: the file changed when it had been copied: it is left alone.
        SFTPError: the server refused; where it refuses to remove the original, the copy stays.
    """
    before = remote.stat(source)
    if not _is_copied(remote, source, target, before):
        copy_to(remote, source, target, before, context)
        if not FileVersion.of_remote(remote.stat(source)).is_same_as(FileVersion.of_remote(before)):
            raise VersionChanged(source)  # a rename may take its time
    remote.remove(source)
    logger.info("%r was moved to %r by copying it: the server does not rename it there", source, target)


def _is_copied(remote: RemoteFiles, source: str, target: str, before: Attributes) -> bool:
    """Return whether all bytes are at the new place: an earlier move could not remove the original, or was killed."""
    (there,) = remote.attributes_of([target])
    if there is None or there.size is None or there.size != before.size:
        return False
    try:
        is_same = remote_files_are_same(remote, source, target, there.size)
    except (ConnectionLost, DeadlineExceeded, HandleInUse):
        raise
    except SFTPError as error:
        logger.debug("%r and %r cannot be compared: %s", source, target, error)
        return False
    return is_same and FileVersion.of_remote(remote.stat(source)).is_same_as(FileVersion.of_remote(before))


def copy_to(remote: RemoteFiles, source: str, target: str, before: Attributes, context: TransferContext) -> None:
    """Copy a file beside its new place, and give the copy its name; one that cannot be removed is written again."""
    with context.records.held(("copy", context.server, posixpath.normpath(target)), target) as record:
        state = record.load() or ResumeState("upload", list(context.server), target, opened=True)
        if not is_temporary(posixpath.basename(state.temporary)):
            state.temporary = posixpath.join(posixpath.dirname(target), temporary_name())
        temporary = state.temporary
        record.save(state)
        try:
            _copy(remote, source, temporary, before)
            _compare(remote, source, temporary, before)
            with replacing(remote, target, context) as note_backup:
                replace_remote(remote, temporary, target, note_backup)
        except (ConnectionLost, DeadlineExceeded):
            raise  # the record stays: a later session cleans up
        except BaseException:
            with suppress(ConnectionLost, DeadlineExceeded):
                if remove_temporary(remote, state) is not Removal.REFUSED:
                    record.forget()
            raise
        record.forget()


def _copy(remote: RemoteFiles, source: str, temporary: str, attributes: Attributes) -> None:
    permissions = None if attributes.mode is None else attributes.mode & PERMISSION_BITS
    flags = OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.TRUNCATE
    with remote.opened(source, OpenFlag.READ, wait_for_close=False) as start:
        end = remote.open(temporary, flags, Attributes(mode=permissions))
        try:
            if attributes.size is None or not copied_by_server(remote, start, end, temporary, attributes.size):
                _copy_through_here(remote, (source, start), (temporary, end))
            if remote.offers_fsync:
                _wait_if_carried_out(remote, remote.begin_fsync(end), temporary)
        except BaseException:
            remote.begin_close(end)
            raise
        remote.close(end, temporary)
    if attributes.access_time is not None and attributes.modification_time is not None:
        times = Attributes(access_time=attributes.access_time, modification_time=attributes.modification_time)
        _wait_if_carried_out(remote, remote.begin_setstat(temporary, times), temporary)


def _wait_if_carried_out(remote: RemoteFiles, asked: Future[Reply], path: str) -> None:
    """Wait for what a server need not do: it may keep its own times, and sync nothing."""
    try:
        remote.wait(asked, path)
    except (ConnectionLost, DeadlineExceeded, NoSpace):
        raise
    except SFTPError as error:
        logger.debug("The server does not do all for %r: %s", path, error.message)


def _copy_through_here(remote: RemoteFiles, source: tuple[str, bytes], copy: tuple[str, bytes]) -> None:
    """Read the file and write it again, some requests at a time, each as small as any server takes it."""
    offset = 0
    while True:
        reads = [remote.begin_read(source[1], offset + part * SAFE_REQUEST, SAFE_REQUEST) for part in range(IN_FLIGHT)]
        writes, is_gapless = [], True
        for read in reads:
            data = b""
            with suppress(EndOfFile):
                data = remote.data(read, source[0])
            if is_gapless and data:
                writes.append(remote.begin_write(copy[1], offset, data))
                offset += len(data)
            is_gapless = is_gapless and len(data) == SAFE_REQUEST
        for write in writes:
            remote.wait(write, copy[0])
        if not writes:
            return


def _compare(remote: RemoteFiles, source: str, temporary: str, before: Attributes) -> None:
    after, copy = remote.attributes_of([source, temporary])
    if after is None or copy is None:
        message = "the file could not be compared with its copy on the server: try again"
        raise TransferIncomplete(message, path=source)
    version = FileVersion.of_remote(after)
    is_complete = FileVersion(copy.size).is_same_as(FileVersion(after.size))
    if not is_complete or not version.is_same_as(FileVersion.of_remote(before)):
        message = "the file changed while it was copied on the server, or the copy was cut short: try again"
        raise TransferIncomplete(message, path=source)
