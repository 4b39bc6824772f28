"""Know which ends of tasks are still to be told, and make the messages about them.

Such a message is not written: it is made from the task's own row, which is marked (`announce`) from the task's
acceptance until its message was sent. So an end is one change of one row. What is marked is looked for once, when the
file was opened, and known in memory from then on: an index would be a page for each end.
"""

from __future__ import annotations

import json
import threading
from itertools import count, islice
from typing import TYPE_CHECKING

from iot.sftp.module._base.state_directory import INTEGER_MAXIMUM
from iot.sftp.module._work.outgoing import TASKS, Outgoing
from iot.sftp.module._work.task_document import document
from iot.sftp.module._work.task_rows import read_tasks

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from iot.sftp.module._work.task_record import TaskRecord

_MARKED = "SELECT task_id FROM tasks WHERE finished IS NOT NULL AND announce ORDER BY finished, sequence"
_TOLD = "UPDATE tasks SET announce = 0 WHERE task_id = ?"


class TaskEnds:
    """The ends that are still to be told, in their order; thread-safe.

    Methods that take a connection work within the transaction of their caller.
    """

    def __init__(self) -> None:
        """Know of none."""
        self._lock = threading.Lock()
        self._waiting: dict[str, int] = {}  # by the task's id: the number of its end, which grows
        self._numbers = count(1)
        self._generation = 0  # of the file that was read

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._waiting)

    @property
    def last(self) -> int:
        """The number of the last one, or 0."""
        with self._lock:
            return max(self._waiting.values(), default=0)

    def note(self, records: Iterable[TaskRecord]) -> None:
        """Take tasks that have ended, and whose rows are in the journal."""
        with self._lock:
            for record in records:
                if record.announce:
                    self._waiting.setdefault(record.task_id, next(self._numbers))

    def load(self, connection: sqlite3.Connection, generation: int) -> None:
        """Find what an earlier process has left; once for each file that was opened."""
        if generation == self._generation:
            return
        marked = [task_id for (task_id,) in connection.execute(_MARKED).fetchall()]
        with self._lock:
            left, self._generation = set(marked), generation
            self._waiting = {task_id: number for task_id, number in self._waiting.items() if task_id in left}
            for task_id in marked:
                self._waiting.setdefault(task_id, next(self._numbers))

    def first(self, limit: int, up_to: int = INTEGER_MAXIMUM) -> list[tuple[str, int]]:
        """Return the ids of the first tasks with the numbers of their ends, which are `up_to` at most."""
        with self._lock:
            return [(task_id, number) for task_id, number in islice(self._waiting.items(), limit) if number <= up_to]

    def message(self, connection: sqlite3.Connection, task_id: str, number: int) -> Outgoing | None:
        """Return the message about an end; `None` if the task is not known any more, or the message was sent."""
        records = read_tasks(connection, " WHERE task_id = ? AND finished IS NOT NULL AND announce", (task_id,))
        return _message(records[0], number) if records else None

    def mark_told(self, connection: sqlite3.Connection, task_ids: Iterable[str]) -> None:
        """Record that the messages about these tasks were sent, or are not wanted; `forget` is to follow."""
        connection.executemany(_TOLD, [(task_id,) for task_id in task_ids])

    def forget(self, task_ids: Iterable[str]) -> None:
        """Know no more that these are to be told."""
        with self._lock:
            for task_id in task_ids:
                self._waiting.pop(task_id, None)


def task_of(message: Outgoing) -> str:
    """Return the id of the task that a message is about."""
    return message.message_id.rpartition("-")[0]


def _message(record: TaskRecord, number: int) -> Outgoing:
    """Return the message about the end of a task, which holds its status document."""
    message_id = f"{record.task_id}-{record.status.value}"
    return Outgoing(TASKS, message_id, json.dumps(document(record)), sequence=number)
