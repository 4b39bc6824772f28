"""The remote file that an upload writes to: a temporary file beside the destination, or a drop box's own file.

Folders that refuse to rename, or take names of a pattern only, get new files under their own names: see `drop_boxes`.
"""

from __future__ import annotations

import posixpath
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import NoSpace, NotADirectory, NotFound, PermissionDenied, SFTPError, Unsupported
from iot.sftp.client._base.messages import REMOTE_DISK_FULL
from iot.sftp.client._base.steps import finish
from iot.sftp.client._ssh.packets import Attributes, OpenFlag
from iot.sftp.client._ssh.server_traits import TEMPORARY_NAME
from iot.sftp.client._transfer.replace import remote_key
from iot.sftp.client._transfer.temporary_files import Removal, remove_temporary, temporary_name

if TYPE_CHECKING:
    from iot.sftp.client._base.steps import Steps
    from iot.sftp.client._transfer.resume_records import ResumeState
    from iot.sftp.client._transfer.upload_job import UploadJob

NEW = OpenFlag.CREATE | OpenFlag.EXCLUSIVE
TRUNCATED = OpenFlag.CREATE | OpenFlag.TRUNCATE


class _NameRefused(Unsupported):
    """Where nothing has the destination's name, that is refused as well."""


class UploadTarget:
    """Opens the file that an upload writes to."""

    def __init__(self, job: UploadJob) -> None:
        """Open nothing yet."""
        self._job = job

    def opening_new(self) -> Steps[bytes]:
        """Open a new temporary file, in steps, in directories that are made where they are missing."""
        try:
            return (yield from self._create())
        except (NotFound, NotADirectory):
            self._job.remote.make_directories(
                posixpath.dirname(self._job.dest) or ".", self._job.context.modes.directory
            )
            return (yield from self._create())

    def open_instead_of(self, earlier: ResumeState) -> bytes:
        """Open another file in the place of an earlier one that cannot be resumed."""
        job = self._job
        job.state.contiguous = 0
        job.state.opened = False
        if earlier.temporary == job.dest:
            return self.open_dest(job.drop_box.reason(), is_ours=earlier.opened)
        job.state.temporary = ""
        remove_earlier(job, earlier)
        return finish(self.opening_new())

    def discard(self) -> None:
        """Remove the temporary file, or leave as little of it as the server allows."""
        job = self._job
        if remove_temporary(job.remote, job.state) is Removal.REFUSED:
            with suppress(PermissionDenied, Unsupported, NotFound):
                job.close(finish(self._open_temporary()))
        job.state.temporary, job.state.opened = "", False

    def _create(self) -> Steps[bytes]:
        job = self._job
        if job.drop_box.refusal:
            return self.open_dest(job.drop_box.reason())
        if not job.temporary:
            job.state.temporary = posixpath.join(posixpath.dirname(job.dest), temporary_name())
        job.save()
        try:
            return (yield from self._open_temporary())
        except (PermissionDenied, Unsupported) as error:
            return self._open_under_another_name(error)

    def _open_temporary(self) -> Steps[bytes]:
        return self._open_for_writing(TRUNCATED)

    def _open_for_writing(self, flags: int) -> Steps[bytes]:
        job = self._job
        return job.remote.opening(job.temporary, OpenFlag.WRITE | flags, Attributes(mode=job.source.mode))

    # --- drop boxes ---

    def _open_under_another_name(self, error: SFTPError) -> bytes:
        """Find out whether it is the temporary name that is refused: some folders take names of a pattern only."""
        job = self._job
        refused = posixpath.basename(job.temporary)
        with suppress(PermissionDenied, Unsupported):
            return finish(self._open_temporary())  # it may have been for another reason, which has passed
        reason = type(error)(
            f"the server refused to create the temporary file {refused!r} in that folder ({error.message}). "
            "Allow writing there; if other names are allowed, names that begin with .iot-sftp- too",
            path=job.dest,
        )
        try:
            handle = self.open_dest(reason)
        except _NameRefused as refusal:
            if job.remote.is_full(posixpath.dirname(job.dest) or ".", for_new=True):
                raise NoSpace(REMOTE_DISK_FULL, path=job.dest) from error
            message = f"the server lets nothing be written in that folder ({error.message})"
            raise type(error)(message, path=job.dest) from refusal
        except Unsupported:
            raise reason from error  # something is there, or may be
        job.drop_box.learn(TEMPORARY_NAME)
        return handle

    def open_dest(self, reason: SFTPError, *, is_ours: bool = False) -> bytes:
        """Open the destination itself, where nothing else is.

        Parameters:
            reason: why there is no other way.
            is_ours: an earlier attempt has made what is there, and was not completed.

        Raises:
            Unsupported: something is there, and is not overwritten in place.
        """
        job = self._job
        if not is_ours or not self._may_overwrite():
            exists = self._exists()
            if exists:
                raise Unsupported(reason.message, path=job.dest)
            try:
                handle = self._open_dest_with(NEW)
            except (PermissionDenied, Unsupported) as error:
                if self._exists() is not False:
                    raise Unsupported(reason.message, path=job.dest) from error
            else:
                if exists is None:
                    self._check_exclusive(handle, reason)
                return handle
        try:
            return self._open_dest_with(TRUNCATED)  # not every server knows EXCLUSIVE
        except (PermissionDenied, Unsupported) as error:
            raise _NameRefused(reason.message, path=job.dest) from error

    def _check_exclusive(self, handle: bytes, reason: SFTPError) -> None:
        """Raise if the server opens an existing file as a new one: nothing but EXCLUSIVE shows it here.

        OpenSSH's knows it. Another one is asked to make the same file once more, which it has to refuse. Nothing is
        written, cut or removed before that is known.
        """
        job = self._job
        if job.remote.traits.parts_in_any_order:
            return
        attributes = Attributes(mode=job.source.mode)
        try:
            second = job.remote.handle(job.remote.begin_open(job.dest, OpenFlag.WRITE | NEW, attributes), job.dest)
        except (PermissionDenied, Unsupported):
            return
        for each in dict.fromkeys((handle, second)):
            job.close(each)
        job.state.temporary, job.state.opened = "", False
        job.record.forget()
        raise Unsupported(reason.message, path=job.dest)

    def _open_dest_with(self, flags: int) -> bytes:
        """Open the destination itself, and write down that what is there is ours."""
        job = self._job
        job.context.before_replacing()
        job.state.temporary = job.dest
        try:
            handle = finish(self._open_for_writing(flags))
        except BaseException:
            job.state.temporary = ""  # it may be another process's
            raise
        job.state.opened = True
        job.save()
        return handle

    def _exists(self) -> bool | None:
        """Return whether something has the destination's name; `None` where the server does not say."""
        remote, dest = self._job.remote, self._job.dest
        for begin in (remote.begin_stat, remote.begin_lstat):
            try:
                remote.attributes(begin(dest), dest)
            except (NotFound, NotADirectory):
                return False
            except (PermissionDenied, Unsupported):
                continue
            return True
        try:
            handle = remote.handle(remote.begin_open(dest, OpenFlag.READ, Attributes()), dest)
        except (NotFound, NotADirectory):
            return False
        except (PermissionDenied, Unsupported):
            return None
        self._job.close(handle)
        return True

    def _may_overwrite(self) -> bool:
        """Return whether an earlier attempt's file at the destination still is that: no longer than the source."""
        job = self._job
        there = job.remote.attributes_if_reported(job.remote.begin_stat(job.dest), job.dest)
        return there is None or there.size is None or there.size <= job.source.size


def remove_earlier(job: UploadJob, earlier: ResumeState) -> None:
    """Remove an earlier temporary file; one that may appear yet gets a record of its own.

    Where nothing may be removed, its name is used again: there is no further copy with each attempt.
    """
    found = remove_temporary(job.remote, earlier)
    if found is Removal.LATER:
        key = remote_key(job.context, earlier.temporary)
        with job.context.records.held(key, earlier.temporary) as record:
            record.save(replace(earlier, contiguous=0, backup="", pending_rename=""))
    elif found is Removal.REFUSED:
        job.state.temporary, job.state.opened = earlier.temporary, True
