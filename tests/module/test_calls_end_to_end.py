"""Direct methods through the real SDK and the module's process to OpenSSH, byte for byte and code for code."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.module.conftest import section_of
from tests.servers import Server, openssh

from iot.sftp.module._methods.table import METHODS
from localedge import LocalEdge

BYTES = os.urandom(3_000_000)


def refusal(edge: LocalEdge, method: str, payload: Any) -> tuple[int, str, str]:
    """Call a method that is not to be carried out; return its status, code and message."""
    status, body = edge.invoke("sftp", method, payload)
    assert set(body) == {"result", "code", "message"}
    assert body["result"] is (None if method == "list_files" else False)
    return status, body["code"], body["message"]


def test_a_key_that_was_not_made_on_the_device_is_not_rotated(edge: LocalEdge) -> None:
    status, body = edge.invoke("sftp", "rotate_key")
    assert (status, body["result"], body["code"]) == (400, None, "invalid_request")
    assert '{"generate": "ed25519"}' in body["message"]


# --- carried out


def test_is_connected_is_true_at_once(edge: LocalEdge) -> None:
    assert edge.invoke("sftp", "is_connected") == (200, True)
    assert edge.invoke("sftp", "is_connected", {}) == (200, True)


def test_no_payload_at_all_is_as_good_as_null(edge: LocalEdge) -> None:
    response = edge.invoke_raw("sftp", "is_connected", b"")
    assert (response.status, json.loads(response.payload)) == (200, True)


def test_disconnect_is_null_and_the_next_call_connects_again(edge: LocalEdge) -> None:
    assert edge.invoke("sftp", "disconnect") == (200, None)
    assert edge.invoke("sftp", "disconnect") == (200, None)
    assert edge.invoke("sftp", "is_connected") == (200, False)
    assert edge.invoke("sftp", "exists", {"path": "."}) == (200, True)
    assert edge.invoke("sftp", "is_connected") == (200, True)


def test_a_file_goes_up_and_comes_down_as_it_was(edge: LocalEdge, remote: Path) -> None:
    (edge.local_root / "out.bin").write_bytes(BYTES)
    upload = {"source": "out.bin", "dest": f"{remote.name}/new/deep/file.bin"}
    assert edge.invoke("sftp", "upload_file", upload) == (200, True)
    assert (remote / "new" / "deep" / "file.bin").read_bytes() == BYTES
    download = {"source": f"{remote.name}/new/deep/file.bin", "dest": f"{edge.local_root}/in/{remote.name}/"}
    assert edge.invoke("sftp", "download_file", download) == (200, True)
    assert (edge.local_root / "in" / remote.name / "file.bin").read_bytes() == BYTES


def test_exists_is_true_for_files_and_directories_only(edge: LocalEdge, remote: Path) -> None:
    (remote / "a").touch()
    assert edge.invoke("sftp", "exists", {"path": remote.name}) == (200, True)
    assert edge.invoke("sftp", "exists", {"path": f"{remote.name}/a"}) == (200, True)
    assert edge.invoke("sftp", "exists", {"path": f"{remote.name}/b"}) == (200, False)


def test_a_listing_holds_the_sorted_paths_of_files(edge: LocalEdge, remote: Path) -> None:
    for name in ("b.csv", "a.csv", "c.txt", "é漢.csv"):
        (remote / name).touch()
    (remote / "folder").mkdir()
    names = ["a.csv", "b.csv", "c.txt", "é漢.csv"]
    assert edge.invoke("sftp", "list_files", {"path": remote.name}) == (
        200,
        [f"{remote.name}/{name}" for name in names],
    )
    only = {"path": remote.name, "file_pattern": "b.c"}
    assert edge.invoke("sftp", "list_files", only) == (200, [f"{remote.name}/b.csv"])
    assert edge.invoke("sftp", "list_files", {"path": f"{remote.name}/folder"}) == (200, [])
    assert refusal(edge, "list_files", {"path": f"{remote.name}/nothing"})[:2] == (404, "not_found")


def test_a_file_is_moved_over_another_and_deleted(edge: LocalEdge, remote: Path) -> None:
    (remote / "a").write_text("new")
    (remote / "b").write_text("old")
    move = {"source": f"{remote.name}/a", "dest": f"{remote.name}/b"}
    assert edge.invoke("sftp", "move_file", move) == (200, True)
    assert (remote / "b").read_text() == "new"
    assert edge.invoke("sftp", "delete_file", {"path": f"{remote.name}/b"}) == (200, True)
    assert list(remote.iterdir()) == []


def test_names_that_are_not_utf8_come_back_as_they_were_listed(edge: LocalEdge, remote: Path) -> None:
    Path(os.fsdecode(os.fsencode(remote) + b"/\xff")).touch()
    status, paths = edge.invoke("sftp", "list_files", {"path": remote.name})
    assert (status, len(paths)) == (200, 1)
    assert edge.invoke("sftp", "delete_file", {"path": paths[0]}) == (200, True)
    assert list(remote.iterdir()) == []


def test_the_connection_test_shows_the_key_that_can_be_pinned(edge: LocalEdge, openssh_server: Server) -> None:
    status, shown = edge.invoke("sftp", "test_connection", {"learn": True})
    assert status == 200
    assert set(shown) == {"authenticated", "host_key", "server", "cipher", "extensions"}
    assert shown["authenticated"] is True
    assert shown["host_key"] == openssh_server.host_key
    assert shown["server"].startswith("SSH-2.0-OpenSSH")
    assert "posix-rename@openssh.com" in shown["extensions"]


def test_a_long_listing_is_paged(edge: LocalEdge, remote: Path) -> None:
    names = [f"{number:04}-{'x' * 60}" for number in range(2_000)]
    for name in names:
        (remote / name).touch()
    status, code, message = refusal(edge, "list_files", {"path": remote.name})
    assert (status, code) == (413, "too_large")
    assert '"limit"' in message
    assert '"after"' in message
    pages: list[str] = []
    while True:
        after = {"after": pages[-1]} if pages else {}
        status, page = edge.invoke("sftp", "list_files", {"path": remote.name, "limit": 700, **after})
        assert status == 200
        if not page:
            break
        pages += page
    assert pages == [f"{remote.name}/{name}" for name in names]
    status, page = edge.invoke("sftp", "list_files", {"path": remote.name, "limit": 1_900})  # more than fits
    assert (status, page) == (200, pages[: len(page)])
    assert len(json.dumps(page)) <= 128 * 1024 < len(json.dumps(pages[: len(page) + 1]))


def test_a_response_holds_128_kib_and_not_a_byte_more(edge: LocalEdge, remote: Path) -> None:
    """JSON takes four bytes for each path beside its characters, and none for the first comma."""
    count, length = 1_024, 124 - len(f"{remote.name}/")
    for number in range(count):
        (remote / f"{number:04}".ljust(length, "x")).touch()
    status, paths = edge.invoke("sftp", "list_files", {"path": remote.name})
    assert (status, len(json.dumps(paths))) == (200, 128 * 1024)
    (remote / "0000".ljust(length, "x")).rename(remote / "0000".ljust(length + 1, "x"))
    assert refusal(edge, "list_files", {"path": remote.name})[:2] == (413, "too_large")


# --- not carried out


@pytest.mark.parametrize(
    "method, payload, key",
    [
        ("exists", {}, "'path' is missing"),
        ("exists", None, "'path' is missing"),
        ("exists", {"path": 5}, "'path' must be a string"),
        ("download_file", {"source": "a"}, "'dest' is missing"),
        ("upload_file", {"source": "a", "dest": "b", "backgruond": True}, "'backgruond' is not known here"),
        ("list_files", {"path": ".", "limit": "5"}, "'limit' must be a whole number"),
        ("is_connected", {"timeout": 291}, "'timeout' must be a number of seconds from 1 to 290"),
        ("is_connected", [], "the payload must be a JSON object"),
        ("move_file", "text", "the payload must be a JSON object"),
        ("delete_file", {"path": "x" * 100_000, "y": 1}, "'y' is not known here"),
    ],
)
def test_an_invalid_request_is_refused_with_the_name_of_the_key(
    edge: LocalEdge, method: str, payload: Any, key: str
) -> None:
    status, code, message = refusal(edge, method, payload)
    assert (status, code) == (400, "invalid_request")
    assert key in message


@pytest.mark.parametrize(
    "payload", [b"{", b"\xff\xfe", b"[" * 100_000, b'{"path": NaN}', b"9" * 10_000, b'{"path": "a"', b"\0"]
)
def test_a_payload_that_is_not_json_is_answered_too(edge: LocalEdge, payload: bytes) -> None:
    response = edge.invoke_raw("sftp", "exists", payload)
    body = json.loads(response.payload)
    assert (response.status, body["code"], body["result"]) == (400, "invalid_request", False)
    assert "not valid JSON" in body["message"]


def test_an_unknown_method_is_answered_with_the_methods(edge: LocalEdge) -> None:
    status, code, message = refusal(edge, "remove_file", {"path": "a"})
    assert (status, code) == (404, "unknown_method")
    assert all(name in message for name in METHODS)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../b", "link/passwd", "a\0b"])
@pytest.mark.parametrize("method", ["download_file", "upload_file"])
def test_a_local_path_outside_the_root_is_refused(edge: LocalEdge, remote: Path, method: str, path: str) -> None:
    (remote / "a").touch()
    if not (edge.local_root / "link").is_symlink():
        (edge.local_root / "link").symlink_to("/etc")
    there = f"{remote.name}/a"
    payload = {"source": there, "dest": path} if method == "download_file" else {"source": path, "dest": there}
    assert refusal(edge, method, payload)[:2] == (400, "path_not_allowed")


@pytest.mark.parametrize("method", ["download_file", "move_file"])
def test_a_source_that_is_not_there_is_not_found(edge: LocalEdge, remote: Path, method: str) -> None:
    status, code, message = refusal(edge, method, {"source": f"{remote.name}/none", "dest": f"{remote.name}/x"})
    assert (status, code) == (404, "not_found")
    assert f"{remote.name}/none" in message
    assert not (edge.local_root / remote.name).joinpath("x").exists()


def test_a_local_source_that_is_not_there_is_not_found(edge: LocalEdge, remote: Path) -> None:
    upload = {"source": "nothing-here", "dest": f"{remote.name}/x"}
    assert refusal(edge, "upload_file", upload)[:2] == (404, "not_found")
    assert refusal(edge, "delete_file", {"path": f"{remote.name}/none"})[:2] == (404, "not_found")


def test_a_directory_where_a_file_is_needed_is_refused(edge: LocalEdge, remote: Path) -> None:
    (remote / "d").mkdir()
    path = f"{remote.name}/d"
    assert refusal(edge, "delete_file", {"path": path})[:2] == (409, "is_a_directory")
    assert refusal(edge, "move_file", {"source": path, "dest": f"{path}2"})[:2] == (409, "is_a_directory")
    assert refusal(edge, "download_file", {"source": path, "dest": "x"})[:2] == (409, "is_a_directory")


def test_a_file_where_a_directory_is_needed_is_refused(edge: LocalEdge, remote: Path) -> None:
    (remote / "f").touch()
    (edge.local_root / "file").touch()
    assert refusal(edge, "list_files", {"path": f"{remote.name}/f"})[:2] == (409, "not_a_directory")
    download = {"source": f"{remote.name}/f", "dest": "file/x"}
    assert refusal(edge, "download_file", download)[:2] == (409, "not_a_directory")


def test_what_the_server_refuses_is_permission_denied(own_address: str, tmp_path: Path) -> None:
    with openssh(tmp_path / "server", sftp_options="-P remove") as server:
        (server.directory / "a").touch()
        with LocalEdge(address=own_address, desired={"sftp": section_of(server)}) as edge:
            edge.wait_until_connected()
            assert refusal(edge, "delete_file", {"path": "a"})[:2] == (403, "permission_denied")


# --- many at once


def test_two_hundred_calls_at_once_are_all_answered(edge: LocalEdge, remote: Path) -> None:
    for number in range(20):
        (remote / f"{number}").write_text(str(number))
    name = remote.name
    kinds: list[tuple[str, Any, int]] = [
        ("exists", {"path": f"{name}/1"}, 200),
        ("list_files", {"path": name}, 200),
        ("download_file", {"source": f"{name}/2", "dest": f"{name}/"}, 200),
        ("is_connected", None, 200),
        ("delete_file", {"path": f"{name}/none"}, 404),
        ("nope", None, 404),
        ("exists", {"path": 5}, 400),
    ]
    calls = [kinds[number % len(kinds)] for number in range(200)]
    # each download writes a file of its own: the same one at the same time is `busy`
    calls = [
        (method, payload | {"dest": f"{name}/{number}"} if method == "download_file" else payload, status)
        for number, (method, payload, status) in enumerate(calls)
    ]
    futures = [edge.submit("sftp", method, payload) for method, payload, _ in calls]
    statuses = [future.result(30)[0] for future in futures]
    assert statuses == [status for _, _, status in calls]


def test_quick_calls_are_answered_while_large_transfers_run(edge: LocalEdge, remote: Path) -> None:
    large = os.urandom(1_000_000) * 100
    for number in range(4):
        (remote / f"large{number}").write_bytes(large)
    running = [
        edge.submit(
            "sftp", "download_file", {"source": f"{remote.name}/large{number}", "dest": f"{remote.name}/{number}"}
        )
        for number in range(4)
    ]
    times = []
    while not all(transfer.done() for transfer in running):
        started = time.monotonic()
        assert edge.invoke("sftp", "exists", {"path": remote.name}) == (200, True)
        times.append(time.monotonic() - started)
    assert [transfer.result() for transfer in running] == [(200, True)] * 4
    for number in range(4):
        assert (edge.local_root / remote.name / str(number)).read_bytes() == large
        (edge.local_root / remote.name / str(number)).unlink()
    assert len(times) > 3
    assert max(times) < 15  # milliseconds, unless the machine is busy


def test_two_transfers_to_one_destination_are_not_mixed(edge: LocalEdge, remote: Path) -> None:
    contents = [os.urandom(10_000_000), os.urandom(10_000_000)]
    for number, content in enumerate(contents):
        (remote / f"s{number}").write_bytes(content)
    calls = [
        edge.submit("sftp", "download_file", {"source": f"{remote.name}/s{number}", "dest": f"{remote.name}/same"})
        for number in range(2)
    ]
    answers = [call.result(30) for call in calls]
    assert {status for status, _ in answers} <= {200, 429}
    assert (edge.local_root / remote.name / "same").read_bytes() in contents


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
KEYS = st.sampled_from(["path", "source", "dest", "file_pattern", "limit", "after", "learn", "x"])


CHANGES = {"delete_file", "move_file", "upload_file", "write_file", "delete_local_file"} | {
    name for name in METHODS if name.endswith("_directory") and not name.startswith("list")
}


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(method=st.sampled_from([*METHODS, "nope"]), payload=JSON | st.dictionaries(KEYS, JSON, max_size=4))
def test_any_json_value_gets_an_answer(edge: LocalEdge, method: str, payload: Any) -> None:
    if method in CHANGES and isinstance(payload, dict):
        payload = payload | {"timeout": "none"}  # what is wrong here must not be carried out on the shared server
    status, body = edge.invoke("sftp", method, payload)
    if status != 200:
        assert set(body) == {"result", "code", "message"}
        assert status != 500


def test_a_thread_of_calls_is_quick(edge: LocalEdge) -> None:
    edge.invoke("sftp", "is_connected")
    times = []
    for _ in range(100):
        started = time.perf_counter()
        edge.invoke("sftp", "nope")
        times.append(time.perf_counter() - started)
    # 44 ms, each of them, with Nagle's algorithm and delayed acknowledgements; 2 ms without, unless the machine is busy
    assert min(times) < 0.03
