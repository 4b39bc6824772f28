"""The file with the delivery ledgers: which there are, whose, and when one is deleted.

They are in a SQLite file beside the journal. There is one for each route: server, direction, source and destination.
All rules with this route share it, whatever their names and patterns, and so do the tasks that delete or move what they
have delivered; a task that keeps its source has a ledger of its own until it has ended.

No clock that can be set decides what is deleted. An unused ledger is deleted by use time: the seconds for which
modules have been running on this file.
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING

from iot.sftp.module._work.delivered_versions import MOVED, DeliveredVersions
from iot.sftp.module._work.delivery_ledger import SEEN_PERIOD, DeliveryLedger
from iot.sftp.module._work.delivery_tables import OF_LEDGERS, SCHEMA, UNUSED_KEPT, take_over
from iot.sftp.module._work.event_queue import EventQueue
from iot.sftp.module._work.exclusive_scans import ExclusiveScans
from iot.sftp.module._work.group_commit import GroupCommit
from iot.sftp.module._work.place_memory import PlaceMemory
from iot.sftp.module._work.sqlite_file import SQLiteFile

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from pathlib import Path

ENDED = "ended"  # the task of the ledgers of all tasks that have ended; ids of tasks are hexadecimal
ENDED_KEPT = 100  # of these ledgers, the last ones

_KEEP_MOVED = f"UPDATE ledgers SET used = ? WHERE ledger = '{MOVED}' AND used < ?"  # noqa: S608 - the word is ours
_MORE_THAN_KEPT = f"""
ledger IN (SELECT ledger FROM ledgers WHERE task = '{ENDED}' ORDER BY used DESC LIMIT -1 OFFSET ?)
"""  # noqa: S608 - the word is ours


class DeliveryLedgers:
    """The file with all ledgers; thread-safe.

    Attributes:
        scans: in progress, by the routes of their ledgers.
        events: of the files that were delivered.
        delivered: looks up local files in all ledgers.
    """

    def __init__(
        self,
        directory: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the directory; the file is created and opened when it is first needed.

        Parameters:
            directory: the module's state directory.
            clock: counts the seconds of use; never set, and of no meaning between two processes.
            guard: raises an `SFTPError` while this process must not use the directory.
        """
        self._file = SQLiteFile(directory, SCHEMA, guard=guard, clock=clock)
        self._commits = GroupCommit(self._file)
        self.scans = ExclusiveScans()
        self.events = EventQueue(self._file)
        self.delivered = DeliveredVersions(self._file)

    def of(
        self,
        *route: object,
        former_route: Sequence[object] = (),
        task: str | None = None,
        covers: Callable[[str], bool] = lambda _path: True,
        home: int | None = None,
        is_strict: bool = False,
        verifies: bool = False,
        has_places: bool = False,
        delivers_lines: bool = False,
    ) -> DeliveryLedger:
        """Return the ledger of a route, for one scan of its source.

        Parameters:
            route: the server, the direction, the folders, and the names of the files there.
            former_route: the same as it was before names were a part of it.
            task: the task whose own ledger it is, until `forget_task`.
            covers: returns whether the scan finds a path that exists, by its pattern and its recursion.
            home: the inode of the source folder, if it is local. What was delivered from another folder of this name
                (a mount that is missing now) is not taken for deleted.
            is_strict: only proof counts, as the source is deleted or moved for it.
            verifies: this scan compares hashes where the ledger is in doubt.
            has_places: it remembers where each file goes: see `DeliveryLedger.place_of`.
            delivers_lines: a file of which whole lines are delivered counts as delivered.

        Raises:
            SFTPError: the file cannot be used.
        """
        ledger = name_of(route)
        with self._file.transaction() as connection:
            use = self._file.count_use(connection)
            take_over(connection, ledger, name_of(former_route), use)
            connection.execute(
                "INSERT INTO ledgers (ledger, task, used) VALUES (?, ?, ?) "
                "ON CONFLICT (ledger) DO UPDATE SET used = excluded.used",
                (ledger, task, use),
            )
            if self.delivered.is_asked:
                connection.execute(_KEEP_MOVED, (use, use - SEEN_PERIOD))
            _forget(connection, "used < ?", use - UNUSED_KEPT)
        places = PlaceMemory(self._file, ledger) if has_places else None
        return DeliveryLedger(
            self._file,
            self._commits,
            self.events,
            ledger,
            use,
            covers=covers,
            home=home,
            is_strict=is_strict,
            verifies=verifies,
            places=places,
            delivered=self.delivered,
            delivers_lines=delivers_lines,
        )

    def forget_task(self, task: str) -> None:
        """Delete the ledger of a task that has ended, unless somebody asks what was delivered.

        Raises:
            SFTPError: the file cannot be used.
        """
        with self._file.transaction() as connection:
            if self.delivered.is_asked:
                use = self._file.count_use(connection)
                connection.execute("UPDATE ledgers SET task = ?, used = ? WHERE task = ?", (ENDED, use, task))
                _forget(connection, _MORE_THAN_KEPT, ENDED_KEPT)
            else:
                _forget(connection, "task = ?", task)

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        self._file.close()


def name_of(route: Sequence[object]) -> str:
    """Return the name of the ledger of a route."""
    return hashlib.sha256(json.dumps(list(route)).encode()).hexdigest()[:32]


def _forget(connection: sqlite3.Connection, condition: str, value: object) -> None:
    """Delete whole ledgers."""
    which = f"SELECT ledger FROM ledgers WHERE {condition}"  # noqa: S608 - the conditions are ours
    for table in OF_LEDGERS:
        connection.execute(f"DELETE FROM {table} WHERE ledger IN ({which})", (value,))  # noqa: S608 - as above
    connection.execute(f"DELETE FROM ledgers WHERE {condition}", (value,))  # noqa: S608 - as above
