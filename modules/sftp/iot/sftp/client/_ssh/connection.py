"""One connection to a server: pysftp's `Connection`, made safe.

pysftp has no time limits, looks host keys up wrongly and never checks them again, takes RSA keys only, and gives one
channel that only one thread may use. Its constructor's own steps are kept and replaced one by one: dialling, the
transport with its key check, logging in. This file is the only one that reaches into private parts of pysftp:
`_start_transport`, `_set_authentication` and `_transport` of `pysftp.Connection`;
`tests/client/ssh/test_private_parts.py` fails when they move.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import paramiko

from iot.sftp.client._base.deadline import GLANCE, Deadline
from iot.sftp.client._base.errors import (
    ConnectionLost,
    DeadlineExceeded,
    HostKeyMismatch,
    Retry,
    ServerBusy,
    SFTPError,
    Unreachable,
    Unsupported,
)
from iot.sftp.client._base.lower_layers import from_lower_layer
from iot.sftp.client._base.pysftp import pysftp
from iot.sftp.client._base.text import excerpt
from iot.sftp.client._ssh import login_backoff as login_pauses
from iot.sftp.client._ssh.channel import Answer, Reply, SFTPChannel, wait_for, wait_for_answer
from iot.sftp.client._ssh.credentials import Credentials
from iot.sftp.client._ssh.dial import dial
from iot.sftp.client._ssh.packets import Kind, string
from iot.sftp.client._ssh.transport import ReasonError, Transport, divert

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from iot.sftp.client._base.settings import ServerSettings
    from iot.sftp.client._ssh.host_keys import HostKeyPolicy
    from iot.sftp.client._ssh.server_traits import ServerTraits

logger = logging.getLogger(__name__)

# AES-GCM first: fastest, and authenticated in one pass. CBC, 3DES and MACs on MD5 or cut short are not offered.
CIPHERS = (
    "aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com",
    "aes128-ctr", "aes192-ctr", "aes256-ctr",
)  # fmt: skip
MACS = (
    "hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512", "hmac-sha1",
)  # fmt: skip

# ProFTPD puts requests of two channels together wrongly where one of them is split over several SSH packets: uploads
# beside any other call then fail or hang. On one channel all goes well.
MIXES_UP_CHANNELS = "mod_sftp"

# Servers that take a channel for the stream that it is (RFC 4254, section 5.2): sshd hands it on through a pipe.
TAKES_A_STREAM = "OpenSSH", MIXES_UP_CHANNELS

TRANSFER_CHANNELS = 8  # OpenSSH grants ten a connection: one is for quick calls, one for a command
# A server that is doing something slow (a RENAME of an object store copies) is waited for as long as it answers other
# questions, but not for ever: so many stall limits, and at least so many seconds.
SLOW_STALLS, SLOW_SECONDS = 10, 300.0
LONGEST_WORDS = 4096  # bytes of what a command may say
COMMAND_STALLS = 4  # times the stall limit that a command may take; half of a call's time at most
LONGEST_RECORD = 1000  # characters of what paramiko has to say in a log
LONGEST_VERSION = 240  # characters of a version or an extension that are shown: RFC 4253 allows 255


def _only_for_debugging(record: logging.LogRecord) -> bool:
    record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    if not logging.getLogger(record.name).isEnabledFor(logging.DEBUG):
        return False
    record.msg, record.args = excerpt(record.getMessage(), LONGEST_RECORD), ()  # the server's words are in it
    return True


# paramiko tells of each broken connection with a trace at level ERROR. Here that is told once, by the session: what
# paramiko has to say about it is for debugging.
logging.getLogger("iot.sftp.client.ssh").addFilter(_only_for_debugging)


@dataclass(frozen=True)
class ServerInfo:
    """What a server showed of itself.

    Attributes:
        host_key: the fingerprint of its key, `SHA256:…`.
        server: its version line, `SSH-2.0-…`.
        cipher: what the connection is encrypted with.
        extensions: the SFTP extensions that it announced.
    """

    host_key: str
    server: str
    cipher: str
    extensions: tuple[str, ...]


@dataclass
class ChannelBudget:
    """How many channels for transfers a server grants; learned once, kept between connections.

    Some servers do not refuse a channel too many, but end the connection. Twice in a row is taken for that, once for
    a link that broke at this moment.
    """

    most: int = TRANSFER_CHANNELS
    breaks: int = 0

    def learn(self, granted: int, *, broke: bool) -> None:
        """Take note that no more than `granted` were to be had, or that the connection broke when one was opened."""
        self.breaks += broke
        if not broke or self.breaks > 1:
            self.most = min(self.most, granted)


class _Options(pysftp.CnOpts):  # type: ignore[misc] # pysftp has no types
    """pysftp's options without its look into `~/.ssh/known_hosts`: the transport checks the key."""

    def __init__(self) -> None:
        self.log = False
        self.compression = False
        self.ciphers = None
        self.hostkeys = None


class Connection(pysftp.Connection):  # type: ignore[misc] # pysftp has no types
    """A connection that is logged in, and the SFTP channels on it.

    One channel is for quick calls. Transfers borrow their own, so that they do not hold quick calls up; where the
    server grants no further channel, they share the first one.

    Attributes:
        info: what the server showed of itself when the connection was opened; it can be read after the end, too.
        traits: what is known of the server beyond what its protocol promises.
    """

    _transport: Transport | None
    info: ServerInfo

    def __init__(
        self,
        settings: ServerSettings,
        policy: HostKeyPolicy,
        deadline: Deadline,
        budget: ChannelBudget,
        announce: Callable[[Connection], object],
        *,
        traits: ServerTraits,
    ) -> None:
        """Dial, check the key, log in, and start SFTP.

        Parameters:
            settings: the server.
            policy: which keys it may have.
            deadline: by which all of this is done.
            budget: how many channels it grants, as far as that is known.
            announce: called first, for whoever may want to close the connection while it is being opened.
            traits: what the server does, as far as that is known; recognised anew.

        Raises:
            SFTPError: whatever went wrong, by name; nothing is left open then.
        """
        self._settings = settings
        self._policy = policy
        self._deadline = deadline
        self._limits = settings.time_limits
        self._lock = threading.Lock()
        self._budget = budget
        self.traits = traits
        self._channels: list[SFTPChannel] = []
        self._transfers: dict[SFTPChannel, int] = {}  # transfers on each channel that is for them
        self._openings = 0
        self._command_hung = False
        self._last_activity = time.monotonic()
        self._failure: SFTPError | None = None
        self._transport = None
        self._users = 0
        self._last_use = time.monotonic()
        self._ended = threading.Event()
        self._slow: dict[object, float] = {}  # who waits for a slow request, and since when
        self._prober: threading.Thread | None = None
        self._keeper = threading.Thread(target=self._keep, name="sftp-keeper", daemon=True)
        announce(self)
        try:
            self._credentials = Credentials.read(settings)
            login_pauses.check(self._credentials.identity)
            with _at(deadline, self._close_transport):  # some of paramiko's calls wait for ever
                super().__init__(settings.host, username=settings.user, port=settings.port, cnopts=_Options())
                if MIXES_UP_CHANNELS in self._live_transport.remote_version:
                    budget.most = 0
                self._quick = self._open_channel(deadline)
                self.info = self._shown()
                traits.recognise(self.info.server, self.info.extensions)
        except BaseException as error:
            reason = self._connect_reason(error, deadline)
            self.close(reason)
            if reason is error or not isinstance(error, Exception):
                raise
            raise reason from error
        self._last_use = time.monotonic()  # opening it may have taken longer than an idle session lasts
        self._keeper.start()

    def __del__(self) -> None:
        """Do nothing: pysftp would talk to the server from within the garbage collector."""

    @property
    def quick(self) -> SFTPChannel:
        """The channel for calls that are answered at once."""
        return self._quick

    @property
    def alive(self) -> bool:
        """Whether the connection has not been seen to break."""
        return self._failure is None and not self._quick.closed and self._live_transport.is_active()

    def _shown(self) -> ServerInfo:
        transport = self._live_transport
        cipher, _ = self.active_ciphers
        key: paramiko.PKey = transport.get_remote_server_key()
        return ServerInfo(
            host_key=key.fingerprint,
            server=excerpt(transport.remote_version, LONGEST_VERSION),
            cipher=cipher,
            extensions=tuple(excerpt(name, LONGEST_VERSION) for name in sorted(self._quick.extensions)),
        )

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the connection from being closed as idle."""
        with self._lock:
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                self._last_use = time.monotonic()

    @contextmanager
    def transfer_channel(self, deadline: Deadline) -> Iterator[SFTPChannel]:
        """Lend a channel for one transfer: an idle one, a new one, or the one that has the fewest transfers.

        The channel for quick calls is lent only where the server grants no other.
        """
        with self._lock:
            self._transfers = {channel: count for channel, count in self._transfers.items() if not channel.closed}
            busy = all(self._transfers.values())
            open_one = busy and len(self._transfers) + self._openings < self._budget.most
            self._openings += open_one
        if open_one:
            self._open_another_channel(deadline)
        with self._lock:
            channel = min(self._transfers, key=self._transfers.__getitem__, default=None)
            if channel is not None:
                self._transfers[channel] += 1
        try:
            yield channel or self._quick
        finally:
            with self._lock:
                if channel in self._transfers:
                    self._transfers[channel] -= 1

    @contextmanager
    def spare_channel(self, deadline: Deadline) -> Iterator[SFTPChannel | None]:
        """Lend a further channel to a transfer that has one already: an idle or a new one, or none."""
        with self._lock:
            used = {channel for channel, count in self._transfers.items() if count}
        with self.transfer_channel(deadline) as channel:
            yield None if channel in used or channel is self._quick else channel

    def run(self, command: str, deadline: Deadline) -> bytes:
        """Return what a command says on the server, a few lines at most.

        Nothing where the server lets nobody run one, or where a command has not ended in time: whoever asks has
        another way.
        """
        if self._command_hung:
            return b""
        end = time.monotonic() + min(COMMAND_STALLS * self._limits.stall, deadline.remaining() / 2)
        said: Future[bytes] = Future()
        ended = threading.Event()

        def run() -> None:
            try:
                channel = self._live_transport.open_session(timeout=self._limits.connect)
                with closing(channel):
                    threading.Thread(target=_close_when, args=(ended, channel), name="sftp-command-end").start()
                    said.set_result(_words_of(channel, command))
            except Exception:  # noqa: BLE001 - it lets nobody run a command, or the connection broke
                said.set_result(b"")
            finally:
                ended.set()

        threading.Thread(target=run, name="sftp-command", daemon=True).start()
        try:
            asked = time.monotonic()
            while True:
                try:
                    return said.result(deadline.wait_at_most(min(GLANCE, max(end - time.monotonic(), 0.0))))
                except (FutureTimeoutError, TimeoutError):
                    deadline.check()
                if time.monotonic() >= end:
                    logger.info("A command on the server does not end: it is given up, and no other one is run")
                    self._command_hung = True
                    return b""
                if time.monotonic() - asked >= self._limits.stall / 2:
                    # A command may take its time, but the server is there.
                    self.wait(self._quick.request(Kind.REALPATH, string(b".")), deadline)
                    asked = time.monotonic()
        finally:
            ended.set()

    def wait(self, future: Future[Reply], deadline: Deadline) -> Reply:
        """Wait for an answer; a server that owes one and is silent for too long loses its connection.

        Raises:
            DeadlineExceeded, ConnectionLost: see `wait_for`.
        """
        is_slow = isinstance(future, Answer) and future.is_slow
        try:
            with self._waiting_for_something_slow() if is_slow else nullcontext():
                return wait_for_answer(
                    future, deadline, self._silence, self._limits.stall, lambda: self._is_only_slow(deadline)
                )
        except ConnectionLost as error:
            raise self.lost(error) from None

    def wait_until(self, ready: Callable[[float], bool], deadline: Deadline) -> None:
        """Wait for what the server owes; `ready` waits for so many seconds at most, and tells whether it is there.

        Raises:
            DeadlineExceeded, ConnectionLost: see `wait_for`.
        """
        try:
            wait_for(ready, deadline, self._silence, self._limits.stall, lambda: self._is_only_slow(deadline))
        except ConnectionLost as error:
            raise self.lost(error) from None

    @contextmanager
    def _waiting_for_something_slow(self) -> Iterator[None]:
        waiting = object()
        with self._lock:
            self._slow[waiting] = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                del self._slow[waiting]

    def _is_only_slow(self, deadline: Deadline) -> bool:
        """Tell whether a server that is silent is there, and busy with something that may take long.

        What it owes others meanwhile may have to wait behind that: many servers do one thing after the other.
        """
        with self._lock:
            since = min(self._slow.values(), default=None)
            if any(channel.is_amid_an_answer for channel in self._channels):
                return False
        longest = max(SLOW_STALLS * self._limits.stall, SLOW_SECONDS)
        return since is not None and time.monotonic() - since < longest and self._answers_at_all(deadline)

    def _answers_at_all(self, deadline: Deadline) -> bool:
        """Ask the SSH server itself, below SFTP: it has to answer this question too (RFC 4254, section 4)."""
        with self._lock:
            prober = self._prober
            if prober is None or not prober.is_alive():
                prober = self._prober = threading.Thread(target=self._probe, name="sftp-prober", daemon=True)
                prober.start()
        limit = deadline.within(self._limits.stall)
        while prober.is_alive() and limit.remaining():
            prober.join(limit.wait_at_most())
        return not prober.is_alive() and self._live_transport.is_active()

    def _probe(self) -> None:
        with suppress(Exception):  # a connection that has ended answers nothing, and is seen to have ended
            self._live_transport.global_request("keepalive@openssh.com", wait=True)

    def lost(self, error: ConnectionLost) -> SFTPError:
        """End the connection, and return why it broke. Whoever else uses it may repeat what it does."""
        self.close(ConnectionLost(error.message) if error.retry is Retry.NEVER else error)
        return self._reason(error)

    def close(self, error: SFTPError | None = None) -> None:
        """End the connection: calls in flight fail with `error`, threads and the socket are gone on return."""
        with self._lock:
            self._failure = self._failure or error or ConnectionLost("the connection was closed")
            failure, channels = self._failure, list(self._channels)
        self._ended.set()
        for channel in channels:
            channel.fail(failure)
        transport = self._transport
        if transport is None:
            return
        transport.close()
        transport.packetizer.complete_handshake()  # ends the timer of a key exchange that did not end
        # paramiko closes the socket only of a transport that was active
        with suppress(OSError):
            transport.sock.close()
        if transport.ident is not None and transport is not threading.current_thread():
            transport.join()
        for channel in channels:
            channel.join()
        for thread in (self._keeper, self._prober):
            if thread is not None and thread.ident is not None and thread is not threading.current_thread():
                thread.join()

    def _keep(self) -> None:
        """Ask for a sign of life now and then: a peer that is gone is noticed while nobody calls. End an idle session.

        The question has an answer, unlike paramiko's keep-alive, and no firewall forgets a connection on which it is
        asked.
        """
        keep_alive, idle = self._limits.keep_alive, self._limits.idle
        while not self._ended.wait(min(keep_alive or idle, idle)):
            with self._lock:
                is_idle = not self._users and time.monotonic() - self._last_use >= idle
            if is_idle:
                logger.info("Nobody has used the connection for %g s: it is closed until it is needed", idle)
                self.close(ConnectionLost("the connection was closed because nobody used it"))
            elif keep_alive:
                with suppress(SFTPError):  # a refusal is an answer, and what is lost is closed
                    self.wait(self._quick.request(Kind.REALPATH, string(b".")), Deadline(None))

    @property
    def _live_transport(self) -> Transport:
        assert self._transport is not None  # noqa: S101 - the constructor has set it, and nothing takes it away
        return self._transport

    def _start_transport(self, host: str, port: int) -> None:
        """Take the place of pysftp's: a socket within the time limit, and a transport that checks keys."""
        sock: socket.socket = dial(host, port, self._deadline, self._limits.stall)
        if self._failure is not None:
            sock.close()
            raise self._failure
        transport = Transport(sock)
        self._transport = transport
        transport.policy, transport.credentials, transport.deadline = self._policy, self._credentials, self._deadline
        transport.offer(CIPHERS, MACS)

    def _set_authentication(self, *_: Any) -> None:
        """Take the place of pysftp's: `Transport.connect` logs in."""

    def _open_channel(self, deadline: Deadline) -> SFTPChannel:
        transport = self._live_transport
        raw = transport.open_session(timeout=max(deadline.remaining(), 0.001))
        channel = SFTPChannel(raw, self._note_activity, self.traits.files)
        channel.joins_requests = any(name in transport.remote_version for name in TAKES_A_STREAM)
        with self._lock:
            self._channels = [*(other for other in self._channels if not other.closed), channel]
        try:
            with _at(deadline, raw.event.set):  # what paramiko waits for, without a limit
                raw.invoke_subsystem("sftp")
            channel.start(lambda future: wait_for_answer(future, deadline, self._silence, self._limits.stall))
        except SFTPError as error:
            channel.close(error)
            raise
        return channel

    def _open_another_channel(self, deadline: Deadline) -> None:
        """Open a further channel, or learn that the server grants none.

        It is opened in a thread of its own: a caller who cannot wait so long leaves the channel to the next one.
        """
        opened: Future[None] = Future()

        def open_channel() -> None:
            try:
                channel = self._open_channel(Deadline(self._limits.connect))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is for whoever waits
                with self._lock:
                    self._openings -= 1
                    self._budget.learn(len(self._transfers), broke=not self._live_transport.is_active())
                opened.set_exception(self._reason(error))
            else:
                with self._lock:
                    self._openings -= 1
                    self._transfers[channel] = 0
                    self._budget.breaks = 0
                opened.set_result(None)

        threading.Thread(target=open_channel, name="sftp-channel-opening", daemon=True).start()
        try:
            wait_for_answer(opened, deadline, self._silence, self._limits.stall)
        except DeadlineExceeded:
            raise
        except Exception as error:
            if not self._live_transport.is_active():
                lost = ConnectionLost("the server ended the connection when a further channel was asked for")
                raise lost from error
            logger.info("The server grants no further channel (%s): transfers share what there is", error)

    def _close_transport(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _note_activity(self) -> None:
        self._last_activity = time.monotonic()

    def _silence(self) -> float:
        return time.monotonic() - self._last_activity

    def _reason(self, error: BaseException) -> SFTPError:
        """Name what ended the connection: a key that was refused in paramiko's thread comes before what others saw."""
        for cause in (error, getattr(self._transport, "saved_exception", None), error.__context__):
            if isinstance(cause, ReasonError):
                return cause.reason
        return from_lower_layer(error)

    def _connect_reason(self, error: BaseException, deadline: Deadline) -> SFTPError:
        """Name why there is no connection: paramiko has one class for several reasons, and words for a few."""
        if self._failure is not None:
            return self._failure  # somebody has closed it meanwhile
        named, transport = self._reason(error), self._transport
        ours = isinstance(error, SFTPError) and not isinstance(error, ConnectionLost | DeadlineExceeded)
        clear = isinstance(named, HostKeyMismatch | ServerBusy) or isinstance(error, ReasonError)
        if transport is None or ours or clear:
            return named
        if deadline.remaining() == 0.0:
            said = f" (it said {transport.words!r})" if transport.words else ""
            return Unreachable(f"the server did not let us in within {self._limits.connect:g} s{said}")
        if transport.initial_kex_done or isinstance(named, Unsupported):
            return named
        return transport.parting() or ConnectionLost(
            "the server closed the connection before it had shown its key: is this an SSH server?"
        )


def _words_of(channel: paramiko.Channel, command: str) -> bytes:
    """Return what a command says, until it ends or has said too much for an answer."""
    said = bytearray()
    ended = threading.Event()

    def take(data: bytes | memoryview) -> None:
        said.extend(data[: LONGEST_WORDS - len(said)])
        if len(said) >= LONGEST_WORDS:
            ended.set()

    divert(channel, take, ended.set)
    channel.exec_command(command)
    channel.shutdown_write()
    ended.wait()
    return bytes(said)


def _close_when(ended: threading.Event, channel: paramiko.Channel) -> None:
    ended.wait()
    with suppress(OSError, EOFError):
        channel.close()


@contextmanager
def _at(deadline: Deadline, action: Callable[[], object]) -> Iterator[None]:
    """Do something at the deadline, unless the block has ended by then."""
    timer = threading.Timer(min(deadline.remaining(), threading.TIMEOUT_MAX), action)
    timer.daemon = True
    timer.name = "sftp-connect-limit"
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
