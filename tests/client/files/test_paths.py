"""Paths from outside: on the wire, inside the remote root, on the local side."""

from __future__ import annotations

import os
import posixpath
import struct
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.clients import client_of
from tests.servers import Server

from iot.sftp.client import ConnectionLost, LocalFiles, PathNotAllowed, SFTPError
from iot.sftp.client._files import local_directories
from iot.sftp.client._files.local_files import check_name
from iot.sftp.client._files.remote_paths import RemotePaths, listed
from iot.sftp.client._ssh.packets import Attributes, Reader, decode_path, encode_path, string

PATHS = st.text() | st.lists(st.sampled_from(["..", ".", "", "a", "b c", "ä"])).map("/".join)


@given(st.binary())
def test_any_name_of_a_server_is_given_back_byte_by_byte(name: bytes) -> None:
    name = name.replace(b"\0", b"")
    assert encode_path(decode_path(name)) == name


@given(PATHS)
def test_any_text_is_a_path_or_refused_by_name(path: str) -> None:
    try:
        encode_path(path)
    except PathNotAllowed as error:
        assert error.path == path  # noqa: PT017 - both outcomes are right


@given(PATHS, st.sampled_from(["/", "/upload", "/upload/", "upload", "/a/b"]))
def test_no_path_leaves_the_remote_root(path: str, root: str) -> None:
    try:
        on_server = RemotePaths(root).on_server(path)
    except PathNotAllowed:
        assert ".." in path.split("/")
        return
    plain = root.rstrip("/") or "/"
    assert ".." not in on_server.split("/")
    assert on_server == plain or on_server.startswith(plain.rstrip("/") + "/")


@pytest.mark.parametrize(
    "path, on_server",
    [("a", "/up/a"), ("/a", "/up/a"), ("./a/", "/up/a/"), ("a/../b", "/up/b"), (".", "/up"), ("/", "/up"), ("", "/up")],
)
def test_a_path_is_taken_inside_the_root(path: str, on_server: str) -> None:
    assert RemotePaths("/up/").on_server(path) == on_server


def test_without_a_root_paths_are_the_servers() -> None:
    assert RemotePaths(None).on_server("../x/") == "../x/"
    assert RemotePaths(None).on_server("") == "."


def test_a_root_that_is_a_link_stays_and_is_a_directory_for_all_calls(server: Server, tmp_path: Path) -> None:
    base = server.directory / "linked"
    (base / "real").mkdir(parents=True)
    (base / "root").symlink_to("real")
    (tmp_path / "file").write_text("x")
    with client_of(server, root="linked/root") as client:
        for path in (".", "/", "", "./", "sub/.."):
            for refused, code in (
                (partial(client.delete_file, path), "is_a_directory"),
                (partial(client.move_file, path, "elsewhere"), "is_a_directory"),
                (partial(client.delete_directory, path), "path_not_allowed"),
                (partial(client.delete_directory, path, recursive=True), "path_not_allowed"),
                (partial(client.move_directory, path, "elsewhere"), "path_not_allowed"),
            ):
                assert not refused()
                assert client.last_error is not None
                assert client.last_error.code == code, path
            assert client.upload_file(str(tmp_path / "file"), path)
            assert client.move_file("file", "other")
            assert client.move_file("other", path)
    assert (base / "root").is_symlink()


@pytest.mark.parametrize("root", [None, "dotted"])
def test_a_destination_that_ends_with_a_dot_is_a_directory(root: str | None, server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with client_of(server, root=root) as client:
        for folder, path in (("dots/a", "dots/a/."), ("dots/b", "dots/b/./"), ("dots/c", "dots/c/./."), (".", ".")):
            assert client.upload_file(str(tmp_path / "file"), path), client.last_error
            assert client.exists(f"{folder}/file")
        assert client.move_file("dots/a/file", "dots/d/.")
        assert client.exists("dots/d/file")


def test_a_file_that_is_sent_to_a_root_that_is_missing_makes_it(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with client_of(server, root="not/there/yet") as client:
        assert client.upload_file(str(tmp_path / "file"), ".")
    assert (server.directory / "not/there/yet/file").read_text() == "x"


def test_listings_answer_in_the_callers_own_terms(server: Server, tmp_path: Path) -> None:
    base = server.directory / "rooted"
    (base / "sub").mkdir(parents=True, exist_ok=True)
    (base / "sub/file").write_text("x")
    with client_of(server, root="rooted") as client:
        assert client.list_files("sub") == ["sub/file"]
        assert client.list_files("/sub/") == ["/sub/file"]
        assert client.download_file("/sub/file", str(tmp_path / "file"))
        assert client.upload_file(str(tmp_path / "file"), "sub/other/")
        assert client.move_file("sub/other/file", "/top")
        assert client.list_files(".") == ["top"]
        assert client.list_files("/") == ["/top"]
        for path in ("..", "../x", "/..", "sub/../../x"):
            assert not client.exists(path)
            assert client.last_error is not None
            assert client.last_error.code == "path_not_allowed"
    assert listed("", "x") == listed(".", "x") == "x"


@given(st.binary(max_size=200))
def test_no_bytes_of_a_server_break_the_reader_otherwise_than_by_name(data: bytes) -> None:
    for read in (Reader.attributes, lambda r: list(r.entries()), lambda r: list(r.extensions()), Reader.string):
        try:
            read(Reader(data))
        except ConnectionLost:
            continue


@given(
    st.none() | st.integers(0, 2**64 - 1), st.none() | st.integers(0, 2**32 - 1), st.none() | st.integers(0, 2**32 - 1)
)
def test_attributes_are_read_as_they_are_written(size: int | None, mode: int | None, time: int | None) -> None:
    attributes = Attributes(size, mode, time, time)
    assert Reader(attributes.pack()).attributes() == attributes


def test_owners_and_extended_attributes_are_passed_over() -> None:
    data = (
        struct.pack(">IQIIII", 0x8000000F, 5, 1, 2, 0o644, 7) + struct.pack(">II", 8, 1) + string(b"a") + string(b"b")
    )
    assert Reader(data).attributes() == Attributes(5, 0o644, 7, 8)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0"])
def test_a_name_that_leads_elsewhere_is_no_local_name(name: str) -> None:
    with pytest.raises(PathNotAllowed):
        check_name(name)


def test_any_local_path_is_opened_or_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = LocalFiles()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)

    @given(PATHS)
    def check(path: str) -> None:
        try:
            place = files.open_parent(path, create=False)
        except SFTPError:
            return
        os.close(place.directory)
        assert "/" not in place.name

    check()


LOCAL_NAMES = ["", ".", "..", "file", "folder", "to-folder", "to-file", "to-nothing", "loop", "missing"]


def test_links_lead_to_the_same_place_in_the_short_way_and_in_the_long_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    for directory in (tmp_path, tmp_path / "folder"):
        (directory / "file").touch()
        (directory / "to-folder").symlink_to(tmp_path / "folder")
        for link, target in (("to-file", "file"), ("to-nothing", "gone/file"), ("loop", "loop")):
            (directory / link).symlink_to(target)
    monkeypatch.chdir(tmp_path)

    def outcome(path: str) -> tuple[object, ...]:
        try:
            place = LocalFiles().open_parent(path, create=False)
        except SFTPError as error:
            return error.code, error.path
        found = os.fstat(place.directory)
        os.close(place.directory)
        return found.st_ino, place.name, place.path

    @given(st.lists(st.sampled_from(LOCAL_NAMES), min_size=1, max_size=4).map("/".join), st.booleans())
    def check(path: str, is_absolute: bool) -> None:
        path = f"{tmp_path}/{path}" if is_absolute else path
        short = outcome(path)
        with monkeypatch.context() as patch:
            patch.setattr(local_directories, "_open_without_links", lambda _: None)
            assert short == outcome(path)

    check()


def test_a_source_is_opened_through_its_directory(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    files = LocalFiles()
    with files.source(posixpath.join(str(tmp_path), "a")) as descriptor:
        assert os.read(descriptor, 10) == b"x"
    for path in (str(tmp_path), str(tmp_path / "missing"), str(tmp_path / "a" / "b"), str(tmp_path / "loop"), ""):
        with pytest.raises(SFTPError) as failure, files.source(path):
            pass
        assert failure.value.code in {"is_a_directory", "not_found", "not_a_directory", "path_not_allowed"}
