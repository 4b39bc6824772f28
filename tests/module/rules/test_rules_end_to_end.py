"""Rules in the twin of the real module: acknowledged, at work, and over a kill -9 in the middle of a run."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
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


def times_around(now: datetime, *hours: int) -> list[str]:
    """Return the times of day that are so many hours from now."""
    return [(now + timedelta(hours=each)).strftime("%H:%M") for each in hours]


def test_a_rule_waits_for_its_window_and_its_times_and_the_limit_has_a_timetable(
    fresh: LocalEdge, openssh_server: Server, remote: Path
) -> None:
    (fresh.local_root / "timed").mkdir()
    (fresh.local_root / "timed/e.csv").write_bytes(b"1")
    now = datetime.now(timezone.utc)
    for folder in ("open", "closed", "at"):
        (remote / folder).mkdir()
    rules = [
        rule(remote, name="open", source="timed", dest=f"{remote.name}/open", between=times_around(now, -2, 4)),
        rule(remote, name="closed", source="timed", dest=f"{remote.name}/closed", between=times_around(now, 4, -2)),
        rule(remote, name="at", source="timed", dest=f"{remote.name}/at", at=times_around(now, -2, 4)),
        rule(remote, name="wrong", source="timed", at=["02:00"], every=60),
    ]
    limit = [{"days": "Mon-Sun", "from": "00:00", "to": "24:00", "upload": 10_000_000}]
    fresh.replace_desired({"sftp": section_of(openssh_server), "rules": rules, "transfers": {"bandwidthLimit": limit}})
    opens = (now + timedelta(hours=4)).strftime("%Y-%m-%dT%H:%M:00Z")
    reported = fresh.wait_for_reported(
        lambda shown: all(
            holds(shown)
            for holds in (has("open", files=1, state="active"), has("closed", next=opens), has("at", next=opens))
        )
    )
    assert reported["transfers"]["value"]["bandwidthLimit"] == limit
    assert reported["rules"]["value"]["wrong"]["ad"].startswith("'every' must not be there together with 'at'")
    assert reported["rules"]["value"]["open"].get("next") is None
    assert [files_of(remote / folder) for folder in ("open", "closed", "at")] == [{"e.csv"}, set(), set()]
    shown = fresh.invoke("sftp", "get_status", {})[1]["settings"]["rules"]["at"]
    assert (shown["at"], shown["every"]) == (rules[2]["at"], None)


def test_a_rule_waits_for_markers_writes_its_own_and_puts_aside_what_fails(
    fresh: LocalEdge, openssh_server: Server, remote: Path
) -> None:
    out = fresh.local_root / "handover"
    out.mkdir()
    for name in ("a.xml", "a.xml.ok", "b.xml", "c.xml", "c.xml.ok"):
        (out / name).write_bytes(name.encode())
    (remote / "c.xml").mkdir()
    marker = {"wait": "{name}.ok", "write": "{name}.done", "checksum": "{name}.sha256"}
    failing = {"after": 2, "move": "handover/failed"}
    handover = rule(remote, source="handover", then="delete", marker=marker, on_failure=failing, every=1)
    server = section_of(openssh_server)
    fresh.replace_desired({"sftp": server, "rules": [handover], "events": {"files": True}})
    fresh.wait_for_reported(has("out", files=1, quarantined=1, failed=0, state="active"))
    assert files_of(remote) == {"a.xml", "a.xml.done", "a.xml.sha256", "c.xml"}
    assert {path.name for path in (out / "failed").iterdir()} == {"c.xml", "c.xml.ok"}
    assert {path.name for path in out.iterdir()} == {"b.xml", "failed"}
    told = fresh.wait_for_message(lambda message: b"quarantined" in message.body)
    (file,) = [file for file in json.loads(told.body)["files"] if file["outcome"] == "quarantined"]
    assert (file["source"], file["dest"], file["code"]) == (
        "handover/c.xml",
        "handover/failed/c.xml",
        "is_a_directory",
    )


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
        assert edge.stop_module(limit=60) == 0
        assert "Traceback" not in edge.module_log
