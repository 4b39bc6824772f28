"""The one way from settings to a connection on which SFTP answers, stage by stage.

A session runs all stages (`run`); `diagnose` runs the very same ones, and describes each when it has ended (`stages`).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    ConnectionLost,
    DeadlineExceeded,
    HostKeyMismatch,
    ServerBusy,
    SFTPError,
    Unreachable,
    Unsupported,
)
from iot.sftp.client._base.text import excerpt
from iot.sftp.client._ssh.acknowledging_socket import AcknowledgingSocket
from iot.sftp.client._ssh.credentials import Credentials
from iot.sftp.client._ssh.liveness import Activity
from iot.sftp.client._ssh.login import authenticate
from iot.sftp.client._ssh.login_backoff import LOGIN_BACKOFF
from iot.sftp.client._ssh.open_files import OpenFiles
from iot.sftp.client._ssh.paramiko_internals.failures import ReasonError, RefusedKeyError, reason_of
from iot.sftp.client._ssh.paramiko_internals.transport import Transport
from iot.sftp.client._ssh.server_traits import sends_at_once
from iot.sftp.client._ssh.sftp_subsystem import open_sftp_channel
from iot.sftp.client._ssh.waiting import at_deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._base.settings import ServerSettings
    from iot.sftp.client._ssh.channel import SFTPChannel
    from iot.sftp.client._ssh.dial import Dialer, Hop
    from iot.sftp.client._ssh.host_keys import HostKeyPolicy

LONGEST_VERSION = 240  # characters of a version or an extension that are shown: RFC 4253 allows 255


class Stage(Enum):
    """A stage of a handshake, in their order; the values are the names of the steps of a diagnosis.

    There is a `PROXY` only if there is a proxy on the way, and a `JUMP` for each jump host.
    """

    NAME_LOOKUP = "dns"
    PROXY = "proxy"
    JUMP = "jump"
    DIAL = "tcp"
    GREETING = "ssh_version"
    KEY_EXCHANGE = "algorithms"
    HOST_KEY = "host_key"
    LOGIN = "authentication"
    SFTP = "extensions"


@dataclass(frozen=True)
class ServerInfo:
    """What a server showed of itself.

    Attributes:
        host_key: the fingerprint of its key, `SHA256:…`.
        server: its version line, `SSH-2.0-…`.
        cipher: what the connection is encrypted with.
        extensions: the SFTP extensions that it announced.
        accepted_keys: the fingerprints of our keys that it accepted at the login, `SHA256:…`.
    """

    host_key: str
    server: str
    cipher: str
    extensions: tuple[str, ...]
    accepted_keys: tuple[str, ...] = ()


class Handshake:
    """Opens one connection to a server.

    Each stage is a method; all of them share one deadline. Whatever a stage raises becomes one `SFTPError`, and nothing
    is left open then. It is one piece because `close` may end the connection in any stage.

    Attributes:
        stage: the stage that runs, or ran last.
        hop: that was opened last, of those on the way.
        addresses: of the server, for people.
        dialer: how the server is reached.
        credentials: what the user is logged in with, once that was read.
        activity: when something came from the server last.
    """

    def __init__(
        self,
        settings: ServerSettings,
        policy: HostKeyPolicy,
        deadline: Deadline,
        *,
        dialer: Dialer,
        open_files: OpenFiles | None = None,
    ) -> None:
        """Take the server; nothing is sent yet.

        Parameters:
            settings: the server.
            policy: which keys it may have.
            deadline: by when all stages have to be done.
            dialer: how the server is reached.
            open_files: of the server.
        """
        self.stage = Stage.NAME_LOOKUP
        self.addresses: list[str] = []
        self.dialer = dialer
        self.hop: Hop | None = None
        self.credentials: Credentials | None = None
        self.activity = Activity()
        self._settings = settings
        self._policy = policy
        self._deadline = deadline
        self._open_files = open_files or OpenFiles()
        self._lock = threading.Lock()
        self._closed_by: SFTPError | None = None
        self._transport: Transport | None = None
        self._channel: SFTPChannel | None = None
        self._mismatch: HostKeyMismatch | None = None  # of the first key that was shown
        self._accepted_keys: tuple[str, ...] = ()

    def run(self) -> None:
        """Run all stages.

        Raises:
            SFTPError: what failed; nothing is left open.
        """
        for _ in self.stages():
            pass

    def stages(self) -> Iterator[Stage]:
        """Run the stages, and yield each of them when it has ended.

        Raises:
            SFTPError: `stage` failed; nothing is left open.
        """
        hops: list[tuple[Stage, Callable[[], None]]] = [
            (Stage(hop.kind), partial(self._open_hop, hop)) for hop in self.dialer.hops
        ]
        way = [(Stage.NAME_LOOKUP, self._look_up), *hops]
        yield from self._run([*way, *self._login(), (Stage.SFTP, self._start_sftp)])

    def log_in(self) -> None:
        """Run the stages up to the login, over a way whose hops are open.

        Raises:
            SFTPError: what failed; nothing is left open.
        """
        for _ in self._run(self._login()):
            pass

    def _login(self) -> list[tuple[Stage, Callable[[], None]]]:
        return [
            (Stage.DIAL, self._dial),
            (Stage.GREETING, self._await_greeting),
            (Stage.KEY_EXCHANGE, self._exchange_keys),
            (Stage.HOST_KEY, self._check_host_key),
            (Stage.LOGIN, self._log_in),
        ]

    def _run(self, stages: list[tuple[Stage, Callable[[], None]]]) -> Iterator[Stage]:
        with at_deadline(self._deadline, self._cut_off):  # some of paramiko's calls wait without end
            for self.stage, act in stages:
                try:
                    act()
                except BaseException as error:
                    reason = self._reason_of(error)
                    self.close(reason)
                    if reason is error or not isinstance(error, Exception):
                        raise
                    raise reason from error
                yield self.stage

    def close(self, reason: SFTPError) -> None:
        """End the connection, if there is one: its threads and its socket are gone on return.

        A stage that runs fails with `reason`.
        """
        with self._lock:
            self._closed_by = self._closed_by or reason
            transport, channel = self._transport, self._channel
        if channel is not None:
            channel.fail(reason)
        self.dialer.close(reason)  # first: what is under way on a hop that is dead would wait for it
        if transport is not None:
            transport.end()
        if channel is not None:
            channel.join()

    # --- what it leads to ---

    @property
    def transport(self) -> Transport:
        """The connection; there is one once the stage `DIAL` has ended."""
        assert self._transport is not None  # noqa: S101 - see above
        return self._transport

    @property
    def why_ended(self) -> SFTPError | None:
        """Why the connection has ended, unless it is open or was closed here."""
        transport = self._transport
        if self._closed_by is not None or transport is None:
            return None
        broken_by = transport.saved_exception
        return transport.parting() or (None if broken_by is None else reason_of(broken_by))

    @property
    def channel(self) -> SFTPChannel:
        """The channel on which SFTP answers, once all stages have ended."""
        assert self._channel is not None  # noqa: S101 - see above
        return self._channel

    @property
    def info(self) -> ServerInfo:
        """What the server has shown, once all stages have ended."""
        return ServerInfo(
            host_key=self.transport.host_key_fingerprint,
            server=excerpt(self.transport.remote_version, LONGEST_VERSION),
            cipher=self.transport.local_cipher,
            extensions=tuple(excerpt(name, LONGEST_VERSION) for name in sorted(self.channel.extensions)),
            accepted_keys=self._accepted_keys,
        )

    @property
    def has_keys(self) -> bool:
        """Whether keys were agreed on: not if the server's host key was refused."""
        return self._mismatch is None

    # --- the stages ---

    def check_credentials(self) -> None:
        """Read the credentials before the first stage: without usable ones, the server is not even dialled.

        Raises:
            AuthenticationFailed: they cannot be read, or their login backoff has not ended.
        """
        self.credentials = Credentials.read(self._settings)
        LOGIN_BACKOFF.check(self.credentials.identity)

    def _look_up(self) -> None:
        self.addresses = self.dialer.look_up(self._deadline)

    def _open_hop(self, hop: Hop) -> None:
        self.hop = hop
        hop.open(self._deadline)

    def _dial(self) -> None:
        connection = self.dialer.connect(self._deadline)
        with self._lock:
            closed_by = self._closed_by
            if closed_by is None:
                self._transport = Transport(connection, self._policy, self._deadline)
        if closed_by is not None:
            connection.close()
            raise closed_by

    def _await_greeting(self) -> None:
        self.transport.await_greeting()

    def _exchange_keys(self) -> None:
        """Agree on keys. If the key that is shown is not the pinned one, ask for keys of other types.

        A key that is refused at last is left to the next stage, as is a server that has no key of another type.
        """
        while True:
            try:
                self.transport.await_keys()
            except RefusedKeyError as error:
                self._mismatch = self._mismatch or error.reason
                if not self._policy.exclude_mismatched_type():
                    return
            except ReasonError as error:
                is_without_types = isinstance(error.reason, Unsupported) and self._policy.include_all_types()
                if not is_without_types:
                    raise
                if self._mismatch is not None:
                    return
            else:
                self._mismatch = None
                return
            self.transport.end()
            if self.dialer.hops:
                self.dialer.hops[-1].open(self._deadline)
            else:
                self._look_up()
            self._dial()
            self._await_greeting()

    def _check_host_key(self) -> None:
        if self._mismatch is not None:
            raise self._mismatch

    def _log_in(self) -> None:
        credentials = self.credentials = self.credentials or Credentials.read(self._settings)
        with LOGIN_BACKOFF.login(credentials.identity, self._deadline):
            self._accepted_keys = authenticate(self.transport.login, credentials)

    def _start_sftp(self) -> None:
        open_sftp_channel(
            self.transport,
            self._deadline,
            activity=self.activity,
            stall=self._settings.time_limits.stall,
            open_files=self._open_files,
            on_opened=self._set_channel,
        )
        connection = self.transport.sock
        if isinstance(connection, AcknowledgingSocket) and not self.dialer.hops:
            connection.acknowledges_at_once &= not sends_at_once(self.transport.remote_version)

    def _set_channel(self, channel: SFTPChannel) -> None:
        with self._lock:
            self._channel = channel
            closed_by = self._closed_by
        if closed_by is not None:
            channel.fail(closed_by)

    # --- its failure ---

    def _cut_off(self) -> None:
        if self._transport is not None:  # else a hop is being opened, which has this deadline too
            self._transport.close()
            self.dialer.close(Unreachable("the time limit of the connection was reached"))

    def _reason_of(self, error: BaseException) -> SFTPError:
        """Return why there is no connection: paramiko has one class for several reasons, and words for few of them."""
        if self._closed_by is not None:
            return self._closed_by
        transport = self._transport
        reason = reason_of(error, None if transport is None else transport.saved_exception)
        is_ours = isinstance(error, SFTPError) and not isinstance(error, ConnectionLost | DeadlineExceeded)
        is_short = isinstance(error, RuntimeError | MemoryError)  # this process, of threads or memory
        is_clear = is_short or isinstance(reason, HostKeyMismatch | ServerBusy) or isinstance(error, ReasonError)
        if transport is None or is_ours or is_clear:
            return reason
        if self._deadline.remaining() == 0.0:
            said = f" (it said {transport.text_before_greeting!r})" if transport.text_before_greeting else ""
            limit = self._settings.time_limits.connect
            return Unreachable(f"the server did not let us in within {limit:g} s{said}")
        if transport.initial_kex_done or isinstance(reason, Unsupported):
            return reason
        return transport.parting() or ConnectionLost(
            "the server closed the connection before it had shown its key: is this an SSH server?"
        )
