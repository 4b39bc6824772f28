"""A ledger from before the names of files were part of a route: what a rule with `rename` has delivered stays known.

The rows are those that the code of db1f944 has written for `OLD`, and for a task with the same folders.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from iot.sftp.client import Direction, FileVersion, OwedMarkers
from iot.sftp.client._base.settings import Secret, ServerSettings
from iot.sftp.module._documents.orders import folder_order
from iot.sftp.module._documents.rule import Rule
from iot.sftp.module._work.delivery_ledger import DeliveryLedger
from iot.sftp.module._work.delivery_ledgers import DeliveryLedgers
from iot.sftp.module._work.delivery_tables import NAME, UNUSED_KEPT
from iot.sftp.module._work.folder_delivery import FolderDelivery

OLD = {"name": "a", "direction": "download", "source": "in", "dest": "got", "rename": "{date:%Y}-{name}"}
SERVER: Any = SimpleNamespace(settings=ServerSettings("sftp.example.com", 22, "device", Secret("x")))
VERSION = FileVersion(3, 1_790_000_000_000_000_000)
FILE = """
CREATE TABLE deliveries (
    ledger TEXT NOT NULL, path BLOB NOT NULL,
    size INTEGER, modified INTEGER, changed INTEGER, device INTEGER, inode INTEGER,
    is_proof INTEGER NOT NULL, home INTEGER, missed INTEGER NOT NULL, seen REAL NOT NULL,
    PRIMARY KEY (ledger, path)
) WITHOUT ROWID;
CREATE TABLE failures (
    ledger TEXT NOT NULL, path BLOB NOT NULL, version TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (ledger, path)
) WITHOUT ROWID;
CREATE TABLE file_events (sequence INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL);
CREATE TABLE identity (id TEXT NOT NULL);
INSERT INTO identity VALUES ('40ca55b89127');
CREATE TABLE ledgers (ledger TEXT PRIMARY KEY, task TEXT, used REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE owed_markers (
    ledger TEXT NOT NULL, dest BLOB NOT NULL, path BLOB NOT NULL, sha256 TEXT NOT NULL,
    PRIMARY KEY (ledger, dest)
) WITHOUT ROWID;
CREATE TABLE places (
    ledger TEXT NOT NULL, path BLOB NOT NULL, place BLOB NOT NULL,
    size INTEGER, modified INTEGER, changed INTEGER, device INTEGER, inode INTEGER,
    PRIMARY KEY (ledger, path)
) WITHOUT ROWID;
CREATE TABLE usage (seconds REAL NOT NULL);
INSERT INTO usage VALUES (1000.5);
INSERT INTO ledgers VALUES ('bcd32d871a6eacccb396608b693b39a3', NULL, 1000.5);
INSERT INTO deliveries VALUES
    ('bcd32d871a6eacccb396608b693b39a3', X'612E637376', 3, 1790000000000000000, NULL, NULL, NULL, 1, NULL, 0, 1000.5);
INSERT INTO failures VALUES
    ('bcd32d871a6eacccb396608b693b39a3', X'622E637376', '[3, 1790000000000000000, null, null, null]', 1);
INSERT INTO owed_markers VALUES
    ('bcd32d871a6eacccb396608b693b39a3', X'676F742F323032352D612E637376', X'612E637376', '0');
INSERT INTO places VALUES
    ('bcd32d871a6eacccb396608b693b39a3', X'612E637376', X'323032352D612E637376', 3, 1790000000000000000, NULL,
    NULL, NULL);
PRAGMA user_version = 2;
"""


@pytest.fixture
def ledgers(tmp_path: Path) -> DeliveryLedgers:
    with closing(sqlite3.connect(tmp_path / NAME)) as connection:
        connection.executescript(FILE)
    return DeliveryLedgers(tmp_path)


def ledger_of(ledgers: DeliveryLedgers, **changes: Any) -> DeliveryLedger:
    """Return the ledger of a rule like the old one."""
    rule = Rule.model_validate({**OLD, **changes})
    order = folder_order(Direction.DOWNLOAD, rule)
    delivery = FolderDelivery(order, "sftp", ledgers, None, None, rule.dest.identity())
    ledger, _ = delivery.open_ledger(SERVER, is_careful=False)
    assert ledger is not None
    return ledger


def test_what_was_delivered_under_other_names_is_known_with_all_that_belongs_to_it(ledgers: DeliveryLedgers) -> None:
    ledger = ledger_of(ledgers)
    assert ledger.knows("a.csv", VERSION)
    assert ledger.place_of("a.csv", lambda _path: "decided again") == "2025-a.csv"
    assert ledger.markers.owed("") == [OwedMarkers("a.csv", "got/2025-a.csv", "0")]
    assert ledger.failures.add("b.csv", VERSION) == 2


def test_all_that_have_shared_a_ledger_know_what_is_in_it(ledgers: DeliveryLedgers) -> None:
    assert ledger_of(ledgers, rename=None).knows("a.csv", VERSION)
    assert ledger_of(ledgers).knows("a.csv", VERSION)
    assert ledger_of(ledgers, rename="x-{name}").knows("a.csv", VERSION)


def test_from_then_on_each_has_a_ledger_of_its_own(ledgers: DeliveryLedgers) -> None:
    ledger_of(ledgers).note("new.csv", VERSION)
    ledger_of(ledgers, rename=None).note("newer.csv", VERSION)
    assert not ledger_of(ledgers, rename=None).knows("new.csv", VERSION)
    assert not ledger_of(ledgers).knows("newer.csv", VERSION)
    ledger_of(ledgers, source="elsewhere", rename=None).note("a.csv", VERSION)
    assert not ledger_of(ledgers, source="elsewhere").knows("a.csv", VERSION)


def test_a_rule_that_comes_long_after_the_upgrade_delivers_all_that_it_finds(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / NAME)) as connection:
        connection.executescript(FILE)
    now = time.monotonic()
    ledgers = DeliveryLedgers(tmp_path, clock=lambda: now)
    for _ in range(3):
        assert ledger_of(ledgers, rename=None).knows("a.csv", VERSION)
        now += UNUSED_KEPT / 2
    assert not ledger_of(ledgers).knows("a.csv", VERSION)
