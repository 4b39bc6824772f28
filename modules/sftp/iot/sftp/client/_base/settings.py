"""The settings of a session: the server, the credentials, and the time limits with their defaults."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from iot.sftp.client._base.errors import AuthenticationFailed

PORT_MAXIMUM = 65535
LONGEST_SECRET = 64 * 1024  # characters: an RSA key of 16,384 bits has 13,000
A_DAY = 86400  # seconds: the longest time limit


class Secret:
    """A secret text: `repr()`, `str()`, logs and errors show only where it comes from.

    It is read at each use, so that a rotated file or variable works without new settings.
    """

    __slots__ = ("_kind", "_value")

    def __init__(self, value: str) -> None:
        """Store the text itself."""
        self._kind, self._value = "text", value

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Secret:
        """Return a secret that is read from a file at each use, without its final newline."""
        secret = cls(os.fspath(path))
        secret._kind = "file"
        return secret

    @classmethod
    def from_environment(cls, name: str) -> Secret:
        """Return a secret that is read from an environment variable at each use."""
        secret = cls(name)
        secret._kind = "environment variable"
        return secret

    def read(self) -> str:
        """Return the text.

        Raises:
            AuthenticationFailed: the file cannot be read, the variable is not set, or the text cannot be sent.
        """
        text = self._read_file() if self._kind == "file" else self._read_variable()
        if not can_be_sent(text):
            message = "the credential holds a character that cannot be written as UTF-8, and cannot be sent"
            raise AuthenticationFailed(message)
        return text

    @property
    def _place(self) -> str:
        """The file or variable, for messages; hidden if it may be the secret itself, put there by mistake."""
        like = "a path with '/'" if self._kind == "file" else "a variable's name"
        looks_right = "/" in self._value if self._kind == "file" else self._value.isidentifier()
        is_place = looks_right and self._value.isprintable() and "-----BEGIN" not in self._value
        return self._value if is_place else f"(not shown, since it does not look like {like})"

    def _read_variable(self) -> str:
        if self._kind == "text":
            return self._value
        text = os.environ.get(self._value)
        if text is None:
            message = f"the environment variable {self._place}, which holds the credential, is not set"
            raise AuthenticationFailed(message)
        return text

    def _read_file(self) -> str:
        text, reason = "", None
        try:
            with open(self._value, encoding="utf-8", errors="surrogateescape", newline="") as file:
                text = file.read(LONGEST_SECRET + 1)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "its name is invalid"
        # Not raised in the block above: the error there contains the name, which may be a secret put there by mistake.
        if reason is not None:
            message = f"the file {self._place}, which holds the credential, cannot be read: {reason}"
            raise AuthenticationFailed(message)
        if len(text) > LONGEST_SECRET:
            message = f"the file {self._place} is too long to hold a credential"
            raise AuthenticationFailed(message)
        return text.removesuffix("\n").removesuffix("\r")

    def beside(self, suffix: str) -> Secret | None:
        """Return the file with this one's name and a suffix, if it exists."""
        if self._kind != "file" or not os.path.isfile(self._value + suffix):
            return None
        return Secret.from_file(self._value + suffix)

    def __eq__(self, other: object) -> bool:
        """Return whether both come from the same place and are equal."""
        return isinstance(other, Secret) and (self._kind, self._value) == (other._kind, other._value)

    def __hash__(self) -> int:
        """Hash what `__eq__` compares."""
        return hash((self._kind, self._value))

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled."""
        message = "a secret is not recorded"
        raise TypeError(message)

    def __repr__(self) -> str:
        """Return where the secret comes from, never the secret."""
        return "Secret('**********')" if self._kind == "text" else f"Secret(from {self._kind} {self._place})"

    __str__ = __repr__


@dataclass(frozen=True)
class TimeLimits:
    """How long a server may take, in seconds.

    Attributes:
        connect: for a whole new session: name lookup, TCP, key exchange, authentication and the SFTP version.
        stall: for a server that does not answer a request.
        keep_alive: between two keep-alive requests on an idle session; 0 turns them off.
        idle: after which a session that nobody uses is closed; the next call opens it again.
    """

    connect: float = 15.0
    stall: float = 30.0
    keep_alive: float = 30.0
    idle: float = 900.0

    def __post_init__(self) -> None:
        """Refuse invalid times."""
        for name in ("connect", "stall", "keep_alive", "idle"):
            value = getattr(self, name)
            lowest = 0 if name == "keep_alive" else 0.001
            if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= A_DAY:
                message = f"{name} must be a number of seconds from {lowest:g} to {A_DAY}, not {value!r}"
                raise ValueError(message)


@dataclass(frozen=True)
class ServerSettings:
    """One server and how to log in to it.

    Attributes:
        host: a DNS name, an IPv4 or an IPv6 address.
        port: 1 to 65535.
        user: the name to log in with.
        password: or `None`; it is also the answer to keyboard-interactive prompts.
        private_key: the text of a private key in OpenSSH or PEM form, or `None`.
        passphrase: of the private key, or `None`.
        host_keys: the only keys accepted from the server, each `SHA256:…` or a public key line (`ssh-ed25519 AAAA…`).
            Empty: keys are looked up in `known_hosts_files` and `known_hosts`.
        known_hosts: the file in which the first key of an unknown server is remembered (trust on first use); `None`
            remembers it in memory only.
        known_hosts_files: further files in OpenSSH's known_hosts format that are trusted and never written.
        root: the remote directory that paths are taken inside; `None` takes paths as the server does.
        time_limits: see `TimeLimits`.
        state: a private directory, created if it does not exist, that records unfinished transfers: they are resumed
            after a restart, and their leftovers are removed. `None` records them in memory only.
    """

    host: str
    port: int
    user: str
    password: Secret | None = None
    private_key: Secret | None = None
    passphrase: Secret | None = None
    host_keys: tuple[str, ...] = ()
    known_hosts: Path | None = None
    known_hosts_files: tuple[Path, ...] = ()
    root: str | None = None
    time_limits: TimeLimits = field(default_factory=TimeLimits)
    state: Path | None = None

    @classmethod
    def for_this_user(cls, *, known_hosts: Path | None = None, **values: Any) -> ServerSettings:
        """Return settings that use the files of the user who runs this program.

        Parameters:
            known_hosts: default: `iot-sftp-client/known_hosts` in the user's state directory (`XDG_STATE_HOME`).
            values: the other attributes.
        """
        return cls(
            known_hosts=known_hosts or _in_state("known_hosts"),
            known_hosts_files=_trusted_known_hosts(),
            state=_in_state("transfers"),
            **values,
        )

    def __post_init__(self) -> None:
        """Refuse invalid values, naming them."""
        for name in ("host", "user"):
            value = getattr(self, name)
            if not _is_text(value):
                message = f"{name} must be a text that is not empty, not {value!r}"
                raise ValueError(message)
        if not self.host.isprintable() or " " in self.host:
            message = f"host must be a name or an address, without spaces and control characters, not {self.host!r}"
            raise ValueError(message)
        port: object = self.port
        if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= PORT_MAXIMUM:
            message = f"port must be a whole number from 1 to {PORT_MAXIMUM}, not {port!r}"
            raise ValueError(message)
        if self.password is None and self.private_key is None:
            message = "password or private_key is needed to log in"
            raise ValueError(message)
        root: object = self.root
        if root is not None and not _is_text(root):
            message = f"root must be a remote directory that is not empty, not {root!r}"
            raise ValueError(message)


def _is_text(value: object) -> bool:
    """Return whether a value is a text that can be sent to a server, and not only white space."""
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value and can_be_sent(value)


def can_be_sent(text: str) -> bool:
    """Return whether a text can be encoded as UTF-8. The error otherwise contains the text, and must not escape."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _in_state(name: str) -> Path | None:
    """Return a path in the user's state directory, or `None` for a user without a home."""
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return Path(state) / "iot-sftp-client" / name


def _trusted_known_hosts() -> tuple[Path, ...]:
    try:
        return (Path.home() / ".ssh" / "known_hosts",)
    except RuntimeError:
        return ()
