"""Remember how much of each growing file was delivered: its length, and digests of what was delivered.

A row stays when its file is renamed by a rotation: what was delivered under that path is finished first. It also stays
when its file is gone: a log may be rotated long before the next one begins under its name, and what is at the
destination then is ours to replace only as long as that is known. So rows do not go with the records of deliveries, but
when too many of them have no file, those that were written first.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from iot.sftp.client import GrowthRecord

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

ABSENT_KEPT = 1_000  # of one ledger, files that are gone: logs with dates in their names leave one each

TABLE = """
CREATE TABLE IF NOT EXISTS growths (
    ledger TEXT NOT NULL, path BLOB NOT NULL,
    length INTEGER NOT NULL, digest TEXT NOT NULL, tail TEXT NOT NULL, inode INTEGER, coming TEXT,
    written REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (ledger, path)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS growths_by_inode ON growths (ledger, inode);
"""


def create_growths(connection: sqlite3.Connection) -> None:
    """Create the table, or add what an earlier one does not have: when each row was written."""
    connection.executescript(TABLE)
    if not any(name == "written" for _, name, *_ in connection.execute("PRAGMA table_info(growths)")):
        connection.execute("ALTER TABLE growths ADD COLUMN written REAL NOT NULL DEFAULT 0")


def growth_of(connection: sqlite3.Connection, ledger: str, path: str) -> GrowthRecord | None:
    """Return what was delivered of the file that has, or had, a path."""
    row = connection.execute(
        "SELECT length, digest, tail, inode, coming FROM growths WHERE ledger = ? AND path = ?",
        (ledger, os.fsencode(path)),
    ).fetchone()
    if row is None:
        return None
    length, digest, tail, inode, coming = row
    then = None if coming is None else GrowthRecord(*json.loads(coming))
    return GrowthRecord(length, digest, tail, None if inode is None else inode % 2**64, then)


def paths_growing_as(connection: sqlite3.Connection, ledger: str, inode: int | None) -> list[str]:
    """Return the paths under which a file with this inode is recorded; the inode as SQLite has it."""
    rows = connection.execute("SELECT path FROM growths WHERE ledger = ? AND inode = ?", (ledger, inode))
    return [os.fsdecode(path) for (path,) in rows]


def write_growth(
    connection: sqlite3.Connection, ledger: str, path: str, growth: GrowthRecord, inode: int | None, *, use: float
) -> None:
    """Write what was delivered of a file; the inode as SQLite has it, and the use time."""
    then = growth.coming
    coming = None if then is None else json.dumps([then.length, then.digest, then.tail, then.inode])
    values = (ledger, os.fsencode(path), growth.length, growth.digest, growth.tail, inode, coming, use)
    connection.execute("INSERT OR REPLACE INTO growths VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)


def forget_growth(connection: sqlite3.Connection, ledger: str, path: bytes) -> None:
    """Forget a file whose source was deleted or moved."""
    connection.execute("DELETE FROM growths WHERE ledger = ? AND path = ?", (ledger, path))


def forget_absent_growths(connection: sqlite3.Connection, ledger: str, is_absent: Callable[[bytes], bool]) -> None:
    """Forget files that are gone, where there are too many of them: those first that were written first."""
    (count,) = connection.execute("SELECT count(*) FROM growths WHERE ledger = ?", (ledger,)).fetchone()
    if count <= ABSENT_KEPT:
        return
    rows = connection.execute("SELECT path FROM growths WHERE ledger = ? ORDER BY written DESC", (ledger,))
    absent = [(ledger, path) for (path,) in rows if is_absent(path)]
    connection.executemany("DELETE FROM growths WHERE ledger = ? AND path = ?", absent[ABSENT_KEPT:])
