"""The commands, as a developer types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from localedge import LocalEdge, LocalEdgeError
from localedge._state_file import RunningEdge, read_state, write_state

LIMIT = 60


def localedge(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "localedge", *arguments, "--directory", str(directory)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=LIMIT, check=False)


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200", **variables}


@pytest.fixture
def running(edge: LocalEdge, tmp_path: Path) -> Iterator[Path]:
    """The directory in which the commands find a runtime."""
    state = RunningEdge(edge.connection_string, edge.authority_file.read_text(), edge.device)
    file = write_state(state, tmp_path)
    yield tmp_path
    file.unlink()


def test_invoke_prints_the_answer_and_succeeds_with_2xx(running: Path) -> None:
    done = localedge("invoke", "sftp", "echo", '{"path": "."}', directory=running)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"method": "echo", "payload": {"path": "."}})
    assert "status 200" in done.stderr


def test_invoke_fails_with_any_other_status(running: Path) -> None:
    done = localedge("invoke", "sftp", "refuse", directory=running)
    assert (done.returncode, json.loads(done.stdout)) == (1, {"message": "refused"})
    assert "status 409" in done.stderr


def test_invoke_fails_in_one_line_when_the_hub_refuses_or_the_payload_is_not_json(running: Path) -> None:
    done = localedge("invoke", "other", "echo", directory=running)
    assert done.returncode == 1
    assert done.stderr.strip() == "404 (404010): There is no module 'other' on the device 'local-device'."
    done = localedge("invoke", "sftp", "echo", "{", directory=running)
    assert done.returncode == 1
    assert done.stderr.startswith("Not JSON: '{'")


def test_twin_patches_and_shows(running: Path) -> None:
    done = localedge("twin", "sftp", "--patch", '{"interval": 5}', directory=running)
    assert json.loads(done.stdout)["properties"]["desired"]["interval"] == 5
    done = localedge("twin", directory=running)
    assert json.loads(done.stdout)["properties"]["desired"]["$version"] == 2


def test_messages_shows_what_was_sent(running: Path, edge: LocalEdge) -> None:
    edge.invoke("sftp", "send", "hello")
    edge.wait_for_message(lambda message: message.body == b"hello")
    done = localedge("messages", directory=running)
    assert [message["body"] for message in json.loads(done.stdout)] == ["hello"]


def test_a_command_without_a_runtime_says_how_to_start_one(tmp_path: Path) -> None:
    done = localedge("twin", directory=tmp_path)
    assert done.returncode == 1
    assert "start one with 'localedge run', or name its --directory" in done.stderr


def test_the_state_file_is_for_its_user_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    state = RunningEdge("HostName=x", "PEM", "device")
    file = write_state(state, None)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert read_state(None) == state
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    with pytest.raises(LocalEdgeError, match="belongs to somebody else"):
        read_state(None)


def test_run_starts_everything_and_ends_at_sigterm(tmp_path: Path, address: str) -> None:
    template = tmp_path / "deployment.template.json"
    module = {"restartPolicy": "never", "env": {"PYTHONPATH": {"value": "/nowhere"}}}
    twin = {"properties.desired": {"sftp": {"host": "${SFTP_HOST}", "password": "${SFTP_PASSWORD}"}}}
    agent = {"properties.desired": {"modules": {"sftp": module}}}
    template.write_text(json.dumps({"modulesContent": {"$edgeAgent": agent, "sftp": twin}}))
    arguments = ["--template", str(template), "--directory", str(tmp_path), "--address", address]
    variables = environment()
    variables.pop("SFTP_HOST", None)
    with subprocess.Popen(
        [sys.executable, "-m", "localedge", "run", *arguments], env=variables, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Now, in another terminal:"):
                break
        done = localedge("twin", directory=tmp_path)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 0
    desired = json.loads(done.stdout)["properties"]["desired"]["sftp"]
    assert desired["host"] == address
    assert desired["port"] > 0
    assert (tmp_path / "sftp" / "hello.txt").is_file()
    assert not (tmp_path / "localedge.json").exists()


def test_run_without_a_template_says_what_is_missing(tmp_path: Path) -> None:
    done = localedge("run", "--template", str(tmp_path / "missing.json"), directory=tmp_path)
    assert done.returncode == 1
    assert "missing.json cannot be read" in done.stderr
