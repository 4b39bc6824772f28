"""What a connection may break with: paho-mqtt's network thread has to take it for the end of the connection."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt.client import Client  # type: ignore[import-untyped]

from iot.sftp.module._hub import paho
from iot.sftp.module._hub.paho import survive_broken_connections
from localedge._certificates import Certificates


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[ssl.SSLSocket, socket.socket]]:
    """A TLS connection: the client's end, and the bare socket below the server's."""
    certificates = Certificates(tmp_path, ["localhost"])
    trusting = ssl.create_default_context(cadata=certificates.authority)
    below_client, below_server = socket.socketpair()
    served: list[ssl.SSLSocket] = []

    def serve() -> None:
        served.append(certificates.server_context().wrap_socket(below_server, server_side=True))

    thread = threading.Thread(target=serve)
    thread.start()
    client = trusting.wrap_socket(below_client, server_hostname="localhost")
    thread.join()
    bare = socket.socket(fileno=served[0].detach())
    yield client, bare
    client.close()
    bare.close()


def client_on(connection: socket.socket) -> Client:
    survive_broken_connections()
    survive_broken_connections()  # once is enough, and twice does no harm
    client = Client()
    client._sock = connection
    return client


def read_to_the_end(client: Client) -> None:
    """Read what is there: session tickets, at first."""
    while client._sock_recv(1000):
        pass


def test_tls_that_ends_without_a_farewell_is_the_end(ends: tuple[ssl.SSLSocket, socket.socket]) -> None:
    connection, server = ends
    client = client_on(connection)
    server.close()
    read_to_the_end(client)
    with pytest.raises(ConnectionError):
        client._sock_send(b"x")


def test_bytes_that_are_no_tls_are_the_end(ends: tuple[ssl.SSLSocket, socket.socket]) -> None:
    connection, server = ends
    client = client_on(connection)
    server.sendall(b"no TLS record at all")
    with pytest.raises(ConnectionError):
        read_to_the_end(client)


def test_an_error_of_the_network_is_the_end() -> None:
    with socket.socket() as unconnected, pytest.raises(ConnectionError):
        client_on(unconnected)._sock_recv(1)


def test_nothing_to_read_yet_is_not_the_end(ends: tuple[ssl.SSLSocket, socket.socket]) -> None:
    connection, _ = ends
    connection.setblocking(False)  # noqa: FBT003 - the socket's own signature
    client = client_on(connection)
    with pytest.raises(BlockingIOError):
        read_to_the_end(client)


def test_the_network_thread_sleeps_long_and_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paho, "PATIENCE", 100_000.0)
    survive_broken_connections()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client()
        client.connect("127.0.0.1", silent.getsockname()[1])
        client.loop_start()
        thread = client._thread
        client.loop_stop()  # would wait without end
        assert not thread.is_alive()
        assert client.loop_stop() != 0  # there is no thread any more
        client._sock_close()
        client._reset_sockets()
