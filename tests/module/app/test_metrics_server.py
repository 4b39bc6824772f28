"""The metrics are served to whoever asks, however silent or slow other clients are."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection

import pytest
from tests.module.app.conftest import device
from tests.module.conftest import wait_for_log

from iot.sftp.module._app.metrics import serve
from iot.sftp.module._app.metrics_server import CONNECTIONS, MetricsServer


@contextmanager
def running(text: Callable[[], bytes] = lambda: b"a 1\n", **limits: float) -> Iterator[int]:
    """Run the server on a free port of its own, which is given."""
    with MetricsServer(("127.0.0.1", 0), text, **limits) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def answering() -> int:
    """Count the threads that answer, or try to."""
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def asked(port: int, method: str = "GET", path: str = "/metrics") -> tuple[int, bytes]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read()


def test_only_the_metrics_are_served_and_only_for_reading() -> None:
    with running() as port:
        assert asked(port) == (200, b"a 1\n")
        assert asked(port, path="/metrics?name=a") == (200, b"a 1\n")
        assert asked(port, "HEAD") == (200, b"")
        assert asked(port, path="/")[0] == 404
        assert asked(port, path="/../etc/passwd")[0] == 404
        assert asked(port, "POST")[0] == 501


def test_silent_and_slow_clients_are_disconnected_and_block_nobody() -> None:
    with running(limit=3.0, eviction_limit=10.0) as port, ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(3 * CONNECTIONS)]
        slow = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        slow.settimeout(0.2)
        assert asked(port) == (200, b"a 1\n")
        assert answering() <= CONNECTIONS + 1  # the one that has just answered may not have ended yet
        silent[-1].settimeout(100)
        end = time.monotonic() + 100
        while True:  # one byte after the other, without an end
            try:
                slow.sendall(b"G")
                if slow.recv(1) == b"":
                    break
            except TimeoutError:
                assert time.monotonic() < end
            except OSError:
                break
        assert silent[-1].recv(1) == b""
        assert asked(port) == (200, b"a 1\n")


def test_a_client_that_does_not_read_is_disconnected() -> None:
    with (
        running(lambda: b"x" * 50_000_000, limit=2.0) as port,
        closing(socket.create_connection(("127.0.0.1", port))) as client,
    ):
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        end = time.monotonic() + 100
        for is_answering in (True, False):
            while bool(answering()) is not is_answering:
                assert time.monotonic() < end
                time.sleep(0.05)


def test_an_internal_error_is_status_500_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> bytes:
        raise RuntimeError("what the bug says")

    with running(fails) as port:
        assert asked(port) == (500, b"internal error: see the log\n")
    assert "what the bug says" in caplog.text


def test_on_port_zero_nothing_is_served() -> None:
    assert serve(0, None) is None  # type: ignore[arg-type] # nobody is asked


# --- The port


def test_port_zero_turns_the_metrics_off(own_address: str) -> None:
    with device(own_address, SFTP_METRICS_PORT="0") as edge:
        edge.wait_until_connected()
        assert "metrics" not in edge.module_log
        assert edge.invoke("sftp", "is_connected") == (200, False)


def test_a_port_in_use_is_logged_and_the_module_works(own_address: str) -> None:
    with closing(socket.create_server(("", 0))) as other:
        port = other.getsockname()[1]
        with device(own_address, SFTP_METRICS_PORT=str(port)) as edge:
            edge.wait_until_connected()
            wait_for_log(edge, f"there are no metrics, as port {port} cannot be used: Address already in use")
            assert edge.invoke("sftp", "is_connected") == (200, False)
