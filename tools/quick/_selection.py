"""Which files differ from the main branch, and which test files are about them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path, PurePosixPath

MAIN = ("main", "origin/main")
SOURCES = PurePosixPath("modules/sftp/iot/sftp")
PREPARES = ("conftest.py", "__init__.py")
# Folders that are not named as their tests are
TESTED_BY = {"tools/localedge": "tests/edge", "tools/check-release": "tests/frame/test_release.py"}
PAGES = "tests/frame/test_documentation.py"


def changed_files(root: Path, since: str | None = None) -> list[str]:
    """Return what differs from a commit, in the working tree too, and what git does not know yet.

    Parameters:
        root: the project.
        since: the commit; by default where this branch left the main branch, or the last commit where there is none.
    """
    base = since or _fork_point(root)
    differs = _git(root, "diff", "--name-only", base)
    unknown = _git(root, "ls-files", "--others", "--exclude-standard")
    return sorted({*differs.splitlines(), *unknown.splitlines()})


def select_tests(changed: list[str], root: Path) -> list[str]:
    """Return the test files that are about the changed files, in the order of their names."""
    known = {path.relative_to(root).as_posix(): path.read_text() for path in (root / "tests").rglob("test_*.py")}
    found: set[str] = set()
    for name in changed:
        found.update(_of_one(PurePosixPath(name), known))
    return sorted(found)


def _of_one(path: PurePosixPath, known: dict[str, str]) -> set[str]:
    """Return the tests of one file: itself, those of its room or folder, and those that name it."""
    if path.as_posix() in known:
        return {path.as_posix()}
    if path.is_relative_to(SOURCES):
        return _of_source(path.relative_to(SOURCES), known)
    if path.parts[0] == "tests":
        return _below(path.parent, known) if path.name in PREPARES else _importing(path, known)
    found = _below(PurePosixPath("tests") / path.parts[0], known)  # examples, benchmarks
    if path.parts[0] == "tools":
        tool = "/".join(path.parts[:2])
        place = TESTED_BY.get(tool, f"tests/{path.parts[1]}")
        found |= _below(PurePosixPath(place), known) | {f"tests/frame/test_{path.parts[1]}.py"} & known.keys()
    if path.suffix == ".md" or path.name == "Makefile":
        found |= {PAGES} & known.keys()
    mention = re.compile(rf"\b{re.escape(path.name)}\b")
    return found | {name for name, text in known.items() if mention.search(text)}


def _of_source(path: PurePosixPath, known: dict[str, str]) -> set[str]:
    """Return the tests of a room, or of a floor for a file that lies in no room."""
    tests = PurePosixPath("tests", *(part.lstrip("_") for part in path.parent.parts))
    if path.parent.name.startswith("_"):
        return _below(tests, known)
    return {name for name in known if PurePosixPath(name).parent == tests}


def _below(place: PurePosixPath, known: dict[str, str]) -> set[str]:
    return {name for name in known if PurePosixPath(name).is_relative_to(place)}


def _importing(path: PurePosixPath, known: dict[str, str]) -> set[str]:
    """Return the tests that import a file that tests share."""
    module = ".".join(path.with_suffix("").parts)
    mention = re.compile(rf"\b{re.escape(module)}\b")
    return {name for name, text in known.items() if mention.search(text)}


def _fork_point(root: Path) -> str:
    for branch in MAIN:
        point = _git(root, "merge-base", branch, "HEAD", check=False).strip()
        if point:
            return point
    return "HEAD"


def _git(root: Path, *arguments: str, check: bool = True) -> str:
    return subprocess.run(  # noqa: S603 - our own words
        ["git", *arguments],  # noqa: S607 - the one that is found first, as in a shell
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=check,
    ).stdout
