"""Why there is no connection: each step towards one, tried in turn, with what was found and what to do."""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import paramiko

from iot.sftp.client._base.deadline import Deadline
from iot.sftp.client._base.errors import ConnectionLost, NotFound, PermissionDenied, SFTPError, Unreachable, Unsupported
from iot.sftp.client._base.lower_layers import from_lower_layer
from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._base.text import excerpt
from iot.sftp.client._files.remote_files import FSYNC, LIMITS, POSIX_RENAME, STATVFS
from iot.sftp.client._session import SFTPSession
from iot.sftp.client._ssh import login_backoff as login_pauses
from iot.sftp.client._ssh.connection import CIPHERS, MACS
from iot.sftp.client._ssh.credentials import Credentials
from iot.sftp.client._ssh.dial import dial, look_up
from iot.sftp.client._ssh.handshake_failures import no_greeting
from iot.sftp.client._ssh.host_keys import HostKeyPolicy
from iot.sftp.client._ssh.transport import ReasonError, RefusedKeyError, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iot.sftp.client._base.errors import HostKeyMismatch
    from iot.sftp.client._base.settings import ServerSettings

LONGEST_GREETING = 4096  # bytes
LATE = 2.0  # seconds after which a greeting that is none of SSH is taken to be all there is
GLANCE = 0.02  # seconds

ROUND_TRIPS = 5
TRIALS = tuple(64 * 1024 * 8**power for power in range(4))  # bytes, each larger than the one before
LONG_ENOUGH = 0.5  # seconds of a transfer that say something about the speed
TRIAL_LIMIT = 60.0  # seconds
SLOW_ROUND_TRIP = 0.3  # seconds

# What an extension is good for, where a server lacks it.
MISSING = {
    POSIX_RENAME: "a file that is replaced is not there for a moment",
    FSYNC: "a file may be lost when the server loses power just after its upload",
    LIMITS: "requests stay at 32 KiB, which is slower on far links",
    STATVFS: "a full disk is told as a refusal",
}

ADVICE = {
    "dns": "Check the name for a mistyped letter, and the DNS servers of this machine: getent hosts NAME",
    "tcp": "Check host and port, that the SSH server runs, and that no firewall on the way blocks the port",
    "ssh_version": "Check that an SSH server listens on this port. One that hangs up at once may have banned this "
    "address after failed logins, or have too many sessions: wait some minutes, or ask its administrator",
    "algorithms": "Ask the server's administrator to allow one of the algorithms that this client has. A server that "
    "offers only old ones needs an update",
    "host_key": "If the administrator confirms the new key by another way, pin it, or remove the old line (a module's "
    'test_connection does so, with "learn": true)',
    "authentication": "Check user, password or key; the server's own log tells the reason that it does not tell us",
    "extensions": "Ask the server's administrator whether SFTP is on for this user, and whether the root exists",
    "speed": "Check whether the folder is there, whether this user may write in it, and whether its disk has space",
}
FIRST_SEEN = "Compare it with what the server's administrator tells you, and pin it"


@dataclass(frozen=True)
class Step:
    """One step of a diagnosis.

    Attributes:
        name: `dns`, `tcp`, `ssh_version`, `algorithms`, `host_key`, `authentication`, `extensions` or `speed`.
        passed: whether the next step makes sense.
        found: what was found, for people. Never holds a secret.
        advice: what to do about it; empty if there is nothing to do.
        code: that of the `SFTPError`, of a step that failed.
    """

    name: str
    passed: bool
    found: str
    advice: str = ""
    code: str | None = None


def diagnose(settings: ServerSettings, *, write_to: str | None = None) -> Iterator[Step]:
    """Try each step towards a session, and give it when it is done; the first that fails is the last.

    Logs in twice. The first key of an unknown server is remembered, as any session does.

    Parameters:
        settings: the server.
        write_to: a folder on the server in which a temporary file is written, read and deleted to measure the speed;
            `None` writes nothing, and measures how long an answer takes.
    """
    diagnosis = _Diagnosis(settings, write_to)
    try:
        for name, check in diagnosis.steps():
            try:
                found, advice = check()
            except SFTPError as error:
                yield Step(name, passed=False, found=error.message, advice=ADVICE[name], code=error.code)
                return
            yield Step(name, passed=True, found=found, advice=advice)
    finally:
        diagnosis.close()


class _Diagnosis:
    """The steps, and what one hands on to the next."""

    def __init__(self, settings: ServerSettings, write_to: str | None) -> None:
        self._settings = settings
        self._write_to = write_to
        self._policy = HostKeyPolicy(
            settings.host,
            settings.port,
            pinned=settings.host_keys,
            known_hosts=settings.known_hosts,
            known_hosts_files=settings.known_hosts_files,
        )
        self._socket: socket.socket | None = None
        self._transport: Transport | None = None
        self._refused: HostKeyMismatch | None = None
        self._known = self._policy.basis
        self._session = SFTPSession(replace(settings, state=None))
        self._trial = ""  # the file on the server that was written last

    def steps(self) -> Iterator[tuple[str, Callable[[], tuple[str, str]]]]:
        yield "dns", self._look_up
        yield "tcp", self._dial
        yield "ssh_version", self._read_version
        yield "algorithms", self._exchange_keys
        yield "host_key", self._check_key
        yield "authentication", self._log_in
        yield "extensions", self._start_sftp
        yield "speed", self._measure

    def close(self) -> None:
        self._hang_up()
        self._session.disconnect()

    def _limit(self) -> Deadline:
        return Deadline(self._settings.time_limits.connect)

    def _look_up(self) -> tuple[str, str]:
        found = look_up(self._settings.host, self._settings.port, self._limit())
        addresses = dict.fromkeys(str(address[0]) for *_, address in found)
        return f"{self._settings.host} is {', '.join(addresses)}", ""

    def _dial(self) -> tuple[str, str]:
        started = time.monotonic()
        connection = self._dialled()
        try:
            address, port = connection.getpeername()[:2]
        except OSError as error:  # it is gone already
            message = "the server accepts the connection and resets it at once"
            raise ConnectionLost(message) from error
        return f"{address} port {port} accepts, after {_milliseconds(time.monotonic() - started)}", ""

    def _dialled(self) -> socket.socket:
        limits = self._settings.time_limits
        self._socket = dial(self._settings.host, self._settings.port, self._limit(), limits.stall)
        return self._socket

    def _read_version(self) -> tuple[str, str]:
        """Look at the greeting (RFC 4253, section 4.2) without taking it: the key exchange reads it again."""
        connection, limit = self._socket or self._dialled(), self._limit()
        started, said = time.monotonic(), b""
        while limit.remaining():
            try:
                connection.settimeout(max(limit.remaining(), GLANCE))
                peeked = connection.recv(LONGEST_GREETING, socket.MSG_PEEK)
            except OSError as error:
                raise from_lower_layer(error) from error
            if peeked != said:
                said, started = peeked, time.monotonic()
            version = next((line for line in said.split(b"\n")[:-1] if line.startswith(b"SSH-")), None)
            if version is not None:
                return _version(version)
            if not peeked or time.monotonic() - started > LATE:
                break
            time.sleep(GLANCE)
        # A server of another kind is not asked again by whoever reads this code
        reason = no_greeting(said.splitlines(), _why_no_more(connection, len(said)))
        raise Unsupported(reason.message) if said and type(reason) is ConnectionLost else reason

    def _exchange_keys(self) -> tuple[str, str]:
        """Agree on algorithms and see the key; where a pinned fingerprint is not its, ask for keys of other types."""
        while True:
            try:
                found = self._agree()
            except RefusedKeyError as error:
                self._refused = self._refused or error.reason
                if not self._policy.pass_over():
                    return "both sides have algorithms in common", ""
            except ReasonError as error:
                if self._refused is None or not isinstance(error.reason, Unsupported):
                    raise error.reason from error
                return "both sides have algorithms in common", ""
            except (paramiko.SSHException, OSError, EOFError) as error:
                parting = self._transport.parting() if self._transport is not None else None
                raise parting or ConnectionLost("the server ended the key exchange") from error
            else:
                self._refused = None
                return found, ""
            self._hang_up()

    def _agree(self) -> str:
        limit = self._limit()
        transport = self._transport = Transport(self._socket or self._dialled())
        transport.policy, transport.deadline = self._policy, limit
        transport.offer(CIPHERS, MACS)
        transport.banner_timeout = transport.handshake_timeout = limit.remaining()
        transport.start_client(timeout=limit.remaining())
        if not transport.initial_kex_done:
            message = "the server began the key exchange and did not end it in time"
            raise Unreachable(message)
        cipher = getattr(transport, "remote_cipher", "no cipher")  # not in its stubs
        return f"{transport.key_exchange}, {transport.host_key_type}, {cipher}"

    def _check_key(self) -> tuple[str, str]:
        if self._refused is not None:
            raise self._refused
        assert self._transport is not None  # noqa: S101 - the step before has set it
        fingerprint = self._transport.get_remote_server_key().fingerprint
        if self._known == "unknown":
            return f"{fingerprint}, seen for the first time and accepted from now on", FIRST_SEEN
        return f"{fingerprint}, which is {self._known}", ""

    def _log_in(self) -> tuple[str, str]:
        transport, limit = self._transport, self._limit()
        assert transport is not None  # noqa: S101 - a step before has set it
        credentials = Credentials.read(self._settings)
        login_pauses.check(credentials.identity)
        transport.deadline = limit
        transport.log_in(credentials)
        self._hang_up()  # some servers let a user in once at a time
        used = [name for name, secret in (("a key", credentials.keys), ("a password", credentials.password)) if secret]
        return f"{self._settings.user} is let in with {' or '.join(used)}", ""

    def _start_sftp(self) -> tuple[str, str]:
        info = self._session.connect()
        with suppress(PermissionDenied, Unsupported):  # a drop box takes files that nobody may look at
            self._session.stat(".")
        missing = [f"{name}: {words}" for name, words in MISSING.items() if name not in info.extensions]
        advice = f"Missing are {'; '.join(missing)}" if missing else ""
        return f"{len(info.extensions)}: {', '.join(info.extensions) or 'none'}", advice

    def _measure(self) -> tuple[str, str]:
        trips = []
        for _ in range(ROUND_TRIPS):
            started = time.monotonic()
            if not self._session.is_connected():
                message = "the server stopped answering after the login"
                raise ConnectionLost(message)
            trips.append(time.monotonic() - started)
        found = f"an answer takes {_milliseconds(min(trips))}"
        far = (
            "The way to the server is long or busy: many small files take long" if min(trips) > SLOW_ROUND_TRIP else ""
        )
        if self._write_to is None:
            return found, far
        return f"{found}; {self._transfer_rates(self._write_to)}", far

    def _transfer_rates(self, folder: str) -> str:
        """Tell how fast it goes up and down, measured with files that are deleted afterwards."""
        with suppress(PermissionDenied, Unsupported):
            self._session.stat(folder)  # an upload would make it, where the name is mistyped
        try:
            with tempfile.TemporaryDirectory(prefix="iot-sftp-check-") as directory:
                return self._up_and_down(f"{folder.rstrip('/') or ''}/", f"{directory}/trial")
        except OSError as error:
            reason = from_os_error(error)
            message = f"no file to measure with can be made on this machine, see TMPDIR: {reason.message}"
            raise type(reason)(message) from error
        finally:
            self._delete_trial()

    def _delete_trial(self) -> bool:
        """Delete what was uploaded last; tell whether that is allowed."""
        if not self._trial:
            return True
        try:
            self._session.delete_file(self._trial, timeout=self._settings.time_limits.connect)
        except NotFound:
            pass
        except SFTPError:
            return False
        self._trial = ""
        return True

    def _up_and_down(self, folder: str, trial: str) -> str:
        up, size = self._upload_rate(folder, trial)
        os.remove(trial)  # what comes back may need its room
        started = time.monotonic()
        try:
            self._session.download_file(self._trial, trial, timeout=TRIAL_LIMIT)
            down = f"download {size / (time.monotonic() - started) / 1e6:.1f} MB/s"
        except (PermissionDenied, Unsupported):
            down = "nothing may be read"
        stays = "" if self._delete_trial() else f"; {self._trial} stays, since nothing may be deleted"
        return f"upload {up / 1e6:.1f} MB/s, {down}, with {size / 1e6:.1f} MB{stays}"

    def _upload_rate(self, folder: str, trial: str) -> tuple[float, int]:
        """Upload more and more, up to what takes its time or is all that there is room for on this machine.

        Each under a name of its own: not every server lets a file be replaced, or be deleted.
        """
        rate, uploaded = 0.0, 0
        for size in TRIALS:
            try:
                with open(trial, "wb") as file:
                    file.writelines(os.urandom(TRIALS[0]) for _ in range(size // TRIALS[0]))
            except OSError:
                if uploaded:
                    break
                raise
            if not self._delete_trial():
                break
            self._trial = f"{folder}.iot-sftp-check-{secrets.token_hex(4)}"
            started = time.monotonic()
            self._session.upload_file(trial, self._trial, timeout=TRIAL_LIMIT)
            seconds = time.monotonic() - started
            rate, uploaded = size / seconds, size
            if seconds > LONG_ENOUGH:
                break
        return rate, uploaded

    def _hang_up(self) -> None:
        transport, self._transport = self._transport, None
        connection, self._socket = self._socket, None
        if transport is not None:
            transport.close()
            transport.packetizer.complete_handshake()  # ends the timer of a key exchange that did not end
        if connection is not None:
            connection.close()
        if transport is not None and transport.ident is not None:
            transport.join()


def _version(line: bytes) -> tuple[str, str]:
    shown = excerpt(line.decode("utf-8", "replace").rstrip("\r"), 255)
    if not line.startswith((b"SSH-2.0-", b"SSH-1.99-")):
        message = f"the server speaks an SSH that is too old: {shown}"
        raise Unsupported(message)
    return shown, ""


def _why_no_more(connection: socket.socket, said: int) -> Exception:
    """Take what was said, and return whether the server has hung up after it or is silent."""
    try:
        connection.settimeout(GLANCE)
        connection.recv(said, socket.MSG_WAITALL)
        return EOFError() if not connection.recv(1) else TimeoutError()
    except OSError as error:
        return error


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
