"""Which files of a folder are transferred, and in which order: on real servers, both ways, in any memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.folders import OLD, Way, content_of, fill, many

from iot.sftp.client import FileVersion, InvalidRequest, Order, PermissionDenied
from iot.sftp.client._base import memory
from iot.sftp.client._base.steps import Steps
from iot.sftp.client._folders import folder_page, folder_plan, folder_run
from iot.sftp.client._folders.file_delivery import FileDelivery
from iot.sftp.client._folders.folder_download import FolderDownload
from iot.sftp.client._folders.folder_page import FolderPage, FoundFile
from iot.sftp.client._folders.folder_plan import FolderPlan
from iot.sftp.client._folders.folder_upload import FolderUpload

if TYPE_CHECKING:
    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._folders.workers import ChannelLender


def test_only_what_is_included_and_not_excluded_is_transferred(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = list[str]()
    for kind in (FolderDownload, FolderUpload):
        list_source = kind.list_source

        def note(
            self: object,
            remote: RemoteFiles,
            directory: str,
            page: FolderPage,
            list_source: Callable[..., None] = list_source,
        ) -> None:
            listed.append(directory)
            list_source(self, remote, directory, page)

        monkeypatch.setattr(kind, "list_source", note)
    names = ("a.csv", "a.txt", "line/a.csv", "line/bad.csv", "tmp/a.csv", "tmp/in/a.csv", "[odd]/{a}.csv", "é/ü.csv")
    fill(way.source, dict.fromkeys(names, b"1"))
    done = way.transfer(recursive=True, include=["*.csv", "**/?.csv", "[[]odd]/*"], exclude=["tmp/**"])
    assert set(content_of(way.dest)) == {"a.csv", "line/a.csv", "é/ü.csv"}
    assert (done.files, done.total_files) == (3, 3)
    assert sorted(listed) == ["", "[odd]", "line", "é"], "nothing can be wanted of an excluded folder"
    listed.clear()
    assert way.transfer(recursive=True, include=["line/*"]).files == 2
    assert sorted(listed) == ["", "line"]
    assert way.transfer(include=("*.csv",), exclude=["**/a.*"]).files == 0


def test_a_pattern_that_cannot_be_meant_is_refused_before_anything_happens(way: Way) -> None:
    with pytest.raises(InvalidRequest, match="include has a pattern that has '\\*\\*' beside other characters"):
        way.transfer(include=["**.csv"])
    with pytest.raises(InvalidRequest, match="exclude must be a list"):
        way.transfer(exclude="*.csv")
    with pytest.raises(InvalidRequest, match="order must be one of name, oldest, newest"):
        way.transfer(order="size")


@pytest.fixture
def delivered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of files, in the order of their turns; one at a time."""
    paths = list[str]()
    deliver = FileDelivery.deliver

    def note(self: FileDelivery, remote: RemoteFiles, found: FoundFile) -> Steps[None]:
        yield from deliver(self, remote, found)
        paths.append(found.path)

    monkeypatch.setattr(FileDelivery, "deliver", note)
    monkeypatch.setattr(folder_run, "SMALL_AT_ONCE", 1)
    monkeypatch.setattr(folder_run, "READY", 1)
    return paths


@pytest.mark.parametrize("order", ["name", "oldest", "newest"])
def test_the_order_holds_over_all_folders_and_pages(
    way: Way, monkeypatch: pytest.MonkeyPatch, delivered: list[str], order: str
) -> None:
    expected = list[str]()
    for number in range(60):
        path = f"d{number % 7}/f{number:03}" if number % 3 else f"f{number:03}"
        fill(way.source, {path: b"%d" % number}, OLD + number * 60)
        expected.append(path)
    if order == "name":
        expected.sort(key=folder_page.key_of)
    elif order == "newest":
        expected.reverse()
    monkeypatch.setattr(memory, "MOST_KEPT", 24 * folder_page.size_of("d0/f000"))
    done = way.transfer(order=order, recursive=True)
    assert (done.files, done.failed) == (60, 0)
    assert delivered == expected


class Looks:
    """The looks for newer files that follow each other without a pause, and what waits after the last one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Note the looks of all plans from now on."""
        self._looked = threading.Condition()
        self._waiting = list[str]()
        find = FolderPlan._find_newer

        def note(plan: FolderPlan, lender: ChannelLender, deadline: Deadline) -> None:
            find(plan, lender, deadline)
            with self._looked:
                self._waiting = [found.path for found in list(plan.small)]
                self._looked.notify_all()

        monkeypatch.setattr(FolderPlan, "_find_newer", note)
        monkeypatch.setattr(folder_plan, "LOOK_AGAIN_AFTER", 0.05)
        monkeypatch.setattr(folder_plan, "LOOK_AGAIN_PART", 0)

    def wait_until_first(self, *paths: str) -> None:
        """Wait until these files are the first ones of those that wait."""
        with self._looked:
            assert self._looked.wait_for(lambda: self._waiting[: len(paths)] == list(paths), 120), self._waiting


def put_in(way: Way, name: str, files: dict[str, bytes], when: int) -> None:
    """Have a file or a folder appear in the source at once, with its times: a look sees all of it or nothing."""
    made = way.source.with_name("made")
    fill(made, files, when)
    (made / name).replace(way.source / name)


def test_newest_first_goes_for_what_appears_meanwhile_too(
    way: Way, monkeypatch: pytest.MonkeyPatch, delivered: list[str]
) -> None:
    looks = Looks(monkeypatch)
    deliver = FileDelivery.deliver

    def appear(self: FileDelivery, remote: RemoteFiles, found: FoundFile) -> Steps[None]:
        yield from deliver(self, remote, found)
        if len(delivered) == 2:
            put_in(way, "late", {"late": b""}, OLD - 1)
            put_in(way, "new", {"new/a": b"1", "new/b": b"12"}, OLD + 1_000)
            looks.wait_until_first("new/a", "new/b")

    monkeypatch.setattr(FileDelivery, "deliver", appear)
    for number in range(6):
        fill(way.source, {f"f{number}": b"x"}, OLD + number)
    done = way.transfer(order="newest", recursive=True)
    assert delivered == ["f5", "f4", "new/a", "new/b", "f3", "f2", "f1", "f0"]
    assert (done.files, done.total_files) == (8, 8)
    assert done.bytes == done.total_bytes == 9


def test_a_file_that_is_written_again_while_it_waits_is_transferred_once(
    way: Way, monkeypatch: pytest.MonkeyPatch, delivered: list[str]
) -> None:
    looks = Looks(monkeypatch)
    deliver = FileDelivery.deliver

    def write(self: FileDelivery, remote: RemoteFiles, found: FoundFile) -> Steps[None]:
        yield from deliver(self, remote, found)
        if len(delivered) == 1:
            put_in(way, "f0", {"f0": b"another"}, OLD + 1_000)
            looks.wait_until_first("f0")

    monkeypatch.setattr(FileDelivery, "deliver", write)
    for number in range(4):
        fill(way.source, {f"f{number}": b"x"}, OLD + number)
    done = way.transfer(order="newest")
    assert delivered == ["f3", "f0", "f2", "f1"]
    assert (done.files, done.total_files, done.bytes, done.total_bytes) == (4, 4, 10, 10)
    assert content_of(way.dest)["f0"] == b"another"


def test_a_date_in_the_far_future_hides_no_newer_file(
    way: Way, monkeypatch: pytest.MonkeyPatch, delivered: list[str]
) -> None:
    """A picture of the year 2040 is sent first, and once; those of today are looked for all the same."""
    monkeypatch.setattr(folder_plan, "LOOK_AGAIN_AFTER", 0.0)
    monkeypatch.setattr(folder_plan, "LOOK_AGAIN_PART", 0)
    fill(way.source, {"future": b"1"}, 2_200_000_000)
    fill(way.source, many(20))
    assert way.transfer(order="newest").files == 21
    assert delivered[0] == "future"
    assert len(delivered) == 21


def test_a_folder_that_cannot_be_listed_again_holds_up_nothing(
    way: Way, monkeypatch: pytest.MonkeyPatch, delivered: list[str]
) -> None:
    monkeypatch.setattr(folder_plan, "LOOK_AGAIN_AFTER", 0.0)
    monkeypatch.setattr(folder_plan, "LOOK_AGAIN_PART", 0)
    fill(way.source, many(20))
    for kind in (FolderDownload, FolderUpload):
        list_source = kind.list_source

        def refuse(
            self: object,
            remote: RemoteFiles,
            directory: str,
            page: FolderPage,
            list_source: Callable[..., None] = list_source,
        ) -> None:
            if delivered:
                raise PermissionDenied("not now")
            list_source(self, remote, directory, page)

        monkeypatch.setattr(kind, "list_source", refuse)
    done = way.transfer(order="newest")
    assert (done.files, done.failed) == (20, 0)


TIMES = st.one_of(st.none(), st.integers(0, 5))


@pytest.mark.parametrize("order", [Order.OLDEST, Order.NEWEST])
def test_pages_by_time_hold_each_file_once_and_in_order(monkeypatch: pytest.MonkeyPatch, order: Order) -> None:
    @settings(deadline=None, suppress_health_check=list(HealthCheck))
    @given(times=st.lists(TIMES, max_size=80), room=st.integers(4, 40))
    def check(times: list[int | None], room: int) -> None:
        monkeypatch.setattr(memory, "MOST_KEPT", room * folder_page.size_of("00"))
        files = [FoundFile(f"{number:02}", FileVersion(1, time)) for number, time in enumerate(times)]
        found, start, most = list[FoundFile](), folder_page.FIRST, 0
        while True:
            budget = memory.Budget()
            page = FolderPage(budget, start, order=order)
            for file in files:
                page.add_files([file])
            kept = page.files()
            budget.close()
            most = max(most, len(kept))
            found += kept
            if page.bound is None:
                break
            assert page.bound > start
            start = page.bound
        assert found == sorted(files, key=lambda file: folder_page.rank_of(file, order))
        assert most <= room

    check()


def test_the_newest_of_very_many_are_found_in_the_memory_of_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_KEPT", 1_000 * folder_page.size_of("000000"))
    budget = memory.Budget()
    page = FolderPage(budget, order=Order.NEWEST)
    for number in range(50_000):
        page.add_files([FoundFile(f"{number:06}", FileVersion(1, (number * 7_919) % 50_000))])
    kept = [found.version.modified for found in page.files()]
    assert kept == list(range(49_999, 49_999 - len(kept), -1))
    assert 250 <= len(kept) <= 1_000
    budget.close()
