"""A system that has few threads left, or none: calls make do with what there is, or say what is short."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.clients import session_of
from tests.few_threads import ThreadLimit
from tests.folders import content_of, fill, many
from tests.servers import Server

from iot.sftp.client._base.errors import LocalBusy
from iot.sftp.client._base.lower_layers import from_lower_layer


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> ThreadLimit:
    return ThreadLimit(monkeypatch)


@pytest.mark.parametrize("left", [3, 5])
def test_folders_arrive_with_few_threads(
    openssh_server: Server, tmp_path: Path, threads: ThreadLimit, left: int
) -> None:
    files = {f"{folder}/{name}": content for folder in "abc" for name, content in many(60).items()} | {
        "b/l": b"l" * 10**6
    }
    fill(tmp_path / "source", files)
    with session_of(openssh_server) as session:
        assert not session.exists("x")
        threads.leave(left)
        up = session.upload_files(str(tmp_path / "source"), tmp_path.name, recursive=True, timeout=60)
        down = session.download_files(tmp_path.name, str(tmp_path / "dest"), recursive=True, timeout=60)
        session.delete_directory(tmp_path.name, recursive=True, timeout=60)
        threads.leave(None)
    assert (up.files, up.failed, down.files, down.failed) == (181, 0, 181, 0)
    assert content_of(tmp_path / "dest") == content_of(tmp_path / "source")
    assert not (openssh_server.directory / tmp_path.name).exists()


def test_files_that_take_turns_need_their_threads(openssh_server: Server, tmp_path: Path, threads: ThreadLimit) -> None:
    fill(tmp_path / "source", many(20) | {"large": b"l" * 10**6})
    with session_of(openssh_server) as session:
        assert not session.exists("x")
        threads.leave(3)
        with pytest.raises(LocalBusy, match="no further thread"):
            session.upload_files(str(tmp_path / "source"), tmp_path.name, order="newest", timeout=60)
        threads.leave(None)
        done = session.upload_files(str(tmp_path / "source"), tmp_path.name, order="newest")
    assert (done.files, done.failed) == (21, 0)


def test_without_a_thread_no_call_hangs_and_later_ones_succeed(openssh_server: Server, threads: ThreadLimit) -> None:
    before = threading.active_count()
    with session_of(openssh_server) as session:
        for left in range(5):  # an opening, a connection, paramiko's timer, a channel, a keeper
            threads.leave(left)
            for _ in range(2):
                with pytest.raises(LocalBusy, match="no further thread"):
                    session.exists("x", timeout=20)
            threads.leave(None)
            assert threading.active_count() <= before
        assert not session.exists("x", timeout=20)
        (openssh_server.directory / "tree").mkdir()
        threads.leave(0)
        with pytest.raises(LocalBusy, match="no further thread"):
            session.delete_directory("tree", recursive=True, timeout=20)
        with pytest.raises(LocalBusy, match="no further thread"):
            session.download_files(".", "/dev/null/x", timeout=20)
        threads.leave(None)
        session.delete_directory("tree", recursive=True)


def test_no_memory_is_a_shortage_and_no_bug() -> None:
    assert isinstance(from_lower_layer(MemoryError()), LocalBusy)
