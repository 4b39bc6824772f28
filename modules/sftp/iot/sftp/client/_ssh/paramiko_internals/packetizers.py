"""Packetizers: from the socket to SSH messages and back, with bounds, and without copies where the cipher allows it."""

from __future__ import annotations

import select
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from paramiko.common import MSG_CHANNEL_DATA, MSG_CHANNEL_WINDOW_ADJUST
from paramiko.message import Message
from paramiko.packet import NeedRekeyException, Packetizer
from paramiko.ssh_exception import SSHException

from iot.sftp.client._base.deadline import GLANCE
from iot.sftp.client._base.errors import Unsupported
from iot.sftp.client._ssh.buffers import new_buffer
from iot.sftp.client._ssh.chacha import ChaChaPoly
from iot.sftp.client._ssh.packet_ciphers import LENGTH, AESCTRPackets, AESGCMPackets
from iot.sftp.client._ssh.paramiko_internals.failures import ReasonError
from iot.sftp.client._ssh.paramiko_internals.messages import (
    DATA_HEADER,
    MOST_FRAMING,
    ChannelData,
    ReceivedData,
    bounded,
    packet_into,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from iot.sftp.client._ssh.packet_ciphers import PacketCipher
    from iot.sftp.client._ssh.paramiko_internals.messages import Data

CHANNEL_PACKET = 256 * 1024  # bytes of channel data in one packet, at most
# Bytes of a packet, at most: channel data is bounded by CHANNEL_PACKET, and every other message must be accepted up to
# 35,000 bytes (RFC 4253, section 6.1).
LONGEST_PACKET = CHANNEL_PACKET + 64 * 1024
RECEIVE_SIZE = 2 * LONGEST_PACKET
LONGEST_LINE = 8192  # bytes, before the first packet: OpenSSH's limit; RFC 4253, section 4.2, allows 255
MOST_TAG = 64  # bytes: hmac-sha2-512
WINDOW_ADJUST = struct.Struct(">BII")  # message type, channel, bytes (RFC 4254, section 5.2)
PATIENCE = 10.0  # seconds of a wait for the server, once keys are agreed on; `close` ends it


class BoundedPacketizer(Packetizer):
    """Accepts no longer line and no longer packet from a server than the protocol allows.

    Attributes:
        on_message: receives each message's type and its fields first, and returns whether it has taken the message.
    """

    # paramiko's own, declared for the type checker
    _read_timeout: Callable[[float], bytes]
    _Packetizer__closed: bool
    _Packetizer__remainder: bytes
    _Packetizer__socket: socket.socket
    _Packetizer__write_lock: threading.RLock

    def __init__(self, connection: socket.socket) -> None:
        """Read from and write to a socket."""
        super().__init__(connection)
        self.on_message: Callable[[int, Message], bool] = _nobody

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
        while True:
            kind, message = self._next_message()
            if not self.on_message(kind, message):
                return kind, message

    def _next_message(self) -> tuple[int, Message]:
        kind, message = super().read_message()
        return kind, bounded(kind, message)

    def send_message(self, data: Message) -> None:
        """Send a message; what is too long for one of its kind goes in several."""
        with self._Packetizer__write_lock:
            try:
                for message in data.one_by_one() if isinstance(data, ChannelData) else (data,):
                    super().send_message(message)
            except BaseException:
                self._send_no_more()
                raise

    def _send_no_more(self) -> None:
        """End our half of the connection, as a packet may have been sent in part: a signal can end a call in any line.

        The server would take what comes next for the rest of that packet, or for one with another number. What it has
        to say can still be read.
        """
        with suppress(OSError):  # it has ended
            self._Packetizer__socket.shutdown(socket.SHUT_WR)

    def can_send_at_once(self) -> bool:
        """Return whether a short message would be sent without waiting, if no other thread sends before it."""
        lock = self._Packetizer__write_lock
        if not lock.acquire(blocking=False):
            return False
        try:
            return self._is_writable()
        finally:
            lock.release()

    def _is_writable(self) -> bool:
        connection = self._Packetizer__socket
        if (is_writable := getattr(connection, "is_writable", None)) is not None:  # a tunnel's
            return bool(is_writable())
        try:
            poll = select.poll()
            poll.register(connection, select.POLLOUT)
            return bool(poll.poll(0))
        except (OSError, ValueError):  # closed meanwhile, which the caller finds out
            return True

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:  # noqa: FBT001, FBT002 - paramiko's signature
        """Return exactly `n` bytes."""
        if n > LONGEST_PACKET:
            message = f"the server announced an SSH packet of more than {LONGEST_PACKET} bytes"
            raise SSHException(message)
        return super().read_all(n, check_rekey)


class FastPacketizer(BoundedPacketizer):
    """Encrypts and decrypts from buffer to buffer, several packets at a time where there are several.

    Attributes:
        on_data: receives the number of a channel and data for it, if it takes data at once, and returns whether it has.
        on_window: receives the number of a channel and how many bytes more may be sent on it, and returns the same.
    """

    # paramiko's own, declared for the type checker
    _trigger_rekey: Callable[[], None]
    _Packetizer__handshake_complete: bool
    _Packetizer__compress_engine_in: object
    _Packetizer__compress_engine_out: object
    _Packetizer__need_rekey: bool
    _Packetizer__received_bytes: int
    _Packetizer__received_packets: int
    _Packetizer__sent_bytes: int
    _Packetizer__sent_packets: int
    _Packetizer__sequence_number_in: int
    _Packetizer__sequence_number_out: int

    def __init__(self, connection: socket.socket) -> None:
        """Read from and write to a socket."""
        super().__init__(connection)
        self._start = self._end = 0  # of what was received and not consumed yet
        self._announced = 0  # bytes of the packet of which a part was received, once that is known
        self._overflow = 0  # bytes received since new keys were asked for
        self._is_patient = False
        self._opener: PacketCipher | None = None
        self._sealer: PacketCipher | None = None
        self.on_data: Callable[[int, memoryview], bool] = _nobody
        self.on_window: Callable[[int, int], bool] = _nobody
        self._take_new_buffers()

    def _take_new_buffers(self) -> None:
        """Give back the memory that was used: 1.6 MB after a transfer."""
        lock = self._Packetizer__write_lock
        if lock.acquire(blocking=False):  # who is sending may wait for a server that waits for us to read
            try:
                self._to_encrypt = new_buffer(LENGTH + LONGEST_PACKET)
                self._encrypted = new_buffer(LENGTH + LONGEST_PACKET + MOST_TAG)
            finally:
                lock.release()
        self._received = new_buffer(RECEIVE_SIZE)
        self._plain = new_buffer(LONGEST_PACKET)
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

    def set_inbound_cipher(self, *arguments: Any, **options: Any) -> None:
        """Have new keys for what is received."""
        super().set_inbound_cipher(*arguments, **options)
        self._opener = packet_cipher(options, options["iv_in"])

    def set_outbound_cipher(self, *arguments: Any, **options: Any) -> None:
        """Have new keys for what is sent."""
        super().set_outbound_cipher(*arguments, **options)
        self._sealer = packet_cipher(options, options["iv_out"])

    def _next_message(self) -> tuple[int, Message]:
        """Return the next message's type and its fields; what flows on channels is handed on and not returned.

        Raises:
            NeedRekeyException: there is none yet, and new keys are to be asked for.
        """
        opener = self._opener
        if opener is None or self._Packetizer__compress_engine_in is not None:
            return super()._next_message()
        while self._hand_on(payload := self._next_payload(opener)):
            if self._Packetizer__need_rekey:
                raise NeedRekeyException
        fields = ReceivedData(payload[1:]) if payload[0] == MSG_CHANNEL_DATA else Message(bytes(payload[1:]))
        fields.seqno = (self._Packetizer__sequence_number_in - 1) & 0xFFFFFFFF
        return payload[0], bounded(payload[0], fields)

    def _next_payload(self, opener: PacketCipher) -> memoryview:
        """Receive a packet, and return what is in it: a view that is valid until the next one.

        What ends it while it waits leaves what was received to the next call.
        """
        number = self._Packetizer__sequence_number_in
        size = self._announced or self._next_size(opener, number)
        whole = LENGTH + size + opener.tag
        if self._end - self._start < whole:
            self._await(whole)
        start, self._start = self._start, self._start + whole
        self._announced = 0
        plain = self._plain[:size]
        opener.open_into(number, self._received[start : self._start], plain)
        self._count_received(whole)
        return plain[1 : max(2, size - plain[0])]

    def _next_size(self, opener: PacketCipher, number: int) -> int:
        """Receive the beginning of a packet, and return the length that it announces."""
        head = opener.head
        if self._end - self._start < head:
            if self._is_patient and self._Packetizer__need_rekey:
                self._be_patient(is_patient=False)  # whoever wants to send waits for our request for new keys
            self._await(head, check_rekey=True)
        size = self._announced = opener.length(number, self._received[self._start : self._start + head])
        if not max(LENGTH, head - LENGTH - 1) < size <= LONGEST_PACKET:
            message = f"the server announced an SSH packet of {size} bytes"
            raise SSHException(message)
        return size

    def _hand_on(self, payload: memoryview) -> bool:
        """Hand a message on to its channel, without the objects and the locks of paramiko's way to it."""
        kind, size = payload[0], len(payload)
        if kind == MSG_CHANNEL_DATA and size >= DATA_HEADER.size:
            _, channel, length = DATA_HEADER.unpack_from(payload)
            data = payload[DATA_HEADER.size :]
            return length == len(data) and self.on_data(channel, data)
        if kind == MSG_CHANNEL_WINDOW_ADJUST and size == WINDOW_ADJUST.size:
            _, channel, more = WINDOW_ADJUST.unpack(payload)
            return self.on_window(channel, more)
        return False

    def send_message(self, data: Message) -> None:
        """Send a message. Data goes in as many packets as it needs, and they go to the kernel together."""
        sealer = self._sealer
        if sealer is None or self._Packetizer__compress_engine_out is not None:
            super().send_message(data)
            return
        with self._Packetizer__write_lock:
            if self._Packetizer__closed:
                raise EOFError
            try:
                end = 0
                for parts in data.messages() if isinstance(data, ChannelData) else ((data.asbytes(),),):
                    if end and end + sum(map(len, parts)) + MOST_FRAMING + MOST_TAG > len(self._encrypted):
                        self.write_all(self._encrypted[:end])
                        end = 0
                    end = self._seal(sealer, end, parts)
                self.write_all(self._encrypted[:end])
            except BaseException:
                self._send_no_more()
                raise

    def _seal(self, sealer: PacketCipher, start: int, parts: tuple[Data, ...]) -> int:
        """Put a packet at a place of what is to be sent, and return where it ends."""
        packet = packet_into(self._to_encrypt, sealer.unpadded, *parts)
        size = len(packet) + sealer.tag
        sealer.seal_into(self._Packetizer__sequence_number_out, packet, self._encrypted[start : start + size])
        self._Packetizer__sequence_number_out = (self._Packetizer__sequence_number_out + 1) & 0xFFFFFFFF
        self._count_sent(size)
        return start + size

    def _await(self, wanted: int, *, check_rekey: bool = False) -> None:
        """Receive until `wanted` bytes are there that were not consumed yet."""
        while (here := self._end - self._start) < wanted:
            if here == 0 or self._start + wanted > RECEIVE_SIZE:
                self._received[:here] = self._received[self._start : self._end]
                self._start, self._end = 0, here
            if not self._Packetizer__handshake_complete and self.handshake_timed_out():
                raise EOFError
            try:
                count = self._receive()
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

    def _receive(self) -> int:
        """Receive what there is behind the rest of what was received before, and return how many bytes."""
        return self._Packetizer__socket.recv_into(self._received[self._end :])

    def _note_pause(self, *, is_empty: bool) -> None:
        """Have the next waits take long, not 0.1 s as paramiko's: an idle device would wake up ten times a second."""
        if is_empty and self._is_patient and self._counted != self._Packetizer__received_packets:
            self._take_new_buffers()
        if self._Packetizer__handshake_complete and not self._Packetizer__need_rekey and not self._is_patient:
            self._be_patient(is_patient=True)

    def _be_patient(self, *, is_patient: bool) -> None:
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


def packet_cipher(keys: dict[str, Any], iv: bytes | None) -> PacketCipher:
    """Return the cipher of one direction, from what paramiko has made of the keys that were agreed on."""
    engine = keys["block_engine"]
    if isinstance(engine, ChaChaPoly):
        return engine
    if iv is not None:
        return AESGCMPackets(engine, iv)
    return AESCTRPackets(engine, keys["mac_key"], keys["mac_engine"], keys["mac_size"], etm=keys["etm"])


def _nobody(*_: object) -> bool:
    return False
