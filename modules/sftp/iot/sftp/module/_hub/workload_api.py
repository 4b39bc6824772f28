"""The first import of azure-iot-device, without `requests`, and with a time limit for the workload API.

The SDK asks the workload API of the edge runtime over a Unix socket: for the trust bundle at the start, and for a
signature then and each hour. For that it imports `requests`, with urllib3, a detection of character sets and a list of
authorities: 4 MB of memory, and a tenth of the module's start. Here Python's own HTTP client does it. A workload API at
another kind of address, as tools for development have it, is asked with `requests`.

Where the SDK or `requests` was imported before, nothing is changed.
"""

from __future__ import annotations

import json
import socket
import sys
from http.client import HTTPConnection, HTTPException
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlencode

NAMES = ("requests", "requests_unixsocket")
PREFIX = "http+unix://"
LIMIT = 60.0  # seconds without an answer


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

    def json(self) -> Any:
        """Return what the body stands for; raise a `ValueError` if it is not JSON."""
        return json.loads(self._body)


class Adapter:
    """Takes the place of what the SDK prepares for HTTPS requests to the hub, which no module of ours makes."""


class _Connection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=LIMIT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def get(url: str, params: dict[str, str], headers: dict[str, str]) -> Any:
    """Ask with GET; raise an `OSError` if there is no answer."""
    return _ask("get", url, params, headers)


def post(url: str, params: dict[str, str], headers: dict[str, str], data: str) -> Any:
    """Ask with POST; raise an `OSError` if there is no answer."""
    return _ask("post", url, params, headers, data)


def _ask(method: str, url: str, params: dict[str, str], headers: dict[str, str], data: str | None = None) -> Any:
    if not url.startswith(PREFIX):
        return import_module(NAMES[0]).request(method, url, params=params, headers=headers, data=data, timeout=LIMIT)
    place, _, path = url.removeprefix(PREFIX).partition("/")
    connection = _Connection(unquote(place))
    try:
        connection.request(method.upper(), f"/{path}?{urlencode(params)}", data, headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.read())
    except HTTPException as error:
        message = f"the workload API's answer is not HTTP ({error!r})"
        raise OSError(message) from error
    finally:
        connection.close()


def import_sdk() -> None:
    """Import azure-iot-device."""
    if not any(name in sys.modules for name in (*NAMES, "azure.iot.device")):
        stand_ins = {name: ModuleType(name) for name in NAMES}
        vars(stand_ins[NAMES[0]]).update(
            get=get,
            post=post,
            exceptions=SimpleNamespace(HTTPError=HTTPError, Timeout=TimeoutError),
            adapters=SimpleNamespace(HTTPAdapter=Adapter),
        )
        vars(stand_ins[NAMES[1]]).update(monkeypatch=lambda: None)
        sys.modules.update(stand_ins)
        try:
            import_module("azure.iot.device.aio")
        finally:
            for name in NAMES:
                del sys.modules[name]
