"""Calls by message through the real SDK and the module's process to OpenSSH, whether the cloud is there or not."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from tests.module.conftest import TALKATIVE, section_of
from tests.servers import Server

from localedge import LocalEdge, Message

ROOT = Path(__file__).parents[2]
ROUTES = (
    'FROM /messages/modules/camera/outputs/calls INTO BrokeredEndpoint("/modules/sftp/inputs/calls")',
    'FROM /messages/modules/sftp/outputs/answers INTO BrokeredEndpoint("/modules/camera/inputs/answers")',
)
CALLER = Path(__file__).with_name("sibling_caller.py")
SCHEMAS = {name: json.loads((ROOT / f"docs/schemas/{name}.schema.json").read_text()) for name in ("answers", "files")}
SLOW = 200_000  # bytes per second: a transfer that is under way when something happens to it
LARGE = 1_200_000  # bytes


@pytest.fixture(scope="module")
def device(
    shared_address: str, openssh_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalEdge]:
    """A device with the module, and with the example beside it, which is not started yet."""
    directory = tmp_path_factory.mktemp("device")
    pictures = directory / "local" / "pictures"
    pictures.mkdir(parents=True)
    camera = (
        "/usr/bin/env",
        f"PICTURES={pictures}",
        "PERIOD=0.1",
        sys.executable,
        str(ROOT / "examples/camera/camera.py"),
    )
    desired = {"sftp": section_of(openssh_server), "events": {"files": True}}
    with LocalEdge(
        address=shared_address,
        directory=directory,
        desired=desired,
        command=(sys.executable, "-c", TALKATIVE),
        siblings={"camera": camera, "caller": (sys.executable, str(CALLER), "exists", '{"path": "."}')},
        routes=ROUTES,
    ) as edge:
        edge.wait_until_connected()
        yield edge
        assert edge.stop_module(limit=60) == 0
        assert "Traceback" not in edge.module_log


def wait_for(condition: Callable[[], bool], edge: LocalEdge, seconds: float = 100) -> None:
    """Wait for something that the runtime is asked about, which its own `wait_for` cannot do."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, edge.module_log[-3000:] + edge.sibling_log("camera")[-1000:]
        time.sleep(0.02)


def body_of(method: str, payload: Any = None) -> bytes:
    return json.dumps({"method": method, "payload": payload}).encode()


def answers_to(edge: LocalEdge, call: str) -> list[Message]:
    return [message for message in edge.messages_of("answers") if message.properties.get("$.cid") == call]


def answer_to(edge: LocalEdge, call: str, number: int = 1) -> tuple[int, Any]:
    """Wait for an answer; return its status and its payload."""
    wait_for(lambda: len(answers_to(edge, call)) >= number, edge)
    answer = json.loads(answers_to(edge, call)[number - 1].body)
    Draft202012Validator(SCHEMAS["answers"]).validate(answer)
    return answer["status"], answer["payload"]


def test_a_call_by_message_is_answered_like_a_direct_method(device: LocalEdge, remote: Path) -> None:
    (remote / "a.csv").write_text("a")
    payload = {"path": remote.name}
    device.send_to_input("calls", body_of("list_files", payload), message_id="listing")
    assert (
        answer_to(device, "listing") == device.invoke("sftp", "list_files", payload) == (200, [f"{remote.name}/a.csv"])
    )
    (answer,) = answers_to(device, "listing")
    assert json.loads(answer.body)["method"] == "list_files"
    assert (answer.properties["$.ct"], answer.properties["$.ce"]) == ("application/json", "utf-8")


@pytest.mark.parametrize(
    "name, body, words",
    [
        ("empty", b"", "not valid JSON"),
        ("bytes", b"\xff\xfe", "it is not UTF-8"),
        ("list", b"[]", "must be a JSON object"),
        ("nothing", b"{}", "'method' must be a string"),
        ("number", b'{"method": 7}', "'method' must be a string"),
        ("more", b'{"method": "exists", "payload": {"path": "a"}, "x": 1}', "'x' is not known here"),
        ("wrong", b'{"method": "exists", "payload": {"pth": "a"}}', "'pth' is not known here"),
        ("text", b'{"method": "exists", "payload": "a"}', "must be a JSON object"),
    ],
)
def test_what_is_no_call_is_answered_with_400(device: LocalEdge, name: str, body: bytes, words: str) -> None:
    device.send_to_input("calls", body, message_id=name)
    status, payload = answer_to(device, name)
    assert (status, payload["code"], payload["result"]) == (400, "invalid_request", False)
    assert words in payload["message"] or words in payload["message"].replace("the message is ", "")


def test_a_message_that_comes_twice_is_done_once_and_answered_twice(device: LocalEdge, remote: Path) -> None:
    (remote / "a.csv").write_text("a")
    for number in (1, 2):
        device.send_to_input("calls", body_of("delete_file", {"path": f"{remote.name}/a.csv"}), message_id="twice")
        assert answer_to(device, "twice", number) == (200, True)
    first, second = answers_to(device, "twice")
    assert first.properties["$.mid"] == second.properties["$.mid"]


def test_the_id_of_a_message_is_the_request_id_of_its_call(device: LocalEdge, remote: Path) -> None:
    (remote / "a.csv").write_text("a")
    payload = {"path": f"{remote.name}/a.csv"}
    device.send_to_input("calls", body_of("delete_file", payload), message_id="as-request-id")
    assert answer_to(device, "as-request-id") == (200, True)
    assert device.invoke("sftp", "delete_file", {**payload, "request_id": "as-request-id"}) == (200, True)


def test_a_sibling_has_a_picture_sent_while_the_cloud_is_cut(device: LocalEdge, openssh_server: Server) -> None:
    picture = device.local_root / "pictures" / "gate.jpg"
    device.cut_upstream()
    device.start_sibling("camera")
    wait_for(lambda: "connected" in device.sibling_log("camera"), device)
    content = os.urandom(100_000)
    picture.with_suffix(".part").write_bytes(content)
    picture.with_suffix(".part").rename(picture)
    wait_for(lambda: "gate.jpg: 200 true" in device.sibling_log("camera"), device)
    assert (openssh_server.directory / "pictures" / "gate.jpg").read_bytes() == content
    wait_for(lambda: not picture.exists(), device)
    assert device.stop_sibling("camera") is not None
    device.restore_upstream()


def test_a_module_that_is_killed_answers_after_its_restart(device: LocalEdge, remote: Path) -> None:
    (device.local_root / "large.bin").write_bytes(os.urandom(LARGE))
    device.patch_desired({"transfers": {"bandwidthLimit": SLOW}})
    device.wait_for_reported(lambda reported: reported["transfers"]["value"]["bandwidthLimit"] == SLOW)
    payload = {"source": "large.bin", "dest": f"{remote.name}/large.bin", "timeout": 120}
    device.send_to_input("calls", body_of("upload_file", payload), message_id="killed")
    wait_for(lambda: any(remote.iterdir()), device)
    wait_for(lambda: device.waiting_for_inputs == 0, device)
    device.kill_module()
    device.wait_until_disconnected()
    device.patch_desired({"transfers": {"bandwidthLimit": None}})
    assert answer_to(device, "killed") == (200, True)
    assert (remote / "large.bin").read_bytes() == (device.local_root / "large.bin").read_bytes()
    assert [path.name for path in remote.iterdir()] == ["large.bin"]


def test_a_sibling_calls_a_direct_method_through_the_edge_hub(device: LocalEdge) -> None:
    if not device.has_edge_api:
        pytest.skip("this process may not listen on port 443, which the SDK fixes for calls between modules")
    device.cut_upstream()
    device.start_sibling("caller")
    wait_for(lambda: "answer: " in device.sibling_log("caller"), device)
    assert json.loads(device.sibling_log("caller").partition("answer: ")[2]) == {"status": 200, "payload": True}
    device.stop_sibling("caller")
    device.restore_upstream()


def told_of(edge: LocalEdge, source: str) -> list[dict[str, Any]]:
    """Return what the output `files` has told of a file, with where it comes from."""
    documents = [json.loads(message.body) for message in edge.messages_of("files")]
    for document in documents:
        Draft202012Validator(SCHEMAS["files"]).validate(document)
    return [{**document, **file} for document in documents for file in document["files"] if file["source"] == source]


def test_what_a_rule_has_delivered_is_told(device: LocalEdge, remote: Path) -> None:
    (device.local_root / "out").mkdir()
    (device.local_root / "out" / "day.csv").write_text("1,2,3")
    rule = {
        "name": "daily",
        "direction": "upload",
        "source": "out",
        "dest": remote.name,
        "then": "delete",
        "min_age": 0,
    }
    device.patch_desired({"rules": [rule]})
    wait_for(lambda: len(told_of(device, "out/day.csv")) > 0, device)
    (told,) = told_of(device, "out/day.csv")
    assert (told["server"], told["direction"], told["rule"]) == ("sftp", "upload", "daily")
    assert (told["dest"], told["bytes"], told["outcome"]) == (f"{remote.name}/day.csv", 5, "delivered")
    device.patch_desired({"rules": None})


def test_what_a_task_has_given_up_is_told(device: LocalEdge, remote: Path) -> None:
    (remote / "a.csv").write_text("12")
    (remote / "b.csv").write_text("345")
    (device.local_root / "in" / "b.csv").mkdir(parents=True)  # in the way
    payload = {"source": remote.name, "dest": "in"}
    device.send_to_input("calls", body_of("download_files", payload), message_id="folder")
    status, accepted = answer_to(device, "folder")
    assert status == 202
    paths = [f"{remote.name}/{name}.csv" for name in "ab"]
    wait_for(lambda: all(told_of(device, path) for path in paths), device)
    (first,), (second,) = (told_of(device, path) for path in paths)
    assert {told["task_id"] for told in (first, second)} == {accepted["task_id"]}
    assert (first["outcome"], first["code"], first["dest"]) == ("delivered", None, "in/a.csv")
    assert (second["outcome"], second["code"]) == ("failed", "is_a_directory")
