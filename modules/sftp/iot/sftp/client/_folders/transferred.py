"""What the transfer of one file of a folder has done, as its direction reports it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from iot.sftp.client._files.file_version import FileVersion
    from iot.sftp.client._transfer.growth import GrowthRecord


class Finished(NamedTuple):
    """A file that was rotated, and whose last bytes have been delivered together with another one.

    Attributes:
        path: its own by now, relative to the source.
        dest: where it is, relative to the destination.
        size: bytes that were transferred.
        version: the one that was delivered.
    """

    path: str
    dest: str
    size: int
    version: FileVersion


class Transferred(NamedTuple):
    """What was done.

    Attributes:
        size: bytes that were transferred; of a growing file the new ones.
        version: the one that was delivered.
        growth: how much of a growing file is delivered by now.
        is_settled: whether a further write would show in the version: only then it is known the next time.
        is_atomic: whether a reader sees the old or the new complete file.
        finished: rotated files.
        is_new: whether anything was delivered: a file that is written to need not have a further complete line.
        sha256: of all bytes of the file, in hexadecimal digits; empty if nobody has asked for it.
    """

    size: int
    version: FileVersion
    growth: GrowthRecord | None = None
    is_settled: bool = True
    is_atomic: bool = True
    finished: tuple[Finished, ...] = ()
    is_new: bool = True
    sha256: str = ""
