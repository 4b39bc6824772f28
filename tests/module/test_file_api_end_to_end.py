"""The methods on contents, directories and local files, through the real SDK: on OpenSSH, and on a server with little.

That one announces no extension, and refuses FSTAT, LSTAT and SETSTAT.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.module.conftest import TALKATIVE, section_of
from tests.servers import Server, openssh

from localedge import LocalEdge

REFUSED = "posix-rename,fstat,lstat,setstat,fsetstat,statvfs,fstatvfs,fsync,limits,hardlink,copy-data"
WITH_NULL = {"read_file", "list_local_directory", "list_directory", "stat"}
KiB = 1024


@pytest.fixture(scope="module", params=["OpenSSH", "a server with little"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if request.param == "OpenSSH":
        yield request.getfixturevalue("openssh_server")
        return
    with openssh(tmp_path_factory.mktemp("little"), sftp_options=f"-P {REFUSED}") as running:
        yield running


@pytest.fixture(scope="module")
def edge(shared_address: str, server: Server) -> Iterator[LocalEdge]:
    """A device whose module is connected to the server, shared by the tests of the file."""
    desired = {"sftp": section_of(server)}
    with LocalEdge(address=shared_address, desired=desired, command=(sys.executable, "-c", TALKATIVE)) as edge:
        edge.wait_until_connected()
        yield edge
        assert edge.stop_module(limit=60) == 0
        assert "Traceback" not in edge.module_log


@pytest.fixture
def remote(server: Server, tmp_path: Path) -> Path:
    """A folder of the test's own on the server; its name is the remote path."""
    folder = server.directory / f"{tmp_path.parent.name}-{tmp_path.name}"
    folder.mkdir()
    return folder


@pytest.fixture
def local(edge: LocalEdge, tmp_path: Path) -> Path:
    """A folder of the test's own on the device; its name is the local path."""
    folder = edge.local_root / f"{tmp_path.parent.name}-{tmp_path.name}"
    folder.mkdir()
    return folder


def refusal(edge: LocalEdge, method: str, payload: Any) -> tuple[int, str]:
    """Call a method that is not to be carried out; return its status and code."""
    status, body = edge.invoke("sftp", method, payload)
    assert set(body) == {"result", "code", "message"}
    assert body["result"] is (None if method in WITH_NULL else False)
    return status, body["code"]


# --- directories ------------------------------------------------------------------------------------------------------


def test_directories_are_created_listed_moved_and_deleted(edge: LocalEdge, remote: Path) -> None:
    name = remote.name
    for _ in range(2):
        assert edge.invoke("sftp", "create_directory", {"path": f"{name}/a/b"}) == (200, True)
    (remote / "a" / "file").write_bytes(b"12345")
    (remote / "a" / "file").chmod(0o640)
    os.utime(remote / "a" / "file", (1_700_000_000, 1_700_000_000))
    (remote / "a" / "link").symlink_to("file")
    status, entries = edge.invoke("sftp", "list_directory", {"path": f"{name}/a"})
    assert status == 200
    assert [(entry["path"], entry["kind"]) for entry in entries] == [
        (f"{name}/a/b", "directory"),
        (f"{name}/a/file", "file"),
        (f"{name}/a/link", "link"),
    ]
    file = {"kind": "file", "size": 5, "modified": "2023-11-14T22:13:20Z", "mode": "0640"}
    assert entries[1] == {"path": f"{name}/a/file"} | file
    assert edge.invoke("sftp", "stat", {"path": f"{name}/a/link"}) == (200, {"path": f"{name}/a/link"} | file)
    assert edge.invoke("sftp", "stat", {"path": f"{name}/none"}) == (200, None)
    move = {"source": f"{name}/a", "dest": f"{name}/new/a", "request_id": f"move-{name}"}
    for _ in range(2):
        assert edge.invoke("sftp", "move_directory", move) == (200, True)
    assert (remote / "new" / "a" / "file").read_bytes() == b"12345"
    assert refusal(edge, "delete_directory", {"path": f"{name}/new"}) == (409, "not_empty")
    (remote.parent / f"beside-{name}").mkdir()
    (remote.parent / f"beside-{name}" / "kept").touch()
    (remote / "new" / "out").symlink_to(remote.parent / f"beside-{name}")
    assert edge.invoke("sftp", "delete_directory", {"path": f"{name}/new", "recursive": True}) == (200, True)
    assert os.listdir(remote) == []
    assert (remote.parent / f"beside-{name}" / "kept").exists()


def test_directories_that_are_in_the_way_or_out_of_reach_are_refused(edge: LocalEdge, remote: Path) -> None:
    name = remote.name
    (remote / "folder").mkdir()
    (remote / "file").touch()
    (remote / "link").symlink_to("folder")
    for path in ("file", "file/x"):
        assert refusal(edge, "create_directory", {"path": f"{name}/{path}"}) == (409, "not_a_directory")
    for path in ("file", "link"):
        assert refusal(edge, "delete_directory", {"path": f"{name}/{path}"}) == (409, "not_a_directory")
        wrong = {"path": f"{name}/{path}", "recursive": True}
        assert refusal(edge, "delete_directory", wrong) == (409, "not_a_directory")
    for dest in ("file", "folder"):
        assert refusal(edge, "move_directory", {"source": f"{name}/folder", "dest": f"{name}/{dest}"}) == (
            409,
            "already_exists",
        )
    inside = {"source": f"{name}/folder", "dest": f"{name}/folder/inner"}
    assert refusal(edge, "move_directory", inside) == (400, "invalid_request")
    assert refusal(edge, "move_directory", {"source": f"{name}/none", "dest": f"{name}/x"}) == (404, "not_found")
    for path in (".", "/", "..", f"{name}/.."):
        assert refusal(edge, "delete_directory", {"path": path, "recursive": True}) == (400, "path_not_allowed")
        assert refusal(edge, "move_directory", {"source": path, "dest": f"{name}/x"}) == (400, "path_not_allowed")
    assert refusal(edge, "list_directory", {"path": f"{name}/none"}) == (404, "not_found")
    assert refusal(edge, "list_directory", {"path": f"{name}/file"}) == (409, "not_a_directory")
    assert refusal(edge, "delete_directory", {"path": f"{name}/none"}) == (404, "not_found")
    assert sorted(os.listdir(remote)) == ["file", "folder", "link"]


def test_a_long_directory_is_paged_by_what_a_response_holds(edge: LocalEdge, remote: Path) -> None:
    names = [f"{number:04}-{'x' * 100}" for number in range(1_500)]
    for name in names:
        (remote / name).touch()
    assert refusal(edge, "list_directory", {"path": remote.name}) == (413, "too_large")
    found: list[str] = []
    while True:
        after = {"after": found[-1]} if found else {}
        status, page = edge.invoke("sftp", "list_directory", {"path": remote.name, "limit": 1_400, **after})
        assert status == 200
        assert len(json.dumps(page)) <= 128 * KiB
        if not page:
            break
        found += [entry["path"] for entry in page]
    assert found == [f"{remote.name}/{name}" for name in names]


def test_a_directory_is_deleted_by_a_task_whose_end_is_announced(edge: LocalEdge, remote: Path) -> None:
    name = remote.name
    for folder in ("a", "a/b", "c\n"):
        (remote / "tree" / folder).mkdir(parents=True)
        for number in range(20):
            (remote / "tree" / folder / f"{number}").touch()
    Path(os.fsdecode(os.fsencode(remote) + b"/tree/\xff")).touch()
    payload = {"path": f"{name}/tree", "recursive": True, "background": True, "request_id": f"task-{name}"}
    status, accepted = edge.invoke("sftp", "delete_directory", payload)
    assert status == 202
    assert edge.invoke("sftp", "delete_directory", payload) == (202, accepted)
    message = edge.wait_for_message(lambda message: accepted["task_id"].encode() in message.body)
    ended = json.loads(message.body)
    assert (ended["method"], ended["status"], ended["result"]) == ("delete_directory", "Completed", True)
    assert (ended["path"], ended["deleted"]) == (f"{name}/tree", 65)
    assert os.listdir(remote) == []
    status, accepted = edge.invoke("sftp", "delete_directory", {"path": f"{name}/none", "background": True})
    message = edge.wait_for_message(lambda message: accepted["task_id"].encode() in message.body)
    ended = json.loads(message.body)
    assert (ended["status"], ended["code"]) == ("Failed", "not_found")


# --- contents ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content, encoding",
    [
        (b"", "utf-8"),
        ("Grüße,\r\n漢\0\N{GRINNING FACE}".encode(), "utf-8"),
        (os.urandom(30 * KiB) + b"\xff", "base64"),
        (b"\0" * 64 * KiB, "base64"),
        (b"a" * 64 * KiB, "utf-8"),
    ],
)
def test_a_content_is_written_and_read_back(edge: LocalEdge, remote: Path, content: bytes, encoding: str) -> None:
    path = f"{remote.name}/new/deep/file"
    text = content.decode() if encoding == "utf-8" else base64.b64encode(content).decode()
    if content.count(0) < 100:  # what a request holds is 128 KiB of JSON
        written = {"path": path, "content": text, "encoding": encoding}
        assert edge.invoke("sftp", "write_file", written) == (200, True)
        assert (remote / "new/deep/file").read_bytes() == content
        assert os.listdir(remote / "new/deep") == ["file"]
    else:
        (remote / "new/deep").mkdir(parents=True)
        (remote / "new/deep/file").write_bytes(content)
    os.utime(remote / "new/deep/file", (1_700_000_000, 1_700_000_000))
    expected = {"content": text, "encoding": encoding, "size": len(content), "modified": "2023-11-14T22:13:20Z"}
    assert edge.invoke("sftp", "read_file", {"path": path}) == (200, expected)


def test_a_content_replaces_another_and_a_repeat_with_the_same_id_changes_nothing(
    edge: LocalEdge, remote: Path
) -> None:
    (remote / "file").write_text("old")
    first = {"path": f"{remote.name}/file", "content": "first", "request_id": f"first-{remote.name}"}
    assert edge.invoke("sftp", "write_file", first) == (200, True)
    assert edge.invoke("sftp", "write_file", {"path": f"{remote.name}/file", "content": "second"}) == (200, True)
    assert edge.invoke("sftp", "write_file", first) == (200, True)
    assert (remote / "file").read_text() == "second"
    assert refusal(edge, "write_file", first | {"content": "other"}) == (409, "request_id_conflict")
    assert os.listdir(remote) == ["file"]


def test_contents_that_cannot_be_read_or_written_are_refused(edge: LocalEdge, remote: Path) -> None:
    (remote / "long").write_bytes(bytes(64 * KiB + 1))
    (remote / "folder").mkdir()
    (remote / "file").touch()
    assert refusal(edge, "read_file", {"path": f"{remote.name}/long"}) == (413, "too_large")
    assert refusal(edge, "read_file", {"path": f"{remote.name}/none"}) == (404, "not_found")
    assert refusal(edge, "read_file", {"path": f"{remote.name}/folder"}) == (409, "is_a_directory")
    content = {"content": "x"}
    for path in ("folder", "folder/", "."):
        wrong = content | {"path": f"{remote.name}/{path}"}
        assert refusal(edge, "write_file", wrong) == (409, "is_a_directory")
    under_a_file = content | {"path": f"{remote.name}/file/x"}
    assert refusal(edge, "write_file", under_a_file) == (409, "not_a_directory")
    assert refusal(edge, "write_file", {"path": f"{remote.name}/a", "content": "YQ", "encoding": "base64"}) == (
        400,
        "invalid_request",
    )
    assert sorted(os.listdir(remote)) == ["file", "folder", "long"]
    assert os.listdir(remote / "folder") == []


# --- local files ------------------------------------------------------------------------------------------------------


def test_a_local_directory_is_listed_with_all_that_is_in_it(edge: LocalEdge, local: Path) -> None:
    (local / "b\n").mkdir(0o750)
    (local / "a").write_bytes(b"12345")
    (local / "a").chmod(0o640)
    os.utime(local / "a", (1_700_000_000, 1_700_000_000))
    Path(os.fsdecode(os.fsencode(local) + b"/\xff")).symlink_to("/etc/passwd")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(local / "s"))
        status, entries = edge.invoke("sftp", "list_local_directory", {"path": local.name})
    assert status == 200
    assert entries[0] == {
        "path": f"{local.name}/a",
        "kind": "file",
        "size": 5,
        "modified": "2023-11-14T22:13:20Z",
        "mode": "0640",
    }
    kinds = [(entry["path"].removeprefix(f"{local.name}/"), entry["kind"]) for entry in entries]
    assert kinds == [("a", "file"), ("b\n", "directory"), ("s", "other"), ("\udcff", "link")]
    assert {"path", "kind", "size", "modified", "mode"} == set(entries[3])
    assert [entry["path"] for entry in edge.invoke("sftp", "list_local_directory")[1]].count(local.name) == 1
    for path in ("a", "\udcff"):
        assert edge.invoke("sftp", "delete_local_file", {"path": f"{local.name}/{path}"}) == (200, True)
    assert Path("/etc/passwd").exists()
    assert sorted(os.listdir(local)) == ["b\n", "s"]


def test_a_long_local_directory_is_paged_by_what_a_response_holds(edge: LocalEdge, local: Path) -> None:
    names = [f"{number:04}-{'x' * 100}" for number in range(1_500)]
    for name in names:
        (local / name).touch()
    assert refusal(edge, "list_local_directory", {"path": local.name}) == (413, "too_large")
    found: list[str] = []
    pages = 0
    while True:
        after = {"after": found[-1]} if found else {}
        status, page = edge.invoke("sftp", "list_local_directory", {"path": local.name, "limit": 1_400, **after})
        assert status == 200
        assert len(json.dumps(page)) <= 128 * KiB
        if not page:
            break
        found += [entry["path"] for entry in page]
        pages += 1
    assert found == [f"{local.name}/{name}" for name in names]
    assert 2 < pages < 6


def test_a_local_file_is_deleted_once_for_one_id(edge: LocalEdge, local: Path) -> None:
    deletion = {"path": f"{local.name}/a", "request_id": f"delete-{local.name}"}
    (local / "a").touch()
    assert edge.invoke("sftp", "delete_local_file", deletion) == (200, True)
    (local / "a").touch()
    assert edge.invoke("sftp", "delete_local_file", deletion) == (200, True)
    assert (local / "a").exists()


def test_local_files_outside_the_root_are_out_of_reach(edge: LocalEdge, local: Path) -> None:
    (local / "out").symlink_to("/etc")
    (local / "folder").mkdir()
    for path in ("..", "/etc", f"{local.name}/out", f"{local.name}/out/passwd", str(edge.state_directory), "a\0b"):
        assert refusal(edge, "list_local_directory", {"path": path}) == (400, "path_not_allowed")
    for path in ("..", "/etc/passwd", f"{local.name}/out/passwd", f"{edge.state_directory}/journal.db"):
        assert refusal(edge, "delete_local_file", {"path": path}) == (400, "path_not_allowed")
    assert refusal(edge, "delete_local_file", {"path": f"{local.name}/folder"}) == (409, "is_a_directory")
    assert refusal(edge, "delete_local_file", {"path": f"{local.name}/none"}) == (404, "not_found")
    assert refusal(edge, "list_local_directory", {"path": f"{local.name}/none"}) == (404, "not_found")
    assert Path("/etc/passwd").exists()
