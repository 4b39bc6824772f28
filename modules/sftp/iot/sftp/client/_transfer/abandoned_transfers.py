"""Clean up after abandoned transfers: their process was killed, or their connection broke, and nothing resumes them."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import Busy, PermissionDenied, Unsupported
from iot.sftp.client._transfer.download_target import local_key
from iot.sftp.client._transfer.file_order import Direction
from iot.sftp.client._transfer.replace import remote_key, settle_backup
from iot.sftp.client._transfer.resume_records import KEPT_FOR
from iot.sftp.client._transfer.temporary_files import Removal, is_temporary, remove_temporary

if TYPE_CHECKING:
    from iot.sftp.client._files.local_files import LocalName
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._transfer.resume_records import ResumeRecord, ResumeRecords, ResumeState
    from iot.sftp.client._transfer.transfer_context import Server, TransferContext

LATE = 900.0  # seconds that a server may take to carry out what it was asked over a connection that is lost to us


def clean_up_locally(records: ResumeRecords) -> None:
    """Remove what downloads have left that is not resumed."""
    for record, state in records.abandoned(Direction.DOWNLOAD.value):
        _remove_abandoned_download(state)
        record.forget()


def clean_up_remotely(records: ResumeRecords, remote: RemoteFiles, server: Server) -> None:
    """Remove what uploads to a server have left that is not resumed, and finish replacements cut in the middle.

    A temporary file that is not there may appear yet, out of a connection that was slow and is lost to us but not to
    the server: the record stays, and later sessions look again. So does the record of one that is not there because it
    has got its name, so that the next upload of the same file finds out that it has arrived. What the server does not
    let us remove is asked for again by later sessions, for a day from its first refusal.

    Raises:
        SFTPError: the connection has broken again.
    """
    for record, state in records.abandoned(Direction.UPLOAD.value):
        if state.server != list(server):
            continue
        with suppress(PermissionDenied, Unsupported):  # of an old file's way back to its place: the next session tries
            found = _remove_abandoned_upload(remote, state, record)
            if found is Removal.REFUSED and record.is_on_disk and state.source and state.temporary != state.dest:
                # Maybe for a moment only: a record without a source is one that was refused before
                record.save(replace(state, source=[], contiguous=0, backup="", pending_rename=""))
                continue
            # In memory, what is refused would pile up: each of them is asked for again by each session
            is_given_up = found is Removal.REFUSED and not record.is_on_disk
            if found is Removal.DONE or is_given_up or record.age > (LATE if found is Removal.LATER else KEPT_FOR):
                record.forget()


def discard_upload(remote: RemoteFiles, dest: str, context: TransferContext) -> None:
    """Remove what an earlier attempt to upload a file has left, since its source is gone: nothing will resume it.

    Raises:
        SFTPError: the connection has broken, and the next session removes it; or a replacement cannot be finished.
    """
    with suppress(Busy), context.records.held(remote_key(context, dest), dest) as record:
        state = record.load()
        if state is not None and state.direction == Direction.UPLOAD.value:
            state.contiguous = 0
            record.save(state)
            if _remove_abandoned_upload(remote, state, record) is Removal.DONE:
                record.forget()


def discard_download(place: LocalName, context: TransferContext) -> None:
    """Remove what an earlier attempt to download a file has left, since its source is gone: nothing will resume it."""
    with suppress(Busy), context.records.held(local_key(place), place.path) as record:
        state = record.load()
        if state is not None and state.direction == Direction.DOWNLOAD.value:
            _remove_abandoned_download(state)
            record.forget()


def _remove_abandoned_download(state: ResumeState) -> None:
    """Remove what a download has left that is not resumed."""
    if is_temporary(state.temporary) and os.path.isabs(state.directory):
        with suppress(OSError, ValueError):  # a record that was tampered with may name what is no path
            os.unlink(os.path.join(state.directory, state.temporary))


def _remove_abandoned_upload(remote: RemoteFiles, state: ResumeState, record: ResumeRecord) -> Removal:
    """Remove what an upload has left that is not resumed, and finish a replacement that was cut in its middle.

    What was written under its own name is not touched: by now it may be another process's.
    """
    if state.backup:
        settle_backup(remote, state)
    if state.temporary == state.dest:
        return Removal.REFUSED
    if not state.pending_rename:
        return remove_temporary(remote, state)
    if remote.is_missing(state.temporary):
        return Removal.RENAMED
    record.save(replace(state, pending_rename="", backup=""))  # what is removed by us has not got its name
    return remove_temporary(remote, state)
