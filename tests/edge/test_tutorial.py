"""What docs/tutorial.md shows: its commands, one after the other, on the edge runtime that it starts."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from localedge._command_line import application

ROOT = Path(__file__).parents[2]
LIMIT = 100  # seconds for each command: bounds a hang
START = "localedge run --directory demo-files/tutorial"
NOT_RUN = ("make demo", "source .venv/bin/activate", START)  # what has made this environment, and what the fixture runs
BLOCKS = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs/tutorial.md").read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def clone(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Start what the page has in the first terminal, in a folder that stands for the clone."""
    shutil.copy(ROOT / "deployment.template.json", tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    monkeypatch.delenv("SFTP_HOST", raising=False)
    command = [sys.executable, "-m", *shlex.split(START), "--address", address]
    monkeypatch.chdir(tmp_path)
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        shown = ""
        while "Connected to" not in shown:
            line = process.stdout.readline()
            assert line, shown
            shown += line
        yield tmp_path
        process.terminate()
        process.stdout.read()


def run(line: str, folder: Path) -> str:
    """Run a command of the page; `localedge` in this process, as tests/edge/test_command_line.py executes it."""
    words = shlex.split(line.removesuffix("|| true"))
    if words[0] == "localedge":
        done = CliRunner().invoke(application, words[1:])
        assert done.exit_code == 0 or line.endswith("|| true"), done.output
        return done.stdout
    return subprocess.run(
        ["sh", "-ec", line], cwd=folder, stdout=subprocess.PIPE, text=True, timeout=LIMIT, check=True
    ).stdout


def run_block(block: str, folder: Path, waits: Iterator[Callable[[], bool]]) -> str:
    """Run the commands of a block; where the page sleeps, wait for what it waits for."""
    text = ""
    for line in block.splitlines():
        if line.startswith("sleep "):
            until = next(waits)
            end = time.monotonic() + LIMIT
            while not until() and time.monotonic() < end:
                time.sleep(0.2)
        elif line not in NOT_RUN:
            text += run(line, folder)
    return text


def test_what_the_tutorial_shows_happens(clone: Path) -> None:
    local, remote = (clone / "demo-files/tutorial" / side for side in ("local", "sftp"))
    look = "localedge twin --directory demo-files/tutorial"
    waits: Iterator[Callable[[], bool]] = iter(
        (
            lambda: (remote / "measurements/day.csv").exists() and not os.listdir(local / "out"),
            lambda: '"ac": 400' in run(look, clone),
        )
    )

    texts = [text for block in BLOCKS if (text := run_block(block, clone, waits))]

    listing, missing, _, arrived, twin, mistake, _ = texts
    assert '"hello.txt"' in listing
    assert "Hello from the SFTP server." in listing
    assert '"code": "not_found"' in missing
    assert arrived.endswith("day.csv\ntemperature;21.5\n")
    assert '"measurements": {' in twin
    assert "'concurrency' must be greater than or equal to 1" in mistake


def test_the_tutorial_has_what_is_not_run_here() -> None:
    assert set(NOT_RUN) <= set("".join(BLOCKS).splitlines())
