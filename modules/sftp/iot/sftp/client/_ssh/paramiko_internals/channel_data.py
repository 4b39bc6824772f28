"""Channel data between paramiko's transport and its consumer, without pipes and copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import paramiko
from paramiko.buffered_pipe import BufferedPipe
from paramiko.common import cMSG_CHANNEL_WINDOW_ADJUST
from paramiko.message import Message

from iot.sftp.client._ssh.paramiko_internals.messages import ChannelData, Data
from iot.sftp.client._ssh.paramiko_internals.packetizers import CHANNEL_PACKET

if TYPE_CHECKING:
    from collections.abc import Callable

CLOSED = "the channel is closed"


class Channel(paramiko.Channel):
    """A channel that sends nothing when it is garbage-collected.

    The garbage collector runs in any thread, also in one that is in the middle of sending and holds the lock that
    paramiko's own `__del__` would wait for: a deadlock.
    """

    def __del__(self) -> None:
        """Do nothing."""


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


def send_all(channel: paramiko.Channel, data: memoryview) -> None:
    """Send data on a channel, waiting for the server's window. Only one thread at a time may send on a channel.

    Raises:
        OSError: the channel is closed.
    """
    transport: Any = channel.get_transport()
    while data:
        with channel.lock:
            size = channel._wait_for_send_window(min(len(data), CHANNEL_PACKET))  # type: ignore[attr-defined]  # noqa: SLF001 - this is the place
        if size == 0:
            raise OSError(CLOSED)
        transport._send_user_message(ChannelData(channel.remote_chanid, data[:size]))  # noqa: SLF001 - this is the place
        data = data[size:]


def send_at_once(channel: paramiko.Channel, data: memoryview) -> bool:
    """Send data as one message, without waiting; return whether all of it was sent: if not, `flush` sends the rest.

    Only one thread at a time may send on a channel.

    Raises:
        BlockingIOError: nothing was sent: see `Transport.send_at_once`; or the server's window is too small.
        OSError: the channel is closed.
    """
    raw: Any = channel
    with raw.lock:
        if raw.closed or raw.eof_sent:
            raise OSError(CLOSED)
        if len(data) > min(raw.out_window_size, raw.out_max_packet_size, CHANNEL_PACKET):
            raise BlockingIOError
        raw.out_window_size -= len(data)
    try:
        is_complete: bool = raw.transport.send_at_once(ChannelData(raw.remote_chanid, data))
    except BlockingIOError:
        with raw.lock:
            raw.out_window_size += len(data)
        raise
    return is_complete


def flush(channel: paramiko.Channel) -> None:
    """Send the rest of what `send_at_once` has sent a part of."""
    raw: Any = channel
    raw.transport.flush()


def send_some(channel: paramiko.Channel, data: memoryview) -> int:
    """Send as much as one message takes, and return how much. Only one thread at a time may send on a channel.

    A whole packet of an inner transport fits into one message: unlike paramiko's own, this uses all that the server
    allows.

    Raises:
        TimeoutError: the server's window did not open within the channel's timeout.
        OSError: the channel is closed.
    """
    raw: Any = channel
    with raw.lock:
        if raw.out_window_size == 0 and not raw.closed:
            raw.out_buffer_cv.wait(raw.timeout)
        if raw.closed or raw.eof_sent:
            raise OSError(CLOSED)
        size: int = min(len(data), raw.out_window_size, raw.out_max_packet_size, CHANNEL_PACKET)
        if size == 0:
            raise TimeoutError
        raw.out_window_size -= size
    raw.transport._send_user_message(ChannelData(raw.remote_chanid, data[:size]))  # noqa: SLF001 - this is the place
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
    transport: Any = channel.get_transport()
    transport._send_user_message(message)  # noqa: SLF001 - this is the place


def _drop(_: Data) -> None:
    pass


def _do_nothing() -> None:
    pass
