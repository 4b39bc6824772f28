"""Upload what a file has grown by: its destination always holds a beginning of one version of it.

Where the server offers `copy-data`, the next version is made there: a temporary file, the old version copied into it
by the server, the new bytes behind it, its size, and the rename. A reader sees the old or the new complete file, and
only the new bytes cross the link. Elsewhere the new bytes are written behind the old ones, in order, so that what is
there is a beginning at every moment; a reader may see any part of them.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from iot.sftp.client._base.errors import (
    ConnectionLost,
    DeadlineExceeded,
    NoSpace,
    PermissionDenied,
    SFTPError,
    TransferIncomplete,
    Unsupported,
)
from iot.sftp.client._base.messages import REMOTE_DISK_FULL
from iot.sftp.client._base.steps import finish
from iot.sftp.client._ssh.packets import Attributes, OpenFlag
from iot.sftp.client._transfer.append_dest import Beginning, beginning_at
from iot.sftp.client._transfer.growing_source import GrowingSource
from iot.sftp.client._transfer.pipeline import SourceChanged
from iot.sftp.client._transfer.replace import remote_key
from iot.sftp.client._transfer.server_copy import copied_by_server
from iot.sftp.client._transfer.upload import UploadAttempt
from iot.sftp.client._transfer.upload_body import UploadBody
from iot.sftp.client._transfer.upload_completion import UploadCompletion
from iot.sftp.client._transfer.upload_job import UploadJob, no_spare
from iot.sftp.client._transfer.verify import PART, compare_hashes, parts_are_same

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._ssh.requests import Reply
    from iot.sftp.client._transfer.growth import GrowthRecord
    from iot.sftp.client._transfer.resume_records import ResumeState
    from iot.sftp.client._transfer.transfer_context import TransferContext

logger = logging.getLogger(__name__)

IN_FLIGHT = 64  # WRITEs, where the server carries them out in their order; elsewhere each waits for the one before


class AppendOutcome(NamedTuple):
    """What was done: bytes that were sent, what is at the destination now, whether in one step, and whether at all."""

    sent: int
    record: GrowthRecord
    is_atomic: bool = True
    is_new: bool = True


@dataclass(frozen=True)
class Growth:
    """What is to be appended.

    Attributes:
        descriptor: of the local file.
        end: up to where it is delivered.
        before: what was delivered before, as far as that is recorded.
        was_cut: whether the file does not begin with that any more.
        note_coming: called before bytes are sent, with what is at the destination, and what is sent there.
    """

    descriptor: int
    end: int
    before: GrowthRecord | None
    was_cut: bool
    note_coming: Callable[[GrowthRecord, GrowthRecord], object]


def append_upload(remote: RemoteFiles, dest: str, growth: Growth, context: TransferContext) -> AppendOutcome:
    """Have a remote file hold the beginning of a local one up to an offset.

    Parameters:
        remote: the server's files.
        dest: the remote file.
        growth: what it is to hold.
        context: how to upload.

    Raises:
        AlreadyExists: what is there is not a beginning of the local file, and was not delivered by us.
        TransferIncomplete: the local file was cut or rewritten meanwhile.
    """
    with context.records.held(remote_key(context, dest), dest) as record:
        job = UploadJob(remote, growth.descriptor, dest, record=record, context=context, spare=no_spare)
        is_full = context.verify == "sha256"
        source = GrowingSource(
            growth.descriptor, growth.end, context.modes.remote, is_full=is_full, proceed=remote.deadline.check
        )
        job.source = source
        try:
            return _AppendAttempt(job, source, growth).append()
        except SourceChanged as error:
            raise TransferIncomplete(error.message, path=error.path) from error


class _CopyRefusedError(Exception):
    """The server does not copy: the bytes are appended in place."""


class _AppendAttempt(UploadAttempt):
    """One attempt to append: a new version of the destination, as an upload makes it, or the new bytes in place."""

    def __init__(self, job: UploadJob, source: GrowingSource, growth: Growth) -> None:
        super().__init__(job)
        self._source = source
        self._growth = growth
        self._body: _AppendBody = _AppendBody(job)
        self._has_arrived = False  # what the record is about: it is forgotten, or becomes that of this attempt

    def append(self) -> AppendOutcome:
        job, growth = self._job, self._growth
        job.state.source = [*job.source.version]
        earlier = self._load_earlier()
        there = beginning_at(job.remote, job.dest, growth.descriptor, growth.before, was_cut=growth.was_cut)
        if there.length == there.size and there.length >= growth.end:
            self._forget_arrived()
            return AppendOutcome(0, self._record_of_dest(there.length), is_new=False)
        growth.note_coming(there.known or self._record_of_dest(there.length), self._source.record_at(growth.end))
        self._source.begin_at(there.length)
        report = job.context.on_progress
        job.context = replace(
            job.context,
            keeps_existing=there.size is None,
            on_progress=lambda done, _total: report(max(0, done - there.length), growth.end - there.length),
        )
        is_atomic = True
        if there.length and (not job.remote.offers_copy or job.remote.traits.refuses_copy or job.drop_box.refusal):
            self._append_in_place(there.length)
            is_atomic = False
        else:
            try:
                is_atomic = self._make_version(there, earlier)
            except _CopyRefusedError:
                self._append_in_place(there.length)
                is_atomic = False
        return AppendOutcome(growth.end - there.length, self._source.record_at(growth.end), is_atomic)

    def _record_of_dest(self, length: int) -> GrowthRecord:
        """Return the record of what is at the destination, which is as long a beginning of the source.

        Raises:
            SourceChanged: the source was rewritten since then, and does not tell any more.
        """
        before = self._growth.before
        if before is not None and before.length == length:
            return replace(before, inode=os.fstat(self._growth.descriptor).st_ino, coming=None)
        record = self._source.record_at(length)
        self._source.check_beginning(self._job.dest)
        return record

    def _load_earlier(self) -> ResumeState | None:
        """Return what an earlier attempt has left to resume: what has got its name since then is none."""
        earlier = self._earlier.load()
        if earlier is None or earlier.temporary == self._job.dest:
            return None
        if earlier.pending_rename and self._job.remote.is_missing(earlier.temporary):
            self._has_arrived = True
            return None
        return earlier

    def _forget_arrived(self) -> None:
        if self._has_arrived:
            self._job.record.forget()

    # --- a new version ---

    def _make_version(self, there: Beginning, earlier: ResumeState | None) -> bool:
        """Make the next version beside the destination and rename it; return whether that was atomic."""
        job = self._job
        try:
            handle = finish(self._open(earlier))
            job.state.opened = True
            self._body.is_resumed = bool(job.state.contiguous)
            if there.length and not job.state.contiguous:
                self._copy(handle, there.length)
            _, verified = finish(self._send(handle))
            is_atomic = not job.is_direct
            if is_atomic:
                _, is_atomic = finish(self._replace(verified))
        except BaseException as error:
            self._clean_up(error)
            raise
        job.record.forget()
        return is_atomic

    def _copy(self, handle: bytes, length: int) -> None:
        job = self._job
        try:
            with job.remote.opened(job.dest, OpenFlag.READ, wait_for_close=False) as old:
                is_copied = copied_by_server(job.remote, old, handle, job.temporary, length)
        except BaseException:
            job.close(handle)
            raise
        if not is_copied:
            job.close(handle)
            job.remote.traits.refuses_copy = not job.remote.is_full(job.dest)  # for two versions of a large file
            raise _CopyRefusedError
        job.state.contiguous = length

    # --- in place ---

    def _append_in_place(self, start: int) -> None:
        job = self._job
        self._forget_arrived()
        _tell_in_place(job)
        # Erlang's ssh_sftpd and rclone's cache cut a file that is opened for writing alone.
        handle = job.remote.open(job.dest, OpenFlag.READ | OpenFlag.WRITE)
        try:
            self._check_length(handle, start)
            self._write(handle, start)
            completion = UploadCompletion(job.remote, handle, job.dest, job.source.attributes)
            completion.begin()
        except BaseException:
            with suppress(SFTPError):
                job.remote.begin_close(handle)
            raise
        completion.wait(self._growth.end)
        self._source.check_unchanged(self._growth.end, job.dest)
        self._check_in_place(start)
        job.context.on_progress(self._growth.end, self._growth.end)

    def _check_length(self, handle: bytes, start: int) -> None:
        """Raise if opening the file has cut it, or another writer has, in the last moment."""
        job = self._job
        there = job.remote.attributes_if_reported(job.remote.begin_fstat(handle), job.dest)
        if there is not None and there.size is not None and there.size < start:
            message = "the destination was cut when it was opened to append to it: it is looked at again the next time"
            raise TransferIncomplete(message, path=job.dest)

    def _write(self, handle: bytes, start: int) -> None:
        """Write the new bytes in their order: what has arrived when this breaks is a beginning of the source."""
        job, end = self._job, self._growth.end
        remote, context = job.remote, job.context
        width = IN_FLIGHT if remote.traits.keeps_order else 1
        size = context.limit.largest(remote.request_sizes()[1])
        window: deque[tuple[int, Future[Reply]]] = deque()
        offset = arrived = start
        try:
            while arrived < end:
                if offset < end and len(window) < width and (remote.has_room or not window):
                    data = self._source.read(offset, min(size, end - offset), job.dest)
                    context.limit.wait_for_turn(len(data), remote.deadline)
                    offset += len(data)
                    window.append((offset, remote.begin_write(handle, offset - len(data), data)))
                    continue
                reached, asked = window.popleft()
                remote.wait(asked, job.dest)
                remote.deadline.check()
                context.counts.add(uploaded=reached - arrived)
                arrived = reached
                context.on_progress(arrived, end)
        except SFTPError as error:
            if not isinstance(error, ConnectionLost | DeadlineExceeded):
                self._cut(handle, window, arrived)
                if isinstance(error, PermissionDenied) and remote.is_full(job.dest):
                    raise NoSpace(REMOTE_DISK_FULL, path=job.dest) from error
            raise

    def _cut(self, handle: bytes, window: deque[tuple[int, Future[Reply]]], arrived: int) -> None:
        """Cut off what was written behind a WRITE that was refused: there may be a gap in front of it."""
        remote, dest = self._job.remote, self._job.dest
        with suppress(SFTPError):
            for _, asked in window:
                with suppress(PermissionDenied, Unsupported, NoSpace):
                    remote.wait(asked, dest)
            remote.wait(remote.begin_fsetstat(handle, Attributes(size=arrived)), dest)

    def _check_in_place(self, start: int) -> None:
        """Raise unless both parts meet at the destination as they do in the source."""
        job, end = self._job, self._growth.end
        with job.remote.opened(job.dest, OpenFlag.READ, wait_for_close=False) as handle:
            if job.context.verify == "sha256":
                compare_hashes(job.remote, handle, job.dest, self._growth.descriptor, end)
            elif not parts_are_same(job.remote, handle, job.dest, self._growth.descriptor, _seam(start, end)):
                message = "the destination differs from the file after bytes were appended: another writer was there"
                raise TransferIncomplete(message, path=job.dest)


class _AppendBody(UploadBody):
    """The bytes of one new version.

    Attributes:
        is_resumed: whether an earlier attempt has sent a part of them: only then they are read back where they meet.
            What the server has copied was compared before, and its size is known.
    """

    is_resumed = False

    def _check_seam(self, start: int) -> None:
        if not self.is_resumed:
            return
        job = self._job
        with job.remote.opened(job.temporary, OpenFlag.READ, wait_for_close=False) as handle:
            seam = _seam(start, job.source.size)
            if not parts_are_same(job.remote, handle, job.temporary, job.source.descriptor, seam):
                message = "the file differs from the local one where the new bytes follow those that the server copied"
                raise TransferIncomplete(message, path=job.dest)


def _seam(start: int, end: int) -> list[tuple[int, int]]:
    """Return the parts of a file on both sides of an offset, and its last ones."""
    before, after = max(0, start - PART), min(end, start + PART)
    last = max(start, end - PART)
    parts = [(before, start - before), (start, after - start), (last, end - last)]
    return [part for part in dict.fromkeys(parts) if part[1]]


def _tell_in_place(job: UploadJob) -> None:
    """Log once for each server that readers may see a part of the new bytes."""
    if not job.remote.traits.tells_in_place:
        job.remote.traits.tells_in_place = True
        logger.warning(
            "The server does not copy data itself (copy-data), or does not rename in %r: files that grow are appended "
            "to in place, where a reader may see a part of the new bytes",
            os.path.dirname(job.dest) or ".",
        )
