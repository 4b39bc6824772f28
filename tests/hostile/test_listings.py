"""Listings without measure: a million names take the memory of their names, and what never ends is ended."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from tests.faulty_servers import DIRECTORY, names
from tests.hostile.servers import MEBIBYTE, Lists, growing_by_at_most, list_in_a_process, session_with

from iot.sftp.client import TooLarge
from iot.sftp.client import _listing as listing
from iot.sftp.client import _remote_files as remote_files
from iot.sftp.client._packets import Kind, Reader

MILLION = 1_000_000


class NeverEnds(Lists):
    """Gives names for ever."""

    def __init__(self) -> None:
        super().__init__(b"%020d" % number for number in itertools.count())
        self.closed = 0

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        self.closed += kind == Kind.CLOSE
        return super().truth(kind, fields)


def test_a_million_names_take_no_more_memory_than_they_need_and_a_page_of_them_next_to_none() -> None:
    server = Lists([b"%020d" % number for number in range(MILLION)])
    with server.running() as port:
        count, first, last, grown = list_in_a_process(port, None)
        assert (count, first, last) == (MILLION, f"in/{0:020}", f"in/{MILLION - 1:020}")
        assert grown < 150 * MEBIBYTE, f"{grown / MEBIBYTE:.0f} MiB"
        count, first, last, grown = list_in_a_process(port, 100)
        assert (count, first, last) == (100, f"in/{0:020}", f"in/{99:020}")
        assert grown < 40 * MEBIBYTE, f"{grown / MEBIBYTE:.0f} MiB"


def test_a_million_long_names_below_a_long_path_stay_within_the_bounds() -> None:
    budget = listing.Budget()
    for _ in range(1000):
        budget.take("folder/" * 20 + "y" * 255)
    assert budget._kept * (MILLION / 1000) < listing.MOST_KEPT
    assert MILLION <= remote_files.MOST_NAMES


def test_a_listing_that_never_ends_is_ended_without_a_deadline_when_its_names_take_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listing, "MOST_KEPT", 4 * MEBIBYTE)
    server = NeverEnds()
    with session_with(server) as session:
        with growing_by_at_most(60 * MEBIBYTE), pytest.raises(TooLarge, match="4 MiB") as failure:
            session.list_files("in")
        assert failure.value.path == "in"
        assert session.exists("."), "the session goes on"
        assert server.connections == 1
        assert server.closed >= 1


def test_a_page_of_a_listing_that_never_ends_is_given_up_after_so_many_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_files, "MOST_NAMES", 30_000)
    server = NeverEnds()
    with session_with(server) as session:
        with growing_by_at_most(60 * MEBIBYTE), pytest.raises(TooLarge, match="more than 30000 names"):
            session.list_files("in", limit=10)
        with pytest.raises(TooLarge):
            session.list_files("in", "no path holds this")
        with pytest.raises(TooLarge):
            list(session.scan("in"))
        assert server.connections == 1


def test_a_folder_that_never_ends_is_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MOST_KEPT", 8 * MEBIBYTE)
    with session_with(NeverEnds()) as session, growing_by_at_most(60 * MEBIBYTE), pytest.raises(TooLarge):
        session.download_files("in", str(tmp_path / "dest"), recursive=True)
    assert not (tmp_path / "dest").exists()


def test_folders_within_folders_without_end_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MOST_KEPT", MEBIBYTE)

    class OnlyFolders(Lists):
        def truth(self, kind: int | str, fields: Reader) -> bytes:
            if kind == Kind.READDIR:
                answer = super().truth(kind, fields)
                if answer[0] == Kind.NAME:
                    return names(*(b"folder%d" % number for number in range(50)), mode=DIRECTORY)
                return answer
            return super().truth(kind, fields)

    with session_with(OnlyFolders([b"x"])) as session, pytest.raises(TooLarge):
        session.download_files("in", str(tmp_path / "dest"), recursive=True, timeout=30)
