"""paramiko's transport with the key checked in every key exchange, and with most of its copies taken out.

paramiko touches each byte about eight times on its way (it joins what it receives, slices messages, keeps arrays in
pipes) and hands each packet from one thread to another. Here, for AES-GCM and ChaCha20-Poly1305:

- What arrives is received into one buffer, decrypted into another, and handed as a view of it to whoever has
  diverted the channel, in paramiko's own thread.
- What is sent is put together in one buffer, encrypted into another, and goes to the socket from there.

Every other cipher, and with AES-GCM every message that is not channel data, takes paramiko's own way.

This file is the only one that reaches into paramiko's private parts: `_check_banner`, `_verify_key`,
`_parse_disconnect`, `_parse_ext_info`, `_parse_kex_init`, `_really_parse_kex_init`, `_send_kex_init`, `_send_message`,
`_send_user_message`, `_cipher_info`, `_kex_info`, `_preferred_kex`, `auth_handler` with its `_handler_table`,
`clear_to_send` and its lock of `Transport`, `_wait_for_send_window` and `_check_add_window` of `Channel`, its
`in_buffer` and `in_stderr_buffer`, and of `Packetizer` `_read_timeout` and the attributes below that begin with
`_Packetizer__`. pyproject.toml bounds the versions;
`tests/client/ssh/test_private_parts.py` fails when the parts move.
"""

from __future__ import annotations

import queue
import struct
import threading
import weakref
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import paramiko
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from paramiko.buffered_pipe import BufferedPipe
from paramiko.common import (
    MSG_CHANNEL_DATA,
    MSG_NAMES,
    MSG_SERVICE_ACCEPT,
    MSG_UNIMPLEMENTED,
    MSG_USERAUTH_BANNER,
    MSG_USERAUTH_SUCCESS,
    cMSG_CHANNEL_WINDOW_ADJUST,
    cMSG_SERVICE_REQUEST,
    cMSG_UNIMPLEMENTED,
)
from paramiko.kex_curve25519 import KexCurve25519
from paramiko.message import Message
from paramiko.packet import NeedRekeyException, Packetizer
from paramiko.ssh_exception import IncompatiblePeer, SSHException

from iot.sftp.client._base.deadline import GLANCE
from iot.sftp.client._base.errors import (
    AuthenticationFailed,
    ConnectionLost,
    HostKeyMismatch,
    Internal,
    ServerBusy,
    SFTPError,
    Unreachable,
    Unsupported,
)
from iot.sftp.client._base.lower_layers import from_lower_layer
from iot.sftp.client._base.text import excerpt
from iot.sftp.client._ssh import chacha
from iot.sftp.client._ssh import login_backoff as login_pauses
from iot.sftp.client._ssh.certificates import CERTIFICATE_SUFFIX
from iot.sftp.client._ssh.chacha import ChaChaPoly
from iot.sftp.client._ssh.handshake_failures import LONGEST_WORDS, incompatible, no_greeting, readable
from iot.sftp.client._ssh.login import authenticate
from iot.sftp.client._ssh.login_backoff import UnansweredLogin
from iot.sftp.client._ssh.packets import Reader, string

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._ssh.credentials import Credentials
    from iot.sftp.client._ssh.host_keys import HostKeyPolicy

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
MOST_LINES = 1024  # before the greeting: OpenSSH's limit

LOGIN_ANSWERS = (MSG_UNIMPLEMENTED, MSG_SERVICE_ACCEPT, *range(51, 80))  # RFC 4250, section 4.1.2
TOO_MANY_CONNECTIONS = 12  # why a server disconnects (RFC 4253, section 11.1)

ALGORITHM_LISTS = (
    ("key exchange", "kex_algo_list", "preferred_kex"),
    ("type of host key", "server_key_algo_list", "preferred_keys"),
    ("cipher", "client_encrypt_algo_list", "preferred_ciphers"),
    ("cipher", "server_encrypt_algo_list", "preferred_ciphers"),
    ("MAC", "client_mac_algo_list", "preferred_macs"),
    ("MAC", "server_mac_algo_list", "preferred_macs"),
    ("compression", "client_compress_algo_list", "preferred_compression"),
    ("compression", "server_compress_algo_list", "preferred_compression"),
)
MACS_OF = {"client_mac_algo_list": "client_encrypt_algo_list", "server_mac_algo_list": "server_encrypt_algo_list"}


class ReasonError(SSHException):
    """Carries our reason through paramiko's thread, which tells expected from unexpected by this class."""

    def __init__(self, reason: SFTPError) -> None:
        super().__init__(reason.message)
        self.reason = reason


class RefusedKeyError(ReasonError):
    """The server's key is not believed."""

    reason: HostKeyMismatch


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
        """Put the whole packet together in `buffer`, and return it."""
        return packet_into(buffer, DATA_HEADER.pack(MSG_CHANNEL_DATA, self._channel, len(self._data)), self._data)


def packet_into(buffer: memoryview, *parts: Data) -> memoryview:
    """Put a packet together from the parts of its payload (RFC 4253, section 6; RFC 5647, section 7.2)."""
    size = sum(map(len, parts))
    padding = BLOCK - (1 + size) % BLOCK
    padding += BLOCK if padding < LEAST_PADDING else 0
    struct.pack_into(">IB", buffer, 0, 1 + size + padding, padding)
    end = LENGTH + 1
    for part in parts:
        start, end = end, end + len(part)
        buffer[start:end] = part
    # Zeros, as paramiko and OpenSSH do with stream ciphers: encrypted and authenticated, more gains nothing.
    buffer[end : end + padding] = bytes(padding)
    return buffer[: end + padding]


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

    def greeting_line(self, timeout: float) -> bytes:
        """Return the next line before the first packet; what came of it before the end of the connection, if any.

        Raises:
            ReasonError: it is longer than any.
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
    """Encrypts and decrypts AES-GCM and ChaCha20-Poly1305 from buffer to buffer."""

    # paramiko's own, declared for the type checker
    _inc_iv_counter: Callable[[bytes], bytes]
    _trigger_rekey: Callable[[], None]
    _Packetizer__aead_in: bool
    _Packetizer__aead_out: bool
    _Packetizer__block_engine_in: AESGCM | ChaChaPoly
    _Packetizer__block_engine_out: AESGCM | ChaChaPoly
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
        engine, ours = self._Packetizer__block_engine_out, isinstance(data, ChannelData)
        fast = isinstance(engine, ChaChaPoly) or (ours and self._Packetizer__aead_out)
        if not fast or self._Packetizer__compress_engine_out is not None:
            super().send_message(data)
            return
        with self._Packetizer__write_lock:
            packet = data.packet_into(self._to_encrypt) if ours else packet_into(self._to_encrypt, data.asbytes())  # type: ignore[attr-defined] # it is a ChannelData
            encrypted = self._encrypted[: len(packet) + TAG]
            self._encrypt(packet, encrypted)
            self._Packetizer__sequence_number_out = (self._Packetizer__sequence_number_out + 1) & 0xFFFFFFFF
            self.write_all(encrypted)
            self._count_sent(len(encrypted))

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


def with_curve25519(kex: tuple[str, ...]) -> tuple[str, ...]:
    """Put RFC 8731's name before the one that paramiko has for the same."""
    older = "curve25519-sha256@libssh.org"
    return tuple(new for name in kex for new in (["curve25519-sha256", name] if name == older else [name]))


class LoginAnswers:
    """Takes the place of paramiko's AuthHandler: hands what the server says of a login to whoever has asked.

    paramiko's own sends a SERVICE_REQUEST with each method, and takes answers that it does not know for the end of the
    connection. Messages of types that paramiko does not know are answered here too (RFC 4253, section 11.4).
    """

    def __init__(self, transport: Transport) -> None:
        """Take the connection."""
        self._transport: Transport = weakref.proxy(transport)
        self._answers: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
        self._is_asked = self._is_given = self._is_authenticated = False
        self.banner = ""  # what the server has said since a credential was sent
        unknown = {kind: partial(self._refuse, kind) for kind in range(256) if kind not in MSG_NAMES}
        self._handler_table = unknown | {kind: partial(self._take, kind) for kind in LOGIN_ANSWERS}

    @property
    def session_id(self) -> bytes:
        """What every signature is bound to."""
        return bytes(self._transport.session_id or b"")

    @property
    def signature_algorithms(self) -> tuple[str, ...] | None:
        """What the server says that users' keys may sign with (`server-sig-algs`, RFC 8308), if it says so."""
        told: bytes | None = self._transport.server_extensions.get("server-sig-algs")
        return None if told is None else tuple(told.decode("utf-8", "replace").split(","))

    def is_authenticated(self) -> bool:
        """Tell whether the server has let us in."""
        return self._is_authenticated

    def get_username(self) -> str | None:
        """Return nothing; paramiko asks for it."""
        return None

    def abort(self) -> None:
        """Do nothing: whoever waits looks whether the connection is there."""

    def request_service(self) -> None:
        """Ask to be logged in (RFC 4253, section 10), once.

        Raises:
            ConnectionLost: the connection ended.
            Unsupported: the server logs nobody in.
        """
        kind, _ = self.ask(cMSG_SERVICE_REQUEST + string(b"ssh-userauth"), gives=False)
        if kind != MSG_SERVICE_ACCEPT:
            message = f"the server answered the request to log in with a message (type {kind}) that is no answer to it"
            raise Unsupported(message)

    def ask(self, message: bytes, *, gives: bool) -> tuple[int, bytes]:
        """Send a message, and return the type and the fields of the answer.

        Parameters:
            message: its type and its fields.
            gives: whether there is a credential in it.

        Raises:
            ConnectionLost: the connection ended. `UnansweredLogin` if the server may have refused a credential so.
            AuthenticationFailed: the server has refused, and ended the connection.
            Unreachable: it did not answer in time.
        """
        transport, packet = self._transport, Message()
        packet.add_bytes(message)
        self._is_given, self._is_asked = self._is_given or gives, True
        try:
            # Not between the messages of a key exchange, which a server may begin at any time
            transport._send_user_message(packet)  # type: ignore[attr-defined]  # noqa: SLF001 - see above
        except (OSError, EOFError, ValueError, SSHException) as error:
            raise self._ended() from error
        while True:
            try:
                return self._answers.get(timeout=transport.deadline.wait_at_most(GLANCE))
            except queue.Empty:
                if not transport.is_active() and self._answers.empty():
                    raise self._ended() from None
                if not transport.deadline.remaining():
                    raise self._unanswered("the server did not answer the login in time") from None

    def _take(self, kind: int, message: Message) -> None:
        """Take a message, in paramiko's thread."""
        fields = message.asbytes()
        if kind == MSG_USERAUTH_BANNER and self._is_given:
            self.banner = excerpt(Message(fields).get_binary().decode("utf-8", "replace"), LONGEST_WORDS)
        if kind == MSG_USERAUTH_BANNER or not self._is_asked or self._is_authenticated:
            return
        self._is_asked = False
        self._is_authenticated = kind == MSG_USERAUTH_SUCCESS
        self._answers.put((kind, fields))

    def _refuse(self, kind: int, message: Message) -> None:
        self._transport.logger.debug("the server sent a message of the unknown type %d", kind)
        reply = Message()
        reply.add_byte(cMSG_UNIMPLEMENTED)
        reply.add_int(message.seqno)
        self._transport._send_message(reply)  # type: ignore[attr-defined]  # noqa: SLF001 - see above

    def _ended(self) -> SFTPError:
        parting = self._transport.parting()
        if parting is None:
            return self._unanswered("the connection broke during the login")
        if self._is_given and not isinstance(parting, ServerBusy):
            return AuthenticationFailed(f"the server refused the login and said: {self._transport.farewell}")
        return parting

    def _unanswered(self, message: str) -> ConnectionLost:
        return UnansweredLogin(message) if self._is_given else ConnectionLost(message)


class Transport(paramiko.Transport):
    """Checks the server's key in every key exchange, the first and all later ones, before it is trusted with more."""

    policy: HostKeyPolicy
    credentials: Credentials
    deadline: Deadline
    clear_to_send: threading.Event  # paramiko's own, declared for the type checker
    clear_to_send_lock: threading.Lock
    server_extensions: dict[str, bytes]
    login: LoginAnswers
    farewell: str | None = None  # what the server said when it ended the connection, and its reason's number
    _farewell_reason: int | None = None
    key_exchange: str = "no key exchange"  # the name of the one that was agreed on
    _ended_by: Exception | None = None
    _answers_kex_init = False

    # RFC 8731's name of what paramiko knows by the older one only; some servers offer just that.
    _kex_info: ClassVar[dict[str, type]] = paramiko.Transport._kex_info | {"curve25519-sha256": KexCurve25519}  # type: ignore[attr-defined]  # noqa: SLF001 - see above
    _preferred_kex: ClassVar[tuple[str, ...]] = with_curve25519(paramiko.Transport._preferred_kex)  # type: ignore[attr-defined]  # noqa: SLF001 - see above
    _cipher_info: ClassVar[dict[str, dict[str, Any]]] = paramiko.Transport._cipher_info | {  # type: ignore[attr-defined]  # noqa: SLF001 - see above
        chacha.NAME: {"class": ChaChaPoly, "block-size": 8, "iv-size": 0, "key-size": chacha.KEY, "is_aead": True},
    }

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
        self._words: list[bytes] = []  # what the server has said before its greeting
        self._offered: dict[str, list[str]] = {}  # the server's algorithms
        self.login = LoginAnswers(self)
        self.auth_handler = self.login  # type: ignore[assignment] # what paramiko asks of it, it has

    def offer(self, ciphers: Sequence[str], macs: Sequence[str]) -> None:
        """Offer these algorithms, as far as they can be spoken, and the types of keys that the policy wants."""
        options = self.get_security_options()
        fast = isinstance(self.packetizer, FastPacketizer) and ChaChaPoly.is_available()
        options.ciphers = tuple(name for name in ciphers if name != chacha.NAME or fast)
        options.digests = tuple(macs)
        options.key_types = self.policy.wanted_types(options.key_types)

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
        self.log_in(self.credentials)

    def log_in(self, credentials: Credentials) -> None:
        """Log in, unless these credentials have to wait.

        Raises:
            AuthenticationFailed: the server refused, or they have to wait.
            ConnectionLost: the connection ended.
        """
        with login_pauses.login(credentials.identity, self.deadline):
            authenticate(self.login, credentials)

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

    @property
    def words(self) -> str:
        """What the server has said before its greeting, as far as it is text."""
        return readable(self._words)

    def parting(self) -> ConnectionLost | None:
        """Return what a server said that has ended the connection, if it did."""
        if self.farewell is None:
            return None
        if self._farewell_reason == TOO_MANY_CONNECTIONS:
            return ServerBusy(f"the server takes no more connections for now and said: {self.farewell}")
        return ConnectionLost(f"the server ended the connection and said: {self.farewell}")

    def _check_banner(self) -> None:
        """Read lines up to the greeting (RFC 4253, section 4.2). A server that is busy says so there, and hangs up."""
        words = self._words
        packetizer: BoundedPacketizer = self.packetizer  # type: ignore[assignment] # the constructor has chosen it
        while len(words) < MOST_LINES:
            try:
                line = packetizer.greeting_line(self.banner_timeout)
            except (EOFError, OSError) as error:
                raise ReasonError(no_greeting(words, TimeoutError() if packetizer.closed else error)) from error
            if line.startswith(b"SSH-"):
                self.remote_version = line.decode()
                if line.startswith((b"SSH-2.0-", b"SSH-1.99-")):
                    return
                message = f"the server speaks an SSH that is too old: {excerpt(self.remote_version, LONGEST_WORDS)}"
                raise ReasonError(Unsupported(message))
            words.append(line)
        message = f"the server began with more than {MOST_LINES} lines and no greeting: is this an SSH server?"
        raise ReasonError(Unsupported(message))

    def _really_parse_kex_init(self, m: paramiko.Message, *, ignore_first_byte: bool = False) -> dict[str, Any]:
        """Note what the server offers. MACs do not count beside a cipher that needs none (RFC 5647, section 5.1)."""
        offered: dict[str, Any] = super()._really_parse_kex_init(m, ignore_first_byte=ignore_first_byte)  # type: ignore[misc]
        self._offered = {name: list(names) for name, names in offered.items() if isinstance(names, list)}
        for macs, ciphers in MACS_OF.items():
            agreed = next((name for name in self.preferred_ciphers if name in offered[ciphers]), "")
            if self._cipher_info.get(agreed, {}).get("is_aead"):
                offered[macs] = list(self.preferred_macs)
        return offered

    def _parse_kex_init(self, m: paramiko.Message) -> None:
        try:
            super()._parse_kex_init(m)  # type: ignore[misc]
        except IncompatiblePeer as error:
            raise ReasonError(self._nothing_in_common(error)) from error
        offered = self._offered["kex_algo_list"]
        self.key_exchange = next((name for name in self.preferred_kex if name in offered), self.key_exchange)

    def _nothing_in_common(self, error: IncompatiblePeer) -> SFTPError:
        """Say what both sides offer of what they do not have in common."""
        for what, theirs, ours in ALGORITHM_LISTS:
            offered, spoken = self._offered.get(theirs, []), getattr(self, ours)
            if not set(offered) & set(spoken):
                return Unsupported(incompatible(what, offered, spoken))
        return from_lower_layer(error)

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
        check_numbers(host_key, sig)
        super()._verify_key(host_key, sig)  # type: ignore[misc] # the signature, by which the server proves the key
        key = self.host_key
        assert key is not None  # noqa: S101 - set by the line above
        try:
            certificate = host_key if CERTIFICATE_SUFFIX in (self.host_key_type or "") else None
            self._caller.run(self.policy.check, key, certificate)
        except HostKeyMismatch as reason:
            raise RefusedKeyError(reason) from None

    def _parse_ext_info(self, msg: paramiko.Message) -> None:
        """Take the server's extensions (RFC 8308); paramiko would count up to what it says that there are."""
        fields, told = Reader(msg.asbytes()), {}
        try:
            for _ in range(fields.uint32()):
                name = fields.string().decode("utf-8", "replace")
                told[name] = fields.string()
        except ConnectionLost as error:
            raise SSHException(error.message) from None
        self.server_extensions = told

    def _parse_disconnect(self, m: paramiko.Message) -> None:
        self._farewell_reason = m.get_int()
        self.farewell = excerpt(m.get_string().decode("utf-8", "replace"), LONGEST_WORDS)


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
