"""A forwarded connection on a channel, as the socket of another transport: without a copy through the kernel."""

from __future__ import annotations

import socket
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from paramiko.ssh_exception import SSHException

from iot.sftp.client._base.deadline import GLANCE
from iot.sftp.client._base.errors import ConnectionLost
from iot.sftp.client._ssh.paramiko_internals.channel_data import (
    can_send_at_once,
    consumed,
    divert,
    send_some,
    widen_window,
)
from iot.sftp.client._ssh.paramiko_internals.failures import ReasonError

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._base.errors import SFTPError
    from iot.sftp.client._ssh.paramiko_internals.channel_data import Channel
    from iot.sftp.client._ssh.paramiko_internals.messages import Data

# What a jump host may send before the inner transport has read it: so much memory at most, and so many bytes for each
# round trip. OpenSSH's own client has 2 MiB.
TUNNEL_WINDOW = 4 << 20


class Tunnel:
    """Behaves like a connected socket for a transport; what the transport does not use is missing.

    It may be read by one thread and written by another one. Data is kept from the thread of the outer transport until
    the inner one reads it; the window bounds it, so that the outer one never waits.
    """

    _closed = False  # paramiko asks for it
    _sends_no_more = False

    def __init__(self, why_ended: Callable[[], SFTPError | None]) -> None:
        """Take a function that returns why the outer connection ended, or `None` if it did not break by itself."""
        self._why_ended = why_ended
        self._timeout: float | None = None
        self._arrived = threading.Condition()
        self._parts: deque[memoryview] = deque()
        self._held = 0  # bytes of them
        self._has_ended = False
        self._channel: Channel | None = None

    def attach(self, channel: Channel) -> None:
        """Use a channel that is being opened; called in the thread of the outer transport."""
        self._channel = channel
        channel.settimeout(GLANCE)
        divert(channel, self._receive, self._end)

    # --- in the thread of the outer transport ---

    def _receive(self, data: Data) -> None:
        with self._arrived:
            self._held += len(data)
            if self._held > TUNNEL_WINDOW:  # RFC 4254, section 5.2; else a jump host could fill our memory
                raise ReasonError(ConnectionLost("the server sent more than the window of a forwarded connection"))
            self._parts.append(memoryview(bytes(data)))
            self._arrived.notify()

    def _end(self) -> None:
        with self._arrived:
            self._has_ended = True
            self._arrived.notify_all()

    # --- what a transport uses of a socket ---

    def settimeout(self, seconds: float | None) -> None:
        """Limit each wait for data; one for the server's window takes 0.1 s, as nothing ends it."""
        self._timeout = seconds

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes, and none at the end."""
        buffer = bytearray(size)
        return bytes(buffer[: self.recv_into(memoryview(buffer))])

    def recv_into(self, buffer: memoryview) -> int:
        """Receive into a buffer; return the number of bytes, 0 at the end.

        Raises:
            TimeoutError: nothing came in time.
            ReasonError: the outer connection broke.
        """
        with self._arrived:
            if not self._parts and not self._has_ended:
                self._arrived.wait(self._timeout)
            size = self._take(buffer)
            self._held -= size
            has_ended = self._has_ended
        if size:
            self._widen(size)
            return size
        if not has_ended:
            raise TimeoutError
        reason = None if self._closed else self._why_ended()
        if reason is not None:
            raise ReasonError(reason)
        return 0

    def send(self, data: Data) -> int:
        """Send as much as fits into one message; return the number of bytes.

        Raises:
            TimeoutError: the window did not open in time.
            OSError: the connection has ended.
        """
        channel = self._channel
        if channel is None or self._closed or self._sends_no_more:
            message = "the tunnel is closed"
            raise OSError(message)
        return send_some(channel, memoryview(data))

    def is_writable(self) -> bool:
        """Return whether a short message can be sent without waiting for the outer server."""
        channel = self._channel
        return channel is None or self._has_ended or can_send_at_once(channel)

    def shutdown(self, how: int) -> None:
        """Send nothing more; and wake the thread that reads, unless what has come can still be read."""
        self._sends_no_more = True
        if how != socket.SHUT_WR:
            self.close()

    def close(self) -> None:
        """Stop reading and writing. Nothing is sent: this must not wait for a dead peer."""
        self._closed = True
        self._end()

    # --- at its end ---

    def hang_up(self) -> None:
        """Tell the outer server to end the forwarded connection."""
        if self._channel is not None:
            self._channel.close()

    def _take(self, buffer: memoryview) -> int:
        start = 0
        while self._parts and start < len(buffer):
            part = self._parts.popleft()
            end = min(len(buffer), start + len(part))
            buffer[start:end] = part[: end - start]
            if len(part) > end - start:
                self._parts.appendleft(part[end - start :])
            start = end
        return start

    def _widen(self, size: int) -> None:
        channel = self._channel
        if channel is not None and (more := consumed(channel, size)):
            with suppress(OSError, EOFError, SSHException):  # the next call reports the end, with its reason
                widen_window(channel, more)
