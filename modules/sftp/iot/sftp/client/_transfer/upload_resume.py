"""What an earlier attempt to upload a file has left: whether it has arrived, and whether it can be resumed."""

from __future__ import annotations

import logging
import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    ConnectionLost,
    DeadlineExceeded,
    NotADirectory,
    NotFound,
    PermissionDenied,
    SFTPError,
    TransferIncomplete,
    Unsupported,
)
from iot.sftp.client._files.file_version import SECOND, FileVersion
from iot.sftp.client._ssh.packets import OpenFlag
from iot.sftp.client._transfer.replace import settle_backup
from iot.sftp.client._transfer.resume_records import WORTH_KEEPING
from iot.sftp.client._transfer.upload_job import as_sftp_time
from iot.sftp.client._transfer.upload_target import remove_earlier
from iot.sftp.client._transfer.verify import beginning_is_same, compare_hashes

if TYPE_CHECKING:
    from iot.sftp.client._transfer.resume_records import ResumeState
    from iot.sftp.client._transfer.upload_job import UploadJob

logger = logging.getLogger(__name__)


class EarlierUpload:
    """What earlier attempts have left for one destination."""

    def __init__(self, job: UploadJob) -> None:
        """Look at nothing yet."""
        self._job = job

    def load(self) -> ResumeState | None:
        """Return what an earlier attempt has left to resume; clean up what is left of another version."""
        job = self._job
        earlier = job.record.load()
        if earlier is None:
            return None
        if earlier.backup:
            settle_backup(job.remote, earlier)
        is_same = job.source.is_settled and earlier.source == job.state.source
        is_worth_keeping = WORTH_KEEPING <= earlier.contiguous <= job.source.size or earlier.pending_rename
        if (is_same and is_worth_keeping) or earlier.temporary == job.dest:
            return earlier
        if earlier.pending_rename:  # what we remove has not got its name
            job.record.save(replace(earlier, pending_rename="", backup=""))
        remove_earlier(job, earlier)
        return None

    def arrived_as(self, earlier: ResumeState) -> str:
        """Return how a file was verified that an earlier attempt has renamed without an answer; empty otherwise.

        Its temporary name is unique, and the server has had all of this version under it: it is gone only if
        the rename was carried out. So it is not sent again, though its receiver may have taken it away by now. What
        else is there may be a later one, within this call; after a longer time, it is reason to send it again.
        """
        job = self._job
        if not job.remote.is_missing(earlier.temporary):
            return ""
        if earlier.temporary in job.context.unanswered_renames:
            return earlier.pending_rename
        try:
            there = job.remote.stat(job.dest)
        except (NotFound, NotADirectory):
            # Taken by its receiver, most likely. But a server may also have come back with an older disk, or another
            # one: only what had been synced to it cannot have gone otherwise.
            folder = posixpath.dirname(job.dest) or "."
            is_certain = job.remote.offers_fsync and not job.remote.is_missing(folder)
            return earlier.pending_rename if is_certain else ""
        except (PermissionDenied, Unsupported):
            return ""
        if there.size not in {None, job.source.size}:
            return ""
        return self._verified_at_dest(earlier, FileVersion.of_remote(there))

    def _verified_at_dest(self, earlier: ResumeState, there: FileVersion) -> str:
        """Return how what is at the destination is known to be the local file; empty if it is another."""
        job = self._job
        remote, dest, descriptor = job.remote, job.dest, job.source.descriptor
        try:
            with remote.opened(dest, OpenFlag.READ, wait_for_close=False) as handle:
                if job.context.verify == "sha256" and earlier.pending_rename in {"size", "acknowledged"}:
                    return compare_hashes(remote, handle, dest, descriptor)
                is_same = beginning_is_same(remote, handle, dest, descriptor, job.source.size)
        except (ConnectionLost, DeadlineExceeded):
            raise
        except TransferIncomplete:
            return ""
        except SFTPError as error:
            logger.debug("%r cannot be read back: %s", dest, error.message)
            set_by_us = as_sftp_time(job.source.status.st_mtime_ns) * SECOND
            is_same = there.resembles(FileVersion(job.source.size, set_by_us))
        return earlier.pending_rename if is_same else ""

    def resume(self, earlier: ResumeState) -> bytes | None:
        """Open an earlier temporary file for writing, if it begins with the bytes of the local file.

        Its state becomes that of this attempt, also where it cannot be resumed.
        """
        job = self._job
        job.state.temporary, job.state.contiguous = earlier.temporary, earlier.contiguous
        job.state.opened = earlier.opened
        if earlier.pending_rename:
            job.earlier_rename = earlier
            job.save()  # from here on, what is gone may have been removed by us
        is_same = job.source.is_settled and earlier.source == job.state.source
        if not is_same or earlier.contiguous < WORTH_KEEPING:
            return None
        try:
            # Erlang's ssh_sftpd and rclone's cache cut a file that is opened for writing alone.
            handle = job.remote.open(job.temporary, OpenFlag.READ | OpenFlag.WRITE)
        except (PermissionDenied, Unsupported):
            return self._resume_over_two_handles()
        except NotFound:
            return None
        if self._has_kept_its_size(handle) and self._begins_alike(handle):
            return handle
        job.close(handle)
        return None

    def _resume_over_two_handles(self) -> bytes | None:
        """Resume where no file may be open for reading and writing at once, as with object stores."""
        job = self._job
        try:
            with job.remote.opened(job.temporary, OpenFlag.READ) as reading:
                if not self._begins_alike(reading):
                    return None
            handle = job.remote.open(job.temporary, OpenFlag.WRITE)
        except (PermissionDenied, Unsupported, NotFound):
            return None
        if self._has_kept_its_size(handle):
            return handle
        job.close(handle)
        return None

    def _begins_alike(self, handle: bytes) -> bool:
        job = self._job
        length = job.state.contiguous
        try:
            return beginning_is_same(job.remote, handle, job.temporary, job.source.descriptor, length)
        except (ConnectionLost, DeadlineExceeded):
            raise
        except SFTPError as error:
            logger.debug("%r cannot be read back: %s", job.temporary, error.message)
            return False

    def _has_kept_its_size(self, handle: bytes) -> bool:
        """Return whether what an earlier attempt has sent is still there once the file is open again."""
        job = self._job
        there = job.remote.attributes_if_reported(job.remote.begin_fstat(handle), job.temporary)
        if there is None or there.size is None:
            there = job.remote.attributes_if_reported(job.remote.begin_stat(job.temporary), job.temporary)
        size = None if there is None else there.size
        return size is not None and job.state.contiguous <= size <= job.source.size
