"""`iot-sftp` as people run it: a process of its own, against real servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.servers import Server

PROGRAM = (sys.executable, "-m", "iot.sftp.command_line")


@dataclass
class Outcome:
    """How a run of the program ended."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


@dataclass
class Terminal:
    """Runs `iot-sftp` in a directory, with the variables that name the server.

    No file that it writes may be larger than so many `blocks` of 512 bytes, as on a disk that is full.
    """

    server: Server
    directory: Path
    variables: dict[str, str]
    blocks: int | None = None

    def run(self, *arguments: str, **variables: str) -> Outcome:
        limit: list[str] = []
        environment = os.environ | self.variables | variables
        if self.blocks:
            limit = ["sh", "-c", 'ulimit -f "$0"; exec "$@"', str(self.blocks)]
            environment = {name: value for name, value in environment.items() if "COVERAGE" not in name}  # writes too
        done = subprocess.run(
            [*limit, *PROGRAM, *arguments],
            cwd=self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)


def terminal_of(server: Server, directory: Path) -> Terminal:
    variables = {"IOT_SFTP_HOST": server.host, "IOT_SFTP_PORT": str(server.port), "IOT_SFTP_USER": server.user}
    if server.password:
        variables["IOT_SFTP_PASSWORD"] = server.password
    if server.key_file:
        variables["IOT_SFTP_KEY_FILE"] = str(server.key_file)
    directory.mkdir(exist_ok=True)
    return Terminal(server, directory, variables)


@pytest.fixture
def terminal(server: Server, tmp_path: Path) -> Terminal:
    """A terminal for each of the two real servers in turn."""
    return terminal_of(server, tmp_path / "here")


@pytest.fixture
def openssh_terminal(openssh_server: Server, tmp_path: Path) -> Terminal:
    return terminal_of(openssh_server, tmp_path / "here")
