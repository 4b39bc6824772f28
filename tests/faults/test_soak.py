"""The soak itself: it runs, ends when its time is over, and writes what it counted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.faults
def test_it_ends_in_time_and_writes_what_it_counted(tmp_path: Path) -> None:
    options = ["--minutes", "0.2", "--seed", "7", "--cycles", "18", "--output", str(tmp_path / "report")]
    command = [sys.executable, "-m", "tests.faults.soak", *options]
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin", "PYTHONPATH": f"{ROOT}/tools", "HOME": str(tmp_path)}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=110)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["wrong"] == []
    assert sum(one["times"] for one in found["faults"].values()) > 0
    assert sum(found["outcomes"].values()) > 0
    assert found["failing connections"][0]["cycles"] == 18
    assert "seed `7`" in (tmp_path / "report.md").read_text()
