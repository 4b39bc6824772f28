"""Every command that docs/command-line.md shows is run, in its order, and works as it says."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
from pathlib import Path

from tests.command_line.conftest import PROGRAM, Terminal

from iot.sftp.command_line._arguments import parser
from iot.sftp.command_line._completion import commands_of, words_of

PAGE = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
LINES = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


def test_every_command_of_the_page_works(terminal: Terminal, folder: str) -> None:
    (terminal.directory / "report.csv").write_text("a;b\n")
    (terminal.server.directory / folder / "orders").mkdir()
    commands = [shlex.split(line)[1:] for line in LINES if line.startswith("iot-sftp ")]

    assert len(commands) > 10
    for command in commands:
        ended = terminal.run(*command, IOT_SFTP_ROOT=folder)
        assert (ended.status, ended.err) == (0, ""), (command, ended.err)
    assert (terminal.directory / "copy.csv").read_text() == "a;b\n"


def test_the_line_for_the_shell_works(terminal: Terminal) -> None:
    (line,) = (line for line in LINES if line.startswith("eval "))
    program = f'iot-sftp() {{ {shlex.join(PROGRAM)} "$@"; }}; {line}; complete -p iot-sftp'

    assert (
        "_iot_sftp"
        in subprocess.run(
            ["bash", "-c", program], cwd=terminal.directory, capture_output=True, text=True, check=True
        ).stdout
    )


def test_every_option_and_command_is_on_the_page() -> None:
    for name, command in commands_of(parser()).items():
        assert f"iot-sftp {name}" in PAGE
        for word in itertools.chain(*words_of(command)):
            assert word == "--help" or word in PAGE, word


def test_every_option_of_the_server_is_beside_its_variable() -> None:
    for option, variable in re.findall(r"^\| `--([a-z-]+)` \| `IOT_SFTP_([A-Z_]+)`", PAGE, re.MULTILINE):
        assert option.replace("-", "_").upper() == variable
