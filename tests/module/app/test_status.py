"""What `get_status` tells: all that an operator asks, without waiting, without a secret, never too long."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import UserDict
from collections.abc import KeysView
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.module.conftest import section_of
from tests.servers import Server, free_port
from tests.tasks import end_of, submit

from iot.sftp.module._app.status import Disks, Status
from iot.sftp.module._work.failures import FAILURES_KEPT, Failures
from iot.sftp.module._work.journal import Journal
from iot.sftp.module._work.live_task import Job, TaskOutcome, TaskProgress
from iot.sftp.module._work.server_slots import ServerSlots
from iot.sftp.module._work.slots import Kind, Slots
from iot.sftp.module._work.tasks import Tasks

if TYPE_CHECKING:
    from localedge import LocalEdge

RESPONSE_MAXIMUM = 128 * 1024
METHODS_PAGE = (Path(__file__).parents[3] / "docs" / "direct-methods.md").read_text()
CHAPTER = METHODS_PAGE.partition("### `get_status`")[2].partition("\n## ")[0]


# --- failures --------------------------------------------------------------------------------------------------------


def test_failures_are_listed_newest_first_each_once_with_an_advice() -> None:
    failures = Failures()
    failures.note("rule a", "unreachable", "nothing accepts connections there")
    failures.note("exists 'x'", "not_found", "it is not there")
    failures.note("rule a", "unreachable", "no answer\n")
    newest, older = failures.newest_first()
    assert (newest["what"], newest["times"], newest["message"]) == ("rule a", 2, r"no answer\n")
    assert "firewalls" in newest["advice"]
    assert (older["what"], older["code"], older["times"]) == ("exists 'x'", "not_found", 1)
    assert newest["time"] >= older["time"]


def test_a_bounded_number_of_failures_is_kept() -> None:
    failures = Failures(maximum=3)
    for number in range(10):
        failures.note(f"call {number}", "busy", "m" * 10_000)
    assert [failure["what"] for failure in failures.newest_first()] == ["call 9", "call 8", "call 7"]
    assert len(failures.newest_first()[0]["message"]) < 400


# --- disks -----------------------------------------------------------------------------------------------------------


def test_free_space_and_a_missing_directory_are_reported(tmp_path: Path) -> None:
    told = Disks({"data": tmp_path, "state": tmp_path / "none"}).free()
    assert 0 < told["data"]["free"] <= told["data"]["total"]
    assert told["state"] == {"path": str(tmp_path / "none"), "error": "No such file or directory"}


class PathOfASilentShare:
    """A path whose file system answers when it is told to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked = 0
        self.answers = threading.Event()

    def __fspath__(self) -> str:
        self.asked += 1
        self.answers.wait(20)
        return str(self.path)


def test_a_file_system_that_hangs_delays_nothing_and_occupies_one_thread(tmp_path: Path) -> None:
    share = PathOfASilentShare(tmp_path)
    disks = Disks({"data": share, "state": tmp_path})  # type: ignore[dict-item]
    for _ in range(3):
        started = time.monotonic()
        told = disks.free(limit=0.05)
        assert time.monotonic() - started < 15
        assert told["data"]["error"] == "the file system does not respond"
        assert told["state"]["free"] > 0
    assert share.asked == 1
    share.answers.set()
    assert disks.free(limit=10)["data"]["free"] > 0


def test_a_disk_is_asked_again_after_no_thread_was_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    disks = Disks({"data": tmp_path})
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert disks.free(limit=10) == {
            "data": {"path": str(tmp_path), "error": "no thread is left to ask the file system"}
        }
    assert disks.free(limit=10)["data"]["free"] > 0


# --- the document ----------------------------------------------------------------------------------------------------


def test_the_document_has_versions_uptime_and_the_resources_of_the_process(tmp_path: Path) -> None:
    document = Status({"data": tmp_path}).document(RESPONSE_MAXIMUM)
    assert document["versions"].keys() >= {"module", "python", "paramiko", "azure-iot-device", "openssl"}
    assert document["uptime"] >= 0
    assert document["process"]["memory_highest"] >= document["process"]["memory"] > 1_000_000
    assert document["process"]["threads"] >= 1
    assert document["process"]["descriptors"] >= 3
    assert document["disks"]["data"]["free"] > 0


def test_an_internal_error_in_one_part_does_not_affect_the_others(caplog: pytest.LogCaptureFixture) -> None:
    status = Status()
    status.add("queue", lambda: 1 / 0)
    status.add("tasks", lambda: {"Running": 1})
    document = status.document(RESPONSE_MAXIMUM)
    assert document["tasks"] == {"Running": 1}
    assert "internal error" in document["queue"]["error"]
    assert "ZeroDivisionError" in caplog.text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["x" * 20_000, "\U0001f600" * 2_000]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=40,
)


@given(parts=st.dictionaries(st.sampled_from(["reported", "settings", "queue"]), JSON), text=st.text(max_size=2_000))
def test_any_status_fits_into_a_response(parts: dict[str, Any], text: str) -> None:
    status = Status()
    for name, told in parts.items():
        status.add(name, lambda told=told: told)  # type: ignore[misc]
    for number in range(FAILURES_KEPT):
        status.failures.note(f"{number} {text}", "busy", text)
    document = status.document(RESPONSE_MAXIMUM)
    assert len(json.dumps(document)) <= RESPONSE_MAXIMUM
    assert document["versions"]["module"]


def test_a_part_that_cannot_be_cut_enough_is_left_out() -> None:
    status = Status()
    status.add("settings", lambda: list(range(100_000)))
    status.add("tasks", lambda: {"Running": 1})
    document = status.document(RESPONSE_MAXIMUM)
    assert len(json.dumps(document)) <= RESPONSE_MAXIMUM
    assert document["tasks"] == {"Running": 1}
    assert "settings" not in document


# --- what waits ------------------------------------------------------------------------------------------------------


def test_the_queue_has_the_number_of_waiting_calls_and_their_age() -> None:
    slots = Slots(1)
    turns = [slots.ask(Kind.CALL, lambda _turn: None) for _ in range(3)]
    turns[1].asked -= 60
    waiting, oldest = slots.waiting(Kind.CALL)
    assert (slots.width, slots.running, waiting) == (1, 1, 2)
    assert 60 <= oldest < 120
    turns[0].leave()
    assert slots.waiting(Kind.CALL)[0] == 1
    assert slots.waiting(Kind.TASK) == (0, 0.0)


def test_tasks_are_counted_by_their_state_while_a_lock_is_held(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    submitted, held, free = threading.Event(), threading.Event(), threading.Event()

    class Slow(UserDict[str, Any]):
        """Details of a progress that are read slowly, which is done with the lock held."""

        def keys(self) -> KeysView[str]:
            held.set()
            free.wait(20)
            return super().keys()

    def work(job: Job) -> TaskOutcome:
        if job.request.get("fails"):
            raise ValueError
        submitted.wait(20)
        job.report(TaskProgress(1, details=Slow()))
        return TaskOutcome(TaskProgress(1))

    failures = Failures()
    tasks = Tasks(Journal(tmp_path), ServerSlots(1), work, on_failure=failures.note)
    tasks.start()
    try:
        assert end_of(tasks, submit(tasks, "upload_file", {"fails": True}))["status"] == "Failed"
        first, second = (submit(tasks, "upload_file", {}) for _ in range(2))
        submitted.set()
        assert held.wait(60)
        found: list[Any] = []
        asking = threading.Thread(target=lambda: found.extend([tasks.counts, tasks.waiting]))
        asking.start()
        asking.join(60)
        counts, tasks_waiting = found
        waiting, oldest = tasks_waiting["sftp"]
        assert counts == {"Failed": 1, "Running": 1, "NotStarted": 1}
        assert waiting == 1
        assert 0 <= oldest < 30
        free.set()
        assert {end_of(tasks, task)["status"] for task in (first, second)} == {"Completed"}
        assert tasks.counts == {"Failed": 1, "Completed": 2}
    finally:
        free.set()
        tasks.stop(5)
    (failure,) = failures.newest_first()
    assert failure["code"] == "internal"
    assert failure["what"].startswith("task ")
    (text,) = [text for text in caplog.messages if text.startswith("Failed")]
    assert text.startswith("Failed: internal: ")
    assert text.endswith("(1 attempt)")


# --- the module ------------------------------------------------------------------------------------------------------


def test_the_status_shows_settings_work_and_failures(edge: LocalEdge, openssh_server: Server, remote: Path) -> None:
    (edge.local_root / "a.csv").write_text("content")
    assert edge.invoke("sftp", "upload_file", {"source": "a.csv", "dest": f"{remote.name}/a.csv"}) == (200, True)
    assert edge.invoke("sftp", "download_file", {"source": f"{remote.name}/none", "dest": "x"})[0] == 404
    code, status = edge.invoke("sftp", "get_status", None)
    assert code == 200
    assert status["hub"]["state"] == "connected"
    assert status["reported"]["connection"]["state"] == "connected"
    assert status["reported"]["module"] == {"version": status["versions"]["module"]}
    server = status["settings"]["sftp"]
    assert (server["host"], server["port"], server["user"]) == (
        openssh_server.host,
        openssh_server.port,
        openssh_server.user,
    )
    assert server["stallTimeout"] == 30
    assert (status["settings"]["logLevel"], status["settings"]["events"]) == ("info", True)
    assert status["queue"] == {"places": 2, "running": 0, "calls_waiting": 0, "tasks_waiting": 0, "oldest": 0}
    assert status["disks"]["data"]["free"] > 0
    assert status["disks"]["state"]["path"] == str(edge.state_directory)
    assert status["failures"][0]["code"] == "not_found"
    assert f"{remote.name}/none" in status["failures"][0]["what"]
    documented = re.findall(
        r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", CHAPTER.partition("| part |")[2], re.MULTILINE))
    )
    assert set(documented) == set(status)
    log = edge.module_log
    assert "7 bytes in " in log
    assert ", 1 attempt, verified by size" in log


def test_an_unreachable_server_is_in_the_status_with_an_advice(edge: LocalEdge, openssh_server: Server) -> None:
    edge.replace_desired({"sftp": section_of(openssh_server, port=free_port())})
    edge.wait_for_reported(lambda reported: reported["connection"].get("code") == "unreachable")
    _, status = edge.invoke("sftp", "get_status", {})
    connection = next(failure for failure in status["failures"] if failure["what"] == "connection")
    assert connection["code"] == "unreachable"
    assert "host and port" in connection["advice"]
    assert status["reported"]["connection"]["state"] == "failed"
    edge.replace_desired({"sftp": section_of(openssh_server)})
    edge.wait_until_connected()
