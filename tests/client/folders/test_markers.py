"""Markers on either side: a reader who waits for one finds the file and its checksum, whoever died in between."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.folders import OLD, Suffix, Way, content_of, fill
from tests.servers import Server

from iot.sftp.client import (
    Direction,
    FileVersion,
    FolderOrder,
    FolderTransfer,
    IfExists,
    Markers,
    OwedMarkers,
    PathNotAllowed,
    Selection,
    SpentMarker,
    Then,
)
from iot.sftp.client._folders.marker_steps import MarkerSteps
from iot.sftp.client._folders.markers import checksum_line

NEW = OLD + 60


@dataclass
class Record:
    """Remembers what is to be done, as a process does that is not killed."""

    kept: dict[str, OwedMarkers] = field(default_factory=dict)
    gone: dict[str, SpentMarker] = field(default_factory=dict)

    def announce(self, owed: OwedMarkers) -> None:
        self.kept[owed.dest] = owed

    def owed(self, after: str) -> list[OwedMarkers]:
        return [self.kept[dest] for dest in sorted(self.kept) if dest > after][:1]

    def settle_owed(self, dest: str) -> None:
        self.kept.pop(dest, None)

    def note_spent(self, spent: SpentMarker) -> None:
        self.gone[spent.marker] = spent

    def spent(self, after: str) -> list[SpentMarker]:
        return [self.gone[marker] for marker in sorted(self.gone) if marker > after][:1]

    def settle_spent(self, marker: str) -> None:
        self.gone.pop(marker, None)


DONE, SUM = Suffix(".done"), Suffix(".sha256")
BOTH = Markers(write=DONE, checksum=SUM)
ALL = Markers(wait=DONE, write=DONE, checksum=SUM)


@pytest.fixture(params=["openssh", "proftpd"])
def server(request: pytest.FixtureRequest) -> Server:
    running: Server = request.getfixturevalue(f"{request.param}_server")
    return running


def transfer(way: Way, markers: Markers, **changes: Any) -> FolderTransfer:
    if way.download:
        order = FolderOrder(Direction.DOWNLOAD, f"{way.folder}/in", str(way.dest))
    else:
        order = FolderOrder(Direction.UPLOAD, str(way.source), f"{way.folder}/out")
    return way.session.transfer_folder(replace(order, markers=markers, **changes))


def sum_of(content: bytes, name: str) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()


def test_a_checksum_and_a_marker_follow_each_file_and_replace_those_of_an_earlier_one(way: Way) -> None:
    fill(way.source, {"a.csv": b"new", "d/b": b"b"}, NEW)
    fill(way.dest, {"a.csv": b"old", "a.csv.done": b"not empty", "a.csv.sha256": b"of the old one"})
    done = transfer(way, BOTH, selection=Selection(recursive=True))
    assert (done.files, done.failed) == (2, 0)
    assert content_of(way.dest) == {
        "a.csv": b"new", "a.csv.done": b"", "a.csv.sha256": sum_of(b"new", "a.csv"),
        "d/b": b"b", "d/b.done": b"", "d/b.sha256": sum_of(b"b", "b"),
    }  # fmt: skip
    times = [(way.dest / name).stat().st_ctime_ns for name in ("a.csv", "a.csv.sha256", "a.csv.done")]
    assert times == sorted(times)
    assert transfer(way, BOTH, selection=Selection(recursive=True), if_exists=IfExists.SKIP).skipped == 2


def test_a_file_is_taken_when_its_marker_is_there_and_both_are_gone_afterwards(way: Way) -> None:
    fill(way.source, {"a": b"1", "a.done": b"", "b": b"2", "c.done": b""})
    done = transfer(way, Markers(wait=DONE), then=Then.DELETE)
    assert (done.files, done.total_files, done.failed) == (1, 1, 0)
    assert content_of(way.dest) == {"a": b"1"}
    assert content_of(way.source) == {"b": b"2", "c.done": b""}
    fill(way.source, {"b.done": b"ready"})
    moved = way.beside("moved")
    assert transfer(way, ALL, then=Then.MOVE, move_to=moved).files == 1
    assert content_of(way.source) == {"c.done": b""}
    assert content_of(way.source.parent / "moved") == {"b": b"2", "b.done": b"ready"}
    assert set(content_of(way.dest)) == {"a", "b", "b.done", "b.sha256"}


def test_a_marker_of_several_files_stays_until_the_last_one_has_arrived(way: Way) -> None:
    wait = Suffix(".done", of_stem=True)
    fill(way.source, {"a.csv": b"1", "a.txt": b"2", "a.done": b""})
    (way.dest / "a.csv").mkdir(parents=True)
    done = transfer(way, Markers(wait=wait), then=Then.DELETE)
    assert (done.files, done.failed) == (1, 1)
    assert content_of(way.source) == {"a.csv": b"1", "a.done": b""}
    (way.dest / "a.csv").rmdir()
    assert transfer(way, Markers(wait=wait), then=Then.DELETE).files == 1
    assert content_of(way.source) == {}


def test_a_file_with_a_number_has_its_own_markers_and_what_was_there_keeps_its(way: Way) -> None:
    fill(way.source, {"a.csv": b"new"}, NEW)
    old = {"a.csv": b"old", "a.csv.done": b"", "a.csv.sha256": b"of the old one"}
    fill(way.dest, old)
    for if_exists in (IfExists.SKIP, IfExists.FAIL):
        assert transfer(way, BOTH, if_exists=if_exists).files == 0
        assert content_of(way.dest) == old
    assert transfer(way, BOTH, if_exists=IfExists.RENAME).files == 1
    assert content_of(way.dest) == old | {
        "a-1.csv": b"new", "a-1.csv.done": b"", "a-1.csv.sha256": sum_of(b"new", "a-1.csv"),
    }  # fmt: skip


def test_what_has_the_name_of_a_marker_at_the_destination_is_not_written_over_one(way: Way) -> None:
    fill(way.source, {"a": b"1", "a.done": b"a file of its own"})
    done = transfer(way, BOTH, then=Then.DELETE)
    assert (done.files, [failure.code for failure in done.failures]) == (1, ["path_not_allowed"])
    assert content_of(way.source) == {"a.done": b"a file of its own"}
    assert content_of(way.dest)["a.done"] == b""


def test_an_old_marker_that_cannot_be_removed_leaves_the_old_file_in_its_place(way: Way) -> None:
    fill(way.source, {"a": b"new"}, NEW)
    fill(way.dest, {"a": b"old", "a.done/in the way": b""})
    done = transfer(way, BOTH, then=Then.DELETE)
    assert (done.files, done.failed, done.not_removed) == (0, 1, 0)
    assert "nothing was replaced" in done.failures[0].message
    assert content_of(way.dest)["a"] == b"old"
    assert content_of(way.source) == {"a": b"new"}


def test_a_link_in_the_place_of_a_marker_is_replaced_and_not_followed(way: Way) -> None:
    fill(way.source, {"a": b"1"})
    fill(way.dest.parent, {"elsewhere": b"of others"})
    way.dest.mkdir(exist_ok=True)
    for name in ("a.done", "a.sha256"):
        (way.dest / name).symlink_to(way.dest.parent / "elsewhere")
    assert transfer(way, BOTH).files == 1
    assert content_of(way.dest) == {"a": b"1", "a.done": b"", "a.sha256": sum_of(b"1", "a")}
    assert (way.dest.parent / "elsewhere").read_bytes() == b"of others"


def test_a_marker_that_cannot_be_written_is_owed_until_it_can(way: Way) -> None:
    record = Record()
    markers = replace(BOTH, record=record, checksum=Suffix("/sum"))  # no such name can be written
    fill(way.source, {"a": b"1"})
    done = transfer(way, markers, then=Then.DELETE)
    assert (done.files, done.failed, done.not_removed) == (1, 1, 1)
    assert "delivered, and its marker cannot be written" in done.failures[0].message
    assert content_of(way.source) == {"a": b"1"}
    assert content_of(way.dest) == {"a": b"1"}
    assert transfer(way, markers, then=Then.DELETE).not_removed == 1
    done = transfer(way, replace(BOTH, record=record), then=Then.DELETE)
    assert (done.files, done.failed) == (0, 0)
    assert content_of(way.source) == {}
    assert content_of(way.dest) == {"a": b"1", "a.done": b"", "a.sha256": sum_of(b"1", "a")}
    assert record.kept == {}


def test_what_is_owed_is_not_written_for_another_file(way: Way) -> None:
    record = Record()
    record.announce(OwedMarkers("gone", "gone", hashlib.sha256(b"gone").hexdigest()))
    record.announce(OwedMarkers("other", "other", hashlib.sha256(b"delivered").hexdigest()))
    record.announce(OwedMarkers("same", "same", hashlib.sha256(b"same").hexdigest()))
    fill(way.dest, {"other": b"of the partner", "same": b"same"})
    way.source.mkdir(exist_ok=True)
    assert transfer(way, replace(BOTH, record=record)).failed == 0
    assert set(content_of(way.dest)) == {"other", "same", "same.done", "same.sha256"}
    assert record.kept == {}


def test_a_marker_whose_file_is_gone_is_removed_before_a_later_file_is_taken_for_complete(way: Way) -> None:
    record, wait = Record(), Markers(wait=DONE)
    fill(way.source, {"a": b"1", "a.done": b"", "b.done": b""})
    file = FileVersion(5, (OLD - 1) * 1_000_000_000)  # an earlier one, which is deleted by now
    for name in ("a", "b"):
        record.note_spent(SpentMarker(f"{name}.done", FileVersion(0, OLD * 1_000_000_000), name, file))
    record.note_spent(SpentMarker("c.done", FileVersion(0, OLD * 1_000_000_000), "c", file))
    fill(way.source, {"c.done": b"", "c": b"complete"}, NEW)  # it is another marker
    assert transfer(way, replace(wait, record=record), then=Then.DELETE).files == 1
    assert content_of(way.source) == {"a": b"1"}
    assert content_of(way.dest) == {"c": b"complete"}
    assert record.gone == {}


NAMES = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=40)


@settings(max_examples=20)
@given(NAMES.filter(lambda name: name not in {".", "..", "-"} and len(name.encode()) < 200), st.binary(max_size=9))
def test_the_line_is_the_one_that_gnu_writes_and_reads(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("sums")
    (folder / name).write_bytes(content)
    line = checksum_line(hashlib.sha256(content).hexdigest(), f"some/folder/{name}")
    written = subprocess.run(["sha256sum", "--", name], cwd=folder, capture_output=True, check=True).stdout
    assert line == written
    checked = subprocess.run(["sha256sum", "--status", "-c", "-"], cwd=folder, input=line, check=False)
    assert checked.returncode == 0


@pytest.mark.parametrize("name", ["a\\b", "a\nb", "a\rb", "\\", "\n", "é\udcff", " a ", "a\\n", "-a", "a\r"])
def test_names_that_are_escaped_are_those_of_gnu(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    line = checksum_line(hashlib.sha256(b"x").hexdigest(), name)
    assert line == subprocess.run(["sha256sum", "--", name], cwd=tmp_path, capture_output=True, check=True).stdout
    assert subprocess.run(["sha256sum", "--status", "-c", "-"], cwd=tmp_path, input=line, check=False).returncode == 0


def test_names_that_no_file_can_have_are_refused_before_anything_is_sent() -> None:
    assert ALL.at("d/a") == ["d/a.done", "d/a.sha256"]
    for dest in ("a.done", "d/a.sha256", "x" * 250):
        with pytest.raises(PathNotAllowed):
            ALL.at(dest)
    with pytest.raises(PathNotAllowed, match="the same name"):
        Markers(write=Suffix(".x"), checksum=Suffix(".x", of_stem=True)).at("a")
    assert not ALL.selects("d/a.done")
    assert ALL.selects("d/a.sha256")


def test_a_marker_that_cannot_be_moved_is_told_of(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    remove = MarkerSteps._remove

    def lose_folder_and_remove(*arguments: Any) -> None:
        shutil.rmtree(way.source.parent / "moved", ignore_errors=True)
        remove(*arguments)

    monkeypatch.setattr(MarkerSteps, "_remove", lose_folder_and_remove)
    fill(way.source, {"a": b"1", "a.done": b"ready"})
    record = Record()
    done = transfer(way, Markers(wait=DONE, record=record), then=Then.MOVE, move_to=way.beside("moved"))
    is_left = (way.source / "a.done").exists()
    assert (done.files, done.failed, len(record.gone)) == (1, is_left, is_left)
    monkeypatch.setattr(MarkerSteps, "_remove", remove)
    transfer(way, Markers(wait=DONE, record=record), then=Then.MOVE, move_to=way.beside("moved"))
    assert content_of(way.source) == {}
    assert content_of(way.source.parent / "moved")["a.done"] == b"ready"
