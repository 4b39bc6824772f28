"""Give a local file a second name, which may replace another file, without a moment in which either name is missing."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._transfer.download_target import local_key
from iot.sftp.client._transfer.file_order import Direction
from iot.sftp.client._transfer.resume_records import ResumeState
from iot.sftp.client._transfer.temporary_files import temporary_name

if TYPE_CHECKING:
    from iot.sftp.client._files.local_files import LocalFiles, LocalName
    from iot.sftp.client._transfer.transfer_context import TransferContext


def give_second_name(local_files: LocalFiles, path: str, second: str, context: TransferContext) -> None:
    """Give a file a second name; on a file system without links, it has only that one afterwards.

    Parameters:
        local_files: how both are reached.
        path: of the file.
        second: the other name, with its path.
        context: with the records of transfers.

    Raises:
        SFTPError: as `LocalFiles.destination`; `Busy` if a transfer writes there.
    """
    with (
        local_files.destination(path, "") as here,
        local_files.destination(second, "") as there,
        context.records.held(local_key(there), there.path) as record,
    ):
        name = temporary_name()
        with suppress(OSError):
            directory = os.readlink(f"/proc/self/fd/{there.directory}")
            record.save(ResumeState(Direction.DOWNLOAD.value, list(context.server), there.name, directory, name))
        try:
            _replace_by(here, there, name)
        except OSError as error:
            raise from_os_error(error, there.path) from error
        finally:
            record.forget()


def _replace_by(here: LocalName, there: LocalName, temporary: str) -> None:
    try:
        os.link(here.name, temporary, src_dir_fd=here.directory, dst_dir_fd=there.directory, follow_symlinks=False)
    except OSError:
        os.replace(here.name, there.name, src_dir_fd=here.directory, dst_dir_fd=there.directory)
    else:
        os.replace(temporary, there.name, src_dir_fd=there.directory, dst_dir_fd=there.directory)
