"""The SDK asks the workload API without `requests`: over a Unix socket, with a time limit, and with its own errors."""

from __future__ import annotations

import json
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from iot.sftp.module._hub import workload_api

IMPORTS = """
import sys
from iot.sftp.module._hub.workload_api import import_sdk
import_sdk()
import iot.sftp.module._module
from azure.iot.device.iothub import edge_hsm
unneeded = {"requests", "urllib3", "charset_normalizer", "requests_unixsocket", "importlib.metadata", "zipfile"}
print(sorted(unneeded & set(sys.modules)))
print(edge_hsm.requests.get.__module__)
"""


class Runtime(socketserver.ThreadingUnixStreamServer):
    """A workload API that answers each request with what it was asked, and with one status."""

    status = 200


class Handler(BaseHTTPRequestHandler):
    """Answers requests."""

    def do_GET(self) -> None:
        """Answer a request."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.send_response(getattr(self.server, "status", 200))
        self.end_headers()
        asked = {"method": self.command, "path": self.path, "body": body, "agent": self.headers["User-Agent"]}
        self.wfile.write(json.dumps(asked).encode())

    do_POST = do_GET  # noqa: N815 - the name that http.server looks for

    def address_string(self) -> str:
        """Return a name for the log: a Unix socket has no address."""
        return "peer"

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[Any]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    with server:
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    with serving(Runtime(str(tmp_path / "workload sock"), Handler)) as server:
        yield server


def address(runtime: Runtime) -> str:
    return f"http+unix://{quote(str(runtime.server_address), safe='')}/"


def test_what_is_asked_arrives_over_the_socket(runtime: Runtime) -> None:
    answer = workload_api.get(address(runtime) + "trust-bundle", {"api-version": "2 0"}, {"User-Agent": "we"})
    answer.raise_for_status()
    assert answer.json() == {"method": "GET", "path": "/trust-bundle?api-version=2+0", "body": "", "agent": "we"}
    answer = workload_api.post(address(runtime) + "modules/a%20b/sign", {"x": "1"}, {"User-Agent": "we"}, data="{}")
    assert answer.json() == {"method": "POST", "path": "/modules/a%20b/sign?x=1", "body": "{}", "agent": "we"}


def test_an_answer_that_is_an_error_is_raised_on_request(runtime: Runtime) -> None:
    runtime.status = 500
    answer = workload_api.get(address(runtime), {}, {})
    with pytest.raises(workload_api.HTTPError, match="500"):
        answer.raise_for_status()


def test_without_an_answer_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        workload_api.get(f"http+unix://{quote(str(tmp_path / 'missing'), safe='')}/x", {}, {})

    class Silent(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1_000)
            self.request.sendall(b"nonsense\r\n\r\n")

    with serving(Runtime(str(tmp_path / "socket"), Silent)) as server, pytest.raises(OSError, match="not HTTP"):
        workload_api.get(address(server), {}, {})


def test_another_kind_of_address_is_asked_with_requests() -> None:
    with serving(HTTPServer(("127.0.0.1", 0), Handler)) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/sign"
        answer = workload_api.post(url, {"a": "b"}, {"User-Agent": "we"}, data="{}")
    assert answer.json() == {"method": "POST", "path": "/sign?a=b", "body": "{}", "agent": "we"}


def test_the_module_imports_neither_requests_nor_what_reads_metadata() -> None:
    """When it fails: paramiko, pydantic or the SDK imports in another way, and what stands in for it has to follow."""
    command = [sys.executable, "-c", IMPORTS]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["[]", workload_api.__name__]
