"""docs/fleet.md, as its reader follows it: three devices, one layered deployment, each its own folder."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.frame.test_documentation import commands_of
from typer.testing import CliRunner

from localedge._command_line import application
from localedge._state_file import read_state
from localedge.testing import worker_address

ROOT = Path(__file__).parents[2]
COMMANDS = [list(command.words) for command in commands_of(ROOT / "docs/fleet.md") if command.words[0] == "python"]
START, TWIN, JOB = "fleet", "twin", "job"
LIMIT = 120  # seconds: they bound a hang
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"}


class Fleet(NamedTuple):
    """The devices that run, and how they are called."""

    directory: Path
    server: Path

    def run(self, command: list[str]) -> tuple[int, Any]:
        """Run a command of the page; return its exit status, and the JSON that it shows.

        It runs in this process: a new one takes seconds where eight tests share two processors.
        """
        done = CliRunner().invoke(application, [*command[3:], "--directory", str(self.directory)])
        return done.exit_code, json.loads(done.stdout)

    def reported(self, device: str) -> dict[str, Any]:
        """Return what a device reports."""
        reported: dict[str, Any] = read_state(self.directory).client(device).twin("sftp")["properties"]["reported"]
        return reported

    def files(self) -> set[str]:
        return {
            re.sub(r"\d{4}/\d\d/\d\d", "DAY", str(path.relative_to(self.server)))
            for path in self.server.glob("fleet/**/*")
            if path.is_file() and not path.name.startswith(".iot-sftp-")
        }

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT
        while not condition():
            assert time.monotonic() < end, self.files()
            time.sleep(0.1)


def command(word: str, number: int = 0) -> list[str]:
    """Return a command of the page, by the word for localedge."""
    return [words for words in COMMANDS if words[3] == word][number]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("fleet")
    words = [sys.executable, *command(START)[1:], "--directory", str(directory), "--address", worker_address()]
    log = directory / "log"
    with log.open("w") as file, subprocess.Popen(words, cwd=ROOT, env=ENVIRONMENT, stderr=file, stdout=file) as process:
        try:
            end = time.monotonic() + LIMIT
            while (shown := re.search(r"^SFTP server: (.*)$", log.read_text(), re.MULTILINE)) is None:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.1)
            yield Fleet(directory, Path(shown[1]))
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIMIT) == 0
    assert "device-3 (north): " in log.read_text()


def test_the_page_gives_each_device_its_folder_from_one_deployment(fleet: Fleet) -> None:
    devices = ("device-1", "device-2", "device-3")
    for number in (0, 1):
        status, answers = fleet.run(command(JOB, number))
        assert (status, answers) == (0, {device: {"status": 200, "payload": True} for device in devices})
    expected = {
        f"fleet/unassigned/{device}/{name}"
        for device in devices
        for name in ("order.json", f"received/DAY/{device}.json")
    }
    fleet.until(lambda: fleet.files() == expected)

    # Another value for one site
    assert fleet.run(command(TWIN, 0))[0] == 0
    fleet.until(lambda: bool(fleet.reported("device-2")["variables"]["value"] == {"site": "south"}))
    status, answers = fleet.run(command(JOB, 2))
    assert (status, answers) == (0, {"device-2": {"status": 200, "payload": True}})
    assert fleet.files() == expected | {"fleet/south/device-2/order.json"}

    # A misspelt one
    assert fleet.run(command(TWIN, 1))[0] == 0
    fleet.until(lambda: bool(fleet.reported("device-3")["sftp"]["ac"] == 400))
    told = fleet.run(command(TWIN, 2))[1]["properties"]["reported"]["sftp"]["ad"]
    assert f'"ad": "{told}"' in (ROOT / "docs/fleet.md").read_text()


def test_a_job_that_a_device_refuses_has_failed(fleet: Fleet) -> None:
    status, answers = fleet.run(["python", "-m", "localedge", "job", "tags.site = 'south'", "exists", '{"path": ""}'])
    assert (status, answers["device-2"]["status"]) == (1, 400)
