"""Write tasks into the journal, also what it does not take at first."""

from __future__ import annotations

import logging
import math
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from iot.sftp.client import Internal, SFTPError
from iot.sftp.module._work.task_limits import USE_PERIOD
from iot.sftp.module._work.task_record import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from iot.sftp.module._work.journal import Journal
    from iot.sftp.module._work.task_record import RequestRecord, TaskRecord

GATHERED_MOST = 2.0  # seconds after which it is written that a transfer was started, if nothing else was written

_log = logging.getLogger(__name__)


class TaskStore:
    """The journal of tasks, whose troubles stop no task; thread-safe.

    The end of a task that could not be written is kept in memory, and written later. That a task is completed is on the
    disk before that is reported, and not sooner: so the next task that is accepted has it synced with its own
    acceptance. That the transfer of a file was started is gathered in memory: its end mostly takes its place; else the
    next task that is accepted has it written with its own acceptance, and so has `settle`, and whoever reads.

    `_lock` protects what is not written, and is held for moments: never while the journal is used. `_writing` is held
    while a task is written, so that nothing older is written over its end.
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
        self._writing = threading.Lock()
        self._unsaved: dict[str, TaskRecord] = {}  # what is not in the journal yet, by the task's id
        self._write_at = math.inf  # when it is to be there, in time.monotonic(), if nobody has asked for it
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
        with self._writing:
            changed = self._gathered()
            known = self._journal.add(record, request_id, fingerprint, changed=changed)
            if known is None:
                self._note_saved(changed)
        return known

    def get(self, task_id: str) -> TaskRecord | None:
        """Return the record of a task that has ended; `None` if there is none.

        Raises:
            SFTPError: the journal cannot be read.
        """
        with self._lock:
            record = self._unsaved.get(task_id)
        if record is not None:
            with suppress(SFTPError):  # logged by the journal; nothing but memory has it then
                self._write_gathered()
                self._journal.sync()
        elif task_id.isprintable():  # other ids are none of ours, and SQLite may not take them
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
            self._write_gathered()
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
            return task_id in self._unsaved and self._unsaved[task_id].finished is not None

    def save(self, record: TaskRecord, *, durable: bool = False) -> None:
        """Write what has changed about a task, or gather it; its end is written later if that is not possible now.

        A failure and a cancellation are durable. A completion is when `settle` returns, or what is read here.
        """
        if not durable and _can_be_gathered(record):
            with self._lock:
                self._unsaved[record.task_id] = replace(record, details=dict(record.details))  # it goes on changing
                self._write_at = min(self._write_at, time.monotonic() + GATHERED_MOST)
            return
        is_durable = durable or record.status in {TaskStatus.FAILED, TaskStatus.CANCELLED}
        with self._writing:
            with self._lock:
                self._unsaved.pop(record.task_id, None)  # it is older
                if record.finished is not None:
                    self._unsaved[record.task_id] = record
            if not self._has_saved([record], durable=is_durable):
                return
        if record.finished is not None:
            self._on_saved_end(is_durable)

    def _gathered(self) -> list[TaskRecord]:
        with self._lock:
            return [record for record in self._unsaved.values() if _can_be_gathered(record)]

    def _write_gathered(self) -> None:
        with self._writing:
            records = self._gathered()
            if records:
                self._save(records)

    def _has_saved(self, records: list[TaskRecord], *, durable: bool) -> bool:
        try:
            self._save(records, durable=durable)
        except SFTPError:  # logged by the journal: whatever it is, the task goes on and has an end
            return False
        return True

    def _save(self, records: list[TaskRecord], *, durable: bool = False) -> None:
        try:
            self._journal.save(*records, durable=durable)
        except Exception as error:
            self._retry_at = time.monotonic() + self._pause
            if isinstance(error, SFTPError):
                raise
            message = "internal error of the journal"
            _log.exception(message)
            raise Internal(message) from error
        self._note_saved(records)

    def _note_saved(self, records: Iterable[TaskRecord]) -> None:
        with self._lock:
            for record in records:
                if self._unsaved.get(record.task_id) is record:  # and nothing newer
                    del self._unsaved[record.task_id]
                if record.finished is not None:
                    self._unsettled.append(record.task_id)
            if not self._unsaved:
                self._write_at = math.inf

    def settle(self) -> list[str]:
        """Have all ends on the disk; return the ids of the tasks whose ends were not, each once.

        Raises:
            SFTPError: the journal cannot be used.
        """
        self._write_gathered()
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
            unsaved = [record for record in self._unsaved.values() if not _can_be_gathered(record)]
        if self._journal.generation != self._generation and self.is_loaded:
            unsaved += live
        self._generation = self._journal.generation
        for record in unsaved:
            self.save(record, durable=True)
        if time.monotonic() >= self._write_at:
            with suppress(SFTPError):  # logged by the journal
                self._write_gathered()
        return True

    def wait_until(self, now: float) -> float:
        """Return when to look after the journal again: in a while at the latest, as its file may be deleted."""
        return min(at for at in (now + self._pause, self._retry_at, self._write_at) if at > now)

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


def _can_be_gathered(record: TaskRecord) -> bool:
    """Return whether it does no harm if a crash takes away what has changed."""
    return record.status is TaskStatus.RUNNING and record.code is None and record.starts_alike


def _remaining(record: TaskRecord, use: float) -> float:
    """Return the seconds that a task of an earlier process has left; no clock that was set takes any of them away."""
    return record.time_limit if record.used is None else record.time_limit - max(0.0, use - record.used)
