"""What `make demo` shows: the module, on everything that is here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from iot.sftp.module._methods.table import METHODS
from localedge import demo

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "deployment.template.json"
LIMIT = 100


def run_demo(*arguments: str, directory: Path, address: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "localedge.demo", "--directory", str(directory), "--address", address, *arguments]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=LIMIT, check=False)


def test_the_demo_calls_every_method_and_leaves_its_files(tmp_path: Path, address: str) -> None:
    arguments = ("--template", str(TEMPLATE), "--picture", str(tmp_path / "demo.svg"))
    for _ in range(2):  # the second time it finds what the first has left
        done = run_demo(*arguments, directory=tmp_path / "files", address=address)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"All {len(demo.STEPS)} calls were answered as expected" in done.stdout
        assert "The module's message on its output tasks" in done.stdout
    files = tmp_path / "files"
    assert (files / "sftp/images/image.bin").read_bytes() == (files / "local/image.bin").read_bytes()
    assert (files / "sftp/archive/report.csv").read_bytes() == (files / "local/report.csv").read_bytes()
    assert (files / "module.log").stat().st_size > 0
    shows_every_method(tmp_path / "demo.svg")


def shows_every_method(picture: Path) -> None:
    text = picture.read_text().replace("&#160;", " ")
    assert f"All {len(demo.STEPS)} calls were answered as expected" in re.sub(r"<[^>]*>|\n", "", text)
    for step in demo.STEPS:
        assert step.method in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "").replace("https://www.textualize.io", "")


def test_the_picture_in_the_readme_is_of_this_demo() -> None:
    picture = ROOT / "docs" / "demo.svg"

    shows_every_method(picture)
    assert f"({picture.relative_to(ROOT)})" in (ROOT / "README.md").read_text()
    assert "/demo-files/" not in picture.read_text()


def test_the_demo_calls_every_method_of_the_module() -> None:
    assert {step.method for step in demo.STEPS} >= set(METHODS)


def test_the_demo_fails_when_an_answer_is_not_the_expected_one(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = demo.Step("exists", {"path": "hello.txt"}, 200, demo.equals(value=False))
    monkeypatch.setattr(demo, "STEPS", (step,))
    with (tmp_path / "output").open("w") as output:
        assert not demo.demonstrate(Console(file=output, width=140), TEMPLATE, tmp_path / "files", address)
    text = (tmp_path / "output").read_text()
    assert "1 of 1 calls were not answered as expected, 4 files differ" in text


def test_the_demo_fails_when_it_cannot_be_run(tmp_path: Path, address: str) -> None:
    done = run_demo("--template", str(tmp_path / "missing.json"), directory=tmp_path, address=address)
    assert done.returncode == 1
    assert "The demo could not be run:" in done.stdout
    assert "missing.json" in done.stdout
