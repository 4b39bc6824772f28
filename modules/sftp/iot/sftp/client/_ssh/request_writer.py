"""The thread that writes a channel's requests, so that no caller ever blocks in a write."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import paramiko

from iot.sftp.client._base.errors import SFTPError
from iot.sftp.client._ssh.paramiko_internals.channel_data import send_all, widen_window
from iot.sftp.client._ssh.replies import LONGEST_PACKET
from iot.sftp.client._ssh.requests import FileWrite

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._ssh.paramiko_internals.channel_data import Channel
    from iot.sftp.client._ssh.requests import Outgoing

WRITE_SIZE = 32 * 1024  # bytes up to which waiting requests are joined: fewer, fuller SSH packets


class RequestWriter:
    """Writes what is in its queue.

    Its channel appends to the queue itself, under the lock that both share: a second lock, or a call more for each
    request, would cost time on the way of every packet.

    Attributes:
        queue: what is to be written, in this order; guarded by the lock, and `wake` is to be notified.
        wake: the condition that wakes the thread.
    """

    def __init__(
        self,
        channel: Channel,
        lock: threading.Lock,
        on_unreadable: Callable[[int, SFTPError], None],
        on_broken: Callable[[Exception], None],
        *,
        joins_requests: bool,
    ) -> None:
        """Start the thread.

        Parameters:
            channel: only this thread writes to it.
            lock: guards the queue.
            on_unreadable: called with a request's number if the file with its data cannot be read.
            on_broken: called with what ended the thread, if `end` did not.
            joins_requests: see `SFTPChannel`.
        """
        self.queue: deque[Outgoing] = deque()
        self.wake = threading.Condition(lock)
        self._channel = channel
        self._on_unreadable = on_unreadable
        self._on_broken = on_broken
        self._joins_requests = joins_requests
        self._widen_by = 0  # bytes
        self._has_ended = False
        name = f"sftp-channel-{channel.get_id()}-writer"
        self._thread = threading.Thread(target=self._write, name=name, daemon=True)
        self._thread.start()

    def widen_window(self, size: int) -> None:
        """Allow the server to send that many more bytes."""
        with self.wake:
            self._widen_by += size
            self.wake.notify()

    def end(self) -> None:
        """Drop the queue and end the thread, which closes the channel; the caller holds the lock."""
        self._has_ended = True
        self.queue.clear()
        self.wake.notify()

    def join(self) -> None:
        """Wait for the thread; it ends as soon as the transport is closed."""
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _write(self) -> None:
        buffer = memoryview(bytearray())
        try:
            while (item := self._next()) is not None:
                if isinstance(item, FileWrite):
                    if len(buffer) < LONGEST_PACKET:
                        buffer = memoryview(bytearray(LONGEST_PACKET))
                    self._write_file(item, buffer)
                elif item:
                    send_all(self._channel, memoryview(item))
        except Exception as error:  # noqa: BLE001 - whatever ends this thread ends the channel, with a reason
            self._on_broken(error)
        finally:
            with suppress(OSError, EOFError, paramiko.SSHException):  # the transport is gone, and the channel with it
                self._channel.close()

    def _write_file(self, item: FileWrite, buffer: memoryview) -> None:
        """Send a part of a file; if it cannot be read, that is the answer to the request."""
        try:
            packet = item.packet_into(buffer)
        except SFTPError as error:
            self._on_unreadable(item.number, error)
        else:
            send_all(self._channel, packet)

    def _next(self) -> Outgoing | None:
        """Wait for requests, and return one part of a file, or as many others as fit; `None` at the end."""
        with self.wake:
            while not self.queue and not self._widen_by and not self._has_ended:
                self.wake.wait()
            if self._has_ended:
                return None
            widen_by, self._widen_by = self._widen_by, 0
            item = self._join_requests()
        if widen_by:
            widen_window(self._channel, widen_by)
        return item

    def _join_requests(self) -> Outgoing:
        packets: list[bytes] = []
        size = 0
        while self.queue:
            item = self.queue[0]
            if isinstance(item, FileWrite):
                return b"".join(packets) if packets else self.queue.popleft()
            if packets and (not self._joins_requests or size + len(item) > WRITE_SIZE):
                break
            packets.append(item)
            size += len(item)
            self.queue.popleft()
        return b"".join(packets)
