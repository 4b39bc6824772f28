"""The eight methods as their contract says, against OpenSSH and ProFTPD."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
from tests.servers import Server

from iot.sftp.client import IoTSFTPClient


@pytest.fixture
def at(server: Server, folder: str) -> Path:
    """The folder of this test, as the server's file system has it."""
    return server.directory / folder


def code(client: IoTSFTPClient) -> str | None:
    return client.last_error.code if client.last_error else None


CONTENTS = [b"", b"x", bytes(range(256)) * 130, os.urandom(3_000_001)]


@pytest.mark.parametrize("content", CONTENTS, ids=["empty", "one byte", "a request and a bit", "3 MB"])
def test_a_file_goes_there_and_back_byte_by_byte(
    client: IoTSFTPClient, folder: str, at: Path, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "source.bin").write_bytes(content)
    assert client.upload_file(str(tmp_path / "source.bin"), f"{folder}/there.bin")
    assert (at / "there.bin").read_bytes() == content
    assert client.download_file(f"{folder}/there.bin", str(tmp_path / "back.bin"))
    assert (tmp_path / "back.bin").read_bytes() == content
    assert client.last_error is None


def test_nothing_but_the_destination_is_left_after_a_transfer(
    client: IoTSFTPClient, folder: str, at: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("a")
    assert client.upload_file(str(tmp_path / "in" / "a"), f"{folder}/b")
    assert client.download_file(f"{folder}/b", str(tmp_path / "in" / "c"))
    assert sorted(os.listdir(at)) == ["b"]
    assert sorted(os.listdir(tmp_path / "in")) == ["a", "c"]


def test_permissions_and_modification_time_follow_the_source(
    client: IoTSFTPClient, folder: str, at: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_text("x")
    source.chmod(0o640)
    os.utime(source, (1_600_000_000, 1_700_000_000))
    assert client.upload_file(str(source), f"{folder}/copy")
    assert client.download_file(f"{folder}/copy", str(tmp_path / "back"))
    for copy in (at / "copy", tmp_path / "back"):
        assert stat.S_IMODE(copy.stat().st_mode) == 0o640
        assert copy.stat().st_mtime == 1_700_000_000


def test_missing_parents_are_created_on_both_sides(
    client: IoTSFTPClient, folder: str, at: Path, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text("a")
    assert client.upload_file(str(tmp_path / "a"), f"{folder}/one/two/three/a")
    assert (at / "one/two/three/a").read_text() == "a"
    assert client.download_file(f"{folder}/one/two/three/a", str(tmp_path / "four/five/a"))
    assert (tmp_path / "four/five/a").read_text() == "a"
    assert client.move_file(f"{folder}/one/two/three/a", f"{folder}/six/seven/b")
    assert (at / "six/seven/b").read_text() == "a"


def test_a_directory_as_destination_keeps_the_name_of_the_file(
    client: IoTSFTPClient, folder: str, at: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("a")
    (at / "there").mkdir()
    (tmp_path / "here").mkdir()
    assert client.upload_file(str(tmp_path / "a.txt"), f"{folder}/there")
    assert client.upload_file(str(tmp_path / "a.txt"), f"{folder}/new/")
    assert (at / "there/a.txt").read_text() == (at / "new/a.txt").read_text() == "a"
    assert client.download_file(f"{folder}/there/a.txt", str(tmp_path / "here"))
    assert client.download_file(f"{folder}/there/a.txt", f"{tmp_path}/fresh/")
    assert (tmp_path / "here/a.txt").read_text() == (tmp_path / "fresh/a.txt").read_text() == "a"
    assert client.move_file(f"{folder}/new/a.txt", f"{folder}/moved/")
    assert client.move_file(f"{folder}/moved/a.txt", folder)
    assert (at / "a.txt").read_text() == "a"


def test_destinations_that_exist_are_replaced(client: IoTSFTPClient, folder: str, at: Path, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "old").write_text("a longer old text")
    (at / "old").write_text("a longer old text")
    (at / "other").write_text("other")
    assert client.upload_file(str(tmp_path / "new"), f"{folder}/old")
    assert (at / "old").read_text() == "new"
    assert client.download_file(f"{folder}/old", str(tmp_path / "old"))
    assert (tmp_path / "old").read_text() == "new"
    assert client.move_file(f"{folder}/other", f"{folder}/old")
    assert (at / "old").read_text() == "other"
    assert sorted(os.listdir(at)) == ["old"]


def test_exists_tells_files_directories_and_nothing_apart_from_failure(
    client: IoTSFTPClient, folder: str, at: Path
) -> None:
    (at / "file").touch()
    assert client.exists(folder)
    assert client.exists(f"{folder}/file")
    assert client.exists(".")
    assert not client.exists(f"{folder}/missing")
    assert client.last_error is None
    assert not client.exists("a\0b")
    assert code(client) == "path_not_allowed"


def test_a_listing_holds_the_sorted_paths_of_files_only(client: IoTSFTPClient, folder: str, at: Path) -> None:
    for name in ("b.csv", "a.csv", "Z.txt", ".hidden", "ä.csv", "with space"):
        (at / name).touch()
    (at / "directory.csv").mkdir()
    (at / "link.csv").symlink_to("a.csv")
    (at / "link to a directory").symlink_to("directory.csv")
    (at / "dangling").symlink_to("nowhere")
    names = sorted([".hidden", "Z.txt", "a.csv", "b.csv", "link.csv", "with space", "ä.csv"])
    assert client.list_files(folder) == [f"{folder}/{name}" for name in names]
    assert client.list_files(f"{folder}/") == [f"{folder}/{name}" for name in names]
    assert client.list_files(folder, ".csv") == [f"{folder}/{n}" for n in ("a.csv", "b.csv", "link.csv", "ä.csv")]
    assert client.list_files(folder, file_pattern=folder) == [f"{folder}/{name}" for name in names]
    assert client.list_files(folder, "no such") == []


def test_a_listing_leaves_out_what_is_neither_file_nor_directory(client: IoTSFTPClient, folder: str, at: Path) -> None:
    os.mkfifo(at / "pipe")
    (at / "file").touch()
    assert client.list_files(folder) == [f"{folder}/file"]


def test_a_listing_of_the_start_directory_holds_plain_names(client: IoTSFTPClient, server: Server) -> None:
    (server.directory / "plain.txt").touch()
    assert client.list_files(".", "plain.txt") == ["plain.txt"]
    assert client.list_files("./", "plain.txt") == ["./plain.txt"]


def test_an_empty_folder_is_listed_and_what_is_none_is_refused(client: IoTSFTPClient, folder: str, at: Path) -> None:
    assert client.list_files(folder) == []
    assert client.last_error is None
    (at / "file").touch()
    assert client.list_files(f"{folder}/missing") is None
    assert code(client) == "not_found", "a misspelt folder does not look like an empty one"
    assert client.list_files(f"{folder}/file") is None
    assert code(client) == "not_a_directory"


def test_a_folder_of_many_files_is_listed_whole(client: IoTSFTPClient, folder: str, at: Path) -> None:
    names = [f"{number:05}" for number in range(2500)]
    for name in names:
        (at / name).touch()
    assert client.list_files(folder) == [f"{folder}/{name}" for name in names]


def test_names_that_are_not_utf_8_are_listed_and_can_be_used(
    client: IoTSFTPClient, folder: str, at: Path, tmp_path: Path
) -> None:
    name = b"caf\xe9\xff.txt"
    with open(os.fsencode(at) + b"/" + name, "wb") as file:
        file.write(b"latin")
    listing = client.list_files(folder)
    assert listing is not None
    assert [os.fsencode(path) for path in listing] == [os.fsencode(folder) + b"/" + name]
    assert client.exists(listing[0])
    assert client.download_file(listing[0], str(tmp_path / "cafe"))
    assert (tmp_path / "cafe").read_bytes() == b"latin"
    assert client.move_file(listing[0], f"{folder}/cafe")
    assert client.list_files(folder) == [f"{folder}/cafe"]


def test_directories_are_refused_as_files(client: IoTSFTPClient, folder: str, at: Path, tmp_path: Path) -> None:
    (at / "directory").mkdir()
    assert not client.delete_file(f"{folder}/directory")
    assert code(client) == "is_a_directory"
    assert not client.move_file(f"{folder}/directory", f"{folder}/other")
    assert code(client) == "is_a_directory"
    assert not client.download_file(f"{folder}/directory", str(tmp_path / "x"))
    assert code(client) == "is_a_directory"
    assert not client.upload_file(str(tmp_path), f"{folder}/x")
    assert code(client) == "is_a_directory"
    assert os.listdir(at) == ["directory"]
    assert not (tmp_path / "x").exists()


def test_what_is_missing_is_not_found(client: IoTSFTPClient, folder: str, at: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("old")
    for done in (
        client.download_file(f"{folder}/missing", str(target)),
        client.upload_file(str(tmp_path / "missing"), f"{folder}/x"),
        client.delete_file(f"{folder}/missing"),
        client.move_file(f"{folder}/missing", f"{folder}/x"),
    ):
        assert done is False
        assert code(client) == "not_found"
    assert target.read_text() == "old"
    assert os.listdir(at) == []


def test_a_parent_that_is_a_file_is_not_a_directory(
    client: IoTSFTPClient, folder: str, at: Path, tmp_path: Path
) -> None:
    (at / "file").write_text("x")
    (tmp_path / "file").write_text("x")
    assert not client.upload_file(str(tmp_path / "file"), f"{folder}/file/below/x")
    assert code(client) == "not_a_directory"
    assert not client.download_file(f"{folder}/file", str(tmp_path / "file" / "below"))
    assert code(client) == "not_a_directory"


# ProFTPD itself follows the link in a RENAME
@pytest.mark.parametrize("server", ["openssh_server"], indirect=True)
def test_delete_and_move_act_on_a_link_itself(client: IoTSFTPClient, folder: str, at: Path) -> None:
    (at / "target").write_text("kept")
    (at / "link").symlink_to("target")
    (at / "dangling").symlink_to("nowhere")
    assert client.move_file(f"{folder}/link", f"{folder}/moved")
    assert client.delete_file(f"{folder}/moved")
    assert client.delete_file(f"{folder}/dangling")
    assert os.listdir(at) == ["target"]


def test_moving_a_file_onto_itself_changes_nothing(client: IoTSFTPClient, folder: str, at: Path) -> None:
    (at / "a").write_text("a")
    assert client.move_file(f"{folder}/a", f"{folder}/./a")
    assert client.move_file(f"{folder}/a", folder)
    assert (at / "a").read_text() == "a"


def test_what_is_no_file_is_never_replaced_or_read(
    client: IoTSFTPClient, folder: str, at: Path, tmp_path: Path
) -> None:
    os.mkfifo(at / "pipe")
    os.mkfifo(tmp_path / "pipe")
    (at / "file").touch()
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
        assert not client.download_file(f"{folder}/pipe", str(tmp_path / "x"))
        assert code(client) == "path_not_allowed"
        assert not client.upload_file(str(tmp_path / "pipe"), f"{folder}/x")
        assert code(client) == "path_not_allowed"
        for name in ("pipe", "socket"):
            assert not client.download_file(f"{folder}/file", str(tmp_path / name))
            assert code(client) == "path_not_allowed"
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_download_through_a_local_link_replaces_what_the_link_leads_to(
    client: IoTSFTPClient, folder: str, at: Path, tmp_path: Path
) -> None:
    (at / "a").write_text("new")
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    assert client.download_file(f"{folder}/a", str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_name_that_no_file_system_takes_is_refused_by_name(
    client: IoTSFTPClient, folder: str, at: Path, tmp_path: Path
) -> None:
    (at / "a").touch()
    (tmp_path / "a").touch()
    assert not client.download_file(f"{folder}/a", str(tmp_path / ("x" * 300)))
    assert code(client) == "path_not_allowed"
    assert not client.upload_file(str(tmp_path / "a"), f"{folder}/{'x' * 300}")
    assert code(client) in {"path_not_allowed", "permission_denied"}
    assert os.listdir(at) == ["a"]
    for path in ("a\0b", "\ud800"):
        assert not client.exists(path)
        assert code(client) == "path_not_allowed"
        assert not client.download_file(f"{folder}/a", path)
        assert code(client) == "path_not_allowed"


def test_whether_a_client_is_connected_leaves_the_reason_of_the_last_call(client: IoTSFTPClient, folder: str) -> None:
    assert not client.delete_file(f"{folder}/missing")
    assert client.is_connected()
    assert code(client) == "not_found"


def test_an_answer_to_one_call_clears_the_reason_of_the_last(client: IoTSFTPClient, folder: str) -> None:
    assert not client.delete_file(f"{folder}/missing")
    assert client.last_error is not None
    assert client.last_error.operation == "delete_file"
    assert client.last_error.path == f"{folder}/missing"
    assert client.exists(folder)
    assert client.last_error is None
