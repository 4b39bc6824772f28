"""The rehearsal of a release, but for builds, environments and images, which take minutes: `make release` has these."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from release import PLACES, Checkout, Place, ReleaseError, changelog_with, set_version, version_of, wrong_places
from release._build import repacked
from release._pythons import THIS, classified, found
from release._sbom import of_image

ROOT = Path(__file__).parents[2]
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A thing.\n\n## [0.0.1] - 2026-01-01\n\n- The first.\n"
MOMENT = 1_790_000_000


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with one commit."""
    root = tmp_path / "clone"
    root.mkdir()
    (root / "program").write_text("#!/bin/sh\n")
    (root / "program").chmod(0o700)
    (root / "text").write_text("a\n")
    (root / ".gitignore").write_text("made/\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "first")
    return root


def git(root: Path, *words: str) -> None:
    author = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.com", "-c", "commit.gpgsign=false")
    environment = {**os.environ, "GIT_COMMITTER_DATE": f"{MOMENT} +0000"}
    subprocess.run(["git", *author, *words], cwd=root, env=environment, check=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The files of this project that name its version."""
    for name in {place.file for place in PLACES} | {"tools/check-release"}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    return tmp_path


# --- the commit


def test_what_is_not_committed_is_not_released(clone: Path) -> None:
    assert Checkout.of(clone).moment == MOMENT
    (clone / "made").mkdir()
    (clone / "made/ignored").touch()
    Checkout.of(clone)
    (clone / "new").touch()
    with pytest.raises(ReleaseError, match=r"(?s)1 files are not those of the commit.*\?\? new"):
        Checkout.of(clone)
    (clone / "new").unlink()
    (clone / "text").write_text("b\n")
    with pytest.raises(ReleaseError, match=" M text"):
        Checkout.of(clone)


def test_a_copy_has_the_files_of_the_commit_and_modes_that_are_nobodys_own(clone: Path, tmp_path: Path) -> None:
    (clone / "made").mkdir()
    (clone / "made/ignored").touch()
    copy = Checkout.of(clone).copy(tmp_path / "copy")
    assert {path.name for path in copy.iterdir()} == {"program", "text", ".gitignore"}
    assert (copy / "program").stat().st_mode & 0o777 == 0o755
    assert (copy / "text").stat().st_mode & 0o777 == 0o644
    assert (copy / "text").stat().st_mtime == MOMENT


def test_a_folder_that_is_no_clone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="git"):
        Checkout.of(tmp_path)


# --- the version


def test_everything_here_names_one_version() -> None:
    assert list(wrong_places(ROOT, version_of(ROOT))) == []


@pytest.mark.parametrize("place", PLACES[1:], ids=lambda place: place.file)
def test_a_place_that_names_another_version_is_found(tree: Path, place: Place) -> None:
    place.write(tree, "9.8.7")
    assert list(wrong_places(tree, version_of(tree))) == [
        f"{place.file} names 9.8.7, and the code is {version_of(tree)}"
    ]


def test_a_place_that_is_not_there_any_more_is_found(tree: Path) -> None:
    (tree / "docs/twin.md").write_text("nothing\n")
    (problem,) = wrong_places(tree, version_of(tree))
    assert problem.startswith("docs/twin.md: the version is not where it was")


def test_a_page_that_names_an_image_of_another_version_is_found(tree: Path) -> None:
    (tree / "docs/another.md").write_text("docker pull registry.example.com/iot-sftp-client:9.8.7-amd64\n")
    assert list(wrong_places(tree, version_of(tree))) == [
        f"docs/another.md names 9.8.7, and the code is {version_of(tree)}"
    ]


@pytest.mark.parametrize("version", ["9.8.7", "10.0.0rc1"])
def test_a_version_is_set_everywhere_at_once(tree: Path, version: str) -> None:
    changed = set_version(tree, version, "2026-12-01")
    assert set(changed) == {"CHANGELOG.md", *(place.file for place in PLACES)}
    assert version_of(tree) == version
    assert list(wrong_places(tree, version)) == []
    assert json.loads((tree / "modules/sftp/module.json").read_text())["image"]["tag"]["version"] == version
    command = [sys.executable, str(tree / "tools/check-release"), f"v{version}"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"v{version} can be released.\n"), done.stderr


@pytest.mark.parametrize("version", ["1", "1.0", "v1.0.0", "1.0.0-rc1", "1.0.0\n", ""])
def test_what_is_no_version_is_not_set(tree: Path, version: str) -> None:
    before = (tree / "CHANGELOG.md").read_text()
    with pytest.raises(ReleaseError, match="is not a version"):
        set_version(tree, version, "2026-12-01")
    assert (tree / "CHANGELOG.md").read_text() == before


def test_what_was_unreleased_gets_a_heading() -> None:
    assert changelog_with(CHANGELOG, "1.0.0", "2026-12-01").splitlines()[2:10] == [
        "## [Unreleased]",
        "",
        "## [1.0.0] - 2026-12-01",
        "",
        "### Added",
        "",
        "- A thing.",
        "",
    ]
    with pytest.raises(ReleaseError, match="already"):
        changelog_with(CHANGELOG, "0.0.1", "2026-12-01")
    with pytest.raises(ReleaseError, match="nothing under Unreleased"):
        changelog_with(changelog_with(CHANGELOG, "1.0.0", "2026-12-01"), "1.0.1", "2026-12-02")


# --- the files


def archive_of(files: dict[str, bytes], *, owner: int, moment: int) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        folder = tarfile.TarInfo("a-1")
        folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, 0o700, moment
        archive.addfile(folder)
        for name, content in files.items():
            member = tarfile.TarInfo(f"a-1/{name}")
            member.size, member.uid, member.mtime = len(content), owner, moment
            member.mode = 0o700 if name == "program" else 0o600
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def test_a_source_archive_depends_on_its_contents_alone() -> None:
    one = archive_of({"program": b"x", "text": b"y" * 10_000}, owner=7, moment=1_000_000_000)
    other = archive_of({"text": b"y" * 10_000, "program": b"x"}, owner=1000, moment=1_700_000_000)
    assert repacked(one, MOMENT) == repacked(other, MOMENT) == repacked(repacked(one, MOMENT), MOMENT)
    assert repacked(one, MOMENT) != repacked(archive_of({"program": b"z"}, owner=7, moment=1), MOMENT)
    with tarfile.open(fileobj=io.BytesIO(repacked(one, MOMENT))) as archive:
        members = {member.name: (member.mode, member.uid, member.mtime) for member in archive}
        text = archive.extractfile("a-1/text")
        assert text is not None
        assert text.read() == b"y" * 10_000
    assert members == {
        "a-1": (0o755, 0, MOMENT),
        "a-1/program": (0o755, 0, MOMENT),
        "a-1/text": (0o644, 0, MOMENT),
    }


def test_an_image_is_listed_with_the_packages_of_debian_and_of_python(tmp_path: Path) -> None:
    root, output = tmp_path / "root", tmp_path / "list.json"
    (root / "var/lib/dpkg").mkdir(parents=True)
    (root / "var/lib/dpkg/status").write_text(
        "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2:1.0+b1\n"
        "Description: words\n and more\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n"
    )
    metadata = root / "opt/module/iot_sftp_client-1.0.0.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(
        "Metadata-Version: 2.4\nName: iot_sftp_client\nVersion: 1.0.0\nLicense-Expression: MIT\n\nText\n"
    )
    checkout = Checkout(tmp_path, "c" * 40, MOMENT)
    assert of_image(root, "image", "1.0.0", checkout, output) == {"deb": 1, "pypi": 1}
    first = output.read_text()
    assert [component["purl"] for component in json.loads(first)["components"]] == [
        "pkg:deb/debian/libc6@2%3A1.0%2Bb1?arch=amd64",
        "pkg:pypi/iot-sftp-client@1.0.0",
    ]
    of_image(root, "image", "1.0.0", checkout, output)
    assert output.read_text() == first


# --- the Pythons


def test_the_python_that_runs_this_is_among_those_that_are_tried_and_claimed() -> None:
    assert THIS in found()
    assert THIS in classified(ROOT)


def test_what_the_project_claims_is_what_the_workflow_runs() -> None:
    workflow = (ROOT / ".github/workflows/test.yml").read_text()
    assert f"python: {json.dumps(classified(ROOT))}" in workflow
