"""What rules have transferred and left in place: remembered over restarts, so that it is not transferred again.

A SQLite file of its own beside the journal. What is written down survives the end of the process, whatever ends it; a
power cut may take the last moments, and a run after it looks at the destination first.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from iot.sftp.module._state_directory import INTEGER_MAXIMUM, inode, why_unusable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "rules.sqlite3"  # in the state directory
VERSION = 1  # of the tables, in SQLite's user_version
KEPT = 30 * 86_400.0  # seconds that what rules sent is remembered after the last of them has run
SURROUNDINGS = ("full", "readonly", "unable to open", "i/o error", "locked", "out of memory", "permission")

_TABLES = """
CREATE TABLE rules (rule TEXT PRIMARY KEY, run REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE sent (
    rule TEXT NOT NULL, path BLOB NOT NULL, size INTEGER NOT NULL, modified REAL, PRIMARY KEY (rule, path)
) WITHOUT ROWID;
"""

_log = logging.getLogger(__name__)


class Sent:
    """The file; for any number of threads."""

    def __init__(self, directory: Path) -> None:
        """Take the directory; the file is made and opened when it is first needed."""
        self._path = directory / NAME
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None

    def of(self, *what: object) -> Memory:
        """Return the memory of a rule: `what` tells the server, the direction and the folders from others.

        Raises:
            SFTPError: the file cannot be used.
        """
        rule = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
        now = time.time()
        with self.opened() as connection:
            connection.execute(
                "INSERT INTO rules VALUES (?, ?) ON CONFLICT (rule) DO UPDATE SET run = excluded.run", (rule, now)
            )
            forgotten = [row[0] for row in connection.execute("SELECT rule FROM rules WHERE run < ?", (now - KEPT,))]
            for old in forgotten:
                connection.execute("DELETE FROM sent WHERE rule = ?", (old,))
                connection.execute("DELETE FROM rules WHERE rule = ?", (old,))
        return Memory(self, rule)

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        with self._lock:
            self._close()

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """Lend the file for one transaction.

        Raises:
            SFTPError: it cannot be used.
        """
        with self._lock:
            try:
                if inode(self._path) != self._inode:  # it was taken away: what is written there is lost
                    self._close()
                if self._connection is None:
                    self._connection = self._open()
                    self._inode = inode(self._path)
                with self._connection as connection:
                    yield connection
            except (sqlite3.Error, OSError) as error:
                self._close()
                raise why_unusable(self._path.parent, "to remember what was sent", error) from error

    def _close(self) -> None:
        with suppress(sqlite3.Error):
            if self._connection is not None:
                self._connection.close()
        self._connection = None

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            if any(text in str(error).lower() for text in SURROUNDINGS):
                raise
            aside = f"{self._path}.set-aside"
            _log.error("what rules have sent is not readable (%s): it was set aside as %s", error, aside)
            for ending in ("-wal", "-shm", ""):
                with suppress(FileNotFoundError):
                    os.replace(f"{self._path}{ending}", f"{aside}{ending}")
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=5, check_same_thread=False)
        try:
            with suppress(OSError):
                os.chmod(self._path, 0o600)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            if _version(connection) == 0:
                connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
            connection.execute("SELECT rule FROM sent LIMIT 1")
        except BaseException:
            connection.close()
            raise
        return connection


class Memory:
    """What one rule has transferred: the `Ledger` of its calls."""

    def __init__(self, sent: Sent, rule: str) -> None:
        """Made by `Sent.of`, for one run."""
        self._sent = sent
        self._rule = rule
        self._found: set[int] = set()  # hashes of the paths that are there

    def knows(self, path: str, size: int, modified: float | None) -> bool:
        """Tell whether a file was transferred as it is now."""
        name = os.fsencode(path)
        self._found.add(hash(name))
        with self._sent.opened() as connection:
            row = connection.execute(
                "SELECT size, modified FROM sent WHERE rule = ? AND path = ?", (self._rule, name)
            ).fetchone()
        return row is not None and tuple(row) == (min(size, INTEGER_MAXIMUM), modified)

    def note(self, path: str, size: int, modified: float | None) -> None:
        """Write down that a file was transferred."""
        with self._sent.opened() as connection:
            connection.execute(
                "INSERT INTO sent VALUES (?, ?, ?, ?) "
                "ON CONFLICT (rule, path) DO UPDATE SET size = excluded.size, modified = excluded.modified",
                (self._rule, os.fsencode(path), min(size, INTEGER_MAXIMUM), modified),
            )

    def forget_vanished(self) -> None:
        """Forget the files that this run did not find any more: so there are never more than the folder holds."""
        with self._sent.opened() as connection:
            rows = connection.execute("SELECT path FROM sent WHERE rule = ?", (self._rule,))
            vanished = [(self._rule, path) for (path,) in rows if hash(path) not in self._found]
            connection.executemany("DELETE FROM sent WHERE rule = ? AND path = ?", vanished)


def _version(connection: sqlite3.Connection) -> int:
    version: int
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise sqlite3.DatabaseError(f"it is of version {version}, and this module knows version {VERSION}")
    return version
