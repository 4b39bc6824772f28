"""From a host's name to a connected socket, within a time limit.

A `Dialer` is the first two stages of a handshake. Another way to a server (through a proxy, through another SSH server)
is another dialer, and nothing else in the handshake changes.
"""

from __future__ import annotations

import queue
import socket
import threading
from typing import TYPE_CHECKING, Any, Protocol

from iot.sftp.client._base.errors import ConnectionLost, SFTPError, Unreachable
from iot.sftp.client._base.lower_layers import from_lower_layer

if TYPE_CHECKING:
    from iot.sftp.client._base.deadline import Deadline

AddressInfo = tuple[Any, ...]


class Dialer(Protocol):
    """A way to a server."""

    peer: str  # what accepted the connection, for people; set by `connect`

    def look_up(self, deadline: Deadline) -> list[str]:
        """Resolve names, and return the addresses for people.

        Raises:
            Unreachable: a name is not known, or there was no answer.
        """

    def connect(self, deadline: Deadline) -> socket.socket:
        """Connect to an address that was looked up.

        Raises:
            SFTPError: none accepts.
        """


class DirectDialer:
    """Connects to the server itself: to the first of its addresses that accepts."""

    def __init__(self, host: str, port: int, stall: float) -> None:
        """Take the server.

        Parameters:
            host: a DNS name, an IPv4 or an IPv6 address.
            port: 1 to 65535.
            stall: seconds after which the kernel gives up on a peer that acknowledges nothing (RFC 5482), where it can.
        """
        self._host, self._port, self._stall = host, port, stall
        self._addresses: list[AddressInfo] = []
        self.peer = ""

    def look_up(self, deadline: Deadline) -> list[str]:
        """Resolve the host's name.

        Raises:
            Unreachable: the name is not known, or there was no answer.
        """
        self._addresses = look_up(self._host, self._port, deadline)
        return list(dict.fromkeys(str(address[0]) for *_, address in self._addresses))

    def connect(self, deadline: Deadline) -> socket.socket:
        """Try address by address; each gets its fair share of the time that is left.

        Raises:
            Unreachable: no address accepts.
            ConnectionLost: one accepts, and resets the connection.
        """
        failure: SFTPError = Unreachable(f"{self._host} has no address")
        for number, (family, kind, protocol, _, address) in enumerate(self._addresses):
            share = deadline.remaining() / (len(self._addresses) - number)
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(max(share, 0.001))
                connection.connect(address)
                _tune(connection, self._stall)
            except OSError as error:
                connection.close()
                failure = _with_place(error, self._host, self._port)
            else:
                self.peer = _peer_of(connection)
                return connection
        raise failure


def look_up(host: str, port: int, deadline: Deadline) -> list[AddressInfo]:
    """Ask the resolver, which has no timeout of its own: in a thread that is abandoned if it takes too long.

    Raises:
        Unreachable: the name is not known, or there was no answer.
    """
    answer: queue.SimpleQueue[list[AddressInfo] | OSError | UnicodeError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except (OSError, UnicodeError) as error:
            answer.put(error)

    threading.Thread(target=ask, name=f"look-up-{host}", daemon=True).start()
    try:
        found = answer.get(timeout=min(deadline.remaining(), threading.TIMEOUT_MAX))
    except queue.Empty:
        message = f"the look-up of {host} was not answered: check the DNS servers"
        raise Unreachable(message) from None
    if isinstance(found, UnicodeError):
        message = f"{host!r} cannot be the name of a host"
        raise Unreachable(message) from found
    if isinstance(found, OSError):
        raise _with_place(found, host, port) from found
    return list(dict.fromkeys(found))


def _with_place(error: OSError, host: str, port: int) -> SFTPError:
    reason = from_lower_layer(error)
    return type(reason)(f"{host} port {port}: {reason.message}")


def _peer_of(connection: socket.socket) -> str:
    try:
        address, port = connection.getpeername()[:2]
    except OSError as error:  # it is gone already
        connection.close()
        message = "the server accepts the connection and resets it at once"
        raise ConnectionLost(message) from error
    return f"{address} port {port}"


def _tune(connection: socket.socket, stall: float) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(stall * 1000))  # milliseconds
