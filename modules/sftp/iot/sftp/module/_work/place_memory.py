"""Remember where each file of a folder goes, where that depends on the date: nothing arrives twice over midnight.

The place of a file is decided when the file is taken for the first time, and is recorded before it is sent. The next
attempt finds it, also after a restart: it resumes there, or finds that the file has arrived. Another version of the
file gets a place of its own.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from iot.sftp.client import FileVersion

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from iot.sftp.module._work.sqlite_file import SQLiteFile

TABLE = """
CREATE TABLE IF NOT EXISTS places (
    ledger TEXT NOT NULL, path BLOB NOT NULL, place BLOB NOT NULL,
    size INTEGER, modified INTEGER, changed INTEGER, device INTEGER, inode INTEGER,
    PRIMARY KEY (ledger, path)
) WITHOUT ROWID;
"""
_UNDELIVERED = """
SELECT path, device FROM places WHERE ledger = ? AND NOT EXISTS (
    SELECT 1 FROM deliveries WHERE deliveries.ledger = places.ledger AND deliveries.path = places.path
)
"""
_DELIVERED = """
UPDATE places SET size = ?, modified = ?, changed = ?, device = ?, inode = ? WHERE ledger = ? AND path = ?
"""


class PlaceMemory:
    """The places of one ledger's files; thread-safe."""

    def __init__(self, file: SQLiteFile, ledger: str) -> None:
        """Use the file of the delivery ledgers."""
        self._file = file
        self._ledger = ledger
        self._seen: dict[str, FileVersion] = {}  # of files that are not taken yet

    def note_seen(self, path: str, version: FileVersion) -> None:
        """Take the version of a file that was found."""
        self._seen[path] = version

    def place_of(self, path: str, choose: Callable[[str], str]) -> str:
        """Return where a file goes, and remember it.

        Parameters:
            path: relative to the source.
            choose: decides on a place.

        Raises:
            SFTPError: the file cannot be used, or no place can be decided on.
        """
        name, version = os.fsencode(path), self._seen.pop(path, None)
        with self._file.transaction() as connection:
            row = connection.execute(
                "SELECT place, size, modified, changed, device, inode FROM places WHERE ledger = ? AND path = ?",
                (self._ledger, name),
            ).fetchone()
            if row is not None and (version is None or _may_be_same(FileVersion(*row[1:]), version)):
                return os.fsdecode(row[0])
            place = choose(path)
            values = (self._ledger, name, os.fsencode(place), *(version or FileVersion(None)))
            connection.execute("INSERT OR REPLACE INTO places VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        return place

    def note_delivered(self, connection: sqlite3.Connection, path: str, version: FileVersion) -> None:
        """Take the version that was delivered there."""
        connection.execute(_DELIVERED, (*version, self._ledger, os.fsencode(path)))


def undelivered_places(connection: sqlite3.Connection, ledger: str) -> list[tuple[bytes, int | None]]:
    """Return the paths, and their devices, of files that have a place and were not delivered."""
    return connection.execute(_UNDELIVERED, (ledger,)).fetchall()


def forget_places(connection: sqlite3.Connection, ledger: str, paths: list[bytes]) -> None:
    """Forget the places of files that are gone."""
    pairs = [(ledger, path) for path in paths]
    connection.executemany("DELETE FROM places WHERE ledger = ? AND path = ?", pairs)


def _may_be_same(kept: FileVersion, now: FileVersion) -> bool:
    """Return whether the content is most likely the same: owner, permissions and links may differ."""
    return kept._replace(changed=None, device=None).is_same_as(now)
