"""The tables of the delivery ledger, and how those of an earlier version become them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iot.sftp.module._work.event_queue import TABLES as EVENT_TABLES
from iot.sftp.module._work.failure_memory import TABLE as FAILURES_TABLE
from iot.sftp.module._work.growth_memory import create_growths
from iot.sftp.module._work.marker_memory import TABLES as MARKER_TABLES
from iot.sftp.module._work.place_memory import TABLE as PLACES_TABLE
from iot.sftp.module._work.sqlite_file import FileMessages, Schema

if TYPE_CHECKING:
    import sqlite3

NAME = "rules.sqlite3"  # in the state directory
VERSION = 3  # of the tables, in SQLite's user_version
UNUSED_KEPT = 30 * 86_400.0  # seconds of use time after which an unused ledger is deleted
OF_LEDGERS = ("deliveries", "places", "growths", "owed_markers", "spent_markers", "failures")

_TABLES = """
CREATE TABLE usage (seconds REAL NOT NULL);
INSERT INTO usage VALUES (0);
CREATE TABLE ledgers (ledger TEXT PRIMARY KEY, task TEXT, used REAL NOT NULL, shared_until REAL) WITHOUT ROWID;
CREATE TABLE deliveries (
    ledger TEXT NOT NULL, path BLOB NOT NULL,
    size INTEGER, modified INTEGER, changed INTEGER, device INTEGER, inode INTEGER,
    is_proof INTEGER NOT NULL, home INTEGER, missed INTEGER NOT NULL, seen REAL NOT NULL,
    PRIMARY KEY (ledger, path)
) WITHOUT ROWID;
"""
# 0.1.0 kept the size, and the time as a float: enough to recognise a file, but no proof
_FROM_VERSION_1 = """
INSERT INTO ledgers SELECT rule, NULL, 0, NULL FROM rules;
INSERT INTO deliveries
    SELECT rule, path, size, CAST(ROUND(modified * 1e9) AS INTEGER), NULL, NULL, NULL, 0, NULL, 0, 0 FROM sent;
DROP TABLE rules;
DROP TABLE sent;
"""
# Names were no part of a route: whoever gave files other ones has shared the ledger; see `take_over`
_FROM_VERSION_2 = """
ALTER TABLE ledgers ADD COLUMN shared_until REAL;
UPDATE ledgers SET shared_until = (SELECT seconds FROM usage);
"""

_WAS_SHARED = "SELECT 1 FROM ledgers WHERE ledger = ? AND shared_until > ?"


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    """Create the tables, or bring those of an earlier version to this one, in one transaction."""
    if version < VERSION:
        steps = {0: _TABLES, 1: _TABLES + _FROM_VERSION_1, 2: _FROM_VERSION_2}
        connection.executescript(f"BEGIN; {steps[version]} PRAGMA user_version = {VERSION}; COMMIT;")
    connection.executescript(f"BEGIN; {EVENT_TABLES} COMMIT;")
    for tables in (PLACES_TABLE, MARKER_TABLES, FAILURES_TABLE):
        connection.executescript(tables)
    create_growths(connection)


def take_over(connection: sqlite3.Connection, ledger: str, former: str, use: float) -> None:
    """Begin a ledger with what its route had recorded before names were a part of it.

    Parameters:
        connection: of the transaction.
        ledger: its name; nothing is done if it is there already.
        former: the name of the ledger that was shared.
        use: the use time. An unused ledger is deleted after a while: after that, nobody can miss what was shared.
    """
    is_there = connection.execute("SELECT 1 FROM ledgers WHERE ledger = ?", (ledger,)).fetchone()
    was_shared = connection.execute(_WAS_SHARED, (former, use - UNUSED_KEPT)).fetchone()
    if is_there or not was_shared:
        return
    for table in OF_LEDGERS:
        _, *columns = (name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})"))
        rest = ", ".join(columns)
        copy = f"INSERT INTO {table} (ledger, {rest}) SELECT ?, {rest} FROM {table} WHERE ledger = ?"  # noqa: S608 - our names
        connection.execute(copy, (ledger, former))


SCHEMA = Schema(
    NAME,
    messages=FileMessages(
        removed="the delivery ledger %s was removed: a new one is created",
        damaged="the delivery ledger is not readable (%s): it was set aside as %s, what it held is not known any more",
        unusable="the delivery ledger cannot be used: %s",
        recovered="the delivery ledger can be written again",
    ),
    purpose="to remember what was delivered",
    version=VERSION,
    tables=(
        *("ledgers", "deliveries", "places", "growths", "file_events", "identity"),
        *("owed_markers", "spent_markers", "failures"),
    ),
    migrate=_migrate,  # it is as large as folders are: to check all of it would take too long
)
