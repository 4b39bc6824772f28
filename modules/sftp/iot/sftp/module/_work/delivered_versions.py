"""Look up by which ledgers a local file was delivered, in all of them at once: the question of who deletes files.

A record counts only if it proves that this very version has arrived: size, inode and both times to the nanosecond. A
record names a file by its path relative to its source, and the source is not known here: so any end of the file's path
may be it.

While somebody asks, what would be forgotten is kept: the ledgers of tasks that have ended, and the deliveries of files
that were moved on the device afterwards, in a ledger of their own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iot.sftp.client import FileVersion, NoSpace, SFTPError
from iot.sftp.module._work.real_path import real_path
from iot.sftp.module._work.stored_version import folded

if TYPE_CHECKING:
    import sqlite3

    from iot.sftp.client import LocalFiles
    from iot.sftp.module._work.sqlite_file import SQLiteFile

MOVED = "moved"  # the ledger of files that were moved; those of routes have hexadecimal names
MOVED_KEPT = 50_000  # files in it, the last ones: some 10 MB
MOVED_CHECKED = 1_000  # files after which that is checked

# For each ledger, each end of the path is one look into the primary key: no index has to be kept for this
_FIND = """
SELECT deliveries.ledger FROM ledgers
    CROSS JOIN deliveries ON deliveries.ledger = ledgers.ledger AND deliveries.path IN ({ends})
WHERE is_proof = 1 AND inode = ? AND size = ? AND modified = ? AND changed = ?
"""
_NOTE_MOVED = """
INSERT OR REPLACE INTO deliveries (ledger, path, size, modified, changed, device, inode, is_proof, home, missed, seen)
VALUES (?, ?, ?, ?, ?, ?, ?, 1, NULL, 0, ?)
"""
_DROP_MOVED = """
DELETE FROM deliveries WHERE ledger = ? AND path IN (
    SELECT path FROM deliveries WHERE ledger = ? ORDER BY seen DESC LIMIT -1 OFFSET ?
)
"""


@dataclass(frozen=True)
class MovedFile:
    """A file that was moved after its delivery: where it is now, and as which version."""

    path: bytes
    version: FileVersion


class DeliveredVersions:
    """The records of all ledgers, by the versions of local files; thread-safe.

    Attributes:
        is_asked: whether anybody asks.
    """

    def __init__(self, file: SQLiteFile) -> None:
        """Use the file of the delivery ledgers."""
        self.is_asked = False
        self._file = file
        self._moved = 0

    def ledgers_of(self, path: str, version: FileVersion) -> set[str]:
        """Return the names of the ledgers that prove that this version of a file was delivered.

        Parameters:
            path: of the file, as far as it is known.
            version: which one, with all that the local file system reports.

        Raises:
            SFTPError: the ledgers cannot be used.
        """
        if None in version:
            return set()
        parts = path.strip("/").split("/")
        ends = [os.fsencode("/".join(parts[number:])) for number in range(len(parts))]
        known = folded(version)
        find = _FIND.format(ends=", ".join("?" * len(ends)))
        values = (*ends, known.inode, known.size, known.modified, known.changed)
        try:
            with self._file.transaction() as connection:
                rows = connection.execute(find, values).fetchall()
        except NoSpace:  # what is delivered has to be known in order to make some
            with self._file.alone() as connection:
                rows = connection.execute(find, values).fetchall()
        return {ledger for (ledger,) in rows}

    def note_moved(self, connection: sqlite3.Connection, file: MovedFile, use: float) -> None:
        """Record a file that was delivered and moved, within the transaction of the caller; `use` is the use time."""
        known = folded(file.version)
        connection.execute("INSERT OR REPLACE INTO ledgers (ledger, used) VALUES (?, ?)", (MOVED, use))
        connection.execute(_NOTE_MOVED, (MOVED, file.path, *known, use))
        self._moved += 1
        if self._moved % MOVED_CHECKED == 0:
            connection.execute(_DROP_MOVED, (MOVED, MOVED, MOVED_KEPT))


@dataclass(frozen=True)
class MovedFiles:
    """Finds the files of one folder's transfer where it has moved them on the device.

    Attributes:
        local_files: how they are reached.
        folder: where they are moved to.
    """

    local_files: LocalFiles
    folder: str

    def of(self, path: str) -> MovedFile | None:
        """Return where a file is by now, by its path relative to the source; `None` if it is not there."""
        try:
            place = self.local_files.open_parent(os.path.join(self.folder, path), create=False)
        except SFTPError:
            return None
        try:
            status = os.stat(place.name, dir_fd=place.directory, follow_symlinks=False)
            real = os.path.join(real_path(place.directory), place.name)
        except OSError:
            return None
        finally:
            os.close(place.directory)
        return MovedFile(os.fsencode(real.strip("/")), FileVersion.of_local(status))
