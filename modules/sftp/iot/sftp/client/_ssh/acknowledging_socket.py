"""A socket that acknowledges at once what it has received.

A peer without TCP_NODELAY sends no short piece while an earlier one has not been acknowledged (Nagle's algorithm, RFC
9293, section 3.7.4), and the kernel acknowledges together with what is sent next, or 40 ms later: so each answer in two
pieces takes 40 ms, and an upload that waits for the window stands still for as long. sshd has TCP_NODELAY only on
connections with a session: not on a jump host's, nor while somebody logs in; proxies seldom have it.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from typing_extensions import Self

QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux alone has it


@dataclass
class Acknowledging:
    """How a connection acknowledges what it receives.

    Attributes:
        at_once: costs a packet wherever an acknowledgement could go with what is sent next, so it is set to false where
            the peer is known to have TCP_NODELAY.
    """

    at_once: bool = QUICKACK is not None


class AcknowledgingSocket(socket.socket):
    """A TCP connection that acknowledges at once what `recv` and `recv_into` return.

    Attributes:
        acknowledging: whether it does; the same for all duplicates of one socket.
    """

    def __init__(
        self,
        family: int = socket.AF_INET,
        type: int = socket.SOCK_STREAM,  # noqa: A002 - as in its base class
        proto: int = 0,
        fileno: int | None = None,
    ) -> None:
        """Make a socket, as its base class does."""
        super().__init__(family, type, proto, fileno)
        self.acknowledging = Acknowledging()

    def dup(self) -> Self:
        """Return a duplicate: what is set for one of them holds for the other too."""
        other = super().dup()
        other.acknowledging = self.acknowledging
        return other

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Receive up to `size` bytes."""
        data = super().recv(size, flags)
        if self.acknowledging.at_once:
            self._acknowledge()
        return data

    def recv_into(self, buffer: WriteableBuffer, size: int = 0, flags: int = 0) -> int:
        """Receive into a buffer; return the number of bytes."""
        count = super().recv_into(buffer, size, flags)
        if self.acknowledging.at_once:
            self._acknowledge()
        return count

    def _acknowledge(self) -> None:
        assert QUICKACK is not None  # noqa: S101 - see above
        try:
            self.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)  # lasts until something is sent (tcp(7))
        except OSError:
            self.acknowledging.at_once = False  # another thread has closed it, which the next call reports
