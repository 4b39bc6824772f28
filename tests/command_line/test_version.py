"""`iot-sftp --version` is asked by scripts, and needs nothing of the library."""

from __future__ import annotations

import subprocess
import sys

import pytest

from iot.sftp.client import VERSION
from iot.sftp.command_line import main

PROGRAM = """
import sys
from iot.sftp.command_line import main
status = main(["--version"])
assert "iot.sftp.client" not in sys.modules and "paramiko" not in sys.modules
sys.exit(status)
"""


def test_the_version_is_shown_without_an_import_of_the_library() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, f"iot-sftp {VERSION}\n", "")


def test_the_version_among_other_arguments_is_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version", "ls"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"iot-sftp {VERSION}\n")
