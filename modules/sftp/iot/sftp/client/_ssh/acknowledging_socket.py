"""A socket that acknowledges at once what it has received.

A peer without TCP_NODELAY sends no short piece while an earlier one has not been acknowledged (Nagle's algorithm, RFC
9293, section 3.7.4), and the kernel acknowledges together with what is sent next, or 40 ms later: so each answer in two
pieces takes 40 ms, and an upload that waits for the window stands still for as long. sshd has TCP_NODELAY only on
connections with a session: not on a jump host's, nor while somebody logs in; proxies seldom have it.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux alone has it


class AcknowledgingSocket(socket.socket):
    """A TCP connection that acknowledges at once what `recv` and `recv_into` return.

    Attributes:
        acknowledges_at_once: whether it does. It costs a packet wherever an acknowledgement could go with what is sent
            next, so it is set to false where the peer is known to have TCP_NODELAY.
    """

    acknowledges_at_once = QUICKACK is not None

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Receive up to `size` bytes."""
        data = super().recv(size, flags)
        if self.acknowledges_at_once:
            self._acknowledge()
        return data

    def recv_into(self, buffer: WriteableBuffer, size: int = 0, flags: int = 0) -> int:
        """Receive into a buffer; return the number of bytes."""
        count = super().recv_into(buffer, size, flags)
        if self.acknowledges_at_once:
            self._acknowledge()
        return count

    def _acknowledge(self) -> None:
        assert QUICKACK is not None  # noqa: S101 - see above
        try:
            self.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)  # lasts until something is sent (tcp(7))
        except OSError:
            self.acknowledges_at_once = False  # another thread has closed it, which the next call reports
