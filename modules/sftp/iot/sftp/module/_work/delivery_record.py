"""The record of one delivered file in its ledger: how it is written, read and compared with the file that exists."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from iot.sftp.client import FileVersion

if TYPE_CHECKING:
    import sqlite3

# Of how much of a version its record stands for, in the column `is_proof`. Whole lines are all that a rule with `lines`
# has to deliver, and not all that the file holds: for nobody else is it delivered, and nothing deletes it for that.
PROOF, WHOLE_LINES = 1, 2
ROUGHLY = 1_000  # nanoseconds: version 1 kept times as 64-bit floats, which are as coarse as 238 ns today

_WRITE = """
INSERT INTO deliveries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?) ON CONFLICT (ledger, path) DO UPDATE SET
    size = excluded.size, modified = excluded.modified, changed = excluded.changed, device = excluded.device,
    inode = excluded.inode, is_proof = excluded.is_proof, home = excluded.home, missed = 0, seen = excluded.seen
"""
_READ = """
SELECT size, modified, changed, device, inode, is_proof, home, missed, seen FROM deliveries
WHERE ledger = ? AND path = ?
"""
_FORGET_VERSION = "UPDATE deliveries SET size = NULL, modified = NULL WHERE ledger = ? AND path = ?"


class DeliveryRecord(NamedTuple):
    """The record of one file."""

    version: FileVersion
    is_proof: int
    home: int | None
    missed: int
    seen: float

    def is_of(self, now: FileVersion) -> bool:
        """Return whether the file that exists is the one that was delivered; see `DeliveryLedger`."""
        return _is_same(self.version, now)

    def is_touched(self, now: FileVersion) -> bool:
        """Return whether it is the same one apart from its change time."""
        return _is_same(self.version._replace(changed=None), now)


def read_record(connection: sqlite3.Connection, ledger: str, path: bytes) -> DeliveryRecord | None:
    """Return the record of a path, if there is one."""
    row = connection.execute(_READ, (ledger, path)).fetchone()
    return None if row is None else DeliveryRecord(FileVersion(*row[:5]), *row[5:])


def write_record(connection: sqlite3.Connection, ledger: str, path: bytes, record: DeliveryRecord) -> None:
    """Write the record of a path that was found just now."""
    values = (ledger, path, *record.version, record.is_proof, record.home, record.seen)
    connection.execute(_WRITE, values)


def forget_version(connection: sqlite3.Connection, ledger: str, path: bytes) -> None:
    """Keep that a path was delivered, and not which version of it."""
    connection.execute(_FORGET_VERSION, (ledger, path))


def _is_same(kept: FileVersion, now: FileVersion) -> bool:
    if kept.size is None:
        return False
    if kept.inode is None and None not in (kept.modified, now.modified) and not _differ_roughly(kept, now):
        now = now._replace(modified=kept.modified)
    return kept._replace(device=None).is_same_as(now)


def _differ_roughly(kept: FileVersion, now: FileVersion) -> bool:
    return abs((kept.modified or 0) - (now.modified or 0)) > ROUGHLY
