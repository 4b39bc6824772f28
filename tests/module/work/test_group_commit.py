"""Threads that write at the same time share a transaction; each knows how it ended before it goes on."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from iot.sftp.client import NoSpace, SFTPError
from iot.sftp.module._work.delivery_tables import SCHEMA
from iot.sftp.module._work.group_commit import GroupCommit
from iot.sftp.module._work.sqlite_file import SQLiteFile

THREADS = 8
LIMIT = 60.0  # seconds; bounds a hang


class CountingFile(SQLiteFile):
    """Counts its transactions, or refuses them."""

    transactions = 0
    refusal: SFTPError | None = None

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        if self.refusal is not None:
            raise self.refusal
        self.transactions += 1
        with super().transaction(durable=durable) as connection:
            yield connection


@pytest.fixture
def file(tmp_path: Path) -> CountingFile:
    return CountingFile(tmp_path, SCHEMA)


def add(name: str) -> Callable[[sqlite3.Connection], object]:
    return lambda connection: connection.execute("INSERT INTO ledgers (ledger, used) VALUES (?, 0)", (name,))


def names(file: SQLiteFile) -> list[str]:
    with file.transaction() as connection:
        return [name for (name,) in connection.execute("SELECT ledger FROM ledgers ORDER BY ledger")]


def written_while_the_file_is_in_use(
    file: CountingFile, writes: list[Callable[[sqlite3.Connection], object]]
) -> list[Future[None]]:
    """Have each write made by a thread of its own, all of them before the file is free."""
    group = GroupCommit(file, 0.0)
    with ThreadPoolExecutor(len(writes)) as threads:
        with file.transaction():
            file.transactions = 0
            futures = [threads.submit(group.write, write) for write in writes]
            end = time.monotonic() + LIMIT
            while len(group._waiting) < len(writes):
                assert time.monotonic() < end
                time.sleep(0.001)
        return futures


def test_threads_that_write_at_the_same_time_share_a_transaction(file: CountingFile) -> None:
    expected = [f"{number}" for number in range(THREADS)]
    for future in written_while_the_file_is_in_use(file, [add(name) for name in expected]):
        future.result()
    assert file.transactions == 1
    assert names(file) == expected


def test_a_write_that_fails_undoes_those_that_share_its_transaction_and_all_hear_of_it(file: CountingFile) -> None:
    writes = [add("a"), add("b"), add("b"), add("c")]
    errors = [future.exception() for future in written_while_the_file_is_in_use(file, writes)]
    assert all(isinstance(error, SFTPError) for error in errors)
    assert len(set(map(id, errors))) == len(errors)
    assert names(file) == []


def test_each_write_is_told_that_the_file_cannot_be_used(file: CountingFile) -> None:
    file.refusal = NoSpace("the disk is full")
    group = GroupCommit(file)
    for _ in range(2):
        with pytest.raises(NoSpace, match="the disk is full"):
            group.write(add("a"))
    file.refusal = None
    group.write(add("a"))
    assert names(file) == ["a"]


def test_who_writes_alone_waits_for_nobody(file: CountingFile) -> None:
    group = GroupCommit(file, 10 * LIMIT)
    begun = time.monotonic()
    for number in range(5):
        group.write(add(f"{number}"))
    assert time.monotonic() - begun < LIMIT
    assert len(names(file)) == 5


def test_what_is_handed_in_before_the_first_wait_is_one_transaction_and_waits_for_no_thread(file: CountingFile) -> None:
    group = GroupCommit(file, 10 * LIMIT)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(group.write, add("of another thread")).result()
    file.transactions = 0
    begun = time.monotonic()
    handed = [group.hand_in(add(f"{number}")) for number in range(5)]
    for each in handed:
        group.wait(each, is_complete=True)
    assert time.monotonic() - begun < LIMIT
    assert file.transactions == 1
    assert len(names(file)) == 6


def test_a_thread_that_waits_for_others_goes_on_with_the_first_complete_batch(file: CountingFile) -> None:
    group = GroupCommit(file, 10 * LIMIT)
    group.write(add("first"))
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(group.write, add(name)) for name in ("a", "b")]
        end = time.monotonic() + LIMIT
        while len(group._waiting) < 2 or not group._is_led:
            assert time.monotonic() < end
            time.sleep(0.001)
        group.wait(group.hand_in(add("c")), is_complete=True)
        for each in waiting:
            each.result(LIMIT)
    assert names(file) == ["a", "b", "c", "first"]


def test_each_of_a_batch_hears_that_it_is_not_written(file: CountingFile) -> None:
    file.refusal = NoSpace("the disk is full")
    group = GroupCommit(file)
    handed = [group.hand_in(add(name)) for name in ("a", "b")]
    for each in handed:
        with pytest.raises(NoSpace, match="the disk is full"):
            group.wait(each, is_complete=True)
    file.refusal = None
    assert names(file) == []
