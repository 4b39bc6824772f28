"""The hash of a remote file, from the server where it tells one, else from its bytes.

`check-file-handle` is of draft-ietf-secsh-filexfer-extensions-00, section 3.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import struct
from collections import deque
from typing import TYPE_CHECKING

from iot.sftp.client._errors import (
    ConnectionLost,
    DeadlineExceeded,
    EndOfFile,
    SFTPError,
    TransferIncomplete,
    from_os_error,
)
from iot.sftp.client._packets import Kind, string

if TYPE_CHECKING:
    from concurrent.futures import Future

    from iot.sftp.client._channel import Reply
    from iot.sftp.client._remote_files import RemoteFiles

CHECK_FILE = "check-file"
CHECK_FILE_HANDLE = "check-file-handle"
BLOCK = 1024 * 1024  # bytes of a local file that are hashed at a time
READS_IN_FLIGHT = 16


def compare_hashes(remote: RemoteFiles, handle: bytes, path: str, descriptor: int) -> str:
    """Compare a local and a remote file, and return how: `check-file`, `sha256sum` or `read back`.

    Parameters:
        remote: the server's files.
        handle: of the remote file, open for reading.
        path: of the remote file.
        descriptor: of the local file.

    Raises:
        TransferIncomplete: they differ.
    """
    local = _of_local(remote, descriptor)
    if _told_by_extension(remote, handle, path) == local:
        return CHECK_FILE
    # A hash that differs may be that of another file: a shell may see other paths than SFTP does.
    if _told_by_shell(remote, path) == local:
        return "sha256sum"
    if _of_bytes(remote, handle, path) == local:
        return "read back"
    message = "the SHA-256 of the two files differ: something has changed their bytes on the way"
    raise TransferIncomplete(message, path=path)


def _of_local(remote: RemoteFiles, descriptor: int) -> bytes:
    digest, offset = hashlib.sha256(), 0
    try:
        while data := os.pread(descriptor, BLOCK, offset):
            digest.update(data)
            offset += len(data)
            remote.deadline.check()
    except OSError as error:
        raise from_os_error(error) from error
    return digest.digest()


def _told_by_extension(remote: RemoteFiles, handle: bytes, path: str) -> bytes | None:
    if not remote.offers(CHECK_FILE) and not remote.offers(CHECK_FILE_HANDLE):
        return None
    # All of the file, as one block
    fields = string(handle) + string(b"sha256") + struct.pack(">QQI", 0, 0, 0)
    try:
        answer = remote.extended(CHECK_FILE_HANDLE, fields, path, Kind.EXTENDED_REPLY)
        words = answer.string()
        return answer.rest() if words == b"sha256" else None
    except (DeadlineExceeded, ConnectionLost):
        raise
    except SFTPError:
        return None


def _told_by_shell(remote: RemoteFiles, path: str) -> bytes | None:
    if not path.isprintable():
        return None
    said = remote.run(f"sha256sum -b -- {shlex.quote(path)}")
    found = re.match(rb"\\?([0-9a-f]{64}) ", said)
    return bytes.fromhex(found[1].decode()) if found else None


def _of_bytes(remote: RemoteFiles, handle: bytes, path: str) -> bytes:
    """Read the remote file to its end, in order."""
    digest, size = hashlib.sha256(), remote.request_sizes()[0]
    window: deque[tuple[int, Future[Reply]]] = deque()
    asked = offset = 0
    while True:
        while len(window) < READS_IN_FLIGHT:
            window.append((asked, _ask(remote, handle, asked, size)))
            asked += size
        start, future = window.popleft()
        if start != offset:  # an answer was short: what was asked for behind it is asked for anew
            window.clear()
            asked = offset
            continue
        try:
            data = remote.wait(future, path, Kind.DATA).string()
        except EndOfFile:
            return digest.digest()
        if not data:
            message = "the server answered a READ with nothing"
            raise TransferIncomplete(message, path=path)
        digest.update(data)
        offset += len(data)
        size = min(size, len(data))  # a server that gives less than it is asked for does so again


def _ask(remote: RemoteFiles, handle: bytes, offset: int, length: int) -> Future[Reply]:
    return remote.send(Kind.READ, string(handle) + struct.pack(">QI", offset, length))
