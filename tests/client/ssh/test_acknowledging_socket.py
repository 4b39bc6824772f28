"""Which connections acknowledge at once what they receive, so that no hop holds the next short piece back for 40 ms."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from tests.clients import session_of
from tests.proxies import jump_of, socks_proxy
from tests.servers import Server

from iot.sftp.client._ssh.acknowledging_socket import QUICKACK, AcknowledgingSocket
from iot.sftp.client._ssh.paramiko_internals.transport import Transport

pytestmark = pytest.mark.skipif(QUICKACK is None, reason="Linux alone lets a program ask for it")


def acknowledges_at_once(connection: socket.socket) -> bool:
    """Whether the kernel acknowledges what comes next at once, and does not wait for something to send."""
    assert QUICKACK is not None
    return bool(connection.getsockopt(socket.IPPROTO_TCP, QUICKACK))


@pytest.fixture
def pair() -> Iterator[tuple[AcknowledgingSocket, socket.socket]]:
    """A connection on which questions were answered, so that the kernel waits before it acknowledges."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener, AcknowledgingSocket() as client:
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        with server:
            client.acknowledges_at_once = False
            for _ in range(100):
                client.sendall(b"?")
                server.sendall(server.recv(1))
                client.recv(1)
            assert not acknowledges_at_once(client)
            client.acknowledges_at_once = True
            yield client, server


def test_what_is_received_is_acknowledged_at_once(pair: tuple[AcknowledgingSocket, socket.socket]) -> None:
    client, server = pair
    server.sendall(b"!")
    assert client.recv(1) == b"!"
    assert acknowledges_at_once(client)
    client.sendall(b"?")  # the kernel forgets it
    server.sendall(b"!")
    assert client.recv_into(bytearray(1)) == 1
    assert acknowledges_at_once(client)


def test_one_that_another_thread_closes_fails_as_any_does(pair: tuple[AcknowledgingSocket, socket.socket]) -> None:
    client, server = pair
    server.sendall(b"!")
    client.recv(1, socket.MSG_PEEK)
    client.close()
    client._acknowledge()  # as a thread does that is between the two calls
    with pytest.raises(OSError, match="Bad file descriptor"):
        client.recv(1)


def outer_connections() -> list[AcknowledgingSocket]:
    """The connections of all transports that have one of the kernel's, and not a tunnel."""
    transports = [thread for thread in threading.enumerate() if isinstance(thread, Transport)]
    return [transport.sock for transport in transports if isinstance(transport.sock, AcknowledgingSocket)]


def test_a_jump_host_is_acknowledged_at_once(openssh_server: Server) -> None:
    """sshd has no TCP_NODELAY where there is no session: an upload stood still for 40 ms in each MiB."""
    with session_of(openssh_server, jumps=(jump_of(openssh_server),) * 2) as session:
        session.exists("/")
        (connection,) = outer_connections()
        assert connection.acknowledges_at_once
        assert acknowledges_at_once(connection)


def test_a_proxy_is_acknowledged_at_once(openssh_server: Server) -> None:
    with socks_proxy() as proxy, session_of(openssh_server, proxy=proxy) as session:
        session.exists("/")
        (connection,) = outer_connections()
        assert connection.acknowledges_at_once
        assert acknowledges_at_once(connection)


def test_openssh_is_until_its_subsystem_has_been_started(openssh_server: Server) -> None:
    """From then on it sends at once whatever it has, and an acknowledgement alone would be a packet too many."""
    with session_of(openssh_server) as session:
        session.exists("/")
        (connection,) = outer_connections()
        assert not connection.acknowledges_at_once


def test_another_server_is_acknowledged_at_once(proftpd_server: Server) -> None:
    with session_of(proftpd_server) as session:
        session.exists("/")
        (connection,) = outer_connections()
        assert connection.acknowledges_at_once
