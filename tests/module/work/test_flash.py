"""What is written to the flash: small pages in new files, and old files go on as they are."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from iot.sftp.client import FileVersion, SFTPError
from iot.sftp.module._work.delivery_ledgers import DeliveryLedgers
from iot.sftp.module._work.delivery_tables import NAME
from iot.sftp.module._work.journal import Journal
from iot.sftp.module._work.task_record import TaskStatus, new_task
from iot.sftp.module._work.task_store import GATHERED_MOST, TaskStore

VERSION = FileVersion(10, 1_600_000_000_000_000_000)


def page_of(path: Path) -> int:
    connection = sqlite3.connect(path)
    (page,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    return int(page)


def test_a_delivery_takes_less_than_two_kilobytes(tmp_path: Path) -> None:
    ledgers = DeliveryLedgers(tmp_path)
    ledger = ledgers.of("upload", "out", "in")
    ledger.note("first", VERSION)
    log = tmp_path / f"{NAME}-wal"
    before = log.stat().st_size
    for number in range(100):
        ledger.note(f"file-{number:05}", VERSION)
    assert (log.stat().st_size - before) / 100 < 2_048
    ledgers.close()


def test_a_file_that_an_earlier_version_has_begun_is_used_as_it_is(tmp_path: Path) -> None:
    ledgers = DeliveryLedgers(tmp_path)
    ledgers.of("upload", "out", "in").note("first", VERSION)
    ledgers.close()
    connection = sqlite3.connect(tmp_path / NAME)
    for statement in ("PRAGMA journal_mode = DELETE", "PRAGMA page_size = 4096", "VACUUM"):
        connection.execute(statement)
    connection.close()
    assert page_of(tmp_path / NAME) == 4096

    ledgers = DeliveryLedgers(tmp_path)
    ledger = ledgers.of("upload", "out", "in")

    assert ledger.knows("first", VERSION)
    ledger.note("second", VERSION)
    assert ledger.knows("second", VERSION)
    ledgers.close()
    assert page_of(tmp_path / NAME) == 4096


@pytest.mark.parametrize("together, kilobytes", [(1, 3.5), (10, 3)])
def test_a_task_takes_few_kilobytes(tmp_path: Path, together: int, kilobytes: float) -> None:
    journal = Journal(tmp_path)
    tasks = TaskStore(journal, 1.0, lambda _is_synced: None)
    log, number = tmp_path / "tasks.sqlite3-wal", 50
    journal.count_use()
    before = log.stat().st_size
    for _ in range(number // together):
        for _ in range(together):
            record = new_task("upload_file", {"source": "out/00001", "dest": "in/", "background": True}, 86_400)
            tasks.add(record, None, "")
            tasks.save(replace(record, status=TaskStatus.RUNNING, started=1.0))
            tasks.save(replace(record, status=TaskStatus.COMPLETED, started=1.0, finished=2.0, result=True))
        tasks.settle()
        messages = journal.messages.unsent("tasks", number, journal.messages.sync())
        assert len(messages) == together
        journal.messages.confirm(*messages)
    assert (log.stat().st_size - before) / number < kilobytes * 1_024
    tasks.close()


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The syncs beside those of durable transactions, which SQLite makes itself."""
    made: list[int] = []
    monkeypatch.setattr(os, "fsync", made.append)
    return made


def complete(tasks: TaskStore) -> str:
    record = new_task("upload_file", {"source": "out/00001", "dest": "in/"}, 86_400)
    tasks.add(record, None, "")
    tasks.save(replace(record, status=TaskStatus.COMPLETED, started=1.0, finished=2.0, result=True))
    return record.task_id


def test_the_next_task_has_the_end_of_the_last_one_on_the_disk(tmp_path: Path, syncs: list[int]) -> None:
    tasks = TaskStore(Journal(tmp_path), 1.0, lambda _is_synced: None)
    ended = complete(tasks)
    tasks.add(new_task("upload_file", {}, 86_400), None, "")
    assert tasks.settle() == [ended]
    assert (syncs, tasks.settle()) == ([], [])
    tasks.close()


def test_a_completion_is_on_the_disk_before_anybody_is_told(tmp_path: Path, syncs: list[int]) -> None:
    tasks = TaskStore(Journal(tmp_path), 1.0, lambda _is_synced: None)
    tell: list[Callable[[str], object]] = [
        tasks.get,
        lambda _task_id: tasks.newest(1, None, ()),
        lambda _task_id: tasks.settle(),
    ]
    for number, each in enumerate(tell, 1):
        ended = complete(tasks)
        assert len(syncs) == number - 1
        assert each(ended)
        assert len(syncs) == number
    tasks.close()


def test_no_message_is_sent_about_an_end_that_may_not_be_on_the_disk(tmp_path: Path, syncs: list[int]) -> None:
    journal = Journal(tmp_path)
    first, second = (new_task("upload_file", {}, 86_400) for _ in range(2))
    journal.save(replace(first, status=TaskStatus.COMPLETED, finished=2.0))
    synced = journal.messages.sync()
    assert len(syncs) == 1
    journal.save(replace(second, status=TaskStatus.COMPLETED, finished=2.0))
    (message,) = journal.messages.unsent("tasks", 9, synced)
    assert message.message_id == f"{first.task_id}-Completed"
    journal.close()


def test_what_is_gathered_is_written_when_nobody_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, now = Journal(tmp_path), [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    tasks = TaskStore(journal, 10.0, lambda _is_synced: None)
    record = new_task("upload_file", {}, 86_400)
    tasks.add(record, None, "")
    tasks.save(replace(record, status=TaskStatus.RUNNING, started=1.0))
    assert tasks.wait_until(now[0]) == now[0] + GATHERED_MOST
    for passed, status in ((GATHERED_MOST - 0.1, TaskStatus.NOT_STARTED), (0.2, TaskStatus.RUNNING)):
        now[0] += passed
        tasks.look_after([record])
        assert [found.status for found in journal.unfinished()] == [status]
    assert tasks.wait_until(now[0]) == now[0] + 10.0
    tasks.close()


def test_a_completion_outlives_a_crash_of_the_process_at_once(tmp_path: Path) -> None:
    """It is not done again, though nothing has asked for it, and nothing was synced."""
    tasks = TaskStore(Journal(tmp_path), 10.0, lambda _is_synced: None)
    record = new_task("upload_file", {}, 86_400)
    tasks.add(record, None, "")
    tasks.save(replace(record, status=TaskStatus.RUNNING, started=1.0))
    tasks.save(replace(record, status=TaskStatus.COMPLETED, started=1.0, finished=2.0, result=True))
    with sqlite3.connect(tmp_path / "tasks.sqlite3") as other:  # as the next process
        assert other.execute("SELECT status FROM tasks").fetchall() == [("Completed",)]
    other.close()
    tasks.close()


def test_a_start_that_is_gathered_is_not_written_over_an_end(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    tasks = TaskStore(journal, 10.0, lambda _is_synced: None)
    record = new_task("upload_file", {}, 86_400)
    tasks.add(record, None, "")
    tasks.save(replace(record, status=TaskStatus.RUNNING, started=1.0))
    tasks.save(replace(record, status=TaskStatus.FAILED, started=1.0, finished=2.0))
    assert tasks.settle() == [record.task_id]
    assert journal.unfinished() == []
    tasks.close()


def test_a_task_that_failed_or_was_cancelled_is_on_the_disk_at_once(tmp_path: Path, syncs: list[int]) -> None:
    tasks = TaskStore(Journal(tmp_path), 1.0, lambda _is_synced: None)
    for status in (TaskStatus.FAILED, TaskStatus.CANCELLED):
        tasks.save(replace(new_task("upload_file", {}, 86_400), status=status, finished=2.0))
        assert tasks.settle()
    assert not syncs
    tasks.close()


def test_an_end_stays_unsettled_where_the_disk_refuses_to_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(errno.EIO, "the card is gone")

    tasks = TaskStore(Journal(tmp_path), 1.0, lambda _is_synced: None)
    ended = complete(tasks)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        with pytest.raises(SFTPError):
            tasks.settle()
    assert tasks.settle() == [ended]
    tasks.close()


def test_use_time_is_written_now_and_then_and_known_to_the_second(tmp_path: Path) -> None:
    seconds = [0.0]
    journal = Journal(tmp_path, clock=lambda: seconds[0])
    used: list[float | None] = []
    for now in (3.0, 8.0, 60.0, 61.0):
        seconds[0] = now
        record = new_task("upload_file", {}, 60)
        journal.add(record)
        used.append(record.used)
    journal.close()
    assert used == [3.0, 8.0, 60.0, 61.0]
    assert Journal(tmp_path, clock=lambda: 0.0).count_use() == 60.0
