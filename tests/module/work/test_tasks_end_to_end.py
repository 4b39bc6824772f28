"""Tasks through the real SDK, the local edge runtime and the module's process to OpenSSH.

The large download has 200 MB; SFTP_TEST_BYTES=2147483648 makes it 2 GiB, and --log-cli-level=warning shows its figures.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.module.conftest import connected, section_of, wait_for_log
from tests.servers import Server

from localedge import LocalEdge, Message

LARGE = int(os.environ.get("SFTP_TEST_BYTES", "200000000"))
BLOCK = os.urandom(1_000_000)
ENDED = ("Completed", "Failed", "Cancelled")
FIELDS = ["task_id", "method", "status", "result", "code", "message", "bytes", "total_bytes", "started", "finished"]

# The module as it is, but for shorter pauses between tries, a shorter queue and more updates of what it reports
HURRIED = """
import runpy
from iot.sftp.module._hub import hub, reported
from iot.sftp.module._base import timeouts
from iot.sftp.module._hub.reported import Reporter
from iot.sftp.client._base.backoff import Backoff
from iot.sftp.module._work.task_limits import TaskLimits
from iot.sftp.module._work.tasks import Tasks
Reporter.__init__.__kwdefaults__.update(interval=0.05, gathering=0.01)
reported.BURST = 10_000
Tasks.__init__.__kwdefaults__.update(limits=TaskLimits(maximum=30, backoff=Backoff(0.02, 0.2)))
hub.HubLimits.__init__.__kwdefaults__.update(sdk_reconnect=0.1)
timeouts.PAUSE_FIRST, timeouts.PAUSE_LONGEST = 0.05, 0.2
runpy.run_module("iot.sftp.module", run_name="__main__")
"""


@contextmanager
def device(address: str, server: Server, **desired: Any) -> Iterator[LocalEdge]:
    desired = {"sftp": section_of(server)} | desired
    command = (sys.executable, "-c", HURRIED)
    with LocalEdge(address=address, desired=desired, command=command, restart_policy="never") as edge:
        edge.wait_until_connected()
        edge.wait_for_reported(connected)
        yield edge
        assert "Traceback" not in edge.module_log


@pytest.fixture(scope="module")
def hurried(own_address: str, openssh_server: Server) -> Iterator[LocalEdge]:
    """A device for all tests that leave it as they found it."""
    with device(own_address, openssh_server) as edge:
        yield edge


def another(address: str) -> str:
    """Return a third address of the worker's own, for a runtime beside the one of all tests here."""
    first, second, *rest = address.split(".")
    return ".".join([first, str(int(second) ^ 64), *rest])


def write(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        for _ in range(size // len(BLOCK)):
            file.write(BLOCK)
        file.write(BLOCK[: size % len(BLOCK)])
    return path


def same(one: Path, other: Path) -> bool:
    with one.open("rb") as first, other.open("rb") as second:
        while block := first.read(1 << 20):
            if block != second.read(len(block)):
                return False
        return not second.read(1)


def begin(edge: LocalEdge, method: str, **payload: Any) -> str:
    status, answer = edge.invoke("sftp", method, {"background": True} | payload)
    assert status == 202, answer
    assert set(answer) == {"task_id"}
    return str(answer["task_id"])


def status_of(edge: LocalEdge, task_id: str) -> dict[str, Any]:
    status, document = edge.invoke("sftp", "get_task_status", {"task_id": task_id})
    assert status == 200
    assert list(document)[: len(FIELDS)] == FIELDS
    return dict(document)


def wait_for(edge: LocalEdge, task_id: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    end = time.monotonic() + 60
    while not holds(status := status_of(edge, task_id)):
        assert time.monotonic() < end, status
        time.sleep(0.02)
    return status


def end_of(edge: LocalEdge, task_id: str) -> dict[str, Any]:
    return wait_for(edge, task_id, lambda status: status["status"] in ENDED)


def message_of(edge: LocalEdge, task_id: str) -> Message:
    return edge.wait_for_message(lambda message: json.loads(message.body)["task_id"] == task_id)


@contextmanager
def slow(edge: LocalEdge, **transfers: Any) -> Iterator[None]:
    """Limit transfers, so that there is something to see before they end."""
    version = edge.patch_desired({"transfers": {"bandwidthLimit": 2_000_000} | transfers})
    edge.wait_for_reported(lambda reported: bool(reported["transfers"]["av"] == version))
    yield
    version = edge.patch_desired({"transfers": None})
    edge.wait_for_reported(lambda reported: bool(reported["transfers"]["av"] == version))


def test_status_calls_are_answered_in_milliseconds_during_a_large_download(hurried: LocalEdge, remote: Path) -> None:
    source = write(remote / "large", LARGE)
    started = time.monotonic()
    task_id = begin(hurried, "download_file", source=f"{remote.name}/large", dest="large")
    took: list[float] = []
    seen: list[int] = []
    while True:
        before = time.perf_counter()
        status = status_of(hurried, task_id)
        took.append(time.perf_counter() - before)
        seen.append(status["bytes"])
        if status["status"] in ENDED:
            break
    seconds = time.monotonic() - started
    figures = LARGE / 1e6 / seconds, len(took), statistics.median(took) * 1000, max(took) * 1000
    logging.getLogger(__name__).warning("%.0f MB/s, %d status calls: median %.1f ms, worst %.1f ms", *figures)
    assert (status["status"], status["result"], status["bytes"]) == ("Completed", True, LARGE)
    assert (status["total_bytes"], status["verified"], status["atomic"]) == (LARGE, "size", True)
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
    assert sorted(took)[len(took) // 10] < 0.1  # most may wait for a processor of a machine that is busy
    assert same(source, hurried.local_root / "large")
    (hurried.local_root / "large").unlink()


def test_the_end_of_an_upload_is_told_in_one_message(hurried: LocalEdge, remote: Path) -> None:
    source = write(hurried.local_root / "up", 3_000_000)
    task_id = begin(hurried, "upload_file", source="up", dest=f"{remote.name}/in/up")
    message = message_of(hurried, task_id)
    assert message.output == "tasks"
    assert message.properties["$.ct"] == "application/json"
    assert message.properties["$.ce"] == "utf-8"
    assert message.properties["$.mid"] == f"{task_id}-Completed"
    assert json.loads(message.body) == end_of(hurried, task_id)
    assert same(source, remote / "in" / "up")


def test_what_fails_is_told_with_its_reason(hurried: LocalEdge, remote: Path) -> None:
    task_id = begin(hurried, "download_file", source=f"{remote.name}/none", dest="none")
    status = end_of(hurried, task_id)
    assert (status["status"], status["result"], status["code"]) == ("Failed", False, "not_found")
    assert status["message"].startswith(f"'{remote.name}/none': ")
    assert message_of(hurried, task_id).properties["$.mid"] == f"{task_id}-Failed"
    outside = begin(hurried, "upload_file", source="../secret", dest=f"{remote.name}/x")
    assert end_of(hurried, outside)["code"] == "path_not_allowed"


def test_tasks_are_listed_the_newest_first_in_pages(hurried: LocalEdge, remote: Path) -> None:
    names = [begin(hurried, "download_file", source=f"{remote.name}/{number}", dest="x") for number in range(5)]
    for name in names:  # from then on, nothing changes in what is listed
        end_of(hurried, name)
    status, listed = hurried.invoke("sftp", "list_tasks")
    assert status == 200
    assert [task["task_id"] for task in listed[:5]] == names[::-1]
    assert hurried.invoke("sftp", "list_tasks", {"limit": 2})[1] == listed[:2]
    _, page = hurried.invoke("sftp", "list_tasks", {"limit": 2, "after": names[3]})
    assert [task["task_id"] for task in page] == [names[2], names[1]]


def test_a_long_listing_fits_a_response(hurried: LocalEdge) -> None:
    path = "\N{GRINNING FACE}" * 900  # long in JSON, and in the message of the failure
    for name in [begin(hurried, "upload_file", source=f"{path}{number}", dest="x") for number in range(20)] * 2:
        end_of(hurried, name)
    for _ in range(3):
        for name in [begin(hurried, "upload_files", source=f"{path}", dest="x") for number in range(25)]:
            end_of(hurried, name)
    response = hurried.invoke_raw("sftp", "list_tasks", b"")
    assert response.status == 200
    assert 10_000 < len(response.payload) <= 128 * 1024


def test_a_running_task_that_is_cancelled_leaves_nothing_at_its_destination(hurried: LocalEdge, remote: Path) -> None:
    write(remote / "a", 20_000_000)
    with slow(hurried):
        task_id = begin(hurried, "download_file", source=f"{remote.name}/a", dest="cancelled")
        status = wait_for(hurried, task_id, lambda status: status["bytes"] > 0)
        assert status["status"] == "Running"
        assert status["started"] is not None
        before = time.monotonic()
        for _ in range(2):  # a repeat of the same call gets the first one's answer
            assert hurried.invoke("sftp", "cancel_task", {"task_id": task_id, "request_id": task_id}) == (200, True)
        assert time.monotonic() - before < 20
    assert status_of(hurried, task_id)["status"] == "Cancelled"
    assert hurried.invoke("sftp", "cancel_task", {"task_id": task_id}) == (200, False)
    # A repeat of a call that was answered before the task had ended
    assert hurried.invoke("sftp", "cancel_task", {"task_id": task_id, "request_id": f"{task_id}-2"}) == (200, True)
    assert not (hurried.local_root / "cancelled").exists()


def test_a_transfer_that_stops_logs_how_far_it_came(hurried: LocalEdge, remote: Path) -> None:
    write(remote / "long", 20_000_000)
    with slow(hurried):
        wanted = {"source": f"{remote.name}/long", "dest": "broken off", "timeout": 2}
        assert hurried.invoke("sftp", "download_file", wanted)[0] == 504
    line = r"download_file: '\S+/long' -> 'broken off': stopped after (\d+) of 20000000 bytes, in (\S+) s"
    told = re.search(line, hurried.module_log)
    assert told is not None
    assert 0 < int(told[1]) < 20_000_000
    assert 1.5 < float(told[2]) < 30


def test_a_folder_that_stops_logs_how_far_it_came(hurried: LocalEdge, remote: Path) -> None:
    (remote / "folder").mkdir()
    for number in range(50):
        write(remote / "folder" / f"{number}", 200_000)
    with slow(hurried):
        task_id = begin(hurried, "download_files", source=f"{remote.name}/folder", dest="folder")
        wait_for(hurried, task_id, lambda status: status.get("files", 0) > 1)
        assert hurried.invoke("sftp", "cancel_task", {"task_id": task_id}) == (200, True)
    line = rf"{task_id[:8]} download_files: .*: stopped after (\d+) of 50 files, (\d+) bytes, in \S+ s"
    told = re.search(line, hurried.module_log)
    assert told is not None
    assert 1 < int(told[1]) < 50
    assert int(told[2]) >= 200_000


@pytest.mark.parametrize("direction", ["download_file", "upload_file"])
def test_a_task_that_makes_way_for_a_call_goes_on_where_it_was(
    hurried: LocalEdge, remote: Path, direction: str
) -> None:
    payload = {"source": f"{remote.name}/way", "dest": "made-way"}
    source, dest = write(remote / "way", 20_000_000), hurried.local_root / "made-way"
    if direction == "upload_file":
        payload = {"source": "way", "dest": f"{remote.name}/made-way"}
        source, dest = write(hurried.local_root / "way", 20_000_000), remote / "made-way"
    (remote / "small").write_text("small")
    with slow(hurried, concurrency=1, bandwidthLimit=5_000_000):
        task_id = begin(hurried, direction, **payload)
        wait_for(hurried, task_id, lambda status: status["bytes"] > 4_000_000)
        call = {"source": f"{remote.name}/small", "dest": "small"}
        assert hurried.invoke("sftp", "download_file", call) == (200, True)
        seen: list[int] = []
        while (status := status_of(hurried, task_id))["status"] not in ENDED:
            seen.append(status["bytes"])
            time.sleep(0.05)
        assert min(seen) > 4_000_000
    assert status["status"] == "Completed"
    assert same(source, dest)


def test_what_the_modules_end_interrupts_goes_on_where_it_was(own_address: str, openssh_server: Server) -> None:
    source = write(openssh_server.directory / "interrupted", 20_000_000)
    transfers = {"bandwidthLimit": 5_000_000}
    with device(another(own_address), openssh_server, transfers=transfers) as edge:
        task_id = begin(edge, "download_file", source="interrupted", dest="interrupted")
        wait_for(edge, task_id, lambda status: status["bytes"] > 6_000_000)
        assert edge.stop_module(limit=60) == 0
        assert not (edge.local_root / "interrupted").exists()
        edge.start_module()
        edge.wait_until_connected()
        assert status_of(edge, task_id)["status"] == "Running"
        assert wait_for(edge, task_id, lambda status: status["bytes"] > 0)["bytes"] > 6_000_000
        assert end_of(edge, task_id)["status"] == "Completed"
        assert same(source, edge.local_root / "interrupted")


def test_without_a_usable_journal_everything_works_but_tasks(own_address: str, openssh_server: Server) -> None:
    (openssh_server.directory / "there").write_text("there")
    desired = {"sftp": section_of(openssh_server)}
    command = (sys.executable, "-c", HURRIED)
    with LocalEdge(address=another(own_address), desired=desired, command=command, start_module=False) as edge:
        (edge.state_directory / "tasks.sqlite3").mkdir()
        edge.start_module()
        edge.wait_until_connected()
        reported = edge.wait_for_reported(lambda reported: "journal" in reported)
        assert reported["journal"]["code"] == "permission_denied"
        call = {"source": "there", "dest": "there", "request_id": "1"}
        assert edge.invoke("sftp", "download_file", call) == (200, True)
        assert edge.invoke("sftp", "download_file", call) == (200, True)
        assert edge.invoke("sftp", "exists", {"path": "there"}) == (200, True)
        status, body = edge.invoke("sftp", "download_file", {"source": "there", "dest": "x", "background": True})
        assert (status, body["code"]) == (403, "permission_denied")
        assert edge.invoke("sftp", "list_tasks")[0] == 403
        (edge.state_directory / "tasks.sqlite3").rmdir()
        assert end_of(edge, begin(edge, "download_file", source="there", dest="x"))["status"] == "Completed"
        edge.wait_for_reported(lambda reported: "journal" not in reported)


def test_a_journal_that_is_not_readable_is_set_aside_and_reported(own_address: str, openssh_server: Server) -> None:
    desired = {"sftp": section_of(openssh_server)}
    command = (sys.executable, "-c", HURRIED)
    with LocalEdge(address=another(own_address), desired=desired, command=command, start_module=False) as edge:
        (edge.state_directory / "tasks.sqlite3").write_bytes(b"what is this?" * 1_000)
        edge.start_module()
        edge.wait_until_connected()
        reported = edge.wait_for_reported(lambda reported: "journal" in reported)
        assert "set aside" in reported["journal"]["message"]
        assert end_of(edge, begin(edge, "download_file", source="no", dest="x"))["code"] == "not_found"


def test_a_full_queue_is_busy_and_its_calls_get_their_turns(hurried: LocalEdge, remote: Path) -> None:
    write(remote / "large", 60_000_000)
    (remote / "small").write_text("small")
    with slow(hurried, concurrency=1):
        names = [
            begin(hurried, "download_file", source=f"{remote.name}/large", dest=f"q{number}") for number in range(30)
        ]
        status, body = hurried.invoke(
            "sftp", "upload_file", {"source": "a", "dest": "b", "background": True, "request_id": "q"}
        )
        assert (status, body["code"]) == (429, "busy")
        call = {"source": f"{remote.name}/small", "dest": "small"}
        assert hurried.invoke("sftp", "download_file", call) == (200, True)
        assert hurried.invoke("sftp", "exists", {"path": remote.name}) == (200, True)
        assert wait_for(hurried, names[0], lambda status: status["bytes"] > 0)["status"] == "Running"
        assert status_of(hurried, names[1])["status"] == "NotStarted"
        for name in reversed(names):
            assert hurried.invoke("sftp", "cancel_task", {"task_id": name}) == (200, True)
    assert begin(hurried, "upload_file", source="a", dest="b", request_id="q")  # it was not taken before


def test_folders_go_both_ways_with_counts_and_failures(hurried: LocalEdge, remote: Path) -> None:
    out = hurried.local_root / "out"
    (out / "deep").mkdir(parents=True)
    for number in range(20):
        (out / f"{number}.csv").write_text(f"number {number}")
    (out / "deep" / "x.csv").write_text("deep")
    (out / "other.txt").write_text("other")
    up = end_of(
        hurried,
        begin(hurried, "upload_files", source="out", dest=f"{remote.name}/in", file_pattern=".csv", recursive=True),
    )
    assert (up["status"], up["files"], up["total_files"], up["failed"], up["failures"]) == ("Completed", 21, 21, 0, [])
    assert up["bytes"] == up["total_bytes"] > 0
    wait_for_log(hurried, "21 files, 0 skipped, 0 failed, ")
    assert ", 1 attempt, verified by size" in hurried.module_log.partition("21 files, 0 skipped, 0 failed, ")[2]
    assert len(list((remote / "in").rglob("*.csv"))) == 21
    down = end_of(
        hurried,
        begin(hurried, "download_files", source=f"{remote.name}/in", dest="back", then={"move": f"{remote.name}/done"}),
    )
    assert (down["status"], down["files"]) == ("Completed", 20)
    assert len(list((hurried.local_root / "back").iterdir())) == 20
    assert len(list((remote / "done").iterdir())) == 20
    none = end_of(hurried, begin(hurried, "download_files", source=f"{remote.name}/none", dest="back"))
    assert (none["status"], none["code"]) == ("Failed", "not_found")
    assert none["message"].startswith(f"'{remote.name}/none': ")


def test_a_repeat_gives_the_same_task_and_the_first_outcome(hurried: LocalEdge, remote: Path) -> None:
    (remote / "a").write_text("first")
    payload = {"source": f"{remote.name}/a", "dest": "repeated", "request_id": "the same"}
    assert hurried.invoke("sftp", "download_file", payload) == (200, True)
    (remote / "a").unlink()
    assert hurried.invoke("sftp", "download_file", payload) == (200, True)
    status, body = hurried.invoke("sftp", "download_file", payload | {"dest": "other"})
    assert (status, body["code"]) == (409, "request_id_conflict")
    delete = {"path": f"{remote.name}/none", "request_id": "a deletion"}
    assert hurried.invoke("sftp", "delete_file", delete)[0] == 404
    (remote / "none").touch()
    assert hurried.invoke("sftp", "delete_file", delete)[0] == 404
    assert (remote / "none").exists()


def is_to_be_sent(edge: LocalEdge, task_id: str) -> bool:
    """Return whether the journal does not have a task's end yet, or its message is to be sent, or discarded."""
    with closing(sqlite3.connect(edge.state_directory / "tasks.sqlite3", timeout=10)) as journal:
        where = "task_id = ? AND (finished IS NULL OR announce)"
        return journal.execute(f"SELECT 1 FROM tasks WHERE {where}", (task_id,)).fetchone() is not None  # noqa: S608 - ours


def test_events_can_be_turned_off(hurried: LocalEdge, remote: Path) -> None:
    hurried.patch_desired({"events": False})
    hurried.wait_for_reported(lambda reported: reported["events"]["value"] is False)
    quiet = begin(hurried, "download_file", source=f"{remote.name}/none", dest="none")
    end_of(hurried, quiet)
    hurried.wait_for(lambda: not is_to_be_sent(hurried, quiet), "its end is settled")
    hurried.patch_desired({"events": None})
    hurried.wait_for_reported(lambda reported: "events" not in reported)
    loud = begin(hurried, "download_file", source=f"{remote.name}/none", dest="none")
    message_of(hurried, loud)
    assert quiet not in {json.loads(message.body)["task_id"] for message in hurried.messages}


def test_hashes_are_compared_if_the_twin_wants_it(hurried: LocalEdge, remote: Path) -> None:
    write(remote / "a", 2_000_000)
    with slow(hurried, verify="sha256", bandwidthLimit=None):
        task_id = begin(hurried, "download_file", source=f"{remote.name}/a", dest="hashed")
        assert end_of(hurried, task_id)["verified"] not in {None, "size"}


def test_what_ends_while_the_hub_is_away_is_told_when_it_is_back(own_address: str, openssh_server: Server) -> None:
    (openssh_server.directory / "told").write_text("x" * 100)
    with device(another(own_address), openssh_server) as edge:
        limit = edge.patch_desired({"transfers": {"concurrency": 1}})
        edge.wait_for_reported(lambda reported: bool(reported["transfers"]["av"] == limit))
        write(openssh_server.directory / "slow", 2_000_000)
        with slow(edge, bandwidthLimit=1_000_000, concurrency=1):
            first = begin(edge, "download_file", source="slow", dest="slow")
            others = [begin(edge, "download_file", source="told", dest=f"told{number}") for number in range(20)]
            edge.stop_hub()
            end = time.monotonic() + 100
            while not (edge.local_root / "told19").exists():
                assert time.monotonic() < end, edge.module_log
                time.sleep(0.02)
            edge.kill_module()  # before anything could be told
            edge.stop_module()
            edge.start_hub()
            edge.start_module()
            edge.wait_until_connected()
            for name in (first, *others):
                assert message_of(edge, name).output == "tasks"
                assert end_of(edge, name)["status"] == "Completed"


def test_tasks_wait_for_a_server_that_comes_and_goes(own_address: str) -> None:
    command = (sys.executable, "-c", HURRIED)
    desired = {"transfers": {"bandwidthLimit": 3_000_000}}
    with LocalEdge(address=another(own_address), sftp_server=True, desired=desired, command=command) as edge:
        edge.wait_until_connected()
        edge.wait_for_reported(connected)
        for number in range(4):
            write(edge.sftp_server.root / f"file{number}", 2_000_000 + number)
        edge.stop_sftp_server()
        names = [begin(edge, "download_file", source=f"file{number}", dest="in/") for number in range(4)]
        wait_for(edge, names[0], lambda status: status["code"] in ("unreachable", "connection_lost"))
        given_up = begin(edge, "download_file", source="file0", dest="late", time_limit=1)
        assert end_of(edge, given_up)["code"] == "deadline_exceeded"
        for name in names:
            edge.start_sftp_server()
            wait_for(edge, name, lambda status: status["bytes"] > 0)
            edge.stop_sftp_server()
            assert edge.invoke("sftp", "get_task_status", {"task_id": name})[1]["status"] in {"Running", "Completed"}
        edge.start_sftp_server()
        for number, name in enumerate(names):
            assert end_of(edge, name)["status"] == "Completed"
            assert same(edge.sftp_server.root / f"file{number}", edge.local_root / "in" / f"file{number}")
