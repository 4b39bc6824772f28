"""Keep the events of files until they are gathered into messages; they lie beside the delivery ledgers.

There the event of a delivery is written in the same transaction as its record. While the journal cannot be used,
nothing is gathered: so the events are bounded by number and by size.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from iot.sftp.module._base.logging import about
from iot.sftp.module._work.message_store import Bound

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from iot.sftp.module._work.sqlite_file import SQLiteFile

EVENTS_KEPT = Bound(20_000, 16 * 2**20)
CHECK_EVERY = 100  # events: by so many the bounds may be exceeded

TABLES = """
CREATE TABLE IF NOT EXISTS file_events (sequence INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL);
INSERT INTO identity SELECT LOWER(HEX(RANDOMBLOB(6))) WHERE NOT EXISTS (SELECT 1 FROM identity);
"""
_DELETE_BEYOND = """
DELETE FROM file_events WHERE sequence IN (
    SELECT sequence FROM (
        SELECT sequence, ROW_NUMBER() OVER newest AS number, SUM(LENGTH(event)) OVER newest AS size
        FROM file_events WINDOW newest AS (ORDER BY sequence DESC)
    ) WHERE number > ? OR size > ?
)
"""

_log = logging.getLogger(__name__)


class EventQueue:
    """The table of events; thread-safe.

    Attributes:
        bound: how many are kept; the oldest are dropped.
        check_every: after so many events it is checked.
        on_dropped: called with how many were dropped; must not block.
    """

    def __init__(self, file: SQLiteFile) -> None:
        """Use the file of the delivery ledgers, which has `TABLES`."""
        self.bound, self.check_every = EVENTS_KEPT, CHECK_EVERY
        self.on_dropped: Callable[[int], object] = lambda _dropped: None
        self._file = file

    def add(self, event: str) -> None:
        """Keep an event.

        Raises:
            SFTPError: the file cannot be used.
        """
        with self._file.transaction() as connection:
            self.write(connection, event)

    def write(self, connection: sqlite3.Connection, event: str) -> None:
        """Keep an event, within the transaction of the caller."""
        number = connection.execute("INSERT INTO file_events (event) VALUES (?)", (event,)).lastrowid or 0
        if number % self.check_every:
            return
        dropped = connection.execute(_DELETE_BEYOND, (self.bound.count, self.bound.size)).rowcount
        if dropped:
            self.on_dropped(dropped)
            text = "too many file events wait for the journal: the oldest %d were dropped, and are not reported"
            _log.warning(text, dropped, extra=about("file events"))

    def after(self, mark: Callable[[str], int], limit: int) -> tuple[str, list[tuple[int, str]]]:
        """Return the identity of the file, and the next events with their numbers, which only grow.

        Parameters:
            mark: returns up to which number the events of a file, by its identity, were gathered: those are deleted.
            limit: how many events at most.

        Raises:
            SFTPError: the file cannot be used.
        """
        with self._file.transaction() as connection:
            (identity,) = connection.execute("SELECT id FROM identity").fetchone()
            connection.execute("DELETE FROM file_events WHERE sequence <= ?", (mark(identity),))
            rows = connection.execute(
                "SELECT sequence, event FROM file_events ORDER BY sequence LIMIT ?", (limit,)
            ).fetchall()
        return identity, rows
