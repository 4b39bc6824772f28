"""Make room on a full disk, and try again: what was delivered must not be in the way of what is not."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from iot.sftp.client import NoSpace
from iot.sftp.module._base.logging import about

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

T = TypeVar("T")

MARGIN = 2**20  # bytes: records, directories and blocks that are not full need some room too
STEP = 256 * 2**20  # bytes: a folder may be larger than the disk, and needs its room bit by bit

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Need:
    """The room that a transfer needs.

    Attributes:
        total: bytes that are still to come.
        step: bytes that are made free at a time, at most.
    """

    total: int = 0
    step: int = STEP

    def wanted(self, free: int) -> int:
        """Return how many bytes have to be free, where so many are: no more than these, if that is enough."""
        total = self.total + MARGIN
        return free if free >= total else min(total, free + max(self.step, MARGIN))


class Room:
    """Has room made when there is none; thread-safe.

    Attributes:
        make: makes room, blocks for a bounded time, and returns whether there is more of it by then; set by who can.
            The event ends it early.
    """

    def __init__(self) -> None:
        """Begin without anybody who makes room."""
        self.make: Callable[[Need, threading.Event | None], bool] = lambda _need, _cancelled: False

    def retry(
        self,
        attempt: Callable[[], T],
        need: Callable[[], Need],
        moved: Callable[[], int] = lambda: 0,
        cancelled: threading.Event | None = None,
    ) -> T:
        """Make an attempt; if it fails for want of room that can be made, make another one.

        Parameters:
            attempt: raises `NoSpace` if there is no room.
            need: returns what it needs by then.
            moved: returns how many files were moved by then: after progress there may be yet another attempt.
            cancelled: set when it has to stop soon.

        Raises:
            SFTPError: that of the last attempt.
        """
        before = -1
        while True:
            try:
                return attempt()
            except NoSpace as error:
                if moved() <= before or not self.make(need(), cancelled):
                    raise
                before = moved()
                _log.info(
                    "there was no space (%s): some was made, it is tried again", error.message, extra=about("room")
                )
