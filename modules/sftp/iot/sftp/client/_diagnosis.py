"""Why there is no connection: each stage of a handshake, described with what was found and what to do."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from iot.sftp.client._base.deadline import Deadline
from iot.sftp.client._base.errors import ConnectionLost, NotFound, PermissionDenied, SFTPError, Unsupported
from iot.sftp.client._base.messages import NO_SUCH_PATH
from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._base.text import excerpt
from iot.sftp.client._files.remote_files import POSIX_RENAME, STATVFS
from iot.sftp.client._files.remote_requests import FSYNC
from iot.sftp.client._session import SFTPSession
from iot.sftp.client._ssh.connection import LIMITS
from iot.sftp.client._ssh.handshake import LONGEST_VERSION, Handshake, Stage
from iot.sftp.client._ssh.host_keys import HostKeyPolicy, in_words
from iot.sftp.client._ssh.route import dialer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from iot.sftp.client._base.settings import ServerSettings

SPEED = "speed"  # the step behind those of the handshake
ROUND_TRIPS = 5
TRIAL_SIZES = tuple(64 * 1024 * 8**power for power in range(4))  # bytes
LONG_ENOUGH = 0.5  # seconds of a transfer from which a rate can be computed
TRIAL_LIMIT = 60.0  # seconds
SLOW_ROUND_TRIP = 0.3  # seconds

# What a server without an extension cannot do.
MISSING = {
    POSIX_RENAME: "a file that is replaced is not there for a moment",
    FSYNC: "a file may be lost when the server loses power just after its upload",
    LIMITS: "requests stay at 32 KiB, which is slower on far links",
    STATVFS: "a full disk is reported as a refusal",
}

ADVICE = {
    "dns": "Check the name for a mistyped letter, and the DNS servers of this machine: getent hosts NAME",
    "proxy": "Check the proxy's url, user and password, and that it takes connections of this device",
    "jump": "Check host, port, user, password or key of the jump host that is named, and its key; its log has more",
    "tcp": "Check host and port, that the SSH server runs, and that no firewall on the way blocks the port",
    "ssh_version": "Check that an SSH server listens on this port. One that hangs up at once may have banned this "
    "address after failed logins, or have too many sessions: wait some minutes, or ask its administrator",
    "algorithms": "Ask the server's administrator to allow one of the algorithms that this client has. A server that "
    "offers only old ones needs an update",
    "host_key": "If the administrator confirms the new key by another way, pin it, or remove the old line of the "
    'known_hosts file with ssh-keygen -R (a module\'s test_connection does so, with "learn": true)',
    "authentication": "Check user, password or key; the server's own log has the reason, which it does not send to us",
    "extensions": "Ask the server's administrator whether SFTP is on for this user, and whether the root exists",
    "speed": "Check whether the folder is there, whether this user may write in it, and whether its disk has space",
}


@dataclass(frozen=True)
class Step:
    """One step of a diagnosis.

    Attributes:
        name: `dns`, `tcp`, `ssh_version`, `algorithms`, `host_key`, `authentication`, `extensions` or `speed`; behind
            `dns`, there is a `proxy` or a `jump` for each hop on the way.
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
    """Run each step towards a session, and yield it when it has ended; the first that fails is the last.

    The steps are the stages of the handshake that a session runs, with the same time limit. There are two logins: the
    session that measures the speed has its own. The first key of an unknown server is remembered, as by any session.

    Parameters:
        settings: the server.
        write_to: a folder on the server in which a temporary file is written, read and deleted to measure the speed;
            `None` writes nothing, and measures round trips.
    """
    session = SFTPSession(replace(settings, state=None))
    try:
        with closing(_HandshakeSteps(settings).run()) as steps:
            for step in steps:
                if step.passed and step.name == Stage.SFTP.value:
                    step = _with_folder(step, session)  # noqa: PLW2901 - the same step, with what the session found
                yield step
                if not step.passed:
                    return
        yield _measure(session, write_to)
    finally:
        session.disconnect()


class _HandshakeSteps:
    """The steps that are stages of a handshake."""

    def __init__(self, settings: ServerSettings) -> None:
        policy = HostKeyPolicy.of(settings)
        self._user = settings.user
        self._first_host = settings.route[0][0]
        self._basis = policy.basis  # before the handshake remembers the key
        limit = Deadline(settings.time_limits.connect)
        self._handshake = Handshake(settings, policy, limit, dialer=dialer_of(settings))
        self._seconds = 0.0  # that the last stage took
        self._describe: dict[Stage, Callable[[], tuple[str, str]]] = {  # what was found, and what to do about it
            Stage.NAME_LOOKUP: self._name_lookup,
            Stage.PROXY: self._hop,
            Stage.JUMP: self._hop,
            Stage.DIAL: self._dial,
            Stage.GREETING: self._greeting,
            Stage.KEY_EXCHANGE: self._key_exchange,
            Stage.HOST_KEY: self._host_key,
            Stage.LOGIN: self._login,
            Stage.SFTP: self._sftp,
        }

    def run(self) -> Generator[Step, None, None]:
        """Run the stages, and yield each of them as a step."""
        handshake, started = self._handshake, time.monotonic()
        try:
            for stage in handshake.stages():
                self._seconds = time.monotonic() - started
                found, advice = self._describe[stage]()
                if stage is Stage.SFTP:
                    self._close()  # some servers accept one login of a user at a time
                yield Step(stage.value, passed=True, found=found, advice=advice)
                started = time.monotonic()
        except SFTPError as error:
            yield _failed(handshake.stage.value, self._as_step_sees(error))
        finally:
            self._close()

    def _close(self) -> None:
        self._handshake.close(ConnectionLost("the diagnosis has ended"))

    def _name_lookup(self) -> tuple[str, str]:
        return f"{self._first_host} is {', '.join(self._handshake.addresses)}", ""

    def _hop(self) -> tuple[str, str]:
        hop = self._handshake.hop
        assert hop is not None  # noqa: S101 - the stage has opened it
        return f"{hop.found}, after {_milliseconds(self._seconds)}", hop.advice

    def _dial(self) -> tuple[str, str]:
        return f"{self._handshake.dialer.peer} accepts, after {_milliseconds(self._seconds)}", ""

    def _greeting(self) -> tuple[str, str]:
        return excerpt(self._handshake.transport.remote_version, LONGEST_VERSION), ""

    def _key_exchange(self) -> tuple[str, str]:
        transport = self._handshake.transport
        if not self._handshake.has_keys:
            return "both sides have algorithms in common", ""
        return f"{transport.key_exchange}, {transport.host_key_type}, {transport.remote_cipher}", ""

    def _host_key(self) -> tuple[str, str]:
        return in_words(self._handshake.transport.host_key_fingerprint, self._basis)

    def _login(self) -> tuple[str, str]:
        credentials = self._handshake.credentials
        assert credentials is not None  # noqa: S101 - the stage has read them
        used = [name for name, secret in (("a key", credentials.keys), ("a password", credentials.password)) if secret]
        return f"{self._user} is let in with {' or '.join(used)}", ""

    def _sftp(self) -> tuple[str, str]:
        extensions = self._handshake.info.extensions
        missing = [f"{name}: {words}" for name, words in MISSING.items() if name not in extensions]
        advice = f"Missing are {'; '.join(missing)}" if missing else ""
        return f"{len(extensions)}: {', '.join(extensions) or 'none'}", advice

    def _as_step_sees(self, error: SFTPError) -> SFTPError:
        """Return an error for a program that reads the code: a server of another kind is not worth a retry."""
        is_greeting = self._handshake.stage is Stage.GREETING
        if is_greeting and type(error) is ConnectionLost and self._handshake.transport.has_sent_lines:
            return Unsupported(error.message)
        return error


def _failed(name: str, error: SFTPError) -> Step:
    return Step(name, passed=False, found=error.message, advice=ADVICE[name], code=error.code)


def _with_folder(step: Step, session: SFTPSession) -> Step:
    """Return the step if the folder is there, which only a session knows."""
    try:
        session.connect()
        _require_folder(session, ".")
    except SFTPError as error:
        return _failed(step.name, error)
    return step


def _require_folder(session: SFTPSession, folder: str) -> None:
    with suppress(PermissionDenied, Unsupported):  # a drop box takes files and shows none
        if session.stat(folder) is None:
            root = session.settings.root if folder == "." else None
            message = f"{root or folder!r}: {NO_SUCH_PATH}"
            raise NotFound(message, operation="stat", path=folder)


def _measure(session: SFTPSession, write_to: str | None) -> Step:
    try:
        fastest = min(_round_trip(session) for _ in range(ROUND_TRIPS))
        found = f"an answer takes {_milliseconds(fastest)}"
        if write_to is not None:
            found = f"{found}; {_SpeedTrial(session, write_to).run()}"
    except SFTPError as error:
        return _failed(SPEED, error)
    is_far = fastest > SLOW_ROUND_TRIP
    advice = "The way to the server is long or busy: many small files take long" if is_far else ""
    return Step(SPEED, passed=True, found=found, advice=advice)


def _round_trip(session: SFTPSession) -> float:
    started = time.monotonic()
    if not session.is_connected():
        message = "the server stopped answering after the login"
        raise ConnectionLost(message)
    return time.monotonic() - started


class _SpeedTrial:
    """Uploads and downloads files that are deleted afterwards, to measure the speed."""

    def __init__(self, session: SFTPSession, folder: str) -> None:
        self._session = session
        self._folder = folder
        self._trial = ""  # the file on the server that was written last

    def run(self) -> str:
        """Return the rates of an upload and a download, for people."""
        _require_folder(self._session, self._folder)  # an upload would make it, if the name is mistyped
        try:
            with tempfile.TemporaryDirectory(prefix="iot-sftp-check-") as directory:
                return self._up_and_down(f"{self._folder.rstrip('/') or ''}/", f"{directory}/trial")
        except OSError as error:
            reason = from_os_error(error)
            message = f"no file to measure with can be made on this machine, see TMPDIR: {reason.message}"
            raise type(reason)(message) from error
        finally:
            self._delete_trial()

    def _delete_trial(self) -> bool:
        """Delete what was uploaded last; return whether that is allowed."""
        if not self._trial:
            return True
        try:
            self._session.delete_file(self._trial, timeout=self._session.settings.time_limits.connect)
        except NotFound:
            pass
        except SFTPError:
            return False
        self._trial = ""
        return True

    def _up_and_down(self, folder: str, trial: str) -> str:
        up, size = self._upload_rate(folder, trial)
        os.remove(trial)  # the download may need its space
        started = time.monotonic()
        try:
            self._session.download_file(self._trial, trial, timeout=TRIAL_LIMIT)
            down = f"download {size / (time.monotonic() - started) / 1e6:.1f} MB/s"
        except (PermissionDenied, Unsupported):
            down = "nothing may be read"
        stays = "" if self._delete_trial() else f"; {self._trial} stays, since nothing may be deleted"
        return f"upload {up / 1e6:.1f} MB/s, {down}, with {size / 1e6:.1f} MB{stays}"

    def _upload_rate(self, folder: str, trial: str) -> tuple[float, int]:
        """Upload larger and larger files, until one takes long enough or does not fit on this machine.

        Each has a name of its own: not every server allows a file to be replaced, or to be deleted.
        """
        rate, uploaded = 0.0, 0
        for size in TRIAL_SIZES:
            try:
                with open(trial, "wb") as file:
                    file.writelines(os.urandom(TRIAL_SIZES[0]) for _ in range(size // TRIAL_SIZES[0]))
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


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
