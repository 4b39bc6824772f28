"""Download one file: it is complete and checked before it atomically replaces its destination.

Three round trips where nothing is in the way: one for what the file is, since opening a pipe would hang the server;
one to open it; and one for its bytes, its end, and its attributes by then. The two sides are in files of their own:
`download_source` and `download_target`.
"""

from __future__ import annotations

import logging
import os
import posixpath
from contextlib import ExitStack
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    ConnectionLost,
    DeadlineExceeded,
    TransferIncomplete,
)
from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._base.steps import finish
from iot.sftp.client._ssh.packets import OpenFlag
from iot.sftp.client._transfer.download_source import DownloadSource, look_at_source, looking_at_source
from iot.sftp.client._transfer.download_target import DownloadTarget, local_key
from iot.sftp.client._transfer.outcome import TransferOutcome
from iot.sftp.client._transfer.pipeline import SourceChanged
from iot.sftp.client._transfer.read_pipeline import ReadPipeline
from iot.sftp.client._transfer.replace import keep_times, replacing_local
from iot.sftp.client._transfer.temporary_files import remove_leftovers
from iot.sftp.client._transfer.verify import compare_hashes, hash_of_local

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._base.steps import Steps
    from iot.sftp.client._files.file_version import Observed
    from iot.sftp.client._files.local_files import LocalFiles, LocalName
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._ssh.packets import Attributes
    from iot.sftp.client._transfer.resume_records import ResumeRecord
    from iot.sftp.client._transfer.transfer_context import TransferContext

logger = logging.getLogger(__name__)

ATTEMPTS = 3  # to have all of a source that is written while it is read
READ_AGAIN_AT_MOST = 32 * 1024 * 1024  # bytes: a larger file is not read again at once


def download_file(
    remote: RemoteFiles,
    source: str,
    local_files: LocalFiles,
    dest: str,
    context: TransferContext,
    *,
    observed: Observed | None = None,
    accept: Callable[[Attributes], object] = lambda _: None,
) -> TransferOutcome:
    """Write a remote file's bytes, permissions and modification time to a local one: see `downloading`."""
    return finish(downloading(remote, source, local_files, dest, context, observed=observed, accept=accept))


def downloading(
    remote: RemoteFiles,
    source: str,
    local_files: LocalFiles,
    dest: str,
    context: TransferContext,
    *,
    observed: Observed | None = None,
    accept: Callable[[Attributes], object] = lambda _: None,
) -> Steps[TransferOutcome]:
    """Write a remote file's bytes, permissions and modification time to a local one, in steps.

    Parameters:
        remote: the server's files.
        source: the remote file.
        local_files: how the local one is reached.
        dest: the local file.
        context: how to download.
        observed: which version of the source was seen before, as in a listing, and when: it need not be waited for
            again whether it is still being written.
        accept: receives the file's attributes, each time that they are asked for, before it is read; raises to skip it.
    """
    attributes = yield from looking_at_source(remote, source, accept)
    with local_files.destination(dest, posixpath.basename(source), context.modes.directory) as place:
        remove_leftovers(place.directory)
        with context.records.held(local_key(place), place.path) as record:
            for number in range(ATTEMPTS):
                here = DownloadSource(
                    remote, source, attributes, observed=observed, accept=accept, mode=context.modes.local
                )
                try:
                    return (yield from DownloadAttempt(remote, here, place, record, context).run(is_first=number == 0))
                except SourceChanged as error:
                    if number == ATTEMPTS - 1 or (attributes.size or 0) > READ_AGAIN_AT_MOST:
                        raise TransferIncomplete(error.message, path=error.path) from error
                    logger.info("%r is read again: %s", source, error.message)
                except OSError as error:
                    raise from_os_error(error, place.path) from error
                attributes = look_at_source(remote, source, accept)
    raise AssertionError  # the last attempt has returned or raised


class DownloadAttempt:
    """One attempt to download a file."""

    def __init__(
        self,
        remote: RemoteFiles,
        source: DownloadSource,
        place: LocalName,
        record: ResumeRecord,
        context: TransferContext,
    ) -> None:
        """Read nothing yet: see `download_file`."""
        self._remote = remote
        self._source = source
        self._place = place
        self._record = record
        self._context = context
        self._target = DownloadTarget(remote, source, place, record, context)
        self._is_closed = False  # the remote file

    def run(self, *, is_first: bool) -> Steps[TransferOutcome]:
        """Download the file, in steps.

        Parameters:
            is_first: whether nothing has shown yet that the file has to stay open to be looked at again.

        Raises:
            SourceChanged: it was written meanwhile, or what was resumed was damaged.
        """
        source, target, context = self._source, self._target, self._context
        source.settle()
        with ExitStack() as stack:
            handle = yield from self._remote.opening(source.path, OpenFlag.READ)
            stack.callback(self._close, handle)
            source.look_into(handle)
            target.state.source = [source.path, *source.version]
            with target.opened() as descriptor:
                resumed = target.proven_offset(handle, descriptor)
                may_close = is_first and source.is_settled and context.verify == "size"
                size, verified = yield from self._read(handle, descriptor, resumed, may_close=may_close)
                if not source.is_settled:
                    self._check_open()
                    source.read_again(handle, descriptor, size)
                if context.verify == "sha256":
                    verified = self._compare_hashes(handle, descriptor, resumed)
                accessed, modified = source.before.access_time, source.before.modification_time
                if accessed is not None and modified is not None:
                    keep_times(descriptor, accessed, modified, self._place.path)
                digest = hash_of_local(descriptor, self._remote.deadline.check).hex() if context.computes_hash else ""
                context.before_replacing()
                name = target.state.temporary
                yield from replacing_local(self._place, name, descriptor, source.permissions, context)
        self._record.forget()
        return TransferOutcome(size, verified, resumed, atomic=True, sha256=digest)

    def _close(self, handle: bytes) -> None:
        """Close the remote file without waiting, unless that was requested with its bytes."""
        if not self._is_closed:
            self._remote.begin_close(handle)

    def _check_open(self) -> None:
        if self._is_closed:
            message = "the file may have been written while it was read"
            raise SourceChanged(message, path=self._source.path)

    def _read(self, handle: bytes, descriptor: int, start: int, *, may_close: bool) -> Steps[tuple[int, str]]:
        """Read the bytes from `start` on; return the size of the file, and how it was verified."""
        source, target = self._source, self._target

        def on_progress(contiguous: int) -> None:
            self._context.on_progress(contiguous, source.before.size)
            target.note_progress(descriptor, contiguous)

        pipeline = ReadPipeline(
            self._remote,
            handle,
            source.path,
            descriptor,
            limit=self._context.limit,
            counts=self._context.counts,
            on_progress=on_progress,
            may_close=may_close,
        )
        try:
            size = yield from pipeline.run(start, source.before.size)
        except (ConnectionLost, DeadlineExceeded):
            target.note_break(descriptor, pipeline.contiguous)
            raise
        finally:
            self._is_closed = pipeline.is_closed
        verified = source.check_unchanged(size, pipeline.after, handle, os.fstat(descriptor).st_size)
        self._context.on_progress(size, size)
        return size, verified

    def _compare_hashes(self, handle: bytes, descriptor: int, resumed: int) -> str:
        try:
            return compare_hashes(self._remote, handle, self._source.path, descriptor)
        except TransferIncomplete as error:
            if not resumed:
                raise
            raise SourceChanged(error.message, path=error.path) from error  # or what was there was damaged
