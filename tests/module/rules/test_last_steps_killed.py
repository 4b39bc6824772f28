"""Killed between any two steps: no reader is misled by a marker, nothing is lost, and nothing is delivered twice."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.folders import OLD, content_of, fill
from tests.module.rules.mortal_rules import Mortals, mortals
from tests.servers import Server

BEFORE = OLD - 3600
MOST_STEPS = 60


@pytest.fixture(scope="module")
def mortal(openssh_server: Server) -> Iterator[Mortals]:
    with mortals(openssh_server) as running:
        yield running


class Scene:
    """Both sides of a rule, with a file that is new at the source, and an older one at the destination."""

    def __init__(self, directory: Path, server: Server, direction: str, **rule: Any) -> None:
        self.directory = directory
        served = server.directory / f"{directory.parent.name}-{directory.name}"
        local = directory / "data"
        for path in (served, local, directory / "state"):
            path.mkdir(parents=True)
        upwards = direction == "upload"
        self.source, self.dest = (local / "s", served / "d") if upwards else (served / "s", local / "d")
        self.beside = self.source.parent
        prefix = "" if upwards else f"{served.name}/"
        self.rule: dict[str, Any] = {"name": "r", "direction": direction, "min_age": 0, "source": f"{prefix}s", **rule}
        self.rule["dest"] = f"{served.name}/d" if upwards else "d"
        for key in ("then", "on_failure"):
            if isinstance(self.rule.get(key), dict):
                self.rule[key] = self.rule[key] | {"move": prefix + self.rule[key]["move"]}


def sum_of(content: bytes) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()}  a.csv\n".encode()


def check_as_a_reader(dest: Path) -> None:
    """Read as a partner does who waits for the marker."""
    found = content_of(dest)
    if "a.csv.done" in found:
        assert found["a.csv.sha256"] == sum_of(found["a.csv"]), found


MARKERS = {"wait": "{name}.ok", "write": "{name}.done", "checksum": "{name}.sha256"}


@pytest.mark.parametrize(
    "direction, then",
    [("upload", "delete"), ("download", {"move": "done"})],
    ids=["upload-delete", "download-move"],
)
def test_a_file_and_its_markers(
    mortal: Mortals, openssh_server: Server, tmp_path: Path, direction: str, then: Any
) -> None:
    for step in count():
        scene = Scene(tmp_path / str(step), openssh_server, direction, then=then, marker=MARKERS)
        fill(scene.source, {"a.csv": b"new", "a.csv.ok": b""})
        fill(scene.dest, {"a.csv": b"old", "a.csv.done": b"", "a.csv.sha256": sum_of(b"old")}, BEFORE)
        has_died = mortal.run(scene.directory, scene.rule, step) is None
        check_as_a_reader(scene.dest)
        arrived = os.stat(scene.dest / "a.csv").st_ino
        is_new = (scene.dest / "a.csv").read_bytes() == b"new"
        is_left_over = not (scene.source / "a.csv").exists() and (scene.source / "a.csv.ok").exists()
        if is_left_over:  # the producer begins the next one: it is not complete until it has a marker of its own
            fill(scene.source, {"a.csv": b"beg"}, OLD + 60)
        status = mortal.run(scene.directory, scene.rule)
        assert status is not None
        assert (status["state"], status["failed"]) == ("active", 0), status
        assert content_of(scene.dest) == {"a.csv": b"new", "a.csv.done": b"", "a.csv.sha256": sum_of(b"new")}
        if is_new:
            assert os.stat(scene.dest / "a.csv").st_ino == arrived, step  # once
        left = {"a.csv": b"beg"} if is_left_over else {}
        assert content_of(scene.source) == (left if then != "keep" else {"a.csv": b"new", "a.csv.ok": b""}), step
        if isinstance(then, dict):
            assert content_of(scene.beside / "done") == {"a.csv": b"new", "a.csv.ok": b""}, step
        if not has_died:
            break
    assert 4 < step < MOST_STEPS


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_a_file_that_is_put_aside_and_its_marker(
    mortal: Mortals, openssh_server: Server, tmp_path: Path, direction: str
) -> None:
    for step in count():
        scene = Scene(
            tmp_path / str(step), openssh_server, direction,
            if_exists="fail", then="delete", marker={"wait": "{name}.ok"}, on_failure={"after": 1, "move": "failed"},
        )  # fmt: skip
        fill(scene.source, {"a.csv": b"bad", "a.csv.ok": b""})
        fill(scene.dest, {"a.csv": b"of the partner"})
        fill(scene.beside / "failed", {"a.csv": b"an earlier one"})
        has_died = mortal.run(scene.directory, scene.rule, step) is None
        status = mortal.run(scene.directory, scene.rule)
        assert status is not None
        assert content_of(scene.dest) == {"a.csv": b"of the partner"}
        assert content_of(scene.source) == {}, step
        failed = content_of(scene.beside / "failed")
        assert {name: failed.pop(name) for name in ("a.csv", "a-1.csv")} == {
            "a.csv": b"an earlier one",
            "a-1.csv": b"bad",
        }
        assert list(failed.values()) == [b""], step  # under whichever number: a crash may have hidden the file's
        if not has_died:
            break
    assert 2 < step < MOST_STEPS
