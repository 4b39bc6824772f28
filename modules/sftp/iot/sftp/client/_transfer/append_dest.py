"""What is at the destination of a file that grows: how much of it is the beginning of the source.

Nothing is appended to what is not, and nothing that others have written is replaced.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import AlreadyExists, IsADirectory, NotADirectory, NotFound, Unsupported
from iot.sftp.client._base.messages import IS_A_REMOTE_DIRECTORY
from iot.sftp.client._ssh.packets import OpenFlag
from iot.sftp.client._transfer.growth import GrowthRecord, hash_of
from iot.sftp.client._transfer.verify import PART, beginning_is_same, parts_are_same

if TYPE_CHECKING:
    from iot.sftp.client._files.remote_files import RemoteFiles

GONE = "gone"  # the digest of what no file begins with any more


@dataclass(frozen=True)
class Beginning:
    """What is at the destination.

    Attributes:
        length: bytes of it that are the beginning of the source; 0 where all of it is to be replaced.
        size: bytes that are there; `None` where nothing is.
        known: what it is, where it is not the beginning of the source: what was delivered before.
    """

    length: int
    size: int | None
    known: GrowthRecord | None = None


def beginning_at(
    remote: RemoteFiles, dest: str, descriptor: int, before: GrowthRecord | None, *, was_cut: bool
) -> Beginning:
    """Find out how much of the source is at its destination.

    Parameters:
        remote: the server's files.
        dest: the path of the destination.
        descriptor: of the source.
        before: what was delivered before, as far as that is recorded.
        was_cut: whether the source was rotated or rewritten: it does not begin with what was delivered any more.

    Raises:
        AlreadyExists: something else is there, and is left alone.
    """
    try:
        there = remote.stat(dest)  # opening a pipe would hang the server
    except (NotFound, NotADirectory):
        return Beginning(0, None, before)
    if stat.S_ISDIR(there.mode or 0):
        raise IsADirectory(IS_A_REMOTE_DIRECTORY, path=dest)
    with remote.opened(dest, OpenFlag.READ, wait_for_close=False) as handle:
        now = remote.attributes_if_reported(remote.begin_fstat(handle), dest) if there.size is None else there
        if now is None or now.size is None:
            message = "the server does not report how long this file is: it cannot be kept up with by new bytes"
            raise Unsupported(message, path=dest)
        return _Comparison(remote, dest, handle, now.size, descriptor).beginning(before, was_cut=was_cut)


@dataclass(frozen=True)
class _Comparison:
    """The comparison of an open remote file with a local one."""

    remote: RemoteFiles
    dest: str
    handle: bytes
    size: int
    descriptor: int

    def beginning(self, before: GrowthRecord | None, *, was_cut: bool) -> Beginning:
        size = self.size
        if not size:
            return Beginning(0, 0, before)
        if before is None or was_cut:
            known = None if before is None else self._delivered(before)
            if known is None and self._is_beginning():
                return Beginning(size, size)
        elif before.length and size >= before.length and self._joins(before.length):
            if size == before.length or self._is_beginning():
                return Beginning(size, size)
            if size <= before.reach:  # what was sent last has arrived in part, or with a gap
                return Beginning(before.length, size, before)
            known = None
        elif self._is_beginning():
            return Beginning(size, size)
        else:
            known = self._delivered(before)
        if known is None:
            raise self._of_others()
        return Beginning(0, size, known)

    def _delivered(self, before: GrowthRecord) -> GrowthRecord | None:
        """Return what was delivered, if that is there, where the source does not hold it any more."""
        tail = self._tail(self.size)
        for known in (before.coming, before):
            if known is not None and known.length == self.size and known.tail == tail:
                return replace(known, coming=None)
        if not 0 < before.length < self.size <= before.reach or self._tail(before.length) != before.tail:
            return None
        return GrowthRecord(self.size, GONE, tail)  # in part

    def _tail(self, length: int) -> str:
        start = max(0, length - PART)
        return hash_of(self.remote.read_exactly(self.handle, start, length - start, self.dest))

    def _joins(self, length: int) -> bool:
        """Return whether the first and the last bytes of a beginning are those of the source; in one round trip."""
        start = max(0, length - PART)
        parts = [(0, min(PART, length)), (start, length - start)]
        return parts_are_same(self.remote, self.handle, self.dest, self.descriptor, parts)

    def _is_beginning(self) -> bool:
        return beginning_is_same(self.remote, self.handle, self.dest, self.descriptor, self.size)

    def _of_others(self) -> AlreadyExists:
        message = (
            "what is at the destination is not the beginning of this file, and was left alone: another device may "
            "write there, or somebody has changed it. Move it away, or choose another destination"
        )
        return AlreadyExists(message, path=self.dest)
