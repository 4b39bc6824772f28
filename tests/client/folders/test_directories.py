"""Directories on OpenSSH and ProFTPD: made, moved, deleted, listed with details."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.clients import session_of
from tests.servers import Server

from iot.sftp.client import (
    AlreadyExists,
    FileInfo,
    InvalidRequest,
    IoTSFTPClient,
    NotADirectory,
    NotEmpty,
    NotFound,
    PathNotAllowed,
    SFTPError,
    SFTPSession,
)
from iot.sftp.client._calls.calls import CallAttempt
from iot.sftp.client._files.protected_directories import refuse_protected


@pytest.fixture
def at(server: Server, folder: str) -> Path:
    """The folder of this test, as the server's file system has it."""
    return server.directory / folder


def code(client: IoTSFTPClient) -> str | None:
    return client.last_error.code if client.last_error else None


def test_a_directory_is_made_with_its_parents_and_again(client: IoTSFTPClient, folder: str, at: Path) -> None:
    for path in ("a/b/c", "a/b/c", "a/b/c/", "a", "."):
        assert client.create_directory(f"{folder}/{path}"), client.last_error
    assert (at / "a/b/c").is_dir()


def test_no_directory_is_made_where_a_file_is(client: IoTSFTPClient, folder: str, at: Path) -> None:
    (at / "file").write_text("x")
    (at / "dangling").symlink_to("nowhere")
    for path in ("file", "file/", "file/below", "file/below/that", "dangling"):
        assert not client.create_directory(f"{folder}/{path}")
        assert code(client) == "not_a_directory", path
    assert (at / "file").read_text() == "x"
    assert sorted(os.listdir(at)) == ["dangling", "file"]


def test_a_directory_is_deleted_if_it_is_empty(client: IoTSFTPClient, folder: str, at: Path) -> None:
    (at / "empty").mkdir()
    (at / "full").mkdir()
    (at / "full/.hidden").touch()

    assert client.delete_directory(f"{folder}/empty/")
    assert not client.delete_directory(f"{folder}/full")
    assert code(client) == "not_empty"
    assert os.listdir(at) == ["full"]
    assert os.listdir(at / "full") == [".hidden"]


def test_a_directory_is_deleted_with_all_that_is_in_it_and_links_lead_nowhere(
    client: IoTSFTPClient, folder: str, at: Path
) -> None:
    (at / "kept/below").mkdir(parents=True)
    (at / "kept/file").write_text("x")
    (at / "tree/a/b/c").mkdir(parents=True)
    for place in (at / "tree", at / "tree/a", at / "tree/a/b"):
        (place / "file").touch()
        (place / "to-directory").symlink_to(at / "kept")
        (place / "to-empty").symlink_to(at / "kept/below")
        (place / "to-file").symlink_to(at / "kept/file")
        (place / "dangling").symlink_to("nowhere")
        (place / "up").symlink_to("..")
        os.mkfifo(place / "pipe")
    for name in (b"new\nline", b"\xff\xfe not UTF-8", b" ", b"-r", b"*", "ä\u202e".encode()):
        (at / "tree/a" / os.fsdecode(name)).mkdir()
        (at / "tree/a" / os.fsdecode(name) / os.fsdecode(name)).touch()

    assert client.delete_directory(f"{folder}/tree", recursive=True), client.last_error
    assert sorted(os.listdir(at)) == ["kept"]
    assert sorted(os.listdir(at / "kept")) == ["below", "file"]
    assert (at / "kept/file").read_text() == "x"


def test_a_wide_and_a_deep_tree_are_deleted_and_counted(server: Server, folder: str, at: Path) -> None:
    expected = 1
    for number in range(30):
        (at / f"tree/{number}").mkdir(parents=True)
        (at / f"tree/{number}/file").touch()
        (at / f"tree/files-{number}").touch()
        expected += 3
    deep = at / "tree"
    for _ in range(40):
        deep = deep / "deep"
        deep.mkdir()
        expected += 1
    told: list[int] = []

    with session_of(server) as session:
        assert session.delete_directory(f"{folder}/tree", recursive=True, progress=told.append) == expected
    assert told == sorted(told)
    assert told[-1] == expected
    assert os.listdir(at) == []


@pytest.mark.parametrize("recursive", [False, True])
def test_what_is_no_directory_is_not_deleted_as_one(
    client: IoTSFTPClient, folder: str, at: Path, recursive: bool
) -> None:
    (at / "directory").mkdir()
    (at / "directory/file").touch()
    (at / "link").symlink_to("directory")
    (at / "dangling").symlink_to("nowhere")
    for path in ("directory/file", "link", "link/", "dangling"):
        assert not client.delete_directory(f"{folder}/{path}", recursive=recursive)
        assert code(client) == "not_a_directory", path
    for path in ("nothing", "nothing/below", "directory/file/below"):
        assert not client.delete_directory(f"{folder}/{path}", recursive=recursive)
        assert code(client) == "not_found", path
    assert sorted(os.listdir(at)) == ["dangling", "directory", "link"]
    assert os.listdir(at / "directory") == ["file"]


def test_a_link_to_a_directory_is_deleted_as_a_file(client: IoTSFTPClient, folder: str, at: Path) -> None:
    (at / "directory").mkdir()
    (at / "link").symlink_to("directory")
    assert client.delete_file(f"{folder}/link"), client.last_error
    assert os.listdir(at) == ["directory"]


def test_a_directory_is_moved_with_what_is_in_it(client: IoTSFTPClient, folder: str, at: Path) -> None:
    (at / "a/below").mkdir(parents=True)
    (at / "a/below/file").write_text("x")
    assert client.move_directory(f"{folder}/a", f"{folder}/new/parents/b/"), client.last_error
    assert (at / "new/parents/b/below/file").read_text() == "x"
    assert os.listdir(at) == ["new"]


def test_a_directory_is_moved_only_to_where_nothing_is(client: IoTSFTPClient, folder: str, at: Path) -> None:
    (at / "a").mkdir()
    (at / "empty").mkdir()
    (at / "file").write_text("x")
    (at / "dangling").symlink_to("nowhere")
    for dest in ("empty", "empty/", "file", "dangling", "a"):
        assert not client.move_directory(f"{folder}/a", f"{folder}/{dest}")
        assert code(client) == "already_exists", dest
    for dest in ("a/below", "a/below/that", "empty/../a/x"):
        assert not client.move_directory(f"{folder}/a", f"{folder}/{dest}")
        assert code(client) == "invalid_request", dest
    assert not client.move_directory(f"{folder}/a", f"{folder}/file/below")
    assert code(client) == "not_a_directory"
    assert sorted(os.listdir(at)) == ["a", "dangling", "empty", "file"]
    assert (at / "file").read_text() == "x"


def test_what_is_no_directory_is_not_moved_as_one(client: IoTSFTPClient, folder: str, at: Path) -> None:
    (at / "directory").mkdir()
    (at / "file").write_text("x")
    (at / "link").symlink_to("directory")
    for source in ("file", "link", "link/"):
        assert not client.move_directory(f"{folder}/{source}", f"{folder}/dest")
        assert code(client) == "not_a_directory", source
    assert not client.move_directory(f"{folder}/nothing", f"{folder}/dest")
    assert code(client) == "not_found"
    assert sorted(os.listdir(at)) == ["directory", "file", "link"]


def test_a_directory_is_listed_with_details(client: IoTSFTPClient, folder: str, at: Path) -> None:
    (at / "b").mkdir()
    (at / "b").chmod(0o750)
    (at / "a").write_text("12345")
    (at / "a").chmod(0o640)
    os.utime(at / "a", (1_600_000_000, 1_700_000_000))
    (at / "c").symlink_to("b")
    os.mkfifo(at / "d")

    found = client.list_directory(folder)

    assert found is not None
    assert [(info.path, info.kind) for info in found] == [
        (f"{folder}/a", "file"), (f"{folder}/b", "directory"), (f"{folder}/c", "link"), (f"{folder}/d", "other"),
    ]  # fmt: skip
    assert found[0] == FileInfo(f"{folder}/a", "file", 5, 1_700_000_000, 0o640)
    assert found[1].mode == 0o750
    link = client.stat(f"{folder}/c")
    assert link is not None
    assert (link.kind, link.mode) == ("directory", 0o750)
    assert client.stat(f"{folder}/a") == found[0]


def test_only_what_is_not_there_is_nothing_without_an_error(client: IoTSFTPClient, folder: str, at: Path) -> None:
    (at / "file").touch()
    (at / "dangling").symlink_to("nowhere")
    for path in ("nothing", "nothing/below", "file/below", "dangling"):
        assert client.stat(f"{folder}/{path}") is None
        assert client.last_error is None, path


def test_a_listing_of_nothing_or_of_a_file_is_an_error(client: IoTSFTPClient, folder: str, at: Path) -> None:
    (at / "file").touch()
    (at / "empty").mkdir()
    for listing in (client.list_files, client.list_directory):
        assert listing(f"{folder}/empty") == []
        assert listing(f"{folder}/nothing") is None
        assert code(client) == "not_found"
        assert listing(f"{folder}/file") is None
        assert code(client) == "not_a_directory"


def test_the_pages_of_a_listing_are_its_parts(server: Server, folder: str, at: Path) -> None:
    names = sorted(f"{folder}/{number}" for number in range(25))
    for number in range(25):
        (at / str(number)).touch()
    with session_of(server) as session:
        pages: list[str] = []
        while page := session.list_directory(folder, limit=7, after=pages[-1] if pages else None):
            pages += [info.path for info in page]
        assert pages == names
        assert [info.path for info in session.list_directory(folder, limit=20, longest=len(names[0]) * 3)] == names[:2]
        assert len(session.list_directory(folder, limit=20, longest=1)) == 1
        with pytest.raises(InvalidRequest):
            session.list_directory(folder, limit=0)


def test_a_root_is_never_deleted_or_moved_not_even_if_it_is_empty(server: Server, folder: str, at: Path) -> None:
    (at / "root/a").mkdir(parents=True)
    (at / "link").symlink_to("root")
    with session_of(server, root=f"{folder}/root") as session:
        for path in ("", ".", "/", "./", "a/..", "/a/../", "//"):
            for call in (session.delete_directory, lambda path: session.move_directory(path, "elsewhere")):
                with pytest.raises(PathNotAllowed):
                    call(path)
            with pytest.raises(PathNotAllowed):
                session.delete_directory(path, recursive=True)
        session.delete_directory("a")
        with pytest.raises(PathNotAllowed):
            session.delete_directory(".")
    assert (at / "root").is_dir()


def test_whatever_leads_to_a_root_is_protected_and_nothing_else(server: Server, folder: str, at: Path) -> None:
    (at / "root/below").mkdir(parents=True)
    (at / "Root").mkdir()
    (at / "beside").mkdir()
    (at / "link").symlink_to(at)
    (at / "beside/up").symlink_to("..")
    protected = [
        "", ".", "..", "/", "//", "../..", "root", "root/", "./root", "root/.", "root/below/..", "beside/../root",
        "link/root", "link/link/root", "beside/up/root", "beside/up", "link", "link/beside/up/root/.",
        "root/below/../../root",
    ]  # fmt: skip
    allowed = ["root/below", "Root", "beside", "link/beside", "beside/up/Root", "nothing", "root/nothing"]

    with session_of(server) as session:
        for path in protected:
            assert is_refused(session, path if path.startswith("/") else f"{folder}/{path}", f"{folder}/root"), path
        for path in allowed:
            assert not is_refused(session, f"{folder}/{path}", f"{folder}/root"), path
        home = f"{server.directory}"
        for path in (home, f"{home}/", home + "/.", os.path.dirname(home), f"{folder}/..", f"{folder}/../."):
            assert is_refused(session, path, None), path


def is_refused(session: SFTPSession, path: str, root: str | None) -> bool:
    """Ask without deleting anything: a mistake here would delete what is not the test's."""

    def work(attempt: CallAttempt) -> None:
        refuse_protected(attempt.remote, path, root)

    try:
        session._calls.run("test", path, 60, work)
    except PathNotAllowed:
        return True
    return False


def test_a_session_raises_what_a_client_returns_false_for(server: Server, folder: str, at: Path) -> None:
    (at / "full/below").mkdir(parents=True)
    calls: dict[type[SFTPError], Callable[[SFTPSession], object]] = {
        NotEmpty: lambda session: session.delete_directory(f"{folder}/full"),
        AlreadyExists: lambda session: session.move_directory(f"{folder}/full", folder),
        NotFound: lambda session: session.delete_directory(f"{folder}/nothing"),
        NotADirectory: lambda session: session.list_directory(f"{folder}/file"),
    }
    (at / "file").touch()
    with session_of(server) as session:
        for error, call in calls.items():
            with pytest.raises(error):
                call(session)
