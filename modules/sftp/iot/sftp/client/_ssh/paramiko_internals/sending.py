"""Who sends when: never between the messages of a key exchange, and never so that nobody reads meanwhile."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import paramiko
from paramiko.ssh_exception import SSHException

from iot.sftp.client._base.threads import start_thread
from iot.sftp.client._ssh.paramiko_internals.direct import DirectPacketizer

if TYPE_CHECKING:
    from iot.sftp.client._ssh.paramiko_internals.messages import Data
    from iot.sftp.client._ssh.paramiko_internals.packetizers import BoundedPacketizer

KEY_EXCHANGE = range(20, 50)  # message types (RFC 4250, section 4.1.2)
MOST_HELD_BACK = 1000  # answers that wait for a server that goes on asking


class SendingTransport(paramiko.Transport):
    """A transport whose own thread never waits to send, because it is the one that reads.

    A server may read nothing before we have read what it sends (ProFTPD), and new keys come only by reading. So this
    thread asks for new keys when that takes no waiting, and leaves its answers to another one where they would wait.
    """

    _answers_kex_init = False

    # paramiko's own, declared for the type checker
    active: bool
    clear_to_send: threading.Event
    clear_to_send_lock: threading.Lock

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Take what paramiko's own takes."""
        super().__init__(*arguments, **options)
        self._holding_back = threading.Lock()
        self._held_back: deque[paramiko.Message] = deque()
        self._answerer: threading.Thread | None = None

    def send_at_once(self, message: tuple[Data, ...]) -> bool:
        """Send parts of one message without waiting; return whether all was sent: if not, `flush` sends the rest.

        Raises:
            BlockingIOError: nothing was sent: keys are being exchanged, or see `DirectPacketizer`.
            EOFError: the connection has ended.
        """
        packetizer, lock = self.packetizer, self.clear_to_send_lock
        if not isinstance(packetizer, DirectPacketizer) or not lock.acquire(blocking=False):
            raise BlockingIOError
        try:
            if not self.clear_to_send.is_set() or not self.active:
                raise BlockingIOError
            return packetizer.send_at_once(message)
        finally:
            lock.release()

    def flush(self) -> None:
        """Send the rest of what `send_at_once` has sent a part of."""
        if isinstance(self.packetizer, DirectPacketizer):
            self.packetizer.flush()

    def can_send_at_once(self) -> bool:
        """Return whether a short message would be sent without waiting."""
        return self.clear_to_send.is_set() and self._is_nobody_sending()

    def _is_nobody_sending(self) -> bool:
        """Return whether a short message would be sent at once, if no thread begins to send before it."""
        if not self.clear_to_send_lock.acquire(blocking=False):
            return False
        self.clear_to_send_lock.release()
        packetizer: BoundedPacketizer = self.packetizer  # type: ignore[assignment] # the constructor has chosen it
        return packetizer.can_send_at_once()

    def join_answerer(self) -> None:
        """Wait for the thread that sends answers; it ends as soon as the connection does."""
        if self._answerer is not None:
            self._answerer.join()

    # --- the answers of paramiko's thread ---

    def _answer(self, message: paramiko.Message) -> None:
        """Send an answer, or have it sent behind those that wait already."""
        with self._holding_back:
            if not self._held_back and self._has_sent(message):
                return
            if len(self._held_back) >= MOST_HELD_BACK:
                words = "the server asks on and on, and reads no answer"
                raise SSHException(words)
            self._held_back.append(message)
            if len(self._held_back) == 1:
                self._answerer = start_thread(self._send_held_back, name="sftp-answers")

    def _has_sent(self, message: paramiko.Message) -> bool:
        """Send a message if that takes no waiting, and return whether it did not."""
        if not self.clear_to_send.is_set() or not self.clear_to_send_lock.acquire(blocking=False):
            return False
        try:
            packetizer: BoundedPacketizer = self.packetizer  # type: ignore[assignment] # the constructor has chosen it
            can_send = packetizer.can_send_at_once()
            if can_send:
                packetizer.send_message(message)
            return can_send
        finally:
            self.clear_to_send_lock.release()

    def _send_held_back(self) -> None:
        with suppress(OSError, EOFError, SSHException):  # the connection has ended, which ends its thread too
            while True:
                self._send_user_message(self._held_back[0])
                with self._holding_back:
                    self._held_back.popleft()
                    if not self._held_back:
                        return

    # --- paramiko's own steps ---

    def _send_user_message(self, data: paramiko.Message) -> None:
        if threading.current_thread() is self:
            self._answer(data)
        else:
            super()._send_user_message(data)  # type: ignore[misc]

    def _send_message(self, data: paramiko.Message) -> None:
        if threading.current_thread() is self and data.asbytes()[0] not in KEY_EXCHANGE:
            self._answer(data)
        else:
            super()._send_message(data)  # type: ignore[misc]

    def _negotiate_keys(self, m: paramiko.Message) -> None:
        """Answer a server that asks for new keys; no other thread is in the middle of sending by then."""
        self._answers_kex_init = True
        try:
            super()._negotiate_keys(m)  # type: ignore[misc]
        finally:
            self._answers_kex_init = False

    def _send_kex_init(self) -> None:
        """Ask for new keys, once that takes no waiting: paramiko's thread calls this again until then.

        This avoids a deadlock: see the class. An answer to the server's own request is not postponed: the messages of
        the key exchange follow at once, and must not come before it (RFC 4253, section 7.1).
        """
        if self.initial_kex_done and not self._answers_kex_init and threading.current_thread() is self:
            self.clear_to_send.clear()  # no thread begins to send
            if not self._is_nobody_sending():
                return
        super()._send_kex_init()  # type: ignore[misc]
