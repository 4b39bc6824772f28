"""What is written to the flash: small pages in new files, and old files go on as they are."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

from iot.sftp.client import FileVersion
from iot.sftp.module._work.delivery_ledger import DeliveryLedgers
from iot.sftp.module._work.delivery_tables import NAME
from iot.sftp.module._work.journal import Journal
from iot.sftp.module._work.task_record import TaskStatus, new_task

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


def test_a_task_takes_less_than_fourteen_kilobytes(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    log, number = tmp_path / "tasks.sqlite3-wal", 50
    journal.count_use()
    before = log.stat().st_size
    for _ in range(number):
        record = new_task("upload_file", {"source": "out/00001", "dest": "in/", "background": True}, 86_400)
        journal.add(record)
        journal.save(replace(record, status=TaskStatus.RUNNING, started=1.0))
        journal.save(replace(record, status=TaskStatus.COMPLETED, started=1.0, finished=2.0, result=True))
        (message,) = journal.messages.unsent("tasks", 2)
        journal.messages.confirm(message)
    assert (log.stat().st_size - before) / number < 14 * 1_024
    journal.close()


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
