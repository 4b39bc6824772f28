"""One connection to a server: pysftp's `Connection`, made safe.

pysftp has no time limits, looks host keys up wrongly and never checks them again, takes RSA keys only, and gives one
channel that only one thread may use. Its class is a thin shell here: the handshake opens the connection, and pysftp's
constructor adopts it. This file is the only one that reaches into private parts of pysftp: `_start_transport`,
`_set_authentication` and `_transport` of `pysftp.Connection`; `tests/client/ssh/test_private_parts.py` fails when they
move.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from iot.sftp.client._base.deadline import GLANCE, Deadline
from iot.sftp.client._base.errors import ConnectionLost, LocalBusy, Retry, SFTPError
from iot.sftp.client._base.pysftp import pysftp
from iot.sftp.client._base.text import excerpt
from iot.sftp.client._base.threads import start_thread
from iot.sftp.client._ssh.channel_pool import ChannelBudget, ChannelPool
from iot.sftp.client._ssh.handshake import Handshake, ServerInfo
from iot.sftp.client._ssh.liveness import Liveness
from iot.sftp.client._ssh.packets import Kind, string
from iot.sftp.client._ssh.paramiko_internals.failures import reason_of
from iot.sftp.client._ssh.paramiko_internals.reading import let_callers_read, read_while_waiting
from iot.sftp.client._ssh.remote_command import RemoteCommands
from iot.sftp.client._ssh.requests import Answer
from iot.sftp.client._ssh.route import dialer_of
from iot.sftp.client._ssh.waiting import wait_for, wait_for_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    from iot.sftp.client._base.settings import ServerSettings
    from iot.sftp.client._ssh.channel import SFTPChannel
    from iot.sftp.client._ssh.host_keys import HostKeyPolicy
    from iot.sftp.client._ssh.paramiko_internals.transport import Transport
    from iot.sftp.client._ssh.requests import Reply
    from iot.sftp.client._ssh.server_traits import ServerTraits

logger = logging.getLogger(__name__)

LIMITS = "limits@openssh.com"  # OpenSSH PROTOCOL, section 4.8
SHORT_CALLS_FOR = 2.0  # seconds after a short call in which the next one is expected
LONGEST_RECORD = 1000  # characters of one of paramiko's log records


def _only_for_debugging(record: logging.LogRecord) -> bool:
    record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    if not logging.getLogger(record.name).isEnabledFor(logging.DEBUG):
        return False
    record.msg, record.args = excerpt(record.getMessage(), LONGEST_RECORD), ()  # it contains the server's words
    return True


# paramiko logs each broken connection with a traceback at level ERROR. Here the session reports it, once: paramiko's
# records are for debugging.
logging.getLogger("iot.sftp.client.ssh").addFilter(_only_for_debugging)


class _Options(pysftp.CnOpts):  # type: ignore[misc] # pysftp has no types
    """pysftp's options without its look into `~/.ssh/known_hosts`: the handshake checks the key."""

    def __init__(self) -> None:
        self.log = False
        self.compression = False
        self.ciphers = None
        self.hostkeys = None


class Connection(pysftp.Connection):  # type: ignore[misc] # pysftp has no types
    """A connection that is logged in, and the SFTP channels on it; thread-safe.

    Attributes:
        info: what the server showed of itself when the connection was opened; it can be read after the end, too.
        traits: what is known of the server beyond what its protocol promises.
        channels: the SFTP channels.
        request_sizes: the bytes of READ and WRITE requests, once the server's limits are known.
    """

    info: ServerInfo
    channels: ChannelPool

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
        """Open the connection: see `Handshake`.

        Parameters:
            settings: the server.
            policy: which keys it may have.
            deadline: by which all of this is done.
            budget: how many channels it grants, as far as that is known.
            announce: called first, so that the connection can be closed while it is being opened.
            traits: what the server does, as far as that is known; updated.

        Raises:
            SFTPError: what failed; nothing is left open then.
        """
        self.traits = traits
        self._limits = settings.time_limits
        self._lock = threading.Lock()
        self._failure: SFTPError | None = None
        self._asking_limits = threading.Lock()
        self._asked_limits: Future[Reply] | None = None
        self.request_sizes: tuple[int, int] | None = None
        self._short_call_at = float("-inf")
        self._users = 0
        self._last_use = time.monotonic()
        self._ended = threading.Event()
        self._keeper: threading.Thread | None = None
        self._handshake = Handshake(settings, policy, deadline, dialer=dialer_of(settings), open_files=traits.files)
        announce(self)
        self._open()
        super().__init__(settings.host, username=settings.user, port=settings.port, cnopts=_Options())
        transport, self._activity = self._handshake.transport, self._handshake.activity
        self.info = self._handshake.info
        traits.recognise(self.info.server, self.info.extensions)
        self._liveness = Liveness(transport, self._limits.stall, self._is_amid_an_answer)
        self._commands = RemoteCommands(transport, self._limits, self._ask_for_an_answer)
        self.channels = ChannelPool(
            transport,
            self._handshake.channel,
            budget,
            limits=self._limits,
            activity=self._activity,
            open_files=traits.files,
        )
        let_callers_read(transport, self.channels.is_awaited)
        self._last_use = time.monotonic()  # opening it may have taken longer than an idle session lasts
        try:
            self._keeper = start_thread(self._keep, name="sftp-keeper")
        except LocalBusy as error:
            self.close(error)
            raise

    def _open(self) -> None:
        try:
            self._handshake.check_credentials()
            self._handshake.run()
        except BaseException as error:
            reason = self._failure or (error if isinstance(error, SFTPError) else reason_of(error))
            self.close(reason)
            if reason is error or not isinstance(error, Exception):
                raise
            raise reason from error

    def _start_transport(self, *_: object) -> None:
        """Adopt the handshake's transport, in the place of pysftp's own step."""
        self._transport = self._handshake.transport

    def _set_authentication(self, *_: object) -> None:
        """Do nothing, in the place of pysftp's own step: the handshake has logged in."""

    def __del__(self) -> None:
        """Do nothing: pysftp would talk to the server from within the garbage collector."""

    @property
    def transport(self) -> Transport:
        """The SSH connection."""
        return self._handshake.transport

    @property
    def quick(self) -> SFTPChannel:
        """The channel for calls that are answered at once."""
        return self.channels.quick

    @property
    def alive(self) -> bool:
        """Whether the connection has not been seen to break."""
        return self._failure is None and not self.quick.closed and self.transport.is_active()

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

    def note_short_call(self) -> None:
        """Record a call that is answered at once, if it need not wait behind transfers."""
        self._short_call_at = time.monotonic()

    @property
    def has_short_calls(self) -> bool:
        """Whether short calls were made a moment ago."""
        return time.monotonic() - self._short_call_at < SHORT_CALLS_FOR

    # --- its channels ---

    def transfer_channel(self, deadline: Deadline) -> AbstractContextManager[SFTPChannel]:
        """Lend a channel for one transfer: see `ChannelPool.lend`."""
        self.limits()  # are known by the time that it is there
        return self.channels.lend(deadline)

    def limits(self) -> Future[Reply] | None:
        """Return the answer to come to `limits@openssh.com`, asked once; `None` where that is not offered."""
        with self._asking_limits:
            if self._asked_limits is None and LIMITS in self.quick.extensions:
                self._asked_limits = self.quick.request(Kind.EXTENDED, string(LIMITS.encode()))
            return self._asked_limits

    def spare_channel(self, deadline: Deadline) -> AbstractContextManager[SFTPChannel | None]:
        """Lend a further channel to a transfer that has one already: see `ChannelPool.lend_spare`."""
        return self.channels.lend_spare(deadline)

    def run(self, command: str, deadline: Deadline) -> bytes:
        """Return what a command prints on the server: see `RemoteCommands.run`."""
        return self._commands.run(command, deadline)

    # --- waiting for the server ---

    def wait(self, future: Future[Reply], deadline: Deadline) -> Reply:
        """Wait for an answer; a server that owes one and is silent for too long loses its connection.

        Raises:
            DeadlineExceeded, ConnectionLost: see `wait_for`.
        """
        try:
            if not future.done() and not self._has_read(future, deadline):  # most are that were asked for together
                self._wait_for(future, deadline)
            return future.result()
        except ConnectionLost as error:
            raise self.lost(error) from None

    def _has_read(self, future: Future[Reply], deadline: Deadline) -> bool:
        """Read what the server sends in this thread, if it is alone, and return whether the answer was there soon."""
        return read_while_waiting(self._handshake.transport, future.done, deadline.wait_at_most(GLANCE))

    def _wait_for(self, future: Future[Reply], deadline: Deadline) -> None:
        liveness = self._liveness
        is_slow = isinstance(future, Answer) and future.is_slow
        if is_slow:
            liveness.begin_slow_wait(future)
        try:
            wait_for_answer(
                future,
                deadline,
                self._activity.silence,
                self._limits.stall,
                lambda: liveness.is_only_slow(deadline),
            )
        finally:
            if is_slow:
                liveness.end_slow_wait(future)

    def wait_until(self, is_ready: Callable[[float], bool], deadline: Deadline) -> None:
        """Wait for what the server owes; `is_ready` waits for so many seconds at most, and returns whether it is there.

        Raises:
            DeadlineExceeded, ConnectionLost: see `wait_for`.
        """
        try:
            wait_for(
                is_ready,
                deadline,
                self._activity.silence,
                self._limits.stall,
                lambda: self._liveness.is_only_slow(deadline),
            )
        except ConnectionLost as error:
            raise self.lost(error) from None

    def _is_amid_an_answer(self) -> bool:
        return any(channel.is_amid_an_answer for channel in self.channels.all)

    # --- its end ---

    def lost(self, error: ConnectionLost) -> SFTPError:
        """End the connection, and return why it broke. Other calls on it may be retried."""
        self.close(ConnectionLost(error.message) if error.retry is Retry.NEVER else error)
        return reason_of(error, self.transport.saved_exception)

    def close(self, error: SFTPError | None = None) -> None:
        """End the connection: calls in flight fail with `error`, threads and the socket are gone on return."""
        with self._lock:
            failure = self._failure = self._failure or error or ConnectionLost("the connection was closed")
        self._ended.set()
        channels: ChannelPool | None = getattr(self, "channels", None)  # none while it is being opened
        if channels is not None:
            channels.fail(failure)
        self._handshake.close(failure)
        if channels is not None:
            channels.join()
            self._liveness.join()
        if self._keeper is not None and self._keeper is not threading.current_thread():
            self._keeper.join()

    # --- keep-alive and idle ---

    def _keep(self) -> None:
        """Send a keep-alive now and then: a dead peer is detected while there are no calls. Close an idle connection.

        Unlike paramiko's keep-alive, this one is answered, and no firewall forgets a connection on which it is sent.
        """
        keep_alive, idle = self._limits.keep_alive, self._limits.idle
        while not self._ended.wait(min(keep_alive or idle, idle)):
            with self._lock:
                is_idle = not self._users and time.monotonic() - self._last_use >= idle
            if is_idle:
                logger.info("Nobody has used the connection for %g s: it is closed until it is needed", idle)
                self.close(ConnectionLost("the connection was closed because it was idle"))
            elif keep_alive:
                with suppress(SFTPError):  # a refusal is an answer, and a lost connection is closed
                    self._ask_for_an_answer(Deadline(None))

    def _ask_for_an_answer(self, deadline: Deadline) -> None:
        # The root has the shortest of all answers, which has a path twice
        self.wait(self.quick.request(Kind.REALPATH, string(b"/")), deadline)
