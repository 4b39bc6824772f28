"""Do for tasks what is due: time limits, retries, and what the journal did not take."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iot.sftp.module._work.task_attempts import TaskAttempts
    from iot.sftp.module._work.task_scheduler import TaskScheduler
    from iot.sftp.module._work.task_store import TaskStore

_log = logging.getLogger(__name__)


class TaskTimer:
    """A thread that sleeps until something is due."""

    def __init__(
        self, scheduler: TaskScheduler, store: TaskStore, attempts: TaskAttempts, pause_after_error: float
    ) -> None:
        """Take the parts; `start` begins.

        Parameters:
            scheduler: knows what is due.
            store: is looked after.
            attempts: ends tasks that are overdue.
            pause_after_error: seconds.
        """
        self._scheduler = scheduler
        self._store = store
        self._attempts = attempts
        self._pause_after_error = pause_after_error

    def start(self) -> None:
        """Load the tasks of an earlier process, and start the thread; blocks while the journal is read."""
        self._load()
        threading.Thread(target=self._run, name="tasks", daemon=True).start()

    def _run(self) -> None:
        while not self._scheduler.is_stopping:
            try:
                self._do_what_is_due()
            except Exception:  # noqa: BLE001 - whatever it is, the time limits of the tasks stay in force
                _log.exception("internal error of the scheduler")
                now = time.monotonic()
                self._scheduler.wait(now, now + self._pause_after_error)

    def _do_what_is_due(self) -> None:
        if self._store.is_due():
            self._look_after_journal()
        now = time.monotonic()
        overdue = self._scheduler.start_due(now)
        for task in overdue:
            self._attempts.give_up(task)
        if not overdue:
            self._scheduler.wait(now, self._store.wait_until(now))

    def _look_after_journal(self) -> None:
        can_be_used = self._store.look_after(task.record for task in self._scheduler.queue.all())
        if can_be_used and not self._store.is_loaded:
            self._load()

    def _load(self) -> None:
        """Take the tasks of an earlier process, except for those that are here already."""
        loaded = self._store.load()
        with self._scheduler.lock:
            new = [
                (record, remaining)
                for record, remaining in loaded
                if not self._scheduler.queue.is_known(record.task_id) and not self._store.is_unsaved(record.task_id)
            ]
        for record, remaining in new:
            self._scheduler.add(record, remaining)
        if new:
            _log.info("%d tasks from before the restart go on", len(new))
