"""The local file of an upload whose SHA-256 is computed from the very bytes that are sent."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import TransferIncomplete
from iot.sftp.client._ssh.requests import Source

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 1024 * 1024  # bytes that are read at a time where they were not sent in order


class HashingSource(Source):
    """A source that hashes what is read in order; what is sent in another order, or was before, is read for it.

    One channel reads in order, so that nothing is read twice. Several channels share the file in pieces.
    """

    def __init__(self, descriptor: int) -> None:
        """Read this descriptor, which belongs to the caller."""
        super().__init__(descriptor)
        self._hashing = threading.Lock()
        self._digest = hashlib.sha256()
        self._hashed = 0  # bytes from the beginning on

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer, and hash what is in it if its turn has come."""
        super().read_into(buffer, offset)
        with self._hashing:
            if offset == self._hashed:
                self._digest.update(buffer)
                self._hashed += len(buffer)

    def sha256(self, size: int, proceed: Callable[[], object]) -> str:
        """Return the SHA-256 of the first `size` bytes, in hexadecimal digits; `proceed` ends that by raising."""
        with memoryview(bytearray(min(BLOCK, size))) as block:
            while self._hashed < size:
                self.read_into(block[: size - self._hashed], self._hashed)
                proceed()
        if self._hashed != size:
            message = "more of the file was sent than it had"
            raise TransferIncomplete(message)
        return self._digest.hexdigest()
