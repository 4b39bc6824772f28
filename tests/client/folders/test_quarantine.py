"""Files that fail by themselves are put aside at their source; those that only lack a way are not."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.clients import session_of
from tests.folders import OLD, Suffix, Way, content_of, fill
from tests.servers import Server, openssh

from iot.sftp.client import (
    AlreadyExists,
    Busy,
    ConnectionLost,
    Direction,
    FileOutcome,
    FileVersion,
    FolderOrder,
    FolderTransfer,
    InvalidRequest,
    LocalFiles,
    Markers,
    NoSpace,
    NotFound,
    PathNotAllowed,
    PermissionDenied,
    Quarantine,
    Selection,
    SFTPError,
    Then,
    TransferIncomplete,
    Unsupported,
)
from iot.sftp.client._files import put_aside as local_put_aside
from iot.sftp.client._files.put_aside import put_aside
from iot.sftp.client._files.set_aside import VersionChanged
from iot.sftp.client._folders.quarantine import is_own_failure
from iot.sftp.client._transfer import put_aside as remote_put_aside
from iot.sftp.client._transfer.put_in_place import place_new


@dataclass
class Counts:
    """Counts failures, as a process does that is not restarted."""

    failures: dict[tuple[str, FileVersion], int] = field(default_factory=dict)

    def add(self, path: str, version: FileVersion) -> int:
        self.failures[path, version] = self.failures.get((path, version), 0) + 1
        return self.failures[path, version]

    def forget(self, path: str) -> None:
        self.failures = {key: count for key, count in self.failures.items() if key[0] != path}


@pytest.fixture(params=["openssh", "proftpd"])
def server(request: pytest.FixtureRequest) -> Server:
    running: Server = request.getfixturevalue(f"{request.param}_server")
    return running


def transfer(way: Way, quarantine: Quarantine, **changes: Any) -> tuple[FolderTransfer, list[FileOutcome]]:
    if way.download:
        order = FolderOrder(Direction.DOWNLOAD, f"{way.folder}/in", str(way.dest))
    else:
        order = FolderOrder(Direction.UPLOAD, str(way.source), f"{way.folder}/out")
    outcomes: list[FileOutcome] = []
    order = replace(order, quarantine=quarantine, **changes)
    return way.session.transfer_folder(order, on_file=outcomes.append), outcomes


def test_a_file_that_fails_so_often_by_itself_is_put_aside_and_never_found_again(way: Way) -> None:
    counts = Counts()
    quarantine = Quarantine(2, f"{'' if way.download else way.source.parent}/x", counts=counts)
    folder = f"{way.folder}/in/failed" if way.download else str(way.source / "failed")
    quarantine = replace(quarantine, folder=folder)
    fill(way.source, {"d/a.csv": b"bad", "b": b"b"})
    (way.dest / "d/a.csv").mkdir(parents=True)
    recursive = {"selection": Selection(recursive=True), "then": Then.DELETE}
    done, _ = transfer(way, quarantine, **recursive)
    assert (done.files, done.failed, done.quarantined) == (1, 1, 0)
    done, outcomes = transfer(way, quarantine, **recursive)
    assert (done.files, done.failed, done.failures, done.quarantined) == (0, 0, (), 1)
    assert [(outcome.code, outcome.is_quarantined) for outcome in outcomes] == [
        ("is_a_directory", False),
        ("is_a_directory", True),
    ]
    assert (outcomes[1].source, outcomes[1].dest) == (way.shown("d/a.csv"), f"{folder}/d/a.csv")
    assert content_of(way.source) == {"failed/d/a.csv": b"bad"}
    for content in (b"worse", b"worst"):  # a second one of the same name gets a number
        fill(way.source, {"d/a.csv": content})
        assert transfer(way, quarantine, **recursive)[0].failed == 1
        assert transfer(way, quarantine, **recursive)[0].quarantined == 1
    assert content_of(way.source) == {
        "failed/d/a.csv": b"bad", "failed/d/a-1.csv": b"worse", "failed/d/a-2.csv": b"worst"
    }  # fmt: skip
    assert transfer(way, quarantine, **recursive)[0].total_files == 0
    assert counts.failures == {}


def test_a_file_that_is_written_again_starts_anew_and_its_marker_goes_with_it(way: Way) -> None:
    quarantine = Quarantine(2, way.beside("failed"), counts=Counts())
    fill(way.source, {"a": b"1", "a.done": b""})
    (way.dest / "a").mkdir(parents=True)
    waiting = {"markers": Markers(wait=Suffix(".done")), "then": Then.DELETE}
    assert transfer(way, quarantine, **waiting)[0].failed == 1
    fill(way.source, {"a": b"another one"}, OLD + 60)
    assert transfer(way, quarantine, **waiting)[0].failed == 1
    fill(way.source.parent / "failed", {"a": b"an earlier one"})
    assert transfer(way, quarantine, **waiting)[0].quarantined == 1
    assert content_of(way.source) == {}
    assert content_of(way.source.parent / "failed") == {"a": b"an earlier one", "a-1": b"another one", "a-1.done": b""}


def test_a_refusal_at_the_destination_is_a_files_own_if_others_arrive() -> None:
    """Which of the two it is, nobody can tell by the refusal itself."""
    lost: list[SFTPError] = [ConnectionLost("x"), NoSpace("x"), Busy("x"), Unsupported("x")]
    own: list[SFTPError] = [AlreadyExists("x"), TransferIncomplete("x"), PathNotAllowed("x"), InvalidRequest("x")]
    for error in lost:
        assert not is_own_failure(error, is_about_source=True, have_others_arrived=True)
    for error in own:
        assert is_own_failure(error, is_about_source=False, have_others_arrived=False)
    refusals: list[SFTPError] = [PermissionDenied("x"), NotFound("x")]
    for error in refusals:
        assert is_own_failure(error, is_about_source=True, have_others_arrived=False)
        assert is_own_failure(error, is_about_source=False, have_others_arrived=True)
        assert not is_own_failure(error, is_about_source=False, have_others_arrived=False)


def test_a_destination_into_which_nothing_may_be_written_puts_no_file_aside(tmp_path: Path) -> None:
    quarantine = Quarantine(1, str(tmp_path / "failed"), counts=Counts())
    fill(tmp_path / "out", {"a": b"1", "b": b"2"})
    with openssh(tmp_path / "server", sftp_options="-R") as server, session_of(server) as session:
        order = FolderOrder(Direction.UPLOAD, str(tmp_path / "out"), "in", quarantine=quarantine)
        done = session.transfer_folder(order)
    assert (done.failed, done.quarantined) == (2, 0)
    assert content_of(tmp_path / "out") == {"a": b"1", "b": b"2"}


def test_a_link_that_leads_nowhere_that_is_allowed_is_put_aside_as_it_is(tmp_path: Path) -> None:
    """It cannot even be opened."""

    class Confined(LocalFiles):
        def open_parent(self, path: str, *, create: bool, mode: int | None = None) -> Any:
            if os.path.islink(path):
                raise PathNotAllowed("outside", path=path)
            return super().open_parent(path, create=create, mode=mode)

    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").symlink_to("/etc/passwd")
    place = put_aside(Confined(), f"{tmp_path}/out/a", f"{tmp_path}/failed/a", FileVersion(None), lambda: None)
    assert place == f"{tmp_path}/failed/a"
    assert os.readlink(place) == "/etc/passwd"
    assert not os.path.lexists(tmp_path / "out/a")


def test_what_has_changed_stays_and_what_a_crash_left_in_both_places_is_one_file(tmp_path: Path) -> None:
    fill(tmp_path / "out", {"a": b"1"})
    source, target = f"{tmp_path}/out/a", f"{tmp_path}/failed/a"
    version = FileVersion.of_local(os.stat(source))
    with pytest.raises(VersionChanged):
        put_aside(LocalFiles(), source, target, version._replace(size=2), lambda: None)
    assert content_of(tmp_path) == {"out/a": b"1"}
    os.link(source, target)
    now = FileVersion.of_local(os.stat(source))
    assert put_aside(LocalFiles(), source, target, now, lambda: None) == target
    assert content_of(tmp_path) == {"failed/a": b"1"}
    fill(tmp_path / "out", {"a": b"2"})
    with pytest.raises(InvalidRequest, match="leads to the folder that the file is in"):
        put_aside(LocalFiles(), source, f"{tmp_path}/out/b", FileVersion(None), lambda: None)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"quarantine": Quarantine(1, "out/")}, "the source itself"),
        ({"quarantine": Quarantine(1, "done"), "then": Then.MOVE, "move_to": "./done"}, "is move_to"),
        ({"quarantine": Quarantine(1, "out/x", "out"), "selection": Selection(recursive=True)}, "changes within"),
    ],
)
def test_a_folder_from_which_files_would_be_taken_again_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        FolderOrder(Direction.UPLOAD, "out", "in", **changes)
    for after in (0, True, "1"):
        with pytest.raises(InvalidRequest, match="whole number"):
            Quarantine(after, "failed")  # type: ignore[arg-type]


def test_a_folder_that_others_remove_takes_neither_the_file_nor_its_marker(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, was_removed = way.source.parent / "failed", list[bool]()
    quarantine = Quarantine(1, way.beside("failed"), counts=Counts())

    def remove_folder_first(place: Callable[..., bool]) -> Callable[..., bool]:
        def remove_and_place(*arguments: Any) -> bool:
            if not was_removed:
                folder.rmdir()
                was_removed.append(True)
            return place(*arguments)

        return remove_and_place

    monkeypatch.setattr(remote_put_aside, "place_new", remove_folder_first(place_new))
    monkeypatch.setattr(local_put_aside, "_is_renamed", remove_folder_first(local_put_aside._is_renamed))
    files = {"a": b"1", "a.done": b"ready"}
    fill(way.source, files)
    (way.dest / "a").mkdir(parents=True)
    done, _ = transfer(way, quarantine, markers=Markers(wait=Suffix(".done")), then=Then.DELETE)
    assert (done.files, done.failed, done.quarantined) == (0, 1, 0)
    assert content_of(way.source) == files
