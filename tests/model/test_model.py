"""Some steps of the model, the same ones each time: `make soak` takes thousands, others each time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.model.calls import Calls
from tests.model.figures import Figures
from tests.model.running import MACHINES, parts, run

if TYPE_CHECKING:
    from tests.model.machine import Machine

ROOT = Path(__file__).parents[2]
EXAMPLES, STEPS = 2, 20  # of each machine: some 200 steps of all
SEED = 15
# The server of the model may lose a file of a connection that was cut: asyncssh leaves it to the garbage collector
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <_io.FileIO name=b'[^']*/model-:pytest.PytestUnraisableExceptionWarning"
)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
def test_each_version_arrives_once_and_whole_whatever_goes_wrong(machine: type[Machine]) -> None:
    figures = Figures()
    with parts(figures):
        run(machine, examples=EXAMPLES + (machine is Calls), steps=STEPS, seed=SEED)  # else no call delivers anything
    assert figures.counts["deliveries"] > 0
    assert sum(figures.faults.values()) > 0


def test_the_program_runs_and_writes_what_it_counted(tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    options = ["--steps", "20", "--seed", "7", "--machine", "Outbox", "--report", str(report)]
    command = [sys.executable, "-m", "tests.model", *options]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=220)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "**0 violations.**" in report.read_text()
    assert report.with_suffix(".violations.md").exists()
