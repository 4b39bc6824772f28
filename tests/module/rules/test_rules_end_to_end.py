"""Rules in the twin of the real module: acknowledged, at work, and over a kill -9 in the middle of a run."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.module.conftest import TALKATIVE, section_of
from tests.servers import Server

from localedge import LocalEdge

FILES = 600


@pytest.fixture
def fresh(edge: LocalEdge, openssh_server: Server) -> Iterator[LocalEdge]:
    """The shared device, without rules before and after."""
    yield edge
    edge.replace_desired({"sftp": section_of(openssh_server)})
    edge.wait_for_reported(lambda reported: "rules" not in reported)


def rule(remote: Path, **changes: Any) -> dict[str, Any]:
    return {"name": "out", "direction": "upload", "source": "out", "dest": remote.name, "min_age": 0} | changes


def files_of(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if not path.name.startswith(".iot-sftp-")}


def has(name: str, **expected: Any) -> Callable[[dict[str, Any]], bool]:
    def holds(reported: dict[str, Any]) -> bool:
        shown = reported.get("rules", {}).get("value", {}).get(name, {})
        return all(shown.get(key) == value for key, value in expected.items()) and bool(shown)

    return holds


def test_rules_are_acknowledged_and_reported_and_take_effect_at_once(
    fresh: LocalEdge, openssh_server: Server, remote: Path
) -> None:
    (fresh.local_root / "out").mkdir()
    (fresh.local_root / "out/a.csv").write_bytes(b"1")
    server = section_of(openssh_server)
    (remote / "from").mkdir()
    fetch = rule(remote, name="fetch", direction="download", source=f"{remote.name}/from", dest="in", every=1)
    wrong = rule(remote, name="wrong", evry=1)
    version = fresh.replace_desired({"sftp": server, "rules": [rule(remote), fetch, wrong]})
    reported = fresh.wait_for_reported(has("out", files=1, bytes=1, state="active", ac=200))["rules"]
    assert (remote / "a.csv").read_bytes() == b"1"
    assert (reported["ac"], reported["av"], reported["ad"]) == (400, version, "not valid: wrong")
    assert reported["value"]["wrong"]["ad"].startswith("'evry' is not known here")
    assert reported["value"]["out"]["lastRun"] >= reported["value"]["out"]["since"]

    (fresh.local_root / "out/b.csv").write_bytes(b"22")
    (remote / "from/c.csv").write_bytes(b"333")
    fresh.wait_for_reported(has("out", files=2, bytes=3))
    fresh.wait_for_reported(has("fetch", files=1, bytes=3))
    assert (fresh.local_root / "in/c.csv").read_bytes() == b"333"

    (remote / "gone").write_bytes(b"")
    fresh.replace_desired({"sftp": server, "rules": [rule(remote, dest=f"{remote.name}/gone")]})
    reported = fresh.wait_for_reported(has("out", state="failing", failed=2, files=0))["rules"]
    assert set(reported["value"]) == {"out"}
    assert reported["value"]["out"]["code"]
    assert "2 files failed" in reported["value"]["out"]["message"]
    fresh.replace_desired({"sftp": server})
    fresh.wait_for_reported(lambda shown: "rules" not in shown)
    (fresh.local_root / "out/d.csv").write_bytes(b"4")
    assert fresh.invoke("sftp", "exists", {"path": f"{remote.name}/d.csv"}) == (200, False)


@pytest.mark.parametrize("then", ["keep", "delete"])
def test_killed_during_a_run_a_rule_sends_the_rest_and_nothing_twice(
    own_address: str, openssh_server: Server, remote: Path, then: str
) -> None:
    desired = {"sftp": section_of(openssh_server), "transfers": {"bandwidthLimit": 4_000_000}}
    command = (sys.executable, "-c", TALKATIVE)
    with LocalEdge(address=own_address, desired=desired, command=command, restart_policy="never") as edge:
        edge.wait_until_connected()
        (edge.local_root / "out").mkdir()
        contents = {f"{number:04}": b"%04d" % number * 1_000 for number in range(FILES)}
        for name, content in contents.items():
            (edge.local_root / "out" / name).write_bytes(content)
        edge.patch_desired({"rules": [rule(remote, then=then)]})
        arrived: dict[str, int] = {}
        for part in (FILES // 4, FILES // 2):
            end = time.monotonic() + 60
            while len(files_of(remote)) < part:
                assert time.monotonic() < end, edge.module_log
                time.sleep(0.01)
            edge.kill_module()
            edge.stop_module()
            for name in files_of(remote):
                inode = (remote / name).stat().st_ino
                assert arrived.setdefault(name, inode) == inode  # it was not written again
            edge.start_module()
        edge.wait_for(lambda: files_of(remote) == contents.keys(), "all files", 60)
        if then == "delete":
            edge.wait_for(lambda: files_of(edge.local_root / "out") == set(), "the end of the originals", 60)
        edge.wait_for_reported(has("out", code=None, failed=0))
        assert {name: (remote / name).read_bytes() for name in contents} == contents
        assert all((remote / name).stat().st_ino == inode for name, inode in arrived.items())
        assert edge.stop_module() == 0
        assert "Traceback" not in edge.module_log
