"""Files of a tree are found without leaving it, and removed only as what was found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from iot.sftp.client import Busy, NotFound, PathNotAllowed, SFTPError
from iot.sftp.client._files.set_aside import PREFIX, VersionChanged
from iot.sftp.module._retention.found_file import FoundFile
from iot.sftp.module._retention.local_tree import LocalTree, opened_tree
from iot.sftp.module._retention.tree_walk import DEPTH_MAXIMUM, TreeWalk
from iot.sftp.module._work.local_files import LocalRoot
from iot.sftp.module._work.real_path import real_path


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[LocalTree]:
    (tmp_path / "data/out").mkdir(parents=True)
    (tmp_path / "data/out/state").mkdir()
    state = tmp_path / "data/out/state"
    with opened_tree(LocalRoot(tmp_path / "data", state), "out", state) as tree:
        yield tree


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "data/out"


def found_in(tree: LocalTree) -> dict[str, FoundFile]:
    return {file.path: file for file in tree.files(lambda: None, lambda _path: True)}


def test_files_of_all_folders_are_found_but_links_and_what_is_ours(tree: LocalTree, out: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/secret").write_bytes(b"1")
    (out / "a/b").mkdir(parents=True)
    for name in ("1", "a/2", "a/b/3", "a/.iot-sftp-0123456789abcdef", "state/rules.sqlite3"):
        (out / name).write_bytes(b"12")
    (out / "link").symlink_to(tmp_path / "elsewhere")
    (out / "file-link").symlink_to("1")
    os.mkfifo(out / "pipe")
    found = found_in(tree)
    assert set(found) == {"1", "a/2", "a/b/3"}
    assert {file.size for file in found.values()} == {2}
    assert tree.problem is None


def test_what_a_killed_process_had_set_aside_is_put_back(tree: LocalTree, out: Path) -> None:
    (out / f"{PREFIX}01234567-a").write_bytes(b"1")
    assert found_in(tree) == {}
    assert set(found_in(tree)) == {"a"}


def test_folders_too_deep_are_named_and_the_rest_is_found(tree: LocalTree, out: Path) -> None:
    deep = out.joinpath(*["d"] * (DEPTH_MAXIMUM + 1))
    deep.mkdir(parents=True)
    (deep / "too-deep").write_bytes(b"")
    (deep.parent / "deep").write_bytes(b"")
    assert [os.path.basename(path) for path in found_in(tree)] == ["deep"]
    assert tree.problem is not None
    assert "deep only" in tree.problem


def test_a_folder_that_cannot_be_read_is_named() -> None:
    walk = TreeWalk(lambda _directory: True, lambda: None, lambda _path: True)
    assert list(walk.below(10**6, "closed/")) == []  # no descriptor
    assert walk.problem == "'closed/' cannot be looked into: Bad file descriptor"


def test_a_file_is_removed(tree: LocalTree, out: Path) -> None:
    (out / "a").mkdir()
    (out / "a/1").write_bytes(b"1")
    tree.remove(found_in(tree)["a/1"])
    assert os.listdir(out / "a") == []


@pytest.mark.parametrize("change", ["written", "replaced", "touched", "linked", "folder", "piped"])
def test_what_is_not_what_was_found_stays(tree: LocalTree, out: Path, tmp_path: Path, change: str) -> None:
    file = out / "a/1"
    file.parent.mkdir()
    file.write_bytes(b"1")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "1").write_bytes(b"precious")
    found = found_in(tree)["a/1"]
    if change == "written":
        file.write_bytes(b"2")
    elif change == "replaced":
        (out / "new").write_bytes(b"2")
        (out / "new").rename(file)
    elif change == "touched":
        os.utime(file, ns=(0, found.modified))
    elif change == "linked":
        file.unlink()
        file.symlink_to(outside / "1")
    elif change == "folder":
        file.parent.rename(out / "b")
        (out / "a").symlink_to(outside)
    else:
        file.unlink()
        os.mkfifo(file)
    with pytest.raises(SFTPError) as raised:
        tree.remove(found)
    assert isinstance(raised.value, VersionChanged | PathNotAllowed | NotFound) or change in {"linked", "folder"}
    assert (outside / "1").read_bytes() == b"precious"
    assert change == "folder" or os.path.lexists(file)


def test_what_is_still_being_written_stays(tree: LocalTree, out: Path) -> None:
    with (out / "log").open("w") as log:
        log.write("line\n")
        log.flush()
        found = found_in(tree)["log"]
        with pytest.raises(Busy):
            tree.remove(found)
    assert (out / "log").exists()


def test_what_has_gone_is_not_found(tree: LocalTree, out: Path) -> None:
    (out / "a").write_bytes(b"")
    found = found_in(tree)["a"]
    (out / "a").unlink()
    with pytest.raises(NotFound):
        tree.remove(found)


def test_a_folder_that_is_moved_while_it_is_open_is_the_same(tree: LocalTree, out: Path) -> None:
    (out / "a").write_bytes(b"")
    found = found_in(tree)["a"]
    out.rename(out.parent / "moved")
    assert real_path(tree.directory) == str(out.parent.resolve() / "moved")
    tree.remove(found)
    assert os.listdir(out.parent / "moved") == ["state"]
