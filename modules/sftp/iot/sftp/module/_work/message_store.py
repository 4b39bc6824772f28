"""Keep messages in the journal: calls that have arrived and are not answered yet, and what is to be sent to outputs.

A call is written before the edge hub hears that it has arrived. Its answer takes its place in one transaction, and is
kept for a while after it was sent, for a repeat of the call. Everything is bounded by number and by size: what no clock
decides survives one that is set.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from iot.sftp.client import SFTPError
from iot.sftp.module._base.logging import about
from iot.sftp.module._base.state_directory import INTEGER_MAXIMUM
from iot.sftp.module._documents.servers import DEFAULT_SERVER
from iot.sftp.module._work.outgoing import ANSWERS, OUTPUTS, TASKS, Outgoing
from iot.sftp.module._work.server_slots import share
from iot.sftp.module._work.task_ends import TaskEnds, task_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Iterable, Sequence

    from iot.sftp.module._work.sqlite_file import SQLiteFile
    from iot.sftp.module._work.task_record import TaskRecord

KEPT_SHARE = 3 / 4  # of a bound: what is left when it was exceeded, so that it is not exceeded again at once

TABLES = """
CREATE TABLE IF NOT EXISTS calls (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE, message_id TEXT, body BLOB NOT NULL, arrived REAL NOT NULL, server TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS outbox (
    sequence INTEGER PRIMARY KEY,
    output TEXT NOT NULL, message_id TEXT NOT NULL, correlation_id TEXT, body TEXT NOT NULL,
    call TEXT, is_sent INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX IF NOT EXISTS answered ON outbox (call) WHERE call IS NOT NULL;
CREATE INDEX IF NOT EXISTS unsent ON outbox (output, sequence) WHERE NOT is_sent;
CREATE TABLE IF NOT EXISTS gathered (ledgers TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID;
"""
_UNSENT = "SELECT output, message_id, body, correlation_id, sequence FROM outbox WHERE output = ? AND NOT is_sent"
_LAST = "SELECT IFNULL(MAX(sequence), 0) FROM outbox"
# The newest rows of an output, as many and as large as may be kept: what is beyond that
_BEYOND = """
SELECT sequence FROM (
    SELECT sequence, ROW_NUMBER() OVER newest AS number, SUM(LENGTH(body)) OVER newest AS size
    FROM outbox WHERE output = ? AND is_sent = ? WINDOW newest AS (ORDER BY sequence DESC)
) WHERE number > ? OR size > ?
"""

if TYPE_CHECKING:
    Fold = Callable[[list[Outgoing], list[Outgoing]], Iterable[Outgoing]]

_log = logging.getLogger(__name__)


class Taken(Enum):
    """What becomes of a call that has arrived; the values are those of the metrics."""

    ACCEPTED = "accepted"
    REPEATED = "repeated"  # it is there already, or was answered: it gets the first outcome
    REFUSED = "refused"  # too many are waiting


@dataclass(frozen=True)
class Bound:
    """How many messages are kept, and how many bytes of them."""

    count: int
    size: int


@dataclass(frozen=True)
class MessageLimits:
    """Bounds of what is kept.

    Attributes:
        calls: to a server that are not answered yet, as long as the next bound allows it; further ones are refused.
        all_calls: to all servers, which divide it equally.
        waiting_answers: that are not sent yet: no further call is carried out while there are more.
        sent_answers: that are kept for repeats of their calls.
        tasks: ends of tasks that are not sent yet; the oldest are dropped.
        files: messages about files that are not sent yet; the oldest are summarized.
    """

    calls: Bound = Bound(1_000, 8 * 2**20)
    all_calls: Bound = Bound(4_000, 8 * 2**20)
    waiting_answers: Bound = Bound(1_000, 4 * 2**20)
    sent_answers: Bound = Bound(1_000, 4 * 2**20)
    tasks: int = 2_000
    files: Bound = Bound(2_000, 8 * 2**20)

    def calls_of_each(self, servers: int) -> Bound:
        """Return how many calls to each of so many servers may wait."""
        each, together = self.calls, self.all_calls
        return Bound(share(each.count, together.count, servers), share(each.size, together.size, servers))


MESSAGE_LIMITS = MessageLimits()


@dataclass(frozen=True)
class IncomingCall:
    """A call that arrived as a message.

    Attributes:
        key: the same for a repeat of the message.
        message_id: that the sender gave it.
        body: as it arrived.
        server: the name that it gives, whether there is such a server or not.
        arrived: when, in seconds of the epoch.
        sequence: its place in the order of arrival; 0 before it is written.
    """

    key: str
    message_id: str | None
    body: bytes
    server: str = DEFAULT_SERVER
    arrived: float = field(default_factory=time.time)
    sequence: int = 0


def serving(server: str, servers: Collection[str]) -> str:
    """Return the server in whose turn a call is carried out, or refused if there is none of the name that it gives."""
    return server if server in servers else DEFAULT_SERVER


class MessageStore:
    """The tables of messages in the journal's file; thread-safe.

    Methods that take a connection work within the transaction of their caller. The others raise an `SFTPError` if the
    file cannot be used.
    """

    def __init__(self, file: SQLiteFile, limits: MessageLimits = MESSAGE_LIMITS) -> None:
        """Use the journal's file, which has `TABLES`."""
        self._file = file
        self.limits = limits
        self._lock = threading.Lock()
        self._dropped: Counter[str] = Counter()
        self._counts = {"calls": 0, **dict.fromkeys(OUTPUTS, 0)}
        self._ends = TaskEnds()
        self._sequence = 0  # of the last message: the number of one that was deleted is not given to another

    # --- calls

    def take(self, call: IncomingCall, servers: Collection[str] = (DEFAULT_SERVER,)) -> Taken:
        """Write down a call that has arrived, durably, unless it is known already or too many wait for its server.

        Parameters:
            call: what has arrived.
            servers: the names of those that there are. Calls that name none of them are among the default one's.
        """
        with self._file.transaction(durable=True) as connection:
            if connection.execute("SELECT 1 FROM calls WHERE key = ?", (call.key,)).fetchone():
                return Taken.REPEATED
            known = connection.execute("UPDATE outbox SET is_sent = 0 WHERE call = ?", (call.key,)).rowcount
            if known:
                return Taken.REPEATED
            if not self._has_room(connection, call, servers):
                return Taken.REFUSED
            connection.execute(
                "INSERT INTO calls (key, message_id, body, arrived, server) VALUES (?, ?, ?, ?, ?)",
                (call.key, call.message_id, call.body, call.arrived, call.server),
            )
            self._count(connection)
        return Taken.ACCEPTED

    def _has_room(self, connection: sqlite3.Connection, call: IncomingCall, servers: Collection[str]) -> bool:
        ours, all_of_them = Counter[str](), Counter[str]()
        rows = connection.execute("SELECT server, COUNT(*), SUM(LENGTH(body)) FROM calls GROUP BY server")
        for server, count, size in rows:
            all_of_them.update(count=count, size=size)
            if serving(server, servers) == serving(call.server, servers):
                ours.update(count=count, size=size)
        bounds = (ours, self.limits.calls_of_each(len(servers))), (all_of_them, self.limits.all_calls)
        return all(
            waiting["count"] < bound.count and waiting["size"] + len(call.body) <= bound.size
            for waiting, bound in bounds
        )

    def waiting_calls(self) -> dict[str, str]:
        """Return the servers of the calls that are not answered, by the calls' keys in the order of their arrival.

        There are none while too many answers wait.
        """
        with self._file.transaction() as connection:
            if self._is_beyond(connection, ANSWERS, self.limits.waiting_answers):
                return {}
            return dict(connection.execute("SELECT key, server FROM calls ORDER BY sequence").fetchall())

    def waiting_call(self, key: str) -> IncomingCall | None:
        """Return a call that is not answered; `None` if there is none."""
        with self._file.transaction() as connection:
            row = connection.execute(
                "SELECT key, message_id, body, server, arrived, sequence FROM calls WHERE key = ?", (key,)
            ).fetchone()
        return None if row is None else IncomingCall(*row)

    def answer(self, call: IncomingCall, answer: Outgoing) -> None:
        """Put the answer to a call in its place, durably."""
        with self._file.transaction(durable=True) as connection:
            connection.execute("DELETE FROM calls WHERE key = ?", (call.key,))
            self._insert(connection, answer, call.key)
            kept = self.limits.sent_answers
            self._delete(connection, _BEYOND, (ANSWERS, 1, kept.count, kept.size))
            self._count(connection)

    def forget_call(self, key: str) -> None:
        """Delete a call that was refused after all."""
        with self._file.transaction() as connection:
            connection.execute("DELETE FROM calls WHERE key = ?", (key,))
            self._count(connection)

    def refuse(self, answer: Outgoing) -> None:
        """Keep the answer to a call that is not carried out, unless too many answers wait to be sent."""
        with self._file.transaction() as connection:
            if self._is_beyond(connection, ANSWERS, self.limits.waiting_answers):
                self.note_dropped(ANSWERS, 1)
            else:
                self._insert(connection, answer)
                self._count(connection)

    # --- messages about files

    def gathered(self, ledgers: str) -> int:
        """Return up to which number the events of a file of ledgers were gathered, by its identity."""
        with self._file.transaction() as connection:
            row = connection.execute("SELECT sequence FROM gathered WHERE ledgers = ?", (ledgers,)).fetchone()
        return 0 if row is None else int(row[0])

    def add_gathered(self, ledgers: str, number: int, messages: Iterable[Outgoing]) -> None:
        """Keep messages about the events of a file of ledgers, up to this number, durably."""
        with self._file.transaction(durable=True) as connection:
            for message in messages:
                self._insert(connection, message)
            connection.execute("DELETE FROM gathered WHERE ledgers != ?", (ledgers,))
            connection.execute("INSERT OR REPLACE INTO gathered VALUES (?, ?)", (ledgers, number))
            self._count(connection)

    def fold(self, output: str, attempted: int | None, fold: Fold) -> None:
        """Replace the oldest messages of an output, if there are too many, by what `fold` makes of them.

        Parameters:
            output: which.
            attempted: a message that may have arrived already, by its sequence, and is left as it is.
            fold: returns the messages that take the place of some messages and of what earlier calls have made.
        """
        bound = self.limits.files
        with self._file.transaction() as connection:
            if not self._is_beyond(connection, output, bound):
                return
            rows = connection.execute(f"{_UNSENT} ORDER BY sequence", (output,)).fetchall()
            messages = [message for row in rows if (message := Outgoing(*row)).sequence != attempted]
            oldest = [message for message in messages if not message.is_summary]
            summaries = [message for message in messages if message.is_summary]
            count = size = 0
            while oldest and count < bound.count * KEPT_SHARE and size < bound.size * KEPT_SHARE:
                count, size = count + 1, size + len(oldest.pop().body)
            for message in (*oldest, *summaries):
                connection.execute("DELETE FROM outbox WHERE sequence = ?", (message.sequence,))
            for message in fold(oldest, summaries):
                self._insert(connection, message)
            self._count(connection)
        self.count_dropped(output, len(oldest))
        _log.warning(
            "too many messages wait for the edge hub: the oldest %d for output %s were summarized",
            len(oldest),
            output,
            extra=about(f"dropped {output}"),
        )

    # --- what is to be sent

    def note_ends(self, records: Sequence[TaskRecord]) -> None:
        """Take the tasks among these that have ended: the messages about them are to be sent, and are in their rows.

        The oldest are dropped if there are too many.
        """
        self._ends.note(record for record in records if record.finished is not None)
        excess = len(self._ends) - self.limits.tasks
        if excess > 0:
            oldest = [task_id for task_id, _ in self._ends.first(excess)]
            with suppress(SFTPError), self._file.transaction() as connection:
                self._ends.mark_told(connection, oldest)
            self._ends.forget(oldest)
            self.note_dropped(TASKS, len(oldest))

    def sync(self) -> int:
        """Have on the disk what is to be sent, and return the number of the last end of a task."""
        with self._file.transaction() as connection:
            self._ends.load(connection, self._file.generation)
            last = self._ends.last
        self._file.sync()
        return last

    def unsent(self, output: str, limit: int, up_to: int = INTEGER_MAXIMUM) -> list[Outgoing]:
        """Return what is to be sent to an output, the oldest first; ends of tasks up to a number from `sync`."""
        with self._file.transaction() as connection:
            if output == TASKS:
                return self._unsent_ends(connection, limit, up_to)
            rows = connection.execute(f"{_UNSENT} ORDER BY sequence LIMIT ?", (output, limit)).fetchall()
            if not rows:
                self._count(connection)
        return [Outgoing(*row) for row in rows]

    def confirm(self, *messages: Outgoing) -> None:
        """Record that messages were sent, or are not wanted; an answer is kept for a repeat of its call."""
        ended = [task_of(message) for message in messages if message.output == TASKS]
        with self._file.transaction() as connection:
            self._ends.mark_told(connection, ended)
            for where in ((message.sequence,) for message in messages if message.output != TASKS):
                if not connection.execute("DELETE FROM outbox WHERE sequence = ? AND call IS NULL", where).rowcount:
                    connection.execute("UPDATE outbox SET is_sent = 1 WHERE sequence = ?", where)
        self._ends.forget(ended)

    @property
    def counts(self) -> dict[str, int]:
        """How many calls wait for their answer, and how many messages of each output to be sent; never blocks."""
        return self._counts | {TASKS: len(self._ends)}

    @property
    def dropped(self) -> dict[str, int]:
        """How many messages were dropped or summarized since the process began, by output, as too many waited."""
        with self._lock:
            return dict.fromkeys(OUTPUTS, 0) | dict(self._dropped)

    def count_dropped(self, output: str, count: int) -> None:
        """Count messages for an output that were dropped, or summarized."""
        with self._lock:
            self._dropped[output] += count

    def note_dropped(self, output: str, count: int) -> None:
        """Count and log messages for an output that were dropped, if there are any."""
        if count:
            self.count_dropped(output, count)
            text = "too many messages wait for the edge hub: the oldest for output %s were dropped"
            _log.warning(text, output, extra=about(f"dropped {output}"))

    def _unsent_ends(self, connection: sqlite3.Connection, limit: int, up_to: int) -> list[Outgoing]:
        self._ends.load(connection, self._file.generation)
        while waiting := self._ends.first(limit, up_to):
            messages = [self._ends.message(connection, *each) for each in waiting]
            lost = [task_id for (task_id, _), message in zip(waiting, messages, strict=True) if message is None]
            self._ends.forget(lost)
            self.note_dropped(TASKS, len(lost))
            if len(lost) < len(waiting):
                return [message for message in messages if message is not None]
        return []

    def _count(self, connection: sqlite3.Connection) -> None:
        (calls,) = connection.execute("SELECT COUNT(*) FROM calls").fetchone()
        rows = connection.execute("SELECT output, COUNT(*) FROM outbox WHERE NOT is_sent GROUP BY output").fetchall()
        self._counts = {"calls": calls, **dict.fromkeys(OUTPUTS, 0), **dict(rows)}

    def _insert(self, connection: sqlite3.Connection, message: Outgoing, call: str | None = None) -> None:
        (last,) = connection.execute(_LAST).fetchone()
        self._sequence = max(self._sequence, last) + 1
        connection.execute(
            "INSERT OR REPLACE INTO outbox (sequence, output, message_id, correlation_id, body, call) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (self._sequence, message.output, message.message_id, message.correlation_id, message.body, call),
        )

    def _delete(self, connection: sqlite3.Connection, which: str, values: tuple[object, ...]) -> int:
        return connection.execute(f"DELETE FROM outbox WHERE sequence IN ({which})", values).rowcount  # noqa: S608 - ours

    def _is_beyond(self, connection: sqlite3.Connection, output: str, bound: Bound) -> bool:
        count, size = connection.execute(
            "SELECT COUNT(*), IFNULL(SUM(LENGTH(body)), 0) FROM outbox WHERE output = ? AND NOT is_sent", (output,)
        ).fetchone()
        return bool(count >= bound.count or size >= bound.size)
