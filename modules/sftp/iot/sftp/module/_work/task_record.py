"""Define what the journal knows about a task and about a request id, and the statuses of a task."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from iot.sftp.module._documents.servers import DEFAULT_SERVER


class TaskStatus(str, Enum):
    """The status of a task; the values are those of the wire, the journal and the metrics."""

    NOT_STARTED = "NotStarted"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    UNKNOWN = "Unknown"  # answered for an id that names no task; no record has it


LIVE = (TaskStatus.NOT_STARTED, TaskStatus.RUNNING)
ENDED = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED)


@dataclass
class TaskRecord:
    """What is known about a task.

    Attributes:
        task_id: its name.
        method: what it does.
        request: the parameters, as JSON has them; never anything secret.
        time_limit: seconds of the module's running, from its acceptance, after which it is given up.
        accepted: when, in seconds of the epoch, as all times here.
        announce: whether its end is still to be sent to the output `tasks`.
        status: any but `UNKNOWN`.
        result: of the method, once it has ended.
        code: why it failed, or why its last attempt did.
        message: the same for people.
        bytes: that have been moved.
        total_bytes: that there are, if that is known.
        started: when its first attempt began.
        finished: when it ended.
        details: further fields of its status document.
        used: seconds of use when it was accepted; `None` where an older module has accepted it.
    """

    task_id: str
    method: str
    request: dict[str, Any]
    time_limit: float
    accepted: float = field(default_factory=time.time)
    announce: bool = True
    status: TaskStatus = TaskStatus.NOT_STARTED
    result: bool | None = None
    code: str | None = None
    message: str | None = None
    bytes: int = 0
    total_bytes: int | None = None
    started: float | None = None
    finished: float | None = None
    details: dict[str, Any] = field(default_factory=dict)
    used: float | None = None

    @property
    def starts_alike(self) -> bool:
        """Whether its first attempt is like any other, so that it does not matter whether there was one before."""
        return self.method in {"download_file", "upload_file"}

    @property
    def server(self) -> str:
        """The name of its server; a module before 1.0 knew the default one only."""
        return str(self.request.get("server", DEFAULT_SERVER))


@dataclass(frozen=True)
class RequestRecord:
    """What is known about a request id.

    Attributes:
        fingerprint: of the call that it came with.
        begun: whether the call was begun, and its outcome is not known.
        task_id: of the task that it made.
        status: of the answer, if it is known.
        payload: of the answer; while there is none, the paths that the call's placeholders have become: a repeat on
            another day has the same ones.
    """

    fingerprint: str
    begun: bool = False
    task_id: str | None = None
    status: int | None = None
    payload: Any = None


def new_task(method: str, request: Mapping[str, Any], time_limit: float) -> TaskRecord:
    """Return the record of a new task, for `Tasks.accept`.

    Parameters:
        method: the name of the method that it does.
        request: its parameters, as JSON has them; never anything secret.
        time_limit: seconds of the module's running after which it is given up.
    """
    return TaskRecord(uuid.uuid4().hex, method, dict(request), time_limit)
