"""From a host's name to a connected socket, within a time limit.

A `Dialer` is the first stages of a handshake. Another way to a server (through a proxy, through another SSH server) is
another dialer, and nothing else in the handshake changes.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from iot.sftp.client._base.errors import ConnectionLost, SFTPError, Unreachable
from iot.sftp.client._base.lower_layers import from_lower_layer
from iot.sftp.client._base.threads import start_thread
from iot.sftp.client._ssh.acknowledging_socket import AcknowledgingSocket

if TYPE_CHECKING:
    from iot.sftp.client._base.deadline import Deadline

AddressInfo = tuple[Any, ...]
Stream = Any  # a socket, or what behaves like one for a transport


class Hop(Protocol):
    """A proxy or another SSH server on the way to a server."""

    @property
    def kind(self) -> str:
        """`proxy` or `jump`: the name of its stage."""

    @property
    def found(self) -> str:
        """What it showed when it was opened, for people."""

    @property
    def advice(self) -> str:
        """What to do about that, or nothing."""

    def open(self, deadline: Deadline) -> None:
        """Connect to it, over the hops before it, and log in there; do nothing if that is done.

        Raises:
            SFTPError: the hop is named in the message.
        """


class Dialer(Protocol):
    """A way to a server."""

    peer: str  # what accepted the connection, for people; set by `connect`

    @property
    def hops(self) -> Sequence[Hop]:
        """What has to be opened between `look_up` and `connect`, in this order."""

    def look_up(self, deadline: Deadline) -> list[str]:
        """Resolve names, and return the addresses for people.

        Raises:
            Unreachable: a name is not known, or there was no answer.
        """

    def connect(self, deadline: Deadline) -> Stream:
        """Connect to an address that was looked up, over the hops.

        Raises:
            SFTPError: none accepts.
        """

    def close(self, reason: SFTPError) -> None:
        """End all hops, and whatever is under way with one: it fails with `reason`. Idempotent."""


class DirectDialer:
    """Connects to the server itself: to the first of its addresses that accepts."""

    hops: Sequence[Hop] = ()

    def __init__(self, host: str, port: int, stall: float, kind: str = "") -> None:
        """Take the server.

        Parameters:
            host: a DNS name, an IPv4 or an IPv6 address.
            port: 1 to 65535.
            stall: seconds after which the kernel gives up on a peer that acknowledges nothing (RFC 5482), where it can.
            kind: of a hop, for messages; empty for the server itself.
        """
        self._host, self._port, self._stall = host, port, stall
        self._place = hop_name(kind, host, port) if kind else f"{host} port {port}"
        self._addresses: list[AddressInfo] = []
        self.peer = ""

    def look_up(self, deadline: Deadline) -> list[str]:
        """Resolve the host's name.

        Raises:
            Unreachable: the name is not known, or there was no answer.
        """
        self._addresses = look_up(self._host, self._port, deadline, self._place)
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
            connection = AcknowledgingSocket(family, kind, protocol)
            try:
                connection.settimeout(max(share, 0.001))
                connection.connect(address)
                _tune(connection, self._stall)
            except OSError as error:
                connection.close()
                failure = named(from_lower_layer(error), self._place)
            else:
                self.peer = _peer_of(connection, self._place)
                return connection
        raise failure

    def close(self, reason: SFTPError) -> None:
        """Do nothing: there is no hop."""


def hop_name(kind: str, host: str, port: int) -> str:
    """Return what a hop is called in messages."""
    return f"{kind} {host!r} port {port}"


def named(error: SFTPError, place: str) -> SFTPError:
    """Return an error with the place where it occurred."""
    return type(error)(f"{place}: {error.message}")


def sent_name(host: str, place: str) -> str:
    """Return a host's name as it is sent to a hop, which resolves it (RFC 5890).

    Raises:
        Unreachable: it cannot be one.
    """
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        message = f"{place}: {host!r} cannot be the name of a host"
        raise Unreachable(message) from None


def look_up(host: str, port: int, deadline: Deadline, place: str) -> list[AddressInfo]:
    """Ask the resolver, which has no timeout of its own: in a thread that is abandoned if it takes too long.

    Raises:
        Unreachable: the name is not known, or there was no answer.
        LocalBusy: no thread is left.
    """
    answer: queue.SimpleQueue[list[AddressInfo] | OSError | UnicodeError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except (OSError, UnicodeError) as error:
            answer.put(error)

    start_thread(ask, name=f"look-up-{host}")
    try:
        found = answer.get(timeout=min(deadline.remaining(), threading.TIMEOUT_MAX))
    except queue.Empty:
        message = f"{place}: the look-up of the name was not answered: check the DNS servers"
        raise Unreachable(message) from None
    if isinstance(found, UnicodeError):
        message = f"{host!r} cannot be the name of a host"
        raise Unreachable(message) from found
    if isinstance(found, OSError):
        raise named(from_lower_layer(found), place) from found
    return list(dict.fromkeys(found))


def _peer_of(connection: socket.socket, place: str) -> str:
    try:
        address, port = connection.getpeername()[:2]
    except OSError as error:  # it is gone already
        connection.close()
        message = f"{place}: the server accepts the connection and resets it at once"
        raise ConnectionLost(message) from error
    return f"{address} port {port}"


def _tune(connection: socket.socket, stall: float) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(stall * 1000))  # milliseconds
