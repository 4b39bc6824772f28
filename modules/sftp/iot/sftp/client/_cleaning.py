"""Cleaning up after transfers that ended without doing it themselves: their process was killed, or their link broke."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iot.sftp.client import _download as download
from iot.sftp.client import _upload as upload

if TYPE_CHECKING:
    from iot.sftp.client._remote_files import RemoteFiles
    from iot.sftp.client._terms import Server
    from iot.sftp.client._unfinished import Unfinished


def clean_up_locally(unfinished: Unfinished) -> None:
    """Remove what downloads have left that nobody goes on with."""
    for record, progress in unfinished.abandoned("download"):
        download.remove_abandoned(progress)
        record.forget()


def clean_up_remotely(unfinished: Unfinished, remote: RemoteFiles, server: Server) -> None:
    """Remove what uploads to a server have left that nobody goes on with, and finish replacements cut in the middle.

    Raises:
        SFTPError: the connection has broken again.
    """
    for record, progress in unfinished.abandoned("upload"):
        if progress.server == list(server):
            upload.remove_abandoned(remote, progress)
            record.forget()
