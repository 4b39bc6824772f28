"""Upload one file: it is complete and checked under a temporary name before it atomically replaces its destination.

Three round trips where nothing is in the way: one to open the temporary file and to learn whether the destination is
a directory; one for the bytes, the attributes, the sync, the size and the close; and one for the rename, which has to
wait until all of these have succeeded. The steps are in files of their own: `upload_job` (what they share),
`upload_resume` (what an earlier attempt has left), `upload_target` (opening), `upload_body` (sending and checking) and
`upload_completion` (after the last byte).
"""

from __future__ import annotations

import logging
import os
import posixpath
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    Busy,
    ConnectionLost,
    DeadlineExceeded,
    IsADirectory,
    NoSpace,
    NotFound,
    PermissionDenied,
    TransferIncomplete,
    Unsupported,
)
from iot.sftp.client._base.messages import IS_A_REMOTE_DIRECTORY
from iot.sftp.client._base.steps import finish
from iot.sftp.client._files.file_version import FileVersion
from iot.sftp.client._ssh.server_traits import RENAME
from iot.sftp.client._transfer.outcome import TransferOutcome
from iot.sftp.client._transfer.pipeline import SourceChanged
from iot.sftp.client._transfer.put_in_place import put_in_place
from iot.sftp.client._transfer.replace import RenameRefused, remote_key, settle_backup
from iot.sftp.client._transfer.resume_records import WORTH_KEEPING
from iot.sftp.client._transfer.temporary_files import Removal, remove_temporary, temporary_name
from iot.sftp.client._transfer.upload_body import UploadBody
from iot.sftp.client._transfer.upload_job import UploadJob
from iot.sftp.client._transfer.upload_resume import EarlierUpload
from iot.sftp.client._transfer.upload_target import UploadTarget
from iot.sftp.client._transfer.verify import hash_of_local

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iot.sftp.client._base.steps import Steps
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._transfer.resume_records import ResumeState
    from iot.sftp.client._transfer.transfer_context import TransferContext
    from iot.sftp.client._transfer.upload_job import SpareChannel

logger = logging.getLogger(__name__)


def upload_file(
    remote: RemoteFiles,
    descriptor: int,
    name: str | None,
    dest: str,
    *,
    context: TransferContext,
    spare: SpareChannel,
    is_settled: bool = False,
) -> TransferOutcome:
    """Write a local file's bytes, permissions and modification time to a remote one: see `uploading`."""
    return finish(uploading(remote, descriptor, name, dest, context=context, spare=spare, is_settled=is_settled))


def uploading(
    remote: RemoteFiles,
    descriptor: int,
    name: str | None,
    dest: str,
    *,
    context: TransferContext,
    spare: SpareChannel,
    is_settled: bool = False,
) -> Steps[TransferOutcome]:
    """Write a local file's bytes, permissions and modification time to a remote one, in steps.

    Parameters:
        remote: the server's files.
        descriptor: of the local file.
        name: of the local file, which it keeps where `dest` is a directory or ends with `/`; empty refuses a
            directory, and a link to one; `None` does not ask.
        dest: the remote file.
        context: how to upload.
        spare: lends the server's files over a further channel, if there is one.
        is_settled: whether nobody writes the local file any more: it is not waited for.
    """
    path = posixpath.join(dest, name) if name and dest.endswith("/") else dest
    with context.records.held(remote_key(context, path), path) as record:
        job = UploadJob(remote, descriptor, path, record=record, context=context, spare=spare)
        job.source.is_settled = is_settled
        try:
            return (yield from UploadAttempt(job).run(may_be_directory=name is not None and path == dest))
        except _IsDirectoryError:
            if not name:
                raise IsADirectory(IS_A_REMOTE_DIRECTORY, path=dest) from None
        except SourceChanged as error:
            raise TransferIncomplete(error.message, path=error.path) from error
    further = uploading(remote, descriptor, name, dest + "/", context=context, spare=spare, is_settled=is_settled)
    return (yield from further)


def forget_rename(remote: RemoteFiles, dest: str, context: TransferContext) -> None:
    """Forget an upload whose rename was not answered, since it is known by other means to have arrived."""
    with suppress(Busy), context.records.held(remote_key(context, dest), dest) as record:
        earlier = record.load()
        if earlier is not None and earlier.pending_rename and remote.is_missing(earlier.temporary):
            if earlier.backup:
                settle_backup(remote, earlier)
            record.forget()


def may_have_arrived(descriptor: int, dest: str, context: TransferContext) -> bool:
    """Return whether an earlier upload of this very version has requested the rename to a path, without an answer."""
    version = [*FileVersion.of_local(os.fstat(descriptor))]
    with suppress(Busy), context.records.held(remote_key(context, dest), dest) as record:
        earlier = record.load()
        return earlier is not None and bool(earlier.pending_rename) and earlier.source == version
    return False


class _IsDirectoryError(Exception):
    """The file goes into the directory: it is no failure."""


class UploadAttempt:
    """One attempt to upload a file: its steps, and what is left behind where one of them fails."""

    def __init__(self, job: UploadJob) -> None:
        """Send nothing yet."""
        self._job = job
        self._earlier = EarlierUpload(job)
        self._target = UploadTarget(job)
        self._body = UploadBody(job)

    def run(self, *, may_be_directory: bool) -> Steps[TransferOutcome]:
        """Upload the file, in steps.

        Parameters:
            may_be_directory: the destination may be a directory, which the file goes into.

        Raises:
            _IsDirectoryError: it is one.
            SourceChanged: the local file was written meanwhile.
        """
        job = self._job
        keeps_order = job.remote.traits.keeps_order
        asked = job.remote.begin_stat(job.dest, with_next=keeps_order) if may_be_directory else None
        if asked is not None and not keeps_order:
            if job.remote.is_directory(asked, job.dest):
                raise _IsDirectoryError
            asked = None
        job.source.settle(job.remote.deadline)
        job.state.source = [*job.source.version]
        earlier = self._earlier.load()
        if earlier is not None and earlier.pending_rename:
            verified = self._earlier.arrived_as(earlier)
            if verified:
                job.record.forget()
                return self._outcome(verified, earlier.contiguous, atomic=not earlier.backup)
        try:
            handle = yield from self._open(earlier)
            job.state.opened = True
            if asked is not None and job.remote.is_directory(asked, job.dest):
                job.close(handle)
                raise _IsDirectoryError  # noqa: TRY301 - it has to be cleaned up
            resumed, verified = yield from self._send(handle)
            atomic = not job.is_direct
            if atomic:
                verified, atomic = yield from self._replace(verified)
        except BaseException as error:
            self._clean_up(error)
            raise
        job.record.forget()
        return self._outcome(verified, resumed, atomic=atomic)

    def _outcome(self, verified: str, resumed: int, *, atomic: bool) -> TransferOutcome:
        """Return what was done; of a file that an earlier attempt has sent, the hash is computed now."""
        job = self._job
        digest = self._body.sha256
        if job.context.computes_hash and not digest:
            digest = hash_of_local(job.source.descriptor, job.remote.deadline.check).hex()
        return TransferOutcome(job.source.size, verified, resumed, atomic, digest)

    def _open(self, earlier: ResumeState | None) -> Steps[bytes]:
        if earlier is None:
            return (yield from self._target.opening_new())
        return self._earlier.resume(earlier) or self._target.open_instead_of(earlier)

    def _send(self, handle: bytes) -> Steps[tuple[int, str]]:
        """Send what is missing; where the server turns out not to take that, send everything, once."""
        job = self._job
        resumed = job.state.contiguous
        if resumed:
            try:
                return resumed, (yield from self._body.send(handle, resumed))
            except (SourceChanged, NoSpace):
                raise
            except (PermissionDenied, Unsupported, NotFound, TransferIncomplete) as error:
                logger.info("%r is sent from the beginning, since it cannot be resumed: %s", job.dest, error.message)
                handle = self._target.open_instead_of(replace(job.state))
                job.state.opened = True
        return 0, (yield from self._body.send(handle, 0))

    # --- the rename ---

    def _replace(self, verified: str) -> Steps[tuple[str, bool]]:
        """Give the file its name; return how it was verified, and whether that was one atomic step."""
        job = self._job
        try:
            job.context.before_replacing()
            with self._recording_the_rename(verified):
                return verified, (yield from put_in_place(job, self._note_backup))
        except NotFound as error:
            if job.remote.kind_of(job.temporary) is None:
                before = job.earlier_rename
                if before and before.temporary == job.temporary and self._earlier.arrived_as(before):
                    return verified, not before.backup
                message = (
                    "the server took the file away under its temporary name, before it could get its own: have the "
                    "server leave alone what begins with .iot-sftp-"
                )
                raise Unsupported(message, path=job.dest) from error
            raise
        except RenameRefused as refused:
            if not self._refuses_every_rename():
                raise refused.reason from refused
            job.drop_box.learn(RENAME)
            self._target.discard()
            handle = self._target.open_dest(refused)
            return (yield from self._body.send(handle, 0)), False

    @contextmanager
    def _recording_the_rename(self, verified: str) -> Iterator[None]:
        """Record that the rename is requested, and take that back if the server answers that it was not done."""
        job = self._job
        if job.source.is_settled:
            job.state.pending_rename = verified
            job.save()
        try:
            yield
        except (ConnectionLost, DeadlineExceeded):
            job.context.unanswered_renames.add(job.temporary)
            raise
        except BaseException:
            job.state.pending_rename = ""
            job.save()
            raise

    def _note_backup(self, backup: str) -> None:
        self._job.state.backup = backup
        self._job.save()

    def _refuses_every_rename(self) -> bool:
        """Find out whether it is every rename that is refused, or the one to this name."""
        job = self._job
        other = posixpath.join(posixpath.dirname(job.temporary), temporary_name())
        try:
            job.remote.rename(job.temporary, other)
        except (PermissionDenied, Unsupported):
            return True
        job.state.temporary = other
        return False

    # --- after a failure ---

    def _clean_up(self, error: BaseException) -> None:
        """Keep what a later attempt resumes, remove everything else; what cannot be removed now is recorded."""
        job = self._job
        is_lost = isinstance(error, ConnectionLost | DeadlineExceeded)
        is_resumed = is_lost and job.remote.deadline.keeps and job.source.is_settled
        if is_resumed and (job.state.contiguous >= WORTH_KEEPING or job.state.pending_rename):
            job.save()
        elif job.temporary:
            job.state.contiguous, job.state.pending_rename = 0, ""
            job.save()
            with suppress(ConnectionLost, DeadlineExceeded):  # the first failure is the one to report
                removed = self._remove_unfinished()
                is_settled = removed is not Removal.REFUSED and not job.state.backup
                if not is_lost and is_settled:
                    job.record.forget()
        elif not is_lost:
            job.record.forget()

    def _remove_unfinished(self) -> Removal:
        job = self._job
        if not job.is_direct:
            return remove_temporary(job.remote, job.state)
        try:
            job.remote.remove(job.dest)
        except (PermissionDenied, Unsupported):
            return Removal.REFUSED
        except NotFound:
            pass
        return Removal.DONE
