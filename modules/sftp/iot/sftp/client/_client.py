"""`IoTSFTPClient`: booleans and lists, and the typed reason of a failure in `last_error`."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from iot.sftp.client._base.errors import SFTPError
from iot.sftp.client._base.settings import Secret, ServerSettings, TimeLimits
from iot.sftp.client._session import SFTPSession
from iot.sftp.client._ssh.host_keys import check_pin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from iot.sftp.client._base.settings import Jump, Proxy
    from iot.sftp.client._files.file_info import FileInfo

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
# What the settings call the arguments of `IoTSFTPClient`.
ARGUMENTS = {
    "host": "sftp_host",
    "port": "sftp_port",
    "user": "sftp_user",
    "password": "sftp_pass",
    "connect": "connect_timeout",
    "stall": "stall_timeout",
}


class IoTSFTPClient:
    """A synchronous client for the files of one SFTP server, made for unattended devices.

    No method raises for anything that the server, the network or a file system does: it returns `False` (`None`
    where it would return a list or an object), logs one line, and leaves the reason in `last_error`. Callers who prefer
    exceptions use `SFTPSession`. One client may be used from several threads at once, and in a `with` block.

    A destination, local or remote, always holds either the old complete file or the new complete one.

    Attributes:
        sftp_host, sftp_port, sftp_user, sftp_pass: as given.
    """

    def __init__(
        self,
        sftp_host: str,
        sftp_port: int,
        sftp_user: str,
        sftp_pass: str | None = None,
        *,
        private_key: str | os.PathLike[str] | None = None,
        passphrase: str | None = None,
        host_keys: Iterable[str] = (),
        known_hosts: str | os.PathLike[str] | None = None,
        root: str | None = None,
        proxy: Proxy | None = None,
        jumps: Iterable[Jump] = (),
        connect_timeout: float = TimeLimits.connect,
        stall_timeout: float = TimeLimits.stall,
        keep_alive: float = TimeLimits.keep_alive,
    ) -> None:
        """Open the session once, within the connect timeout.

        If that fails, nothing is raised: the client is usable but not connected, and the next call retries.

        Parameters:
            sftp_host: the server's IP address or DNS name.
            sftp_port: its port, 1 to 65535.
            sftp_user: the name to log in with.
            sftp_pass: the password; `None` or empty if there is a private key.
            private_key: the text of a private key (OpenSSH or PEM), or the path of a file that holds one.
            passphrase: of the private key.
            host_keys: the only keys accepted from the server: `SHA256:…` or public key lines. Without them, keys in
                `~/.ssh/known_hosts` and `known_hosts` are trusted, and so is the first key of an unknown server
                (trust on first use), which is remembered in the latter.
            known_hosts: default: `iot-sftp-client/known_hosts` in the user's state directory (`XDG_STATE_HOME`).
            root: the remote directory that paths are taken inside of, and never leave.
            proxy: a SOCKS or HTTP proxy on the way to the server.
            jumps: up to three SSH servers on the way (behind the proxy), outermost first.
            connect_timeout: seconds for a whole new session.
            stall_timeout: seconds after which a server that answers nothing is given up.
            keep_alive: seconds between two keep-alive requests on an idle session; 0 sends none.

        Raises:
            ValueError: an argument can never work; the message names it.
        """
        self.sftp_host = sftp_host
        self.sftp_port = sftp_port
        self.sftp_user = sftp_user
        self.sftp_pass = sftp_pass
        self._errors = threading.local()
        try:
            settings = ServerSettings.for_this_user(
                host=sftp_host,
                port=sftp_port,
                user=sftp_user,
                password=_secret("password", sftp_pass),
                private_key=_private_key(private_key),
                passphrase=_secret("passphrase", passphrase),
                host_keys=_pins(host_keys),
                known_hosts=None if known_hosts is None else _file("known_hosts", known_hosts),
                root=root,
                proxy=proxy,
                jumps=tuple(jumps),
                time_limits=TimeLimits(connect_timeout, stall_timeout, keep_alive),
            )
        except ValueError as error:
            raise ValueError(_in_arguments(str(error))) from None
        self._session = SFTPSession(settings)
        self._attempt(self._session.connect, failed=None)

    @property
    def last_error(self) -> SFTPError | None:
        """Why this thread's last call failed; `None` after a success. `is_connected` leaves it as it is."""
        error: SFTPError | None = getattr(self._errors, "last", None)
        return error

    def is_connected(self) -> bool:
        """Ask the live session whether the server is there; a peer that is gone gives `False`, within the timeout."""
        return self._session.is_connected()

    def disconnect(self) -> None:
        """End the session, its threads and its socket. Idempotent; a later operation opens a new session."""
        self._errors.last = None
        self._session.disconnect()

    def exists(self, path: str) -> bool:
        """Return whether a file or a directory is on the server.

        `False` with `last_error` `None` only when the server says that it is not there.
        """
        return self._attempt(lambda: self._session.exists(_text(path)), failed=False)

    def download_file(self, source: str, dest: str) -> bool:
        """Download a file; `dest` is atomically created or replaced, missing local parents are created.

        Parameters:
            source: the file on the server.
            dest: the local file; an existing directory, or a path that ends with `/`, keeps the file's name.
        """
        return self._succeeds(lambda: self._session.download_file(_text(source), _text(dest)))

    def upload_file(self, source: str, dest: str) -> bool:
        """Upload a file; `dest` is atomically created or replaced, missing remote parents are created.

        Parameters:
            source: the local file.
            dest: the file on the server; an existing directory, or a path that ends with `/`, keeps the file's name.
        """
        return self._succeeds(lambda: self._session.upload_file(_text(source), _text(dest)))

    def create_directory(self, path: str) -> bool:
        """Create a directory on the server, and its missing parents; `True` too if it is there already."""
        return self._succeeds(lambda: self._session.create_directory(_text(path)))

    def delete_directory(self, path: str, recursive: bool = False) -> bool:  # noqa: FBT001, FBT002 - the contract's signature
        """Delete a directory on the server; a file is refused, and so are the roots and what is above them.

        Parameters:
            path: the directory.
            recursive: delete what is in it too, without following links; else it must be empty.
        """
        return self._succeeds(lambda: self._session.delete_directory(_text(path), recursive=recursive))

    def move_directory(self, source: str, dest: str) -> bool:
        """Move a directory on the server; the parents of `dest` are created.

        Parameters:
            source: the directory; a file is refused.
            dest: its new path; nothing may be there.
        """
        return self._succeeds(lambda: self._session.move_directory(_text(source), _text(dest)))

    def list_directory(self, path: str) -> list[FileInfo] | None:
        """Return everything directly under a directory on the server, sorted by path; `None` if it cannot be listed.

        Links are shown as links. Names are as in `list_files`.
        """
        return self._attempt(lambda: self._session.list_directory(_text(path)), failed=None)

    def stat(self, path: str) -> FileInfo | None:
        """Return what the server reports of a path, links followed.

        `None` with `last_error` `None` only when the server says that nothing is there.
        """
        return self._attempt(lambda: self._session.stat(_text(path)), failed=None)

    def delete_file(self, path: str) -> bool:
        """Delete a file on the server; a directory is refused."""
        return self._succeeds(lambda: self._session.delete_file(_text(path)))

    def move_file(self, source: str, dest: str) -> bool:
        """Move a file on the server; `dest` and its parents are created, or `dest` is replaced.

        Parameters:
            source: the file; a directory is refused.
            dest: its new path; an existing directory, or a path that ends with `/`, keeps the file's name.
        """
        return self._succeeds(lambda: self._session.move_file(_text(source), _text(dest)))

    def list_files(self, path: str, file_pattern: str | None = None) -> list[str] | None:
        """Return the sorted paths of the files directly under a directory on the server, without directories.

        Names are the server's own, whatever they hold: bytes that are not UTF-8 are lone surrogates (as
        `os.fsdecode` has them), and control characters are in there. `repr` is safe to show. What no file is called
        (`.`, `..`, nothing, more than 4,096 bytes, a `/` or NUL in it) is left out.

        Parameters:
            path: the directory; the paths returned are `path` joined with the names, plain names for `.`.
            file_pattern: a substring that a path must hold to be returned.

        Returns `[]` if there are none, or none that match; `None` if it could not be listed, which includes a path
        that does not exist.
        """
        if file_pattern is not None:
            file_pattern = _text(file_pattern)
        return self._attempt(lambda: self._session.list_files(_text(path), file_pattern), failed=None)

    def __enter__(self) -> IoTSFTPClient:
        """Return the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        self.disconnect()

    def __repr__(self) -> str:
        """Show host, port, user and state, never a secret."""
        state = "connected" if self._session.is_open else "disconnected"
        server = f"sftp_host={self.sftp_host!r}, sftp_port={self.sftp_port!r}, sftp_user={self.sftp_user!r}"
        return f"IoTSFTPClient({server}, {state})"

    def _succeeds(self, call: Callable[[], object]) -> bool:
        """Return `True` once a call has returned, whatever it returns."""

        def succeed() -> bool:
            call()
            return True

        return self._attempt(succeed, failed=False)

    def _attempt(self, call: Callable[[], Result], failed: Result) -> Result:
        self._errors.last = None
        try:
            return call()
        except SFTPError as error:
            self._errors.last = error
            logger.warning("%s [%s]", error, error.code)
            return failed


def _in_arguments(message: str) -> str:
    """Return a complaint about a setting as one about the argument that it came from."""
    name, _, rest = message.partition(" ")
    return f"{ARGUMENTS.get(name, name)} {rest}"


def _secret(name: str, value: object) -> Secret | None:
    if value is not None and not isinstance(value, str):
        message = f"{name} must be a text, not {type(value).__name__}"
        raise ValueError(message)
    return Secret(value) if value else None


def _private_key(value: str | os.PathLike[str] | None) -> Secret | None:
    if value is None or value == "":
        return None
    if isinstance(value, str) and "-----BEGIN" in value:
        return Secret(value)
    return Secret.from_file(_file("private_key", value))


def _file(name: str, value: str | os.PathLike[str]) -> Path:
    try:
        return Path(value).expanduser()
    except (TypeError, RuntimeError):
        message = f"{name} must be the path of a file, not {value!r}"
        raise ValueError(message) from None


def _pins(host_keys: Iterable[str]) -> tuple[str, ...]:
    if isinstance(host_keys, str):
        host_keys = [host_keys]
    try:
        return tuple(check_pin(_text(pin)) for pin in host_keys)
    except (TypeError, ValueError) as error:
        message = f"host_keys cannot be used: {error}"
        raise ValueError(message) from None


def _text(path: str | os.PathLike[str]) -> str:
    text: object = os.fspath(path)
    if not isinstance(text, str):
        message = f"a path must be a text, not {type(text).__name__}"
        raise TypeError(message)
    return text
