"""How fast the proxy alone is: what a plain sender and a plain receiver get through it, and its true round trip."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from contextlib import closing

from benchmarks import proxy
from benchmarks.proxy import Link

BUFFER = 1024 * 1024
ECHOES = 11


def speed(link: Link, size: int) -> float:
    """Return the bytes per second that pass a link once the first has arrived, from a server to a client."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def send() -> None:
            connection, _ = listener.accept()
            with connection:
                data = bytes(BUFFER)
                for start in range(0, size, BUFFER):
                    connection.sendall(data[: size - start])

        sender = threading.Thread(target=send)
        sender.start()
        with proxy.running(listener.getsockname(), link) as (port, _):
            received, begun = _receive(port)
        sender.join()
    return received / begun


def _receive(port: int) -> tuple[int, float]:
    """Return how many bytes came after the first ones, and in how many seconds."""
    buffer = bytearray(BUFFER)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.recv_into(buffer)
        start, received = time.perf_counter(), 0
        while count := connection.recv_into(buffer):
            received += count
        return received, time.perf_counter() - start


def round_trip(link: Link) -> float:
    """Return the median seconds that a byte needs through the proxy and back."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def echo() -> None:
            connection, _ = listener.accept()
            with connection:
                while data := connection.recv(16):
                    connection.sendall(data)

        server = threading.Thread(target=echo)
        server.start()
        times = []
        with (
            proxy.running(listener.getsockname(), link) as (port, _),
            socket.create_connection(("127.0.0.1", port)) as connection,
        ):
            for _ in range(ECHOES):
                start = time.perf_counter()
                connection.sendall(b"?")
                connection.recv(16)
                times.append(time.perf_counter() - start)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(16)
        server.join()
    return statistics.median(times)
