"""Define a task that has not ended, and what its work gets and returns."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from iot.sftp.client import Interruption
from iot.sftp.client._base.text import quoted
from iot.sftp.module._documents.servers import DEFAULT_SERVER, on_server
from iot.sftp.module._work.slots import SLICE, TimeSlice
from iot.sftp.module._work.task_document import Rate, short_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.module._work.slots import Turn
    from iot.sftp.module._work.task_record import TaskRecord


class TaskState(Enum):
    """What a task that has not ended is about to do."""

    READY = "ready"  # takes the next slot in its turn
    PAUSING = "pausing"  # waits for its next attempt, after one that failed
    RUNNING = "running"
    ENDING = "ending"  # was asked to end while it did not run


class StopReason(Enum):
    """Why a task was asked to stop."""

    CANCELLED = "cancelled"  # by `cancel_task`
    OVERDUE = "overdue"  # its time limit is over
    PREEMPTED = "preempted"  # a call needs its slot: it resumes later
    SHUTDOWN = "shutdown"  # the module exits: it resumes after the restart

    @property
    def is_final(self) -> bool:
        """Whether the task ends, instead of going on later."""
        return self in {StopReason.CANCELLED, StopReason.OVERDUE}


@dataclass(frozen=True)
class TaskProgress:
    """How far a task's work has come.

    Attributes:
        bytes: that have been moved.
        total_bytes: that there are, if that is known.
        details: further fields of the task's status document.
    """

    bytes: int
    total_bytes: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskOutcome:
    """How a task's work has ended, if it ended by itself.

    Attributes:
        progress: how far it came.
        code: why it is not complete, if it is not.
        message: the same for people.
    """

    progress: TaskProgress
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True)
class Job:
    """One attempt of a task, as its work gets it.

    Attributes:
        method: what is to be done.
        request: the parameters.
        attempts: how many there were before this one.
        report: takes how far it has come.
        cancelled: set when it has to stop soon, for good or to go on later.
        task_id: whose attempt it is.
        server: the name of the server.
        is_in_doubt: whether an attempt before this one may have done a part of it, or all.
        reported: the details that were reported before.
    """

    method: str
    request: Mapping[str, Any]
    attempts: int
    report: Callable[[TaskProgress], None]
    cancelled: threading.Event
    task_id: str = ""
    server: str = DEFAULT_SERVER
    is_in_doubt: bool = False
    reported: Mapping[str, Any] = field(default_factory=dict)


class LiveTask:
    """A task that has not ended; protected by the lock of `TaskScheduler`, as is its record."""

    def __init__(self, record: TaskRecord, remaining: float, time_slice: float = SLICE) -> None:
        """Take a record.

        Parameters:
            record: what is known about it.
            remaining: seconds until its time limit is over.
            time_slice: seconds that it may run at first while calls wait.
        """
        self.record = record
        self.server = record.server
        self.state = TaskState.READY
        self.ends = time.monotonic() + remaining
        self.slice = TimeSlice(time_slice)
        self.rate = Rate()
        self.attempts = 0 if record.started is None else 1
        self.is_in_doubt = record.started is not None  # whether an attempt may have done a part of it, or all
        self.incomplete = 0  # attempts that found that the file had changed
        self.retry_at = 0.0  # in time.monotonic(), while it pauses
        self.turn: Turn | None = None  # while it runs
        self.stop_reason: StopReason | None = None
        self.cancelled = Interruption()
        self.ended = threading.Event()

    @property
    def name(self) -> str:
        """What log lines about it begin with."""
        return on_server(f"task {short_id(self.record.task_id)} {self.record.method}", self.server)

    @property
    def paths(self) -> str:
        """What it is about, or where from and where to, for log lines; empty if it has no paths."""
        request = self.record.request
        return " -> ".join(quoted(str(request[key])) for key in ("path", "source", "dest") if key in request)

    @property
    def description(self) -> str:
        """Its name and its paths."""
        return f"{self.name} {self.paths}".rstrip()

    @property
    def can_be_stopped(self) -> bool:
        """Whether nothing has asked it to end yet; one that is preempted can still be cancelled."""
        return self.stop_reason in {None, StopReason.PREEMPTED}

    def stop(self, reason: StopReason) -> None:
        """Ask its work to stop soon. A reason after which it resumes is replaced by one that ends it."""
        if self.can_be_stopped:
            self.stop_reason = reason
        if self.stop_reason is not None and self.stop_reason.is_final:
            self.cancelled.goes_on = False
            self.cancelled.set()
        else:
            self.cancelled.interrupt()  # what it has transferred is kept

    def interrupted(self) -> None:
        """Get ready again after an attempt that was stopped to go on later."""
        self.slice.interrupt()
        self.state = TaskState.READY
        self.turn, self.stop_reason, self.cancelled = None, None, Interruption()
