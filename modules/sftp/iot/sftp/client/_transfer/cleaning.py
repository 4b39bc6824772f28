"""Cleaning up after transfers that ended without doing it themselves: their process was killed, or their link broke."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from iot.sftp.client._transfer import download, upload
from iot.sftp.client._transfer.unfinished import KEPT_FOR

if TYPE_CHECKING:
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._transfer.terms import Server
    from iot.sftp.client._transfer.unfinished import Unfinished

LATE = 900.0  # seconds that a server may take to carry out what it was asked over a connection that is lost to us


def clean_up_locally(unfinished: Unfinished) -> None:
    """Remove what downloads have left that nobody goes on with."""
    for record, progress in unfinished.abandoned("download"):
        download.remove_abandoned(progress)
        record.forget()


def clean_up_remotely(unfinished: Unfinished, remote: RemoteFiles, server: Server) -> None:
    """Remove what uploads to a server have left that nobody goes on with, and finish replacements cut in the middle.

    A temporary file that is not there may come yet, out of a connection that was slow and is lost to us but not to the
    server: the record stays, and later sessions look again. So does the record of one that is not there because it has
    got its name, so that the next upload of the same file finds out that it has arrived.

    Raises:
        SFTPError: the connection has broken again.
    """
    for record, progress in unfinished.abandoned("upload"):
        if progress.server == list(server):
            found = upload.remove_abandoned(remote, progress, record)
            if found is upload.Removal.RENAMED:
                is_of_no_use = KEPT_FOR < record.age < math.inf
            else:
                late = LATE if found is upload.Removal.LATER else KEPT_FOR
                is_of_no_use = found is upload.Removal.DONE or record.age > late
            if is_of_no_use:
                record.forget()
