"""Whole folders: the right files, each whole, whatever is in them, on either side, and whatever happens meanwhile."""

from __future__ import annotations

import gc
import os
import resource
import shutil
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from benchmarks.proxy import Link, running
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.clients import session_of
from tests.faulty_servers import (
    EOF,
    PASSWORD,
    FaultyServer,
    attributes,
    attrs,
    status,
)
from tests.folders import OLD, Way, content_of, fill, many
from tests.servers import Relay, Server

from iot.sftp.client import (
    Cancelled,
    ConnectionLost,
    DeadlineExceeded,
    Direction,
    FileOrder,
    FileVersion,
    FolderOrder,
    FolderProgress,
    FolderTransfer,
    Internal,
    InvalidRequest,
    LocalFiles,
    NoSpace,
    NotADirectory,
    NotFound,
    PermissionDenied,
    Secret,
    ServerSettings,
    SFTPError,
    SFTPSession,
    TooLarge,
)
from iot.sftp.client._base import memory
from iot.sftp.client._base.steps import Steps
from iot.sftp.client._files.remote_files import RemoteFiles
from iot.sftp.client._folders import folder_page, folder_plan
from iot.sftp.client._folders.file_delivery import FileDelivery
from iot.sftp.client._folders.folder_page import FoundFile
from iot.sftp.client._folders.folder_plan import FolderPlan
from iot.sftp.client._folders.folder_run import FolderRun
from iot.sftp.client._folders.folder_walk import DEEPEST
from iot.sftp.client._folders.workers import ChannelLender
from iot.sftp.client._ssh.packets import Kind, Reader, string
from iot.sftp.module._work.local_files import LocalRoot


def test_a_folder_arrives_whole_with_its_times(way: Way) -> None:
    files = many(60) | {"large": os.urandom(3_000_000), "empty": b"", "nul\n \N{SNOWMAN}": b"odd"}
    fill(way.source, files)
    done = way.transfer()
    assert content_of(way.dest) == files
    assert {path.stat().st_mtime for path in way.dest.iterdir()} == {OLD}
    total = sum(map(len, files.values()))
    assert (done.files, done.total_files, done.bytes, done.total_bytes) == (63, 63, total, total)
    assert (done.skipped, done.failed, done.failures) == (0, 0, ())
    assert done.seconds > 0
    assert content_of(way.source) == files


def test_folders_in_it_are_taken_when_asked_for(way: Way) -> None:
    files = {"a": b"1", "b/a": b"2", "b/c/d/a": b"3", "e/a": b"4"}
    fill(way.source, files)
    (way.source / "empty").mkdir()
    assert way.transfer().files == 1
    assert content_of(way.dest) == {"a": b"1"}
    assert way.transfer(recursive=True).files == 4
    assert content_of(way.dest) == files
    assert not (way.dest / "empty").exists()  # folders come with the files in them


def test_only_paths_that_hold_the_pattern_are_taken(way: Way) -> None:
    fill(way.source, {"a.csv": b"", "b.xml": b"", "sub.csv/c.xml": b"", "sub/d.csv": b""})
    assert way.transfer(file_pattern=".csv", recursive=True).total_files == 3
    assert set(content_of(way.dest)) == {"a.csv", "sub.csv/c.xml", "sub/d.csv"}
    assert way.transfer(file_pattern=way.shown("b")).files == 1
    assert way.transfer(file_pattern="*.csv").files == 0


def test_what_is_there_is_replaced_or_left_as_asked(way: Way) -> None:
    fill(way.source, {"same": b"1", "size": b"12", "time": b"1", "new": b"1"})
    fill(way.dest, {"same": b"x", "size": b"x", "time": b"x"})
    os.utime(way.dest / "time", (OLD, OLD + 1))
    assert way.transfer(if_exists="skip").skipped == 3
    assert content_of(way.dest) == {"same": b"x", "size": b"x", "time": b"x", "new": b"1"}
    done = way.transfer(if_exists="skip_same")
    assert (done.files, done.skipped, done.total_files) == (2, 2, 4)
    assert content_of(way.dest) == {"same": b"x", "size": b"12", "time": b"1", "new": b"1"}
    assert way.transfer(if_exists="skip_same").skipped == 4
    assert way.transfer().files == 4
    assert content_of(way.dest) == content_of(way.source)


@pytest.mark.parametrize("then", ["delete", "move"])
def test_what_arrived_is_deleted_or_moved_and_nothing_else(way: Way, then: str) -> None:
    files = {"a.csv": b"1", "sub/b.csv": b"2", "left.xml": b"3"}
    fill(way.source, files)
    fill(way.source.parent, {"done/a.csv": b"from before"})
    move_to = way.beside("done") if then == "move" else None
    done = way.transfer(recursive=True, file_pattern=".csv", then=then, move_to=move_to)
    assert (done.files, done.failed) == (2, 0)
    arrived = {name: files[name] for name in ("a.csv", "sub/b.csv")}
    assert content_of(way.dest) == arrived
    assert content_of(way.source) == {"left.xml": b"3"}
    kept = arrived if then == "move" else {"a.csv": b"from before"}
    assert content_of(way.source.parent / "done") == kept


def test_the_folder_into_which_files_are_moved_may_lie_in_the_source(way: Way) -> None:
    fill(way.source, {"a": b"1", "sub/b": b"2"})
    for _ in range(2):
        way.transfer(recursive=True, then="move", move_to=way.shown("done"))
        assert content_of(way.source) == {"done/a": b"1", "done/sub/b": b"2"}
    assert content_of(way.dest) == {"a": b"1", "sub/b": b"2"}


def test_what_was_there_already_and_the_same_is_deleted_at_the_source_too(way: Way) -> None:
    """So a call that ended between a file's arrival and its removal is completed by the next."""
    fill(way.source, {"same": b"1"})
    fill(way.dest, {"same": b"1"})
    fill(way.source, {"different": b"3"}, OLD + 1)
    fill(way.dest, {"different": b"4"})
    assert way.transfer(if_exists="skip", then="delete", file_pattern="e").skipped == 2
    assert content_of(way.source) == {"different": b"3"}
    fill(way.source, {"same": b"1"})
    done = way.transfer(if_exists="skip_same", then="delete")
    assert (done.files, done.skipped) == (1, 1)
    assert content_of(way.source) == {}


class Notes:
    """A ledger in memory, which may be told to refuse."""

    def __init__(self) -> None:
        self.versions: dict[str, FileVersion] = {}
        self.refuses = False

    def knows(self, path: str, version: FileVersion) -> bool:
        return path in self.versions and self.versions[path].is_same_as(version)

    def note(self, path: str, version: FileVersion) -> None:
        if self.refuses:
            message = "the disk of the ledger is full"
            raise NoSpace(message)
        self.versions[path] = version

    def settle(self, path: str) -> None:
        self.versions.pop(path, None)


def test_a_ledger_keeps_what_was_transferred_from_being_transferred_again(way: Way) -> None:
    notes = Notes()
    fill(way.source, {"a": b"1", "b": b"2", "there": b"3"})
    fill(way.dest, {"there": b"x"})
    assert way.transfer(ledger=notes, if_exists="skip_same").files == 2
    assert notes.versions.keys() == {"a", "b"}, "what only seems to be there is not known to have arrived"
    assert {version.size for version in notes.versions.values()} == {1}
    assert way.transfer(ledger=notes, if_exists="skip_same").total_files == 0, "nor is it asked about each time"
    assert way.transfer(ledger=notes, verify_existing=True).total_files == 0
    fill(way.source, {"a": b"12"})
    (way.source / "young").write_bytes(b"4")
    done = way.transfer(ledger=notes, min_age=60)
    assert (done.total_files, done.young) == (1, 1)
    assert notes.versions["a"].size == 2


def test_what_cannot_be_noted_in_the_ledger_is_not_transferred_again(way: Way) -> None:
    notes = Notes()
    notes.refuses = True
    fill(way.source, {"a": b"1"})
    done = way.transfer(ledger=notes)
    assert (done.files, done.failed) == (1, 1)
    (failure,) = done.failures
    assert (failure.code, failure.delivered) == ("no_space", True)
    assert failure.message.startswith("it was delivered, and that cannot be recorded: ")
    assert way.transfer(ledger=notes).total_files == 0
    fill(way.source, {"new.one": b"2"})
    done = way.transfer(ledger=notes, then="delete", file_pattern="new.one")
    assert (done.files, done.failed) == (1, 0), "nothing has to be remembered of what is gone"
    assert content_of(way.source) == {"a": b"1"}


def test_a_ledger_that_cannot_be_read_ends_all_of_it(way: Way) -> None:
    class Unreadable(Notes):
        def knows(self, path: str, version: FileVersion) -> bool:
            raise PermissionDenied(f"the ledger is not readable, asked for {path}, {version}")

    fill(way.source, {"sub/a": b"1"})
    with pytest.raises(PermissionDenied, match="the ledger is not readable"):
        way.transfer(ledger=Unreadable(), recursive=True)
    assert not way.dest.exists()


# --- what is deleted or moved is what has arrived --------------------------------------------------------------------


@pytest.mark.parametrize("if_exists", ["replace", "skip", "skip_same"])
def test_a_new_file_of_the_same_size_and_time_is_not_taken_for_the_old_one(way: Way, if_exists: str) -> None:
    fill(way.source, {"latest": b"new"})
    fill(way.dest, {"latest": b"old"})
    done = way.transfer(then="delete", if_exists=if_exists)
    if if_exists == "skip":
        assert (done.files, done.skipped) == (0, 1)
        assert content_of(way.source) == {"latest": b"new"}
    else:
        assert (done.files, done.skipped) == (1, 0)
        assert content_of(way.source) == {}
        assert content_of(way.dest) == {"latest": b"new"}


def test_a_call_that_goes_on_leaves_alone_only_what_is_proven_to_be_there(way: Way) -> None:
    fill(way.source, {"same": b"123", "other": b"123", "larger": b"123"})
    fill(way.dest, {"same": b"123", "other": b"456", "larger": b"12"})
    done = way.transfer(verify_existing=True)
    assert (done.files, done.skipped, done.bytes) == (2, 1, 6)
    assert content_of(way.dest) == content_of(way.source)


def test_what_changes_while_it_is_sent_is_not_deleted(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(way.source, {"changing": b"1", "steady": b"1"})
    change_after_arrival(monkeypatch, lambda: (way.source / "changing").write_bytes(b"12"))
    done = way.transfer(then="delete")
    assert content_of(way.source) == {"changing": b"12"}
    assert content_of(way.dest) == {"changing": b"1", "steady": b"1"}
    assert [(failure.path, failure.code, failure.delivered) for failure in done.failures] == [
        (way.shown("changing"), "transfer_incomplete", True)
    ]
    assert (done.files, done.failed, done.not_removed) == (2, 1, 0)


def change_after_arrival(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Have the producer do something between the arrival of a file named `changing` and the last step."""
    transfer = FileDelivery.transfer

    def then_change(delivery: FileDelivery, remote: RemoteFiles, found: FoundFile, dest: str) -> Steps[None]:
        yield from transfer(delivery, remote, found, dest)
        if found.path == "changing":
            change()

    monkeypatch.setattr(FileDelivery, "transfer", then_change)


def test_a_local_file_replaced_by_one_of_same_size_and_time_is_not_deleted(
    openssh_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "in"
    fill(source, {"changing": b"1"})

    def replace() -> None:
        fill(tmp_path, {"new": b"2"})
        os.replace(tmp_path / "new", source / "changing")

    change_after_arrival(monkeypatch, replace)
    with session_of(openssh_server) as session:
        assert session.upload_files(str(source), "replaced", then="delete").failed == 1
        assert content_of(source) == {"changing": b"2"}
        monkeypatch.undo()
        assert session.upload_files(str(source), "replaced", then="delete").files == 1
    assert content_of(source) == {}
    assert content_of(openssh_server.directory / "replaced") == {"changing": b"2"}


@pytest.mark.parametrize("touch", [lambda path: path.chmod(0o600), lambda path: os.link(path, path.parent / "z")])
def test_a_local_file_only_touched_after_its_arrival_is_deleted_not_sent_again(
    openssh_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, touch: Callable[[Path], object]
) -> None:
    fill(tmp_path / "in", {"changing": b"1"})
    change_after_arrival(monkeypatch, lambda: touch(tmp_path / "in" / "changing"))
    with session_of(openssh_server) as session:
        done = session.upload_files(str(tmp_path / "in"), "touched", file_pattern="changing", then="delete")
    assert (done.files, done.failed) == (1, 0)
    assert not (tmp_path / "in" / "changing").exists()


def test_directories_of_small_files_are_made_side_by_side(
    openssh_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting, make = threading.Barrier(8), RemoteFiles.make_directories

    def make_beside_others(self: RemoteFiles, path: str, mode: int | None = None) -> None:
        meeting.wait(30)
        make(self, path, mode)

    monkeypatch.setattr(RemoteFiles, "make_directories", make_beside_others)
    files = {f"{folder}/{name}": b"content" for folder in range(8) for name in range(8)}
    fill(tmp_path, files)
    with session_of(openssh_server) as session:
        done = session.upload_files(str(tmp_path), tmp_path.name, recursive=True)
    assert (done.files, done.failed) == (64, 0)
    assert content_of(openssh_server.directory / tmp_path.name) == files


def test_no_directory_is_made_for_files_that_are_gone(
    openssh_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = FolderRun._have_directories_made

    def take_away(self: FolderRun, lender: ChannelLender) -> None:
        for path in (tmp_path / "gone").iterdir():
            path.unlink()
        make(self, lender)

    monkeypatch.setattr(FolderRun, "_have_directories_made", take_away)
    fill(tmp_path, {f"{folder}/{name}": b"content" for folder in ("a", "gone", "there") for name in "abc"})
    with session_of(openssh_server) as session:
        done = session.upload_files(str(tmp_path), tmp_path.name, recursive=True)
    assert (done.files, done.failed) == (6, 0)
    assert sorted(path.name for path in (openssh_server.directory / tmp_path.name).iterdir()) == ["a", "there"]


def test_no_directory_is_made_again_for_files_that_have_arrived(openssh_server: Server, tmp_path: Path) -> None:
    """Whoever has taken them away has removed it."""
    fill(tmp_path / "in", {f"{folder}/{name}": b"content" for folder in range(3) for name in "abc"})
    there = openssh_server.directory / tmp_path.name
    (tmp_path / "kept").touch()  # in the place of the folder to move into
    options: dict[str, Any] = {"recursive": True, "then": "move", "move_to": str(tmp_path / "kept")}
    with session_of(openssh_server) as session:
        first = session.upload_files(str(tmp_path / "in"), tmp_path.name, **options)
        shutil.rmtree(there)
        second = session.upload_files(str(tmp_path / "in"), tmp_path.name, **options)
    assert (first.files, first.not_removed, second.files, second.not_removed) == (9, 9, 0, 9)
    assert not there.exists()


def test_both_names_of_one_local_file_are_sent_once_and_deleted(openssh_server: Server, tmp_path: Path) -> None:
    """Deleting one changes the other's change time."""
    fill(tmp_path / "in", {"a": b"1"})
    os.link(tmp_path / "in" / "a", tmp_path / "in" / "b")
    with session_of(openssh_server) as session:
        done = session.upload_files(str(tmp_path / "in"), "twins", then="delete")
    assert (done.files, done.failed) == (2, 0)
    assert content_of(tmp_path / "in") == {}


def test_a_file_that_is_written_to_after_the_listing_is_left_until_it_is_old_enough(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(way.source, {"steady": b"1", "reopened": b"1"})
    after_planning(monkeypatch, lambda: (way.source / "reopened").write_bytes(b"half of it"))
    done = way.transfer(then="delete", min_age=60)
    assert (done.files, done.young, done.failed, done.total_files, done.total_bytes) == (1, 1, 0, 1, 1)
    assert content_of(way.dest) == {"steady": b"1"}
    assert content_of(way.source) == {"reopened": b"half of it"}


def test_a_file_that_has_changed_since_the_listing_is_taken_as_it_is_now(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(way.source, {"a": b"1"})
    after_planning(monkeypatch, lambda: fill(way.source, {"a": b"another"}, OLD + 5))
    done = way.transfer(then="delete", min_age=60)
    assert (done.files, done.bytes, done.total_bytes) == (1, 7, 7)
    assert content_of(way.dest) == {"a": b"another"}
    assert content_of(way.source) == {}


def after_planning(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    plan = FolderPlan.find_next_page

    def then_change(run: FolderPlan, *arguments: object) -> None:
        plan(run, *arguments)  # type: ignore[arg-type]
        change()

    monkeypatch.setattr(FolderPlan, "find_next_page", then_change)


@pytest.mark.parametrize("with_ledger", [False, True], ids=["within a session", "with a ledger, in another session"])
def test_what_cannot_be_moved_at_its_source_is_delivered_once_and_moved_later(
    way: Way, server: Server, with_ledger: bool
) -> None:
    fill(way.source, {"a": b"1", "free": b"2"})
    done_folder = way.source.parent / "done"
    (done_folder / "a").mkdir(parents=True)
    (done_folder / "a/in the way").touch()
    notes = Notes() if with_ledger else None
    options: dict[str, object] = {"then": "move", "move_to": way.beside("done"), "ledger": notes}
    done = way.transfer(**options)
    assert (done.files, done.bytes, done.failed, done.not_removed) == (2, 2, 1, 1)
    (failure,) = done.failures
    assert (failure.path, failure.code, failure.delivered) == (way.shown("a"), "is_a_directory", True)
    assert failure.message.startswith("it was delivered, and cannot be moved at its source: ")
    (way.dest / "a").unlink()  # whoever it was for has taken it
    with session_of(server) as another:
        later = way._replace(session=another) if with_ledger else way
        for _ in range(2):
            done = later.transfer(**options)
            assert (done.files, done.bytes, done.skipped, done.failed, done.not_removed) == (0, 0, 0, 1, 1)
        (done_folder / "a/in the way").unlink()
        (done_folder / "a").rmdir()
        done = later.transfer(**options)
    assert (done.files, done.skipped, done.failed, done.not_removed) == (0, 1, 0, 0)
    assert content_of(way.source) == {}
    assert content_of(done_folder) == {"a": b"1", "free": b"2"}
    assert content_of(way.dest) == {"free": b"2"}
    assert notes is None or notes.versions == {}


def test_a_new_version_of_what_cannot_be_moved_is_delivered(way: Way) -> None:
    fill(way.source, {"a": b"1"})
    fill(way.source.parent, {"done/a/in the way": b""})
    options: dict[str, object] = {"then": "move", "move_to": way.beside("done")}
    assert way.transfer(**options).files == 1
    fill(way.source, {"a": b"2"}, OLD + 1)
    done = way.transfer(**options)
    assert (done.files, done.not_removed) == (1, 1)
    assert content_of(way.dest) == {"a": b"2"}


def test_files_are_moved_over_the_boundary_of_a_mount(way: Way, server: Server) -> None:
    places = [place for place in (Path("/dev/shm"), Path("/var/tmp")) if place.is_dir()]
    others = [place for place in places if place.stat().st_dev != way.source.stat().st_dev]
    if not others:
        pytest.skip("there is one file system only")
    with tempfile.TemporaryDirectory(dir=others[0]) as elsewhere:
        (way.source.parent / "done").symlink_to(elsewhere)
        large = os.urandom(1_200_000)
        fill(way.source, {"a": b"1", "sub/large": large, "empty": b""})
        (way.source / "a").chmod(0o640)
        fill(Path(elsewhere), {"a": b"from before"})
        done = way.transfer(then="move", move_to=way.beside("done"), recursive=True)
        assert (done.files, done.failed) == (3, 0)
        moved = Path(elsewhere)
        assert content_of(moved) == {"a": b"1", "sub/large": large, "empty": b""}
        assert not list(moved.rglob(".iot-sftp-*"))
        assert (moved / "a").stat().st_mode & 0o777 == 0o640
        if not (way.download and "proftpd" in str(server.directory)):  # which copies by itself, without the times
            assert (moved / "a").stat().st_mtime == OLD
    assert content_of(way.source) == {}
    assert content_of(way.dest) == {"a": b"1", "sub/large": large, "empty": b""}


def test_a_link_to_the_source_is_no_folder_to_move_into(way: Way) -> None:
    """Else its files would be found, and sent, each time."""
    fill(way.source, {"a": b"1"})
    (way.source.parent / "alias").symlink_to(way.source)
    runs = [way.transfer(then="move", move_to=way.beside("alias")) for _ in range(2)]
    assert [(done.files, done.not_removed) for done in runs] == [(1, 1), (0, 1)]
    assert runs[1].failures[0].code == "invalid_request"
    assert content_of(way.source) == {"a": b"1"}


@pytest.mark.parametrize("hours", [-5, -0.01, 0.01, 14])
def test_a_server_with_a_wrong_clock_loses_no_file_written_twice_in_a_second(
    openssh_server: Server, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: float
) -> None:
    source = openssh_server.directory / folder
    now = int(time.time() + hours * 3600)
    fill(source, {"changing": b"1"}, now)
    rewritten: list[int] = []

    def write_again() -> None:
        """Write as the producer does, by a clock that stands at this second until it has been looked at for one."""
        if not rewritten:
            rewritten.append(now if time.monotonic() - started < 1 else now + 1)
            fill(source, {"changing": b"2"}, rewritten[0])

    change_after_arrival(monkeypatch, write_again)
    started = time.monotonic()
    with session_of(openssh_server) as session:
        for _ in range(2):
            session.download_files(folder, str(tmp_path), then="delete")
    assert content_of(tmp_path) == {"changing": b"2"}


def test_young_files_are_left_for_the_next_time(way: Way) -> None:
    fill(way.source, {"old": b"1", "far future": b"2"})
    os.utime(way.source / "far future", (2_000_000_000, 4_000_000_000))
    (way.source / "young").write_bytes(b"3")
    done = way.transfer(min_age=60)
    assert (done.files, done.total_files) == (2, 2)
    assert set(content_of(way.dest)) == {"old", "far future"}
    os.utime(way.source / "young", (time.time() - 61,) * 2)
    assert way.transfer(min_age=60, if_exists="skip_same").files == 1


def test_links_to_files_are_taken_and_links_to_folders_are_not_followed(way: Way) -> None:
    fill(way.source, {"sub/file": b"1"})
    fill(way.source.parent, {"outside": b"2"})
    (way.source / "link").symlink_to("sub/file")
    (way.source / "out").symlink_to(way.source.parent / "outside")
    (way.source / "loop").symlink_to(".")
    (way.source / "sub/up").symlink_to("..")
    (way.source / "nowhere").symlink_to("nothing")
    done = way.transfer(recursive=True)
    assert content_of(way.dest) == {"sub/file": b"1", "link": b"1", "out": b"2"}
    assert done.failed == 0
    way.transfer(then="delete", file_pattern="out")
    assert not (way.source / "out").is_symlink()
    assert (way.source.parent / "outside").read_bytes() == b"2"


def test_pipes_and_our_own_unfinished_files_are_left_alone(way: Way) -> None:
    fill(way.source, {".iot-sftp-0123456789abcdef": b"", ".iot-sftp-dir/a": b"", "a": b""})
    os.mkfifo(way.source / "pipe")
    assert way.transfer(recursive=True, timeout=60).total_files == 1
    assert set(content_of(way.dest)) == {"a"}


def test_one_file_that_fails_does_not_stop_the_others_and_is_named(way: Way) -> None:
    fill(way.source, many(80))
    for number in range(25):
        (way.dest / f"file-{number:05}").mkdir(parents=True)
        (way.dest / f"file-{number:05}/in the way").touch()
    done = way.transfer(then="delete")
    assert (done.files, done.failed, done.total_files) == (55, 25, 80)
    assert len(done.failures) == 20
    assert {failure.path for failure in done.failures} <= {way.shown(f"file-{number:05}") for number in range(25)}
    assert {failure.code for failure in done.failures} <= {"is_a_directory", "permission_denied"}
    assert all(failure.message for failure in done.failures)
    assert set(content_of(way.source)) == {f"file-{number:05}" for number in range(25)}


def test_files_that_vanish_before_their_turn_are_no_failure(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(way.source, many(40))

    def some_vanish() -> None:
        for number in range(0, 40, 2):
            (way.source / f"file-{number:05}").unlink()

    after_planning(monkeypatch, some_vanish)
    done = way.transfer(then="delete")
    assert (done.files, done.total_files, done.failed, done.total_bytes) == (20, 20, 0, 20 * 300)
    assert content_of(way.source) == {}


def test_a_source_that_is_not_there_or_no_folder_is_named(way: Way) -> None:
    way.source.rmdir()
    with pytest.raises(NotFound) as failure:
        way.transfer(recursive=True)
    assert failure.value.operation == ("download_files" if way.download else "upload_files")
    assert failure.value.path == way.shown("").rstrip("/")
    way.source.write_bytes(b"")
    with pytest.raises(NotADirectory):
        way.transfer()


@pytest.mark.parametrize(
    "options",
    [
        {"if_exists": "overwrite"}, {"then": "archive"}, {"then": "move"}, {"move_to": "x"}, {"min_age": -1},
        {"min_age": float("nan")}, {"then": "move", "move_to": "./x/.."},
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_before_anything_happens(openssh_server: Server, options: object) -> None:
    with session_of(openssh_server) as session:
        for call in (session.download_files, session.upload_files):
            with pytest.raises(InvalidRequest):
                call(".", ".", **options)  # type: ignore[arg-type]
        assert not session.is_open


def test_an_order_takes_members_of_its_enumerations_and_nothing_that_looks_like_them() -> None:
    """`"download"` that is no `Direction` would have been an upload, and `"delete"` would not have kept the source."""
    for wrong in ({"direction": "download"}, {"if_exists": "skip"}, {"then": "delete"}, {"selection": "*"}):
        with pytest.raises(InvalidRequest, match=next(iter(wrong))):
            FolderOrder(**{"direction": Direction.DOWNLOAD, "source": "a", "dest": "b"} | wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="direction"):
        FileOrder("download", "a", "b")  # type: ignore[arg-type]


def test_what_a_killed_process_had_taken_and_delivered_is_not_delivered_again(
    openssh_server: Server, tmp_path: Path
) -> None:
    source, notes = tmp_path / "in", Notes()
    fill(source, {"a": b"1", "b": b"2"})
    notes.note("a", FileVersion.of_local((source / "a").stat()))
    for name in ("a", "b"):
        os.replace(source / name, source / f".iot-sftp-taken-01234567-{name}")
    with session_of(openssh_server) as session:
        done = session.upload_files(str(source), "killed", then="delete", ledger=notes)
    assert (done.files, done.skipped, done.failed) == (1, 1, 0)
    assert content_of(openssh_server.directory / "killed") == {"b": b"2"}
    assert os.listdir(source) == []


def test_times_of_any_year_are_no_reason_to_fail_or_to_send_again(way: Way) -> None:
    years = {"before 1970": -5, "after 2038": 3_000_000_000, "after 2106": 5_000_000_000}
    for name, when in years.items():
        fill(way.source, {name: b"1"}, when)
    notes = Notes()
    done = way.transfer(ledger=notes)
    assert (done.files, done.failed) == (3, 0)
    assert way.transfer(ledger=notes).total_files == 0
    assert way.transfer(if_exists="skip_same").skipped == 3
    done = way.transfer(ledger=notes, then="delete")
    assert (done.files, done.skipped, done.failed) == (0, 3, 0)
    assert content_of(way.source) == {}


def test_a_process_with_few_open_files_is_slower_and_loses_nothing(way: Way) -> None:
    files = many(80)
    fill(way.source, files)
    way.session.connect()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 40, limits[1]))
    try:
        done = way.transfer(then="delete", timeout=100)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert (done.files, done.failed) == (80, 0)
    assert content_of(way.dest) == files
    assert content_of(way.source) == {}


# --- progress, and the end before the end ----------------------------------------------------------------------------


def test_progress_grows_to_the_result_and_is_told_ten_times_a_second_at_most(way: Way) -> None:
    fill(way.source, many(150))
    told: list[tuple[float, FolderProgress, int]] = []
    done = way.transfer(
        progress=lambda progress: told.append((time.monotonic(), progress, threading.get_ident())),
    )
    assert {thread for _, _, thread in told} == {threading.get_ident()}
    steps = [progress for _, progress, _ in told]
    assert steps == sorted(steps, key=lambda progress: progress.files)
    assert steps[-1] == FolderProgress(
        **{key: value for key, value in vars(done).items() if key not in {"seconds", "attempts"}}
    )
    assert len(steps) <= done.seconds / 0.1 + 3


def test_a_large_file_among_them_is_told_of_while_it_moves(way: Way) -> None:
    size = 30_000_000
    with open(way.source / "large", "wb") as file:
        file.truncate(size)
    told: list[int] = []

    def progress(now: FolderProgress) -> None:
        told.append(now.bytes)
        if 0 < now.bytes < size:
            way.session.limit_bandwidth(None)

    way.session.limit_bandwidth(size // 60)  # a minute, unless it is told of before
    done = way.transfer(progress=progress)
    assert (done.bytes, done.total_bytes) == (size, size)
    assert told[-1] == size
    assert any(0 < count < size for count in told)


def test_the_kept_names_of_a_folder_are_counted_until_it_is_transferred(way: Way) -> None:
    def kept() -> int:
        return sum(budget.granted for budget in memory._budgets)

    fill(way.source, many(150))
    counted: list[int] = []
    way.session.connect()
    gc.collect()
    assert kept() == 0
    gc.disable()
    try:
        done = way.transfer(file_pattern="file-0001", progress=lambda _: counted.append(kept()))
        assert kept() == 0, "nothing waits to be collected"
    finally:
        gc.enable()
    assert done.files == 10
    assert counted[-1] == 10 * folder_page.size_of("file-00010")


@pytest.mark.parametrize("then, limit", [("keep", (folder_plan, "PAGE")), ("delete", (memory, "MOST_KEPT"))])
def test_a_folder_with_more_names_than_memory_is_transferred_page_by_page(
    way: Way, monkeypatch: pytest.MonkeyPatch, then: str, limit: tuple[ModuleType, str]
) -> None:
    files = many(40) | {f"sub-{n}/{m}/file": b"%d" % m for n in range(3) for m in range(6)}
    fill(way.source, files)
    monkeypatch.setattr(*limit, 24 * folder_page.size_of("file-00000"))
    totals: list[int] = []
    done = way.transfer(then=then, recursive=True, progress=lambda now: totals.append(now.total_files))
    assert (done.files, done.total_files, done.failed) == (58, 58, 0)
    assert done.bytes == done.total_bytes == sum(map(len, files.values()))
    assert totals == sorted(totals)
    assert content_of(way.dest) == files
    assert content_of(way.source) == ({} if then == "delete" else files)


def test_names_that_are_not_wanted_take_no_memory(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(way.source, many(150) | {"chosen.one": b""})
    monkeypatch.setattr(memory, "MOST_KEPT", 2 * folder_page.size_of("file-00000"))
    assert way.transfer(file_pattern="chosen.one").files == 1
    monkeypatch.setattr(memory, "MOST_KEPT", folder_page.size_of("chosen.one") - 1)
    with pytest.raises(TooLarge, match="transfer the parts of a folder one by one"):
        way.transfer(file_pattern="chosen.one")


@pytest.mark.parametrize("how", ["cancelled", "deadline", "the progress function raises"])
def test_a_transfer_that_is_ended_leaves_whole_files_only_and_no_thread(way: Way, how: str) -> None:
    files = many(80, 20_000) | {"large": os.urandom(8_000_000)}
    fill(way.source, files)
    stop = threading.Event()

    def progress(now: FolderProgress) -> None:
        if now.files > 10:
            stop.set()
            if how.startswith("the"):
                raise KeyError

    expected = {"cancelled": Cancelled, "deadline": DeadlineExceeded}.get(how, Internal)
    way.session.connect()
    way.session.limit_bandwidth(2_000_000)  # the large one is not there so soon
    with pytest.raises(expected):
        way.transfer(
            progress=progress,
            cancelled=stop if how == "cancelled" else None,
            timeout=0.15 if how == "deadline" else None,
        )
    there = content_of(way.dest)
    assert all(files.get(name) == content for name, content in there.items())
    assert "large" not in there
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("sftp-folder", "sftp-walk"))]
    way.session.limit_bandwidth(None)
    assert way.transfer(if_exists="skip_same").failed == 0
    assert content_of(way.dest).keys() >= files.keys()


def test_a_full_disk_stops_all_of_it(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(way.source, many(300))

    def full(*_: object) -> int:
        message = "the disk is full"
        raise NoSpace(message)

    monkeypatch.setattr(FileDelivery, "transfer", full)
    told: list[FolderProgress] = []
    with pytest.raises(NoSpace):
        way.transfer(progress=told.append)
    assert told[-1].failed == told[-1].files == 0


def test_after_a_break_only_what_is_not_done_is_done_again(openssh_server: Server, tmp_path: Path) -> None:
    there, here = openssh_server.directory / "broken", tmp_path / "here"
    files = many(300, 5_000)
    fill(there, files)
    fill(here, files)
    relay = Relay((openssh_server.host, openssh_server.port))
    with relay.running() as port, session_of(openssh_server, port=port) as session:
        session.connect()
        session.limit_bandwidth(1_500_000)  # a second's work, in which progress is reported often enough
        calls: tuple[Callable[[Callable[[FolderProgress], None]], FolderTransfer], ...] = (
            lambda progress: session.download_files("broken", str(tmp_path / "down"), progress=progress),
            lambda progress: session.upload_files(str(here), "broken-up", progress=progress, then="delete"),
        )
        for call in calls:
            before, cuts = relay.connections, iter([50, 100, 150, 200, 250])  # more than the tries of a single call
            due = [next(cuts)]

            def cut(now: FolderProgress, due: list[int] = due, cuts: Iterator[int] = cuts) -> None:
                if now.files >= due[0]:
                    due[0] = next(cuts, 1000)
                    relay.cut()

            done = call(cut)
            assert (done.files, done.total_files, done.failed) == (300, 300, 0)
            assert done.bytes == 300 * 5_000
            assert relay.connections > before
            assert done.attempts > 1
    assert content_of(tmp_path / "down") == files == content_of(openssh_server.directory / "broken-up")
    assert content_of(here) == {}


def test_a_disconnect_meanwhile_is_not_answered_by_beginning_again(way: Way) -> None:
    fill(way.source, many(500, 20_000))
    with pytest.raises(ConnectionLost):
        way.transfer(progress=lambda now: way.session.disconnect() if now.files > 10 else None)
    assert not way.session.is_open


# --- speed -----------------------------------------------------------------------------------------------------------


def test_files_do_not_wait_for_each_other_on_a_long_link(openssh_server: Server, tmp_path: Path) -> None:
    """One after the other, 250 files would take 250 times three round trips of 40 ms: 30 s."""
    files = many(250, 10_240)
    fill(openssh_server.directory / "far", files)
    fill(tmp_path / "near", files)
    address = (openssh_server.host, openssh_server.port)
    with running(address, Link(round_trip=0.04)) as (port, _), session_of(openssh_server, port=port) as session:
        session.connect()
        assert session.download_files("far", str(tmp_path / "down")).seconds < 20
        assert session.upload_files(str(tmp_path / "near"), "far-up").seconds < 20
    assert content_of(tmp_path / "down") == files == content_of(openssh_server.directory / "far-up")


# --- names, and trees -------------------------------------------------------------------------------------------------

NAMES = st.binary(min_size=1, max_size=20).filter(
    lambda name: name not in {b".", b".."} and not set(name) & set(b"/\0") and not name.startswith(b".iot-sftp-")
)
TREES = st.recursive(st.binary(max_size=30), lambda inner: st.dictionaries(NAMES, inner, max_size=5), max_leaves=12)


def test_any_tree_comes_back_as_it_was(openssh_server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    with session_of(openssh_server) as session:

        @settings(suppress_health_check=list(HealthCheck))
        @given(tree=st.dictionaries(NAMES, TREES, max_size=6))
        def check(tree: dict[bytes, object]) -> None:
            base = tmp_path_factory.mktemp("tree")
            plant(os.fsencode(base / "in"), tree)
            up = session.upload_files(str(base / "in"), f"trees/{base.name}", recursive=True)
            down = session.download_files(f"trees/{base.name}", str(base / "out"), recursive=True) if up.files else up
            assert up.failed == down.failed == 0
            assert up.files == down.files == len(content_of(base / "in"))
            assert content_of(base / "out") == content_of(base / "in")

        check()


def plant(path: bytes, tree: object) -> None:
    if isinstance(tree, bytes):
        Path(os.fsdecode(path)).write_bytes(tree)
    elif isinstance(tree, dict):
        os.mkdir(path)
        for name, inner in tree.items():
            plant(os.path.join(path, name), inner)


class ServesATree(FaultyServer):
    """A server that may show any names in any directory; all of them are files of one byte, unless told otherwise."""

    def __init__(self, show: Callable[[str], list[tuple[bytes, int]]]) -> None:
        super().__init__()
        self.show = show
        self.listed: list[str] = []

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        if kind == Kind.READDIR:
            path = self._open.pop(fields.string(), None)
            if path is None:
                return status(EOF)
            self.listed.append(path)
            entries = [string(name) + string(b"") + attributes(1, mode) for name, mode in self.show(path)]
            return struct.pack(">BI", Kind.NAME, len(entries)) + b"".join(entries)
        if kind in {Kind.STAT, Kind.LSTAT, Kind.FSTAT}:
            return attrs(1)
        if kind == Kind.OPEN:
            path = fields.string().decode("utf-8", "surrogateescape")
            self.files.setdefault(path, bytearray(b"x"))
            return self._handle(path)
        return super().truth(kind, fields)


def session_with_tree(port: int, local_files: LocalFiles | None = None) -> SFTPSession:
    return SFTPSession(ServerSettings("127.0.0.1", port, "device", Secret(PASSWORD)), local_files=local_files)


HOSTILE = st.one_of(
    st.sampled_from(
        [b"..", b".", b"", b"/", b"/etc", b"../x", b"a/../../x", b"x/", b"nul\0", b"out", b"\xff", b"n" * 300]
    ),
    st.binary(max_size=12),
)
KINDS = st.sampled_from([0o100644, 0o040755, 0o120777, 0, 0o010644])


@pytest.mark.parametrize("confined", [False, True], ids=["all local files", "a local root"])
def test_no_name_from_a_server_leads_out_of_the_destination(
    tmp_path_factory: pytest.TempPathFactory, confined: bool
) -> None:
    @settings(max_examples=15, suppress_health_check=list(HealthCheck))
    @given(
        top=st.lists(st.tuples(HOSTILE, KINDS), max_size=8),
        below=st.lists(st.tuples(HOSTILE, KINDS), max_size=4),
    )
    def check(top: list[tuple[bytes, int]], below: list[tuple[bytes, int]]) -> None:
        base = tmp_path_factory.mktemp("hostile")
        root = base / "root"
        (root / "dest").mkdir(parents=True)
        (base / "outside").mkdir()
        server.show = lambda path: top if path == "in" else below if path.count("/") == 1 else []
        files = LocalRoot(root, base / "state") if confined else LocalFiles()
        session = session_with_tree(port, files)
        try:
            dest = "dest" if confined else str(root / "dest")
            session.download_files("in", dest, recursive=True, timeout=60)
        finally:
            session.disconnect()
        assert os.listdir(base / "outside") == []
        assert os.listdir(root) == ["dest"]
        assert sorted(os.listdir(base)) == ["outside", "root"]

    server = ServesATree(lambda _: [])
    with server.running() as port:
        check()


def test_a_server_without_end_is_left_at_some_depth_and_at_some_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = ServesATree(lambda _: [(b"deeper", 0o040755), (b"file", 0o100644)])
    with deep.running() as port:
        session = session_with_tree(port)
        done = session.download_files("in", str(tmp_path / "deep"), recursive=True, timeout=60)
        session.disconnect()
    assert (done.files, done.failed) == (DEEPEST + 1, 1)
    assert done.failures[0].code == "path_not_allowed"
    monkeypatch.setattr(memory, "MOST_KEPT", 100 * folder_page.FOUND_SIZE)
    monkeypatch.setattr(folder_page, "MOST_FOUND", 200)
    wide = ServesATree(lambda path: [(b"%d" % n, 0o040755 if path.count("/") < 3 else 0o100644) for n in range(30)])
    with wide.running() as port:
        session = session_with_tree(port)
        with pytest.raises(SFTPError) as failure:
            session.download_files("in", str(tmp_path / "wide"), recursive=True, timeout=60)
        session.disconnect()
    assert failure.value.code == "too_large"


def test_a_link_in_the_destination_that_leads_out_of_the_local_root_is_not_followed(
    openssh_server: Server, tmp_path: Path
) -> None:
    fill(openssh_server.directory / "leads-out", {"sub/a": b"1", "b": b"2", "inside/c": b"3"})
    root, outside = tmp_path / "root", tmp_path / "outside"
    for directory in (root / "dest", root / "real", outside):
        directory.mkdir(parents=True)
    (outside / "b").write_bytes(b"old")
    (root / "dest/sub").symlink_to(outside)
    (root / "dest/b").symlink_to(outside / "b")
    (root / "dest/inside").symlink_to(root / "real")
    session = SFTPSession(session_settings(openssh_server), local_files=LocalRoot(root, tmp_path / "state"))
    done = session.download_files("leads-out", "dest", recursive=True)
    assert {failure.path: failure.code for failure in done.failures} == {
        "leads-out/sub/a": "path_not_allowed",
        "leads-out/b": "path_not_allowed",
    }
    assert content_of(outside) == {"b": b"old"}
    assert (root / "real/c").read_bytes() == b"3"
    (root / "up").mkdir()
    (root / "up/secret").symlink_to(outside / "b")
    (root / "up/fine").symlink_to(root / "real/c")
    done = session.upload_files("up", "linked-up")
    assert (done.files, [failure.code for failure in done.failures]) == (1, ["path_not_allowed"])
    assert content_of(openssh_server.directory / "linked-up") == {"fine": b"3"}
    session.disconnect()


def session_settings(server: Server) -> ServerSettings:
    assert server.key_file is not None
    return ServerSettings(server.host, server.port, server.user, private_key=Secret.from_file(server.key_file))
