"""The claim on the state directory: two modules on one directory would execute each other's tasks and rules."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from iot.sftp.client import SFTPError

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 10.0  # seconds that the process before this one has to end: it is killed by then
INTERVAL = 1.0  # seconds between two attempts
REMINDER = 300.0  # seconds between two lines that another module uses the directory

_log = logging.getLogger(__name__)


class StateClaim:
    """Waits until the state directory is ours; without it, the module connects to no server.

    The module that finds the directory in use reports that wherever somebody may look for it, and takes over when the
    other one has ended.
    """

    def __init__(
        self,
        check: Callable[[], None],
        on_conflict: Callable[[SFTPError], None],
        *,
        patience: float = PATIENCE,
        interval: float = INTERVAL,
    ) -> None:
        """Take how to claim it.

        Parameters:
            check: claims the directory; raises an `SFTPError` while another module uses it; blocks.
            on_conflict: called with that error, at once and at each reminder.
            patience: seconds that the process before this one has to end.
            interval: seconds between two attempts.
        """
        self.patience = patience
        self._check = check
        self._on_conflict = on_conflict
        self._interval = interval
        self.conflict: SFTPError | None = None  # while another module uses the directory

    async def wait(self) -> bool:
        """Return when the directory is ours; whether another module used it before."""
        waited, due = 0.0, 0.0
        while (error := await asyncio.to_thread(self._attempt)) is not None:
            self.conflict = error
            if waited >= due:
                level, due = (logging.ERROR, waited + REMINDER) if waited else (logging.WARNING, self.patience)
                _log.log(level, "%s", error.message)
                self._on_conflict(error)
            waited += self._interval
            await asyncio.sleep(self._interval)
        was_in_use, self.conflict = self.conflict is not None, None
        return was_in_use

    def _attempt(self) -> SFTPError | None:
        try:
            self._check()
        except SFTPError as error:
            return error
        return None
