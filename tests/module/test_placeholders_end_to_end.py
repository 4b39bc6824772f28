"""Placeholders in the real module's twin, rules and calls: what they become, and what is told where one is unknown."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from tests.module.conftest import connected, section_of
from tests.servers import Server

from localedge import LocalEdge

HUB = "localedge"  # the name of the runtime's hub


@pytest.fixture
def fresh(edge: LocalEdge, openssh_server: Server) -> Iterator[LocalEdge]:
    """The shared device, as it was, before and after."""
    yield edge
    version = edge.replace_desired({"sftp": section_of(openssh_server)})
    edge.wait_for_reported(lambda shown: shown["sftp"]["av"] == version and connected(shown) and "rules" not in shown)


def call(edge: LocalEdge, method: str, **payload: Any) -> Any:
    status, answer = edge.invoke("sftp", method, payload)
    assert status == 200, answer
    return answer


def days_around(moment: datetime) -> set[str]:
    """Return the date, and that before midnight if that has just been."""
    return {f"{day:%Y-%m-%d}" for day in (moment, datetime.now(timezone.utc))}


def test_one_document_gives_each_device_its_own_folder(fresh: LocalEdge, openssh_server: Server, remote: Path) -> None:
    began = datetime.now(timezone.utc)
    root = f"{remote}/{{site}}/{{deviceId}}"
    rule = {"name": "out", "direction": "upload", "source": "out-{line}", "dest": "{date:%F}/{stem}", "min_age": 0}
    (fresh.local_root / "out-7").mkdir()
    (fresh.local_root / "out-7/a.csv").write_bytes(b"1")
    desired = {"sftp": section_of(openssh_server, root=root), "rules": [rule], "timeZone": "UTC"}
    fresh.replace_desired(desired | {"variables": {"site": "north", "line": "7"}})
    shown = fresh.wait_for_reported(
        lambda shown: shown.get("rules", {}).get("value", {}).get("out", {}).get("files") == 1
    )
    assert shown["variables"]["value"] == {"site": "north", "line": "7"}
    assert shown["timeZone"] == {"ac": 200, "av": shown["variables"]["av"], "ad": "applied", "value": "UTC"}
    (folder,) = (remote / "north" / fresh.device).iterdir()
    assert folder.name in days_around(began)
    assert (folder / "a/a.csv").read_bytes() == b"1"

    # A call finds its way with the same words, and answers with what they have become
    given = {"source": "out-{line}/a.csv", "dest": "{hub}/{moduleId}/{server}.csv", "expand": True}
    assert call(fresh, "upload_file", **given) is True
    assert call(fresh, "list_files", path="{hub}/{moduleId}", expand=True) == [f"{HUB}/sftp/sftp.csv"]
    assert call(fresh, "exists", path="{hub}/{moduleId}") is False

    # Other variables are other folders with the next call
    version = fresh.replace_desired(desired | {"variables": {"site": "south", "line": "7"}})
    fresh.wait_for_reported(lambda shown: shown["sftp"]["av"] == version)
    assert call(fresh, "exists", path=".") is False
    assert (remote / "north" / fresh.device / HUB / "sftp/sftp.csv").read_bytes() == b"1"


def test_what_is_unknown_is_told_and_what_was_in_force_stays(fresh: LocalEdge, openssh_server: Server) -> None:
    rule = {"name": "in", "direction": "download", "source": "{lin}", "dest": "in"}
    wrong = {"variables": {"line": "a/b"}, "timeZone": "Mars/Olympus", "rules": [rule]}
    version = fresh.patch_desired(wrong | {"sftp": {"root": "/{lin}"}})
    shown = fresh.wait_for_reported(lambda shown: shown["sftp"]["av"] == version and "rules" in shown)
    known = "known are: {deviceId}, {moduleId}, {hub}, {server}, {date:…}"
    assert {name: shown[name]["ac"] for name in ("sftp", "variables", "timeZone", "rules")} == dict.fromkeys(
        ("sftp", "variables", "timeZone", "rules"), 400
    )
    assert shown["sftp"]["ad"] == f"'root' has the unknown placeholder {{lin}} at character 2; {known}"
    assert shown["variables"]["ad"].startswith("'line' must not contain '/'")
    assert shown["timeZone"]["ad"].endswith("not 'Mars/Olympus'")
    assert shown["rules"]["value"]["in"]["ad"].startswith("'source' has the unknown placeholder {lin} at character 1; ")
    assert call(fresh, "exists", path=str(openssh_server.directory)) is True
    status, answer = fresh.invoke("sftp", "exists", {"path": "{lin}", "expand": True})
    message = f"'path' has the unknown placeholder {{lin}} at character 1; {known}"
    assert (status, answer) == (400, {"result": False, "code": "invalid_request", "message": message})


def test_a_task_keeps_the_paths_of_its_acceptance(fresh: LocalEdge, remote: Path) -> None:
    (fresh.local_root / "task.bin").write_bytes(b"1")
    given = {"source": "task.bin", "dest": f"{remote.name}/{{deviceId}}/", "expand": True, "background": True}
    status, answer = fresh.invoke("sftp", "upload_file", given | {"request_id": f"task of {remote.name}"})
    assert status == 202
    fresh.wait_for((remote / fresh.device / "task.bin").is_file, "the file", 30)
    assert call(fresh, "get_task_status", **answer)["dest"] == f"{remote.name}/{fresh.device}/"
    assert fresh.invoke("sftp", "upload_file", given | {"request_id": f"task of {remote.name}"}) == (202, answer)
