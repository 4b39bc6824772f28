"""The settings of a session: the server, the credentials, and the time limits with their defaults."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import SplitResult, urlsplit

from iot.sftp.client._base.errors import AuthenticationFailed

PORT_MAXIMUM = 65535
LONGEST_SECRET = 64 * 1024  # characters: an RSA key of 16,384 bits has 13,000
A_DAY = 86400  # seconds: the longest time limit
MOST_JUMPS = 3
ADDRESS = re.compile(r"\[?[0-9a-fA-F]*(:[0-9a-fA-F.]*){2,}(%\S+)?\]?")  # what may hold a colon: one of IPv6 (RFC 4291)
PROXY_SCHEMES = ("socks5h", "http")


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

    @property
    def exists(self) -> bool:
        """Whether there is a secret to be read: not if its file does not exist, or its variable is not set."""
        if self._kind == "file":
            return os.path.lexists(self._value)
        return self._kind == "text" or self._value in os.environ

    @property
    def is_text(self) -> bool:
        """Whether it is the text itself, which never changes."""
        return self._kind == "text"

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
class Proxy:
    """A proxy on the way to a server. It is reached first, before any jump host, and resolves the name behind it.

    Attributes:
        url: `socks5h://host:port` (SOCKS version 5, RFC 1928), or `http://host:port` (the CONNECT method).
        user: the name to log in with, or `None`: RFC 1929 for SOCKS, Basic for HTTP.
        password: of the user, or `None`.
    """

    url: str
    user: str | None = None
    password: Secret | None = None

    def __post_init__(self) -> None:
        """Refuse invalid values, naming them."""
        example = "like 'socks5h://proxy.example.com:1080' or 'http://proxy.example.com:3128'"
        value: object = self.url
        try:
            url = urlsplit(value if isinstance(value, str) else "http://[")
            port = url.port
        except ValueError:
            message = f"the url of a proxy must be {example}"
            raise ValueError(message) from None  # the error there contains the url, which may hold a password
        if not self.url.isprintable():
            message = f"the url of a proxy holds a control character: it must be {example}"
            raise ValueError(message)
        if "@" in self.url:
            message = "the url of a proxy must not hold a login: use user and password"
            raise ValueError(message)
        if url.scheme not in PROXY_SCHEMES:
            hint = ": with 'socks5h' the proxy resolves names" if url.scheme.startswith("socks") else ""
            given = f", not {url.scheme + '://'!r}{hint}" if "://" in self.url else f": it must be {example}"
            message = f"the url of a proxy begins with socks5h:// or http://{given}"
            raise ValueError(message)
        if not url.hostname or not port or url.path.strip("/") or url.query or url.fragment:
            message = f"the url of a proxy is a scheme, a host and a port, {example}"
            raise ValueError(message)
        _check_host(url.hostname, "the host of a proxy")
        if (self.user is None) != (self.password is None) or (self.user is not None and not _is_text(self.user)):
            message = "the login at a proxy is a user, which is not empty, and a password"
            raise ValueError(message)

    @property
    def _parts(self) -> SplitResult:
        return urlsplit(self.url)

    @property
    def scheme(self) -> str:
        """What it speaks: `socks5h` or `http`."""
        return self._parts.scheme

    @property
    def host(self) -> str:
        """Its name or address."""
        return self._parts.hostname or ""

    @property
    def port(self) -> int:
        """Its port."""
        return self._parts.port or 0


@dataclass(frozen=True)
class Jump:
    """Another SSH server on the way to a server: it is logged in to, and forwards a connection (RFC 4254, section 7.2).

    Its key is checked as that of any server, in the same known_hosts files.

    Attributes:
        host: a DNS name, an IPv4 or an IPv6 address. The hop before it resolves the name.
        port: 1 to 65535.
        user: the name to log in with.
        password: or `None`; it is also the answer to keyboard-interactive prompts.
        private_key: the text of a private key in OpenSSH or PEM form, or `None`.
        passphrase: of the private key, or `None`.
        host_keys: the only keys accepted from it; see `ServerSettings`.
    """

    host: str
    port: int
    user: str
    password: Secret | None = None
    private_key: Secret | None = None
    passphrase: Secret | None = None
    host_keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse invalid values, naming them."""
        _check_login(self, " of a jump host")


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
        next_private_key: the key that is about to replace `private_key`, without a passphrase. It is offered first, if
            its file exists at the moment of a login.
        host_keys: the only keys accepted from the server, each `SHA256:…` or a public key line (`ssh-ed25519 AAAA…`).
            Empty: keys are looked up in `known_hosts_files` and `known_hosts`.
        known_hosts: the file in which the first key of an unknown server is remembered (trust on first use); `None`
            remembers it in memory only.
        known_hosts_files: further files in OpenSSH's known_hosts format that are trusted and never written.
        root: the remote directory that paths are taken inside; `None` takes paths as the server does.
        time_limits: see `TimeLimits`.
        state: a private directory, created if it does not exist, that records unfinished transfers: they are resumed
            after a restart, and their leftovers are removed. `None` records them in memory only.
        proxy: the way to the server begins there, or `None`.
        jumps: up to three SSH servers on the way, outermost first. The last hop resolves the server's name.
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
    proxy: Proxy | None = None
    jumps: tuple[Jump, ...] = ()
    next_private_key: Secret | None = None

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
        _check_login(self)
        root: object = self.root
        if root is not None and not _is_text(root):
            message = f"root must be a remote directory that is not empty, not {root!r}"
            raise ValueError(message)
        proxy: object = self.proxy
        if proxy is not None and not isinstance(proxy, Proxy):
            message = f"proxy must be a Proxy, not {type(proxy).__name__}"
            raise ValueError(message)
        jumps: object = self.jumps
        if not isinstance(jumps, tuple) or not all(isinstance(jump, Jump) for jump in jumps):
            message = "jumps must be a tuple of Jump values"
            raise ValueError(message)
        if len(self.jumps) > MOST_JUMPS:
            message = f"there are {len(self.jumps)} jump hosts, at most {MOST_JUMPS} are possible"
            raise ValueError(message)

    @property
    def place(self) -> str:
        """The host, with the jump hosts before it: behind another one, the same private address is another server."""
        return " behind ".join([self.host, *(jump.host for jump in reversed(self.jumps))])

    @property
    def route(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each hop on the way, and of the server."""
        return tuple((hop.host, hop.port) for hop in (self.proxy, *self.jumps, self) if hop is not None)


def _check_login(values: ServerSettings | Jump, whose: str = "") -> None:
    """Refuse a host, a port, a user or credentials that can never work."""
    for name in ("host", "user"):
        value = getattr(values, name)
        if not _is_text(value):
            message = f"{name}{whose} must be a text that is not empty, and that UTF-8 can write without a NUL"
            raise ValueError(message)
    _check_host(values.host, f"host{whose}")
    port: object = values.port
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= PORT_MAXIMUM:
        message = f"port{whose} must be a whole number from 1 to {PORT_MAXIMUM}, not {port!r}"
        raise ValueError(message)
    if values.password is None and values.private_key is None:
        message = f"password or private_key{whose} is needed to log in"
        raise ValueError(message)


def why_no_host(host: str) -> str | None:
    """Return what a host has to be, if this can be none; it is not repeated, since a URL may hold a password."""
    if "/" in host or "@" in host or (":" in host and not ADDRESS.fullmatch(host)):
        return "must be a name or an address alone: no URL, no user and no port"
    if not host.isprintable() or any(char.isspace() for char in host):
        return "must be a name or an address, without spaces and control characters"
    return None


def _check_host(host: str, name: str) -> None:
    reason = why_no_host(host)
    if reason is not None:
        message = f"{name} {reason}"
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
