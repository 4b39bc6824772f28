"""The public surface as a running module and program show it: responses, reported properties, metrics, the log."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from tests.servers import Server

from localedge import LocalEdge

PROGRAM = (sys.executable, "-m", "iot.sftp.command_line")
IDENTITY = {"iothub", "edge_device", "module_name", "instance_number"}
VARYING = {"method", "code", "version"}  # labels whose values are a matter of what was called
ID = re.compile(r"\b(call|task) [0-9a-f]+\b|\b(rule) \S+")
LINE = re.compile(r"<(\d)> [-\d]+ [:.\d]+ \+00:00 \[(\w+)\] (?:((?:call|task|rule) \S+(?: \w+)?): )?")


class Shape:
    """The types of JSON values that were seen at a place, and the keys and items within them."""

    def __init__(self) -> None:
        self._types: set[str] = set()
        self._seen = 0
        self._objects = 0
        self._within: dict[str, Shape] = {}

    def take(self, value: Any) -> None:
        """Take one more value."""
        self._seen += 1
        if isinstance(value, dict):
            self._objects += 1
            for key, inner in value.items():
                self._within.setdefault(f".{key}", Shape()).take(inner)
        elif isinstance(value, list):
            self._types.add("list")
            for inner in value:
                self._within.setdefault("[]", Shape()).take(inner)
        else:
            names = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
            self._types.add(names[type(value)])

    def lines(self, place: str = "") -> Iterator[str]:
        """Give a line for each place, and `?` behind those that are not always there."""
        if self._types or (self._objects and not self._within):
            yield f"    {place.lstrip('.') or 'all of it'}: {' | '.join(sorted(self._types)) or 'object'}"
        for key, shape in sorted(self._within.items()):
            optional = "?" if key != "[]" and shape._seen < self._objects else ""
            yield from shape.lines(f"{place}{key}{optional}")


class Observer:
    """Calls everything that there is to call, and takes down what it looks like."""

    def __init__(self, edge: LocalEdge, server: Server, remote: Path, metrics_port: int) -> None:
        self._edge, self._server, self._remote, self._port = edge, server, remote, metrics_port
        self._shapes: dict[str, Shape] = {}

    def observe(self) -> dict[str, str]:
        """Return the records by their names."""
        self._call_everything()
        reported = self._edge.wait_for_reported(_all_is_reported)
        self._take("the module's reported properties", reported)
        self._take_message()
        self._call("get_status")
        surfaces = {
            "responses": "".join(f"{line}\n" for line in self._lines()),
            "metrics": "".join(f"{line}\n" for line in metrics(self._port)),
            "log": "".join(f"{line}\n" for line in log(self._edge.module_log)),
        }
        self._shapes.clear()
        self._run_the_program()
        return surfaces | {"documents_of_iot_sftp": "".join(f"{line}\n" for line in self._lines())}

    def _lines(self) -> Iterator[str]:
        for title, shape in self._shapes.items():
            yield from (title, *shape.lines(), "")

    def _take(self, title: str, value: Any) -> None:
        self._shapes.setdefault(title, Shape()).take(value)

    def _call(self, method: str, payload: Any = None) -> Any:
        status, answer = self._edge.invoke("sftp", method, payload)
        self._take(f"{method}: {status}", answer)
        return answer

    def _call_everything(self) -> None:
        self._edge.wait_until_connected()
        (self._edge.local_root / "a").write_bytes(b"1")
        name = self._remote.name
        self._call("is_connected")
        self._call("test_connection")
        self._call("upload_file", {"source": "a", "dest": f"{name}/a"})
        self._call("exists", {"path": f"{name}/a"})
        self._call("list_files", {"path": name})
        self._call("list_files", {"path": f"{name}/missing"})
        self._call("download_file", {"source": f"{name}/a", "dest": "b"})
        self._call("move_file", {"source": f"{name}/a", "dest": f"{name}/b"})
        self._call("delete_file", {"path": f"{name}/b"})
        self._call("delete_file", {"path": f"{name}/b"})
        self._call("delete_file", {})
        self._call("no_such_method")
        self._call_for_directories(name)
        self._call_for_contents(name)
        self._call_for_local_files()
        self._call_for_tasks(name)
        self._call("disconnect")
        self._call("is_connected")
        self._call("exists", {"path": "."})

    def _call_for_directories(self, name: str) -> None:
        self._call("create_directory", {"path": f"{name}/folder/inner"})
        self._call("list_directory", {"path": f"{name}/folder"})
        self._call("list_directory", {"path": f"{name}/missing"})
        self._call("stat", {"path": f"{name}/folder"})
        self._call("stat", {"path": f"{name}/missing"})
        self._call("move_directory", {"source": f"{name}/folder", "dest": f"{name}/moved"})
        self._call("move_directory", {"source": f"{name}/moved", "dest": name})
        self._call("delete_directory", {"path": f"{name}/moved"})
        self._call("delete_directory", {"path": f"{name}/moved", "recursive": True})

    def _call_for_contents(self, name: str) -> None:
        self._call("write_file", {"path": f"{name}/content", "content": "text"})
        self._call("write_file", {"path": f"{name}/content", "content": "text", "encoding": "base64?"})
        self._call("read_file", {"path": f"{name}/content"})
        self._call("read_file", {"path": f"{name}/missing"})

    def _call_for_local_files(self) -> None:
        self._call("list_local_directory")
        self._call("list_local_directory", {"path": "missing"})
        self._call("delete_local_file", {"path": "b"})
        self._call("delete_local_file", {"path": "b"})

    def _call_for_tasks(self, name: str) -> None:
        folder = self._edge.local_root / "folder"
        folder.mkdir()
        for file in ("c", "d"):
            (folder / file).write_bytes(b"1")
        (self._remote / "d").mkdir()  # which no file can replace
        for method, payload in (
            ("upload_file", {"source": "a", "dest": f"{name}/a", "background": True, "request_id": "1"}),
            ("upload_file", {"source": "a", "dest": f"{name}/e", "background": True, "request_id": "1"}),
            ("download_file", {"source": f"{name}/missing", "dest": "a", "background": True}),
            ("upload_files", {"source": "folder", "dest": name}),
            ("download_files", {"source": name, "dest": "folder", "if_exists": "skip"}),
            ("delete_directory", {"path": f"{name}/d", "background": True}),
        ):
            answer = self._call(method, payload)
            if "task_id" in answer:
                self._wait_for_end(answer["task_id"])
                self._call("get_task_status", {"task_id": answer["task_id"]})
        self._call("get_task_status", {"task_id": "unknown"})
        self._call("list_tasks")
        self._call("cancel_task", {"task_id": "unknown"})

    def _wait_for_end(self, task_id: str) -> None:
        self._edge.wait_for_message(
            lambda message: message.output == "tasks" and json.loads(message.body)["task_id"] == task_id
        )

    def _take_message(self) -> None:
        message = self._edge.wait_for_message(lambda message: message.output == "tasks")
        body = json.loads(message.body)
        message_id = message.properties["$.mid"].replace(body["task_id"], "TASK").replace(body["status"], "STATUS")
        kinds = {key: message.properties[key] for key in ("$.ct", "$.ce")}
        self._take(f"message on the output {message.output}, {kinds}, id {message_id}", body)

    def _run_the_program(self) -> None:
        local, name = self._edge.local_root, self._remote.name
        for arguments in (
            ("ls", name),
            ("ls", f"{name}/missing"),
            ("put", "a", f"{name}/f"),
            ("get", f"{name}/f", "g"),
            ("mv", f"{name}/f", f"{name}/g"),
            ("stat", f"{name}/g"),
            ("rm", f"{name}/g"),
            ("rm", f"{name}/g"),
            ("check",),
            ("check", "--write", f"{name}/missing/further/down"),
            ("ls", "--port", "none"),
        ):
            done = subprocess.run(
                [*PROGRAM, *arguments, "--json"],
                cwd=local,
                env=self._variables(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=60,
                check=False,
            )
            title = f"iot-sftp {arguments[0]}, exit status {done.returncode}"
            if done.stdout:
                self._take(title, json.loads(done.stdout))
            else:
                self._shapes.setdefault(f"{title}: no document", Shape())
        for number in (signal.SIGINT, signal.SIGTERM):
            self._shapes.setdefault(f"iot-sftp ls, {number.name}, exit status {self._interrupted(number)}", Shape())

    def _variables(self, **changes: str) -> dict[str, str]:
        server = {"HOST": self._server.host, "PORT": str(self._server.port), "USER": self._server.user}
        server |= {"KEY_FILE": str(self._server.key_file)} | changes
        return {**os.environ, **{f"IOT_SFTP_{name}": value for name, value in server.items()}}

    def _interrupted(self, number: signal.Signals) -> int:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = str(silent.getsockname()[1])
            process = subprocess.Popen([*PROGRAM, "ls"], env=self._variables(PORT=port), stderr=subprocess.DEVNULL)
            connection, _ = silent.accept()
            with connection:
                process.send_signal(number)
                return process.wait(timeout=30)


def _all_is_reported(reported: dict[str, Any]) -> bool:
    rules = reported.get("rules", {}).get("value", {})
    ended = {name: rules.get(name, {}).get("lastRun") is not None for name in ("good", "bad")}
    return all(ended.values()) and reported.get("connection", {}).get("state") == "connected"


def metrics(port: int) -> Iterator[str]:
    """Give each metric with its type, its labels, and the values of those whose values are fixed."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    for family in text_string_to_metric_families(text):
        yield f"{family.name}: {family.type}"
        values: dict[str, set[str]] = {}
        for sample in family.samples:
            for label, value in sample.labels.items():
                values.setdefault(label, set()).add(value)
        assert values.keys() >= IDENTITY, family.name
        for label in sorted(values.keys() - IDENTITY):
            yield f"    {label}" + ("" if label in VARYING else f": {', '.join(sorted(values[label]))}")
        yield f"    samples {', '.join(sorted({sample.name for sample in family.samples}))}"


def log(text: str) -> list[str]:
    """Return how lines begin, each beginning once."""
    beginnings = set()
    for line in text.splitlines():
        match = LINE.match(line)
        assert match is not None, line
        severity, level, origin = match.groups()
        name = "" if origin is None else f" {ID.sub(_without_id, origin)}:"
        beginnings.add(f"<{severity}> TIME +00:00 [{level}]{name}")
    return sorted(beginnings)


def _without_id(match: re.Match[str]) -> str:
    return f"{match.group(1)} ID" if match.group(1) else "rule NAME"
