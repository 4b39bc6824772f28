"""Give an uploaded file its name: replacing what is there, or not, or keeping that under another name first.

Not replacing is what RENAME of version 3 promises (draft-ietf-secsh-filexfer-02, section 6.5), and OpenSSH does it by
link(2), without a gap. Others, such as Go's pkg/sftp, replace all the same: they are asked with LSTAT just before, and
what appears within that round trip is lost, as the protocol has nothing better.

A backup is a second name of the old file (`hardlink@openssh.com`), so that the destination is there at every moment.
Without links, the old file is renamed, and the new one follows at once: for one round trip, only the backup is there.
Where that is refused, as it is from one file system to another, the old file is copied, which leaves no gap either.
"""

from __future__ import annotations

import logging
import posixpath
import stat
from functools import partial
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    AlreadyExists,
    ConnectionLost,
    DeadlineExceeded,
    IsADirectory,
    PermissionDenied,
    SFTPError,
    TransferIncomplete,
    Unsupported,
)
from iot.sftp.client._base.messages import IS_A_REMOTE_DIRECTORY
from iot.sftp.client._files.file_version import FileVersion
from iot.sftp.client._files.numbered_names import numbered_in_parts
from iot.sftp.client._files.remote_files import HARDLINK
from iot.sftp.client._transfer.remote_copy import copy_to
from iot.sftp.client._transfer.replace import (
    RenameRefused,
    kind_if_reported,
    put_back,
    replacing_in_steps,
    try_to_replace,
)
from iot.sftp.client._transfer.verify import remote_files_are_same

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._base.steps import Steps
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._ssh.packets import Attributes
    from iot.sftp.client._transfer.upload_job import UploadJob

logger = logging.getLogger(__name__)


def put_in_place(job: UploadJob, note_backup: Callable[[str], object]) -> Steps[bool]:
    """Rename an upload's temporary file to its destination; return whether that was one atomic step.

    It is done in steps where nothing is to be kept.

    Parameters:
        job: the upload, whose temporary file is complete.
        note_backup: receives the temporary path that the old file gets for a moment, where it gets one.

    Raises:
        RenameRefused: no rename was carried out.
        AlreadyExists: something is there, and is not to be replaced.
    """
    if job.context.keeps_existing:
        return place_new(job.remote, job.temporary, job.dest)
    if job.context.backup is not None:
        return _BackedUp(job, job.context.backup.path, note_backup).replace()
    return (yield from replacing_in_steps(job.remote, job.temporary, job.dest, note_backup))


def place_new(remote: RemoteFiles, source: str, dest: str) -> bool:
    """Rename a file to a name that nothing has; return whether that was one atomic step.

    Raises:
        RenameRefused: no rename was carried out.
        AlreadyExists: something is there.
    """
    remote.deadline.check()
    remote = remote.patient()
    if not remote.traits.parts_in_any_order:  # of OpenSSH, whose RENAME is sure not to replace
        _refuse_existing(remote, dest)
    try:
        remote.rename(source, dest)
    except (PermissionDenied, Unsupported) as error:
        _refuse_existing(remote, dest)
        is_there = None if kind_if_reported(remote, dest) is not None else False
        raise RenameRefused(error, dest, is_there=is_there) from error
    return True


def already_exists(path: str) -> AlreadyExists:
    """Return the error of a destination that is not to be replaced."""
    message = "something is at the destination already, and was left alone: move it away, or choose another if_exists"
    return AlreadyExists(message, path=path)


def _refuse_existing(remote: RemoteFiles, dest: str) -> None:
    if _attributes_of(remote, dest) is not None:
        raise already_exists(dest)


def _attributes_of(remote: RemoteFiles, path: str) -> Attributes | None:
    (there,) = remote.attributes_of([path], follow_links=False)
    return there


class _BackedUp:
    """The replacement of a file that is kept under another name.

    Each step leaves enough behind to go on from there after a crash, without a record: at every moment the old file is
    at the destination or in the folder for backups, and one that is in both is not kept a second time.
    """

    def __init__(self, job: UploadJob, backup: str, note_backup: Callable[[str], object]) -> None:
        self._job = job
        self._remote = job.remote.patient()
        self._backup = backup
        self._note_backup = note_backup

    def replace(self) -> bool:
        """Do it; return whether the destination was there at every moment."""
        job, remote = self._job, self._remote
        job.remote.deadline.check()
        there = _attributes_of(remote, job.dest)
        if there is None:
            try:
                return place_new(remote, job.temporary, job.dest)
            except AlreadyExists:
                there = _attributes_of(remote, job.dest)
        if there is None or stat.S_ISDIR(there.mode or 0):
            raise IsADirectory(IS_A_REMOTE_DIRECTORY, path=job.dest)
        remote.make_directories(posixpath.dirname(self._backup) or ".", job.context.modes.directory)
        for names in numbered_in_parts(self._backup):
            found = remote.attributes_of(names, follow_links=False)
            for name, kept in zip(names, found, strict=True):
                if kept is None:
                    is_done = self._replace_keeping(name, there)
                    if is_done is not None:
                        return is_done
                elif self._is_kept(name, kept, there):
                    return self._replace()
        message = "all numbered names are taken in the folder for backups: nothing was replaced"
        raise AlreadyExists(message, path=self._backup)

    def _replace(self) -> bool:
        return try_to_replace(self._remote, self._job.temporary, self._job.dest, self._note_backup)

    def _is_kept(self, name: str, kept: Attributes, there: Attributes) -> bool:
        """Return whether an earlier attempt, which ended in between, has given the old file that name."""
        if there.size is None or not FileVersion.of_remote(kept).resembles(FileVersion.of_remote(there)):
            return False
        try:
            return remote_files_are_same(self._remote, self._job.dest, name, there.size)
        except (ConnectionLost, DeadlineExceeded):
            raise
        except SFTPError as error:
            logger.debug("%r and %r cannot be compared: %s", self._job.dest, name, error)
            return False

    def _replace_keeping(self, name: str, there: Attributes) -> bool | None:
        """Keep the old file under a name, and replace it; `None` if that name is taken by now."""
        job, remote = self._job, self._remote
        if self._is_linked(name):
            return self._replace()
        try:
            remote.rename(job.dest, name)
        except (PermissionDenied, Unsupported) as error:
            if _attributes_of(remote, name) is not None:
                return None
            logger.debug("%r is copied to %r, as it cannot be renamed: %s", job.dest, name, error)
            self._copy(name, there)
            return self._replace()
        try:
            place_new(remote, job.temporary, job.dest)
        except SFTPError:
            put_back(partial(place_new, remote), name, job.dest)
            raise
        logger.warning(
            "%r was replaced in two steps: the server has no hard links, and it was moved to %r first", job.dest, name
        )
        return False

    def _is_linked(self, name: str) -> bool:
        if not (self._remote.offers(HARDLINK) and self._remote.offers_posix_rename):
            return False
        try:
            self._remote.link(self._job.dest, name)
        except (PermissionDenied, Unsupported) as error:
            logger.debug("%r is not linked to %r: %s", self._job.dest, name, error)
            return False
        # rclone says OK, and does nothing: what is replaced next would be lost
        return _attributes_of(self._remote, name) is not None

    def _copy(self, name: str, there: Attributes) -> None:
        job, remote = self._job, self._remote
        try:
            copy_to(remote, job.dest, name, there, job.context)
        except (PermissionDenied, Unsupported) as refusal:
            message = f"the old file cannot be kept in the folder for backups, and was not replaced: {refusal.message}"
            raise type(refusal)(message, path=job.dest) from refusal
        now = _attributes_of(remote, job.dest)
        if now is None or not FileVersion.of_remote(now).is_same_as(FileVersion.of_remote(there)):
            message = "the file at the destination changed while it was copied to the folder for backups: try again"
            raise TransferIncomplete(message, path=job.dest)
