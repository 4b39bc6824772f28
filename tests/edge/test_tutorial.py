"""What docs/tutorial.md shows: its commands, one after the other, on the edge runtime that it starts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/tutorial.md").read_text()
LIMIT = 100  # seconds for each block: bounds a hang
SHOWN = "--directory demo-files/tutorial"
START = f"localedge run {SHOWN}"
BEFORE = ("make demo", "source .venv/bin/activate")  # what has made the environment of this test
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def tutorial(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start what the first terminal of the page shows; the folder beside it is that of the clone."""
    folder = tmp_path_factory.mktemp("tutorial")
    shutil.copy(ROOT / "deployment.template.json", folder)
    programs = folder / "programs"
    programs.mkdir()
    (programs / "localedge").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m localedge "$@"\n')
    (programs / "localedge").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        patch.delenv("SFTP_HOST", raising=False)
        command = [*START.split(), "--address", address]
        with subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            seen = ""
            for line in process.stdout:
                seen += line
                if "Connected to" in line:
                    break
            else:
                pytest.fail(seen)
            yield folder
            process.terminate()
            process.stdout.read()


def commands(block: str) -> str:
    return "".join(f"{line}\n" for line in block.splitlines() if line not in (*BEFORE, START))


def run(block: str, folder: Path) -> str:
    done = subprocess.run(["sh", "-ec", block], cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_the_page_shows_happens(tutorial: Path) -> None:
    texts = [run(text, tutorial) for block in BLOCKS if (text := commands(block))]
    listing, missing, _, arrived, twin, mistake, _ = texts

    assert '"hello.txt"' in listing
    assert "Hello from the SFTP server." in listing
    assert '"code": "not_found"' in missing
    assert arrived.endswith("day.csv\ntemperature;21.5\n")
    assert not os.listdir(tutorial / "demo-files/tutorial/local/out")
    assert '"state": "active"' in twin
    assert '"files": 1' in twin
    assert "'concurrency' must be greater than or equal to 1" in mistake


def test_the_page_starts_what_this_test_starts() -> None:
    assert START in PAGE
    assert set(BEFORE) <= set("".join(BLOCKS).splitlines())
