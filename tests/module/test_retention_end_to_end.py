"""Retention in the real module: a disk full of delivered files is in nobody's way."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from tests.module.conftest import section_of
from tests.servers import Server

from localedge import LocalEdge, Message

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/schemas/files.schema.json").read_text())
FILES = 5
MEGABYTE = 2**20


@pytest.fixture
def small(edge: LocalEdge, openssh_server: Server) -> Iterator[Path]:
    """A disk of 6 MB below the local root."""
    place = edge.local_root / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("only root mounts a small disk, and not everywhere")
    try:
        yield place
        edge.replace_desired({"sftp": section_of(openssh_server)})
        edge.wait_for_reported(lambda reported: not {"rules", "retention"} & set(reported))
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False)


def expired_in(edge: LocalEdge, count: int) -> list[dict[str, Any]]:
    """Wait until so many files were told to have expired, and return them."""
    told = dict[bytes, list[dict[str, Any]]]()

    def is_last(message: Message) -> bool:
        document = json.loads(message.body)
        if message.output == "files" and document["server"] is None:
            Draft202012Validator(SCHEMA).validate(document)
            assert (document["direction"], document["rule"]) == (None, None)
            told[message.body] = document["files"]
        return sum(map(len, told.values())) >= count

    edge.wait_for_message(is_last)
    return [file for files in told.values() for file in files]


def test_a_download_arrives_on_a_disk_full_of_delivered_files(
    edge: LocalEdge, openssh_server: Server, remote: Path, small: Path
) -> None:
    (small / "out").mkdir()
    for number in range(FILES):
        file = small / "out" / f"{number}"
        file.write_bytes(bytes(MEGABYTE))
        os.utime(file, (1_700_000_000 + number,) * 2)
    rule = {"name": "out", "direction": "upload", "source": "small/out", "dest": f"{remote.name}/in", "min_age": 0}
    month = {"path": "small/{folder-of-line}", "maxBytes": 10 * MEGABYTE}
    desired: dict[str, Any] = {
        "sftp": section_of(openssh_server),
        "rules": [rule],
        "events": {"files": True},
        "variables": {"folder-of-line": "out"},
        "retention": [month],
    }
    version = edge.replace_desired(desired)
    reported = edge.wait_for_reported(
        lambda reported: bool(reported.get("rules", {}).get("value", {}).get("out", {}).get("files") == FILES)
    )
    value = [{**month, "include": [], "onlyDelivered": True}]
    assert reported["retention"] == {"ac": 200, "av": version, "ad": "applied", "value": value}

    (remote / "order").write_bytes(os.urandom(3 * MEGABYTE))
    request = {"source": f"{remote.name}/order", "dest": "small/order", "background": True}
    status, accepted = edge.invoke("sftp", "download_file", request)
    assert status == 202
    ended = edge.wait_for_message(
        lambda message: message.output == "tasks" and json.loads(message.body)["task_id"] == accepted["task_id"]
    )
    assert json.loads(ended.body)["status"] == "Completed"
    assert (small / "order").stat().st_size == 3 * MEGABYTE
    assert sorted(os.listdir(small / "out")) == ["3", "4"]

    told = expired_in(edge, 3)
    assert [file["source"] for file in told] == [f"small/out/{number}" for number in range(3)]
    assert {(file["bytes"], file["dest"], file["code"]) for file in told} == {(MEGABYTE, None, None)}
    (shown,) = edge.invoke("sftp", "get_status")[1]["retention"]
    assert (shown["path"], shown["deleted"], shown["bytes"]) == ("small/out", 3, 3 * MEGABYTE)
    assert "deleted 'small/out/0': delivered, 1048576 bytes, of 2023-11-14T22:13:20Z" in edge.module_log

    version = edge.replace_desired({**desired, "retention": [{"path": "small/out", "minFree": "ten"}]})
    reported = edge.wait_for_reported(lambda reported: bool(reported.get("retention", {}).get("av") == version))
    assert (reported["retention"]["ac"], reported["retention"]["value"]) == (400, value)
    assert "entry 1: 'minFree' must be a whole number of bytes" in reported["retention"]["ad"]
