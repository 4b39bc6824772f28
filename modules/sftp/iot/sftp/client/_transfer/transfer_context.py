"""What the transfers of one call share besides their order: where they are recorded, limited, counted and reported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from iot.sftp.client._base.counts import Counts
from iot.sftp.client._transfer.file_order import AS_THEIR_SOURCES, Modes
from iot.sftp.client._transfer.rate_limit import RateLimit
from iot.sftp.client._transfer.resume_records import ResumeRecords

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._files.local_files import LocalFiles
    from iot.sftp.client._transfer.file_order import Verify

Server = tuple[str, int, str]  # host, port and user


def ignore_progress(_done: int, _total: int | None) -> None:
    """Report nothing."""


def do_nothing() -> None:
    """Prepare nothing."""


@dataclass(frozen=True)
class Backup:
    """Where the file goes that is replaced.

    Attributes:
        path: its path, on the side of the destination; a number is added if something is there.
        local_files: how that is reached, of a download.
    """

    path: str
    local_files: LocalFiles | None = None


@dataclass(frozen=True)
class TransferContext:
    """How a file is to be transferred.

    Attributes:
        server: whose files the remote ones are, to keep two writers of one destination apart.
        verify: what is compared at the end, besides the size.
        records: the resume records.
        limit: the bytes per second that all transfers of the session share.
        counts: where transferred bytes are counted.
        on_progress: receives the bytes that are at the destination, and those that there will be.
        modes: the permissions of what is created.
        keeps_existing: do not replace what is at the destination: `AlreadyExists`.
        backup: where what is replaced is kept; `None` does not keep it.
        computes_hash: return the SHA-256 of what was transferred.
        before_replacing: called when the file is complete, just before it gets its name; ends the transfer by raising.
        unanswered_renames: the temporary files of this call's uploads whose rename was requested, without an answer.
    """

    server: Server
    verify: Verify = "size"
    records: ResumeRecords = field(default_factory=lambda: ResumeRecords(None))
    limit: RateLimit = field(default_factory=RateLimit)
    counts: Counts = field(default_factory=Counts)
    on_progress: Callable[[int, int | None], object] = ignore_progress
    modes: Modes = AS_THEIR_SOURCES
    keeps_existing: bool = False
    backup: Backup | None = None
    computes_hash: bool = False
    before_replacing: Callable[[], object] = do_nothing
    unanswered_renames: set[str] = field(default_factory=set)
