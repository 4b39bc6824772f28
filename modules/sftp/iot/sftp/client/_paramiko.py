"""paramiko's transport with the key checked in every key exchange, and with most of its copies taken out.

paramiko touches each byte about eight times on its way (it joins what it receives, slices messages, keeps arrays in
pipes) and hands each packet from one thread to another. Here, for AES-GCM:

- What arrives is received into one buffer, decrypted into another, and handed as a view of it to whoever has
  diverted the channel, in paramiko's own thread.
- What is sent is put together in one buffer, encrypted into another, and goes to the socket from there.

Every other cipher, and every message that is not channel data, takes paramiko's own way.

This file is the only one that reaches into paramiko's private parts: `_verify_key`, `_parse_disconnect`,
`_send_kex_init`, `_send_user_message`, `clear_to_send` and its lock of `Transport`, `_wait_for_send_window` and
`_check_add_window` of `Channel`, its `in_buffer` and `in_stderr_buffer`, and of `Packetizer` `_read_timeout` and the
attributes below that begin with `_Packetizer__`. pyproject.toml bounds the versions, and
`tests/client/test_private_parts.py` fails when the parts move.
"""

from __future__ import annotations

import struct
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import paramiko
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from paramiko.buffered_pipe import BufferedPipe
from paramiko.common import MSG_CHANNEL_DATA, cMSG_CHANNEL_WINDOW_ADJUST
from paramiko.message import Message
from paramiko.packet import NeedRekeyException, Packetizer
from paramiko.ssh_exception import SSHException

from iot.sftp.client import _login_pauses as login_pauses
from iot.sftp.client._certificates import CERTIFICATE_SUFFIX
from iot.sftp.client._credentials import Credentials, authenticate
from iot.sftp.client._errors import (
    AuthenticationFailed,
    ConnectionLost,
    HostKeyMismatch,
    Internal,
    SFTPError,
    Unreachable,
    from_lower_layer,
    printable,
)
from iot.sftp.client._packets import Reader

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from iot.sftp.client._deadline import Deadline
    from iot.sftp.client._host_keys import HostKeyPolicy

Data = bytes | memoryview

# The server may send as much before we say that we have taken it. What arrives is taken at once, so that this costs no
# memory: TCP holds a fast server back. So large a window is adjusted so seldom that nobody ever waits for it.
CHANNEL_WINDOW = 1 << 30
CHANNEL_PACKET = 256 * 1024

LENGTH, BLOCK, LEAST_PADDING, TAG = 4, 16, 4, 16  # bytes (RFC 4253, section 6; RFC 5647, section 7)
DATA_HEADER = struct.Struct(">BII")  # type, channel, length of the data
# No packet is longer: channel data is bounded by CHANNEL_PACKET, and 35,000 bytes have to be taken of all others
# (RFC 4253, section 6.1).
LONGEST_PACKET = CHANNEL_PACKET + 64 * 1024
RECEIVE_SIZE = 2 * LONGEST_PACKET
LONGEST_KEY = 16 * 1024  # bytes; to compute with one of 300,000 takes seconds
LONGEST_NUMBER = 2050  # bytes, in a key exchange: 16,384 bits and a sign
KEY_EXCHANGE = range(30, 42)  # types of messages (RFC 4250, section 4.1.2)
LONGEST_LINE = 8192  # bytes, before the first packet: OpenSSH's limit; RFC 4253, section 4.2, allows 255


class RefusedKeyError(paramiko.SSHException):
    """Carries our reason through paramiko's thread, which tells expected from unexpected by this class."""

    def __init__(self, reason: HostKeyMismatch) -> None:
        super().__init__(reason.message)
        self.reason = reason


class ChannelData(Message):
    """A CHANNEL_DATA message (RFC 4254, section 5.2) whose data is copied once, to where it is encrypted."""

    def __init__(self, channel: int, data: memoryview) -> None:
        super().__init__()
        self._channel = channel
        self._data = data

    def asbytes(self) -> bytes:
        """Put it together, for a cipher that takes paramiko's own way."""
        return DATA_HEADER.pack(MSG_CHANNEL_DATA, self._channel, len(self._data)) + self._data

    def packet_into(self, buffer: memoryview) -> memoryview:
        """Put the whole packet together in `buffer` (RFC 4253, section 6; RFC 5647, section 7.2), and return it."""
        size = DATA_HEADER.size + len(self._data)
        padding = BLOCK - (1 + size) % BLOCK
        padding += BLOCK if padding < LEAST_PADDING else 0
        start = LENGTH + 1
        struct.pack_into(">IB", buffer, 0, 1 + size + padding, padding)
        DATA_HEADER.pack_into(buffer, start, MSG_CHANNEL_DATA, self._channel, len(self._data))
        buffer[start + DATA_HEADER.size : start + size] = self._data
        # Zeros, as paramiko and OpenSSH do with stream ciphers: encrypted and authenticated, more gains nothing.
        buffer[start + size : start + size + padding] = bytes(padding)
        return buffer[: start + size + padding]


class ReceivedData(Message):
    """A CHANNEL_DATA message that was received: its fields are read from a view, which is good until the next one."""

    def __init__(self, payload: memoryview) -> None:
        super().__init__()
        self._payload = payload

    def get_int(self) -> int:
        """Take the channel's number."""
        (number,) = struct.unpack_from(">I", self._payload)
        self._payload = self._payload[4:]
        return int(number)

    def get_binary(self) -> memoryview:  # type: ignore[override] # whoever takes it wants bytes, and no copy of them
        """Take the data."""
        length = self.get_int()
        return self._payload[:length]


class NoGreetingError(SSHException):
    """What the server begins with goes on and on: it is no SSH server."""


class UnreadableError(SSHException):
    """What the server sent is no SSH, in a way that paramiko has no name for."""


class KeyExchangeMessage(Message):
    """A message with bounded numbers: paramiko fills up what is missing to a megabyte, and computes for a minute."""

    def get_mpint(self) -> int:
        """Take a number."""
        number = self.get_binary()
        if len(number) > LONGEST_NUMBER:
            message = f"the server sent a number of {len(number)} bytes, which no key exchange has"
            raise SSHException(message)
        return int.from_bytes(number, "big", signed=True)


def bounded(kind: int, message: Message) -> Message:
    """Return a message of this type with its numbers bounded."""
    if kind not in KEY_EXCHANGE:
        return message
    same = KeyExchangeMessage(message.asbytes())
    same.seqno = message.seqno
    return same


def check_numbers(host_key: bytes, signature: bytes) -> None:
    """Refuse a key or a signature that is longer than any, or ends before its numbers do: see `KeyExchangeMessage`.

    Raises:
        SSHException: it is refused.
    """
    if max(len(host_key), len(signature)) > LONGEST_KEY:
        message = f"the server's key or signature has more than {LONGEST_KEY} bytes, which none has"
        raise SSHException(message)
    try:
        key, signed = Reader(host_key), Reader(signature)
        kind = key.string()
        if kind.endswith(CERTIFICATE_SUFFIX.encode()):
            key.string()  # nonce
        if b"rsa" in kind:
            key.string(), key.string()
        if b"ecdsa" in signed.string():
            numbers = Reader(signed.string())
            numbers.string(), numbers.string()
    except ConnectionLost as error:
        raise SSHException(error.message) from None


class BoundedPacketizer(Packetizer):
    """Takes no more from a server than a line or a packet may have."""

    # paramiko's own, declared for the type checker
    _read_timeout: Callable[[float], bytes]
    _Packetizer__remainder: bytes

    def readline(self, timeout: float) -> str:
        """Return the next line before the first packet."""
        while b"\n" not in self._Packetizer__remainder:
            if len(self._Packetizer__remainder) > LONGEST_LINE:
                message = f"the server began with a line of more than {LONGEST_LINE} bytes: is this an SSH server?"
                raise NoGreetingError(message)
            self._Packetizer__remainder += self._read_timeout(timeout)
        line: str = super().readline(timeout)
        return line

    def read_message(self) -> tuple[int, Message]:
        """Return the next message's type, and its fields."""
        kind, message = super().read_message()
        return kind, bounded(kind, message)

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:  # noqa: FBT001, FBT002 - paramiko's signature
        """Return so many bytes."""
        if n > LONGEST_PACKET:
            message = f"the server announced an SSH packet of more than {LONGEST_PACKET} bytes"
            raise SSHException(message)
        return super().read_all(n, check_rekey)


class FastPacketizer(BoundedPacketizer):
    """Encrypts and decrypts AES-GCM from buffer to buffer."""

    # paramiko's own, declared for the type checker
    _inc_iv_counter: Callable[[bytes], bytes]
    _trigger_rekey: Callable[[], None]
    _Packetizer__aead_in: bool
    _Packetizer__aead_out: bool
    _Packetizer__block_engine_in: AESGCM
    _Packetizer__block_engine_out: AESGCM
    _Packetizer__closed: bool
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
        self._received = memoryview(bytearray(RECEIVE_SIZE))
        self._start = self._end = 0  # of what was received and not taken yet
        self._plain = memoryview(bytearray(LONGEST_PACKET))
        self._to_encrypt = memoryview(bytearray(LENGTH + LONGEST_PACKET))
        self._encrypted = memoryview(bytearray(LENGTH + LONGEST_PACKET + TAG))
        self._overflow = 0  # bytes received since new keys were asked for

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:  # noqa: FBT001, FBT002 - paramiko's signature
        """Take bytes for paramiko's own way, first those that were received already."""
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
        """Return the next message's type, and its fields."""
        if not self._Packetizer__aead_in or self._Packetizer__compress_engine_in is not None:
            return super().read_message()
        self._await(LENGTH, check_rekey=True)
        size = int.from_bytes(self._received[self._start : self._start + LENGTH], "big")
        if not LENGTH < size <= LONGEST_PACKET:
            message = f"the server announced an SSH packet of {size} bytes"
            raise SSHException(message)
        self._await(LENGTH + size + TAG)
        body, end = self._start + LENGTH, self._start + LENGTH + size + TAG
        length, plain = self._received[self._start : body], self._plain[:size]
        self._Packetizer__block_engine_in.decrypt_into(self._Packetizer__iv_in, self._received[body:end], length, plain)
        self._Packetizer__iv_in = self._inc_iv_counter(self._Packetizer__iv_in)
        self._start = end
        payload = plain[1 : max(2, size - plain[0])]
        fields = ReceivedData(payload[1:]) if payload[0] == MSG_CHANNEL_DATA else Message(bytes(payload[1:]))
        fields.seqno = self._Packetizer__sequence_number_in
        self._count_received(LENGTH + size + TAG)
        return payload[0], bounded(payload[0], fields)

    def send_message(self, data: Message) -> None:
        """Send a message."""
        if (
            not isinstance(data, ChannelData)
            or not self._Packetizer__aead_out
            or self._Packetizer__compress_engine_out is not None
        ):
            super().send_message(data)
            return
        with self._Packetizer__write_lock:
            packet = data.packet_into(self._to_encrypt)
            encrypted = self._encrypted[: len(packet) + TAG]
            encrypted[:LENGTH] = packet[:LENGTH]
            self._Packetizer__block_engine_out.encrypt_into(
                self._Packetizer__iv_out, packet[LENGTH:], packet[:LENGTH], encrypted[LENGTH:]
            )
            self._Packetizer__iv_out = self._inc_iv_counter(self._Packetizer__iv_out)
            self._Packetizer__sequence_number_out = (self._Packetizer__sequence_number_out + 1) & 0xFFFFFFFF
            self.write_all(encrypted)
            self._count_sent(len(encrypted))

    def _await(self, wanted: int, *, check_rekey: bool = False) -> None:
        """Receive until there are so many bytes that were not taken yet."""
        while (here := self._end - self._start) < wanted:
            if here == 0 or self._start + wanted > RECEIVE_SIZE:
                self._received[:here] = self._received[self._start : self._end]
                self._start, self._end = 0, here
            if self.handshake_timed_out():
                raise EOFError
            try:
                count = self._Packetizer__socket.recv_into(self._received[self._end :])
            except TimeoutError:  # paramiko's sockets have one of 0.1 s, to look around now and then
                if self._Packetizer__closed:
                    raise EOFError from None
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
        # The server may send what it has begun before it turns to the new keys.
        self._overflow += size
        if self._overflow >= self.REKEY_BYTES_OVERFLOW_MAX:
            message = "the server ignores that new keys are due"
            raise SSHException(message)

    def _count_sent(self, size: int) -> None:
        self._Packetizer__sent_packets += 1
        self._Packetizer__sent_bytes += size
        due = self._Packetizer__sent_bytes >= self.REKEY_BYTES or self._Packetizer__sent_packets >= self.REKEY_PACKETS
        if due and not self._Packetizer__need_rekey:
            self._trigger_rekey()


class Channel(paramiko.Channel):
    """A channel that sends nothing when it is forgotten.

    The garbage collector comes in any thread, also in one that is in the middle of sending, and holds the lock that
    paramiko's own `__del__` would wait for.
    """

    def __del__(self) -> None:
        """Do nothing."""


class Transport(paramiko.Transport):
    """Checks the server's key in every key exchange, the first and all later ones, before it is trusted with more."""

    policy: HostKeyPolicy
    credentials: Credentials
    deadline: Deadline
    clear_to_send: threading.Event  # paramiko's own, declared for the type checker
    clear_to_send_lock: threading.Lock
    farewell: str | None = None
    key_exchange: str = "no key exchange"  # the name of the one that was agreed on
    _ended_by: Exception | None = None
    _answers_kex_init = False

    def __init__(self, sock: socket.socket) -> None:
        """Speak over a connected socket."""
        self._caller = copy_context()  # of whoever connects, for what is logged in our own thread about the key
        super().__init__(
            sock,
            default_window_size=CHANNEL_WINDOW,
            default_max_packet_size=CHANNEL_PACKET,
            packetizer_class=packetizer_class(),
        )
        self.set_log_channel("iot.sftp.client.ssh")

    def open_channel(self, *arguments: Any, **options: Any) -> paramiko.Channel:
        """Open a channel, which is closed by whoever has opened it and never by the garbage collector."""
        channel: paramiko.Channel = super().open_channel(*arguments, **options)
        channel.__class__ = Channel
        return channel

    def connect(self, *_: object, **__: object) -> None:
        """Take the place of paramiko's own, which pysftp calls: the same steps, with time limits."""
        self.banner_timeout = self.handshake_timeout = self.auth_timeout = self.deadline.remaining()
        self.start_client(timeout=self.deadline.remaining())
        if not self.initial_kex_done:
            message = "the server began the key exchange and did not end it in time"
            raise Unreachable(message)
        with login_pauses.login(self.credentials.identity, self.deadline):
            self.auth_timeout = self.deadline.remaining()
            try:
                authenticate(self, self.credentials)
            except paramiko.SSHException as error:
                raise self.login_reason(error) from error

    @property
    def saved_exception(self) -> Exception | None:
        """What ended paramiko's thread, until somebody has asked for it."""
        return self._ended_by

    @saved_exception.setter
    def saved_exception(self, error: Exception | None) -> None:
        """Give a name to what paramiko trips over, such as a text that is not UTF-8: it is the server that sent it."""
        if error is not None and isinstance(from_lower_layer(error), Internal):
            unreadable = UnreadableError(f"the server sent something that cannot be read: {type(error).__name__}")
            unreadable.__cause__ = error
            error = unreadable
        self._ended_by = error

    def login_reason(self, error: paramiko.SSHException) -> SFTPError:
        """Name why a login failed: paramiko has one class for a refusal, and for a connection that broke."""
        named = from_lower_layer(error)
        # paramiko forgets the name when the server says that it refuses, and only then
        refused = self.auth_handler is not None and self.auth_handler.get_username() is None
        if not isinstance(named, AuthenticationFailed) or refused:
            return named
        if self.farewell:
            return AuthenticationFailed(f"the server refused the login and said: {self.farewell}")
        return ConnectionLost("the connection broke during the login")

    def _negotiate_keys(self, m: paramiko.Message) -> None:
        """Answer a server that asks for new keys; nobody is in the middle of sending by then."""
        self._answers_kex_init = True
        try:
            super()._negotiate_keys(m)  # type: ignore[misc]
        finally:
            self._answers_kex_init = False

    def _send_kex_init(self) -> None:
        """Ask for new keys, once nobody is in the middle of sending: paramiko's thread calls this again until then.

        Whoever sends may be waiting for a server that reads nothing more before we have read what it says (ProFTPD).
        If this thread, which reads, waited for the sender, nobody would ever go on. An answer to the server is not
        put off: the messages of the key exchange follow at once, and must not come before it (RFC 4253, section 7.1).
        """
        if self.initial_kex_done and not self._answers_kex_init and threading.current_thread() is self:
            self.clear_to_send.clear()  # nobody begins to send
            if not self.clear_to_send_lock.acquire(blocking=False):
                return
            self.clear_to_send_lock.release()
        super()._send_kex_init()  # type: ignore[misc]

    def _verify_key(self, host_key: bytes, sig: bytes) -> None:
        kinds: dict[str, type] = self._kex_info  # type: ignore[attr-defined] # not in its stubs
        names = (name for name, kind in kinds.items() if kind is type(self.kex_engine))
        self.key_exchange = next(names, self.key_exchange)
        check_numbers(host_key, sig)
        super()._verify_key(host_key, sig)  # type: ignore[misc] # the signature, by which the server proves the key
        key = self.host_key
        assert key is not None  # noqa: S101 - set by the line above
        try:
            certificate = host_key if CERTIFICATE_SUFFIX in (self.host_key_type or "") else None
            self._caller.run(self.policy.check, key, certificate)
        except HostKeyMismatch as reason:
            raise RefusedKeyError(reason) from None

    def _parse_disconnect(self, m: paramiko.Message) -> None:
        m.get_int()
        self.farewell = printable(m.get_string().decode("utf-8", "replace"), 200)


class Inlet(BufferedPipe):  # type: ignore[type-arg] # generic in its stubs alone
    """Takes the place of the pipe between paramiko's thread and a reader: there is none, the data is used at once."""

    def __init__(self, on_data: Callable[[Data], None], on_end: Callable[[], None]) -> None:
        """Call `on_data` in paramiko's thread with what arrives, and `on_end` when nothing will any more."""
        super().__init__()
        self._on_data = on_data
        self._on_end = on_end

    def feed(self, data: Data) -> None:
        """Hand data on; a view is good until the call returns."""
        self._on_data(data)

    def close(self) -> None:
        """Tell that there is no more."""
        super().close()
        self._on_end()


def divert(channel: paramiko.Channel, on_data: Callable[[Data], None], on_end: Callable[[], None]) -> None:
    """Hand what arrives on a channel to `on_data`, in paramiko's own thread, from the beginning on; see `Inlet`."""
    channel.in_buffer = Inlet(on_data, on_end)
    channel.in_stderr_buffer = Inlet(_drop, _do_nothing)  # nobody reads it, and the window is large


def send_all(channel: paramiko.Channel, data: memoryview) -> None:
    """Send data on a channel, waiting for the server's window. Nobody else sends on the channel meanwhile.

    Raises:
        OSError: the channel is closed.
    """
    transport: Any = channel.get_transport()
    while data:
        with channel.lock:
            size = channel._wait_for_send_window(min(len(data), CHANNEL_PACKET))  # type: ignore[attr-defined]  # noqa: SLF001 - see above
        if size == 0:
            message = "the channel is closed"
            raise OSError(message)
        transport._send_user_message(ChannelData(channel.remote_chanid, data[:size]))  # noqa: SLF001 - see above
        data = data[size:]


def taken(channel: paramiko.Channel, size: int) -> int:
    """Take note that so much of what arrived was used; return by how much the window is to be widened now."""
    return int(channel._check_add_window(size))  # type: ignore[attr-defined]  # noqa: SLF001 - see above


def widen_window(channel: paramiko.Channel, size: int) -> None:
    """Let the server send so much more (RFC 4254, section 5.2)."""
    message = Message()
    message.add_byte(cMSG_CHANNEL_WINDOW_ADJUST)
    message.add_int(channel.remote_chanid)
    message.add_int(size)
    transport: Any = channel.get_transport()
    transport._send_user_message(message)  # noqa: SLF001 - see above


def _drop(_: Data) -> None:
    pass


def _do_nothing() -> None:
    pass


def packetizer_class() -> type[Packetizer]:
    """Return the fast one, if this version of `cryptography` can work from buffer to buffer."""
    return FastPacketizer if hasattr(AESGCM, "decrypt_into") and hasattr(AESGCM, "encrypt_into") else BoundedPacketizer
