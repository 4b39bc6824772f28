"""The journal: tasks and request ids in a SQLite file, so that they outlive the process. Nothing but storage.

What is `durable` is on the disk before the call returns; the rest is safe from a crash of the process, though not from
a power cut. A file that is damaged, or of a newer version of the module, is set aside under another name and a new one
begun: it is told about and never ends the process. While the file cannot be written, every call says why.

No clock that can be set decides what is forgotten: what has ended is bounded by number and by size, and the time that a
task may take is counted in seconds of use, for which modules have been running on this file.
"""

from __future__ import annotations

import glob
import json
import logging
import os
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from iot.sftp.client import PermissionDenied, SFTPError
from iot.sftp.module._base.state_directory import INTEGER_MAXIMUM, inode, why_unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

NAME = "tasks.sqlite3"  # in the state directory
VERSION = 1  # of the tables, in SQLite's user_version
SIZE_MAXIMUM = 64 * 1024 * 1024  # bytes
TASKS_KEPT, REQUESTS_KEPT = 2_000, 10_000  # that have ended; the oldest go first
# Of the file, for each of the two; and for tasks that have ended when most of the file is taken
SHARE_KEPT, SHARE_MOST, SHARE_HURRIED = 1 / 4, 3 / 4, 1 / 32
ROW_SIZE = 500  # bytes that a row takes beside its texts
SET_ASIDE_KEPT = 3  # files
PRUNE_EVERY = 100  # ends

# The last one comes from a message of SQLite's that quotes a damaged table
FAILURES = (sqlite3.Error, OSError, UnicodeDecodeError)
# In SQLite's words for what is not the file's own fault (its codes are told from Python 3.11 on)
SURROUNDINGS = ("full", "readonly", "unable to open", "i/o error", "locked", "out of memory", "permission", "too big")

_TABLES = """
CREATE TABLE tasks (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id TEXT NOT NULL UNIQUE, method TEXT NOT NULL, request TEXT NOT NULL,
    time_limit REAL NOT NULL, accepted REAL NOT NULL, announce INTEGER NOT NULL,
    status TEXT NOT NULL, result INTEGER, code TEXT, message TEXT,
    bytes INTEGER NOT NULL, total_bytes INTEGER, started REAL, finished REAL, details TEXT NOT NULL
);
CREATE INDEX unfinished ON tasks (sequence) WHERE finished IS NULL;
CREATE INDEX unannounced ON tasks (sequence) WHERE finished IS NOT NULL AND announce;
CREATE TABLE requests (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id TEXT NOT NULL UNIQUE, fingerprint TEXT NOT NULL, moment REAL NOT NULL,
    begun INTEGER NOT NULL, task_id TEXT, status INTEGER, payload TEXT
);
"""

_log = logging.getLogger(__name__)


@dataclass
class Record:
    """What is known about a task.

    Attributes:
        task_id: its name.
        method: what it does.
        request: the parameters, as JSON has them.
        time_limit: seconds from its acceptance, after which it is given up.
        accepted: when, in seconds of the epoch, as all times here.
        announce: whether its end is still to be told.
        status: `NotStarted`, `Running`, `Completed`, `Failed` or `Cancelled`.
        result: of the method, once it has ended.
        code: why it failed, or why its last try did.
        message: the same for people.
        bytes: that have been moved.
        total_bytes: that there are, if that is known.
        started: when it was begun.
        finished: when it ended.
        details: further fields of its status.
        used: seconds of use when it was accepted; `None` where an older module has accepted it.
    """

    task_id: str
    method: str
    request: dict[str, Any]
    time_limit: float
    accepted: float = field(default_factory=time.time)
    announce: bool = True
    status: str = "NotStarted"
    result: bool | None = None
    code: str | None = None
    message: str | None = None
    bytes: int = 0
    total_bytes: int | None = None
    started: float | None = None
    finished: float | None = None
    details: dict[str, Any] = field(default_factory=dict)
    used: float | None = None


@dataclass(frozen=True)
class Request:
    """What is known about a request id.

    Attributes:
        fingerprint: of the call that it came with.
        begun: whether the call was begun, and its outcome is not known.
        task_id: of the task that it made.
        status: of the answer, if it is known.
        payload: of the answer.
    """

    fingerprint: str
    begun: bool = False
    task_id: str | None = None
    status: int | None = None
    payload: Any = None


_COLUMNS = tuple(column.name for column in fields(Record))
_NUMBERS = ("time_limit", "accepted", "bytes", "total_bytes", "started", "finished", "used")
_READ = f"SELECT {', '.join(_COLUMNS)} FROM tasks"  # noqa: S608 - the names are ours
_WRITE = (
    f"INSERT INTO tasks ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "  # noqa: S608 - as above
    "ON CONFLICT (task_id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name != "task_id")
)

# The newest rows of a table, as many and as large as may be kept: what is beyond that goes
_BEYOND = """
SELECT sequence FROM (
    SELECT sequence, ROW_NUMBER() OVER newest AS number, SUM({size}) OVER newest AS size
    FROM {table} WHERE {which} WINDOW newest AS (ORDER BY sequence DESC)
) WHERE number > ? OR size > ?
"""
_TASKS_BEYOND = _BEYOND.format(
    table="tasks",
    which="finished IS NOT NULL",
    size=f"{ROW_SIZE} + LENGTH(request) + LENGTH(details) + IFNULL(LENGTH(message), 0)",
)
_REQUESTS_BEYOND = _BEYOND.format(
    table="requests",
    which="task_id IS NULL OR task_id NOT IN (SELECT task_id FROM tasks)",
    size=f"{ROW_SIZE} + IFNULL(LENGTH(payload), 0)",
)


class Journal:
    """One file; for any number of threads. Every method raises an `SFTPError` if the file cannot be used."""

    def __init__(
        self,
        directory: Path,
        tell: Callable[[SFTPError | None], None] = lambda _trouble: None,
        *,
        size_maximum: int = SIZE_MAXIMUM,
        guard: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the directory; it is made, and the file opened, when it is first needed.

        Parameters:
            directory: the module's state directory.
            tell: told of each trouble with the file, and `None` when it is well again.
            size_maximum: bytes of the file; beyond that it is full.
            guard: raises an `SFTPError` while the directory is not ours to use.
            clock: counts the seconds of use; never set, and of no meaning between two processes.
        """
        self._path = directory / NAME
        self._tell = tell
        self._size_maximum = size_maximum
        self._guard = guard
        self._clock = clock
        self._counted = clock()
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._trouble_told = ""  # what was told of the file, until something was written to it
        self._ends = 0
        self.generation = 0  # counts the files that were opened: a new one knows nothing of what the last one knew

    # --- tasks

    def add(self, record: Record, request_id: str | None = None, fingerprint: str = "") -> Request | None:
        """Take a new task, durably. If its request id is known already, nothing is taken, and that is returned."""
        with self._transaction(durable=True) as connection:
            if request_id is not None:
                known = _request(connection, request_id)
                if known is not None:
                    return known
            self._make_room(connection)
            record.used = self._count_use(connection)
            if request_id is not None:
                _write_request(connection, request_id, Request(fingerprint, task_id=record.task_id))
            connection.execute(_WRITE, _row(record))
        return None

    def count_use(self) -> float:
        """Return the seconds for which modules have been running on this file; what is counted is written down."""
        with self._transaction() as connection:
            return self._count_use(connection)

    def save(self, record: Record, *, durable: bool = False) -> None:
        """Write down what has changed about a task."""
        with self._transaction(durable=durable) as connection:
            self._make_room(connection)
            connection.execute(_WRITE, _row(record))
            if record.finished is not None:
                self._prune_now_and_then(connection)

    def get(self, task_id: str) -> Record | None:
        """Return a task, if there is one of that name."""
        with self._transaction() as connection:
            row = connection.execute(f"{_READ} WHERE task_id = ?", (task_id,)).fetchone()
            return None if row is None else _record(row)

    def newest(self, limit: int, after: str | None = None) -> list[Record]:
        """Return the newest tasks first, or those that come after one of them."""
        where, values = ("", ()) if after is None else (
            " WHERE sequence < (SELECT sequence FROM tasks WHERE task_id = ?)", (after,)
        )  # fmt: skip
        return self._records(f"{where} ORDER BY sequence DESC LIMIT ?", (*values, limit))

    def unfinished(self) -> list[Record]:
        """Return the tasks that have not ended, the oldest first."""
        return self._records(" WHERE finished IS NULL ORDER BY sequence", ())

    def unannounced(self, limit: int) -> list[Record]:
        """Return the tasks that have ended and whose end is still to be told, the oldest first."""
        return self._records(" WHERE finished IS NOT NULL AND announce ORDER BY sequence LIMIT ?", (limit,))

    def announced(self, task_ids: Sequence[str]) -> None:
        """Write down that the ends of these tasks have been told."""
        with self._transaction() as connection:
            connection.executemany("UPDATE tasks SET announce = 0 WHERE task_id = ?", [(name,) for name in task_ids])

    # --- request ids

    def find_request(self, request_id: str) -> Request | None:
        """Return what is known about an id, if anything is."""
        with self._transaction() as connection:
            return _request(connection, request_id)

    def save_request(self, request_id: str, request: Request) -> None:
        """Write down, durably, that a call is begun, or what became of it."""
        with self._transaction(durable=True) as connection:
            self._make_room(connection)
            _write_request(connection, request_id, request)
            self._prune_now_and_then(connection)

    # --- the file

    @property
    def is_well(self) -> bool:
        """Whether nothing is known to be in the way of writing to it."""
        return not self._trouble_told

    def try_again(self) -> None:
        """After a trouble with the file, write to it and so find out whether that is over."""
        if self._trouble_told:
            with self._transaction(durable=True) as connection:
                _write_request(connection, "", Request(""))
                connection.execute("DELETE FROM requests WHERE request_id = ''")

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        with self._lock, suppress(sqlite3.Error):
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def prune(self) -> None:
        """Forget what is too much. What has not ended is never forgotten."""
        with self._transaction() as connection:
            self._prune(connection)

    def _records(self, condition: str, values: tuple[object, ...]) -> list[Record]:
        with self._transaction() as connection:
            return [_record(row) for row in connection.execute(_READ + condition, values).fetchall()]

    def _prune_now_and_then(self, connection: sqlite3.Connection) -> None:
        self._ends += 1
        if self._ends % PRUNE_EVERY == 0:
            self._prune(connection)

    def _make_room(self, connection: sqlite3.Connection) -> None:
        """Forget more of what has ended while most of the file is taken, so that it never keeps out what is new."""
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        if (pages - free) * size > self._size_maximum * SHARE_MOST:
            # An end that is still to be told has to wait for the hub, and so have new tasks, if there are too many
            connection.execute(
                f"DELETE FROM tasks WHERE NOT announce AND sequence IN ({_TASKS_BEYOND})",  # noqa: S608 - our words
                (TASKS_KEPT, self._size_maximum * SHARE_HURRIED),
            )

    def _prune(self, connection: sqlite3.Connection) -> None:
        """Forget the oldest tasks that have ended and request ids, beyond their shares of the file."""
        connection.execute(
            f"DELETE FROM tasks WHERE sequence IN ({_TASKS_BEYOND})",  # noqa: S608 - our words
            (TASKS_KEPT, self._size_maximum * SHARE_KEPT),
        )
        connection.execute(
            f"DELETE FROM requests WHERE sequence IN ({_REQUESTS_BEYOND})",  # noqa: S608 - as above
            (REQUESTS_KEPT, self._size_maximum * SHARE_KEPT),
        )

    def _count_use(self, connection: sqlite3.Connection) -> float:
        now = self._clock()
        connection.execute("UPDATE usage SET seconds = seconds + ?", (max(0.0, now - self._counted),))
        self._counted = now
        use: float
        (use,) = connection.execute("SELECT seconds FROM usage").fetchone()
        return use

    @contextmanager
    def _transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._guard()
            try:
                connection = self._opened()
                changes = connection.total_changes
                connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                    raise
            except FAILURES as error:
                raise self._trouble(error) from error
            if self._trouble_told and connection.total_changes > changes:  # what is full can be read nevertheless
                self._trouble_told = ""
                _log.info("the journal can be written again")
                self._tell(None)

    def _opened(self) -> sqlite3.Connection:
        """Return the connection to the file that is there, opening it if need be."""
        if self._connection is not None and inode(self._path) != self._inode:
            _log.error("the journal %s was taken away: a new one is begun", self._path)
            self.close()
        if self._connection is None:
            try:
                self._connection = self._open()
            except FAILURES as error:
                if not _is_damage(error):
                    raise
                self._set_aside(str(error))
                self._connection = self._open()
            self._inode = inode(self._path)
            self.generation += 1
        return self._connection

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=5, isolation_level=None, check_same_thread=False)
        try:
            with suppress(OSError):  # it may be somebody else's, and writable nevertheless
                os.chmod(self._path, 0o600)
            connection.execute("PRAGMA journal_mode = WAL")
            if _version(connection) == 0:
                connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
            for table in ("tasks", "requests"):
                connection.execute(f"SELECT 1 FROM {table} LIMIT 1")  # noqa: S608 - the names are ours
            _add_what_is_newer(connection)
            (page,) = connection.execute("PRAGMA page_size").fetchone()
            connection.execute(f"PRAGMA max_page_count = {self._size_maximum // page}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _trouble(self, error: Exception) -> SFTPError:
        """Name what is wrong with the file, tell of it, and make ready for another try."""
        named = why_unusable(self._path.parent, "for the journal", error)
        if _is_damage(error):
            with suppress(OSError):
                self._set_aside(str(error))
                return named  # the next call begins a new file
        self.close()  # what was wrong with it may be gone when it is opened again
        if self._trouble_told != named.message:
            _log.error("the journal cannot be used: %s", named.message)
            self._trouble_told = named.message
            self._tell(named)
        return named

    def _set_aside(self, why: str) -> None:
        """Give the file another name, and keep only the last ones of those."""
        self.close()
        now = time.time_ns()
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now // 1_000_000_000))
        name = f"{self._path}.set-aside-{moment}.{now // 1_000 % 1_000_000:06}Z"
        for ending in ("-shm", "-wal", ""):
            with suppress(FileNotFoundError):
                os.replace(f"{self._path}{ending}", f"{name}{ending}")
        older = sorted(glob.glob(f"{glob.escape(str(self._path))}.set-aside-*Z"))
        for path in older[:-SET_ASIDE_KEPT]:
            for ending in ("-shm", "-wal", ""):
                with suppress(OSError):
                    os.unlink(path + ending)
        words = f"the journal is not readable ({why}): it was set aside as {name}, what it held is not known any more"
        _log.error("%s", words)
        self._trouble_told = ""  # so that what follows does not take this back
        self._tell(PermissionDenied(words))


def _is_damage(error: Exception) -> bool:
    """Tell whether the file is at fault, and not what is around it, or what was asked for."""
    if isinstance(error, OSError | sqlite3.ProgrammingError | sqlite3.IntegrityError | sqlite3.DataError):
        return False
    words = str(error).lower()
    return words.startswith("malformed") or not any(text in words for text in SURROUNDINGS)


def _version(connection: sqlite3.Connection) -> int:
    """Return the version of the tables, 0 if there are none; raise `sqlite3.DatabaseError` if they are not readable."""
    version: int
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if finding != "ok":
        raise sqlite3.DatabaseError(f"malformed: {finding}")
    if version > VERSION:
        raise sqlite3.DatabaseError(f"it is of version {version}, and this module knows version {VERSION}")
    return version


def _add_what_is_newer(connection: sqlite3.Connection) -> None:
    """Add what 0.1.0 did not have; it works on the file all the same, should it come back."""
    columns = {row[1] for row in connection.execute("PRAGMA table_info(tasks)")}
    if "used" not in columns:
        connection.executescript(
            "BEGIN; ALTER TABLE tasks ADD COLUMN used REAL; CREATE TABLE usage (seconds REAL NOT NULL);"
            "INSERT INTO usage VALUES (0); COMMIT;"
        )


def _row(record: Record) -> list[object]:
    values = vars(record) | {"request": json.dumps(record.request), "details": json.dumps(record.details)}
    values["bytes"] = min(record.bytes, INTEGER_MAXIMUM)
    values["total_bytes"] = None if record.total_bytes is None else min(record.total_bytes, INTEGER_MAXIMUM)
    return [values[name] for name in _COLUMNS]


def _record(row: Sequence[Any]) -> Record:
    values = dict(zip(_COLUMNS, row, strict=True))
    try:
        values["request"], values["details"] = dict(json.loads(values["request"])), dict(json.loads(values["details"]))
        for name in _NUMBERS:
            values[name] = None if values[name] is None else values[name] + 0
    except (TypeError, ValueError) as error:
        raise sqlite3.DatabaseError(f"malformed: {error}") from None
    values["announce"] = bool(values["announce"])
    values["result"] = None if values["result"] is None else bool(values["result"])
    return Record(**values)


def _request(connection: sqlite3.Connection, request_id: str) -> Request | None:
    row = connection.execute(
        "SELECT fingerprint, begun, task_id, status, payload FROM requests WHERE request_id = ?", (request_id,)
    ).fetchone()
    if row is None:
        return None
    fingerprint, begun, task_id, status, payload = row
    try:
        answer = None if payload is None else json.loads(payload)
    except (TypeError, ValueError) as error:
        raise sqlite3.DatabaseError(f"malformed: {error}") from None
    return Request(fingerprint, bool(begun), task_id, status, answer)


def _write_request(connection: sqlite3.Connection, request_id: str, request: Request) -> None:
    payload = None if request.status is None else json.dumps(request.payload)
    connection.execute(
        "INSERT INTO requests (request_id, fingerprint, moment, begun, task_id, status, payload) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (request_id) DO UPDATE SET moment = excluded.moment, "
        "begun = excluded.begun, task_id = excluded.task_id, status = excluded.status, payload = excluded.payload",
        (request_id, request.fingerprint, time.time(), request.begun, request.task_id, request.status, payload),
    )
