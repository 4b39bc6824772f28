"""Sending in a caller's thread, where nothing makes it wait: a handover to another thread would cost more."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from iot.sftp.client._ssh.paramiko_internals.packetizers import FastPacketizer

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from iot.sftp.client._ssh.packet_ciphers import PacketCipher
    from iot.sftp.client._ssh.paramiko_internals.messages import Data


class DirectPacketizer(FastPacketizer):
    """Sends a packet without waiting, if the socket takes it."""

    def __init__(self, connection: socket.socket) -> None:
        """Read from and write to a socket."""
        super().__init__(connection)
        self._unsent = b""  # the end of an encrypted packet: whatever is sent next has to wait for it
        self._unwaiting: socket.socket | None = None  # the same socket, without a time limit that makes calls wait

    def close(self) -> None:
        """End the connection, and every wait for it."""
        super().close()
        if self._unwaiting is not None:
            self._unwaiting.close()

    def send_at_once(self, message: tuple[Data, ...]) -> bool:
        """Send parts of one message without waiting; return whether all was sent: if not, `flush` sends the rest.

        Raises:
            BlockingIOError: nothing was sent: another thread is sending, or there is no cipher yet.
            EOFError: the connection has ended.
        """
        lock = self._Packetizer__write_lock
        if not lock.acquire(blocking=False):
            raise BlockingIOError
        try:
            if self._Packetizer__closed:
                raise EOFError
            sealer = self._sealer
            if sealer is None or self._unsent or self._Packetizer__compress_engine_out is not None:
                raise BlockingIOError
            connection = self._without_waiting()
            try:
                self._seal_and_send(sealer, message, connection)
            except BaseException:
                self._send_no_more()
                raise
            return not self._unsent
        finally:
            lock.release()

    def _seal_and_send(self, sealer: PacketCipher, message: tuple[Data, ...], connection: socket.socket) -> None:
        packet = self._encrypted[: self._seal(sealer, 0, message)]
        try:
            sent = connection.send(packet)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise EOFError from error
        if sent < len(packet):
            self._unsent = bytes(packet[sent:])

    def flush(self) -> None:
        """Send the rest of the last packet; wait for that."""
        with self._Packetizer__write_lock:
            try:
                self.write_all(b"")
            except BaseException:
                self._send_no_more()
                raise

    def write_all(self, out: ReadableBuffer) -> None:
        """Send bytes, behind the rest of the last packet; the caller holds the lock for writing."""
        unsent, self._unsent = self._unsent, b""
        if unsent:
            super().write_all(unsent)
        super().write_all(out)

    def _is_writable(self) -> bool:
        return not self._unsent and super()._is_writable()

    def _without_waiting(self) -> socket.socket:
        connection = self._Packetizer__socket
        if self._unwaiting is None:
            if not isinstance(connection, socket.socket):  # a tunnel: its outer connection may wait
                raise BlockingIOError
            try:
                self._unwaiting = connection.dup()
            except OSError as error:
                raise EOFError from error
            self._unwaiting.settimeout(0.0)
            if self._Packetizer__closed:
                self._unwaiting.close()
                raise EOFError
        return self._unwaiting
