"""The guard before publishing, as the workflow runs it, on trees that agree with themselves and trees that do not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION_FILE = "modules/sftp/iot/sftp/client/_version.py"
CHANGELOG = """\
# Changelog

## [Unreleased]

## [1.2.0] - 2026-11-23

### Added

- Something that a user gets.

## [1.1.0] - 2026-10-01

### Fixed

[1.1.0]: https://example.com/1.1.0
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree that can be released as v1.2.0."""
    write_versions(tmp_path, "1.2.0")
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    return tmp_path


def write_versions(tree: Path, version: str) -> None:
    (tree / VERSION_FILE).parent.mkdir(parents=True, exist_ok=True)
    (tree / VERSION_FILE).write_text(f'"""The version."""\n\nVERSION = "{version}"\n__version__ = VERSION\n')
    (tree / "modules/sftp/module.json").write_text(json.dumps({"image": {"tag": {"version": version}}}))


def check(tree: Path, *arguments: str) -> tuple[int, str]:
    """Return the guard's exit status and what it says."""
    command = [sys.executable, str(ROOT / "tools/check-release"), *arguments]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_tag_that_version_image_and_changelog_agree_with_is_released(tree: Path) -> None:
    assert check(tree, "v1.2.0") == (0, "v1.2.0 can be released.\n")


def test_a_tag_that_differs_from_the_version_is_refused(tree: Path) -> None:
    status, message = check(tree, "v1.3.0")

    assert status == 1
    assert f"the tag is v1.3.0, and {VERSION_FILE} says 1.2.0: it must be v1.2.0" in message


def test_a_tag_without_its_v_is_refused(tree: Path) -> None:
    status, message = check(tree, "1.2.0")

    assert status == 1
    assert "it must be v1.2.0" in message


def test_an_image_of_another_version_is_refused(tree: Path) -> None:
    (tree / "modules/sftp/module.json").write_text('{"image": {"tag": {"version": "1.1.0"}}}')

    status, message = check(tree, "v1.2.0")

    assert status == 1
    assert "module.json tags the image 1.1.0" in message


def test_a_version_that_the_changelog_does_not_name_is_refused(tree: Path) -> None:
    write_versions(tree, "1.2")

    status, message = check(tree, "v1.2")

    assert status == 1
    assert message == "check-release: CHANGELOG.md does not describe 1.2: add a section '## [1.2] - YYYY-MM-DD'\n"


def test_a_section_without_a_single_line_is_refused(tree: Path) -> None:
    write_versions(tree, "1.1.0")

    status, message = check(tree, "v1.1.0")

    assert status == 1
    assert "the section of 1.1.0 is empty" in message


@pytest.mark.parametrize("heading", ["## [1.2.0]", "## [1.2.0] - soon", "## [1.2.0] - 2026-11-23 (draft)"])
def test_a_section_without_a_date_is_refused(tree: Path, heading: str) -> None:
    changelog = CHANGELOG.replace("## [1.2.0] - 2026-11-23", heading)
    (tree / "CHANGELOG.md").write_text(changelog)

    status, message = check(tree, "v1.2.0")

    assert status == 1
    assert "must read '## [1.2.0] - YYYY-MM-DD'" in message


def test_everything_that_is_wrong_is_said_at_once(tree: Path) -> None:
    write_versions(tree, "1.4.0")

    status, message = check(tree, "v1.3.0")

    assert status == 1
    assert len(message.splitlines()) == 2


def test_without_a_tag_it_says_how_it_is_used(tree: Path) -> None:
    status, message = check(tree)

    assert status == 2
    assert "tools/check-release v0.1.0" in message


def test_this_very_tree_can_be_released_as_its_version() -> None:
    version = (ROOT / VERSION_FILE).read_text().split('VERSION = "')[1].split('"')[0]

    assert check(ROOT, f"v{version}") == (0, f"v{version} can be released.\n")
