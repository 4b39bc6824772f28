"""Channel data between paramiko's transport and its consumer, without pipes and copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import paramiko
from paramiko.buffered_pipe import BufferedPipe
from paramiko.common import cMSG_CHANNEL_WINDOW_ADJUST
from paramiko.message import Message

from iot.sftp.client._ssh.paramiko_internals.messages import ChannelData, Data, data_message
from iot.sftp.client._ssh.paramiko_internals.packetizers import CHANNEL_PACKET

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

CLOSED = "the channel is closed"


# Seconds for which a sender waits for more than the first bytes of the server's window. Far less than the 40 ms for
# which a kernel holds an acknowledgement back: between two jump hosts, what we send next releases the rest of it.
GATHER = 0.005
SHARE = 4  # the part of the largest window that is worth waking up for
OVERHEAD = 64  # bytes less than a server allows in one message: some count what is around the data, as paramiko does
SHORT = 4096  # bytes: longer than a request for new keys


class Channel(paramiko.Channel):
    """A channel that sends nothing when it is garbage-collected, and whose window is taken in large parts.

    The garbage collector runs in any thread, also in one that is in the middle of sending and holds the lock that
    paramiko's own `__del__` would wait for: a deadlock.
    """

    _wanted = 0  # bytes of the window that a sender waits for
    _largest = 0  # that the window was seen to have

    # paramiko's own, declared for the type checker
    closed: bool
    eof_sent: bool
    timeout: float | None
    lock: threading.Lock
    remote_chanid: int
    out_buffer_cv: threading.Condition
    out_max_packet_size: int
    out_window_size: int

    def __del__(self) -> None:
        """Do nothing."""

    def widen(self, size: int) -> None:
        """Record that the server takes so many more bytes, and wake a sender if they are worth it."""
        with self.lock:
            self.out_window_size += size
            if self.out_window_size >= self._wanted:
                self.out_buffer_cv.notify_all()

    def _window_adjust(self, m: Message) -> None:
        self.widen(m.get_int())

    def take_window(self, size: int) -> int:
        """Wait until some of the server's window is free, take up to `size` bytes of it, and return how many.

        OpenSSH reports every 64 KiB that it has taken. To send each time just so much would be thousands of turns of
        two threads, so a sender waits for a good part; but not for long, as a server need not give it ever.

        Raises:
            TimeoutError: nothing was free within the channel's timeout.
            OSError: the channel is closed.
        """
        with self.lock:
            self._largest = max(self._largest, self.out_window_size)
            self._wanted = min(size, self._largest // SHARE)
            try:
                if self.out_window_size < self._wanted:
                    self.out_buffer_cv.wait_for(self._has_wanted, GATHER)
                self._wanted = 1
                if not self._has_wanted():
                    self.out_buffer_cv.wait_for(self._has_wanted, self.timeout)
            finally:
                self._wanted = 0
            if self.closed or self.eof_sent:
                raise OSError(CLOSED)
            taken = min(size, self.out_window_size)
            if taken == 0:
                raise TimeoutError
            self.out_window_size -= taken
            return taken

    def _has_wanted(self) -> bool:
        return self.closed or self.eof_sent or self.out_window_size >= self._wanted


class Inlet(BufferedPipe):  # type: ignore[type-arg] # generic in its stubs alone
    """Replaces the pipe between paramiko's thread and a reader: data is consumed at once, in paramiko's thread."""

    def __init__(self, on_data: Callable[[Data], None], on_end: Callable[[], None]) -> None:
        """Call `on_data` in paramiko's thread with what arrives, and `on_end` at the end of the channel."""
        super().__init__()
        self._on_data = on_data
        self._on_end = on_end

    def feed(self, data: Data) -> None:
        """Pass data on; a view is valid until the call returns."""
        self._on_data(data)

    def close(self) -> None:
        """Report the end of the channel."""
        super().close()
        self._on_end()


def divert(channel: paramiko.Channel, on_data: Callable[[Data], None], on_end: Callable[[], None]) -> None:
    """Pass what arrives on a new channel to `on_data`, in paramiko's own thread; see `Inlet`."""
    channel.in_buffer = Inlet(on_data, on_end)
    channel.in_stderr_buffer = Inlet(_drop, _do_nothing)  # nothing reads it, and the window is large


def send_all(channel: Channel, data: memoryview) -> None:
    """Send data on a channel, waiting for the server's window. Only one thread at a time may send on a channel.

    Raises:
        OSError: the channel is closed.
    """
    while data:
        data = data[send_some(channel, data, overhead=OVERHEAD) :]


def send_at_once(channel: Channel, data: memoryview) -> bool:
    """Send data as one message, without waiting; return whether all of it was sent: if not, `flush` sends the rest.

    Only one thread at a time may send on a channel.

    Raises:
        BlockingIOError: nothing was sent: see `Transport.send_at_once`; or the server's window is too small.
        OSError: the channel is closed.
    """
    transport: Any = channel.transport
    longest = min(channel.out_max_packet_size, CHANNEL_PACKET)
    with channel.lock:
        if channel.closed or channel.eof_sent:
            raise OSError(CLOSED)
        if len(data) > min(channel.out_window_size, longest):
            raise BlockingIOError
        channel.out_window_size -= len(data)
    try:
        is_complete: bool = transport.send_at_once(data_message(channel.remote_chanid, data))
    except BlockingIOError:
        channel.widen(len(data))
        raise
    return is_complete


def can_send_at_once(channel: Channel) -> bool:
    """Return whether a short message can be sent on a channel without waiting."""
    transport: Any = channel.transport
    return channel.out_window_size >= SHORT and bool(transport.can_send_at_once())


def flush(channel: Channel) -> None:
    """Send the rest of what `send_at_once` has sent a part of."""
    transport: Any = channel.transport
    transport.flush()


def send_some(channel: Channel, data: memoryview, *, overhead: int = 0) -> int:
    """Send as much as the server's window takes, and return how much. Only one thread at a time may send on a channel.

    Parameters:
        channel: where to.
        data: what.
        overhead: bytes less than the server allows in one message. A packet of an inner transport shall fit into one.

    Raises:
        TimeoutError: the server's window did not open within the channel's timeout.
        OSError: the channel is closed.
    """
    size = channel.take_window(min(len(data), CHANNEL_PACKET))
    longest = min(channel.out_max_packet_size - overhead, CHANNEL_PACKET)
    transport: Any = channel.transport
    transport._send_user_message(ChannelData(channel.remote_chanid, data[:size], longest))  # noqa: SLF001 - this is the place
    return size


def consumed(channel: paramiko.Channel, size: int) -> int:
    """Record that received data was consumed; return by how many bytes the window has to be widened now, or 0."""
    return int(channel._check_add_window(size))  # type: ignore[attr-defined]  # noqa: SLF001 - this is the place


def widen_window(channel: paramiko.Channel, size: int) -> None:
    """Allow the server to send that many more bytes (RFC 4254, section 5.2)."""
    message = Message()
    message.add_byte(cMSG_CHANNEL_WINDOW_ADJUST)
    message.add_int(channel.remote_chanid)
    message.add_int(size)
    transport: Any = channel.transport
    transport._send_user_message(message)  # noqa: SLF001 - this is the place


def _drop(_: Data) -> None:
    pass


def _do_nothing() -> None:
    pass
