"""What the fuzzer has found useful or wrong once holds, on every Python and without the fuzzer."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzzing import TARGETS

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "fuzzing" / "corpus"
INPUTS = sorted(path.relative_to(CORPUS) for path in CORPUS.rglob("*") if path.is_file())


@pytest.mark.parametrize("place", INPUTS, ids=str)
def test_no_input_of_the_corpus_breaks_its_target(place: Path) -> None:
    importlib.import_module(f"fuzzing.{place.parent}").check((CORPUS / place).read_bytes())


def test_each_target_has_inputs_and_they_stay_few_and_small() -> None:
    assert {str(place.parent) for place in INPUTS} == set(TARGETS)
    assert len(INPUTS) < 200
    assert sum((CORPUS / place).stat().st_size for place in INPUTS) < 300_000


def test_where_there_is_no_atheris_it_is_told_what_to_do() -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'modules' / 'sftp'}{os.pathsep}{ROOT}"}
    run = subprocess.run(
        [sys.executable, "-m", "fuzzing"], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode == 1
    assert run.stderr.startswith("fuzzing: there is no atheris here")
    assert "make PYTHON=python3.11 fuzz" in run.stderr
