"""Make the status document of a task, which `get_task_status` returns, and which is sent when the task has ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from iot.sftp.client._base.text import excerpt, shortened
from iot.sftp.module._base.times import rfc3339
from iot.sftp.module._work.task_record import TaskStatus

if TYPE_CHECKING:
    from iot.sftp.module._work.task_record import TaskRecord

RATE_PERIOD = 2.0  # seconds over which a rate is measured
TEXT_SHOWN = 200  # characters of a path or a message of one of many files: a status always fits into a response


class Rate:
    """Bytes per second, over the last seconds."""

    def __init__(self) -> None:
        """Begin with no measurement."""
        self.value: float | None = None
        self._mark: tuple[float, int] | None = None

    def note(self, bytes_done: int) -> None:
        """Take the number of bytes now; fewer than before mean that the transfer was restarted."""
        now = time.monotonic()
        if self._mark is None or bytes_done < self._mark[1]:
            self._mark = now, bytes_done
            return
        since, before = self._mark
        seconds = now - since
        if seconds >= RATE_PERIOD or (self.value is None and seconds > RATE_PERIOD / 10):
            self.value = (bytes_done - before) / seconds
            self._mark = now, bytes_done


def document(record: TaskRecord, rate: float | None = None) -> dict[str, Any]:
    """Return a task's status document.

    Parameters:
        record: what is known about the task.
        rate: bytes per second, while it runs.
    """
    return {
        "task_id": record.task_id,
        "method": record.method,
        "status": record.status.value,
        "result": record.result,
        "code": record.code,
        "message": record.message,
        "bytes": record.bytes,
        "total_bytes": record.total_bytes,
        "started": _moment(record.started),
        "finished": _moment(record.finished),
        **{
            name: _shown(record.request[name])
            for name in ("path", "source", "dest", "server")
            if name in record.request
        },
        **({} if rate is None else {"rate": round(rate)}),
        **record.details,
    }


def short_id(task_id: str) -> str:
    """Return the first characters of a task's id, which identify it in the log."""
    return task_id[:8]


def unknown(task_id: str) -> dict[str, Any]:
    """Return the status document of a task that is not known."""
    fields = ("task_id", "method", "status", "result", "code", "message", "bytes", "total_bytes", "started", "finished")
    return dict.fromkeys(fields) | {"task_id": shortened(task_id, TEXT_SHOWN), "status": TaskStatus.UNKNOWN.value}


def _shown(path: object) -> str:
    return excerpt(str(path), TEXT_SHOWN)


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else rfc3339(seconds, "milliseconds")
