"""Make one attempt of a task, and decide from its outcome what follows: its end, or another attempt."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from iot.sftp.client import DeadlineExceeded, Internal, SFTPError, TransferIncomplete, error_for_code
from iot.sftp.client._base.text import excerpt, shortened
from iot.sftp.module._base.logging import about, subject
from iot.sftp.module._base.wording import describe, internal_error
from iot.sftp.module._work.live_task import Job, LiveTask, StopReason
from iot.sftp.module._work.task_limits import INCOMPLETE_ATTEMPTS, MESSAGE_MAXIMUM
from iot.sftp.module._work.task_record import TaskStatus

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from iot.sftp.module._work.live_task import TaskOutcome, TaskProgress
    from iot.sftp.module._work.task_scheduler import TaskScheduler
    from iot.sftp.module._work.task_store import TaskStore

_log = logging.getLogger(__name__)


class TaskAttempts:
    """Runs tasks in the threads of the scheduler, whose lock it takes for each change to a task."""

    def __init__(
        self,
        scheduler: TaskScheduler,
        store: TaskStore,
        work: Callable[[Job], TaskOutcome],
        on_failure: Callable[[str, str, str], None],
        ended: Counter[str],
    ) -> None:
        """Take what attempts need.

        Parameters:
            scheduler: takes a task back whose attempt has ended.
            store: where changes are written.
            work: makes the attempt, blocking; returns its outcome or raises an `SFTPError`.
            on_failure: takes each attempt that failed: what, the code and the message; must not block.
            ended: counts the tasks that have ended, by their status.
        """
        self._scheduler = scheduler
        self._store = store
        self._work = work
        self._on_failure = on_failure
        self._ended = ended

    def run(self, task: LiveTask) -> None:
        """Make one attempt; blocks for as long as it takes."""
        with subject(task.name):
            try:
                code, message = self._attempt(task)
                task.attempts += 1
                task.is_in_doubt = task.is_in_doubt or (code is not None and error_for_code(code).leaves_doubt)
                if message is not None:
                    message = excerpt(message, MESSAGE_MAXIMUM)
                self._settle(task, code, message)
            except Exception:  # noqa: BLE001 - whatever it is, the task is not left without an end
                _log.exception("task %s: internal error of the scheduler", task.record.task_id)
                self.end(task, TaskStatus.FAILED, Internal.code, _internal(task))

    def end(self, task: LiveTask, status: TaskStatus, code: str | None = None, message: str | None = None) -> None:
        """Give a task its end: log it, write it, and have the scheduler forget the task."""
        record = task.record
        with self._scheduler.lock:
            record.status, record.result = status, status is TaskStatus.COMPLETED
            record.code, record.message, record.finished = code, message, time.time()
            if record.started is not None:  # a clock that was set meanwhile must not make it end before it began
                record.finished = max(record.started, record.finished)
            self._ended[status.value] += 1
        if status is TaskStatus.FAILED:
            self._on_failure(task.description, code or "", message or "")
        _log_end(task)
        self._store.save(record)
        self._scheduler.remove(task)

    def cancel(self, task: LiveTask) -> None:
        """End a task that somebody has cancelled."""
        self.end(task, TaskStatus.CANCELLED, message="it was cancelled")

    def give_up(self, task: LiveTask) -> None:
        """End a task whose time limit is over."""
        record = task.record
        last = f"; the last attempt: {record.code}: {record.message}" if record.code is not None else ""
        message = f"the task did not end within its time limit of {record.time_limit:g} s{last}"
        self.end(task, TaskStatus.FAILED, DeadlineExceeded.code, shortened(message, MESSAGE_MAXIMUM))

    def _attempt(self, task: LiveTask) -> tuple[str | None, str | None]:
        """Do the work once; return the code and the message of its failure, if it failed."""
        record = task.record
        if record.started is None:
            record.status, record.started = TaskStatus.RUNNING, time.time()
            self._store.save(record)
        report = partial(self._note, task)
        job = Job(
            record.method,
            record.request,
            task.attempts,
            report,
            task.cancelled,
            record.task_id,
            record.server,
            task.is_in_doubt,
            dict(record.details),
        )
        try:
            outcome = self._work(job)
        except SFTPError as error:
            return error.code, describe(error)
        except Exception:  # noqa: BLE001 - whatever it is, the task has an end
            _log.exception("internal error")
            return Internal.code, _internal(task)
        report(outcome.progress)
        return outcome.code, outcome.message

    def _note(self, task: LiveTask, progress: TaskProgress) -> None:
        with self._scheduler.lock:
            record = task.record
            record.bytes, record.total_bytes = progress.bytes, progress.total_bytes
            record.code = record.message = None  # of the attempt before
            newly_deleted = progress.details.get("deleted", 0) - record.details.get("deleted", 0)
            record.details.update(progress.details)
            task.rate.note(progress.bytes)
            task.slice.note(progress.bytes, files=progress.details.get("files", newly_deleted))

    def _settle(self, task: LiveTask, code: str | None, message: str | None) -> None:
        """Do what follows from the outcome of an attempt."""
        if code is None:
            with self._scheduler.lock:
                self._scheduler.note_success(task.server)
            self.end(task, TaskStatus.COMPLETED)
        elif not self._goes_on(task, code, message):
            if task.stop_reason is StopReason.CANCELLED:
                self.cancel(task)
            elif task.stop_reason is StopReason.OVERDUE:
                self.give_up(task)
            else:
                self.end(task, TaskStatus.FAILED, code, message)

    def _goes_on(self, task: LiveTask, code: str, message: str | None) -> bool:
        """Hand a task back to the scheduler for another attempt, unless it has to end."""
        if code == TransferIncomplete.code:
            task.incomplete += 1
        with self._scheduler.lock:
            if task.stop_reason in {StopReason.PREEMPTED, StopReason.SHUTDOWN}:
                self._scheduler.go_on_later(task)
                return True
            is_final = task.stop_reason is not None or not error_for_code(code).retry.is_automatic
            if is_final or task.incomplete >= INCOMPLETE_ATTEMPTS:
                return False
            task.record.code, task.record.message = code, message
            seconds = self._scheduler.retry_later(task, code)
        _log.warning("it is tried again in %.1f s: %s: %s", seconds, code, message)
        self._on_failure(task.description, code, message or "")
        self._store.save(task.record)
        return True


def _internal(task: LiveTask) -> str:
    return internal_error(f"task {task.record.task_id}")


def _log_end(task: LiveTask) -> None:
    record = task.record
    level = logging.WARNING if record.status is TaskStatus.FAILED else logging.INFO
    place = f"{task.paths}: " if task.paths else ""
    reason = "" if record.code is None else f": {record.code}: {record.message}"
    attempts = f"{task.attempts} attempt{'' if task.attempts == 1 else 's'}"
    with subject(task.name):
        _log.log(level, "%s%s%s (%s)", place, record.status.value, reason, attempts, extra=about(task.name))
