"""Serves the metrics over HTTP, to a bounded number of clients and with a time limit for each, whatever they do."""

from __future__ import annotations

import logging
import socket
import socketserver
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, cast

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PATH = "/metrics"
PLAIN_TEXT = "text/plain; charset=utf-8"
CONNECTIONS = 8  # at a time
BACKLOG = 128  # connections in the kernel's queue; beyond it the kernel drops connections that a client takes for open
LIMIT = 5.0  # seconds for one connection, from its first byte to its last
EVICTION_LIMIT = 1.0  # seconds that the oldest connection has to end when there is a new one

_log = logging.getLogger(__name__)


class MetricsServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Answers `GET /metrics`; closes a connection at its time limit, and the oldest one when there are too many."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = BACKLOG

    def __init__(
        self,
        address: tuple[str, int],
        text: Callable[[], bytes],
        *,
        limit: float = LIMIT,
        eviction_limit: float = EVICTION_LIMIT,
    ) -> None:
        """Listen; `serve_forever` answers.

        Parameters:
            address: to listen on; port 0 is any free one.
            text: returns the metrics.
            limit: seconds for one connection.
            eviction_limit: seconds that the oldest connection has to end when there is a new one.

        Raises:
            OSError: the port is taken, or the address is not this machine's.
        """
        self.text = text
        self._limit = limit
        self._eviction_limit = eviction_limit
        self._is_ending = False
        self._changed = threading.Condition()
        self._open: dict[socket.socket, float] = {}  # and its deadline; the oldest first
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own; if there are too many connections, the oldest one is closed first."""
        with self._changed:
            if len(self._open) >= CONNECTIONS:
                _cut(next(iter(self._open)))
                self._changed.wait_for(lambda: len(self._open) < CONNECTIONS, self._eviction_limit)
            has_room = len(self._open) < CONNECTIONS
            if has_room:
                self._open[request] = time.monotonic() + self._limit
        if not has_room:
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread is left
            self._forget(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Answer until `shutdown`; wake up only when there is something to do, unlike the base class."""
        while not self._is_ending:
            with self._changed:
                self.timeout = poll_interval if self._open else None
            self.handle_request()
            self.service_actions()

    def shutdown(self) -> None:
        """Answer no more."""
        self._is_ending = True
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits

    def service_actions(self) -> None:
        """Close the connections that have reached their deadline; called twice a second while there are any."""
        now = time.monotonic()
        with self._changed:
            for connection in [connection for connection, end in self._open.items() if end <= now]:
                _cut(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the signature is not ours
        """Log why a request failed; mostly the client went away."""
        _log.debug("a request for the metrics was not answered", exc_info=True)

    def _forget(self, connection: socket.socket) -> None:
        with self._changed:
            self._open.pop(connection, None)
            self._changed.notify_all()


class _Handler(BaseHTTPRequestHandler):
    """One request on one connection: HTTP/1.0, as the base class has it."""

    timeout = LIMIT
    server_version = "iot-sftp"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer."""
        if self.path.partition("?")[0] != PATH:
            self._answer(HTTPStatus.NOT_FOUND, PLAIN_TEXT, f"the metrics are at {PATH}\n".encode())
            return
        try:
            text = cast("MetricsServer", self.server).text()
        except Exception:  # noqa: BLE001 - whatever it is, the scraper gets a status
            _log.exception("internal error of the metrics")
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, PLAIN_TEXT, b"internal error: see the log\n")
        else:
            self._answer(HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, text)

    do_HEAD = do_GET  # noqa: N815 - the name is not ours

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is not ours
        """Log nothing: a scraper comes every few seconds."""

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads or writes there
