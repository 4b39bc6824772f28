"""Moving a file on the server to a path that nothing has: what is put aside replaces nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import AlreadyExists
from iot.sftp.client._files.file_version import FileVersion
from iot.sftp.client._files.numbered_names import numbered_in_parts
from iot.sftp.client._files.set_aside import VersionChanged
from iot.sftp.client._transfer.put_in_place import place_new
from iot.sftp.client._transfer.remote_copy import move_by_copy
from iot.sftp.client._transfer.replace import RenameRefused

if TYPE_CHECKING:
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._transfer.transfer_context import TransferContext

logger = logging.getLogger(__name__)


def put_aside(remote: RemoteFiles, source: str, target: str, version: FileVersion, context: TransferContext) -> str:
    """Move a file to a path that nothing has, numbered if need be, and return that.

    Parameters:
        remote: the server's files.
        source: the file.
        target: its new path, in a directory that is there.
        version: which one it has to be.
        context: what keeps two writers of one path apart, where it has to be copied.

    Raises:
        VersionChanged: it is another version, and was not touched.
        AlreadyExists: all numbers are taken.
    """
    if not FileVersion.of_remote(remote.stat(source)).is_same_as(version):
        raise VersionChanged(source)
    for names in numbered_in_parts(target):
        for name, there in zip(names, remote.attributes_of(names, follow_links=False), strict=True):
            if there is None and _is_moved(remote, source, name, context):
                return name
    message = "all numbered names are taken in the folder for files that fail"
    raise AlreadyExists(message, path=target)


def _is_moved(remote: RemoteFiles, source: str, name: str, context: TransferContext) -> bool:
    try:
        place_new(remote, source, name)
    except AlreadyExists:
        return False
    except RenameRefused as refused:
        logger.debug("%r is not renamed to %r: %s", source, name, refused.cause)
        move_by_copy(remote, source, name, context)
    return True
