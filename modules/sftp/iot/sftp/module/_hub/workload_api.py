"""The first import of azure-iot-device, without `requests`, and with a time limit for the workload API.

The SDK asks the workload API of the edge runtime: for the trust bundle at the start, and for a signature then and each
hour. For that it imports `requests`, with urllib3, a detection of character sets and a list of authorities: 4 MB of
memory, and a tenth of the module's start. Here Python's own HTTP client does it, over a Unix socket, or over TCP as
tools for development have it.

The SDK expects of `requests`: an `OSError` where there is no answer, `HTTPError` for an answer that is an error, and a
`ValueError` for one that is not what was asked for. Anything else would end the renewal of its token for good.

Where the SDK or `requests` was imported before, nothing is changed.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

NAMES = ("requests", "requests_unixsocket")
UNIX, TCP = "http+unix", "http"
LIMIT = 60.0  # seconds until the whole answer is there
ANSWER_MAXIMUM = 4 * 1024 * 1024  # bytes: a trust bundle is a few certificates
TEXTS = ("certificate", "digest")  # what the SDK takes out of answers, as texts


class HTTPError(OSError):
    """The workload API has answered with an error."""


class Answer:
    """What the workload API has answered, as `requests` presents it."""

    def __init__(self, status: int, body: bytes) -> None:
        """Take the status and the body."""
        self.status_code = status
        self._body = body

    def raise_for_status(self) -> None:
        """Raise an `HTTPError` if it is not about a success."""
        if self.status_code >= 400:  # noqa: PLR2004 - RFC 9110, 15.5 and 15.6
            message = f"the workload API answered with the status {self.status_code}"
            raise HTTPError(message)

    def json(self) -> dict[str, Any]:
        """Return the object that the body is; raise a `ValueError` if it is none that the SDK can use."""
        try:
            parsed = json.loads(self._body)
        except RecursionError:
            parsed = None
        if not isinstance(parsed, dict) or not all(isinstance(parsed.get(name, ""), str) for name in TEXTS):
            message = "the workload API answered with other JSON than was asked for"
            raise ValueError(message)
        return parsed


class Adapter:
    """Takes the place of what the SDK prepares for HTTPS requests to the hub, which no module of ours makes."""


class _Socket(socket.socket):
    """Receives until a moment: the timeout of a socket is for each byte."""

    end = 0.0

    def recv_into(self, *arguments: Any) -> int:
        self.settimeout(max(0.001, self.end - time.monotonic()))
        return super().recv_into(*arguments)


class _Connection(HTTPConnection):
    def __init__(self, host: str, path: str | None) -> None:
        super().__init__(host, timeout=LIMIT)
        self._path = path  # of a Unix socket

    def connect(self) -> None:
        end = time.monotonic() + LIMIT
        if self._path is None:
            super().connect()
            self.sock = _Socket(fileno=self.sock.detach())
        else:
            self.sock = _Socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._path)
        self.sock.end = end


def get(url: str, params: dict[str, str], headers: dict[str, str]) -> Answer:
    """Ask with GET; raise an `OSError` if there is no answer."""
    return _ask("GET", url, params, headers)


def post(url: str, params: dict[str, str], headers: dict[str, str], data: str) -> Answer:
    """Ask with POST; raise an `OSError` if there is no answer."""
    return _ask("POST", url, params, headers, data)


def _ask(method: str, url: str, params: dict[str, str], headers: dict[str, str], data: str | None = None) -> Answer:
    try:
        connection, path = _connection_to(url)
        try:
            connection.request(method, f"{path}?{urlencode(params)}", data, headers)
            with connection.getresponse() as answer:
                return Answer(answer.status, _body_of(answer))
        finally:
            connection.close()
    except HTTPException as error:
        message = f"the workload API's answer is not HTTP ({error!r})"
        raise OSError(message) from error
    except ValueError as error:  # a host or a path that is none
        message = f"IOTEDGE_WORKLOADURI is no address of a workload API ({error})"
        raise OSError(message) from error


def _connection_to(url: str) -> tuple[HTTPConnection, str]:
    """Return a connection that is not made yet, and the path to ask for; raise a `ValueError` if it is no address."""
    parts = urlsplit(url)
    if parts.scheme not in {UNIX, TCP} or not parts.netloc:
        message = "neither unix:// nor http://"
        raise ValueError(message)
    is_unix = parts.scheme == UNIX
    return _Connection("localhost" if is_unix else parts.netloc, unquote(parts.netloc) if is_unix else None), parts.path


def _body_of(answer: HTTPResponse) -> bytes:
    body = answer.read(ANSWER_MAXIMUM)
    if answer.length:
        raise IncompleteRead(body, answer.length)
    if answer.read(1):
        message = "it is too long"
        raise HTTPException(message)
    return body


def stand_ins() -> dict[str, ModuleType]:
    """Return what takes the place of `requests` and of its extension, by their names."""
    found = {name: ModuleType(name) for name in NAMES}
    vars(found[NAMES[0]]).update(
        get=get,
        post=post,
        exceptions=SimpleNamespace(HTTPError=HTTPError, Timeout=TimeoutError),
        adapters=SimpleNamespace(HTTPAdapter=Adapter),
    )
    vars(found[NAMES[1]]).update(monkeypatch=lambda: None)
    return found


def import_sdk() -> None:
    """Import azure-iot-device."""
    if not any(name in sys.modules for name in (*NAMES, "azure.iot.device")):
        sys.modules.update(stand_ins())
        try:
            import_module("azure.iot.device.aio")
        finally:
            for name in NAMES:
                del sys.modules[name]
