"""What the journal has taken is there after a crash; what is wrong with its file is told and ends nothing."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iot.sftp.client import NoSpace, PermissionDenied, SFTPError
from iot.sftp.module._work.journal import (
    NAME,
    PRUNE_EVERY,
    REQUESTS_KEPT,
    TASKS_KEPT,
    VERSION,
    Journal,
)
from iot.sftp.module._work.sqlite_file import SET_ASIDE_KEPT
from iot.sftp.module._work.task_record import RequestRecord, TaskRecord, TaskStatus


def record_of(number: int, **fields: Any) -> TaskRecord:
    return TaskRecord(f"task-{number}", "download_file", {"source": f"s{number}", "dest": "d"}, 60.0, **fields)


def ended(number: int, **fields: Any) -> TaskRecord:
    return record_of(number, status=TaskStatus.COMPLETED, result=True, finished=time.time(), **fields)


@contextmanager
def other_process(directory: Path) -> Iterator[sqlite3.Connection]:
    """Use the file beside the journal, as another process would."""
    connection = sqlite3.connect(directory / NAME)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


TEXT = st.text(max_size=20)
JSON = st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT, st.lists, max_leaves=5)
RECORDS = st.builds(
    TaskRecord,
    task_id=st.uuids().map(str),
    method=st.sampled_from(["download_file", "upload_files"]),
    request=st.dictionaries(TEXT, JSON, max_size=4),
    time_limit=st.floats(1, 1e6),
    accepted=st.floats(0, 1e10),
    announce=st.booleans(),
    status=st.sampled_from([TaskStatus.NOT_STARTED, TaskStatus.RUNNING, TaskStatus.FAILED]),
    result=st.none() | st.booleans(),
    code=st.none() | st.just("not_found"),
    message=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
    bytes=st.integers(0, 2**62),
    total_bytes=st.none() | st.integers(0, 2**62),
    started=st.none() | st.floats(0, 1e10),
    finished=st.none(),
    details=st.dictionaries(TEXT, JSON, max_size=3),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(record=RECORDS)
def test_a_task_is_read_as_it_was_written(tmp_path: Path, record: TaskRecord) -> None:
    journal = Journal(tmp_path)
    journal.add(record)
    journal.close()
    assert Journal(tmp_path).get(record.task_id) == record


def test_unfinished_tasks_come_oldest_first_and_listings_newest_first(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path)
    for number in (3, 1, 2):
        journal.add(record_of(number))
    journal.save(ended(1))
    assert [record.task_id for record in journal.unfinished()] == ["task-3", "task-2"]
    assert [record.task_id for record in journal.newest(10)] == ["task-2", "task-1", "task-3"]
    assert [record.task_id for record in journal.newest(1, "task-2")] == ["task-1"]
    assert journal.newest(10, "nothing") == []


def test_the_message_about_an_end_is_kept_until_it_was_sent(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in range(4):
        journal.save(ended(number, announce=number != 2))
    messages = Journal(tmp_path).messages
    first, second = messages.unsent("tasks", 2)
    assert [json.loads(message.body)["task_id"] for message in (first, second)] == ["task-0", "task-1"]
    for message in (first, second):
        messages.confirm(message)
    assert [message.message_id for message in messages.unsent("tasks", 9)] == ["task-3-Completed"]


def test_an_end_that_0_1_0_has_left_to_be_sent_is_sent(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.save(ended(1))
    journal.close()
    with closing(sqlite3.connect(tmp_path / NAME)) as connection:
        # As 0.1.0 left it: the task itself is marked
        connection.executescript("UPDATE tasks SET announce = 1; DROP TABLE outbox; DROP TABLE calls;")
    assert [message.message_id for message in journal.messages.unsent("tasks", 9)] == ["task-1-Completed"]
    assert [message.message_id for message in Journal(tmp_path).messages.unsent("tasks", 9)] == ["task-1-Completed"]


def test_an_end_that_waits_as_a_message_in_the_outbox_is_sent(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.save(ended(1), ended(2))
    journal.close()
    with closing(sqlite3.connect(tmp_path / NAME)) as connection:  # as a snapshot of 1.0 has left it
        connection.executescript(
            "UPDATE tasks SET announce = 0;"
            "INSERT INTO outbox (output, message_id, body) VALUES ('tasks', 'task-2-Completed', '{}');"
            "INSERT INTO outbox (output, message_id, body) VALUES ('tasks', 'task-gone-Completed', '{}');"
        )
    messages = Journal(tmp_path).messages
    assert [message.message_id for message in messages.unsent("tasks", 9)] == ["task-2-Completed"]
    assert messages.counts["tasks"] == 1


def test_an_end_of_which_nobody_was_told_stays_while_room_is_made(tmp_path: Path) -> None:
    journal = Journal(tmp_path, size_maximum=1_000_000)
    journal.save(*(ended(number, details={"x": "y" * 10_000}) for number in range(5)))
    journal.save_request("large", RequestRecord("f", status=200, payload="x" * 800_000))
    journal.add(record_of(6))
    assert len(journal.messages.unsent("tasks", 9)) == 5
    journal.messages.confirm(*journal.messages.unsent("tasks", 9))
    journal.add(record_of(7))
    assert len(journal.newest(9)) == 4  # two that have ended


def test_a_request_id_makes_one_task_and_no_second(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.add(record_of(1), "id", "the call") is None
    known = journal.add(record_of(2), "id", "the call")
    assert known == RequestRecord("the call", task_id="task-1")
    assert journal.get("task-2") is None


def test_what_became_of_a_call_is_remembered(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.find_request("id") is None
    for request in (RequestRecord("f", begun=True), RequestRecord("f", status=404, payload={"result": False})):
        journal.save_request("id", request)
        assert Journal(tmp_path).find_request("id") == request


def test_the_history_is_bounded_by_count_and_what_has_not_ended_stays(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.add(record_of(-1))
    journal.save(ended(0))
    with other_process(tmp_path) as connection:  # at once what takes seconds one by one
        connection.execute("CREATE TEMPORARY TABLE more AS SELECT * FROM tasks WHERE task_id = 'task-0'")
        for number in range(1, TASKS_KEPT):
            connection.execute("UPDATE more SET sequence = NULL, task_id = ?", [f"task-{number}"])
            connection.execute("INSERT INTO tasks SELECT * FROM more")
    for number in range(TASKS_KEPT, TASKS_KEPT + 2 * PRUNE_EVERY):
        journal.save(ended(number))
    assert len(journal.newest(10_000)) <= TASKS_KEPT + PRUNE_EVERY + 1
    assert [record.task_id for record in journal.unfinished()] == ["task--1"]
    assert journal.get("task-0") is None


@pytest.mark.parametrize("jump", [-40 * 86_400, 40 * 86_400, -1_790_000_000, 15 * 365 * 86_400])
def test_a_clock_that_is_set_erases_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    journal = Journal(tmp_path)
    journal.save(ended(1, announce=False))
    journal.save_request("deletion", RequestRecord("f", status=200, payload=True))
    now = time.time()
    for moment in (now + jump, now, now + jump):
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        for number in range(PRUNE_EVERY):
            journal.save_request(f"{moment} {number}", RequestRecord("f", status=200, payload=True))
        journal.prune()
    assert journal.get("task-1") is not None
    assert journal.find_request("deletion") == RequestRecord("f", status=200, payload=True)


def test_the_history_is_bounded_by_size_and_new_tasks_always_fit(tmp_path: Path) -> None:
    size = 1_000_000
    journal = Journal(tmp_path, size_maximum=size)
    journal.save_request("deletion", RequestRecord("f", begun=True))
    journal.add(record_of(-1))
    for number in range(2 * PRUNE_EVERY):
        long = {"source": "x" * 30_000, "dest": "d"}
        record = record_of(number, announce=False)
        record.request = long
        assert journal.add(record) is None
        record.status, record.result, record.finished = TaskStatus.FAILED, False, time.time()
        journal.save(record)
    assert (tmp_path / NAME).stat().st_size <= size
    assert journal.newest(1)[0].task_id == f"task-{2 * PRUNE_EVERY - 1}"
    assert [record.task_id for record in journal.unfinished()] == ["task--1"]
    assert journal.find_request("deletion") == RequestRecord("f", begun=True)


def test_use_is_counted_over_restarts_and_by_no_clock_that_is_set(tmp_path: Path) -> None:
    now = 1_000.0
    journal = Journal(tmp_path, clock=lambda: now)
    journal.add(record_of(1))
    now += 100
    assert journal.count_use() == 100
    journal.close()
    later = 5.0
    again = Journal(tmp_path, clock=lambda: later)
    later += 10
    again.add(record_of(2))
    assert [record.used for record in again.unfinished()] == [0, 110]


def test_a_journal_of_0_1_0_is_migrated_and_stays_readable_for_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.add(record_of(1))
    journal.close()
    with sqlite3.connect(tmp_path / NAME) as connection:  # as 0.1.0 has made it
        connection.executescript("ALTER TABLE tasks DROP COLUMN used; DROP TABLE usage;")
    connection.close()
    again = Journal(tmp_path)
    assert [record.used for record in again.unfinished()] == [None]
    again.add(record_of(2))
    again.close()
    with sqlite3.connect(tmp_path / NAME) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()


def test_request_ids_are_bounded_but_for_those_of_tasks_that_are_there(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.add(record_of(1), "of a task", "f")
    with other_process(tmp_path) as connection:  # as so many calls would leave it, at once
        connection.executemany(
            "INSERT INTO requests (request_id, fingerprint, moment, begun) VALUES (?, 'f', ?, 0)",
            [(f"id {number}", time.time()) for number in range(REQUESTS_KEPT + 500)],
        )
    journal.prune()
    assert journal.find_request("id 0") is None
    assert journal.find_request(f"id {REQUESTS_KEPT + 499}") is not None
    assert journal.find_request("of a task") is not None


# --- the file


def damage(path: Path, how: str) -> None:
    """Leave the journal's file as a crash or a bad card might."""
    if how == "no tables":
        path.unlink()
        with sqlite3.connect(path) as connection:
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.close()
    elif how == "not a database":
        path.write_bytes(b"what is this?" * 1_000)
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 3 : len(content) // 2] = os.urandom(len(content) // 2 - len(content) // 3)
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["no tables", "not a database", "overwritten"])
def test_a_file_that_is_not_readable_is_set_aside_and_reported(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path)
    for number in range(200):
        journal.save(record_of(number))
    journal.close()
    damage(tmp_path / NAME, how)
    told: list[SFTPError | None] = []
    fresh = Journal(tmp_path, told.append)
    assert fresh.unfinished() == []
    fresh.add(record_of(1))
    assert fresh.get("task-1") is not None
    assert len(list(tmp_path.glob(f"{NAME}.set-aside-*Z"))) == 1
    assert [trouble.code for trouble in told if trouble is not None] == ["permission_denied"]
    assert "set aside" in caplog.text


def test_a_file_of_a_newer_version_is_not_used_and_not_touched_until_that_version_is_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.add(record_of(1), "id", "f")
    journal.close()
    with other_process(tmp_path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    before = (tmp_path / NAME).read_bytes()
    told: list[SFTPError | None] = []
    older = Journal(tmp_path, told.append)
    for _ in range(2):
        with pytest.raises(PermissionDenied, match=r"a newer version of the module has made tasks\.sqlite3"):
            older.add(record_of(2))
        with pytest.raises(PermissionDenied):
            older.find_request("id")
    assert not older.is_well
    assert [trouble.code for trouble in told if trouble is not None] == ["permission_denied"]
    older.close()
    assert (tmp_path / NAME).read_bytes() == before
    assert list(tmp_path.glob("*.set-aside-*")) == []
    with other_process(tmp_path) as connection:  # as that version finds it
        connection.execute(f"PRAGMA user_version = {VERSION}")
    again = Journal(tmp_path)
    assert [record.task_id for record in again.unfinished()] == ["task-1"]
    assert again.find_request("id") == RequestRecord("f", task_id="task-1")


def test_damage_that_is_found_at_work_is_set_aside_too(tmp_path: Path) -> None:
    told: list[SFTPError | None] = []
    journal = Journal(tmp_path, told.append)
    for number in range(200):
        journal.save(record_of(number))
    with other_process(tmp_path) as connection:
        connection.execute("DROP TABLE tasks")
    with pytest.raises(PermissionDenied):
        journal.get("task-1")
    journal.add(record_of(1))
    assert [record.task_id for record in journal.unfinished()] == ["task-1"]
    assert ["set aside" in str(trouble) for trouble in told] == [True]  # a loss is not taken back by the next success


@pytest.mark.parametrize("payload", ["{", b"\xff"])
def test_an_answer_that_is_damaged_is_named_and_the_file_set_aside(tmp_path: Path, payload: object) -> None:
    journal = Journal(tmp_path)
    journal.save_request("id", RequestRecord("f", status=200, payload=True))
    with other_process(tmp_path) as connection:
        connection.execute("UPDATE requests SET payload = ?", (payload,))
    with pytest.raises(PermissionDenied):
        journal.find_request("id")
    assert journal.find_request("id") is None


def test_a_size_that_no_file_has_is_written_down_as_the_largest(tmp_path: Path) -> None:
    """SQLite takes no more than 63 bits; SFTP has 64 for a size, whatever a server says in them."""
    record = record_of(1)
    record.bytes, record.total_bytes = 2**64, 2**64 - 1
    journal = Journal(tmp_path)
    journal.add(record)
    read = journal.get("task-1")
    assert read is not None
    assert (read.bytes, read.total_bytes) == (2**63 - 1, 2**63 - 1)


def test_only_the_last_files_that_were_set_aside_are_kept(tmp_path: Path) -> None:
    for _ in range(SET_ASIDE_KEPT + 2):
        (tmp_path / NAME).write_bytes(b"what is this?" * 1_000)
        journal = Journal(tmp_path)
        assert journal.unfinished() == []
        journal.close()
    assert len(list(tmp_path.glob(f"{NAME}.set-aside-*"))) == SET_ASIDE_KEPT


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 60_000), noise=st.binary(min_size=1, max_size=3_000))
def test_whatever_overwrites_the_file_only_an_sftp_error_is_raised(tmp_path: Path, place: int, noise: bytes) -> None:
    shutil.rmtree(tmp_path / "state", ignore_errors=True)
    journal = Journal(tmp_path / "state")
    for number in range(40):
        journal.save(record_of(number, details={"x": "y" * 500}))
    journal.close()
    path = tmp_path / "state" / NAME
    with path.open("r+b") as file:
        file.seek(place % path.stat().st_size)
        file.write(noise)
    fresh = Journal(tmp_path / "state")
    for _ in range(3):
        try:
            fresh.unfinished()
            fresh.newest(50)
            fresh.add(record_of(999))
            break
        except SFTPError as error:
            if "newer version" in error.message:  # it looks like one, and is not touched
                return
    assert fresh.get("task-999") is not None


def test_a_full_file_is_reported_and_recovers_when_there_is_room(tmp_path: Path) -> None:
    told: list[SFTPError | None] = []
    journal = Journal(tmp_path, told.append, size_maximum=100_000)

    def fill() -> None:
        for number in range(1_000):
            journal.save(record_of(number, details={"x": "y" * 1_000}))

    with pytest.raises(NoSpace, match="state directory"):
        fill()
    assert told[-1] is not None
    with other_process(tmp_path) as connection:
        connection.execute("DELETE FROM tasks")
    journal.add(record_of(5_000))
    assert told[-1] is None


def test_a_full_file_can_be_read_and_stays_in_trouble_until_it_is_written(tmp_path: Path) -> None:
    told: list[SFTPError | None] = []
    journal = Journal(tmp_path, told.append, size_maximum=100_000)
    journal.add(record_of(1))
    with pytest.raises(NoSpace):
        journal.add(record_of(2, details={"x": "y" * 100_000}))
    assert journal.get("task-1") is not None
    assert journal.add(record_of(1)) is None
    assert [type(trouble) for trouble in told] == [NoSpace, type(None)]

    for _ in range(3):  # and is told of once
        with pytest.raises(NoSpace):
            journal.add(record_of(2, details={"x": "y" * 100_000}))
    journal.unfinished()
    journal.prune()
    assert told[-1] is not None
    journal.retry()
    journal.retry()
    assert [type(trouble) for trouble in told[2:]] == [NoSpace, type(None)]
    assert journal.find_request("") is None


def test_a_directory_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    journal = Journal(tmp_path / "file" / "state")
    with pytest.raises(SFTPError, match="state directory"):
        journal.add(record_of(1))


def test_a_state_directory_that_was_removed_is_created_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state")
    journal.add(record_of(1))
    before = journal.generation
    shutil.rmtree(tmp_path / "state")
    journal.add(record_of(2))
    assert journal.generation == before + 1
    journal.close()
    assert [record.task_id for record in Journal(tmp_path / "state").unfinished()] == ["task-2"]


WRITER = """
import sys
from pathlib import Path
from iot.sftp.module._work.journal import Journal
from iot.sftp.module._work.task_record import TaskRecord
journal = Journal(Path(sys.argv[1]))
number = 0
while True:
    journal.add(TaskRecord(f"task-{number}", "m", {}, 60.0))
    print(number, flush=True)
    number += 1
"""


def test_what_was_accepted_is_there_after_a_kill(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(50):
            last = int(writer.stdout.readline())
        writer.kill()
        last = max([last, *map(int, writer.stdout.read().split())])
    names = [record.task_id for record in Journal(tmp_path).unfinished()]
    assert names[: last + 1] == [f"task-{number}" for number in range(last + 1)]
