"""Make room for transfers, and try them again: how much they need, and what they have moved by then."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from iot.sftp.client import Direction, FolderProgress
from iot.sftp.module._work.room import Need

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from iot.sftp.client import FolderTransfer
    from iot.sftp.module._work.live_task import TaskProgress
    from iot.sftp.module._work.room import Room


class TransferOfFolder(Protocol):
    """Transfers a folder once."""

    def __call__(self, *, progress: Callable[[FolderProgress], object]) -> FolderTransfer:
        """Transfer it, and report progress."""


def need_of(direction: Direction, reached: TaskProgress | None) -> Need:
    """Return the room that the transfer of one file needs here: all of it, as nothing is left of a failed attempt."""
    size = 0 if direction is Direction.UPLOAD or reached is None else reached.total_bytes or 0
    return Need(size, step=size)


def transfer_with_room(
    room: Room,
    direction: Direction,
    transfer: TransferOfFolder,
    progress: Callable[[FolderProgress], object],
    cancelled: threading.Event,
) -> FolderTransfer:
    """Transfer a folder; as often as there is no room, and some can be made, transfer the rest of it.

    Parameters:
        room: makes room.
        direction: only a download needs room for the files themselves.
        transfer: one attempt, which leaves out what has arrived.
        progress: receives the progress of all attempts together.
        cancelled: set when it has to stop soon.

    Raises:
        SFTPError: what ended the last attempt.
    """
    earlier = reached = FolderProgress()

    def with_earlier(done: FolderTransfer) -> FolderTransfer:
        return replace(done, files=earlier.files + done.files, bytes=earlier.bytes + done.bytes)

    def note(done: FolderProgress) -> None:
        nonlocal reached
        reached = replace(done, files=earlier.files + done.files, bytes=earlier.bytes + done.bytes)
        progress(reached)

    def attempt() -> FolderTransfer:
        nonlocal earlier
        earlier = reached
        return with_earlier(transfer(progress=note))

    def need() -> Need:
        left = reached.total_bytes - (reached.bytes - earlier.bytes)
        return Need(0 if direction is Direction.UPLOAD else max(0, left))

    return room.retry(attempt, need, lambda: reached.files, cancelled)
