"""What is written to the flash: small pages in new files, and old files go on as they are."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from iot.sftp.client import FileVersion
from iot.sftp.module._work.delivery_ledger import DeliveryLedgers
from iot.sftp.module._work.delivery_tables import NAME

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
