"""Every task that was accepted has one end, in its turn, over interruptions, refusals and restarts."""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.few_threads import ThreadLimit
from tests.tasks import SOON, end_of
from tests.tasks import submit as give_out

from iot.sftp.client import (
    Busy,
    Cancelled,
    ConnectionLost,
    DeadlineExceeded,
    Interruption,
    NoSpace,
    NotFound,
    SFTPError,
    TransferIncomplete,
    Unreachable,
)
from iot.sftp.client._base.backoff import Backoff
from iot.sftp.module._hub.response import encoded_size
from iot.sftp.module._work import task_scheduler
from iot.sftp.module._work.journal import NAME, Journal
from iot.sftp.module._work.live_task import Job, TaskOutcome, TaskProgress
from iot.sftp.module._work.server_slots import ServerSlots
from iot.sftp.module._work.slots import Kind, Turn
from iot.sftp.module._work.task_limits import INCOMPLETE_ATTEMPTS, TaskLimits
from iot.sftp.module._work.task_record import RequestRecord, TaskRecord, new_task
from iot.sftp.module._work.tasks import Tasks

FIELDS = ["task_id", "method", "status", "result", "code", "message", "bytes", "total_bytes", "started", "finished"]
QUICK = Backoff(0.001, 0.01)

Work = Callable[[Job], TaskOutcome]


def done(job: Job) -> TaskOutcome:
    """The work of a task that has nothing to do."""
    job.report(TaskProgress(7, 7))
    return TaskOutcome(TaskProgress(7, 7))


def until_cancelled(job: Job) -> TaskOutcome:
    """Work that goes on until it is told to end."""
    job.cancelled.wait(SOON)
    raise Cancelled("it was told to end")


class Device:
    """Tasks of one state directory, started and ended as often as a test wants."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running: list[Tasks] = []
        self.ended = threading.Event()
        self.size_maximum = 10_000_000

    def start(
        self,
        work: Work = done,
        *,
        width: int = 2,
        time_slice: float = 0.05,
        journal: type[Journal] = Journal,
        pauses: Backoff = QUICK,
        maximum: int = 1_000,
    ) -> Tasks:
        self.slots = ServerSlots(width, time_slice=time_slice)
        self.journal = journal(self.directory, size_maximum=self.size_maximum)
        limits = TaskLimits(maximum, pauses, journal_pause=0.05)
        tasks = Tasks(self.journal, self.slots, work, on_end=lambda _is_synced: self.ended.set(), limits=limits)
        tasks.start()
        self.running.append(tasks)
        return tasks


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path / "state")
    yield device
    for tasks in device.running:
        tasks.stop(5)


def submit(tasks: Tasks, name: str = "a", **options: Any) -> str:
    return give_out(tasks, "download_file", {"source": name, "dest": "d"}, **options)


# --- a task's life


def test_a_task_that_is_done_is_completed_with_the_contracts_fields(device: Device) -> None:
    tasks = device.start()
    task_id = submit(tasks)
    status = end_of(tasks, task_id)
    assert list(status) == [*FIELDS, "source", "dest"]
    assert (status["task_id"], status["method"]) == (task_id, "download_file")
    assert (status["status"], status["result"], status["code"], status["message"]) == ("Completed", True, None, None)
    assert (status["bytes"], status["total_bytes"]) == (7, 7)
    assert status["started"] <= status["finished"]
    assert status["started"].endswith("Z")


def test_a_waiting_task_has_not_started_and_a_running_one_shows_its_progress(device: Device) -> None:
    reported, go_on = threading.Event(), threading.Event()

    def work(job: Job) -> TaskOutcome:
        for number in range(1, 4):
            job.report(TaskProgress(number * 1_000, 9_000, {"files": number}))
            time.sleep(0.15)  # a rate needs time to be measured
        reported.set()
        go_on.wait(SOON)
        return TaskOutcome(TaskProgress(9_000, 9_000))

    tasks = device.start(work, width=1)
    first, second = submit(tasks), submit(tasks)
    assert reported.wait(SOON)
    status = tasks.status(first)
    assert (status["status"], status["bytes"], status["total_bytes"], status["files"]) == ("Running", 3_000, 9_000, 3)
    assert 1_000 < status["rate"] < 100_000
    assert status["result"] is None
    waiting = tasks.status(second)
    assert (waiting["status"], waiting["started"]) == ("NotStarted", None)
    go_on.set()
    assert end_of(tasks, second)["status"] == "Completed"


def test_a_task_that_nobody_knows_is_unknown(device: Device) -> None:
    tasks = device.start()
    for name in ("", "x", "\udcff", "'; --"):
        status = tasks.status(name)
        assert list(status) == FIELDS
        assert (status["task_id"], status["status"]) == (name, "Unknown")
        assert not tasks.cancel(name, 1)


@pytest.mark.parametrize("error", [NotFound("there is none"), NoSpace("the disk is full")])
def test_a_reason_that_stays_fails_the_task_at_once(device: Device, error: SFTPError) -> None:
    tries = []

    def work(job: Job) -> TaskOutcome:
        tries.append(job.attempts)
        raise error

    tasks = device.start(work)
    status = end_of(tasks, submit(tasks))
    assert (status["status"], status["result"]) == ("Failed", False)
    assert (status["code"], status["message"]) == (error.code, error.message)
    assert tries == [0]


def test_an_internal_error_fails_the_task_and_is_in_the_log(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    def work(_job: Job) -> TaskOutcome:
        raise KeyError("what a bug says")

    tasks = device.start(work)
    status = end_of(tasks, submit(tasks))
    assert (status["status"], status["code"]) == ("Failed", "internal")
    assert "what a bug says" not in status["message"]
    assert "what a bug says" in caplog.text


def test_a_task_waits_for_a_thread_where_the_system_has_none(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = ThreadLimit(monkeypatch)
    monkeypatch.setattr(task_scheduler, "PAUSE_WITHOUT_THREADS", 0.05)
    tasks = device.start(width=1)
    limit.leave(0)
    task_ids = [submit(tasks) for _ in range(3)]
    assert not device.ended.wait(0.2)
    limit.leave(None)
    assert [end_of(tasks, task_id)["status"] for task_id in task_ids] == ["Completed"] * 3


def test_tasks_are_begun_in_the_order_of_their_acceptance(device: Device) -> None:
    order: list[str] = []

    def work(job: Job) -> TaskOutcome:
        order.append(job.request["source"])
        return done(job)

    tasks = device.start(work, width=1)
    names = [submit(tasks, str(number)) for number in range(60)]
    assert all(end_of(tasks, name)["status"] == "Completed" for name in names)
    assert order == [str(number) for number in range(60)]


def test_so_many_tasks_run_at_a_time_and_no_more(device: Device) -> None:
    running, most = 0, 0
    lock = threading.Lock()
    together = threading.Barrier(2, timeout=SOON)

    def work(job: Job) -> TaskOutcome:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait()
        with lock:
            running -= 1
        return done(job)

    tasks = device.start(work, width=2)
    names = [submit(tasks, str(number)) for number in range(60)]
    assert all(end_of(tasks, name)["status"] == "Completed" for name in names)
    assert most == 2


def test_tasks_that_are_too_many_are_refused(device: Device) -> None:
    tasks = device.start(until_cancelled, maximum=3)
    names = [submit(tasks) for _ in range(3)]
    with pytest.raises(Busy, match="have not ended yet"):
        submit(tasks)
    assert tasks.cancel(names[0], SOON)
    submit(tasks)


# --- cancelled


def test_a_task_that_runs_is_cancelled_and_a_second_time_is_no_more(device: Device) -> None:
    tasks = device.start(until_cancelled)
    task_id = submit(tasks)
    assert tasks.cancel(task_id, SOON)
    status = tasks.status(task_id)
    assert (status["status"], status["result"], status["code"]) == ("Cancelled", False, None)
    assert not tasks.cancel(task_id, SOON)


def test_a_task_that_waits_is_cancelled_and_never_begun(device: Device) -> None:
    begun: list[str] = []

    def work(job: Job) -> TaskOutcome:
        begun.append(job.request["source"])
        return until_cancelled(job)

    tasks = device.start(work, width=1)
    first, second, third = (submit(tasks, name) for name in "abc")
    assert tasks.cancel(second, SOON)
    assert tasks.cancel(first, SOON)
    assert tasks.cancel(third, SOON)
    assert "b" not in begun


def test_a_task_that_pauses_is_cancelled(device: Device) -> None:
    failed = threading.Event()

    def work(_job: Job) -> TaskOutcome:
        failed.set()
        raise Unreachable("nobody there")

    tasks = device.start(work, pauses=Backoff(100, 100))
    task_id = submit(tasks)
    assert failed.wait(SOON)
    assert tasks.cancel(task_id, SOON)
    assert tasks.status(task_id)["status"] == "Cancelled"


def test_a_task_that_is_done_in_spite_of_being_cancelled_is_completed(device: Device) -> None:
    begun = threading.Event()

    def work(job: Job) -> TaskOutcome:
        begun.set()
        job.cancelled.wait(SOON)
        return done(job)

    tasks = device.start(work)
    task_id = submit(tasks)
    assert begun.wait(SOON)
    assert not tasks.cancel(task_id, SOON)
    assert tasks.status(task_id)["status"] == "Completed"


def test_cancelling_a_task_that_does_not_end_in_time_says_that_it_is_stopping(device: Device) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work(job: Job) -> TaskOutcome:
        begun.set()
        go_on.wait(SOON)
        return until_cancelled(job)

    tasks = device.start(work)
    task_id = submit(tasks)
    assert begun.wait(SOON)
    with pytest.raises(DeadlineExceeded, match="is being stopped"):
        tasks.cancel(task_id, 0.05)
    go_on.set()
    assert end_of(tasks, task_id)["status"] == "Cancelled"


# --- tried again


def test_tasks_wait_for_an_unreachable_server_and_keep_their_order(device: Device) -> None:
    away, order = 5, []

    def work(job: Job) -> TaskOutcome:
        nonlocal away
        if away > 0:
            away -= 1
            raise Unreachable("nobody there")
        order.append(job.request["source"])
        return done(job)

    tasks = device.start(work, width=1)
    names = [submit(tasks, name) for name in "abc"]
    assert [end_of(tasks, name)["status"] for name in names] == ["Completed"] * 3
    assert order == ["a", "b", "c"]


def test_an_unreachable_server_is_in_the_status_and_waking_ends_the_pause(device: Device) -> None:
    is_there, tried = threading.Event(), threading.Event()

    def work(job: Job) -> TaskOutcome:
        if not is_there.is_set():
            tried.set()
            raise Unreachable("nobody there")
        return done(job)

    tasks = device.start(work, pauses=Backoff(100, 100))
    task_id = submit(tasks)
    assert tried.wait(SOON)
    while (status := tasks.status(task_id))["code"] is None:
        assert status["status"] == "Running"
    assert (status["status"], status["code"], status["message"]) == ("Running", "unreachable", "nobody there")
    is_there.set()
    tasks.wake("sftp")
    status = end_of(tasks, task_id)
    assert (status["status"], status["code"], status["message"]) == ("Completed", None, None)


def test_a_task_that_was_interrupted_lets_the_others_go_on(device: Device) -> None:
    order = []

    def work(job: Job) -> TaskOutcome:
        order.append((job.request["source"], job.attempts))
        if job.request["source"] == "a" and job.attempts < 2:
            raise ConnectionLost("it broke")
        return done(job)

    tasks = device.start(work, width=1, pauses=Backoff(0.2, 0.2))
    names = [submit(tasks, name) for name in "abc"]
    assert [end_of(tasks, name)["status"] for name in names] == ["Completed"] * 3
    assert order == [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("a", 2)]


@pytest.mark.parametrize("failures, longest", [(1, 2), (2, 4), (3, 8), (4, 16), (7, 100), (1_000, 100)])
def test_backoff_doubles_up_to_the_longest_pause_with_jitter(failures: int, longest: float) -> None:
    pauses = [Backoff(2, 100).after(failures) for _ in range(200)]
    assert longest / 2 <= min(pauses) < max(pauses) <= longest
    assert max(pauses) - min(pauses) > longest / 4


def test_a_file_that_keeps_changing_is_given_up(device: Device) -> None:
    tries = []

    def work(job: Job) -> TaskOutcome:
        tries.append(job.attempts)
        raise TransferIncomplete("it has changed")

    tasks = device.start(work)
    assert end_of(tasks, submit(tasks))["code"] == "transfer_incomplete"
    assert len(tries) == INCOMPLETE_ATTEMPTS


def test_an_outcome_with_a_code_is_a_failure_that_keeps_its_counts(device: Device) -> None:
    def work(_job: Job) -> TaskOutcome:
        return TaskOutcome(TaskProgress(5, 10, {"files": 1, "failed": 1}), "permission_denied", "one file failed")

    tasks = device.start(work)
    status = end_of(tasks, submit(tasks))
    assert (status["status"], status["code"], status["files"], status["failed"]) == (
        "Failed",
        "permission_denied",
        1,
        1,
    )


@pytest.mark.parametrize("error", [Unreachable("nobody there"), ConnectionLost("it broke")])
def test_an_overdue_task_has_failed_and_names_its_last_failure(device: Device, error: SFTPError) -> None:
    def work(_job: Job) -> TaskOutcome:
        raise error

    tasks = device.start(work)
    status = end_of(tasks, submit(tasks, time_limit=0.2))
    assert (status["status"], status["code"]) == ("Failed", "deadline_exceeded")
    assert "time limit of 0.2 s" in status["message"]
    assert error.message in status["message"]


def test_a_task_that_runs_is_stopped_when_its_time_is_over(device: Device) -> None:
    tasks = device.start(until_cancelled, width=1)
    running, waiting = submit(tasks, time_limit=0.2), submit(tasks, time_limit=0.1)
    assert end_of(tasks, waiting)["code"] == "deadline_exceeded"
    assert end_of(tasks, running)["code"] == "deadline_exceeded"


# --- calls


def take_place(slots: ServerSlots) -> tuple[Turn, threading.Event]:
    """Ask for a place as a call does."""
    come = threading.Event()
    return slots.of("sftp").ask(Kind.CALL, lambda _turn: come.set()), come


def test_a_task_is_preempted_by_a_call_and_goes_on_afterwards(device: Device) -> None:
    begun, tries = threading.Event(), []

    def work(job: Job) -> TaskOutcome:
        tries.append(job.attempts)
        begun.set()
        return until_cancelled(job) if len(tries) == 1 else done(job)

    tasks = device.start(work, width=1)
    task_id = submit(tasks)
    assert begun.wait(SOON)
    turn, come = take_place(device.slots)
    assert come.wait(SOON)
    assert tasks.status(task_id)["status"] == "Running"
    turn.leave()
    assert end_of(tasks, task_id)["status"] == "Completed"
    assert tries == [0, 1]


def test_a_preempted_task_keeps_what_it_has_and_a_cancelled_one_does_not(device: Device) -> None:
    begun = threading.Semaphore(0)
    goes_on: list[bool] = []

    def work(job: Job) -> TaskOutcome:
        begun.release()
        job.cancelled.wait(SOON)
        assert isinstance(job.cancelled, Interruption)
        goes_on.append(job.cancelled.goes_on)
        raise Cancelled("it was told to end")

    tasks = device.start(work, width=1)
    task_id = submit(tasks)
    assert begun.acquire(timeout=SOON)
    turn, come = take_place(device.slots)
    assert come.wait(SOON)
    turn.leave()
    assert begun.acquire(timeout=SOON)
    tasks.cancel(task_id, SOON)
    assert goes_on == [True, False]


def test_an_endless_stream_of_calls_does_not_starve_tasks(device: Device) -> None:
    tasks = device.start(width=1)
    over = threading.Event()

    def call_again(turn: Turn) -> None:
        if not over.is_set():
            device.slots.of("sftp").ask(Kind.CALL, call_again)
        threading.Timer(0.001, turn.leave).start()

    for _ in range(3):
        device.slots.of("sftp").ask(Kind.CALL, call_again)
    names = [submit(tasks) for _ in range(20)]
    assert all(end_of(tasks, name)["status"] == "Completed" for name in names)
    over.set()


# --- restarts and the journal


def test_a_task_that_ignores_its_interruption_does_not_delay_the_exit(device: Device) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work(_: Job) -> TaskOutcome:
        begun.set()
        go_on.wait(SOON)
        return TaskOutcome(TaskProgress(0))

    tasks = device.start(work)
    submit(tasks)
    assert begun.wait(SOON)
    before = time.monotonic()
    tasks.stop(0.2)
    assert 0.2 <= time.monotonic() - before < SOON / 2
    go_on.set()


def test_what_was_interrupted_by_the_modules_end_goes_on_in_its_order(device: Device) -> None:
    tasks = device.start(until_cancelled, width=1)
    names = [submit(tasks, name) for name in "abc"]
    while tasks.status(names[0])["status"] == "NotStarted":
        assert tasks.status(names[2])["status"] == "NotStarted"
    tasks.stop(5)
    order: list[tuple[str, bool]] = []

    def work(job: Job) -> TaskOutcome:
        order.append((job.request["source"], job.attempts > 0))
        return done(job)

    tasks = device.start(work, width=1)
    assert [end_of(tasks, name)["status"] for name in names] == ["Completed"] * 3
    assert order == [("a", True), ("b", False), ("c", False)]


def test_what_has_ended_stays_as_it_was_after_a_restart(device: Device) -> None:
    tasks = device.start()
    task_id = submit(tasks)
    before = end_of(tasks, task_id)
    tasks.stop(5)
    assert device.start().status(task_id) == before


def test_time_limits_count_use_time_over_restarts_and_ignore_clocks(device: Device) -> None:
    now = 0.0
    journal = Journal(device.directory, clock=lambda: now)
    late, wrong, unset = (new_task("download_file", {"source": "a"}, 60) for _ in range(3))
    journal.add(late)
    now += 100
    wrong.accepted -= 40 * 86_400  # the clock was set
    unset.accepted = 5.0  # 1970, before the device knew the time
    for record in (wrong, unset):
        journal.add(record)
    journal.close()
    tasks = device.start()
    assert end_of(tasks, wrong.task_id)["status"] == end_of(tasks, unset.task_id)["status"] == "Completed"
    assert end_of(tasks, late.task_id)["code"] == "deadline_exceeded"


def test_a_full_journal_refuses_new_tasks_and_gets_the_ends_of_others_later(device: Device) -> None:
    go_on = threading.Event()

    def work(_job: Job) -> TaskOutcome:
        go_on.wait(SOON)
        return TaskOutcome(TaskProgress(1, 1, {"long": "x" * 10_000}))

    device.size_maximum = 1_000_000  # the five ends do not fit beside what follows
    tasks = device.start(work, width=16)
    names = [submit(tasks) for _ in range(5)]
    device.journal.save_request("large", RequestRecord("f", status=200, payload="x" * 960_000))
    go_on.set()
    assert [end_of(tasks, name)["status"] for name in names] == ["Completed"] * 5
    with pytest.raises(NoSpace):
        submit(tasks, "x" * 100_000)
    device.ended.clear()
    with sqlite3.connect(device.directory / NAME) as connection:
        connection.execute("DELETE FROM requests")
    connection.close()
    assert device.ended.wait(SOON)
    deadline = time.monotonic() + SOON
    while len(device.journal.messages.unsent("tasks", 9)) < 5:
        assert time.monotonic() < deadline
    assert all(tasks.status(name)["status"] == "Completed" for name in names)


def test_a_journal_that_is_lost_is_written_again_with_what_has_not_ended(device: Device) -> None:
    tasks = device.start(until_cancelled, width=1)
    names = [submit(tasks) for _ in range(3)]
    # The file itself last: whatever is made after that belongs to the new one
    for path in sorted(device.directory.glob(f"{NAME}*"), reverse=True):
        path.unlink()
    names.append(submit(tasks))
    other = Journal(device.directory)
    deadline = time.monotonic() + SOON
    while {record.task_id for record in other.unfinished()} != set(names):
        assert time.monotonic() < deadline
        time.sleep(0.02)  # a reader that never pauses would keep the lock of the file from the writer


def test_what_is_known_without_the_journal_is_listed_in_pages_too(device: Device) -> None:
    begun = threading.Event()

    def work(job: Job) -> TaskOutcome:
        begun.set()
        return until_cancelled(job)

    tasks = device.start(work, width=1, time_slice=1000)
    names = [submit(tasks) for _ in range(5)]
    names.reverse()
    assert begun.wait(SOON)  # that is in the journal: nothing more will be written
    device.directory.rename(device.directory.with_name("away"))
    device.directory.touch()  # in the place of a directory: nothing can be opened there
    assert tasks.cancel(names[-1], SOON)  # it runs: its end is known in memory only

    def listed(limit: int, after: str | None = None) -> list[str]:
        return [status["task_id"] for status in tasks.newest(limit, after)]

    assert listed(10) == names
    assert listed(2) == names[:2]
    assert listed(2, names[1]) == names[2:4]
    assert listed(10, names[3]) == names[4:]
    assert listed(10, names[4]) == listed(10, "not known") == []
    assert tasks.newest(1, names[3])[0]["status"] == "Cancelled"


def test_a_size_that_no_file_has_stops_no_other_task(device: Device) -> None:
    def work(job: Job) -> TaskOutcome:
        job.report(TaskProgress(2**64, 2**64))
        return TaskOutcome(TaskProgress(2**64, 2**64))

    tasks = device.start(work, width=1)
    for task_id in [submit(tasks), submit(tasks)]:
        assert end_of(tasks, task_id)["status"] == "Completed"


def test_an_internal_error_of_the_journal_leaves_each_task_its_end(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    bugs = iter(range(4))

    class FailingJournal(Journal):
        def save(self, *records: TaskRecord, durable: bool = False) -> None:
            if next(bugs, None) is not None:
                raise OverflowError
            super().save(*records, durable=durable)

    tasks = device.start(width=1, journal=FailingJournal)
    assert [end_of(tasks, submit(tasks))["status"] for _ in range(3)] == ["Completed"] * 3
    assert "internal error of the journal" in caplog.text


def test_an_internal_error_of_the_scheduler_stops_no_time_limit(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    bugs = iter(range(2))

    class FailingJournal(Journal):
        def retry(self) -> None:
            if next(bugs, None) is not None:
                raise OverflowError
            super().retry()

    tasks = device.start(until_cancelled, journal=FailingJournal)
    assert end_of(tasks, submit(tasks, time_limit=0.1))["code"] == "deadline_exceeded"
    assert "internal error of the scheduler" in caplog.text


def test_the_ends_that_are_counted_never_become_fewer(device: Device) -> None:
    seen: list[dict[str, int]] = []

    class CountingJournal(Journal):
        def save(self, *records: TaskRecord, durable: bool = False) -> None:
            seen.append(tasks.counts)
            super().save(*records, durable=durable)

    def work(job: Job) -> TaskOutcome:
        seen.append(tasks.counts)
        return done(job)

    tasks = device.start(work, journal=CountingJournal)
    end_of(tasks, submit(tasks))
    seen.clear()
    end_of(tasks, submit(tasks))
    # While it runs, and while its end is recorded, by whoever gets to it
    assert sorted({counts["Completed"] for counts in seen}) == [1, 2]


def test_the_status_of_a_task_fits_into_a_response_whatever_its_paths_are(device: Device) -> None:
    tasks = device.start()
    long = "\N{GRINNING FACE}" * 16_000
    status = end_of(tasks, give_out(tasks, "download_file", {"source": long, "dest": long}))
    assert encoded_size(status) < 10_000
    assert status["source"].endswith("… (15800 more)")
    assert encoded_size(tasks.status(long)) < 10_000


def test_an_unreachable_server_is_retried_after_the_pause_and_no_sooner(device: Device) -> None:
    tries: list[float] = []

    def work(_: Job) -> TaskOutcome:
        tries.append(time.monotonic())
        if len(tries) < 3:
            raise Unreachable("nobody there")
        return TaskOutcome(TaskProgress(0))

    tasks = device.start(work, pauses=Backoff(0.4, 0.4))
    assert end_of(tasks, submit(tasks))["status"] == "Completed"
    assert min(after - before for before, after in itertools.pairwise(tries)) >= 0.2


def test_tasks_of_a_journal_that_is_readable_later_go_on(device: Device) -> None:
    journal = Journal(device.directory)
    record = new_task("download_file", {"source": "a"}, 60)
    journal.add(record)
    journal.close()
    away = device.directory.rename(device.directory.with_name("away"))
    device.directory.touch()  # in the place of a directory: nothing can be opened there
    tasks = device.start()
    with pytest.raises(SFTPError):
        submit(tasks)
    with pytest.raises(SFTPError):  # there may be some
        tasks.newest(10)
    device.directory.unlink()
    away.rename(device.directory)
    deadline = time.monotonic() + SOON
    while tasks.status(record.task_id)["status"] != "Completed":
        assert time.monotonic() < deadline


@pytest.mark.nightly
def test_thousands_of_tasks_go_through_and_the_journal_stays_small(device: Device) -> None:
    tasks = device.start(width=4)
    names: list[str] = []
    for _ in range(6):
        names = [submit(tasks) for _ in range(500)]
        assert all(end_of(tasks, name)["status"] == "Completed" for name in names)
    assert tasks.status(names[0])["status"] == "Completed"
    size = sum(path.stat().st_size for path in device.directory.iterdir())
    assert size < 12_000_000
    assert len(tasks.newest(100_000)) < 2_200


# --- any course of events

ERRORS = st.sampled_from([None, None, Unreachable("u"), ConnectionLost("c"), NotFound("n"), TransferIncomplete("t")])
EVENTS = st.lists(st.sampled_from(["submit", "cancel", "wake", "restart", "call"]), max_size=25)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(events=EVENTS, errors=st.lists(ERRORS, max_size=40))
def test_whatever_happens_each_task_has_one_end(
    tmp_path_factory: pytest.TempPathFactory, events: list[str], errors: list[SFTPError | None]
) -> None:
    device = Device(tmp_path_factory.mktemp("state"))
    coming = iter(errors)
    lock = threading.Lock()
    completed: list[str] = []

    def work(job: Job) -> TaskOutcome:
        with lock:
            error = next(coming, None)
        if job.cancelled.wait(0.001):
            raise Cancelled("it was told to end")
        if error is not None:
            raise type(error)(error.message)
        completed.append(job.request["source"])
        return done(job)

    tasks = device.start(work, time_slice=0)
    names: list[str] = []
    for number, event in enumerate(events):
        if event == "submit":
            names.append(submit(tasks, str(number)))
        elif event == "cancel" and names:
            tasks.cancel(names[number % len(names)], SOON)
        elif event == "wake":
            tasks.wake("sftp")
        elif event == "call":
            turn, come = take_place(device.slots)
            assert come.wait(SOON)
            turn.leave()
        elif event == "restart":
            tasks.stop(5)
            tasks = device.start(work, time_slice=0)
    ends = [end_of(tasks, name)["status"] for name in names]
    assert set(ends) <= {"Completed", "Failed", "Cancelled"}
    assert len(completed) == len(set(completed)) == ends.count("Completed")
    tasks.stop(5)
