"""Remember how much of each growing file was delivered: its length, and digests of what was delivered.

A row stays when its file is renamed by a rotation: what was delivered under that path is finished first. It goes with
the record of the delivery, once the file is gone for good.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from iot.sftp.client import GrowthRecord

if TYPE_CHECKING:
    import sqlite3

TABLE = """
CREATE TABLE IF NOT EXISTS growths (
    ledger TEXT NOT NULL, path BLOB NOT NULL,
    length INTEGER NOT NULL, digest TEXT NOT NULL, tail TEXT NOT NULL, inode INTEGER, coming TEXT,
    PRIMARY KEY (ledger, path)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS growths_by_inode ON growths (ledger, inode);
"""


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
    connection: sqlite3.Connection, ledger: str, path: str, growth: GrowthRecord, inode: int | None
) -> None:
    """Write what was delivered of a file; the inode as SQLite has it."""
    then = growth.coming
    coming = None if then is None else json.dumps([then.length, then.digest, then.tail, then.inode])
    values = (ledger, os.fsencode(path), growth.length, growth.digest, growth.tail, inode, coming)
    connection.execute("INSERT OR REPLACE INTO growths VALUES (?, ?, ?, ?, ?, ?, ?)", values)


def forget_growths(connection: sqlite3.Connection, ledger: str, paths: list[bytes]) -> None:
    """Forget files that are gone for good."""
    pairs = [(ledger, path) for path in paths]
    connection.executemany("DELETE FROM growths WHERE ledger = ? AND path = ?", pairs)
