"""Delivery ledgers: which versions of which files have arrived, kept over restarts, so that none is delivered twice.

A SQLite file of its own beside the journal. There is one ledger for each way that files take: server, direction,
source and destination. All rules with this way share it, whatever their names and patterns, and so do the tasks that
delete or move what they have delivered; a task that keeps its source has one of its own until it has ended.

What is written survives the end of the process. A power cut may take the last moments: a run after it compares hashes
at the destination first.

Nothing here is decided by a clock that can be set. What is not used any more is forgotten by counted use: the seconds
for which modules have been running on this file.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from iot.sftp.client import Cancelled, FileVersion
from iot.sftp.module._base.state_directory import INTEGER_MAXIMUM
from iot.sftp.module._work.sqlite_file import Schema, SQLiteFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "rules.sqlite3"  # in the state directory
VERSION = 2  # of the tables, in SQLite's user_version
ABSENT_LOOKS = 3  # complete looks in a row that do not find a file, until it is forgotten
UNUSED_KEPT = 30 * 86_400.0  # seconds of use after which a ledger is forgotten that nobody has asked for
LOOK_PAUSE = 0.2  # seconds after which a look that waits for another one sees whether it is to end
SEEN_EVERY = 86_400.0  # seconds of use after which it is written down again that a file is still there
ROUGHLY = 1_000  # nanoseconds: version 1 kept times as 64-bit floats, which are as coarse as 238 ns today

_TABLES = """
CREATE TABLE usage (seconds REAL NOT NULL);
INSERT INTO usage VALUES (0);
CREATE TABLE ledgers (ledger TEXT PRIMARY KEY, task TEXT, used REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE deliveries (
    ledger TEXT NOT NULL, path BLOB NOT NULL,
    size INTEGER, modified INTEGER, changed INTEGER, device INTEGER, inode INTEGER,
    is_proof INTEGER NOT NULL, home INTEGER, missed INTEGER NOT NULL, seen REAL NOT NULL,
    PRIMARY KEY (ledger, path)
) WITHOUT ROWID;
"""
# 0.1.0 kept the size and the time as a float: enough to recognise a file, and no proof
_FROM_VERSION_1 = """
INSERT INTO ledgers SELECT rule, NULL, 0 FROM rules;
INSERT INTO deliveries
    SELECT rule, path, size, CAST(ROUND(modified * 1e9) AS INTEGER), NULL, NULL, NULL, 0, NULL, 0, 0 FROM sent;
DROP TABLE rules;
DROP TABLE sent;
"""
_NOTE = """
INSERT INTO deliveries VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, 0, ?) ON CONFLICT (ledger, path) DO UPDATE SET
    size = excluded.size, modified = excluded.modified, changed = excluded.changed, device = excluded.device,
    inode = excluded.inode, is_proof = 1, home = excluded.home, missed = 0, seen = excluded.seen
"""


class _Delivery(NamedTuple):
    """What is kept of one file."""

    version: FileVersion
    is_proof: bool
    home: int | None
    missed: int
    seen: float


class DeliveryLedgers:
    """The file with all ledgers; thread-safe."""

    def __init__(
        self,
        directory: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the directory; the file is made and opened when it is first needed.

        Parameters:
            directory: the module's state directory.
            clock: counts the seconds of use; never set, and of no meaning between two processes.
            guard: raises an `SFTPError` while the directory is not ours to use.
        """
        self._file = SQLiteFile(directory, _SCHEMA, guard=guard, clock=clock)
        self._looks: dict[str, list[str | None]] = {}  # the patterns of looks that are under way
        self._looks_changed = threading.Condition()

    @contextmanager
    def turn(self, *way: object, pattern: str | None, cancelled: threading.Event) -> Iterator[None]:
        """Wait until no other look is under way that may find the same files: each would deliver them.

        Patterns of which neither contains the other are taken for those of different files, which need not wait.

        Parameters:
            way: as for `of`.
            pattern: the text that paths have to contain.
            cancelled: ends the waiting.

        Raises:
            Cancelled: it was ended.
        """
        ledger = _name_of(way)
        with self._looks_changed:
            while any(_may_overlap(pattern, other) for other in self._looks.get(ledger, [])):
                if cancelled.is_set():
                    raise Cancelled("another rule or task is transferring this folder")
                self._looks_changed.wait(LOOK_PAUSE)
            self._looks.setdefault(ledger, []).append(pattern)
        try:
            yield
        finally:
            with self._looks_changed:
                self._looks[ledger].remove(pattern)
                self._looks_changed.notify_all()

    def of(
        self,
        *way: object,
        task: str | None = None,
        covers: Callable[[str], bool] = lambda _path: True,
        home: int | None = None,
        is_strict: bool = False,
        verifies: bool = False,
    ) -> DeliveryLedger:
        """Return the ledger of a way, for one look at its source.

        Parameters:
            way: the server, the direction and the folders.
            task: the task whose own ledger it is, until `forget_task`.
            covers: tells whether a look finds a path if it is there: its pattern and its recursion.
            home: the inode of the source folder, if it is local. What was delivered from another folder of this name
                (a mount that is missing now) is not taken for deleted.
            is_strict: only proof counts, as the source is deleted or moved for it.
            verifies: this look compares hashes where the ledger is in doubt.

        Raises:
            SFTPError: the file cannot be used.
        """
        ledger = _name_of(way)
        with self._file.transaction() as connection:
            use = self._file.count_use(connection)
            connection.execute(
                "INSERT INTO ledgers VALUES (?, ?, ?) ON CONFLICT (ledger) DO UPDATE SET used = excluded.used",
                (ledger, task, use),
            )
            _forget(connection, "used < ?", use - UNUSED_KEPT)
        return DeliveryLedger(self._file, ledger, use, covers=covers, home=home, is_strict=is_strict, verifies=verifies)

    def forget_task(self, task: str) -> None:
        """Forget what belongs to a task that has ended.

        Raises:
            SFTPError: the file cannot be used.
        """
        with self._file.transaction() as connection:
            _forget(connection, "task = ?", task)

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        self._file.close()


class DeliveryLedger:
    """One ledger during one look at its source: the `Ledger` of the client's call; thread-safe.

    A version counts as the one that has arrived if size, times and inode are the same, as far as both are told. The
    device is kept, and not compared: its number may change whenever a file system is mounted or the machine boots,
    with nothing else changed, while another file system with the same inode, size and times to the nanosecond is a
    copy of this one, block by block.

    A file of which nothing differs but the change time (chmod, chown, another link to it, a backup) most likely holds
    what it held; but so does one whose writer has put the modification time back. What decides is its hash at the
    destination: see `is_in_doubt`.
    """

    def __init__(
        self,
        file: SQLiteFile,
        ledger: str,
        use: float,
        *,
        covers: Callable[[str], bool],
        home: int | None,
        is_strict: bool,
        verifies: bool,
    ) -> None:
        """Made by `DeliveryLedgers.of`."""
        self._file = file
        self._ledger = ledger
        self._use = use
        self._covers = covers
        self._home = home
        self._is_strict = is_strict
        self._verifies = verifies
        self._found: set[int] = set()  # hashes of the paths that are there
        self._devices: set[int | None] = set()  # where they are
        self._doubts = 0

    def knows(self, path: str, version: FileVersion) -> bool:
        """Tell whether this very version has arrived before.

        Raises:
            SFTPError: the file cannot be used.
        """
        name, device = os.fsencode(path), _signed(version.device)
        self._found.add(hash(name))
        self._devices.add(device)
        with self._file.transaction() as connection:
            delivery = self._delivery(connection, name)
            if delivery is None or (self._is_strict and not delivery.is_proof):
                return False
            now = _folded(version)
            if not _is_same(delivery.version, now):
                is_touched = _is_same(delivery.version._replace(changed=None), now)
                self._doubts += is_touched and not self._answers_no
                return is_touched and not self._answers_no
            is_stale = delivery.missed or (delivery.version.device, delivery.home) != (device, self._home)
            if is_stale or self._use - delivery.seen > SEEN_EVERY:
                connection.execute(
                    "UPDATE deliveries SET missed = 0, device = ?, home = ?, seen = ? WHERE ledger = ? AND path = ?",
                    (device, self._home, self._use, self._ledger, name),
                )
        return True

    def note(self, path: str, version: FileVersion) -> None:
        """Take note that a version has arrived.

        Raises:
            SFTPError: the file cannot be used.
        """
        with self._file.transaction() as connection:
            connection.execute(_NOTE, (self._ledger, os.fsencode(path), *_folded(version), self._home, self._use))

    def settle(self, path: str) -> None:
        """Take note that the source of what has arrived is deleted or moved: nothing needs to be known of it any more.

        Raises:
            SFTPError: the file cannot be used.
        """
        with self._file.transaction() as connection:
            connection.execute(
                "DELETE FROM deliveries WHERE ledger = ? AND path = ?", (self._ledger, os.fsencode(path))
            )

    def has_found(self, path: str) -> bool:
        """Tell whether this look has found a path."""
        return hash(os.fsencode(path)) in self._found

    @property
    def is_in_doubt(self) -> bool:
        """Whether this look has left files alone that only a look that `verifies` can decide about."""
        return self._doubts > 0

    def holds_any(self) -> bool:
        """Whether anything is in the ledger. With `is_strict`, that is what could not be deleted or moved so far.

        Raises:
            SFTPError: the file cannot be used.
        """
        with self._file.transaction() as connection:
            row = connection.execute("SELECT 1 FROM deliveries WHERE ledger = ? LIMIT 1", (self._ledger,)).fetchone()
        return row is not None

    def end_look(self, *, is_complete: bool) -> None:
        """Forget what is gone for good, so that the ledger holds no more than the folder does.

        A file is gone if several complete looks in a row have not found it, though they would have: it is covered by
        them, and they have found others on its file system, in the same folder. So a mount that is missing, an empty
        look or one that failed erase nothing.

        Parameters:
            is_complete: whether all folders could be listed.

        Raises:
            SFTPError: the file cannot be used.
        """
        if not is_complete or not self._found:
            return
        with self._file.transaction() as connection:
            gone, absent = list[tuple[str, bytes]](), list[tuple[str, bytes]]()
            for path, device, home, missed, seen in connection.execute(
                "SELECT path, device, home, missed, seen FROM deliveries WHERE ledger = ?", (self._ledger,)
            ):
                if hash(path) in self._found or not self._covers(os.fsdecode(path)):
                    continue
                if device in self._devices and home in {self._home, None}:
                    (gone if missed + 1 >= ABSENT_LOOKS else absent).append((self._ledger, path))
                elif self._use - seen > UNUSED_KEPT:
                    gone.append((self._ledger, path))
            connection.executemany("DELETE FROM deliveries WHERE ledger = ? AND path = ?", gone)
            connection.executemany("UPDATE deliveries SET missed = missed + 1 WHERE ledger = ? AND path = ?", absent)

    @property
    def _answers_no(self) -> bool:
        """Whether a file in doubt has to be sent or verified in this look."""
        return self._is_strict or self._verifies

    def _delivery(self, connection: sqlite3.Connection, name: bytes) -> _Delivery | None:
        row = connection.execute(
            "SELECT size, modified, changed, device, inode, is_proof, home, missed, seen FROM deliveries "
            "WHERE ledger = ? AND path = ?",
            (self._ledger, name),
        ).fetchone()
        return None if row is None else _Delivery(FileVersion(*row[:5]), bool(row[5]), *row[6:])


def _name_of(way: tuple[object, ...]) -> str:
    return hashlib.sha256(json.dumps(way).encode()).hexdigest()[:32]


def _may_overlap(one: str | None, other: str | None) -> bool:
    return one is None or other is None or one in other or other in one


def _is_same(kept: FileVersion, now: FileVersion) -> bool:
    """Compare what was delivered with what is there; see `DeliveryLedger`."""
    if kept.size is None:
        return False
    if kept.inode is None and None not in (kept.modified, now.modified) and not _differ_roughly(kept, now):
        now = now._replace(modified=kept.modified)
    return kept._replace(device=None).is_same_as(now)


def _differ_roughly(kept: FileVersion, now: FileVersion) -> bool:
    return abs((kept.modified or 0) - (now.modified or 0)) > ROUGHLY


def _folded(version: FileVersion) -> FileVersion:
    return FileVersion(*(_signed(told) for told in version))


def _signed(number: int | None) -> int | None:
    """Return a number that SQLite takes, another one for each of 64 bits: inodes may use all of them."""
    return None if number is None else (number + INTEGER_MAXIMUM + 1) % 2**64 - INTEGER_MAXIMUM - 1


def _forget(connection: sqlite3.Connection, condition: str, value: object) -> None:
    """Forget whole ledgers."""
    which = f"SELECT ledger FROM ledgers WHERE {condition}"  # noqa: S608 - the conditions are ours
    connection.execute(f"DELETE FROM deliveries WHERE ledger IN ({which})", (value,))  # noqa: S608 - as above
    connection.execute(f"DELETE FROM ledgers WHERE {condition}", (value,))  # noqa: S608 - as above


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    """Create the tables, or bring those of an earlier version to this one, in one transaction."""
    if version < VERSION:
        further = _FROM_VERSION_1 if version else ""
        connection.executescript(f"BEGIN; {_TABLES} {further} PRAGMA user_version = {VERSION}; COMMIT;")


_SCHEMA = Schema(
    NAME,
    title="the delivery ledger",
    purpose="to remember what was delivered",
    version=VERSION,
    tables=("ledgers", "deliveries"),
    migrate=_migrate,  # it is as large as folders are: to check all of it would take too long
)
