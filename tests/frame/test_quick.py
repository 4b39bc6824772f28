"""`make quick`: which tests are about what changed, and which of them a minute allows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from quick import changed_files, select_tests
from quick.durations import cost_of, fastest, left_out_by_file, read

ROOT = Path(__file__).parents[2]
MINE = "tests/frame/test_quick.py"


@pytest.mark.parametrize(
    "changed, test",
    [
        (MINE, MINE),
        ("modules/sftp/iot/sftp/client/_transfer/upload.py", "tests/client/transfer/test_resume.py"),
        ("modules/sftp/iot/sftp/client/_client.py", "tests/client/test_arguments.py"),
        ("modules/sftp/iot/sftp/module/_rules/runner.py", "tests/module/rules/test_rules.py"),
        ("modules/sftp/iot/sftp/command_line/_main.py", "tests/command_line/test_arguments.py"),
        ("tests/hostile/servers.py", "tests/hostile/test_streams.py"),
        ("tests/module/conftest.py", "tests/module/work/test_tasks_end_to_end.py"),
        ("tools/manifest/_expand.py", "tests/manifest/test_manifest.py"),
        ("tools/localedge/_hub.py", "tests/edge/test_methods.py"),
        ("tools/reference/__main__.py", "tests/frame/test_reference.py"),
        ("tools/check-release", "tests/frame/test_release.py"),
        ("docs/operate.md", "tests/module/app/test_operating.py"),
        ("docs/operate.md", "tests/frame/test_documentation.py"),
        ("Makefile", "tests/frame/test_commands.py"),
        ("examples/call_fleet.py", "tests/examples/test_calling.py"),
        ("deployment.template.json", "tests/manifest/test_manifest.py"),
    ],
)
def test_a_changed_file_leads_to_the_tests_that_are_about_it(changed: str, test: str) -> None:
    assert test in select_tests([changed], ROOT)


def test_a_room_does_not_lead_to_the_tests_of_the_others() -> None:
    found = select_tests(["modules/sftp/iot/sftp/client/_transfer/upload.py"], ROOT)

    assert {os.path.dirname(file) for file in found} == {"tests/client/transfer"}


def test_a_file_that_is_gone_or_unknown_leads_to_nothing() -> None:
    assert select_tests(["tests/frame/test_gone.py", "no-such-folder/" + "no" * 9], ROOT) == []


def git(directory: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=directory, check=True, capture_output=True)


def test_what_differs_from_the_main_branch_is_found_committed_or_not(tmp_path: Path) -> None:
    git(tmp_path, "init", "--initial-branch", "main")
    for name in ("same", "committed", "edited"):
        (tmp_path / name).write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message", "first")
    git(tmp_path, "checkout", "-b", "branch")
    (tmp_path / "committed").write_text("2")
    git(tmp_path, "commit", "--all", "--message", "second")
    (tmp_path / "edited").write_text("2")
    (tmp_path / "new").write_text("1")

    assert changed_files(tmp_path) == ["committed", "edited", "new"]
    assert changed_files(tmp_path, "HEAD") == ["edited", "new"]


def test_the_fastest_tests_are_chosen_as_long_as_there_is_time() -> None:
    costs = {"slow": 9.0, "quick": 0.1, "middle": 1.0}

    assert fastest(costs, 2) == {"quick", "middle"}
    assert fastest(costs, 100) == set(costs)
    assert fastest(costs, 0) == {"quick"}


def test_a_test_takes_what_it_took_or_what_its_fixtures_take() -> None:
    assert cost_of("a", ["edge"], {"a": 0.2}) == 0.2
    assert cost_of("b", ["tmp_path"], {}) < cost_of("b", ["openssh_server"], {}) < cost_of("b", ["shared_edge"], {})


def test_what_is_left_out_is_told_by_file() -> None:
    assert left_out_by_file({"b::x": 1.0, "a::y": 2.0, "a::z[1]": 3.0}) == ["a: 2 tests, 5 s", "b: 1 tests, 1 s"]


def test_durations_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == {}
    (tmp_path / "broken").write_text("{")
    assert read(tmp_path / "broken") == {}


TESTS = "import time\ndef test_fast(): pass\ndef test_slow(): time.sleep(0.3)\n"


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_run_notes_durations_and_the_next_one_leaves_the_slow_tests_out(tmp_path: Path, workers: str) -> None:
    (tmp_path / "test_both.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", str(tmp_path), "-p", "quick.durations"]
    command += ["-p", "no:cacheprovider", "-n", workers]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COVERAGE"))}

    def run(*options: str) -> str:
        return subprocess.run(
            [*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert "2 passed" in run()
    noted = json.loads((tmp_path / "build/durations.json").read_text())
    assert noted["test_both.py::test_slow"] >= 0.3 > noted["test_both.py::test_fast"]
    said = run("--seconds", "0.01")
    assert "1 passed" in said
    assert "left out, as they take too long: 1 tests" in said
    assert "test_both.py: 1 tests, 0 s" in said


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="git knows nothing of this copy")
def test_the_command_lists_the_files_that_it_would_run() -> None:
    command = [sys.executable, "-m", "quick", "--list", "--since", "HEAD"]

    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert said.startswith("quick: ")
    assert "test files are about them" in said
