"""What is published: the wheel and the source archive that `make test` builds, and the pins they are installed with."""

from __future__ import annotations

import email
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))


@pytest.fixture(scope="module")
def wheel() -> zipfile.ZipFile:
    paths = list((ROOT / "dist").glob("*.whl"))
    assert len(paths) == 1, "make .venv-siblings/.made builds the wheel that this test looks at"
    return zipfile.ZipFile(paths[0])


def test_the_wheel_holds_its_three_packages_and_nothing_that_a_sibling_owns(wheel: zipfile.ZipFile) -> None:
    files = [name for name in wheel.namelist() if ".dist-info/" not in name]

    assert {"/".join(name.split("/")[:3]) for name in files} == {
        "iot/sftp/client",
        "iot/sftp/command_line",
        "iot/sftp/module",
    }
    for floor in ("client", "command_line", "module"):
        sources = {path.relative_to(ROOT / "modules/sftp").as_posix() for path in floor_sources(floor)}
        assert sources <= set(files)
        assert f"iot/sftp/{floor}/py.typed" in files


def floor_sources(floor: str) -> list[Path]:
    return list((ROOT / "modules/sftp/iot/sftp" / floor).rglob("*.py"))


def test_the_wheel_says_what_it_needs_and_under_which_licence(wheel: zipfile.ZipFile) -> None:
    (metadata_file,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = email.message_from_bytes(wheel.read(metadata_file))
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]

    assert metadata["Name"] == "iot-sftp-client"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata.get_all("Provides-Extra") == ["module"]
    # Two and no more: pydantic is the module's alone, because siblings pin an old one.
    assert sorted(re.split(r"[<>=]", line)[0] for line in needed) == ["paramiko", "pysftp", "python-socks"]
    assert [name for name in wheel.namelist() if name.endswith(".dist-info/licenses/LICENSE")]


def test_the_source_archive_builds_the_same(wheel: zipfile.ZipFile) -> None:
    # The wheel was built from it, so that it lacks nothing; it holds no environment and no build leavings either.
    (path,) = (ROOT / "dist").glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    for name in wheel.namelist():
        assert ".dist-info/" in name or f"modules/sftp/{name}" in names
    assert {"pyproject.toml", "README.md", "LICENSE"} <= names
    assert not [name for name in names if name.startswith((".", "build", "dist"))]


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.stem)
def test_every_requirement_is_pinned_and_hashed_and_no_index_is_named(path: Path) -> None:
    text = path.read_text()
    entries = re.sub(r"\s*#.*", "", text).replace("\\\n", " ").splitlines()

    assert "://" not in text
    for entry in filter(None, entries):
        assert re.match(r"[a-z0-9._-]+==\S+( ;.*?)?( +--hash=sha256:[0-9a-f]{64})+$", entry), entry


def test_what_ships_and_what_the_demo_uses_is_what_was_tested() -> None:
    tested = pins("dev")

    assert pins("module") <= pins("demo")
    assert {pin.partition(" ;")[0] for pin in pins("demo")} <= {pin.partition(" ;")[0] for pin in tested}


def pins(name: str) -> set[str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return {line.removesuffix(" \\").split(" ;")[0] for line in text.splitlines() if "==" in line}
