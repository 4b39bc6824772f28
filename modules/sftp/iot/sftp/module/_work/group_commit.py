"""Commit the writes of several threads in one transaction: each transaction writes whole pages to the flash.

Dozens of files of a folder arrive in the same moments, each in a thread of its own, and each record is a few bytes. A
thread whose predecessor was another one waits a little for others, and writes for all of them. What a thread has
written is committed when its call returns, as with a transaction of its own.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from iot.sftp.client import SFTPError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from iot.sftp.module._work.sqlite_file import SQLiteFile

GATHERING = 0.02  # seconds that a write waits for those of other threads
RECENT = 0.2  # seconds after another thread's write in which a further one is likely


@dataclass(eq=False)
class _Write:
    """What one thread writes, and how that ended."""

    run: Callable[[sqlite3.Connection], object]
    is_done: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


class GroupCommit:
    """Transactions that several threads share; thread-safe."""

    def __init__(self, file: SQLiteFile, gathering: float = GATHERING) -> None:
        """Take the file; `gathering` is in seconds."""
        self._file = file
        self._gathering = gathering
        self._lock = threading.Lock()
        self._waiting: list[_Write] = []  # the thread of the first one commits them all
        self._last_thread = threading.get_ident()
        self._last_moment = 0.0

    def write(self, run: Callable[[sqlite3.Connection], object]) -> None:
        """Write within a transaction; it is committed when this returns.

        Parameters:
            run: writes; called in any of the threads that share the transaction. What it raises undoes all of it.

        Raises:
            SFTPError: the file cannot be used.
        """
        mine = _Write(run)
        with self._lock:
            self._waiting.append(mine)
            is_first = len(self._waiting) == 1
            pause = self._pause()
        if is_first:
            time.sleep(pause)
            self._commit()
            return
        mine.is_done.wait()
        if mine.error is not None:
            raise _copy(mine.error) from mine.error

    def _pause(self) -> float:
        """Return how long to wait for other threads: not at all where one thread writes alone."""
        thread, now = threading.get_ident(), time.monotonic()
        is_alone = thread == self._last_thread or now - self._last_moment > RECENT
        self._last_thread, self._last_moment = thread, now
        return 0.0 if is_alone else self._gathering

    def _commit(self) -> None:
        writes: list[_Write] = []
        error: BaseException | None = None
        try:
            with self._file.transaction() as connection:
                writes = self._take()  # also those that have come while another transaction had the file
                for each in writes:
                    each.run(connection)
        except BaseException as raised:
            error = raised
            raise
        finally:
            for each in writes or self._take():
                each.error = error
                each.is_done.set()

    def _take(self) -> list[_Write]:
        with self._lock:
            writes, self._waiting = self._waiting, []
        return writes


def _copy(error: BaseException) -> BaseException:
    """Return an error of a thread's own: raising one changes it."""
    return type(error)(error.message, path=error.path) if isinstance(error, SFTPError) else RuntimeError(str(error))
