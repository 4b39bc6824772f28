"""Globs select what their words say, by any other way of finding that out too; folders are asked about as a whole."""

from __future__ import annotations

import posixpath
import time
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iot.sftp.client import InvalidRequest, Order, Selection
from iot.sftp.client._folders.globs import Globs

NAMES = st.text(alphabet="ab.[\\\n\udc80", min_size=1, max_size=4).filter(lambda name: name not in {".", ".."})
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
GLOB_NAMES = st.text(alphabet="ab.*?[\\\n\udc80", min_size=1, max_size=5).filter(
    lambda name: "**" not in name and name not in {".", ".."}
)
GLOBS = st.lists(st.one_of(GLOB_NAMES, st.just("**")), min_size=1, max_size=4).map("/".join)


def by_definition(glob: str, path: str) -> bool:
    """The definition, character by character and folder by folder, trying everything."""

    @cache
    def name_matches(pattern: str, name: str) -> bool:
        if not pattern:
            return not name
        if pattern[0] == "*":
            return name_matches(pattern[1:], name) or (bool(name) and name_matches(pattern, name[1:]))
        return bool(name) and pattern[0] in {"?", name[0]} and name_matches(pattern[1:], name[1:])

    def matches(parts: tuple[str, ...], names: tuple[str, ...]) -> bool:
        if not parts:
            return not names
        if parts[0] == "**":
            if len(parts) == 1:
                return bool(names)
            return any(matches(parts[1:], names[start:]) for start in range(len(names) + 1))
        return bool(names) and name_matches(parts[0], names[0]) and matches(parts[1:], names[1:])

    return matches(tuple(glob.split("/")), tuple(path.split("/")))


@settings(deadline=None)
@given(globs=st.lists(GLOBS, min_size=1, max_size=3), path=PATHS)
def test_a_glob_matches_what_its_definition_says(globs: list[str], path: str) -> None:
    assert Globs(tuple(globs)).match(path) == any(by_definition(glob, path) for glob in globs)


@settings(deadline=None)
@given(globs=st.lists(GLOBS, min_size=1, max_size=3), path=PATHS)
def test_a_folder_is_asked_about_truly_for_all_that_may_be_in_it(globs: list[str], path: str) -> None:
    found, directory = Globs(tuple(globs)), posixpath.dirname(path)
    if found.match(path):
        assert found.may_match_in(directory)
        assert all(found.may_match_in(path[:end]) for end, char in enumerate(path) if char == "/")
    if directory and found.match_all_in(directory):
        assert found.match(path)


@pytest.mark.parametrize(
    "glob, matching, others",
    [
        ("*.csv", ["a.csv", ".csv", ".hidden.csv", "\udc80.csv", "a\n.csv"], ["d/a.csv", "a.CSV", "a.csv.x"]),
        ("**/x", ["x", "a/x", "a/b/x"], ["ax", "a/bx", "x/a"]),
        ("done/**", ["done/a", "done/a/b"], ["done", "adone/a"]),
        ("a/*/c?", ["a/b/cd"], ["a/cd", "a/b/c", "a/b/d/cd"]),
        ("**", ["a", "a/b"], []),
        ("[ab]\\*{c}", ["[ab]\\x{c}"], ["a*{c}"]),
    ],
)
def test_what_globs_mean(glob: str, matching: list[str], others: list[str]) -> None:
    globs = Globs((glob,))
    assert [path for path in [*matching, *others] if globs.match(path)] == matching


def test_no_glob_takes_long_whatever_the_name_is() -> None:
    worst = Globs((*tuple("*a" * number + "*b" for number in range(90, 120)), "**/a/" * 200 + "b"))
    started = time.process_time()
    assert not worst.match("a" * 255)
    assert not worst.match("/".join("a" * 100))
    assert time.process_time() - started < 5, "trying everything would take longer than the universe has"


@pytest.mark.parametrize(
    "wrong, words",
    [
        ("*.csv", "must be a list"),
        ([7], "is not a string"),
        ([""], "is empty"),
        (["a\0b"], "NUL"),
        (["/a"], "relative to the source"),
        (["a/"], "'folder/\\*\\*'"),
        (["../a"], "relative to the source"),
        (["a//b"], "relative to the source"),
        (["**.csv"], "as in '\\*\\*/\\*.csv'"),
        (["a" * 1025], "longer than 1024 bytes"),
        (["a"] * 65, "more than 64"),
        (["a/*", "b/**"], "needs recursive"),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_refused(wrong: object, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        Selection(include=wrong)  # type: ignore[arg-type]


def test_exclude_wins_and_what_nothing_is_wanted_of_is_not_gone_into() -> None:
    selection = Selection(include=["**/*.csv", "logs/**"], exclude=["tmp/**", "**/old/**", "**/x.csv"], recursive=True)
    assert [
        path for path in ("a.csv", "d/a.csv", "logs/a", "a.txt", "tmp/a.csv", "x.csv") if selection.selects(path, path)
    ] == [
        "a.csv",
        "d/a.csv",
        "logs/a",
    ]
    assert [path for path in ("d", "logs", "tmp", "tmp/in", "d/old", "old.csv") if selection.goes_into(path)] == [
        "d",
        "logs",
        "old.csv",
    ]
    assert not Selection(include=["in/**/*.csv"], recursive=True).goes_into("out")
    assert not Selection().goes_into("any")
    assert Selection(order=Order.NEWEST) == Selection(order=Order.of("newest"))
    with pytest.raises(InvalidRequest, match="name, oldest, newest"):
        Order.of("random")
