"""A local directory is listed, and a local file deleted, inside the root: whatever lies there, and whoever swaps it."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from iot.sftp.client import (
    Busy,
    DeadlineExceeded,
    FileInfo,
    IsADirectory,
    NotADirectory,
    NotFound,
    PathNotAllowed,
    SFTPError,
)
from iot.sftp.module._work.local_directory import delete_local_file, list_local_directory
from iot.sftp.module._work.local_files import LocalRoot


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    (root / "in").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("outside")
    return root


@pytest.fixture
def local(root: Path) -> LocalRoot:
    return LocalRoot(root, root / "state")


def listed(
    local: LocalRoot, path: str = ".", *, limit: int = 1000, after: str | None = None, timeout: float = 60
) -> list[FileInfo]:
    return list_local_directory(local, path, limit=limit, after=after, timeout=timeout)


def paths(
    local: LocalRoot, path: str = ".", *, limit: int = 1000, after: str | None = None, timeout: float = 60
) -> list[str]:
    return [info.path for info in listed(local, path, limit=limit, after=after, timeout=timeout)]


def test_everything_in_a_directory_is_described_as_it_is_and_no_link_is_followed(local: LocalRoot, root: Path) -> None:
    (root / "a.txt").write_bytes(b"12345")
    (root / "a.txt").chmod(0o4640)
    os.utime(root / "a.txt", (0, 1_700_000_000.9))
    (root / "link").symlink_to("../outside/secret.txt")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket"))
        found = listed(local)
    assert found[0] == FileInfo("a.txt", "file", 5, 1_700_000_000, 0o4640)
    assert [(info.path, info.kind) for info in found] == [
        ("a.txt", "file"),
        ("in", "directory"),
        ("link", "link"),
        ("pipe", "other"),
        ("socket", "other"),
    ]
    assert found[2].size == len("../outside/secret.txt")


@pytest.mark.parametrize(
    "path, shown", [("in", "in/x"), ("./in/", "./in/x"), ("{root}/in", "{root}/in/x"), ("way", "way/x")]
)
def test_the_paths_begin_with_the_callers_own(local: LocalRoot, root: Path, path: str, shown: str) -> None:
    (root / "in" / "x").touch()
    (root / "way").symlink_to("in")
    assert paths(local, path.format(root=root)) == [shown.format(root=root)]


def test_pages_hold_everything_once_and_in_order(local: LocalRoot, root: Path) -> None:
    names = sorted(f"{number:02}\n" if number % 2 else f"{number:02}\udcff" for number in range(50))
    for name in names:
        (root / "in" / name).touch()
    found: list[str] = []
    while page := paths(local, "in", limit=7, after=found[-1] if found else None):
        assert len(page) <= 7
        found += page
    assert found == [f"in/{name}" for name in names]


def test_a_page_whose_files_have_all_gone_is_not_taken_for_the_last_one(
    local: LocalRoot, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcd":
        (root / "in" / name).touch()
    look = os.stat

    def gone(path: str | int | Path, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        if path in {"a", "b"}:
            raise FileNotFoundError
        return look(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", gone)
        assert paths(local, "in", limit=2) == ["in/c", "in/d"]


def test_a_directory_that_is_not_there_or_none_is_told_apart_from_an_empty_one(local: LocalRoot, root: Path) -> None:
    (root / "file").touch()
    assert listed(local, "in") == []
    with pytest.raises(NotFound):
        listed(local, "none")
    with pytest.raises(NotADirectory):
        listed(local, "file")


OUTSIDE = [
    "..",
    "in/..",
    "/",
    "/etc",
    "out",
    "out/secret.txt",
    "up/outside/secret.txt",
    "state",
    "state/journal",
    "a\0",
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_outside_the_root_or_of_the_state_is_listed_or_deleted(local: LocalRoot, root: Path, path: str) -> None:
    (root / "state").mkdir()
    (root / "state" / "journal").touch()
    (root / "out").symlink_to("../outside")
    (root / "up").symlink_to("..")
    with pytest.raises(PathNotAllowed):
        listed(local, path)
    if path not in {"out", "state"}:  # a link may be deleted wherever it leads, and a directory never
        with pytest.raises(PathNotAllowed):
            delete_local_file(local, path)
    assert (root.parent / "outside" / "secret.txt").exists()
    assert (root / "state" / "journal").exists()


def test_a_listing_ends_at_its_deadline(local: LocalRoot, root: Path) -> None:
    (root / "in" / "x").touch()
    with pytest.raises(DeadlineExceeded):
        listed(local, "in", timeout=0)


def test_a_file_is_deleted_and_of_a_link_the_link(local: LocalRoot, root: Path) -> None:
    (root / "in" / "a\n\udcff").touch()
    delete_local_file(local, "in/a\n\udcff")
    (root / "link").symlink_to("../outside/secret.txt")
    (root / "folder").symlink_to("in")
    delete_local_file(local, f"{root}/link")
    delete_local_file(local, "folder")
    assert sorted(root.iterdir()) == [root / "in"]
    assert list((root / "in").iterdir()) == []
    assert (root.parent / "outside" / "secret.txt").read_text() == "outside"
    with pytest.raises(NotFound):
        delete_local_file(local, "in/a")
    with pytest.raises(NotFound):
        delete_local_file(local, "none/a")
    with pytest.raises(NotFound):
        delete_local_file(local, "")


@pytest.mark.parametrize("path", ["in", "in/", ".", "./", "in/.", "folder/", "{root}/", "state"])
def test_a_directory_is_not_deleted_as_a_file(local: LocalRoot, root: Path, path: str) -> None:
    (root / "folder").symlink_to("in")
    (root / "state").mkdir()
    with pytest.raises(IsADirectory):
        delete_local_file(local, path.format(root=root))
    assert (root / "in").is_dir()


def test_what_is_neither_file_nor_link_is_left_alone(local: LocalRoot, root: Path) -> None:
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket"))
        for name in ("pipe", "socket"):
            with pytest.raises(PathNotAllowed, match="left alone"):
                delete_local_file(local, name)


def test_a_temporary_file_is_deleted_only_when_no_transfer_uses_it(local: LocalRoot, root: Path) -> None:
    file = root / f".iot-sftp-{'0' * 16}"
    with file.open("w") as used:
        fcntl.flock(used, fcntl.LOCK_SH)
        with pytest.raises(Busy):
            delete_local_file(local, file.name)
    delete_local_file(local, file.name)
    assert not file.exists()


def test_no_descriptor_is_left_open(local: LocalRoot, root: Path) -> None:
    (root / "file").touch()
    before = len(os.listdir("/proc/self/fd"))
    for path in (".", "in", "file", "none", "..", "out/x", "file/x"):
        with suppress(SFTPError):
            listed(local, path)
        with suppress(SFTPError):
            delete_local_file(local, path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_directory_that_keeps_being_swapped_for_a_link_leads_nowhere_else(local: LocalRoot, root: Path) -> None:
    outside = root.parent / "outside"
    (outside / "a.txt").touch()
    (root / "real").mkdir()
    (root / "link").symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for name in ("real", "link"):
                (root / name).rename(root / "way")
                (root / "way").rename(root / name)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(500):
            (root / "in" / "a.txt").touch()
            with suppress(FileNotFoundError):
                (root / "in" / "a.txt").rename(root / "way" / "a.txt")  # wherever that leads
            with suppress(SFTPError):
                assert "way/secret.txt" not in paths(local, "way")
            (outside / "a.txt").touch()
            with suppress(SFTPError):
                delete_local_file(local, "way/a.txt")
            assert (outside / "a.txt").exists()
    finally:
        stop.set()
        swapping.join()
