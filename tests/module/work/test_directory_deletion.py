"""A task deletes a directory to the last entry, over broken links and restarts, and nothing beside it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.clients import settings_of
from tests.servers import Relay, Server
from tests.tasks import end_of, submit

from iot.sftp.client import ConnectionLost, NotFound, SFTPError, SFTPSession, Unreachable
from iot.sftp.client._base.backoff import Backoff
from iot.sftp.module._work.journal import Journal
from iot.sftp.module._work.live_task import Job, TaskOutcome, TaskProgress
from iot.sftp.module._work.server_slots import ServerSlots
from iot.sftp.module._work.servers import Servers
from iot.sftp.module._work.task_limits import TaskLimits
from iot.sftp.module._work.tasks import Tasks
from iot.sftp.module._work.transfers import Transfers

PATIENCE = 120.0  # seconds
LIMITS = TaskLimits(backoff=Backoff(0.001, 0.01), journal_pause=0.05)
FILES = 1_500  # whose listing and deletion are some 200 KB of answers
CUT_AFTER = 50_000  # bytes


class BreaksDown(Relay):
    """A link that breaks after some bytes, and takes nothing any more from then on."""

    def cut(self) -> None:
        self.frozen.set()
        super().cut()


@contextmanager
def tasks_on(server: Server, port: int, state: Path) -> Iterator[Tasks]:
    """The tasks of a module that reaches the server by a port, until it is stopped."""
    servers = Servers(lambda _name, _state: None)
    servers.default.replace(SFTPSession(settings_of(server, port=port)))
    tasks = Tasks(Journal(state), ServerSlots(2), Transfers(servers).work, limits=LIMITS)
    tasks.start()
    try:
        yield tasks
    finally:
        servers.close()
        tasks.stop(10)


@pytest.fixture
def tree(openssh_server: Server, tmp_path: Path) -> Iterator[Path]:
    """A directory of many files, with a link out of it."""
    top = openssh_server.directory / f"tree-{tmp_path.name}"
    (top / "deep" / "deeper").mkdir(parents=True)
    for number in range(FILES):
        (top / f"{number:05}-{'x' * 30}").touch()
    beside = openssh_server.directory / f"beside-{tmp_path.name}"
    beside.mkdir()
    (beside / "kept").touch()
    (top / "deep" / "link").symlink_to(beside)
    yield top
    assert (beside / "kept").exists()
    shutil.rmtree(beside)
    shutil.rmtree(top, ignore_errors=True)


def test_a_deletion_reports_how_many_entries_are_gone(openssh_server: Server, tree: Path, tmp_path: Path) -> None:
    with tasks_on(openssh_server, openssh_server.port, tmp_path / "state") as tasks:
        task_id = submit(tasks, "delete_directory", {"path": tree.name, "recursive": True})
        status = end_of(tasks, task_id, PATIENCE)
    assert (status["status"], status["result"], status["deleted"]) == ("Completed", True, FILES + 4)
    assert (status["path"], status["bytes"], status["total_bytes"]) == (tree.name, 0, None)
    assert not tree.exists()


@pytest.mark.parametrize("is_gone_meanwhile", [False, True])
def test_a_deletion_that_was_cut_goes_on_after_a_restart(
    openssh_server: Server, tree: Path, tmp_path: Path, is_gone_meanwhile: bool
) -> None:
    link = BreaksDown((openssh_server.host, openssh_server.port))
    link.cut_after = CUT_AFTER
    with link.running() as port, tasks_on(openssh_server, port, tmp_path / "state") as tasks:
        task_id = submit(tasks, "delete_directory", {"path": tree.name, "recursive": True})
        assert link.frozen.wait(PATIENCE)
        assert tasks.status(task_id)["status"] == "Running"
        assert tree.exists()
    if is_gone_meanwhile:
        shutil.rmtree(tree)
    with tasks_on(openssh_server, openssh_server.port, tmp_path / "state") as tasks:
        assert end_of(tasks, task_id, PATIENCE)["status"] == "Completed"
    assert not tree.exists()


def test_a_deletion_is_cancelled_while_its_link_is_dead(openssh_server: Server, tree: Path, tmp_path: Path) -> None:
    link = BreaksDown((openssh_server.host, openssh_server.port))
    link.cut_after = CUT_AFTER
    with link.running() as port, tasks_on(openssh_server, port, tmp_path / "state") as tasks:
        task_id = submit(tasks, "delete_directory", {"path": tree.name, "recursive": True})
        assert link.frozen.wait(PATIENCE)
        assert tasks.cancel(task_id, PATIENCE)
        assert tasks.status(task_id)["status"] == "Cancelled"
    assert tree.exists()


def test_a_misspelt_directory_fails_also_after_the_server_could_not_be_reached(
    openssh_server: Server, tmp_path: Path
) -> None:
    asked = threading.Event()
    servers = Servers(lambda _name, _state: None)
    servers.default.replace(SFTPSession(settings_of(openssh_server)))
    transfers = Transfers(servers)

    def work(job: Job) -> TaskOutcome:
        if not asked.is_set():
            asked.set()
            message = "there is no route yet"
            raise Unreachable(message)
        return transfers.work(job)

    tasks = Tasks(Journal(tmp_path / "state"), ServerSlots(2), work, limits=LIMITS)
    tasks.start()
    try:
        status = end_of(tasks, submit(tasks, "delete_directory", {"path": "misspelt", "recursive": True}), PATIENCE)
    finally:
        tasks.stop(10)
        servers.close()
    assert (status["status"], status["code"]) == ("Failed", "not_found")


@pytest.mark.parametrize(
    "failures, doubts",
    [
        ([Unreachable("")], [False, False]),
        ([ConnectionLost("")], [False, True]),
        ([Unreachable(""), ConnectionLost(""), Unreachable("")], [False, False, True, True]),
    ],
)
def test_a_task_knows_whether_an_attempt_may_have_done_something(
    tmp_path: Path, failures: list[SFTPError], doubts: list[bool]
) -> None:
    found: list[bool] = []
    left = list(failures)

    def work(job: Job) -> TaskOutcome:
        found.append(job.is_in_doubt)
        if left:
            raise left.pop(0)
        return TaskOutcome(TaskProgress(0))

    tasks = Tasks(Journal(tmp_path / "state"), ServerSlots(1), work, limits=LIMITS)
    tasks.start()
    try:
        assert end_of(tasks, submit(tasks, "delete_directory", {"path": "a"}), PATIENCE)["status"] == "Completed"
    finally:
        tasks.stop(10)
    assert found == doubts


def test_the_entries_of_all_attempts_are_counted(tmp_path: Path) -> None:
    found: list[object] = []

    def work(job: Job) -> TaskOutcome:
        found.append(job.reported.get("deleted"))
        if len(found) == 1:
            job.report(TaskProgress(0, None, {"deleted": 5}))
            raise ConnectionLost("")
        raise NotFound("")

    tasks = Tasks(Journal(tmp_path / "state"), ServerSlots(1), work, limits=LIMITS)
    tasks.start()
    try:
        assert end_of(tasks, submit(tasks, "delete_directory", {"path": "a"}), PATIENCE)["deleted"] == 5
    finally:
        tasks.stop(10)
    assert found == [None, 5]
