"""The module is killed again and again while it works, and every task has its one end, with the right bytes.

SFTP_TEST_KILLS says how often; the normal number is small.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.module.conftest import section_of
from tests.module.work.test_tasks_end_to_end import ENDED, HURRIED, message_of, same, write
from tests.servers import Server

from localedge import HubError, LocalEdge

KILLS = int(os.environ.get("SFTP_TEST_KILLS", "5"))
TASKS_A_LIFE = 25
HURRIED_AND_PATIENT = HURRIED.replace("maximum=30", "maximum=1_000")


def begin(edge: LocalEdge, name: str, payload: dict[str, Any]) -> str:
    """Begin a task, again with the same request id for as long as there is no answer."""
    while True:
        try:
            status, answer = edge.invoke("sftp", name, payload)
        except HubError:
            revive(edge)
        else:
            assert status == 202, answer
            return str(answer["task_id"])


def revive(edge: LocalEdge) -> None:
    edge.start_module()  # unless it runs
    edge.wait_until_connected()


def kill(edge: LocalEdge) -> None:
    edge.kill_module()
    edge.stop_module()  # it has ended already: this waits until that is known


def await_ends(edge: LocalEdge, names: set[str]) -> dict[str, str]:
    """Wait until every task has ended; return how."""
    end = time.monotonic() + 90
    ends: dict[str, str] = {}
    while names - ends.keys():
        assert time.monotonic() < end, f"{len(names - ends.keys())} have not ended"
        for name in names - ends.keys():
            status = edge.invoke("sftp", "get_task_status", {"task_id": name})[1]
            if status["status"] not in ENDED:
                break
            ends[name] = status["status"]
        else:
            break
        time.sleep(0.05)
    return ends


@pytest.mark.timeout(120 + 15 * KILLS)
def test_killed_at_any_moment_each_task_is_completed_once(
    own_address: str, openssh_server: Server, remote: Path
) -> None:
    chance = random.Random(int(os.environ.get("SFTP_TEST_SEED", "0")) or time.time_ns())  # noqa: S311 - no secret
    desired = {
        "sftp": section_of(openssh_server),
        "transfers": {"concurrency": 4, "bandwidthLimit": 12_000_000},
    }
    command = (sys.executable, "-c", HURRIED_AND_PATIENT)
    with LocalEdge(address=own_address, desired=desired, command=command, restart_policy="never") as edge:
        for size in (0, 1, 5_000, 300_000, 4_000_000):
            write(remote / f"{size}", size)
            write(edge.local_root / f"{size}", size)
        tasks: dict[str, tuple[Path, Path]] = {}
        for life in range(KILLS + 1):
            revive(edge)
            die = time.monotonic() + chance.uniform(0, 2.5)
            for number in range(TASKS_A_LIFE):
                size = chance.choice((0, 1, 5_000, 300_000, 300_000, 4_000_000))
                name = f"{life}-{number}-{size}"
                common = {"background": True, "request_id": name}
                if chance.random() < 0.5:
                    paths = remote / f"{size}", edge.local_root / "in" / name
                    payload = {"source": f"{remote.name}/{size}", "dest": f"in/{name}"} | common
                    task_id = begin(edge, "download_file", payload)
                else:
                    paths = edge.local_root / f"{size}", remote / "up" / name
                    payload = {"source": f"{size}", "dest": f"{remote.name}/up/{name}"} | common
                    task_id = begin(edge, "upload_file", payload)
                assert task_id not in tasks
                tasks[task_id] = paths
                if life < KILLS and time.monotonic() > die:
                    kill(edge)
                    die = float("inf")
            if life < KILLS and die < float("inf"):
                time.sleep(max(0.0, die - time.monotonic()))  # any moment
                kill(edge)
        revive(edge)
        ends = await_ends(edge, set(tasks))
        assert Counter(ends.values()) == {"Completed": len(tasks)}
        for source, dest in tasks.values():
            assert same(source, dest)
        for name in tasks:
            message_of(edge, name)
        told = {(json.loads(m.body)["task_id"], m.properties["$.mid"]) for m in edge.messages_of("tasks")}
        assert told == {(name, f"{name}-Completed") for name in tasks}
        parts = [path for path in (*edge.local_root.rglob("*"), *remote.rglob("*")) if ".iot-sftp-" in path.name]
        assert parts == []
