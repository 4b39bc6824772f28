"""Count over restarts how often each version of a file has failed by itself: it is put aside some day."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from iot.sftp.client import FileVersion

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from iot.sftp.module._work.sqlite_file import SQLiteFile

TABLE = """
CREATE TABLE IF NOT EXISTS failures (
    ledger TEXT NOT NULL, path BLOB NOT NULL, version TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (ledger, path)
) WITHOUT ROWID;
"""


class FailureMemory:
    """The failures of one ledger's files: see `FailureCounts`."""

    def __init__(self, file: SQLiteFile, ledger: str) -> None:
        """Use the file of the delivery ledgers."""
        self._file = file
        self._ledger = ledger

    def add(self, path: str, version: FileVersion) -> int:
        """Count a failure of a version, and return how many there were in a row."""
        where = self._ledger, os.fsencode(path)
        with self._file.transaction() as connection:
            row = connection.execute("SELECT version, count FROM failures WHERE ledger = ? AND path = ?", where)
            kept = row.fetchone()
            is_same = kept is not None and _is_same(FileVersion(*json.loads(kept[0])), version)
            count = kept[1] + 1 if is_same else 1
            values = *where, json.dumps(version), count
            connection.execute("INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?)", values)
        return count

    def forget(self, path: str) -> None:
        """Forget a file that has arrived, or is put aside."""
        where = self._ledger, os.fsencode(path)
        with self._file.transaction() as connection:
            connection.execute("DELETE FROM failures WHERE ledger = ? AND path = ?", where)

    def forget_unless(self, connection: sqlite3.Connection, may_be_there: Callable[[bytes], bool]) -> None:
        """Forget the files that are gone, within a transaction."""
        rows = connection.execute("SELECT path FROM failures WHERE ledger = ?", (self._ledger,)).fetchall()
        gone = [(self._ledger, path) for (path,) in rows if not may_be_there(path)]
        connection.executemany("DELETE FROM failures WHERE ledger = ? AND path = ?", gone)


def _is_same(kept: FileVersion, now: FileVersion) -> bool:
    """Return whether this is the version that has failed; device numbers change with each boot."""
    return kept._replace(device=None).is_same_as(now)
