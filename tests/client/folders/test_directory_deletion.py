"""Deleting directories on servers that refuse, lose answers, follow links, show little, or mean harm."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.clients import set_retry_policy
from tests.faulty_servers import DIRECTORY, EOF, FILE, OK, attributes, attrs, status
from tests.trees import HOME, HasTree, session_with

from iot.sftp.client import (
    Cancelled,
    ConnectionLost,
    Interruption,
    NotADirectory,
    NotEmpty,
    NotFound,
    PathNotAllowed,
    PermissionDenied,
    SFTPError,
    SFTPSession,
    Unsupported,
)
from iot.sftp.client._folders import directory_deletion, removals
from iot.sftp.client._ssh.packets import Kind, Reader, string

TREE = (
    "kept/file", "kept/empty/", "tree/a", "tree/b", "tree/one/c", "tree/one/two/d", "tree/one/three/", "tree/four/",
    "tree/link -> ../kept", "tree/to-empty -> ../kept/empty", "tree/one/up -> ../..", "tree/one/dangling -> nowhere",
)  # fmt: skip
KEPT = ["kept", "kept/empty", "kept/file"]
ODD: list[dict[str, bool]] = [
    {},
    {"resolves": False},
    {"follows_links": True},
    {"follows_links": True, "resolves": False},
    {"knows_read_link": False},
    {"shows_types": False},
    {"shows_types": False, "resolves": False, "only_fails": True},
    {"lists_targets": True},
    {"lists_targets": True, "follows_links": True, "resolves": False},
    {"only_fails": True},
    {"only_fails": True, "resolves": False, "knows_read_link": False},
]


def server_with(odd: dict[str, bool], *tree: str) -> HasTree:
    server = HasTree(*tree)
    for name, value in odd.items():
        setattr(server, name, value)
    return server


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: " ".join(odd) or "honest")
def test_a_tree_is_deleted_and_nothing_behind_its_links_on_every_server(odd: dict[str, bool]) -> None:
    server = server_with(odd, *TREE)
    with session_with(server) as session:
        assert session.delete_directory("tree", recursive=True) == 13
        assert server.below(HOME) == KEPT
        with pytest.raises(NotFound):
            session.delete_directory("tree", recursive=True)
        with pytest.raises(NotEmpty):
            session.delete_directory("kept")
        session.delete_directory("kept/empty")
        with pytest.raises(NotADirectory):
            session.delete_directory("kept/file", recursive=True)
        session.create_directory("new/folder")
        session.move_directory("kept", "new/place/kept")
        assert server.below(HOME) == ["new", "new/folder", "new/place", "new/place/kept", "new/place/kept/file"]


PATHS = st.lists(st.sampled_from(["", ".", "..", "a", "b", "link", "up", "home", "device", "B"]), max_size=6)


@pytest.mark.parametrize(
    "odd, root",
    [
        ({}, None),
        ({"follows_links": True, "resolves": False}, "a/b"),
        ({"ignores_case": True, "resolves": False}, None),
    ],
    ids=["honest", "follows links", "ignores case"],
)
def test_no_path_deletes_or_moves_a_root(odd: dict[str, bool], root: str | None) -> None:
    """Whatever the path looks like: both roots and what is above them stay, full or empty."""
    server = server_with(odd, "a/b/", f"link -> {HOME}", "up -> ..", "a/link -> b", "a/b/home -> /home", "b/a/")
    nodes = dict(server.nodes)
    roots = {"/", "/home", HOME} | ({f"{HOME}/{root}", f"{HOME}/a"} if root else set())
    with session_with(server, root) as session:

        @settings(deadline=None, suppress_health_check=list(HealthCheck))
        @given(parts=PATHS, absolute=st.booleans(), moves=st.booleans())
        def check(parts: list[str], absolute: bool, moves: bool) -> None:
            server.nodes = dict(nodes)
            path = "/" * absolute + "/".join(parts)
            meant = server.real(f"{HOME}/{root}/{path}" if root else path)
            try:
                if moves:
                    session.move_directory(path, "/elsewhere")
                else:
                    session.delete_directory(path, recursive=True)
            except (PathNotAllowed, NotADirectory, NotFound):
                assert server.nodes == nodes
            else:
                assert meant not in roots
            assert roots <= set(server.nodes)

        check()


def test_a_path_that_leads_through_what_is_deleted_is_deleted_completely() -> None:
    for odd in ODD[:3]:
        server = server_with(odd, "tree/a/b/file", "tree/z/file", "kept/file")
        with session_with(server) as session:
            for path in ("tree/a/b/../../../tree", "kept/../tree/.//./", "tree/a/.."):
                server.grow(f"{HOME}/tree/a/b/file", f"{HOME}/tree/z/file")
                assert session.delete_directory(path, recursive=True) == 6
                assert server.below(HOME) == ["kept", "kept/file"]
            server.grow(f"{HOME}/tree/file")
            session.move_directory("tree/../tree/.", "moved/./")
            assert server.below(HOME) == ["kept", "kept/file", "moved", "moved/file"]


def test_a_root_whose_case_differs_is_protected_only_where_case_is_ignored() -> None:
    sensitive, ignoring = HasTree("in/", "IN/"), server_with({"ignores_case": True}, "in/")
    with session_with(sensitive, "in") as session, pytest.raises(PathNotAllowed):
        session.delete_directory("../in")
    with session_with(sensitive) as session:
        session.delete_directory("IN")
    with session_with(ignoring) as session:
        for path in ("/HOME", "/home/DEVICE", "/Home/", "IN/../../Device"):
            with pytest.raises(PathNotAllowed):
                session.delete_directory(path, recursive=True)
        session.delete_directory("IN")
    assert ignoring.below(HOME) == []


def test_the_first_refusal_ends_a_deletion_and_says_where_and_how_far_it_was() -> None:
    server = HasTree("tree/a/file", *(f"tree/z/{number:03}" for number in range(250)))
    server.refused = {f"{HOME}/tree/z/120"}
    with session_with(server, "/home") as session:
        with pytest.raises(PermissionDenied) as failure:
            session.delete_directory("device/tree", recursive=True)
        assert failure.value.path == "device/tree/z/120"
        assert "entries were deleted before: another call goes on" in failure.value.message
        left = len(server.below(HOME))
        assert 0 < left < 254
        server.refused = set()
        assert session.delete_directory("device/tree", recursive=True) == left
    assert server.below(HOME) == []


def test_a_directory_that_is_refused_is_named() -> None:
    server = HasTree("tree/a/", "tree/b/c")
    server.refused = {f"{HOME}/tree/b"}
    with session_with(server) as session, pytest.raises(PermissionDenied) as failure:
        session.delete_directory("tree", recursive=True)
    assert failure.value.path == "tree/b"


def test_a_deletion_that_is_ended_goes_on_in_the_next_call() -> None:
    stop, goes_on = Interruption(), threading.Event()

    class EndsTheCall(HasTree):
        def truth(self, kind: int | str, fields: Reader) -> bytes:
            if kind == Kind.REMOVE and not stop.is_set() and len(self.changes) > 20:
                stop.interrupt()
                goes_on.wait(60)
            return super().truth(kind, fields)

    server = EndsTheCall(*(f"tree/{number}/file" for number in range(60)))
    with session_with(server) as session:
        with pytest.raises(Cancelled):
            session.delete_directory("tree", recursive=True, cancelled=stop)
        goes_on.set()
        assert session.delete_directory("tree", recursive=True) > 0
        assert server.below(HOME) == []
        with pytest.raises(NotFound):
            session.delete_directory("tree", recursive=True)
        assert session.delete_directory("tree", recursive=True, resumes=True) == 0
        assert session.delete_directory("tree", resumes=True) == 0


SMALL = ("kept/file", "kept/empty/", "tree/one/b", "tree/one/up -> ../../kept")
CALLS: dict[str, tuple[Callable[[SFTPSession], object], tuple[str, ...]]] = {
    "delete": (lambda session: session.delete_directory("tree", recursive=True), SMALL[:2]),
    "delete an empty one": (lambda session: session.delete_directory("kept/empty"), (SMALL[0], *SMALL[2:])),
    "move": (
        lambda session: session.move_directory("kept", "new/kept"),
        ("new/kept/file", "new/kept/empty/", *SMALL[2:]),
    ),
    "make": (lambda session: session.create_directory("x/y"), (*SMALL, "x/y/")),
}


@pytest.mark.parametrize("name", CALLS)
def test_whichever_answer_is_lost_the_retry_ends_what_was_begun(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_retry_policy(monkeypatch, first_pause=0.001, longest_pause=0.001)
    call, left = CALLS[name]
    before, expected = HasTree(*SMALL).nodes, HasTree(*left).below(HOME)
    server, lost = HasTree(), 0
    with session_with(server) as session:
        while server.cut_at is None:
            session.connect()
            server.nodes = dict(before)
            server.answered, server.cut_at = 0, lost
            call(session)
            assert server.below(HOME) == expected, lost
            lost += 1
    assert lost > 3


def test_a_directory_that_is_made_anew_after_a_lost_answer_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The receiver makes it again, with a file in it, between the answer that is lost and the next attempt."""
    set_retry_policy(monkeypatch, first_pause=0.001, longest_pause=0.001)

    class MakesItAgain(HasTree):
        def truth(self, kind: int | str, fields: Reader) -> bytes:
            answer = super().truth(kind, fields)
            if kind == Kind.RMDIR and answer == status(OK) and not self.below(f"{HOME}/tree"):
                self.cut_at, self.answered = 0, 0
                self.grow(f"{HOME}/tree/new")
            return answer

    server = MakesItAgain("tree/a")
    with session_with(server) as session, pytest.raises(ConnectionLost) as failure:
        session.delete_directory("tree", recursive=True)
    assert "not known" in failure.value.message
    assert server.below(HOME) == ["tree", "tree/new"]


def test_a_directory_that_was_moved_and_made_anew_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    set_retry_policy(monkeypatch, first_pause=0.001, longest_pause=0.001)

    class MakesItAgain(HasTree):
        def truth(self, kind: int | str, fields: Reader) -> bytes:
            answer = super().truth(kind, fields)
            if kind == Kind.RENAME and answer == status(OK):
                self.cut_at, self.answered = 0, 0
                self.grow(f"{HOME}/tree/new")
            return answer

    server = MakesItAgain("tree/a")
    with session_with(server) as session, pytest.raises(ConnectionLost):
        session.move_directory("tree", "moved")
    assert server.below(HOME) == ["moved", "moved/a", "tree", "tree/new"]


def test_directories_by_the_thousand_are_known_by_the_dozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_deletion, "PER_LISTING", 7)
    monkeypatch.setattr(directory_deletion, "MOST_WAITING", 20)
    most = 0
    add = directory_deletion._TreeRemoval._add

    def counting(removal: directory_deletion._TreeRemoval, *arguments: list[directory_deletion._Directory]) -> None:
        nonlocal most
        add(removal, *arguments)
        most = max(most, removal._known)

    monkeypatch.setattr(directory_deletion._TreeRemoval, "_add", counting)
    server = HasTree(*(f"tree/{number % 20}/{number}/" for number in range(200)))
    with session_with(server) as session:
        assert session.delete_directory("tree", recursive=True) == 221
    assert most < 20 + directory_deletion.DIRECTORIES_AT_ONCE
    assert server.below(HOME) == []


def test_a_directory_with_more_files_than_are_in_flight_at_a_time_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removals, "REMOVALS_IN_FLIGHT", 5)
    server = HasTree(*(f"tree/{number}" for number in range(1_000)))
    with session_with(server) as session:
        assert session.delete_directory("tree", recursive=True) == 1_001
    assert server.below(HOME) == []


def test_what_others_add_meanwhile_is_deleted_too_but_not_for_ever() -> None:
    class Refills(HasTree):
        times = 0

        def truth(self, kind: int | str, fields: Reader) -> bytes:
            if kind == Kind.RMDIR and self.times:
                self.times -= 1
                self.grow(f"{HOME}/tree/{self.times}")
            return super().truth(kind, fields)

    server = Refills("tree/a")
    with session_with(server) as session:
        server.times = 2
        session.delete_directory("tree", recursive=True)
        assert server.below(HOME) == []
        server.grow(f"{HOME}/tree/a")
        server.times = 1_000
        with pytest.raises(NotEmpty):
            session.delete_directory("tree", recursive=True)


class Lists(HasTree):
    """Shows these names in each directory below `tree`."""

    def __init__(self, *shown: tuple[bytes, int]) -> None:
        super().__init__("tree/", "victim", "victims/file")
        self.shown = shown
        self.asked: list[tuple[int, str]] = []
        self._lists_once = threading.local()

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        text = fields.string()
        path = text.decode("utf-8", "surrogateescape")
        if kind in {Kind.REMOVE, Kind.RMDIR}:
            self.asked.append((int(kind), path))
        if kind in {Kind.LSTAT, Kind.OPENDIR} and path.startswith("tree/"):
            return attrs(1, DIRECTORY) if kind == Kind.LSTAT else bytes([Kind.HANDLE]) + string(b"shown")
        return super().truth(kind, Reader(string(text) + fields.rest()))

    def _list(self, path: str) -> bytes:
        handle = super()._list(path)
        packed = b"".join(string(name) + string(b"") + attributes(1, mode) for name, mode in self.shown)
        if path == f"{HOME}/tree":
            self.listings = dict.fromkeys(
                self.listings, iter([struct.pack(">BI", Kind.NAME, len(self.shown)) + packed])
            )
        return handle


def test_names_that_are_none_are_never_asked_to_be_deleted() -> None:
    hostile = [b"..", b".", b"", b"../victim", b"/home/device/victims", b"a/b", b"/", b"nul\0", b"x" * 5000]
    server = Lists(*((name, mode) for name in hostile for mode in (FILE, DIRECTORY)))
    with session_with(server) as session:
        session.delete_directory("tree", recursive=True)
    assert server.asked == [(Kind.RMDIR, "tree")]
    assert server.below(HOME) == ["victim", "victims", "victims/file"]


def test_a_tree_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_deletion, "DEEPEST", 50)

    class Endless(HasTree):
        def truth(self, kind: int | str, fields: Reader) -> bytes:
            text = fields.string()
            if kind == Kind.LSTAT and text.startswith(b"tree/"):
                return attrs(1, DIRECTORY)
            if kind == Kind.OPENDIR:
                handle = b"%d" % len(self.requests)
                packed = struct.pack(">BI", Kind.NAME, 1) + string(b"deeper") + string(b"") + attributes(1, DIRECTORY)
                self.listings[handle] = iter([packed])
                return bytes([Kind.HANDLE]) + string(handle)
            if kind == Kind.READDIR:
                return next(self.listings[text], status(EOF))
            return super().truth(kind, Reader(string(text) + fields.rest()))

    server = Endless("tree/")
    with session_with(server) as session, pytest.raises(Unsupported):
        session.delete_directory("tree", recursive=True)
    assert not [request for request in server.requests if request in {Kind.REMOVE, Kind.RMDIR}]


def test_a_directory_that_is_swapped_for_a_link_is_deleted_as_a_link() -> None:
    """It is shown as a directory by the listing above it, and a link by the time that it is looked at."""

    class Swaps(HasTree):
        def truth(self, kind: int | str, fields: Reader) -> bytes:
            text = fields.string()
            if kind == Kind.LSTAT and text == b"tree/a/swapped" and f"{HOME}/tree/a/swapped" in self.nodes:
                del self.nodes[f"{HOME}/tree/a/swapped/file"]
                self.grow(f"{HOME}/tree/a/swapped -> {HOME}/victims")
            return super().truth(kind, Reader(string(text) + fields.rest()))

    server = Swaps("tree/a/swapped/file", "victims/file")
    with session_with(server) as session:
        session.delete_directory("tree", recursive=True)
    assert server.below(HOME) == ["victims", "victims/file"]


def test_a_directory_that_cannot_be_listed_is_deleted_if_it_is_empty() -> None:
    class Hides(HasTree):
        def _list(self, path: str) -> bytes:
            return status(3, "Permission denied") if path.endswith("hidden") else super()._list(path)

    server = Hides("tree/hidden/")
    with session_with(server) as session:
        session.delete_directory("tree/hidden")
        server.grow(f"{HOME}/tree/hidden/")
        session.delete_directory("tree", recursive=True)
        assert server.below(HOME) == []
        server.grow(f"{HOME}/tree/hidden/file")
        with pytest.raises(SFTPError) as failure:
            session.delete_directory("tree", recursive=True)
    assert (failure.value.code, failure.value.path) == ("permission_denied", "tree/hidden")
