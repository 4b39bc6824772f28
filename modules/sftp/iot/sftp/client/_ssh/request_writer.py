"""Write a channel's requests: in the caller's thread if nothing makes that wait, else in a thread of the channel.

So no caller ever blocks in a write, and most requests take no handover between threads, which costs more than sending.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import paramiko

from iot.sftp.client._base.errors import SFTPError
from iot.sftp.client._base.threads import start_thread
from iot.sftp.client._ssh.buffers import new_buffer
from iot.sftp.client._ssh.paramiko_internals.channel_data import flush, send_all, send_at_once, widen_window
from iot.sftp.client._ssh.replies import LONGEST_PACKET
from iot.sftp.client._ssh.requests import FileWrite, Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._ssh.paramiko_internals.channel_data import Channel

WRITE_SIZE = 32 * 1024  # bytes up to which waiting requests are joined: fewer, fuller SSH packets


class RequestWriter:
    """Writes what is in its queue.

    Its channel appends to the queue itself, under the lock that both share: a second lock, or a call more for each
    request, would cost time on the way of every packet.

    Attributes:
        queue: what is to be written, in this order; guarded by the lock, and `send` is to be called afterwards.
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

        Raises:
            LocalBusy: no thread is left.
        """
        self.queue: deque[Outgoing] = deque()
        self._lock = lock
        self._wake = threading.Condition(lock)  # where nobody waits for it, the lock alone costs less
        self._channel = channel
        self._on_unreadable = on_unreadable
        self._on_broken = on_broken
        self._joins_requests = joins_requests
        self._widen_by = 0  # bytes
        self._is_sending = False  # some thread, which looks at the queue again afterwards
        self._has_rest = False  # of a packet that was sent in part
        self._has_ended = False
        name = f"sftp-channel-{channel.get_id()}-writer"
        self._thread = start_thread(self._write, name=name)

    def send(self) -> None:
        """Send what is in the queue, in this thread if nothing makes it wait."""
        with self._lock:
            if self._is_sending or not self.queue:
                return
            batch, size = self._take_batch()
            if self._has_rest or self._widen_by or size > WRITE_SIZE:
                self._leave(batch)
                return
            self._is_sending = True
        try:
            self._send_at_once(batch, size)
        except Exception as error:  # noqa: BLE001 - whatever it is ends the channel, with a reason
            self._on_broken(error)
        except BaseException:  # a signal's, such as KeyboardInterrupt: how much was sent is not known
            self._on_broken(InterruptedError("a signal ended a call while it was sending"))
            raise

    def widen_window(self, size: int) -> None:
        """Allow the server to send that many more bytes."""
        with self._wake:
            self._widen_by += size
            self._wake.notify()

    def end(self) -> None:
        """Drop the queue and end the thread, which closes the channel; the caller holds the lock."""
        self._has_ended = True
        self.queue.clear()
        self._wake.notify()

    def join(self) -> None:
        """Wait for the thread; it ends as soon as the transport is closed."""
        if self._thread is not threading.current_thread():
            self._thread.join()

    # --- in the thread of a caller ---

    def _send_at_once(self, batch: list[Outgoing], size: int) -> None:
        is_complete, left = True, list[Outgoing]()
        try:
            data = self._assemble(batch, memoryview(bytearray(size)))
            is_complete = not data or send_at_once(self._channel, data)
        except BlockingIOError:
            left = batch
        finally:
            with self._lock:
                self._is_sending = False
                self._has_rest |= not is_complete
                self._leave(left)

    def _leave(self, batch: list[Outgoing]) -> None:
        """Leave requests, and whatever else there is to do, to the thread; the caller holds the lock."""
        if not self._has_ended:
            self.queue.extendleft(reversed(batch))
        if self.queue or self._has_rest or self._widen_by or self._has_ended:
            self._wake.notify()

    # --- in the thread of the channel ---

    def _write(self) -> None:
        buffer = memoryview(b"")
        try:
            while (found := self._next()) is not None:
                batch, size = found
                if len(buffer) < size:
                    buffer = new_buffer(max(size, LONGEST_PACKET))
                send_all(self._channel, self._assemble(batch, buffer))
                with self._lock:
                    self._is_sending = False
        except Exception as error:  # noqa: BLE001 - whatever ends this thread ends the channel, with a reason
            self._on_broken(error)
        finally:
            with suppress(OSError, EOFError, paramiko.SSHException):  # the transport is gone, and the channel with it
                self._channel.close()

    def _next(self) -> tuple[list[Outgoing], int] | None:
        """Wait for requests, and return what goes into one message, and its size; `None` at the end."""
        with self._wake:
            while not self._has_ended and (self._is_sending or not (self.queue or self._widen_by or self._has_rest)):
                self._wake.wait()
            if self._has_ended:
                return None
            self._is_sending = True
            widen_by, self._widen_by = self._widen_by, 0
            has_rest, self._has_rest = self._has_rest, False
            found = self._take_batch()
        if has_rest:
            flush(self._channel)
        if widen_by:
            widen_window(self._channel, widen_by)
        return found

    # --- what both do ---

    def _take_batch(self) -> tuple[list[Outgoing], int]:
        """Take from the queue what goes into one message, and return its size too; the caller holds the lock."""
        batch: list[Outgoing] = []
        size = 0
        while self.queue:
            length = len(self.queue[0])
            if batch and (not self._joins_requests or size + length > WRITE_SIZE):
                break
            batch.append(self.queue.popleft())
            size += length
        return batch, size

    def _assemble(self, batch: list[Outgoing], view: memoryview) -> memoryview:
        """Return the packets of requests, one behind the other; if a file cannot be read, that is the answer to one."""
        end = 0
        for item in batch:
            if not isinstance(item, FileWrite):
                start, end = end, end + len(item)
                view[start:end] = item
                continue
            try:
                end += item.packet_into(view[end:])
            except SFTPError as error:
                self._on_unreadable(item.number, error)
        return view[:end]
