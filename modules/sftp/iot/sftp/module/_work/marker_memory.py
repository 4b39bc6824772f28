"""Remember over restarts what is still to be done with markers, beside the deliveries that they follow.

What is owed at a destination is written in the transaction that records the delivery: so a process that is killed
between an arrival and its marker leaves either both records, or none and bytes that the next run compares.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from iot.sftp.client import FileVersion, OwedMarkers, SpentMarker

if TYPE_CHECKING:
    import sqlite3

    from iot.sftp.module._work.sqlite_file import SQLiteFile

TABLES = """
CREATE TABLE IF NOT EXISTS owed_markers (
    ledger TEXT NOT NULL, dest BLOB NOT NULL, path BLOB NOT NULL, sha256 TEXT NOT NULL,
    PRIMARY KEY (ledger, dest)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent_markers (
    ledger TEXT NOT NULL, marker BLOB NOT NULL, version TEXT NOT NULL, path BLOB NOT NULL, file TEXT NOT NULL,
    move_to BLOB,
    PRIMARY KEY (ledger, marker)
) WITHOUT ROWID;
"""
READ_AT_ONCE = 500  # rows, a few hundred bytes each


class MarkerMemory:
    """The markers of one ledger's files: see `MarkerRecord`."""

    def __init__(self, file: SQLiteFile, ledger: str) -> None:
        """Use the file of the delivery ledgers."""
        self._file = file
        self._ledger = ledger
        self._announced: dict[str, OwedMarkers] = {}  # by the paths of files whose delivery is recorded next

    def announce(self, owed: OwedMarkers) -> None:
        """Take what is owed for the file whose delivery is recorded next."""
        self._announced[owed.path] = owed

    def note_delivered(self, connection: sqlite3.Connection, path: str) -> None:
        """Write what is owed for a file, in the transaction that records its delivery."""
        owed = self._announced.pop(path, None)
        if owed is not None:
            values = self._ledger, os.fsencode(owed.dest), os.fsencode(owed.path), owed.sha256
            connection.execute("INSERT OR REPLACE INTO owed_markers VALUES (?, ?, ?, ?)", values)

    def owed(self, after: str) -> list[OwedMarkers]:
        """Return what is owed at the next destinations behind a path."""
        with self._file.transaction() as connection:
            rows = connection.execute(
                "SELECT path, dest, sha256 FROM owed_markers WHERE ledger = ? AND dest > ? ORDER BY dest LIMIT ?",
                (self._ledger, os.fsencode(after), READ_AT_ONCE),
            ).fetchall()
        return [OwedMarkers(os.fsdecode(path), os.fsdecode(dest), sha256) for path, dest, sha256 in rows]

    def settle_owed(self, dest: str) -> None:
        """Record that nothing is owed at a destination."""
        with self._file.transaction() as connection:
            where = self._ledger, os.fsencode(dest)
            connection.execute("DELETE FROM owed_markers WHERE ledger = ? AND dest = ?", where)

    def note_spent(self, spent: SpentMarker) -> None:
        """Record a marker at the source before its file is deleted or moved."""
        move_to = None if spent.move_to is None else os.fsencode(spent.move_to)
        values = (
            *(self._ledger, os.fsencode(spent.marker), json.dumps(spent.version)),
            *(os.fsencode(spent.path), json.dumps(spent.file), move_to),
        )
        with self._file.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO spent_markers VALUES (?, ?, ?, ?, ?, ?)", values)

    def spent(self, after: str) -> list[SpentMarker]:
        """Return the next markers behind a path."""
        with self._file.transaction() as connection:
            rows = connection.execute(
                "SELECT marker, version, path, file, move_to FROM spent_markers WHERE ledger = ? AND marker > ? "
                "ORDER BY marker LIMIT ?",
                (self._ledger, os.fsencode(after), READ_AT_ONCE),
            ).fetchall()
        return [
            SpentMarker(
                *(os.fsdecode(marker), FileVersion(*json.loads(version)), os.fsdecode(path)),
                *(FileVersion(*json.loads(file)), None if move_to is None else os.fsdecode(move_to)),
            )
            for marker, version, path, file, move_to in rows
        ]

    def settle_spent(self, marker: str) -> None:
        """Record that a marker is gone, or still of use."""
        with self._file.transaction() as connection:
            where = self._ledger, os.fsencode(marker)
            connection.execute("DELETE FROM spent_markers WHERE ledger = ? AND marker = ?", where)
