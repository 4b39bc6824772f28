"""Packetizers: from the socket to SSH messages and back, with bounds, and without copies where the cipher allows it."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from paramiko.common import MSG_CHANNEL_DATA
from paramiko.message import Message
from paramiko.packet import NeedRekeyException, Packetizer
from paramiko.ssh_exception import SSHException

from iot.sftp.client._base.deadline import GLANCE
from iot.sftp.client._base.errors import Unsupported
from iot.sftp.client._ssh.chacha import ChaChaPoly
from iot.sftp.client._ssh.paramiko_internals.failures import ReasonError
from iot.sftp.client._ssh.paramiko_internals.messages import LENGTH, ChannelData, ReceivedData, bounded, packet_into

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

CHANNEL_PACKET = 256 * 1024  # bytes of channel data in one packet, at most
# Bytes of a packet, at most: channel data is bounded by CHANNEL_PACKET, and every other message must be accepted up to
# 35,000 bytes (RFC 4253, section 6.1).
LONGEST_PACKET = CHANNEL_PACKET + 64 * 1024
RECEIVE_SIZE = 2 * LONGEST_PACKET
LONGEST_LINE = 8192  # bytes, before the first packet: OpenSSH's limit; RFC 4253, section 4.2, allows 255
TAG = 16  # bytes (RFC 5647, section 7)
PATIENCE = 10.0  # seconds of a wait for the server, once keys are agreed on; `close` ends it


class BoundedPacketizer(Packetizer):
    """Accepts no longer line and no longer packet from a server than the protocol allows."""

    # paramiko's own, declared for the type checker
    _read_timeout: Callable[[float], bytes]
    _Packetizer__remainder: bytes

    def greeting_line(self, timeout: float) -> bytes:
        """Return the next line before the first packet, or the part of it that came before the connection ended.

        Raises:
            ReasonError: it is too long.
            EOFError, OSError: the connection ended, or nothing came in time.
        """
        while b"\n" not in self._Packetizer__remainder:
            if len(self._Packetizer__remainder) > LONGEST_LINE:
                message = f"the server began with a line of more than {LONGEST_LINE} bytes: is this an SSH server?"
                raise ReasonError(Unsupported(message))
            try:
                self._Packetizer__remainder += self._read_timeout(timeout)
            except (EOFError, OSError):
                if not self._Packetizer__remainder:
                    raise
                self._Packetizer__remainder += b"\n"
        line, _, self._Packetizer__remainder = self._Packetizer__remainder.partition(b"\n")
        return line.removesuffix(b"\r")

    def read_message(self) -> tuple[int, Message]:
        """Return the next message's type and its fields."""
        kind, message = super().read_message()
        return kind, bounded(kind, message)

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:  # noqa: FBT001, FBT002 - paramiko's signature
        """Return exactly `n` bytes."""
        if n > LONGEST_PACKET:
            message = f"the server announced an SSH packet of more than {LONGEST_PACKET} bytes"
            raise SSHException(message)
        return super().read_all(n, check_rekey)


class FastPacketizer(BoundedPacketizer):
    """Encrypts and decrypts AES-GCM and ChaCha20-Poly1305 from buffer to buffer."""

    # paramiko's own, declared for the type checker
    _inc_iv_counter: Callable[[bytes], bytes]
    _trigger_rekey: Callable[[], None]
    _Packetizer__aead_in: bool
    _Packetizer__aead_out: bool
    _Packetizer__block_engine_in: AESGCM | ChaChaPoly
    _Packetizer__block_engine_out: AESGCM | ChaChaPoly
    _Packetizer__closed: bool
    _Packetizer__handshake_complete: bool
    _Packetizer__compress_engine_in: object
    _Packetizer__compress_engine_out: object
    _Packetizer__iv_in: bytes
    _Packetizer__iv_out: bytes
    _Packetizer__need_rekey: bool
    _Packetizer__received_bytes: int
    _Packetizer__received_packets: int
    _Packetizer__sent_bytes: int
    _Packetizer__sent_packets: int
    _Packetizer__sequence_number_in: int
    _Packetizer__sequence_number_out: int
    _Packetizer__socket: socket.socket
    _Packetizer__write_lock: threading.RLock

    def __init__(self, connection: socket.socket) -> None:
        """Read from and write to a socket."""
        super().__init__(connection)
        self._start = self._end = 0  # of what was received and not consumed yet
        self._overflow = 0  # bytes received since new keys were asked for
        self._is_patient = False
        self._take_new_buffers()

    def _take_new_buffers(self) -> None:
        """Give back the memory that was used: 1.6 MB after a transfer. New buffers take none until they are used."""
        lock = self._Packetizer__write_lock
        if lock.acquire(blocking=False):  # who is sending may wait for a server that waits for us to read
            try:
                self._to_encrypt = memoryview(bytearray(LENGTH + LONGEST_PACKET))
                self._encrypted = memoryview(bytearray(LENGTH + LONGEST_PACKET + TAG))
            finally:
                lock.release()
        self._received = memoryview(bytearray(RECEIVE_SIZE))
        self._plain = memoryview(bytearray(LONGEST_PACKET))
        self._counted = self._Packetizer__received_packets

    def forget_buffers(self) -> None:
        """Give back all memory, once the connection has ended: what refers to it may live until the next collection."""
        with self._Packetizer__write_lock:  # who is sending has been woken
            self._received = self._plain = self._to_encrypt = self._encrypted = memoryview(b"")

    def close(self) -> None:
        """End the connection, and every wait for it: to close the socket alone wakes nobody."""
        self._Packetizer__closed = True
        with suppress(OSError):  # the server has ended it
            self._Packetizer__socket.shutdown(socket.SHUT_RDWR)
        super().close()

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:  # noqa: FBT001, FBT002 - paramiko's signature
        """Return `n` bytes for paramiko's own path, first those that were received already."""
        if n > LONGEST_PACKET:
            message = f"the server announced an SSH packet of more than {LONGEST_PACKET} bytes"
            raise SSHException(message)
        taken, self._Packetizer__remainder = self._Packetizer__remainder[:n], self._Packetizer__remainder[n:]
        while len(taken) < n:
            self._await(1, check_rekey=check_rekey and not taken)
            end = min(self._end, self._start + n - len(taken))
            taken += self._received[self._start : end]
            self._start = end
        return taken

    def read_message(self) -> tuple[int, Message]:
        """Return the next message's type and its fields."""
        if not self._Packetizer__aead_in or self._Packetizer__compress_engine_in is not None:
            return super().read_message()
        self._await(LENGTH, check_rekey=True)
        size = self._length_in(self._received[self._start : self._start + LENGTH])
        if not LENGTH < size <= LONGEST_PACKET:
            message = f"the server announced an SSH packet of {size} bytes"
            raise SSHException(message)
        self._await(LENGTH + size + TAG)
        start, self._start = self._start, self._start + LENGTH + size + TAG
        plain = self._plain[:size]
        self._decrypt(self._received[start : self._start], plain)
        payload = plain[1 : max(2, size - plain[0])]
        fields = ReceivedData(payload[1:]) if payload[0] == MSG_CHANNEL_DATA else Message(bytes(payload[1:]))
        fields.seqno = self._Packetizer__sequence_number_in
        self._count_received(LENGTH + size + TAG)
        return payload[0], bounded(payload[0], fields)

    def send_message(self, data: Message) -> None:
        """Send a message."""
        engine, is_data = self._Packetizer__block_engine_out, isinstance(data, ChannelData)
        is_fast = isinstance(engine, ChaChaPoly) or (is_data and self._Packetizer__aead_out)
        if not is_fast or self._Packetizer__compress_engine_out is not None:
            super().send_message(data)
            return
        with self._Packetizer__write_lock:
            if self._Packetizer__closed:
                raise EOFError
            packet = data.packet_into(self._to_encrypt) if is_data else packet_into(self._to_encrypt, data.asbytes())  # type: ignore[attr-defined] # it is a ChannelData
            encrypted = self._sealed(packet)
            self.write_all(encrypted)
            self._count_sent(len(encrypted))

    def _sealed(self, packet: memoryview) -> memoryview:
        """Return an encrypted packet, which has to be sent next; the caller holds the lock for writing."""
        encrypted = self._encrypted[: len(packet) + TAG]
        self._encrypt(packet, encrypted)
        self._Packetizer__sequence_number_out = (self._Packetizer__sequence_number_out + 1) & 0xFFFFFFFF
        return encrypted

    def _length_in(self, header: memoryview) -> int:
        engine = self._Packetizer__block_engine_in
        if isinstance(engine, ChaChaPoly):
            return engine.length(self._Packetizer__sequence_number_in, header)
        return int.from_bytes(header, "big")

    def _decrypt(self, packet: memoryview, plain: memoryview) -> None:
        engine = self._Packetizer__block_engine_in
        if isinstance(engine, ChaChaPoly):
            engine.open_into(self._Packetizer__sequence_number_in, packet, plain)
            return
        engine.decrypt_into(self._Packetizer__iv_in, packet[LENGTH:], packet[:LENGTH], plain)
        self._Packetizer__iv_in = self._inc_iv_counter(self._Packetizer__iv_in)

    def _encrypt(self, packet: memoryview, encrypted: memoryview) -> None:
        engine = self._Packetizer__block_engine_out
        if isinstance(engine, ChaChaPoly):
            engine.seal_into(self._Packetizer__sequence_number_out, packet, encrypted)
            return
        encrypted[:LENGTH] = packet[:LENGTH]
        engine.encrypt_into(self._Packetizer__iv_out, packet[LENGTH:], packet[:LENGTH], encrypted[LENGTH:])
        self._Packetizer__iv_out = self._inc_iv_counter(self._Packetizer__iv_out)

    def _await(self, wanted: int, *, check_rekey: bool = False) -> None:
        """Receive until `wanted` bytes are there that were not consumed yet."""
        while (here := self._end - self._start) < wanted:
            if here == 0 or self._start + wanted > RECEIVE_SIZE:
                self._received[:here] = self._received[self._start : self._end]
                self._start, self._end = 0, here
            if self.handshake_timed_out():
                raise EOFError
            try:
                count = self._Packetizer__socket.recv_into(self._received[self._end :])
            except TimeoutError:
                if self._Packetizer__closed:
                    raise EOFError from None
                self._note_pause(is_empty=here == 0)
                if check_rekey and here == 0 and self._Packetizer__need_rekey:
                    raise NeedRekeyException from None
                continue
            except OSError:
                if self._Packetizer__closed:
                    raise EOFError from None
                raise
            if count == 0:
                raise EOFError
            self._end += count

    def _note_pause(self, *, is_empty: bool) -> None:
        """Have the next waits take long, not 0.1 s as paramiko's: an idle device would wake up ten times a second."""
        if is_empty and self._is_patient and self._counted != self._Packetizer__received_packets:
            self._take_new_buffers()
        is_patient = self._Packetizer__handshake_complete and not self._Packetizer__need_rekey
        if is_patient != self._is_patient:
            self._is_patient = is_patient
            self._Packetizer__socket.settimeout(PATIENCE if is_patient else GLANCE)

    def _count_received(self, size: int) -> None:
        self._Packetizer__sequence_number_in = (self._Packetizer__sequence_number_in + 1) & 0xFFFFFFFF
        self._Packetizer__received_packets += 1
        self._Packetizer__received_bytes += size
        if not self._Packetizer__need_rekey:
            self._overflow = 0
            if (
                self._Packetizer__received_bytes >= self.REKEY_BYTES
                or self._Packetizer__received_packets >= self.REKEY_PACKETS
            ):
                self._trigger_rekey()
            return
        # The server may complete what it has begun to send before it switches to the new keys.
        self._overflow += size
        if self._overflow >= self.REKEY_BYTES_OVERFLOW_MAX:
            message = "the server ignores the request for new keys"
            raise SSHException(message)

    def _count_sent(self, size: int) -> None:
        self._Packetizer__sent_packets += 1
        self._Packetizer__sent_bytes += size
        if self._Packetizer__need_rekey:
            return
        if self._Packetizer__sent_bytes >= self.REKEY_BYTES or self._Packetizer__sent_packets >= self.REKEY_PACKETS:
            self._trigger_rekey()
