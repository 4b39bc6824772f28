"""Files that grow: how much of one was delivered, and whether a file still begins with that.

A growing file is kept up with by its new bytes. That is right only as long as the file begins with what was delivered;
a log that was rotated or cut does not. So a record of the delivered beginning is kept: its length, and a digest of it.
An inode is only a hint, since file systems give it to the next file.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._transfer.verify import BLOCK, PART, spread

if TYPE_CHECKING:
    from collections.abc import Callable

FULLY_HASHED = 16 * 1024 * 1024  # bytes: of a longer beginning, places all over it are hashed
LONGEST_LINE = 1024 * 1024  # bytes: a longer line is sent in parts
FULL, PARTS = "full", "parts"


@dataclass(frozen=True)
class Append:
    """Keep up with files that grow, by their new bytes.

    Attributes:
        lines: deliver whole lines only: what is behind the last line feed waits for the next one. A line of more than
            1 MiB is delivered in parts.
    """

    lines: bool = False

    def end_of(self, descriptor: int, start: int, size: int) -> int:
        """Return up to where a file is to be delivered, `start` bytes of which have been, and that has `size`."""
        if not self.lines:
            return size
        end = size
        while end > start:
            begin = max(start, end - BLOCK)
            found = _part(descriptor, begin, end - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
        return size if size - start > LONGEST_LINE else start


@dataclass(frozen=True)
class GrowthRecord:
    """How much of a growing file was delivered.

    Attributes:
        length: bytes, from the beginning.
        digest: of these, in the source: see `digest_of`. Nothing begins with what has another one.
        tail: the SHA-256 of the last bytes of these, 4 KiB at most: what the destination has there.
        inode: the source's, if it is local.
        coming: what is being sent, and may be at the destination by now, all or a part of it.
    """

    length: int
    digest: str
    tail: str
    inode: int | None = None
    coming: GrowthRecord | None = None

    def is_beginning_of(self, descriptor: int, proceed: Callable[[], object] = lambda: None) -> bool:
        """Return whether a local file begins with what was delivered."""
        if os.fstat(descriptor).st_size < self.length:
            return False
        is_full = self.digest.startswith(FULL)
        return self.digest == digest_of(descriptor, self.length, is_full=is_full, proceed=proceed)

    @property
    def reach(self) -> int:
        """Up to where bytes may be at the destination that we have sent there."""
        return self.length if self.coming is None else max(self.length, self.coming.length)


NOTHING = GrowthRecord(0, f"{FULL}:{hashlib.sha256().hexdigest()}", hashlib.sha256().hexdigest())
"""The record of a file of which nothing was delivered."""


def record_of(
    descriptor: int, length: int, *, is_full: bool = False, proceed: Callable[[], object] = lambda: None
) -> GrowthRecord:
    """Return the record of a local file of which `length` bytes were delivered."""
    digest = digest_of(descriptor, length, is_full=is_full, proceed=proceed)
    return GrowthRecord(length, digest, tail_of(descriptor, length), os.fstat(descriptor).st_ino)


def digest_of(
    descriptor: int, length: int, *, is_full: bool = False, proceed: Callable[[], object] = lambda: None
) -> str:
    """Return a digest of the first `length` bytes of a local file.

    Parameters:
        descriptor: of the file.
        length: in bytes; where there are fewer, the digest is another one.
        is_full: hash all of them, however many there are; else, of many, 64 places.
        proceed: called now and then; ends it by raising.
    """
    digest = hashlib.sha256()
    is_full = is_full or length <= FULLY_HASHED
    parts = _blocks(length) if is_full else spread(length)
    for offset, size in parts:
        digest.update(_part(descriptor, offset, size))
        proceed()
    return f"{FULL if is_full else PARTS}:{digest.hexdigest()}"


def tail_of(descriptor: int, length: int) -> str:
    """Return the SHA-256 of the end of the first `length` bytes of a local file."""
    start = max(0, length - PART)
    return hash_of(_part(descriptor, start, length - start))


def hash_of(tail: bytes) -> str:
    """Return the SHA-256 of the end of a beginning."""
    return hashlib.sha256(tail).hexdigest()


def _blocks(length: int) -> list[tuple[int, int]]:
    return [(start, min(BLOCK, length - start)) for start in range(0, length, BLOCK)]


def _part(descriptor: int, offset: int, size: int) -> bytes:
    try:
        return os.pread(descriptor, size, offset)
    except OSError as error:
        raise from_os_error(error) from error
