"""The words of the Makefile, as somebody on a new machine meets them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 580  # seconds


def run(*command: str, **variables: str) -> tuple[int, str]:
    ours = "MAKE", "MFLAGS", "COVERAGE", "PYTEST"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment | variables, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_make_alone_lists_every_word_and_changes_nothing() -> None:
    makefile = (ROOT / "Makefile").read_text()
    words = set(re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)[0].split())

    status, text = run("make")

    assert status == 0
    assert {line.split()[1] for line in text.splitlines()} == words


def test_a_missing_python_is_named_with_what_to_do(tmp_path: Path) -> None:
    command = ("tools/make-environment", str(tmp_path / "environment"), "requirements/demo.txt")

    status, text = run(*command, PYTHON="python-that-is-not-here")

    assert status != 0
    assert text.startswith("make-environment: there is no 'python-that-is-not-here' here. Install Python 3.10")
    assert not (tmp_path / "environment").exists()


def test_a_python_that_is_too_old_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    # No machine is sure to have an old Python, so this one only says that it is.
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2"\nexit 1\n')
    old.chmod(0o755)

    status, text = run(
        "tools/make-environment", str(tmp_path / "environment"), "requirements/demo.txt", PYTHON=str(old)
    )

    assert status != 0
    assert "is Python 3.9.2, and 3.10 or newer is needed" in text
    assert not (tmp_path / "environment").exists()


def test_the_servers_that_the_tests_need_are_installed_once_and_then_left_alone() -> None:
    assert run("tools/install-test-servers") == (0, "")


@pytest.mark.nightly  # it makes an environment, and the command changes seldom
@pytest.mark.timeout(600)
def test_make_mutants_tries_one_change_and_reports_it(tmp_path: Path) -> None:
    options = f"--modules client/_base/os_errors --sample 1 --processes 1 --output {tmp_path}"

    status, text = run("make", "mutants", f"MUTANTS_OPTIONS={options}")

    assert status == 0, text
    assert re.search(
        r"^\| `client/_base/os_errors` \| \d+ \| 1 \| [01] \| 0 \| [01] \| \d+ min \|$", text, re.MULTILINE
    )
    assert (tmp_path / "os_errors.md").read_text().startswith("| `client/_base/os_errors` |")


@pytest.mark.nightly  # as above
@pytest.mark.timeout(600)
def test_make_fuzz_searches_or_says_that_it_cannot(tmp_path: Path) -> None:
    options = f"--seconds 1 --targets host_keys --output {tmp_path}"

    status, text = run("make", "fuzz", f"FUZZ_OPTIONS={options}")

    assert status == 0 or "there is no atheris here" in text, text
    assert "host_keys" in text
