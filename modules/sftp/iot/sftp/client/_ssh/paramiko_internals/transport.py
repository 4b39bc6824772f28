"""The transport: paramiko's, with the host key checked in every key exchange, and with a reason for each failure."""

from __future__ import annotations

import threading
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, ClassVar

import paramiko
from paramiko.kex_curve25519 import KexCurve25519
from paramiko.ssh_exception import IncompatiblePeer, SSHException

from iot.sftp.client._base.deadline import GLANCE
from iot.sftp.client._base.errors import (
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
from iot.sftp.client._ssh import algorithms, chacha
from iot.sftp.client._ssh.chacha import ChaChaPoly
from iot.sftp.client._ssh.handshake_failures import LONGEST_WORDS, incompatible, no_greeting, readable, too_old
from iot.sftp.client._ssh.packets import Reader
from iot.sftp.client._ssh.paramiko_internals.channel_data import Channel, Inlet
from iot.sftp.client._ssh.paramiko_internals.failures import ReasonError, RefusedKeyError, UnreadableError
from iot.sftp.client._ssh.paramiko_internals.login_answers import LoginAnswers
from iot.sftp.client._ssh.paramiko_internals.messages import check_numbers
from iot.sftp.client._ssh.paramiko_internals.packetizers import (
    CHANNEL_PACKET,
    BoundedPacketizer,
    FastPacketizer,
)
from iot.sftp.client._ssh.paramiko_internals.reading import packetizer_class
from iot.sftp.client._ssh.paramiko_internals.sending import SendingTransport
from iot.sftp.client._ssh.paramiko_internals.tunnel import TUNNEL_WINDOW, Tunnel

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._ssh.host_keys import HostKeyPolicy

# The server may send this many bytes before we acknowledge them. Data is consumed as it arrives, so the window costs no
# memory: TCP slows a fast server down. So large a window is adjusted so rarely that no sender ever waits for it.
CHANNEL_WINDOW = 1 << 30
MOST_LINES = 1024  # before the greeting: OpenSSH's limit
CONNECTION_PROTOCOL = range(80, 128)  # message types (RFC 4250, section 4.1.2)
TOO_MANY_CONNECTIONS = 12  # why a server disconnects (RFC 4253, section 11.1)

# What is negotiated: for people; paramiko's names for the server's list and for ours.
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


class Transport(SendingTransport):
    """One SSH connection. The server's key is checked in every key exchange, before the connection is used.

    It stays in one piece because each of its private methods replaces one of paramiko's own.

    Attributes:
        policy: decides which host keys are accepted.
        deadline: by when the handshake has to end.
        login: the server's answers to a login.
        key_exchange: the name of the key exchange that was negotiated.
        farewell: what the server said when it ended the connection, if it did.
    """

    key_exchange: str = "no key exchange"
    farewell: str | None = None
    _farewell_reason: int | None = None  # a number (RFC 4253, section 11.1)
    _ended_by: Exception | None = None
    _next_tunnel: Tunnel | None = None

    # paramiko's own, declared for the type checker
    agreed_on_strict_kex: bool
    remote_cipher: str
    server_extensions: dict[str, bytes]
    _channels: Any
    _channel_handler_table: dict[int, Callable[[Any, paramiko.Message], None]]
    _expected_packet: tuple[int, ...]
    _handler_table: dict[int, Callable[[paramiko.Message], None]]

    # RFC 8731's name of what paramiko knows by its older name only; some servers offer just that.
    _kex_info: ClassVar[dict[str, type]] = paramiko.Transport._kex_info | (  # type: ignore[attr-defined]  # noqa: SLF001 - this is the place
        {"curve25519-sha256": KexCurve25519} if KexCurve25519.is_available() else {}
    )
    _preferred_kex: ClassVar[tuple[str, ...]] = tuple(filter(_kex_info.__contains__, algorithms.KEY_EXCHANGES))
    _cipher_info: ClassVar[dict[str, dict[str, Any]]] = paramiko.Transport._cipher_info | {  # type: ignore[attr-defined]  # noqa: SLF001 - this is the place
        chacha.NAME: {"class": ChaChaPoly, "block-size": 8, "iv-size": 0, "key-size": chacha.KEY, "is_aead": True},
    }

    def __init__(self, sock: socket.socket, policy: HostKeyPolicy, deadline: Deadline) -> None:
        """Take a connected socket; nothing is sent yet."""
        self.policy = policy
        self.deadline = deadline
        self._caller = copy_context()  # for what the policy logs in this thread about the key
        super().__init__(
            sock,
            default_window_size=CHANNEL_WINDOW,
            default_max_packet_size=CHANNEL_PACKET,
            packetizer_class=packetizer_class(),
        )
        self.set_log_channel("iot.sftp.client.ssh")
        self._lines: list[bytes] = []  # that the server sent before its greeting
        self._offered: dict[str, list[str]] = {}  # the server's algorithms
        self._greeting_has_ended = threading.Event()
        self._keys_are_agreed = threading.Event()
        packetizer: BoundedPacketizer = self.packetizer  # type: ignore[assignment] # the constructor has chosen it
        packetizer.on_message = self._take_amid_keys
        if isinstance(self.packetizer, FastPacketizer):
            self.packetizer.on_data = self._take_data
            self.packetizer.on_window = self._take_window
        self.login = LoginAnswers(self)
        self.auth_handler = self.login  # type: ignore[assignment] # it has what paramiko asks of it
        self._offer()

    def _offer(self) -> None:
        """Choose the algorithms to offer: those that are implemented here, and the host key types the policy wants."""
        options = self.get_security_options()
        has_chacha = isinstance(self.packetizer, FastPacketizer) and ChaChaPoly.is_available()
        options.ciphers = tuple(name for name in algorithms.CIPHERS if name != chacha.NAME or has_chacha)
        options.digests = algorithms.MACS
        options.key_types = self.policy.wanted_types(algorithms.HOST_KEY_TYPES)

    # --- the stages of a handshake, in the thread of the caller ---

    def await_greeting(self) -> None:
        """Start the connection's thread, and wait until the server has sent its version line.

        Raises:
            ReasonError: it sent something else, or nothing.
            SSHException, OSError, EOFError: the connection was ended.
        """
        self.banner_timeout = self.handshake_timeout = self.auth_timeout = self.deadline.remaining()
        self.start_client(event=self._keys_are_agreed)
        while not self._greeting_has_ended.wait(GLANCE):
            if not self.is_alive():
                break
        if not self.remote_version:
            self.join()  # it ends, and leaves its reason
            raise self._reason_of_end()

    def await_keys(self) -> None:
        """Wait until both sides have agreed on keys, and the server's key was accepted.

        Raises:
            RefusedKeyError: the policy refused the server's key.
            ReasonError: the two sides have no algorithm in common.
            Unreachable: that did not happen in time.
            SSHException, OSError, EOFError: the connection was ended.
        """
        while not self._keys_are_agreed.wait(self.deadline.wait_at_most(GLANCE)):
            if not self.active or not self.deadline.remaining():
                break
        if self._keys_are_agreed.is_set() and self.active:
            return
        if not self.deadline.remaining() and not isinstance(self._ended_by, ReasonError):
            message = "the server began the key exchange and did not end it in time"
            raise Unreachable(message)
        raise self._reason_of_end()

    def connect(self, *_: object, **__: object) -> None:
        """Do nothing: pysftp calls it to log in, which the handshake has done by then."""

    def open_tunnel(
        self, host: str, port: int, deadline: Deadline, why_ended: Callable[[], SFTPError | None]
    ) -> Tunnel:
        """Let the server connect to another host, and forward that connection (RFC 4254, section 7.2).

        One tunnel is opened at a time.

        Parameters:
            host: a name, which the server resolves, or an address.
            port: of the host.
            deadline: by when the server has to answer.
            why_ended: see `Tunnel`.

        Raises:
            SSHException, OSError, EOFError: the server refused, or the connection ended.
        """
        self._next_tunnel = tunnel = Tunnel(why_ended)
        self.open_channel(
            "direct-tcpip",
            dest_addr=(host, port),
            src_addr=("127.0.0.1", 0),  # we have no listener whose client this could be
            window_size=TUNNEL_WINDOW,
            timeout=max(deadline.remaining(), 0.001),
        )
        return tunnel

    def end(self) -> None:
        """End the connection: its thread and its socket are gone on return."""
        self.close()
        self.packetizer.complete_handshake()  # stops the timer of a key exchange that did not end
        with suppress(OSError):  # paramiko closes the socket only of a transport that was active
            self.packetizer.close()
        if self.ident is not None and self is not threading.current_thread():
            self.join()
            self.join_answerer()
        if isinstance(self.packetizer, FastPacketizer) and self is not threading.current_thread():
            self.packetizer.forget_buffers()

    # --- what ended it ---

    def _reason_of_end(self) -> Exception:
        return self.get_exception() or SSHException("the connection was ended")

    @property
    def saved_exception(self) -> Exception | None:
        """What ended paramiko's thread; `get_exception` returns it once."""
        return self._ended_by

    @saved_exception.setter
    def saved_exception(self, error: Exception | None) -> None:
        """Name what paramiko fails at, such as a text that is not UTF-8: the server sent it, this is no bug of ours."""
        if error is not None and isinstance(from_lower_layer(error), Internal):
            unreadable = UnreadableError(f"the server sent something that cannot be read: {type(error).__name__}")
            unreadable.__cause__ = error
            error = unreadable
        self._ended_by = error

    @property
    def host_key_fingerprint(self) -> str:
        """The fingerprint of the server's key, `SHA256:…`, once keys were agreed on."""
        key = self.host_key
        assert key is not None  # noqa: S101 - see above
        return key.fingerprint

    @property
    def has_sent_lines(self) -> bool:
        """Whether the server sent anything before its greeting, or in its place."""
        return bool(self._lines)

    @property
    def text_before_greeting(self) -> str:
        """What the server sent before its greeting, as far as it is text."""
        return readable(self._lines)

    def parting(self) -> ConnectionLost | None:
        """Return an error with what the server said when it ended the connection, if it did so with a message."""
        if self.farewell is None:
            return None
        if self._farewell_reason == TOO_MANY_CONNECTIONS:
            return ServerBusy(f"the server takes no more connections for now and said: {self.farewell}")
        return ConnectionLost(f"the server ended the connection and said: {self.farewell}")

    # --- what flows on channels, in paramiko's thread ---

    def _take_data(self, number: int, data: memoryview) -> bool:
        """Hand data to a channel of ours."""
        channel = self._channels.get(number)
        if channel is None or not isinstance(channel.in_buffer, Inlet):
            return False
        channel.in_buffer.feed(data)
        return True

    def _take_window(self, number: int, more: int) -> bool:
        channel = self._channels.get(number)
        if not isinstance(channel, Channel):
            return False
        channel.widen(more)
        return True

    def _take_amid_keys(self, kind: int, message: paramiko.Message) -> bool:
        """Take what no server may send between the messages of a later key exchange: OpenSSH's client does, too.

        paramiko's server confirms there what was asked before (RFC 4253, section 7.1, forbids it).
        """
        if not self._expected_packet or not self.initial_kex_done or kind not in CONNECTION_PROTOCOL:
            return False
        if kind in self._channel_handler_table:
            channel = self._channels.get(message.get_int())
            if channel is not None:
                self._channel_handler_table[kind](channel, message)
        elif kind in self._handler_table:
            self._handler_table[kind](message)
        return True

    # --- paramiko's own steps, in its thread ---

    def _check_banner(self) -> None:
        try:
            self._read_greeting()
        finally:
            self._greeting_has_ended.set()

    def _read_greeting(self) -> None:
        """Read lines up to the greeting (RFC 4253, section 4.2). A busy server says so there, and hangs up."""
        lines = self._lines
        packetizer: BoundedPacketizer = self.packetizer  # type: ignore[assignment] # the constructor has chosen it
        while len(lines) < MOST_LINES:
            try:
                line = packetizer.greeting_line(self.banner_timeout)
            except (EOFError, OSError) as error:
                raise ReasonError(no_greeting(lines, TimeoutError() if packetizer.closed else error)) from error
            if line.startswith(b"SSH-"):
                version = line.decode()
                if line.startswith((b"SSH-2.0-", b"SSH-1.99-")):
                    self.remote_version = version
                    return
                raise ReasonError(too_old(version))
            lines.append(line)
        message = f"the server began with more than {MOST_LINES} lines and no greeting: is this an SSH server?"
        raise ReasonError(Unsupported(message))

    def _really_parse_kex_init(self, m: paramiko.Message, *, ignore_first_byte: bool = False) -> dict[str, Any]:
        """Record what the server offers. MACs do not matter with a cipher that needs none (RFC 5647, section 5.1)."""
        offered: dict[str, Any] = super()._really_parse_kex_init(m, ignore_first_byte=ignore_first_byte)  # type: ignore[misc]
        self._offered = {name: list(names) for name, names in offered.items() if isinstance(names, list)}
        for macs, ciphers in MACS_OF.items():
            agreed = next((name for name in self.preferred_ciphers if name in offered[ciphers]), "")
            if self._cipher_info.get(agreed, {}).get("is_aead"):
                offered[macs] = list(self.preferred_macs)
        return offered

    def _parse_kex_init(self, m: paramiko.Message) -> None:
        """Agree on algorithms. Whether that is strict is said in the first key exchange, and ignored in later ones."""
        is_strict = self.agreed_on_strict_kex
        try:
            super()._parse_kex_init(m)  # type: ignore[misc]
        except IncompatiblePeer as error:
            raise ReasonError(self._nothing_in_common(error)) from error
        if self.initial_kex_done:
            self.agreed_on_strict_kex = is_strict
        offered = self._offered["kex_algo_list"]
        self.key_exchange = next((name for name in self.preferred_kex if name in offered), self.key_exchange)

    def _nothing_in_common(self, error: IncompatiblePeer) -> SFTPError:
        """Return an error with both sides' lists of what they do not have in common."""
        for what, theirs, ours in ALGORITHM_LISTS:
            offered, spoken = self._offered.get(theirs, []), getattr(self, ours)
            if not set(offered) & set(spoken):
                return Unsupported(incompatible(what, offered, spoken))
        return from_lower_layer(error)

    def _verify_key(self, host_key: bytes, sig: bytes) -> None:
        check_numbers(host_key, sig)
        super()._verify_key(host_key, sig)  # type: ignore[misc] # the signature proves that the server has the key
        key = self.host_key
        assert key is not None  # noqa: S101 - set by the line above
        try:
            certificate = host_key if algorithms.CERTIFICATE_SUFFIX in (self.host_key_type or "") else None
            self._caller.run(self.policy.check, key, certificate)
        except HostKeyMismatch as reason:
            raise RefusedKeyError(reason) from None

    def _parse_channel_open_success(self, m: paramiko.Message) -> None:
        """Make the channel ours, and connect a tunnel before the first data comes: an SSH server speaks first."""
        channel = self._channels.get(int.from_bytes(m.asbytes()[:4], "big"))
        if channel is not None:
            channel.__class__ = Channel
            if self._next_tunnel is not None:
                self._next_tunnel.attach(channel)
                self._next_tunnel = None
        super()._parse_channel_open_success(m)  # type: ignore[misc]

    def _parse_ext_info(self, msg: paramiko.Message) -> None:
        """Read the server's extensions (RFC 8308); paramiko would loop as often as the server says there are some."""
        fields, extensions = Reader(msg.asbytes()), {}
        try:
            for _ in range(fields.uint32()):
                name = fields.string().decode("utf-8", "replace")
                extensions[name] = fields.string()
        except ConnectionLost as error:
            raise SSHException(error.message) from None
        self.server_extensions = extensions
        self.login.note_extensions()

    def _parse_disconnect(self, m: paramiko.Message) -> None:
        self._farewell_reason = m.get_int()
        self.farewell = excerpt(m.get_string().decode("utf-8", "replace"), LONGEST_WORDS)
