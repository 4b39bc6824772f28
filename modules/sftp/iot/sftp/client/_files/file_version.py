"""Versions of a file: what distinguishes one content at a path from the next, and how much that proves.

A file that is written again is another version, though its path, and often its size, stay the same. Two descriptions of
versions can be compared in two ways, which must not be mixed up:

- `is_same_as` compares two looks at the *same side*, with everything that both of them report. Locally that is device,
  inode, size, and both times in nanoseconds: any write and any replacement changes at least one of them, also where a
  producer sets the modification time back (`cp -p`, `tar`), since the change time cannot be set. Remotely it is what
  the server reports, whole seconds at best. Where the version was not *racy* when it was first seen, this is proof.
- `resembles` compares *two sides*, or a record that keeps whole seconds only. Equal sizes and seconds suggest the same
  content and prove nothing: no source may be deleted, and nothing built upon, for that reason alone.

A version is *racy* (git: "racily clean") while the tick of its clock in which it was last modified is not over:
a further write in the same tick would not show. After a pause of one tick it would.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import os

    from iot.sftp.client._ssh.packets import Attributes

SECOND = 1_000_000_000  # nanoseconds

# A kernel's clock for files ticks 100 to 1,000 times a second (CONFIG_HZ). Coarser file systems have multiples
# of a whole second: FAT two of them, ext3, HFS+ and most network file systems one.
TICK = 20_000_000  # nanoseconds
COARSE_TICK = 2 * SECOND
REMOTE_TICK = SECOND  # SFTP version 3 has whole seconds (draft-ietf-secsh-filexfer-02, section 5)
MARGIN = 1.05  # of a tick that is waited for: what is waited with is another clock
SKEW = SECOND  # by which the clocks of two machines that are set may differ
WRONG_BY = 26 * 3600 * SECOND  # of clocks that are not: some servers report their local time, and devices lose theirs


class FileVersion(NamedTuple):
    """One version of a file, as one side reports it; `None` where it does not.

    Attributes:
        size: bytes.
        modified: the modification time in nanoseconds since 1970; a server reports whole seconds.
        changed: the change time (`st_ctime_ns`); only of local files.
        device: the file system's; only of local files.
        inode: only of local files.
    """

    size: int | None
    modified: int | None = None
    changed: int | None = None
    device: int | None = None
    inode: int | None = None

    @classmethod
    def of_local(cls, status: os.stat_result) -> FileVersion:
        """Return the version that `os.stat` and its relatives show."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino)

    @classmethod
    def of_remote(cls, attributes: Attributes) -> FileVersion:
        """Return the version that a server's answer to STAT, FSTAT or READDIR shows."""
        size, _, _, modified = attributes
        return tuple.__new__(cls, (size, None if modified is None else modified * SECOND, None, None, None))

    @property
    def tells_time(self) -> bool:
        """Whether any time of its writing is known."""
        return self.modified is not None or self.changed is not None

    def is_same_as(self, other: FileVersion) -> bool:
        """Return whether two looks at the same side show the same version: nothing that both of them report differs."""
        for mine, theirs in zip(self, other, strict=True):  # asked of each file, often: a generator takes twice as long
            if mine != theirs and mine is not None and theirs is not None:
                return False
        return True

    def resembles(self, other: FileVersion) -> bool:
        """Return whether size and whole second are known of both, and equal: a hint, and no proof."""
        if None in (self.size, other.size) or self.modified is None or other.modified is None:
            return False
        return self.size == other.size and self.modified // SECOND == other.modified // SECOND

    @property
    def is_local(self) -> bool:
        """Whether a local file system has reported it."""
        return self.inode is not None

    @property
    def tick(self) -> int:
        """Nanoseconds within which a second write may leave no trace in the times."""
        if not self.is_local:
            return REMOTE_TICK
        has_fraction = (self.modified or 0) % SECOND or (self.changed or 0) % SECOND
        return COARSE_TICK if self.tells_time and not has_fraction else TICK

    @property
    def _last(self) -> int:
        return max(self.modified or 0, self.changed or 0)

    def is_racy(self, now: int | None = None, *, skew: int = SKEW) -> bool:
        """Return whether it may be written again without a trace in what is reported of it.

        Parameters:
            now: nanoseconds since 1970, by this machine's clock; the present moment by default. A time in the future
                counts as racy: that clock may stand at it.
            skew: nanoseconds by which a server's clock may be another one.
        """
        now = time.time_ns() if now is None else now
        if not self.tells_time:
            return True
        return self._last + self.tick + (0 if self.is_local else skew) > now

    def settles_in(self, seen_for: float = 0.0, *, skew: int = SKEW) -> float:
        """Return the seconds after which a further write would show: 0 for what is not racy.

        Two clocks show it, and the sooner one counts: that of the file, if it agrees with this machine's; and for
        how long this very version has been seen. A version without any time gives 0: waiting does not help there.

        Parameters:
            seen_for: seconds since this version was seen first.
            skew: nanoseconds by which a server's clock may be another one.
        """
        if not self.tells_time or not self.is_racy(skew=skew):
            return 0.0
        by_file = self._last + self.tick + (0 if self.is_local else skew) - time.time_ns()
        return max(0.0, min(by_file / SECOND, self.tick * MARGIN / SECOND - seen_for))


class Observed(NamedTuple):
    """A version, and since when it has been seen, by `time.monotonic()`."""

    version: FileVersion
    since: float
