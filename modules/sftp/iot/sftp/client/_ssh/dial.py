"""From a host's name to a connected TCP socket, address by address, within a time limit."""

from __future__ import annotations

import queue
import socket
import threading
from typing import TYPE_CHECKING, Any

from iot.sftp.client._base.errors import SFTPError, Unreachable
from iot.sftp.client._base.lower_layers import from_lower_layer

if TYPE_CHECKING:
    from iot.sftp.client._base.deadline import Deadline

AddressInfo = tuple[Any, ...]


def dial(host: str, port: int, deadline: Deadline, stall: float) -> socket.socket:
    """Connect to the first address of `host` that accepts.

    Parameters:
        host: a DNS name, an IPv4 or an IPv6 address.
        port: 1 to 65535.
        deadline: for all addresses together; each gets its fair part of what is left.
        stall: seconds after which the kernel gives up on a peer that acknowledges nothing (RFC 5482), where it can.

    Raises:
        Unreachable: the name is not known, or no address accepts.
        DeadlineExceeded: the time ran out.
    """
    addresses = look_up(host, port, deadline)
    failure: SFTPError = Unreachable(f"{host} has no address")
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        share = deadline.remaining() / (len(addresses) - number)
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(max(share, 0.001))
            connection.connect(address)
            _tune(connection, stall)
        except OSError as error:
            connection.close()
            failure = _named(error, host, port)
        else:
            return connection
    raise failure


def look_up(host: str, port: int, deadline: Deadline) -> list[AddressInfo]:
    """Ask the resolver, which has no time limit of its own: in a thread that is left to itself if it takes too long.

    Raises:
        Unreachable: the name is not known, or nobody answered.
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
        raise _named(found, host, port) from found
    return list(dict.fromkeys(found))


def _named(error: OSError, host: str, port: int) -> SFTPError:
    named = from_lower_layer(error)
    return type(named)(f"{host} port {port}: {named.message}")


def _tune(connection: socket.socket, stall: float) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(stall * 1000))
