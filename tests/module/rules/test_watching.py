"""Watching a folder: what the client does with what it sends is no event, and a failed watch leaves nothing open."""

from __future__ import annotations

import os
import queue
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from iot.sftp.client import FileVersion, IsADirectory, LocalFiles, NotFound
from iot.sftp.module._rules.watcher import Watch


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def watching(folder: Path, *, recursive: bool = False) -> Iterator[threading.Event]:
    noticed = threading.Event()
    watch = Watch(LocalFiles(), noticed.set, recursive=recursive)
    watch.renew(str(folder))
    try:
        yield noticed
    finally:
        watch.stop()


def deep(folder: Path) -> None:
    """Make a directory whose path is longer than inotify_add_watch(2) takes, below one whose path is not."""
    directory = os.open(folder, os.O_RDONLY)
    for _ in range(25):
        os.mkdir("n" * 200, dir_fd=directory)
        inner = os.open("n" * 200, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = inner
    os.close(directory)


def test_a_watch_that_fails_leaves_nothing_open_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    deep(folder)
    try:
        before, threads = descriptors(), threading.active_count()
        watch = Watch(LocalFiles(), lambda: None, recursive=True)
        for _ in range(5):
            watch.renew(str(folder))
        assert descriptors() == before
        assert threading.active_count() == threads
        watch.stop()
    finally:
        shutil.rmtree(folder)
    assert caplog.text.count("cannot be watched") == 1


@pytest.mark.parametrize("lost", ["InotifyBuffer", "InotifyEmitter", "InotifyObserver"])
def test_a_watch_that_finds_no_thread_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    begin = threading.Thread.start

    def begin_unless_lost(thread: threading.Thread) -> None:
        if type(thread).__name__ == lost:
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", begin_unless_lost)
    watch = Watch(LocalFiles(), lambda: None, recursive=True)
    before = descriptors(), threading.active_count()
    for _ in range(3):
        watch.renew(str(tmp_path))
    assert (descriptors(), threading.active_count()) == before


def test_a_folder_that_comes_and_goes_leaves_nothing_open(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    before = descriptors()
    watch = Watch(LocalFiles(), lambda: None, recursive=True)
    for _ in range(5):
        folder.mkdir()
        watch.renew(str(folder))
        folder.rmdir()
        watch.renew(str(folder))
    watch.stop()
    assert descriptors() == before


@pytest.mark.parametrize("recursive", [False, True], ids=["folder", "tree"])
def test_what_the_client_does_with_what_it_has_sent_is_no_event(tmp_path: Path, recursive: bool) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("sent", "moved", "stuck"):
        (folder / name).write_bytes(b"1")
    local = LocalFiles()
    with watching(folder, recursive=recursive) as noticed:
        local.remove_version(str(folder / "sent"), FileVersion.of_local((folder / "sent").stat()))
        version = FileVersion.of_local((folder / "moved").stat())
        local.move_version(str(folder / "moved"), str(tmp_path / "done/moved"), version)
        assert not noticed.wait(1)
        (tmp_path / "done/stuck/in the way").mkdir(parents=True)
        version = FileVersion.of_local((folder / "stuck").stat())
        with pytest.raises(IsADirectory):
            local.move_version(str(folder / "stuck"), str(tmp_path / "done/stuck"), version)
        assert not noticed.wait(1)
        (folder / "new").write_bytes(b"2")
        assert noticed.wait(60)


def test_of_a_folder_above_only_the_awaited_name_is_noticed(tmp_path: Path) -> None:
    noticed, appeared = queue.SimpleQueue[str](), queue.SimpleQueue[str]()
    watch = Watch(LocalFiles(), lambda: noticed.put("new"), recursive=True, appeared=lambda: appeared.put("there"))
    folder = tmp_path / "plant" / "out"
    watch.renew(str(folder))
    try:
        (tmp_path / "other").mkdir()
        (tmp_path / "file").write_bytes(b"1")
        folder.parent.mkdir()
        appeared.get(timeout=60)
        watch.renew(str(folder))
        (folder.parent / "half").mkdir()
        (folder.parent / "half").rename(folder)
        appeared.get(timeout=60)
        assert noticed.empty()
        watch.renew(str(folder))
        (folder / "new").write_bytes(b"1")
        noticed.get(timeout=60)
        assert appeared.empty()
    finally:
        watch.stop()


@pytest.mark.parametrize("folder", ["", ".", "/", "a", "a/b", "/a/b/", "//a", "..", "../a"])
def test_where_nothing_can_be_opened_nothing_is_watched(folder: str) -> None:
    class Nothing(LocalFiles):
        def open_directory(self, path: str, **_options: object) -> int:
            raise NotFound("nothing is here", path=path)

    watch = Watch(Nothing(), lambda: None, recursive=True)
    watch.renew(folder)
    assert watch._observer is None
