"""Write tasks into the journal, also what it does not take at first."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from iot.sftp.client import SFTPError
from iot.sftp.module._work.task_limits import USE_PERIOD
from iot.sftp.module._work.task_record import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from iot.sftp.module._work.journal import Journal
    from iot.sftp.module._work.task_record import RequestRecord, TaskRecord

_log = logging.getLogger(__name__)


class TaskStore:
    """The journal of tasks, whose troubles stop no task; thread-safe.

    The end of a task that could not be written is kept in memory, and written later. That a task is completed is on the
    disk before that is reported, and not sooner: so the next task that is accepted has it synced with its own
    acceptance. `_lock` protects `_unsaved` and `_unsettled`, and is held for moments: never while the journal is used.
    """

    def __init__(self, journal: Journal, pause: float, on_saved_end: Callable[[bool], None]) -> None:
        """Take the journal.

        Parameters:
            journal: where tasks are written.
            pause: seconds between two attempts to write what it did not take.
            on_saved_end: called when the end of a task is in the journal, from any thread, with whether it is on the
                disk; must not block. `settle` is to follow, soon if it is not.
        """
        self._journal = journal
        self._pause = pause
        self._on_saved_end = on_saved_end
        self._lock = threading.Lock()
        self._unsaved: dict[str, TaskRecord] = {}  # ends that are not in the journal yet
        self._unsettled: list[str] = []  # the ids of tasks whose ends are there, and maybe not on the disk
        self._retry_at = 0.0  # in time.monotonic()
        self._use_due = 0.0
        self._generation = 0  # of the file that the live tasks are in
        self.is_loaded = False  # whether what an earlier process has accepted is known

    @property
    def is_writable(self) -> bool:
        """Whether no trouble is known that keeps tasks from being written."""
        return self._journal.is_well

    def add(self, record: TaskRecord, request_id: str | None, fingerprint: str) -> RequestRecord | None:
        """Write a new task, durably; if its request id is known, nothing is written, and that is returned.

        Raises:
            SFTPError: the journal cannot be written.
        """
        return self._journal.add(record, request_id, fingerprint)

    def get(self, task_id: str) -> TaskRecord | None:
        """Return the record of a task that has ended; `None` if there is none.

        Raises:
            SFTPError: the journal cannot be read.
        """
        with self._lock:
            record = self._unsaved.get(task_id)
        if record is None and task_id.isprintable():  # other ids are none of ours, and SQLite may not take them
            record = self._journal.get(task_id)
            self._journal.sync()
        return record

    def newest(self, limit: int, after: str | None, live: Iterable[TaskRecord]) -> list[TaskRecord]:
        """Return the newest records first, or those that come after the task `after`.

        Parameters:
            limit: how many at most.
            after: a task's id.
            live: the tasks that have not ended, which are returned where the journal cannot be read.

        Raises:
            SFTPError: the journal could not be read so far, so that there may be tasks that are not known.
        """
        try:
            newest = self._journal.newest(limit, after)
            self._journal.sync()
        except SFTPError:
            if not self.is_loaded:
                raise
        else:
            return newest
        known = {record.task_id: record for record in live}
        with self._lock:
            known = self._unsaved | known
        records = sorted(known.values(), key=lambda record: record.accepted, reverse=True)
        names = [record.task_id for record in records]
        first = 0 if after is None else names.index(after) + 1 if after in names else len(names)
        return records[first : first + limit]

    def is_unsaved(self, task_id: str) -> bool:
        """Return whether a task has ended, and its end is not in the journal yet."""
        with self._lock:
            return task_id in self._unsaved

    def save(self, record: TaskRecord, *, durable: bool = False) -> None:
        """Write what has changed about a task; its end is written later if that is not possible now.

        A failure and a cancellation are durable. A completion is when `settle` returns, or what is read here.
        """
        is_durable = durable or record.status in {TaskStatus.FAILED, TaskStatus.CANCELLED}
        if record.finished is not None:
            with self._lock:
                self._unsaved[record.task_id] = record
        try:
            self._journal.save(record, durable=is_durable)
        except Exception as error:  # noqa: BLE001 - whatever it is, the task goes on and has an end
            if not isinstance(error, SFTPError):
                _log.exception("internal error of the journal")
            self._retry_at = time.monotonic() + self._pause
            return
        if record.finished is not None:
            with self._lock:
                self._unsaved.pop(record.task_id, None)
                self._unsettled.append(record.task_id)
            self._on_saved_end(is_durable)

    def settle(self) -> list[str]:
        """Have the ends that are in the journal on the disk; return the ids of these tasks, each once.

        Raises:
            SFTPError: the journal cannot be used.
        """
        with self._lock:
            settled, self._unsettled = self._unsettled, []
        try:
            self._journal.sync()
        except SFTPError:
            with self._lock:
                self._unsettled[:0] = settled
            raise
        return settled

    def load(self) -> list[tuple[TaskRecord, float]]:
        """Return the tasks of an earlier process that have not ended, with the seconds that each has left."""
        try:
            self._journal.prune()
            use = self._journal.count_use()
            records = self._journal.unfinished()
        except SFTPError:
            self._retry_at = time.monotonic() + self._pause
            return []
        self.is_loaded, self._generation = True, self._journal.generation
        return [(record, _remaining(record, use)) for record in records]

    def is_due(self) -> bool:
        """Return whether it is time to look after the journal."""
        return time.monotonic() >= self._retry_at

    def look_after(self, live: Iterable[TaskRecord]) -> bool:
        """Find out whether the journal can be used, and write what is not in it yet; return whether it can.

        Parameters:
            live: the tasks that have not ended: they are written again where somebody has deleted the file.
        """
        try:
            self._journal.retry()
        except SFTPError:
            self._retry_at = time.monotonic() + self._pause
            return False
        live = list(live)
        if live and time.monotonic() >= self._use_due:
            self._use_due = time.monotonic() + USE_PERIOD
            with suppress(SFTPError):  # logged by the journal
                self._journal.count_use()
        with self._lock:
            unsaved = list(self._unsaved.values())
        if self._journal.generation != self._generation and self.is_loaded:
            unsaved += live
        self._generation = self._journal.generation
        for record in unsaved:
            self.save(record, durable=True)
        return True

    def wait_until(self, now: float) -> float:
        """Return when to look after the journal again: in a while at the latest, as its file may be deleted."""
        latest = now + self._pause
        return min(latest, self._retry_at) if self._retry_at > now else latest

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


def _remaining(record: TaskRecord, use: float) -> float:
    """Return the seconds that a task of an earlier process has left; no clock that was set takes any of them away."""
    return record.time_limit if record.used is None else record.time_limit - max(0.0, use - record.used)
