"""Reading in the thread of a caller that waits: a handover of each answer from another thread would cost more.

One thread at a time reads, and hands on what it reads to whomever it is for. That is paramiko's own thread, but for the
time in which it rests: when a caller would have read, and no answer is owed. Then callers read while they wait. What
is not data on a channel, such as new keys, and whatever fails, is left to paramiko's thread, which goes on from there.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from paramiko.packet import NeedRekeyException
from paramiko.ssh_exception import SSHException

from iot.sftp.client._ssh.paramiko_internals.direct import DirectPacketizer
from iot.sftp.client._ssh.paramiko_internals.packetizers import PATIENCE, BoundedPacketizer

if TYPE_CHECKING:
    from collections.abc import Callable

    import paramiko
    from paramiko.packet import Packetizer

    from iot.sftp.client._ssh.packet_ciphers import PacketCipher

REST = 0.01  # seconds without a caller that reads, after which paramiko's thread reads again
CROWD = 0.1  # seconds for which it does not rest, once a caller has left something to it: others call too


class _NothingCameError(Exception):
    """A caller has no more time to wait for what the server sends."""


class ReadingPacketizer(DirectPacketizer):
    """Lets callers read while they wait.

    Attributes:
        is_owed: returns whether the server owes any answer: then somebody has to read all the time.
    """

    def __init__(self, connection: socket.socket) -> None:
        """Read from and write to a socket."""
        super().__init__(connection)
        self.is_owed: Callable[[], bool] = _always
        self._reading = threading.Lock()  # held by whoever reads
        self._reading.acquire()  # for paramiko's thread
        self._is_to_rest = False
        self._was_read = False  # by a caller, since paramiko's thread has looked
        self._bell = threading.Event()  # ends the rest
        self._awake_until = 0.0  # on the monotonic clock
        self._left: memoryview | BaseException | None = None  # to paramiko's thread
        self._until: float | None = None  # when the caller that reads has to end, on the monotonic clock
        self._is_waiting = False  # that caller, with nothing received that was not taken note of

    def close(self) -> None:
        """End the connection, and every wait for it."""
        super().close()
        self._bell.set()

    # --- in the thread of a caller ---

    def read_until(self, is_done: Callable[[], bool], seconds: float) -> bool:
        """Read what the server sends until something is done by that, and return whether it is.

        Parameters:
            is_done: whether what the caller waits for is there.
            seconds: after which this ends at the latest. It ends at once where another thread reads.
        """
        if not self._reading.acquire(blocking=False):
            self._is_to_rest = True
            return is_done()
        try:
            opener = self._opener
            if opener is not None and self._left is None and not self._Packetizer__need_rekey:
                self._was_read = True
                self._until = time.monotonic() + seconds
                self._read(opener, is_done, self._until)
        finally:
            self._until, self._is_waiting = None, False
            self._reading.release()
            if self._left is not None or self._Packetizer__need_rekey or self.is_owed():
                self._awake_until = time.monotonic() + CROWD
                self._bell.set()
        return is_done()

    def _read(self, opener: PacketCipher, is_done: Callable[[], bool], until: float) -> None:
        try:
            while not is_done() and not self._Packetizer__need_rekey and time.monotonic() < until:
                payload = super()._next_payload(opener)
                if not self._hand_on(payload):
                    self._left = payload
                    return
        except (_NothingCameError, NeedRekeyException):
            pass
        except Exception as error:  # noqa: BLE001 - whatever it is ends the connection, with a reason
            self._left = EOFError() if self._Packetizer__closed else error
        except BaseException:  # a signal's, such as KeyboardInterrupt: how much was taken is not known
            if not self._is_waiting:
                self._left = SSHException("a signal ended a call while it was receiving")
            raise

    def _receive(self) -> int:
        """Receive in the thread that reads."""
        if self._until is not None:
            self._is_waiting = True
            poll = select.poll()
            poll.register(self._Packetizer__socket, select.POLLIN)
            if not poll.poll(max(0.0, self._until - time.monotonic()) * 1000):
                raise _NothingCameError
            self._is_waiting = False
        return super()._receive()

    # --- in paramiko's thread ---

    def _next_payload(self, opener: PacketCipher) -> memoryview:
        """Receive a packet, or go on with what a caller has left; rest before that where callers read."""
        if self._is_to_rest and not self.is_owed() and time.monotonic() >= self._awake_until:
            self._rest()
            if isinstance(left := self._left, memoryview):
                self._left = None
                return left
            if left is not None:
                raise left
            if self._Packetizer__need_rekey:
                raise NeedRekeyException
        return super()._next_payload(opener)

    def _rest(self) -> None:
        """Let callers read, as long as there are any, and the server owes no answer that nobody waits for."""
        self._is_to_rest = False
        self._bell.clear()
        self._reading.release()
        if not self.is_owed():  # a caller that could not read has made its request before: it is not missed here
            while not self._bell.wait(REST) and (self._was_read or self._until is not None):
                self._was_read = False
        while not self._reading.acquire(timeout=PATIENCE):
            if self._until is None:  # nobody reads, and yet
                message = "a signal ended a call while it was about to receive"
                raise SSHException(message)


def read_while_waiting(transport: paramiko.Transport, is_done: Callable[[], bool], seconds: float) -> bool:
    """Read what the server sends in this thread, if no other one does: see `ReadingPacketizer.read_until`."""
    packetizer = transport.packetizer
    return isinstance(packetizer, ReadingPacketizer) and packetizer.read_until(is_done, seconds)


def let_callers_read(transport: paramiko.Transport, is_owed: Callable[[], bool]) -> None:
    """Allow callers to read, from now on: see `ReadingPacketizer`. What comes through a tunnel, they do not read."""
    packetizer = transport.packetizer
    if isinstance(packetizer, ReadingPacketizer) and isinstance(transport.sock, socket.socket):
        packetizer.is_owed = is_owed


def packetizer_class() -> type[Packetizer]:
    """Return the fastest packetizer, if this version of `cryptography` can work from buffer to buffer."""
    can_be_fast = hasattr(AESGCM, "decrypt_into") and hasattr(AESGCM, "encrypt_into")
    return ReadingPacketizer if can_be_fast else BoundedPacketizer


def _always() -> bool:
    return True
