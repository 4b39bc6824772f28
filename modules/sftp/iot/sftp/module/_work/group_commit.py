"""Commit several writes in one transaction: each transaction writes whole pages to the flash.

Dozens of files of a folder arrive in the same moments, and each record is a few bytes. A thread that has many files in
flight hands in the records of all, and waits for them behind that: the first wait commits them all. Where each file has
a thread of its own, a thread whose predecessor was another one waits a little for others. In both cases a write is
committed when its wait returns, as with a transaction of its own.
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
class Write:
    """What is to be written, and how that ended."""

    run: Callable[[sqlite3.Connection], object]
    is_done: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


class GroupCommit:
    """Transactions that several writes share; thread-safe."""

    def __init__(self, file: SQLiteFile, gathering: float = GATHERING) -> None:
        """Take the file; `gathering` is in seconds."""
        self._file = file
        self._gathering = gathering
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # held by the thread that commits
        self._waiting: list[Write] = []
        self._is_led = False  # whether a thread is going to commit them all, once others have had a moment
        self._last_thread = threading.get_ident()
        self._last_moment = 0.0

    def write(self, run: Callable[[sqlite3.Connection], object]) -> None:
        """Write within a transaction; it is committed when this returns.

        Parameters:
            run: see `hand_in`.

        Raises:
            SFTPError: the file cannot be used.
        """
        self.wait(self.hand_in(run))

    def hand_in(self, run: Callable[[sqlite3.Connection], object]) -> Write:
        """Take a write for the next transaction; `wait` has it committed.

        Parameters:
            run: writes; called in any of the threads that share the transaction. What it raises undoes all of it.
        """
        write = Write(run)
        with self._lock:
            self._waiting.append(write)
        return write

    def wait(self, write: Write, *, is_complete: bool = False) -> None:
        """Return when a write is committed, with all that was handed in by then.

        Parameters:
            write: what `hand_in` has returned.
            is_complete: what is to be written with it was handed in: no other thread is waited for.

        Raises:
            SFTPError: the file cannot be used.
        """
        if is_complete:
            self._commit(unless=write.is_done)
        elif self._leads(write):
            self._commit()
        write.is_done.wait()
        if write.error is not None:
            raise _copy(write.error) from write.error

    def _leads(self, write: Write) -> bool:
        """Return whether this thread has to commit what waits by now; it has given others a moment."""
        with self._lock:
            pause = self._pause()
            if self._is_led:
                return False
            self._is_led = True
        write.is_done.wait(pause)  # a thread whose writes are complete may take this one along
        with self._lock:
            self._is_led = False
        return True

    def _pause(self) -> float:
        """Return how long to wait for other threads: not at all where one thread writes alone."""
        thread, now = threading.get_ident(), time.monotonic()
        is_alone = thread == self._last_thread or now - self._last_moment > RECENT
        self._last_thread, self._last_moment = thread, now
        return 0.0 if is_alone else self._gathering

    def _commit(self, *, unless: threading.Event | None = None) -> None:
        """Commit all that waits, once nobody else commits; nothing if `unless` is set by then."""
        with self._turn:
            if not self._waiting or (unless is not None and unless.is_set()):
                return
            writes: list[Write] = []
            error: BaseException | None = None
            try:
                with self._file.transaction() as connection:
                    writes = self._take()  # also those that have come while another transaction had the file
                    for each in writes:
                        each.run(connection)
            except BaseException as raised:
                error = raised
                if not isinstance(raised, Exception):
                    raise
            finally:
                for each in writes or self._take():
                    each.error = error
                    each.is_done.set()

    def _take(self) -> list[Write]:
        with self._lock:
            writes, self._waiting = self._waiting, []
        return writes


def _copy(error: BaseException) -> BaseException:
    """Return an error of a thread's own: raising one changes it."""
    return type(error)(error.message, path=error.path) if isinstance(error, SFTPError) else RuntimeError(str(error))
