"""Today's module on the state directory of 0.1.0, killed at its work: nothing is lost, and nothing is done twice.

make_state.py has made it with the code of 0.1.0, and says what it holds.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.module.upgrade import plant
from tests.module.upgrade.plant import BIG, SMALL, content
from tests.servers import Server

from iot.sftp.client import HostKeyMismatch, IoTSFTPClient
from localedge import LocalEdge

LIMIT = 120.0  # seconds, for a machine that is busy
ENDED = ("Completed", "Failed", "Cancelled")
INODES = ("server/plant/out/a.csv", "server/plant/out/b.csv", "local/in/c.csv", "local/in/d.csv")


@dataclass
class Device:
    """A device after its upgrade."""

    edge: LocalEdge
    place: Path
    before: dict[str, int]  # the inodes of what had arrived

    def path(self, name: str) -> Path:
        return self.place / name

    def repeat(self, method: str, request_id: str, **payload: Any) -> tuple[int, Any]:
        return self.edge.invoke("sftp", method, {**payload, "request_id": request_id})

    def task(self, request_id: str, method: str, source: str, dest: str, **payload: Any) -> dict[str, Any]:
        """Repeat the request of a task, and return the status of the one that it began under 0.1.0."""
        again = {"source": source, "dest": dest, "background": True, **payload}
        status, answer = self.repeat(method, request_id, **again)
        assert status == 202, answer
        end = time.monotonic() + LIMIT
        while True:
            shown: dict[str, Any] = self.edge.invoke("sftp", "get_task_status", {"task_id": answer["task_id"]})[1]
            if shown["status"] in ENDED:
                return shown
            assert time.monotonic() < end, shown
            time.sleep(0.05)


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory, own_address: str) -> Iterator[Device]:
    """Today's module, started on what 0.1.0 has left."""
    place = tmp_path_factory.mktemp("upgrade")
    plant.unpack(place)
    before = {name: os.stat(place / name).st_ino for name in INODES}
    with plant.device(place, own_address) as edge:
        yield Device(edge, place, before)
        assert "set aside" not in edge.module_log


def test_tasks_that_were_under_way_or_waited_go_on_under_their_ids(upgraded: Device) -> None:
    for request_id, method, source, dest, where in (
        ("large-up", "upload_file", "large-up", "plant/large-up", "server/plant/large-up"),
        ("large-again", "upload_file", "large-up", "plant/large-again", "server/plant/large-again"),
        ("large-down", "download_file", "plant/large-down", "large-down", "local/large-down"),
        ("waiting", "download_file", "plant/in/c.csv", "waiting/c.csv", "local/waiting/c.csv"),
    ):
        shown = upgraded.task(request_id, method, source, dest)
        assert (shown["status"], shown["result"], shown["method"]) == ("Completed", True, method)
        name = Path(source).name
        assert upgraded.path(where).read_bytes() == content(name, BIG if "large" in name else 1_000)
    shown = upgraded.task("batch", "upload_files", "batch", "plant/batch", then="delete")
    assert (shown["status"], shown["files"]) == ("Completed", 3)
    for name in ("1", "2", "3"):
        assert upgraded.path(f"server/plant/batch/{name}").read_bytes() == content(name, 1_000)
    assert list(upgraded.path("local/batch").iterdir()) == []


def test_tasks_that_had_ended_are_known_as_they_ended(upgraded: Device) -> None:
    done = upgraded.task("done", "upload_file", "done", "plant/done")
    assert (done["status"], done["bytes"], done["verified"]) == ("Completed", 1_000, "size")
    failed = upgraded.task("failed", "upload_file", "nothing", "plant/nothing")
    assert (failed["status"], failed["code"]) == ("Failed", "not_found")
    assert upgraded.task("cancelled", "upload_file", "done", "plant/cancelled")["status"] == "Cancelled"
    assert not upgraded.path("server/plant/cancelled").exists()
    listed = upgraded.edge.invoke("sftp", "list_tasks", {})[1]
    assert {task["task_id"] for task in listed} >= {done["task_id"], failed["task_id"]}
    assert len(listed) == 9


def test_the_end_that_0_1_0_could_not_tell_is_told_once_and_the_others_not_again(upgraded: Device) -> None:
    untold = upgraded.task("untold", "upload_file", "untold", "plant/untold")
    assert (untold["status"], untold["bytes"]) == ("Completed", SMALL)
    told = f"{untold['task_id']}-Completed"
    upgraded.edge.wait_for_message(lambda message: message.properties["$.mid"] == told, LIMIT)
    done = upgraded.task("done", "upload_file", "done", "plant/done")
    identifiers = [message.properties["$.mid"] for message in upgraded.edge.messages_of("tasks")]
    assert identifiers.count(told) == 1
    assert not [identifier for identifier in identifiers if done["task_id"] in identifier]


def test_request_ids_guard_what_was_done_before_the_upgrade(upgraded: Device) -> None:
    upgraded.path("server/plant/once.txt").unlink(missing_ok=True)  # its receiver has taken it
    upgraded.path("server/plant/gone.txt").write_bytes(b"another one")
    upload = {"source": "once.txt", "dest": "plant/once.txt"}
    assert upgraded.repeat("upload_file", "once", **upload) == (200, True)
    assert upgraded.repeat("delete_file", "gone", path="plant/gone.txt") == (200, True)
    assert not upgraded.path("server/plant/once.txt").exists()
    assert upgraded.path("server/plant/gone.txt").read_bytes() == b"another one"
    status, answer = upgraded.repeat("download_file", "missing", source="plant/missing", dest="missing")
    assert (status, answer["code"]) == (404, "not_found")
    status, answer = upgraded.repeat("delete_file", "once", path="plant/once.txt")
    assert (status, answer["code"]) == (409, "request_id_conflict")


def test_what_rules_had_delivered_is_not_delivered_again(upgraded: Device) -> None:
    upgraded.path("local/out/new.csv").write_bytes(b"new")
    upgraded.path("server/plant/in/new.csv").write_bytes(b"new")
    os.utime(upgraded.path("server/plant/in/new.csv"), (1_790_000_000, 1_790_000_000))
    for name in ("server/plant/out/new.csv", "local/in/new.csv"):
        upgraded.edge.wait_for(upgraded.path(name).exists, f"{name} is there", LIMIT)
    # The first run, too, has sent only what is new
    counted = upgraded.edge.wait_for_reported(
        lambda reported: all(reported["rules"]["value"][name]["files"] == 1 for name in ("send", "fetch")), LIMIT
    )["rules"]["value"]
    assert {rule["state"] for rule in counted.values()} == {"active"}
    assert {name: os.stat(upgraded.path(name)).st_ino for name in INODES} == upgraded.before


def test_the_remembered_host_key_holds(upgraded: Device) -> None:
    known = upgraded.path("state/known_hosts").read_text()
    assert known.count("\n") == 1
    assert known.startswith(f"{plant.HOST} ssh-ed25519 ")
    reported = upgraded.edge.reported["connection"]
    status, shown = upgraded.edge.invoke("sftp", "test_connection", {})
    assert (status, shown["host_key"]) == (200, reported["host_key"])
    assert upgraded.path("state/known_hosts").read_text() == known


def test_another_key_than_the_remembered_one_is_refused(
    tmp_path: Path, openssh_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant.unpack(tmp_path)
    look_up = socket.getaddrinfo

    there = openssh_server.host, openssh_server.port
    monkeypatch.setattr(socket, "getaddrinfo", lambda _host, _port, *rest, **options: look_up(*there, *rest, **options))
    known_hosts = tmp_path / "state/known_hosts"
    with IoTSFTPClient(plant.HOST, plant.PORT, "device", "wrong", known_hosts=known_hosts) as client:
        assert isinstance(client.last_error, HostKeyMismatch)


def test_a_call_that_was_cut_can_be_repeated_and_nothing_of_what_was_under_way_stays_behind(upgraded: Device) -> None:
    begun = {"source": "begun", "dest": "plant/begun", "timeout": 290}
    assert upgraded.repeat("upload_file", "begun", **begun) == (200, True)
    assert upgraded.path("server/plant/begun").read_bytes() == content("begun", BIG)
    upgraded.edge.wait_for(lambda: not list(upgraded.path("state/transfers").glob("*.transfer")), "all ended", LIMIT)
    for tree in ("local", "server"):
        assert [path for path in upgraded.path(tree).rglob("*") if ".iot-sftp-" in path.name] == []


def test_the_archive_holds_what_these_tests_are_about(tmp_path: Path) -> None:
    plant.unpack(tmp_path)
    records = [json.loads(path.read_text()) for path in (tmp_path / "state/transfers").iterdir()]
    assert {record["dest"] for record in records} == {
        "large-down",
        "plant/begun",
        "plant/large-again",
        "plant/large-up",
    }
    assert (tmp_path / "state/tasks.sqlite3-wal").stat().st_size > 0
