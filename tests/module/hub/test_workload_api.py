"""The SDK asks the workload API without `requests`: over a Unix socket, with a time limit, and with its own errors."""

from __future__ import annotations

import json
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from azure.iot.device.common.auth.sastoken import RenewableSasToken, SasTokenError
from azure.iot.device.iothub import edge_hsm

from iot.sftp.module._hub import workload_api

OBJECT = b'{"digest": "abc", "certificate": "PEM"}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
# Answers in bytes, and what an attempt to use each raises in the SDK's own client
NO_ANSWER: dict[str, bytes] = {
    "none": b"",
    "not HTTP": b"nonsense\r\n\r\n",
    "half a line": b"HTTP/1.1",
    "half a body": HEAD + b"Content-Length: 100\r\n\r\n" + OBJECT,
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n50\r\n" + OBJECT,
    "no chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n" + OBJECT,
    "a long line": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n" + OBJECT,
    "a huge body": HEAD + b"\r\n" + OBJECT + b" " * workload_api.ANSWER_MAXIMUM,
    "a huge length": HEAD + b"Content-Length: 99999999999\r\n\r\n" + OBJECT + b" " * workload_api.ANSWER_MAXIMUM,
}
REFUSED: dict[str, bytes] = {
    "400": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}",
    "500": b"HTTP/1.1 500 Internal Server Error\r\n\r\n",
    "302": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "half a head": HEAD,
    "no JSON": HEAD + b"\r\n<html>",
    "no UTF-8": HEAD + b'\r\n{"digest": "\xff\xfe\xfd"}',
    "nothing": HEAD + b"Content-Length: 0\r\n\r\n",
    "deep": HEAD + b"\r\n" + b"[" * 100_000,
    "a list": HEAD + b"\r\n[]",
    "null": HEAD + b"\r\nnull",
    "other keys": HEAD + b"\r\n{}",
    "other values": HEAD + b'\r\n{"digest": null, "certificate": ["PEM"]}',
}
GOOD: dict[str, bytes] = {
    "a length": HEAD + b"Content-Length: %d\r\n\r\n" % len(OBJECT) + OBJECT,
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(OBJECT), OBJECT),
    "until the end": b"HTTP/1.0 200 OK\r\n\r\n" + OBJECT,
    "after another one": b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"\r\n" + OBJECT,
}
IMPORTS = """
import sys
from iot.sftp.module._hub.workload_api import import_sdk
import_sdk()
import iot.sftp.module._module
from azure.iot.device.iothub import edge_hsm
print(sorted({"requests", "urllib3", "charset_normalizer", "requests_unixsocket"} & set(sys.modules)))
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


def test_what_is_asked_arrives_over_tcp() -> None:
    with serving(HTTPServer(("127.0.0.1", 0), Handler)) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/sign"
        answer = workload_api.post(url, {"a": "b"}, {"User-Agent": "we"}, data="{}")
    assert answer.json() == {"method": "POST", "path": "/sign?a=b", "body": "{}", "agent": "we"}


class Raw(socketserver.BaseRequestHandler):
    """Answers a request with bytes."""

    def handle(self) -> None:
        """Answer."""
        received = b""
        while not received.endswith((b"\r\n\r\n", b"}")):
            received += self.request.recv(65_536) or b"}"
        with suppress(OSError):  # the client has had enough
            self.request.sendall(self.server.answer)  # type: ignore[attr-defined]
            self.request.shutdown(socket.SHUT_WR)
            while self.request.recv(65_536):
                pass


@pytest.fixture(params=["unix", "tcp"])
def raw(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Return a workload API that answers with its `answer`; `uri` is as the edge agent writes it."""
    if request.param == "unix":
        server: Any = socketserver.ThreadingUnixStreamServer(str(tmp_path / "socket"), Raw)
        server.uri = f"unix://{tmp_path / 'socket'}"
    else:
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Raw)
        server.uri = f"http://127.0.0.1:{server.server_address[1]}"
    with serving(server):
        yield server


@pytest.fixture
def _sdk_without_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_hsm, "requests", workload_api.stand_ins()["requests"])


def hsm(uri: str) -> Any:
    return edge_hsm.IoTEdgeHsm("sftp", "1", uri, "2019-01-30")  # type: ignore[no-untyped-call]


def use(hsm: Any) -> list[Exception]:
    """Return what the SDK raises when it asks for the trust bundle, and for a signature."""
    raised = []
    for ask in (hsm.get_certificate, lambda: hsm.sign("data")):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the caller looks at it
            ask()
        raised.append(caught.value)
    with pytest.raises(SasTokenError):
        RenewableSasToken("uri", hsm)  # type: ignore[no-untyped-call]
    return raised


@pytest.mark.usefixtures("_sdk_without_requests")
@pytest.mark.parametrize("answer", NO_ANSWER)
def test_what_is_no_answer_is_an_error_of_the_system_for_the_sdk(raw: Any, answer: str) -> None:
    raw.answer = NO_ANSWER[answer]
    for error in use(hsm(raw.uri)):
        assert isinstance(error, OSError)


@pytest.mark.usefixtures("_sdk_without_requests")
@pytest.mark.parametrize("answer", REFUSED)
def test_an_answer_of_no_use_is_the_sdks_own_error(raw: Any, answer: str) -> None:
    raw.answer = REFUSED[answer]
    for error in use(hsm(raw.uri)):
        assert isinstance(error, edge_hsm.IoTEdgeError)


@pytest.mark.usefixtures("_sdk_without_requests")
@pytest.mark.parametrize("answer", GOOD)
def test_each_form_of_an_answer_is_understood(raw: Any, answer: str) -> None:
    raw.answer = GOOD[answer]
    assert (hsm(raw.uri).get_certificate(), hsm(raw.uri).sign("data")) == ("PEM", "abc")


@pytest.mark.usefixtures("_sdk_without_requests")
@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:1",
        "http://127.0.0.1:port",
        "http://[::1",
        "http://a..b",
        "http://",
        "https://127.0.0.1",
        "unix://",
        "unix:///" + "x" * 200,
        "unix:///a\0b",
        "/var/run/workload.sock",
    ],
)
def test_an_address_where_nothing_answers_is_an_error_of_the_system(uri: str) -> None:
    for error in use(hsm(uri)):
        assert isinstance(error, OSError)


def test_an_answer_that_drips_ends_at_the_time_limit(raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload_api, "LIMIT", 0.3)
    is_over = threading.Event()

    class Dripping(Raw):
        def handle(self) -> None:
            self.request.recv(65_536)
            with suppress(OSError):
                self.request.sendall(HEAD)
                while not is_over.wait(0.02):
                    self.request.sendall(b"X: y\r\n")

    raw.RequestHandlerClass = Dripping
    url = raw.uri if raw.uri.startswith("http") else f"http+unix://{quote(raw.uri.removeprefix('unix://'), safe='')}"
    began = time.monotonic()
    try:
        with pytest.raises(OSError):  # noqa: PT011 - too many headers, on a machine that is slow
            workload_api.get(f"{url}/", {}, {})
    finally:
        is_over.set()
    assert time.monotonic() - began < 30


def test_the_module_imports_the_sdk_without_requests() -> None:
    command = [sys.executable, "-c", IMPORTS]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["[]", workload_api.__name__]
