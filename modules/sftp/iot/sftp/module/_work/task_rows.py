"""Read and write the rows of tasks in the journal; all of it within the transaction of the caller."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from iot.sftp.module._base.state_directory import INTEGER_MAXIMUM
from iot.sftp.module._work.sqlite_file import malformed
from iot.sftp.module._work.task_record import TaskRecord, TaskStatus

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

TABLE = """
CREATE TABLE tasks (
    sequence INTEGER PRIMARY KEY,
    task_id TEXT NOT NULL UNIQUE, method TEXT NOT NULL, request TEXT NOT NULL,
    time_limit REAL NOT NULL, accepted REAL NOT NULL, announce INTEGER NOT NULL,
    status TEXT NOT NULL, result INTEGER, code TEXT, message TEXT,
    bytes INTEGER NOT NULL, total_bytes INTEGER, started REAL, finished REAL, details TEXT NOT NULL
);
"""

_COLUMNS = tuple(column.name for column in fields(TaskRecord))
_NUMBERS = ("time_limit", "accepted", "bytes", "total_bytes", "started", "finished", "used")
_READ = f"SELECT {', '.join(_COLUMNS)} FROM tasks"  # noqa: S608 - the names are ours
_INSERT = (
    f"INSERT INTO tasks ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "  # noqa: S608 - as above
    "ON CONFLICT (task_id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name != "task_id")
)
_CHANGING = tuple(name for name in _COLUMNS if name != "task_id")
_UPDATE = f"UPDATE tasks SET {', '.join(f'{name} = ?' for name in _CHANGING)} WHERE task_id = ?"  # noqa: S608 - as above


def read_tasks(connection: sqlite3.Connection, condition: str = "", values: Sequence[object] = ()) -> list[TaskRecord]:
    """Return the tasks for which a condition holds, which is what follows the table's name in SQL."""
    return [_record(row) for row in connection.execute(_READ + condition, tuple(values)).fetchall()]


def insert_task(connection: sqlite3.Connection, record: TaskRecord) -> None:
    """Write a new task."""
    connection.execute(_INSERT, list(_row(record).values()))


def write_task(connection: sqlite3.Connection, record: TaskRecord) -> None:
    """Write a task that is there; or a new one, where somebody has removed the file."""
    row = _row(record)
    if not connection.execute(_UPDATE, [row[name] for name in (*_CHANGING, "task_id")]).rowcount:
        connection.execute(_INSERT, list(row.values()))


def _row(record: TaskRecord) -> dict[str, object]:
    values = vars(record) | {"request": json.dumps(record.request), "details": json.dumps(record.details)}
    values["status"] = record.status.value
    values["bytes"] = min(record.bytes, INTEGER_MAXIMUM)
    values["total_bytes"] = None if record.total_bytes is None else min(record.total_bytes, INTEGER_MAXIMUM)
    return {name: values[name] for name in _COLUMNS}


def _record(row: Sequence[Any]) -> TaskRecord:
    values = dict(zip(_COLUMNS, row, strict=True))
    try:
        values["request"], values["details"] = dict(json.loads(values["request"])), dict(json.loads(values["details"]))
        for name in _NUMBERS:
            values[name] = None if values[name] is None else values[name] + 0
        values["status"] = TaskStatus(values["status"])
    except (TypeError, ValueError) as error:
        raise malformed(error) from None
    values["announce"] = bool(values["announce"])
    values["result"] = None if values["result"] is None else bool(values["result"])
    return TaskRecord(**values)
