"""Moving a file's bytes: a window of READ or WRITE requests is kept in flight over a channel.

One request at a time would make each wait for a round trip. Here the next ones are on their way while an answer is
awaited; answers are taken in the file's order, so that what has been written so far is always without a hole.
Section numbers are those of draft-ietf-secsh-filexfer-02.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from typing import TYPE_CHECKING

from iot.sftp.client._errors import EndOfFile, NoSpace, PermissionDenied, TransferIncomplete, from_os_error
from iot.sftp.client._packets import Kind, string

if TYPE_CHECKING:
    from concurrent.futures import Future

    from iot.sftp.client._channel import Reply
    from iot.sftp.client._remote_files import RemoteFiles

WINDOW = 4 * 1024 * 1024  # bytes in flight: what a transfer takes of memory, about twice over
MOST_REQUESTS = 64


class Download:
    """Reads a remote file into a local one."""

    def __init__(self, remote: RemoteFiles, handle: bytes, path: str, descriptor: int) -> None:
        """Read the open file `handle` (`path` is for messages) into `descriptor`."""
        self._remote = remote
        self._handle = handle
        self._path = path
        self._descriptor = descriptor
        self._request_size = remote.request_sizes()[0]
        self._window: deque[tuple[int, Future[Reply]]] = deque()
        self._next_offset = 0

    def run(self, size: int | None) -> int:
        """Read to the end of the file and return the number of bytes.

        Parameters:
            size: what the server says that the file has, or `None` where it does not say. So much is asked for, and
                one request more, which meets the end of the file, or tells that it has grown.
        """
        while True:
            while self._has_room() and (size is None or self._next_offset < size + self._request_size):
                self._window.append((self._next_offset, self._read(self._next_offset, self._request_size)))
                self._next_offset += self._request_size
            offset, future = self._window.popleft()
            end = self._store(offset, future)
            if end < offset + self._request_size:
                return end
            if size is not None and end > size:
                size = None

    def _has_room(self) -> bool:
        return len(self._window) < min(MOST_REQUESTS, max(1, WINDOW // self._request_size))

    def _store(self, offset: int, future: Future[Reply]) -> int:
        """Write what one request brings, and the rest of it where the answer was short; return where it ends."""
        end, wanted = offset, offset + self._request_size
        while True:
            try:
                data = self._remote.wait(future, self._path, Kind.DATA).string()
            except EndOfFile:
                return end
            if not data or len(data) > wanted - end:
                message = f"the server answered a READ of {wanted - end} bytes with {len(data)}"
                raise TransferIncomplete(message, path=self._path)
            self._write(data, end)
            end += len(data)
            if end == wanted:
                return end
            # A short answer is not the end of the file (section 6.4): its rest is asked for.
            future = self._read(end, wanted - end)

    def _read(self, offset: int, length: int) -> Future[Reply]:
        return self._remote.send(Kind.READ, string(self._handle) + struct.pack(">QI", offset, length))

    def _write(self, data: bytes, offset: int) -> None:
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._descriptor, view, offset)
                view, offset = view[written:], offset + written
        except OSError as error:
            raise from_os_error(error) from error


class Upload:
    """Writes a local file into a remote one."""

    def __init__(self, remote: RemoteFiles, handle: bytes, path: str, descriptor: int) -> None:
        """Write `descriptor` into the open file `handle` (`path` is for messages)."""
        self._remote = remote
        self._handle = handle
        self._path = path
        self._descriptor = descriptor
        self._request_size = remote.request_sizes()[1]
        self._window: deque[Future[Reply]] = deque()

    def run(self) -> int:
        """Write to the end of the local file and return the number of bytes."""
        offset = 0
        while data := self._read(offset):
            if len(self._window) >= min(MOST_REQUESTS, max(1, WINDOW // self._request_size)):
                self._take()
            fields = b"".join((string(self._handle), struct.pack(">QI", offset, len(data)), data))
            self._window.append(self._remote.send(Kind.WRITE, fields))
            offset += len(data)
        while self._window:
            self._take()
        return offset

    def _read(self, offset: int) -> bytes:
        try:
            return os.pread(self._descriptor, self._request_size, offset)
        except OSError as error:
            raise from_os_error(error) from error

    def _take(self) -> None:
        try:
            self._remote.wait(self._window.popleft(), self._path)
        except PermissionDenied:
            # SFTP version 3 has no status for a full disk: most servers say FAILURE.
            if self._remote.is_full(self._path):
                message = "the server's disk is full"
                raise NoSpace(message, path=self._path) from None
            raise
