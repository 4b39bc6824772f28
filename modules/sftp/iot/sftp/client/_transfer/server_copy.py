"""Have the server copy the beginning of an open file into another one: `copy-data`, in pieces that it answers soon.

draft-ietf-secsh-filexfer-extensions-00, section 7; OpenSSH 9.0. A piece is answered at its end, and a server that is
silent for longer than `stall` is considered dead: so the first piece is one that a slow disk copies in time, and the
next ones take about two seconds each.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import ConnectionLost, DeadlineExceeded, SFTPError
from iot.sftp.client._files.remote_files import COPY_DATA

if TYPE_CHECKING:
    from iot.sftp.client._files.remote_files import RemoteFiles

logger = logging.getLogger(__name__)

FIRST_PIECE, LARGEST_PIECE = 16 * 1024 * 1024, 1024 * 1024 * 1024  # bytes
SECONDS_OF_A_PIECE = 2.0


def copied_by_server(remote: RemoteFiles, start: bytes, end: bytes, path: str, length: int) -> bool:
    """Have the server copy the first bytes of a file; `False` if it does not, or only in part.

    Parameters:
        remote: the server's files.
        start: the handle of the file that is copied.
        end: the handle of the copy.
        path: of the copy.
        length: bytes.
    """
    if not remote.offers_copy:
        return False
    offset, piece = 0, FIRST_PIECE
    while offset < length:
        size, started = min(piece, length - offset), time.monotonic()
        try:
            remote.copy_data(start, end, offset, size, path)
        except (ConnectionLost, DeadlineExceeded):
            raise
        except SFTPError as error:
            logger.debug("the server announces %s, and did not carry it out: %s", COPY_DATA, error)
            return False
        offset += size
        rate = size / max(time.monotonic() - started, 0.001)
        piece = max(1024 * 1024, min(LARGEST_PIECE, int(rate * SECONDS_OF_A_PIECE)))
    return True
