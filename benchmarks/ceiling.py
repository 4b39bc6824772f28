"""How fast a proxy alone is: what a plain sender and a plain receiver get through it, and its true round trip."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from python_socks import ProxyType
from python_socks.sync import Proxy as Requester

from benchmarks import proxy
from benchmarks.proxy import Link
from iot.sftp.client import Proxy

BUFFER = 1024 * 1024
ECHOES = 11


def speed(link: Link, size: int) -> float:
    """Return the bytes per second that pass a link once the first has arrived, from a server to a client."""
    with _sending(size) as place, proxy.running(place, link) as (port, _):
        return _receive(socket.create_connection(("127.0.0.1", port)))


def speed_through(socks: Proxy, size: int) -> float:
    """Return the bytes per second that pass a SOCKS proxy once the first has arrived, from a server to a client."""
    with _sending(size) as (host, port):
        return _receive(Requester(ProxyType.SOCKS5, socks.host, socks.port).connect(host, port))


@contextmanager
def _sending(size: int) -> Iterator[tuple[str, int]]:
    """Send so many bytes to whoever connects to this place first."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def send() -> None:
            connection, _ = listener.accept()
            with connection:
                data = bytes(BUFFER)
                for start in range(0, size, BUFFER):
                    connection.sendall(data[: size - start])

        sender = threading.Thread(target=send)
        sender.start()
        yield listener.getsockname()
        sender.join()


def _receive(connection: socket.socket) -> float:
    """Return the bytes per second that come after the first ones, until the end."""
    buffer = bytearray(BUFFER)
    with connection:
        connection.recv_into(buffer)
        start, received = time.perf_counter(), 0
        while count := connection.recv_into(buffer):
            received += count
        return received / (time.perf_counter() - start)


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
