"""What a transfer is told besides from where to where, and what it tells afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from iot.sftp.client._base.counts import Counts
from iot.sftp.client._transfer.rate_limit import Limit
from iot.sftp.client._transfer.unfinished import Unfinished

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._transfer.file_order import Verify

Server = tuple[str, int, str]  # host, port and user


def ignore_progress(_done: int, _total: int | None) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Terms:
    """How a file is to be moved.

    Attributes:
        server: whose files the remote ones are, to keep two writers of one destination apart.
        verify: what is compared at the end, besides the size.
        unfinished: where unfinished transfers are remembered.
        limit: the bytes per second that all transfers of the session share.
        counts: where the bytes that were moved are counted.
        on_progress: called with the bytes that are there and those that there will be.
        renaming: the temporary files of this call's uploads whose rename was asked for, without an answer.
    """

    server: Server
    verify: Verify = "size"
    unfinished: Unfinished = field(default_factory=lambda: Unfinished(None))
    limit: Limit = field(default_factory=Limit)
    counts: Counts = field(default_factory=Counts)
    on_progress: Callable[[int, int | None], object] = ignore_progress
    renaming: set[str] = field(default_factory=set)


class Outcome(NamedTuple):
    """What was done: bytes of the file, how it was verified, bytes that were there before, and whether in one step."""

    size: int
    verified: str
    resumed: int
    atomic: bool


@dataclass(frozen=True)
class Transfer:
    """What a transfer did.

    Attributes:
        bytes: the size of the file, compared between source and destination.
        seconds: from the call to the end.
        atomic: whether the destination was replaced in one step. `False` where the server does not offer that.
        verified: what was compared: `size`, or how the SHA-256 was: `check-file`, `sha256sum` or `read back`; or
            `acknowledged`: the server tells no size, and has confirmed each WRITE, or the end of the file.
        resumed: how many of the bytes were there already, from an earlier try.
        attempts: how often it was tried, the one that succeeded included; attempts to connect count too.
    """

    bytes: int
    seconds: float
    atomic: bool
    verified: str = "size"
    resumed: int = 0
    attempts: int = 1

    @classmethod
    def of(cls, outcome: Outcome, seconds: float, attempts: int) -> Transfer:
        """Return what was done in so many seconds and attempts."""
        return cls(outcome.size, seconds, outcome.atomic, outcome.verified, outcome.resumed, attempts)
