"""What is at the destination of a file that grows: how much of it is the beginning of the source.

Nothing is appended to what is not, and nothing that others have written is replaced.
"""

from __future__ import annotations

import hashlib
import logging
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import AlreadyExists, IsADirectory, NotADirectory, NotFound, Unsupported
from iot.sftp.client._base.messages import IS_A_REMOTE_DIRECTORY
from iot.sftp.client._ssh.packets import OpenFlag
from iot.sftp.client._transfer.verify import PART, beginning_is_same, parts_are_same

if TYPE_CHECKING:
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._transfer.growth import GrowthRecord

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Beginning:
    """What is at the destination.

    Attributes:
        length: bytes of it that are the beginning of the source; 0 where all of it is to be replaced.
        size: bytes that are there; `None` where nothing is.
    """

    length: int
    size: int | None


NOTHING = Beginning(0, None)


def beginning_at(
    remote: RemoteFiles, dest: str, descriptor: int, before: GrowthRecord | None, *, was_cut: bool
) -> Beginning:
    """Find out how much of the source is at its destination.

    Parameters:
        remote: the server's files.
        dest: the path of the destination.
        descriptor: of the source.
        before: what was delivered before, as far as that is recorded.
        was_cut: whether the source was rotated or written anew: it does not begin with what was delivered any more.

    Raises:
        AlreadyExists: something else is there, and is left alone.
    """
    try:
        there = remote.stat(dest)  # opening a pipe would hang the server
    except (NotFound, NotADirectory):
        return NOTHING
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
            return Beginning(0, 0)
        if before is not None and was_cut:
            if self._is_delivered(before):
                return Beginning(0, size)
        elif before is not None and before.length and size >= before.length and self._joins(before.length):
            if size == before.length or self._is_beginning():
                return Beginning(size, size)
            if size <= before.pending:  # what was sent last has arrived in part, or with a gap
                return Beginning(before.length, size)
            raise self._of_others()
        if self._is_beginning():
            return Beginning(size, size)
        raise self._of_others()

    def _is_delivered(self, before: GrowthRecord) -> bool:
        """Return whether what is there is what was delivered, where the source does not hold that any more."""
        if not before.length <= self.size <= max(before.length, before.pending):
            return False
        start = max(0, before.length - PART)
        tail = self.remote.read_exactly(self.handle, start, before.length - start, self.dest)
        return hashlib.sha256(tail).hexdigest() == before.tail

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
