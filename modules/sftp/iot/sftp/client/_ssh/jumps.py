"""The way through another SSH server: the same handshake as with any server, and a forwarded connection on it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from paramiko.ssh_exception import ChannelException, SSHException

from iot.sftp.client._base.errors import ServerBusy, SFTPError, Unreachable, Unsupported
from iot.sftp.client._base.text import excerpt
from iot.sftp.client._ssh.dial import Hop, hop_name, named, sent_name
from iot.sftp.client._ssh.handshake import LONGEST_VERSION, Handshake, Stage
from iot.sftp.client._ssh.handshake_failures import LONGEST_WORDS
from iot.sftp.client._ssh.host_keys import HostKeyPolicy, in_words
from iot.sftp.client._ssh.paramiko_internals.failures import reason_of
from iot.sftp.client._ssh.waiting import at_deadline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._base.settings import ServerSettings
    from iot.sftp.client._ssh.dial import Dialer
    from iot.sftp.client._ssh.paramiko_internals.tunnel import Tunnel

# Why a server opens no channel (RFC 4254, section 5.1).
PROHIBITED, CONNECT_FAILED, UNKNOWN_TYPE, RESOURCE_SHORTAGE = 1, 2, 3, 4


class JumpDialer:
    """A jump host as a hop, and the way from it to the next hop or to the server."""

    kind = Stage.JUMP.value

    def __init__(self, settings: ServerSettings, via: Dialer, host: str, port: int) -> None:
        """Take the way to the jump host, and where it leads.

        Parameters:
            settings: of the jump host.
            via: how the jump host is reached.
            host: of what is behind it.
            port: of what is behind it.
        """
        self.found = self.advice = self.peer = ""
        self._settings = settings
        self._via = via
        self._name = hop_name(self.kind, settings.host, settings.port)
        self._host, self._port = host, port
        self._handshake: Handshake | None = None
        self._closed_by: SFTPError | None = None
        self._tunnel: Tunnel | None = None

    @property
    def hops(self) -> Sequence[Hop]:
        """The hops before it, and itself."""
        return (*self._via.hops, self)

    def look_up(self, deadline: Deadline) -> list[str]:
        """Resolve the name of the first hop."""
        return self._via.look_up(deadline)

    def open(self, deadline: Deadline) -> None:
        """Log in at the jump host.

        Raises:
            SFTPError: what failed, with the name of the hop.
        """
        if self._handshake is not None:
            return
        policy = HostKeyPolicy.of(self._settings)
        basis = policy.basis
        self._handshake = handshake = Handshake(self._settings, policy, deadline, dialer=self._via)
        try:
            if self._closed_by is not None:
                raise self._closed_by
            handshake.check_credentials()
            handshake.log_in()
        except SFTPError as error:
            if handshake.stage is Stage.DIAL:
                raise  # whoever dialled has named it
            raise named(error, self._name) from error
        transport = handshake.transport
        version = excerpt(transport.remote_version, LONGEST_VERSION)
        key, self.advice = in_words(transport.host_key_fingerprint, basis)
        self.found = f"{self._name} ({version}) lets {self._settings.user} in; its key is {key}"

    def connect(self, deadline: Deadline) -> Tunnel:
        """Let the jump host connect to what is behind it.

        Raises:
            SFTPError: it refuses, or does not reach it; with the name of the hop.
        """
        handshake = self._handshake
        assert handshake is not None  # noqa: S101 - the hop is open
        if self._tunnel is not None:
            self._tunnel.hang_up()
        target = f"{self._host} port {self._port}"
        host = sent_name(self._host, self._name)
        try:
            with at_deadline(deadline, handshake.transport.close):
                self._tunnel = handshake.transport.open_tunnel(host, self._port, deadline, self._why_ended)
        except ChannelException as error:
            raise self._refusal(error, target) from error
        except (SSHException, OSError, EOFError) as error:
            if deadline.remaining() == 0.0:
                message = f"{self._name}: it did not say in time whether it reaches {target}"
                raise Unreachable(message) from error
            raise named(reason_of(error, handshake.transport.saved_exception), self._name) from error
        self.peer = f"{target}, through {self._name},"
        return self._tunnel

    def close(self, reason: SFTPError) -> None:
        """End the connection to the jump host, and those before it."""
        self._closed_by = self._closed_by or reason
        if self._handshake is not None:
            self._handshake.close(reason)  # which closes the way to it first
        else:
            self._via.close(reason)

    def _why_ended(self) -> SFTPError | None:
        reason = self._handshake.why_ended if self._handshake is not None else None
        return None if reason is None else named(reason, self._name)

    def _refusal(self, error: ChannelException, target: str) -> SFTPError:
        said = excerpt(error.text, LONGEST_WORDS)
        words = f" (it said {said!r})" if said else ""
        if error.code == PROHIBITED:
            return Unreachable(
                f"{self._name}: it forbids connections to {target}{words}. Ask its administrator to allow them, in "
                "OpenSSH by AllowTcpForwarding and PermitOpen"
            )
        if error.code == UNKNOWN_TYPE:
            return Unsupported(f"{self._name}: it does not forward connections{words}")
        if error.code == RESOURCE_SHORTAGE:
            return ServerBusy(f"{self._name}: it takes no more connections for now{words}")
        return Unreachable(
            f"{self._name}: it cannot connect to {target}{words}. It resolves that name itself, and needs a way there"
        )


def settings_of_jump(server: ServerSettings, number: int) -> ServerSettings:
    """Return a jump host as a server: with the known_hosts files and the time limits of the server behind it."""
    jump = server.jumps[number]
    return replace(
        server,
        host=jump.host,
        port=jump.port,
        user=jump.user,
        password=jump.password,
        private_key=jump.private_key,
        passphrase=jump.passphrase,
        host_keys=jump.host_keys,
        root=None,
        state=None,
        jumps=server.jumps[:number],
        next_private_key=None,
    )
