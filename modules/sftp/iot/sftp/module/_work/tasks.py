"""Run work that outlives a call: queued, started in the order of acceptance, retried, and reported when it has ended.

    record = new_task("upload_files", {"source": "out", "dest": "in"}, time_limit=86_400)
    tasks.accept(record)                   # durable in the journal when it returns
    document = tasks.status(record.task_id)
    tasks.cancel(record.task_id, timeout)  # True if that stopped it

All of it may be called from any thread, none of it from the event loop. What a task does is the function that `Tasks`
is made with. Each of the parts has one job:

- `TaskQueue` has the tasks that have not ended;
- `TaskScheduler` decides which of them runs when, and has the lock (its docstring says what it protects);
- `TaskAttempts` makes an attempt, and decides what follows from its outcome;
- `TaskStore` writes tasks into the journal;
- `TaskTimer` is the thread that does what is due;
- `Tasks` is what the rest of the module calls.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from iot.sftp.client import DeadlineExceeded, SFTPError
from iot.sftp.module._work.live_task import StopReason, TaskState
from iot.sftp.module._work.task_attempts import TaskAttempts
from iot.sftp.module._work.task_document import document, unknown
from iot.sftp.module._work.task_limits import TASK_LIMITS, TaskLimits
from iot.sftp.module._work.task_record import TaskStatus
from iot.sftp.module._work.task_scheduler import TaskScheduler
from iot.sftp.module._work.task_store import TaskStore
from iot.sftp.module._work.task_timer import TaskTimer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from iot.sftp.module._work.journal import Journal
    from iot.sftp.module._work.live_task import Job, LiveTask, TaskOutcome
    from iot.sftp.module._work.server_slots import ServerSlots
    from iot.sftp.module._work.task_record import RequestRecord, TaskRecord


class Tasks:
    """All tasks: those that have not ended are in memory and in the journal, the others in the journal only."""

    def __init__(
        self,
        journal: Journal,
        slots: ServerSlots,
        work: Callable[[Job], TaskOutcome],
        *,
        on_end: Callable[[bool], None] = lambda _is_synced: None,
        on_failure: Callable[[str, str, str], None] = lambda _what, _code, _message: None,
        forget: Callable[[str], None] = lambda _task_id: None,
        limits: TaskLimits = TASK_LIMITS,
    ) -> None:
        """Take the parts; `start` begins.

        Parameters:
            journal: where tasks are written.
            slots: where they wait for their turns.
            work: makes one attempt, blocking; returns its outcome or raises an `SFTPError`.
            on_end: called when the end of a task is in the journal, from any thread, with whether it is on the disk;
                must not block. `settle` is to follow, within moments if it is not: the later, the more share a sync.
            on_failure: called for each attempt that failed with what, the code and the message; must not block.
            forget: called with the id of a task whose end is on the disk: what was kept for its next attempt can go.
            limits: bound tasks.
        """
        self._forget = forget
        self._ended: Counter[str] = Counter()  # since the process began, by status
        self._store = TaskStore(journal, limits.journal_pause, on_end)
        self._scheduler = TaskScheduler(slots, self._run, limits)
        self._attempts = TaskAttempts(self._scheduler, self._store, work, on_failure, self._ended)
        self._timer = TaskTimer(self._scheduler, self._store, self._attempts, limits.journal_pause)

    def start(self) -> None:
        """Continue with what the journal holds; blocks while the journal is read."""
        self._timer.start()

    def stop(self, limit: float) -> None:
        """Interrupt what runs, within `limit` seconds; it resumes when the module starts again."""
        self._scheduler.stop(limit)
        with suppress(SFTPError):  # logged by the journal
            self.settle()
        self._store.close()

    def settle(self) -> None:
        """Have the ends so far on the disk, and forget what was kept for further attempts.

        Raises:
            SFTPError: the journal cannot be used.
        """
        for task_id in self._store.settle():
            with suppress(SFTPError):  # then it goes when it has not been used for long
                self._forget(task_id)

    def wake(self, server: str) -> None:
        """Retry at once what failed because a server could not be reached: it may be reachable again."""
        self._scheduler.wake(server)

    def accept(self, record: TaskRecord, request_id: str | None = None, fingerprint: str = "") -> RequestRecord | None:
        """Accept a task, durably. If its request id is known, nothing is accepted, and what is known is returned.

        Raises:
            Busy: too many tasks have not ended yet.
            SFTPError: the journal cannot be written.
        """
        with self._scheduler.admission(record):
            known = self._store.add(record, request_id, fingerprint)
            if known is None:
                self._scheduler.add(record, record.time_limit)
            return known

    def status(self, task_id: str) -> dict[str, Any]:
        """Return the status document of a task; one that is not known has the status `Unknown`.

        Raises:
            SFTPError: it does not run, and the journal cannot be read.
        """
        shown = self._shown(task_id)
        if shown is None:
            record = self._store.get(task_id)
            shown = unknown(task_id) if record is None else document(record)
        return shown

    def newest(self, limit: int, after: str | None = None) -> list[dict[str, Any]]:
        """Return the status documents of the newest tasks first, or of those that come after the task `after`.

        Raises:
            SFTPError: the journal could not be read so far.
        """
        if after is not None and not after.isprintable():
            return []
        records = self._store.newest(limit, after, [task.record for task in self._scheduler.queue.all()])
        return [self._shown(record.task_id) or document(record) for record in records]

    def cancel(self, task_id: str, timeout: float) -> bool:
        """End a task; `True` if that stopped it, `False` if it had ended, or is not known.

        Raises:
            DeadlineExceeded: it has not ended within `timeout` seconds; it is being stopped.
        """
        task, is_ours = self._scheduler.stop_task(task_id, StopReason.CANCELLED)
        if task is None:
            return False
        if is_ours:
            self._attempts.cancel(task)
        if not task.ended.wait(timeout):
            message = "the task is being stopped, and has not ended yet"
            raise DeadlineExceeded(message)
        return task.record.status is TaskStatus.CANCELLED

    # --- numbers, for the status and the metrics: none of them waits for a lock

    @property
    def counts(self) -> dict[str, int]:
        """The number of tasks that have not ended, and of those that have since the process began, by status."""
        live = Counter(task.record.status.value for task in self._scheduler.queue.all())
        return {**live, **self._ended}  # one whose end is being written is among both

    @property
    def waiting(self) -> dict[str, tuple[int, float]]:
        """How many tasks of each server wait for a turn or a retry, and since when the first of them was accepted."""
        now, waiting = time.monotonic(), dict[str, tuple[int, float]]()
        for task in self._scheduler.queue.all():
            if task.turn is None:
                number, age = waiting.get(task.server, (0, 0.0))
                waiting[task.server] = number + 1, max(age, now - task.ends + task.record.time_limit)
        return waiting

    @property
    def retries(self) -> Mapping[str, int]:
        """The number of attempts that failed and were followed by another one, by server."""
        return dict(self._scheduler.retries)

    @property
    def can_be_accepted(self) -> bool:
        """Whether no trouble is known that keeps tasks from being written."""
        return self._store.is_writable

    def _shown(self, task_id: str) -> dict[str, Any] | None:
        """Return the status document of a task that has not ended."""
        with self._scheduler.lock:
            task = self._scheduler.queue.find(task_id)
            if task is None:
                return None
            return document(task.record, task.rate.value if task.state is TaskState.RUNNING else None)

    def _run(self, task: LiveTask) -> None:
        self._attempts.run(task)
