"""A folder of any size is found page by page: each name once, in order, within any memory that takes a few."""

from __future__ import annotations

import posixpath
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iot.sftp.client import FileVersion, NotFound, SFTPError, TooLarge
from iot.sftp.client._base import memory
from iot.sftp.client._folders import folder_page
from iot.sftp.client._folders.folder_page import FolderPage, FoundFile
from iot.sftp.client._folders.folder_walk import walk

Tree = dict[str, object]  # a directory's names, each with its own tree, or `None` for a file

NAMES = st.text(alphabet="ab-.\x01~", min_size=1, max_size=3).filter(lambda name: name not in {".", ".."})
TREES = st.dictionaries(
    NAMES,
    st.recursive(st.none(), lambda inner: st.dictionaries(NAMES, inner, max_size=6), max_leaves=30),
    max_size=12,
)


def files_of(tree: Tree, path: str = "") -> list[str]:
    found = []
    for name, inner in tree.items():
        below = posixpath.join(path, name)
        found += files_of(inner, below) if isinstance(inner, dict) else [below]
    return found


def at(tree: Tree, path: str) -> Tree:
    for part in path.split("/") if path else ():
        inner = tree[part]
        assert isinstance(inner, dict)
        tree = inner
    return tree


def pages_of(tree: Tree, *, excluded: str | None = None) -> list[list[str]]:
    """Walk a tree until nothing is left, and return the paths on each page."""
    pages, start = list[list[str]](), folder_page.FIRST
    while True:
        budget = memory.Budget()
        page = FolderPage(budget, start, enters=lambda path: path != excluded)

        def look(directory: str, page: FolderPage = page) -> None:
            for name, inner in reversed(at(tree, directory).items()):
                path = posixpath.join(directory, name)
                if isinstance(inner, dict):
                    page.add_directory(path)
                else:
                    page.add_files([FoundFile(path, FileVersion(1))])

        assert list(walk(look, page, recursive=True, ends_all=lambda _: True)) == []
        pages.append([found.path for found in page.files()])
        assert budget._kept >= sum(map(folder_page.size_of, pages[-1]))
        budget.close()
        if page.bound is None:
            return pages
        assert page.bound > start
        start = page.bound


def test_each_file_of_any_tree_is_on_one_page_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    @settings(deadline=None, suppress_health_check=list(HealthCheck))
    @given(tree=TREES, room=st.integers(8, 60))
    def check(tree: Tree, room: int) -> None:
        monkeypatch.setattr(memory, "MOST_KEPT", room * folder_page.size_of("a" * 30))
        pages = pages_of(tree)
        paths = [path for page in pages for path in page]
        assert sorted(paths) == sorted(files_of(tree))
        assert paths == sorted(paths, key=folder_page.key_of)
        assert all(sum(map(folder_page.size_of, page)) <= memory.MOST_KEPT for page in pages)

    check()


def test_a_directory_that_is_excluded_is_not_gone_into() -> None:
    tree: Tree = {"a": None, "done": {"b": None, "c": {"d": None}}, "done.not": {"e": None}}
    assert pages_of(tree, excluded="done") == [["a", "done.not/e"]]


def test_many_directories_and_one_large_one_are_worked_off_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_KEPT", 100 * folder_page.size_of("a" * 10))
    tree: Tree = {f"d{n:04}": {"a": None, "b": None} for n in range(500)}
    tree["e"] = {f"f{n:04}": None for n in range(700)}
    pages = pages_of(tree)
    assert [path for page in pages for path in page] == sorted(files_of(tree), key=folder_page.key_of)
    assert len(pages) < 60, "the pages are about as large as they can be"


def test_without_room_for_a_single_name_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_KEPT", 10)
    with pytest.raises(TooLarge, match="the names take more than"):
        pages_of({"a": None})


def test_threads_that_find_no_memory_at_the_same_moment_make_room_once() -> None:
    """Each of them cut the page by itself: with 16 threads, nothing was left of 30,000 files."""
    threads, files = 16, 1_000
    is_full = threading.Barrier(threads)
    refused = {threading.get_ident()}  # each of the other threads, once

    class Full(memory.Budget):
        def take(self, size: int) -> None:
            super().take(size)
            if threading.get_ident() not in refused:
                refused.add(threading.get_ident())
                is_full.wait(60)
                message = "the names take more than there is"
                raise TooLarge(message)

    page = FolderPage(Full())
    for number in range(files):
        page.add_files([FoundFile(f"{number:04}", FileVersion(1))])
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda number: page.add_files([FoundFile(f"0{number:02}", FileVersion(1))]), range(threads)))
    assert page.bound == (0, f"{files * 3 // 4:04}")
    assert len(page.files()) == files * 3 // 4 + threads


def test_a_directory_that_cannot_be_listed_is_told_and_the_others_are_walked() -> None:
    page = FolderPage(memory.Budget())

    def look(directory: str) -> None:
        if directory == "bad":
            message = "gone"
            raise NotFound(message)
        if directory:
            page.add_files([FoundFile(f"{directory}/a", FileVersion(1))])
        else:
            page.add_directory("bad")
            page.add_directory("good")

    def ends_all(error: SFTPError) -> bool:
        return not isinstance(error, NotFound)

    (unlisted,) = walk(look, page, recursive=True, ends_all=ends_all)
    assert (unlisted.path, unlisted.error.code) == ("bad", "not_found")
    assert [found.path for found in page.files()] == ["good/a"]
