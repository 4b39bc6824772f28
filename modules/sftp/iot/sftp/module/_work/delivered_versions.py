"""Look up by which ledgers a local file was delivered, in all of them at once: the question of who deletes files.

A record counts only if it proves that this very version has arrived: size, inode and both times to the nanosecond. A
record names a file by its path relative to its source, and the source is not known here: so any end of the file's path
may be it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from iot.sftp.module._work.stored_version import folded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from iot.sftp.client import FileVersion
    from iot.sftp.module._work.sqlite_file import SQLiteFile

# For each ledger, each end of the path is one look into the primary key: no index has to be kept for this
_FIND = """
SELECT deliveries.ledger, deliveries.path FROM ledgers
    CROSS JOIN deliveries ON deliveries.ledger = ledgers.ledger AND deliveries.path IN ({ends})
WHERE is_proof = 1 AND inode = ? AND size = ? AND modified = ? AND changed = ?
"""
_FORGET = "DELETE FROM deliveries WHERE ledger = ? AND path = ? AND inode = ? AND modified = ? AND changed = ?"


class DeliveryRecord(NamedTuple):
    """The record of a delivery: its ledger, and the file's path relative to the source."""

    ledger: str
    path: bytes


class DeliveredVersions:
    """The records of all ledgers, by the versions of local files; thread-safe."""

    def __init__(self, file: SQLiteFile) -> None:
        """Use the file of the delivery ledgers."""
        self._file = file

    def records_of(self, path: str, version: FileVersion) -> list[DeliveryRecord]:
        """Return the records that prove that this version of a file was delivered.

        Parameters:
            path: of the file, as far as it is known.
            version: which one, with all that the local file system reports.

        Raises:
            SFTPError: the ledgers cannot be used.
        """
        if None in version:
            return []
        parts = path.strip("/").split("/")
        ends = [os.fsencode("/".join(parts[number:])) for number in range(len(parts))]
        known = folded(version)
        find = _FIND.format(ends=", ".join("?" * len(ends)))
        with self._file.transaction() as connection:
            rows = connection.execute(find, (*ends, known.inode, known.size, known.modified, known.changed)).fetchall()
        return [DeliveryRecord(*row) for row in rows]

    def forget(self, gone: Iterable[tuple[DeliveryRecord, FileVersion]]) -> None:
        """Delete the records of versions that are gone: another version that has their paths by now stays known.

        Raises:
            SFTPError: the ledgers cannot be used.
        """
        rows = [
            (*record, known.inode, known.modified, known.changed)
            for record, known in ((record, folded(version)) for record, version in gone)
        ]
        with self._file.transaction() as connection:
            connection.executemany(_FORGET, rows)
