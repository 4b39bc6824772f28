"""`iot` is shared with sibling distributions: each of us imports beside the others, whoever comes first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from iot.sftp.client import __version__

ROOT = Path(__file__).parents[2]
# Made by `make test`: our wheel and iot-edge-logger, installed together.
SIBLINGS_PYTHON = ROOT / ".venv-siblings/bin/python"
OURS = ROOT / "modules/sftp"
PKGUTIL_STYLE = '__path__ = __import__("pkgutil").extend_path(__path__, __name__)\n'


def run(python: Path, script: str, *path: Path) -> str:
    """Return what a fresh interpreter prints, started away from the project, with `path` first on its sys.path."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, path))
    done = subprocess.run(
        [python, "-c", script],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_our_wheel_and_iot_edge_logger_work_in_one_environment() -> None:
    assert SIBLINGS_PYTHON.exists(), "make .venv-siblings/.made makes the environment that this test needs"

    printed = run(
        SIBLINGS_PYTHON,
        "import importlib.metadata, iot.edge.logger, iot.sftp.client\n"
        "assert 'site-packages' in iot.sftp.client.__file__\n"
        "print(iot.edge.logger.__version__, iot.sftp.client.__version__, importlib.metadata.version('pydantic'))\n"
        "print(iot.sftp.client.IoTSFTPClient.__name__)\n",
    )

    assert printed.split() == ["1.0.6", __version__, "1.9.0", "IoTSFTPClient"]


@pytest.mark.parametrize("ours_first", [True, False], ids=["before us", "after us"])
def test_a_sibling_that_declares_the_namespace_in_the_old_way_imports_with_us(tmp_path: Path, ours_first: bool) -> None:
    (tmp_path / "iot/other").mkdir(parents=True)
    (tmp_path / "iot/__init__.py").write_text(PKGUTIL_STYLE)
    (tmp_path / "iot/other/__init__.py").write_text("NAME = 'other'\n")
    path = [OURS, tmp_path] if ours_first else [tmp_path, OURS]

    printed = run(
        Path(sys.executable),
        "import iot.sftp.client, iot.other; print(iot.other.NAME, iot.sftp.client.__version__)",
        *path,
    )

    assert printed.split() == ["other", __version__]
