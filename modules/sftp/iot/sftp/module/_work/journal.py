"""Store tasks, request ids and messages in a SQLite file, the journal, so that they outlive the process.

What is `durable` is on the disk before the call returns; the rest survives a crash of the process, but not always a
power cut. `task_store` decides when what has changed about a task is written. `sqlite_file` says what happens to a
file that is damaged or cannot be written.

No clock that can be set decides what is deleted: tasks that have ended are bounded by number and by size, and a task's
time limit is counted in seconds of use, for which modules have been running on this file.
"""

from __future__ import annotations

import json
import sqlite3
import time
from typing import TYPE_CHECKING

from iot.sftp.module._work.message_store import TABLES as MESSAGE_TABLES
from iot.sftp.module._work.message_store import MessageStore
from iot.sftp.module._work.sqlite_file import FileMessages, Schema, SQLiteFile, malformed
from iot.sftp.module._work.task_record import RequestRecord
from iot.sftp.module._work.task_rows import TABLE as TASKS_TABLE
from iot.sftp.module._work.task_rows import insert_task, read_tasks, write_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from iot.sftp.client import SFTPError
    from iot.sftp.module._work.task_record import TaskRecord

NAME = "tasks.sqlite3"  # in the state directory
VERSION = 1  # of the tables, in SQLite's user_version
SIZE_MAXIMUM = 64 * 1024 * 1024  # bytes
PAGE = 512  # bytes: rows are small, and each acceptance is a transaction of its own
TASKS_KEPT, REQUESTS_KEPT = 2_000, 10_000  # that have ended; the oldest go first
# Of the file, for each of the two; and when most of the file is taken, for tasks that have ended and those of them of
# which nobody was told yet
SHARE_KEPT, SHARE_MOST, SHARE_HURRIED, SHARE_UNTOLD = 1 / 4, 3 / 4, 1 / 32, 1 / 16
ROW_SIZE = 500  # bytes that a row takes beside its texts
PRUNE_EVERY = 100  # ends
USE_ROUGHLY = 10.0  # seconds of use time that a new task does not write, which would be a page for each

_REQUESTS = """
CREATE TABLE requests (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id TEXT NOT NULL UNIQUE, fingerprint TEXT NOT NULL, moment REAL NOT NULL,
    begun INTEGER NOT NULL, task_id TEXT, status INTEGER, payload TEXT
);
"""

# A snapshot of 1.0 had the messages about ends of tasks in the outbox; they are in the tasks' rows, as with 0.1.0
_ENDS_IN_OUTBOX = """
BEGIN;
UPDATE tasks SET announce = 1
    WHERE finished IS NOT NULL AND task_id || '-' || status IN (SELECT message_id FROM outbox WHERE output = 'tasks');
DELETE FROM outbox WHERE output = 'tasks';
COMMIT;
"""

# The newest rows of a table, as many and as large as may be kept: what is beyond that goes
_BEYOND = """
SELECT sequence FROM (
    SELECT sequence, ROW_NUMBER() OVER newest AS number, SUM({size}) OVER newest AS size
    FROM {table} WHERE {which} WINDOW newest AS (ORDER BY sequence DESC)
) WHERE number > ? OR size > ?
"""
_TASKS_BEYOND, _TOLD_BEYOND, _UNTOLD_BEYOND = (
    _BEYOND.format(
        table="tasks",
        which=f"finished IS NOT NULL{which}",
        size=f"{ROW_SIZE} + LENGTH(request) + LENGTH(details) + IFNULL(LENGTH(message), 0)",
    )
    for which in ("", " AND NOT announce", " AND announce")
)
_REQUESTS_BEYOND = _BEYOND.format(
    table="requests",
    which="task_id IS NULL OR task_id NOT IN (SELECT task_id FROM tasks)",
    size=f"{ROW_SIZE} + IFNULL(LENGTH(payload), 0)",
)


class Journal:
    """The file of tasks and request ids; thread-safe. Every method raises an `SFTPError` if the file cannot be used.

    Both are in one class, as a task and its request id are written in one transaction. The end of a task is at the same
    time the message about it, in `messages`.
    """

    def __init__(
        self,
        directory: Path,
        on_trouble: Callable[[SFTPError | None], None] = lambda _trouble: None,
        *,
        size_maximum: int = SIZE_MAXIMUM,
        guard: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the directory; it is created, and the file opened, when it is first needed.

        Parameters:
            directory: the module's state directory.
            on_trouble: called once for each trouble with the file, and with `None` when it is over.
            size_maximum: bytes of the file; beyond that it is full.
            guard: raises an `SFTPError` while this process must not use the directory.
            clock: counts the seconds of use; never set, and of no meaning between two processes.
        """
        self._file = SQLiteFile(
            directory, _SCHEMA, guard=guard, clock=clock, on_trouble=on_trouble, size_maximum=size_maximum
        )
        self.messages = MessageStore(self._file)
        self._size_maximum = size_maximum
        self._ends = 0

    # --- tasks

    def add(
        self,
        record: TaskRecord,
        request_id: str | None = None,
        fingerprint: str = "",
        *,
        changed: Sequence[TaskRecord] = (),
    ) -> RequestRecord | None:
        """Add a new task, durably; if its request id is known, nothing is written, and what is known is returned.

        What has `changed` about others is written in the same transaction, and so mostly in the same pages.
        """
        with self._transaction(durable=True) as connection:
            if request_id is not None:
                known = _request(connection, request_id)
                if known is not None:
                    return known
            self._make_room(connection)
            record.used = self._file.count_use(connection, every=USE_ROUGHLY)
            if request_id is not None:
                _write_request(connection, request_id, RequestRecord(fingerprint, task_id=record.task_id))
            insert_task(connection, record)
            self._write(connection, changed)
        self.messages.note_ends(changed)
        return None

    def count_use(self) -> float:
        """Count the use time, and return it: the seconds for which modules have been running on this file."""
        with self._transaction() as connection:
            return self._file.count_use(connection)

    def save(self, *records: TaskRecord, durable: bool = False) -> None:
        """Write what has changed about tasks, in one transaction."""
        with self._transaction(durable=durable) as connection:
            self._make_room(connection)
            self._write(connection, records)
        self.messages.note_ends(records)

    def sync(self) -> None:
        """Have on the disk whatever was written so far."""
        self._file.sync()

    def get(self, task_id: str) -> TaskRecord | None:
        """Return the task with this id; `None` if there is none."""
        with self._transaction() as connection:
            (record,) = read_tasks(connection, " WHERE task_id = ?", (task_id,)) or (None,)
            return record

    def newest(self, limit: int, after: str | None = None) -> list[TaskRecord]:
        """Return the newest tasks first, or those that come after the task `after`."""
        where, values = ("", ()) if after is None else (
            " WHERE sequence < (SELECT sequence FROM tasks WHERE task_id = ?)", (after,)
        )  # fmt: skip
        return self._records(f"{where} ORDER BY sequence DESC LIMIT ?", (*values, limit))

    def unfinished(self) -> list[TaskRecord]:
        """Return the tasks that have not ended, the oldest first."""
        return self._records(" WHERE finished IS NULL ORDER BY sequence", ())

    # --- request ids

    def find_request(self, request_id: str) -> RequestRecord | None:
        """Return what is known about a request id; `None` if it is new."""
        with self._transaction() as connection:
            return _request(connection, request_id)

    def save_request(self, request_id: str, request: RequestRecord) -> None:
        """Write, durably, that a call was begun, or what its outcome was."""
        with self._transaction(durable=True) as connection:
            self._make_room(connection)
            _write_request(connection, request_id, request)
            self._prune_now_and_then(connection)

    # --- the file

    @property
    def is_well(self) -> bool:
        """Whether no trouble is known that keeps the file from being written."""
        return self._file.is_well

    @property
    def generation(self) -> int:
        """The number of files that were opened: a new one does not know what the last one knew."""
        return self._file.generation

    def retry(self) -> None:
        """After a trouble with the file, write to it and so find out whether that is over."""
        if not self.is_well:
            with self._transaction(durable=True) as connection:
                _write_request(connection, "", RequestRecord(""))
                connection.execute("DELETE FROM requests WHERE request_id = ''")

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        self._file.close()

    def prune(self) -> None:
        """Delete what is beyond the bounds. What has not ended is never deleted."""
        with self._transaction() as connection:
            self._prune(connection)

    def _records(self, condition: str, values: tuple[object, ...]) -> list[TaskRecord]:
        with self._transaction() as connection:
            return read_tasks(connection, condition, values)

    def _write(self, connection: sqlite3.Connection, records: Iterable[TaskRecord]) -> None:
        for record in records:
            if record.finished is not None:
                self._prune_now_and_then(connection)
            write_task(connection, record)

    def _prune_now_and_then(self, connection: sqlite3.Connection) -> None:
        self._ends += 1
        if self._ends % PRUNE_EVERY == 0:
            self._prune(connection)

    def _make_room(self, connection: sqlite3.Connection) -> None:
        """Delete more of what has ended while the file is nearly full, so that there is always room for what is new."""
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        if (pages - free) * size > self._size_maximum * SHARE_MOST:
            for beyond, share in ((_TOLD_BEYOND, SHARE_HURRIED), (_UNTOLD_BEYOND, SHARE_UNTOLD)):
                connection.execute(
                    f"DELETE FROM tasks WHERE sequence IN ({beyond})",  # noqa: S608 - our words
                    (TASKS_KEPT, self._size_maximum * share),
                )

    def _prune(self, connection: sqlite3.Connection) -> None:
        """Delete the oldest request ids and tasks that have ended, beyond their shares of the file."""
        connection.execute(
            f"DELETE FROM tasks WHERE sequence IN ({_TASKS_BEYOND})",  # noqa: S608 - our words
            (TASKS_KEPT, self._size_maximum * SHARE_KEPT),
        )
        connection.execute(
            f"DELETE FROM requests WHERE sequence IN ({_REQUESTS_BEYOND})",  # noqa: S608 - as above
            (REQUESTS_KEPT, self._size_maximum * SHARE_KEPT),
        )

    def _transaction(self, *, durable: bool = False) -> AbstractContextManager[sqlite3.Connection]:
        return self._file.transaction(durable=durable)


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    """Create the tables, and add what 0.1.0 did not have; 0.1.0 can still use the file, so the version is the same."""
    if version == 0:
        connection.executescript(f"BEGIN; {TASKS_TABLE} {_REQUESTS} PRAGMA user_version = {VERSION}; COMMIT;")
    columns = {row[1] for row in connection.execute("PRAGMA table_info(tasks)")}
    if columns and "used" not in columns:
        connection.executescript(
            "BEGIN; ALTER TABLE tasks ADD COLUMN used REAL; CREATE TABLE usage (seconds REAL NOT NULL);"
            "INSERT INTO usage VALUES (0); COMMIT;"
        )
    # Each of these indices was a page for each task that began or ended, and is of use at the start only
    connection.executescript(
        f"BEGIN; DROP INDEX IF EXISTS unfinished; DROP INDEX IF EXISTS unannounced; {MESSAGE_TABLES} COMMIT;"
    )
    if version:
        connection.executescript(_ENDS_IN_OUTBOX)


_SCHEMA = Schema(
    NAME,
    messages=FileMessages(
        removed="the journal %s was removed: a new one is created",
        damaged="the journal is not readable (%s): it was set aside as %s, what it held is not known any more",
        unusable="the journal cannot be used: %s",
        recovered="the journal can be written again",
    ),
    purpose="for the journal",
    version=VERSION,
    tables=("tasks", "requests", "calls", "outbox", "gathered"),
    migrate=_migrate,
    is_checked=True,  # it has SIZE_MAXIMUM bytes at most
    page=PAGE,
)


def _request(connection: sqlite3.Connection, request_id: str) -> RequestRecord | None:
    row = connection.execute(
        "SELECT fingerprint, begun, task_id, status, payload FROM requests WHERE request_id = ?", (request_id,)
    ).fetchone()
    if row is None:
        return None
    fingerprint, begun, task_id, status, payload = row
    try:
        answer = None if payload is None else json.loads(payload)
    except (TypeError, ValueError) as error:
        raise malformed(error) from None
    return RequestRecord(fingerprint, bool(begun), task_id, status, answer)


def _write_request(connection: sqlite3.Connection, request_id: str, request: RequestRecord) -> None:
    is_empty = request.status is None and request.payload is None
    payload = None if is_empty else json.dumps(request.payload)
    connection.execute(
        "INSERT INTO requests (request_id, fingerprint, moment, begun, task_id, status, payload) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (request_id) DO UPDATE SET moment = excluded.moment, "
        "begun = excluded.begun, task_id = excluded.task_id, status = excluded.status, payload = excluded.payload",
        (request_id, request.fingerprint, time.time(), request.begun, request.task_id, request.status, payload),
    )
