"""Open, check and lend a SQLite file of the state directory; set it aside if it is damaged.

The journal and the delivery ledgers are such files. A file that is damaged is renamed and a new one is created: the log
says so, and the process goes on. A file of a newer version of the module is neither used nor changed: what it holds
must not be done twice. While a file cannot be used, every transaction raises an `SFTPError` that says why, and the
next one retries.

Use time: no clock that can be set decides what is deleted from a file. A file counts the seconds for which modules have
been running on it, in its table `usage`.
"""

from __future__ import annotations

import glob
import logging
import os
import sqlite3
import threading
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iot.sftp.client import PermissionDenied, SFTPError
from iot.sftp.module._base.state_directory import inode, why_unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BUSY_TIMEOUT = 5.0  # seconds to wait for another process's lock, such as that of somebody's `sqlite3` shell
# Bytes of a page, unless a schema has its own. Each transaction writes whole pages: four times as much to the flash
# with SQLite's own 4096. A file keeps what it began with.
PAGE = 1024
LOG = 4 * 1024 * 1024  # bytes of changes, from which on SQLite moves them into the file itself
SET_ASIDE_KEPT = 3  # damaged files that are kept, the newest ones
FILES = ("-shm", "-wal", "")  # SQLite's names for the parts of a file in WAL mode, the main one last

# UnicodeDecodeError comes from a message of SQLite's that quotes a damaged table
FAILURES = (sqlite3.Error, OSError, UnicodeDecodeError)
# SQLite's words for errors that are not the file's own fault (its error codes are available from Python 3.11 on)
SURROUNDINGS = ("full", "readonly", "unable to open", "i/o error", "locked", "out of memory", "permission", "too big")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileMessages:
    """The log lines about a file, in full, so that who searches for one finds it.

    Attributes:
        removed: somebody else has removed it; `%s` is its path.
        damaged: it is not readable; the first `%s` is why, the second one its new name.
        unusable: it cannot be used; `%s` is why.
        recovered: it can be used again.
    """

    removed: str
    damaged: str
    unusable: str
    recovered: str


@dataclass(frozen=True)
class Schema:
    """What a file holds.

    Attributes:
        file: its name in the state directory.
        messages: the log lines about it.
        purpose: completes "the state directory cannot be used …".
        version: of the tables, in SQLite's `user_version`.
        tables: that must be readable; one that is not means that the file is damaged.
        migrate: creates the tables, or updates those of the version that it is given (0: a new file); idempotent.
        is_checked: whether `PRAGMA quick_check` reads the whole file when it is opened. It takes a time that grows with
            the file, so it is only for files of bounded size.
        page: bytes of a page of a new file.
    """

    file: str
    messages: FileMessages
    purpose: str
    version: int
    tables: tuple[str, ...]
    migrate: Callable[[sqlite3.Connection, int], None]
    is_checked: bool = False
    page: int = PAGE


class NewerVersionError(sqlite3.DatabaseError):
    """The file is of a newer version of the module."""


class SQLiteFile:
    """One file, which is created and opened when it is first needed; thread-safe.

    One lock serializes everything: it is held for the whole of a transaction, and while `on_trouble` is called.
    """

    def __init__(
        self,
        directory: Path,
        schema: Schema,
        *,
        guard: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        on_trouble: Callable[[SFTPError | None], None] | None = None,
        size_maximum: int | None = None,
    ) -> None:
        """Take the directory; nothing is opened yet.

        Parameters:
            directory: the module's state directory.
            schema: what the file holds.
            guard: raises an `SFTPError` while this process must not use the directory.
            clock: counts the seconds of use; never set, and of no meaning between two processes.
            on_trouble: called once for each trouble with the file, and with `None` when it is over. Without it, who
                gets the error reports it.
            size_maximum: bytes of the file, beyond which it is full.
        """
        self.path = directory / schema.file
        self._size_maximum = size_maximum
        self.generation = 0  # counts the files that were opened: a new one does not know what the last one knew
        self._schema = schema
        self._guard = guard
        self._clock = clock
        self._counted = clock()
        self._on_trouble = on_trouble
        self._reported = ""  # the trouble that was reported, until something was written to the file
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._is_synced = False  # whether all that was written is on the disk
        self._inode: tuple[int, int] | None = None

    @property
    def is_well(self) -> bool:
        """Whether no trouble is known that keeps the file from being written."""
        return not self._reported

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """Lend the file for one transaction.

        Parameters:
            durable: it is on the disk at the end. Otherwise, it survives a crash of the process, but not always a
                power cut.

        Raises:
            SFTPError: the file cannot be used.
        """
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
                raise self._failed(error) from error
            if connection.total_changes > changes:  # to read is no proof: a full file can be read
                self._is_synced = durable  # the log is one file: what came before is synced with it
                self._recovered()

    def sync(self) -> None:
        """Have on the disk what all transactions so far have written; nothing is to do after a durable one.

        Raises:
            SFTPError: the file cannot be used.
        """
        with self._lock:
            if self._is_synced:
                return
            self._guard()
            try:
                # Without a log, SQLite has moved all of it into the file; without a directory, there is no file
                with suppress(FileNotFoundError, NotADirectoryError), open(f"{self.path}-wal", "rb") as log:
                    os.fsync(log.fileno())
            except OSError as error:
                raise self._failed(error) from error
            self._is_synced = True

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend the file for one statement that reads: without a transaction that takes a third of the time.

        Raises:
            SFTPError: the file cannot be used.
        """
        with self._lock:
            self._guard()
            try:
                yield self._opened()
            except FAILURES as error:
                raise self._failed(error) from error

    @contextmanager
    def alone(self) -> Iterator[sqlite3.Connection]:
        """Lend the file for reading on a disk without a single free block, where a transaction raises `NoSpace`.

        SQLite needs a shared index beside a file in WAL mode, which cannot be created there. A connection that has the
        file for itself keeps the index in memory (https://www.sqlite.org/wal.html, "Use of WAL Without Shared-Memory").

        Raises:
            SFTPError: the file cannot be used.
        """
        with self._lock:
            self._guard()
            self.close()
            address = f"{self.path.absolute().as_uri()}?mode=rw"
            try:
                with closing(sqlite3.connect(address, BUSY_TIMEOUT, isolation_level=None, uri=True)) as connection:
                    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                    yield connection
            except FAILURES as error:
                raise self._failed(error) from error

    def count_use(self, connection: sqlite3.Connection, *, every: float = 0.0) -> float:
        """Add the seconds since the last call to the use time, and return it; within a transaction.

        Parameters:
            connection: of the transaction.
            every: seconds of use that need not be written: a process that ends leaves them uncounted.
        """
        passed = max(0.0, self._clock() - self._counted)
        if passed >= every:
            connection.execute("UPDATE usage SET seconds = seconds + ?", (passed,))
            self._counted, passed = self._counted + passed, 0.0
        use: float
        (use,) = connection.execute("SELECT seconds FROM usage").fetchone()
        return use + passed

    def close(self) -> None:
        """Close the file; the next transaction opens it again."""
        with self._lock, suppress(sqlite3.Error):
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _opened(self) -> sqlite3.Connection:
        """Return the connection to the file at this path; another process may have removed or replaced it."""
        if self._connection is not None and inode(self.path) != self._inode:
            _log.error(self._schema.messages.removed, self.path)
            self.close()
        if self._connection is None:
            try:
                self._connection = self._open()
            except FAILURES as error:
                if not _is_damage(error):
                    raise
                self._set_aside(str(error))
                self._connection = self._open()
            self._inode = inode(self.path)
            self.generation += 1
        return self._connection

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        try:
            with suppress(OSError):  # it may belong to another user, and be writable nevertheless
                os.chmod(self.path, 0o600)
            connection.execute(f"PRAGMA page_size = {self._schema.page}")
            connection.execute("PRAGMA journal_mode = WAL")
            (page,) = connection.execute("PRAGMA page_size").fetchone()
            connection.execute(f"PRAGMA wal_autocheckpoint = {LOG // page}")
            self._schema.migrate(connection, self._version(connection))
            for table in self._schema.tables:
                connection.execute(f"SELECT 1 FROM {table} LIMIT 1")  # noqa: S608 - the names are ours
            if self._size_maximum is not None:
                connection.execute(f"PRAGMA max_page_count = {self._size_maximum // page}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _version(self, connection: sqlite3.Connection) -> int:
        """Return the version of the tables, 0 for a new file; raise `sqlite3.DatabaseError` if it cannot be used."""
        version: int
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if self._schema.is_checked:
            (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if finding != "ok":
                raise malformed(finding)
        if version > self._schema.version:
            raise NewerVersionError(
                f"a newer version of the module has made {self._schema.file} (its tables are of version {version}, and "
                f"this module knows version {self._schema.version}). Install that version again, or start with a copy "
                "of the directory from before the upgrade"
            )
        return version

    def _failed(self, error: Exception) -> SFTPError:
        """Name what is wrong with the file, report it, and get ready for the next attempt."""
        named = why_unusable(self.path.parent, self._schema.purpose, error)
        if _is_damage(error):
            with suppress(OSError):
                self._set_aside(str(error))
                return named  # the next transaction creates a new file
        self.close()  # the trouble may be over when it is opened again
        if self._on_trouble is not None and self._reported != named.message:
            _log.error(self._schema.messages.unusable, named.message)
            self._reported = named.message
            self._on_trouble(named)
        return named

    def _recovered(self) -> None:
        if self._reported and self._on_trouble is not None:
            self._reported = ""
            _log.info(self._schema.messages.recovered)
            self._on_trouble(None)

    def _set_aside(self, why: str) -> None:
        """Rename the file, and delete all but the last ones that were renamed."""
        self.close()
        now = time.time_ns()
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now // 1_000_000_000))
        name = f"{self.path}.set-aside-{moment}.{now // 1_000 % 1_000_000:06}Z"
        for ending in FILES:
            with suppress(FileNotFoundError):
                os.replace(f"{self.path}{ending}", f"{name}{ending}")
        older = sorted(glob.glob(f"{glob.escape(str(self.path))}.set-aside-*Z"))
        for path in older[:-SET_ASIDE_KEPT]:
            for ending in FILES:
                with suppress(OSError):
                    os.unlink(path + ending)
        words = self._schema.messages.damaged % (why, name)
        _log.error("%s", words)
        self._reported = ""  # the loss stays reported: the next success does not take it back
        if self._on_trouble is not None:
            self._on_trouble(PermissionDenied(words))


def malformed(finding: object) -> sqlite3.DatabaseError:
    """Return the error for content that is not what was written, which means that the file is damaged."""
    return sqlite3.DatabaseError(f"malformed: {finding}")


def _is_damage(error: Exception) -> bool:
    """Return whether the file itself is at fault, and not its surroundings, or the statement."""
    surroundings = (OSError, NewerVersionError, sqlite3.ProgrammingError, sqlite3.IntegrityError, sqlite3.DataError)
    if isinstance(error, surroundings):
        return False
    words = str(error).lower()
    return words.startswith("malformed") or not any(text in words for text in SURROUNDINGS)
