"""What has arrived is known for as long as it is there, whatever the clocks, mounts and other rules do."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot.sftp.client import FileVersion, GrowthRecord, SFTPError
from iot.sftp.module._work.delivery_ledger import ABSENT_SCANS, DeliveryLedger
from iot.sftp.module._work.delivery_ledgers import DeliveryLedgers
from iot.sftp.module._work.delivery_tables import NAME, UNUSED_KEPT
from iot.sftp.module._work.growth_memory import ABSENT_KEPT
from iot.sftp.module._work.stored_version import signed

VERSION = FileVersion(1, 1_700_000_000_123_456_789, 1_700_000_001_000_000_001, 7, 42)
REMOTE = FileVersion(1, 1_700_000_000_000_000_000)


class Clock:
    """Counts the seconds of a process, as `time.monotonic` does."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def look(ledger: DeliveryLedger, *found: str, version: FileVersion = VERSION) -> list[str]:
    """Look at a folder in which these files are; return those that are known."""
    known = [path for path in found if ledger.knows(path, version)]
    ledger.end_scan(is_complete=True)
    return known


def test_a_file_that_was_removed_is_created_again(tmp_path: Path) -> None:
    ledgers = DeliveryLedgers(tmp_path / "state")
    ledgers.of("a").note("1", VERSION)
    (tmp_path / "state").rename(tmp_path / "away")
    ledger = ledgers.of("a")
    assert not ledger.knows("1", VERSION)
    ledger.note("2", VERSION)
    ledgers.close()
    assert DeliveryLedgers(tmp_path / "state").of("a").knows("2", VERSION)


def test_a_directory_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SFTPError, match="to remember what was delivered"):
        DeliveryLedgers(tmp_path / "file").of("a")


@pytest.mark.parametrize(
    "other, is_same",
    [
        (VERSION, True),
        (VERSION._replace(device=8), True),  # mounted again, or after a boot
        (VERSION._replace(size=2), False),
        (VERSION._replace(modified=VERSION.modified and VERSION.modified + 1), False),
        (VERSION._replace(inode=43), False),
        (VERSION._replace(modified=None, changed=None), True),  # by a listing that does not tell times
        (VERSION._replace(changed=5), False),
    ],
)
def test_versions_differ_by_all_that_is_known_but_the_device(
    tmp_path: Path, other: FileVersion, *, is_same: bool
) -> None:
    ledgers = DeliveryLedgers(tmp_path)
    ledgers.of("a").note("1", VERSION)
    assert ledgers.of("a", is_strict=True).knows("1", other) is is_same
    assert ledgers.of("a", verifies=True).knows("1", other) is is_same


def test_a_file_with_only_a_new_change_time_is_left_to_a_careful_scan(tmp_path: Path) -> None:
    ledgers = DeliveryLedgers(tmp_path)
    ledgers.of("a").note("1", VERSION)
    touched = VERSION._replace(changed=5)
    first = ledgers.of("a")
    assert first.knows("1", touched)
    assert first.is_in_doubt
    careful = ledgers.of("a", verifies=True)
    assert not careful.knows("1", touched)
    assert not careful.is_in_doubt
    careful.note("1", touched)
    after = ledgers.of("a")
    assert after.knows("1", touched)
    assert not after.is_in_doubt


def test_of_a_remote_file_that_has_become_another_one_the_earlier_version_is_forgotten(tmp_path: Path) -> None:
    ledgers = DeliveryLedgers(tmp_path)
    ledgers.of("a").note("1", REMOTE)
    assert ledgers.of("a").knows("1", REMOTE)
    assert not ledgers.of("a").knows("1", REMOTE._replace(size=2))
    ledgers.close()
    assert not DeliveryLedgers(tmp_path).of("a").knows("1", REMOTE)


def test_a_listing_that_is_older_than_a_delivery_makes_nobody_forget_it(tmp_path: Path) -> None:
    ledger = DeliveryLedgers(tmp_path).of("a")
    ledger.note("1", REMOTE)
    assert not ledger.knows("1", REMOTE._replace(size=2))
    assert ledger.knows("1", REMOTE)


def test_a_local_file_that_is_another_one_for_a_while_is_known_when_it_is_back(tmp_path: Path) -> None:
    ledgers = DeliveryLedgers(tmp_path)
    ledgers.of("a").note("1", VERSION)
    assert not ledgers.of("a").knows("1", VERSION._replace(inode=43))
    assert ledgers.of("a").knows("1", VERSION)


def test_what_is_settled_is_not_known_any_more(tmp_path: Path) -> None:
    ledgers = DeliveryLedgers(tmp_path)
    ledger = ledgers.of("a", is_strict=True)
    assert not ledger.holds_any()
    ledger.note("1", VERSION)
    assert ledger.holds_any()
    ledger.settle("1")
    assert not ledger.holds_any()
    assert not ledger.knows("1", VERSION)


def test_a_ledger_holds_no_more_than_its_folder(tmp_path: Path) -> None:
    ledgers = DeliveryLedgers(tmp_path)
    for number in range(100):
        ledgers.of("a").note(f"{number}", VERSION)
    ledgers.of("b").note("1", VERSION)
    for _ in range(ABSENT_SCANS):
        assert look(ledgers.of("a"), "7", "8") == ["7", "8"]
    assert [number for number in range(100) if ledgers.of("a").knows(f"{number}", VERSION)] == [7, 8]
    assert ledgers.of("b").knows("1", VERSION)


def test_one_look_that_does_not_find_a_file_is_not_enough_to_forget_it(tmp_path: Path) -> None:
    ledgers = DeliveryLedgers(tmp_path)
    for name in "ab":
        ledgers.of("a").note(name, VERSION)
    for _ in range(3):  # it is there again before it is forgotten, again and again
        for _ in range(ABSENT_SCANS - 1):
            look(ledgers.of("a"), "a")
            ledgers.close()
        assert look(ledgers.of("a"), "a", "b") == ["a", "b"]


@pytest.mark.parametrize("found, is_complete", [((), True), (("a",), False)])
def test_a_look_that_found_nothing_or_failed_forgets_nothing(
    tmp_path: Path, found: tuple[str, ...], *, is_complete: bool
) -> None:
    ledgers = DeliveryLedgers(tmp_path)
    for name in "ab":
        ledgers.of("a").note(name, VERSION)
    for _ in range(3 * ABSENT_SCANS):
        ledger = ledgers.of("a")
        for name in found:
            ledger.knows(name, VERSION)
        ledger.end_scan(is_complete=is_complete)
    assert look(ledgers.of("a"), "a", "b") == ["a", "b"]


def test_a_look_forgets_only_what_it_would_have_found(tmp_path: Path) -> None:
    ledgers = DeliveryLedgers(tmp_path)
    for name in ("a.csv", "b.csv", "a.json", "b.json"):
        ledgers.of("a").note(name, VERSION)
    for _ in range(2 * ABSENT_SCANS):
        look(ledgers.of("a", covers=lambda path: path.endswith(".csv")), "a.csv")
    assert look(ledgers.of("a"), "a.csv", "b.csv", "a.json", "b.json") == ["a.csv", "a.json", "b.json"]


def test_deliveries_from_a_mount_or_folder_that_is_away_are_kept(tmp_path: Path) -> None:
    clock = Clock()
    ledgers = DeliveryLedgers(tmp_path, clock=clock)
    mounted = VERSION._replace(device=8)
    ledgers.of("a", home=2).note("kept", mounted)
    ledgers.of("a", home=3).note("former", VERSION)
    ledgers.of("a", home=2).note("here", VERSION)
    for _ in range(2 * ABSENT_SCANS):
        look(ledgers.of("a", home=2), "here")
    assert ledgers.of("a", home=2).knows("kept", mounted)
    assert ledgers.of("a", home=3).knows("former", VERSION)
    clock.now += UNUSED_KEPT + 1
    look(ledgers.of("a", home=2), "here")
    assert not ledgers.of("a", home=2).knows("kept", mounted)
    assert not ledgers.of("a", home=3).knows("former", VERSION)
    assert ledgers.of("a", home=2).knows("here", VERSION)


@pytest.mark.parametrize("jump", [-40 * 86_400, 40 * 86_400, -1_790_000_000, 15 * 365 * 86_400])
def test_a_clock_that_is_set_erases_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    for name in "ab":
        DeliveryLedgers(tmp_path).of(name).note("1", VERSION)
    now = time.time()
    for moment in (now + jump, now, now + jump):
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        ledgers = DeliveryLedgers(tmp_path)
        assert [look(ledgers.of(name), "1") for name in "ab"] == [["1"], ["1"]]
        ledgers.close()


def test_unused_ledgers_are_deleted_by_use_time_over_restarts(tmp_path: Path) -> None:
    lives = 10
    for life in range(lives):
        clock = Clock()
        ledgers = DeliveryLedgers(tmp_path, clock=clock)
        if life == 0:
            ledgers.of("gone").note("1", VERSION)
        ledgers.of("in force").note("1", VERSION)
        clock.now += UNUSED_KEPT / (lives - 1) + 1
        ledgers.of("in force")
        with sqlite3.connect(tmp_path / NAME) as connection:
            (count,) = connection.execute("SELECT count(*) FROM deliveries").fetchone()
        connection.close()
        assert count == (1 if life >= lives - 2 else 2)
        ledgers.close()


def test_the_ledger_of_a_task_goes_with_it(tmp_path: Path) -> None:
    ledgers = DeliveryLedgers(tmp_path)
    for task in ("1", "2"):
        ledgers.of("a", task, task=task).note("x", VERSION)
    ledgers.forget_task("1")
    assert not ledgers.of("a", "1", task="1").knows("x", VERSION)
    assert ledgers.of("a", "2", task="2").knows("x", VERSION)


# --- what 0.1.0 has left


def written_by_version_1(directory: Path, *way: object, path: bytes, size: int, modified: float | None) -> None:
    import hashlib  # noqa: PLC0415 - as version 1 did
    import json  # noqa: PLC0415 - the same

    rule = hashlib.sha256(json.dumps(way).encode()).hexdigest()[:32]
    with sqlite3.connect(directory / NAME) as connection:
        connection.executescript(
            "CREATE TABLE rules (rule TEXT PRIMARY KEY, run REAL NOT NULL) WITHOUT ROWID;"
            "CREATE TABLE sent (rule TEXT NOT NULL, path BLOB NOT NULL, size INTEGER NOT NULL, modified REAL,"
            " PRIMARY KEY (rule, path)) WITHOUT ROWID; PRAGMA user_version = 1;"
        )
        connection.execute("INSERT INTO rules VALUES (?, ?)", (rule, 1_600_000_000.0))
        connection.execute("INSERT INTO sent VALUES (?, ?, ?, ?)", (rule, path, size, modified))
    connection.close()


@given(nanoseconds=st.integers(0, 2**31 * 10**9))
def test_a_time_that_version_1_kept_as_a_float_is_recognised(
    tmp_path_factory: pytest.TempPathFactory, nanoseconds: int
) -> None:
    directory = tmp_path_factory.mktemp("state")
    seconds, rest = divmod(nanoseconds, 10**9)
    written_by_version_1(directory, "host", path=b"a", size=1, modified=seconds + 1e-9 * rest)
    ledgers = DeliveryLedgers(directory)
    assert ledgers.of("host").knows("a", VERSION._replace(modified=nanoseconds))
    assert not ledgers.of("host").knows("a", VERSION._replace(modified=nanoseconds + 10_000))
    ledgers.close()


def test_what_version_1_knew_is_no_proof_to_delete_anything(tmp_path: Path) -> None:
    written_by_version_1(tmp_path, "host", path=b"a \xff", size=1, modified=1_700_000_000.0)
    ledgers = DeliveryLedgers(tmp_path)
    name = os.fsdecode(b"a \xff")
    assert ledgers.of("host").knows(name, REMOTE)
    assert not ledgers.of("host").knows(name, REMOTE._replace(size=2))
    assert not ledgers.of("host", is_strict=True).knows(name, REMOTE)
    ledgers.of("host").note(name, REMOTE)
    assert ledgers.of("host", is_strict=True).knows(name, REMOTE)


def test_a_file_of_a_newer_version_is_not_used_and_not_touched(tmp_path: Path) -> None:
    ledgers = DeliveryLedgers(tmp_path)
    ledgers.of("a").note("1", VERSION)
    ledgers.close()
    with closing(sqlite3.connect(tmp_path / NAME)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = (tmp_path / NAME).read_bytes()
    older = DeliveryLedgers(tmp_path)
    for _ in range(2):
        with pytest.raises(SFTPError, match=r"a newer version of the module has made rules\.sqlite3"):
            older.of("a")
    older.close()
    assert (tmp_path / NAME).read_bytes() == before
    assert list(tmp_path.glob("*.set-aside-*")) == []


def test_a_file_that_is_found_damaged_at_work_is_set_aside(tmp_path: Path) -> None:
    ledgers = DeliveryLedgers(tmp_path)
    ledger = ledgers.of("a")
    ledger.note("1", VERSION)
    with sqlite3.connect(tmp_path / NAME) as connection:
        connection.execute("DROP TABLE deliveries")
    connection.close()
    with pytest.raises(SFTPError, match="to remember what was delivered"):
        ledger.knows("1", VERSION)
    assert not ledger.knows("1", VERSION)
    ledger.note("1", VERSION)
    assert ledger.knows("1", VERSION)
    assert len(list(tmp_path.glob(f"{NAME}.set-aside-*Z"))) == 1


@given(number=st.integers(0, 2**64 - 1))
def test_any_number_of_64_bits_is_told_from_all_others(number: int) -> None:
    folded = signed(number)
    assert folded is not None
    assert -(2**63) <= folded < 2**63
    assert folded % 2**64 == number


def test_the_place_of_a_file_that_is_gone_before_it_arrived_is_forgotten(tmp_path: Path) -> None:
    ledgers = DeliveryLedgers(tmp_path)

    def places(*found: str, device: int = 7) -> list[str]:
        """Look at a folder in which these files are, take those that have not arrived, and return whose place is kept.

        Each place is chosen anew that is not known any more.
        """
        ledger = ledgers.of("a", has_places=True)
        for path in found:
            if not ledger.knows(path, VERSION._replace(device=device)):
                assert ledger.place_of(path, lambda path: f"day-1/{path}") == f"day-1/{path}"
        ledger.end_scan(is_complete=True)
        with sqlite3.connect(tmp_path / NAME) as connection:
            return [os.fsdecode(path) for (path,) in connection.execute("SELECT path FROM places ORDER BY path")]

    assert places("1", "2", "3") == ["1", "2", "3"]
    ledgers.of("a", has_places=True).note("1", VERSION)
    assert places("2", "4", device=8) == ["1", "2", "3", "4"]  # the file system of the others may be missing
    assert places("2", "4") == ["1", "2", "4"]
    assert ledgers.of("a", has_places=True).place_of("2", lambda _: "day-2/2") == "day-1/2"


def test_of_files_that_have_arrived_a_scan_keeps_no_version_in_memory(tmp_path: Path) -> None:
    ledgers = DeliveryLedgers(tmp_path)
    ledger = ledgers.of("a", has_places=True)
    for path in ("1", "2"):
        assert not ledger.knows(path, VERSION)
        ledger.place_of(path, lambda path: f"day-1/{path}")
        ledger.note(path, VERSION)
    ledger = ledgers.of("a", has_places=True)
    assert ledger.knows("1", VERSION)
    assert ledger._places is not None
    assert not ledger._places._seen
    assert ledger.place_of("1", lambda _: "day-2/1") == "day-1/1"


def test_whole_lines_are_a_delivery_for_those_who_deliver_lines_only(tmp_path: Path) -> None:
    ledgers = DeliveryLedgers(tmp_path)
    torn = VERSION._replace(size=10)
    ledgers.of("a", delivers_lines=True).note_growth("torn", GrowthRecord(6, "", ""), torn)
    ledgers.of("a", delivers_lines=True).note_growth("whole", GrowthRecord(10, "", ""), torn)
    assert look(ledgers.of("a", delivers_lines=True), "torn", "whole", version=torn) == ["torn", "whole"]
    for is_strict in (False, True):
        assert look(ledgers.of("a", is_strict=is_strict), "torn", "whole", version=torn) == ["whole"]
    assert ledgers.delivered.ledgers_of("out/whole", torn)
    assert not ledgers.delivered.ledgers_of("out/torn", torn)


def test_what_was_delivered_of_a_log_is_known_when_the_next_one_begins_long_after_it_was_rotated(
    tmp_path: Path,
) -> None:
    ledgers, growth = DeliveryLedgers(tmp_path / "state"), GrowthRecord(1, "full:", "")
    ledgers.of("a").note_growth("app.log", growth, VERSION)
    for _ in range(2 * ABSENT_SCANS):
        look(ledgers.of("a"), "app.log.1.gz")
    ledger = ledgers.of("a")
    assert ledger.growth("app.log") == growth
    assert not ledger.knows("app.log", VERSION)


def test_of_logs_that_are_gone_those_are_known_that_were_written_last(tmp_path: Path) -> None:
    clock, growth = Clock(), GrowthRecord(1, "full:", "")
    ledgers = DeliveryLedgers(tmp_path / "state", clock=clock)
    ledgers.of("a").note_growth("is there", growth, VERSION)
    ledgers.of("a").note_growth("of another pattern", growth, VERSION)
    for number in range(ABSENT_KEPT + 2):
        clock.now += 3_600
        ledgers.of("a").note_growth(f"{-number}.log", growth, VERSION)
    look(ledgers.of("a", covers=lambda path: "pattern" not in path), "is there")
    paths = ("is there", "of another pattern", "0.log", "-1.log", "-2.log")
    ledger = ledgers.of("a")
    assert [path for path in paths if ledger.growth(path)] == ["is there", "of another pattern", "-2.log"]


def test_a_ledger_that_did_not_know_when_growths_were_written_goes_on(tmp_path: Path) -> None:
    ledgers, growth = DeliveryLedgers(tmp_path / "state"), GrowthRecord(1, "full:", "", 42)
    ledgers.of("a").note_growth("app.log", growth, VERSION)
    ledgers.close()
    with closing(sqlite3.connect(tmp_path / "state" / NAME)) as connection, connection:
        columns = "ledger, path, length, digest, tail, inode, coming"
        connection.execute(f"CREATE TABLE kept ({columns}, PRIMARY KEY (ledger, path)) WITHOUT ROWID")
        connection.execute(f"INSERT INTO kept SELECT {columns} FROM growths")  # noqa: S608 - our names
        connection.execute("DROP TABLE growths")
        connection.execute("ALTER TABLE kept RENAME TO growths")
    ledger = DeliveryLedgers(tmp_path / "state").of("a")
    assert ledger.growth("app.log") == growth
    ledger.note_growth("app.log", growth, VERSION)
    assert ledger.growing_as(42) == ["app.log"]
