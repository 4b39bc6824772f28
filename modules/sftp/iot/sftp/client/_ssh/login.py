"""Logging in (RFC 4252): what the settings hold, offered one by one in the order that a server likes best.

There is one SERVICE_REQUEST for a connection: asyncssh, MikroTik, Cisco, Nokia and Tectia end a connection that sends a
second one. A secret that was refused is not offered again, whatever the server answers.
"""

from __future__ import annotations

import struct
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from iot.sftp.client._base.errors import AuthenticationFailed, ConnectionLost, ServerBusy
from iot.sftp.client._base.text import excerpt
from iot.sftp.client._ssh.certificates import CERTIFICATE_SUFFIX
from iot.sftp.client._ssh.handshake_failures import LONGEST_WORDS
from iot.sftp.client._ssh.packets import Reader, string

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import paramiko

    from iot.sftp.client._ssh.credentials import Credentials

# Types of messages (RFC 4252, section 6). What 60 means depends on the method.
USERAUTH_REQUEST, USERAUTH_FAILURE, USERAUTH_SUCCESS = 50, 51, 52
PASSWORD_CHANGE_REQUEST = INFO_REQUEST = 60
INFO_RESPONSE = 61

PUBLIC_KEY, PASSWORD, KEYBOARD = "publickey", "password", "keyboard-interactive"
RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")  # RFC 8332, best first; the SHA-1 of `ssh-rsa` is not sent

Answer = tuple[int, Reader]


class Exchange(Protocol):
    """What a login needs of a connection."""

    @property
    def session_id(self) -> bytes:
        """What every signature is bound to."""

    @property
    def signature_algorithms(self) -> tuple[str, ...] | None:
        """What the server says that users' keys may sign with (`server-sig-algs`, RFC 8308), if it says so."""

    @property
    def banner(self) -> str:
        """What the server has said since a credential was sent."""

    def request_service(self) -> None:
        """Ask to be logged in (RFC 4253, section 10)."""

    def ask(self, message: bytes, *, gives: bool) -> tuple[int, bytes]:
        """Send a message, and return the type and the fields of the answer; `gives` tells of a credential in it."""


@dataclass(frozen=True)
class _Way:
    """One way to log in.

    Attributes:
        method: its name, as servers list it.
        shown: what is offered, for people.
        try_it: does it, and returns the last answer.
        secret: ways with the same one are refused, or accepted, together.
    """

    method: str
    shown: str
    try_it: Callable[[], Answer]
    secret: str


def authenticate(exchange: Exchange, credentials: Credentials) -> None:
    """Log in.

    Raises:
        AuthenticationFailed: the server refused, wants what is not there, or gave an answer that is none.
        ConnectionLost: the connection ended.
    """
    exchange.request_service()
    _Login(exchange, credentials).run()


class _Login:
    """One login: offers what there is, and follows what the server says that it takes next."""

    def __init__(self, exchange: Exchange, credentials: Credentials) -> None:
        self._exchange = exchange
        self._user = credentials.user
        self._password = credentials.password or ""
        self._prompt = ""  # what the password was the answer to
        self._password_is_sent = self._password_is_accepted = False
        self._ways: list[_Way] = []
        last: list[_Way] = []
        for key in credentials.keys:
            best, *others = self._ways_of(key)
            self._ways.append(best)
            # OpenSSH before 9.6 says that it takes what its configuration forbids: the other kind comes last then.
            (self._ways if exchange.signature_algorithms is None else last).extend(others)
        if credentials.password is not None:
            self._ways += [
                _Way(PASSWORD, "the password", self._send_password, "password"),
                _Way(KEYBOARD, "the password", self._answer_prompts, "password"),
            ]
        self._ways += last

    def run(self) -> None:
        """Offer one after the other until the server lets us in; see `authenticate`."""
        methods: list[str] | None = None  # what the server takes next, once it has said so
        not_now: list[_Way] = []  # what was not among it when it was tried
        accepted: list[str] = []
        refused: list[str] = []
        while way := self._next(methods):
            self._ways.remove(way)
            try:
                kind, fields = way.try_it()
            except ConnectionLost as error:
                if not refused or isinstance(error, ServerBusy):
                    raise
                # Some hang up with a refusal, before the next credential is there
                raise self._refusal(methods or [], accepted, refused) from error
            if kind == USERAUTH_SUCCESS:
                return
            methods, partial = _failure(kind, fields)
            if partial:
                accepted.append(way.shown)
                self._password_is_accepted |= way.secret == "password"  # noqa: S105 - the name of a way
                self._ways, not_now = [*not_now, *self._ways], []
            elif way.method in methods:
                refused.append(f"{way.shown}{self._asked_for(way)}")
                if way.secret != "password" or self._password_is_sent:  # noqa: S105 - the name of a way
                    self._ways = [other for other in self._ways if other.secret != way.secret]
            else:
                not_now.append(way)
        raise self._refusal(methods or [], accepted, refused)

    def _next(self, methods: list[str] | None) -> _Way | None:
        """Return the next way among those that the server takes now."""
        listed = (way for way in self._ways if methods is None or way.method in methods)
        # Some list only keyboard-interactive, and then ask nothing: `password` is what they know.
        unlisted = (way for way in self._ways if KEYBOARD in (methods or ()) and not self._password_is_sent)
        return next(listed, None) or next(unlisted, None)

    # --- keys ---

    def _ways_of(self, key: paramiko.PKey) -> Iterator[_Way]:
        blob, kind = key.asbytes(), key.get_name()
        if key.public_blob is not None:
            blob, kind = key.public_blob.key_blob, key.public_blob.key_type
        suffix = CERTIFICATE_SUFFIX if kind.endswith(CERTIFICATE_SUFFIX) else ""
        shown = "the certificate" if suffix else "the private key"
        told = self._exchange.signature_algorithms
        known = [name for name in RSA_SIGNATURES if told is None or name in told] or RSA_SIGNATURES
        for algorithm in [name + suffix for name in known] if "rsa" in kind else [kind]:
            yield _Way(PUBLIC_KEY, shown, lambda algorithm=algorithm: self._sign(key, blob, algorithm), algorithm)  # type: ignore[misc] # what the loop has now

    def _sign(self, key: paramiko.PKey, blob: bytes, algorithm: str) -> Answer:
        """Offer a key, with a signature by it (RFC 4252, section 7)."""
        request = self._request(PUBLIC_KEY) + b"\1" + string(algorithm.encode()) + string(blob)
        signature = key.sign_ssh_data(string(self._exchange.session_id) + request, algorithm)
        return self._ask(request + string(signature.asbytes()), gives=True)

    # --- passwords ---

    def _send_password(self) -> Answer:
        """Send the password (RFC 4252, section 8)."""
        self._password_is_sent = True
        kind, fields = self._ask(self._request(PASSWORD) + b"\0" + string(self._password.encode()), gives=True)
        if kind == PASSWORD_CHANGE_REQUEST:
            with _readable(kind):
                words = _text(fields)
            message = (
                f"the password has expired and must be changed{_quoted(words)}: change it with another SSH client or "
                "through the server's administrator, then give the new one here"
            )
            raise AuthenticationFailed(message)
        return kind, fields

    def _answer_prompts(self) -> Answer:
        """Give the password as the answer to the one prompt of keyboard-interactive (RFC 4256)."""
        kind, fields = self._ask(self._request(KEYBOARD) + string(b"") + string(b""), gives=False)
        while kind == INFO_REQUEST:
            with _readable(kind):
                answers = self._answers(fields)
            message = struct.pack(">BI", INFO_RESPONSE, len(answers)) + b"".join(map(string, answers))
            kind, fields = self._ask(message, gives=bool(answers))
        return kind, fields

    def _answers(self, fields: Reader) -> list[bytes]:
        """Return the answers to the prompts of one round: none to none, the password to the first one.

        Raises:
            AuthenticationFailed: the server asks for something else, or for the password again.
            ConnectionLost: they end too early.
        """
        _title, instructions, _language = _text(fields), _text(fields), fields.string()
        count = fields.uint32()
        if not count:
            return []
        prompt, _shown = _text(fields), fields.boolean()
        prompts = prompt if count == 1 else f"{prompt} {_text(fields)}"
        asked = excerpt(f"{instructions} {prompts}".strip(), LONGEST_WORDS)
        if count > 1:
            message = f"the server asks for more than a password: {asked}"
            raise AuthenticationFailed(message)
        if self._prompt or (self._password_is_accepted and "pass" not in prompt.casefold()):
            message = (
                f"the server was given the password, and now asks {asked!r}: the password is wrong or has expired, or "
                "the server wants more than a password"
            )
            raise AuthenticationFailed(message)
        self._prompt, self._password_is_sent = asked or "a prompt without words", True
        return [self._password.encode()]

    # --- messages ---

    def _request(self, method: str) -> bytes:
        names = (self._user.encode(), b"ssh-connection", method.encode())
        return bytes([USERAUTH_REQUEST]) + b"".join(map(string, names))

    def _ask(self, message: bytes, *, gives: bool) -> Answer:
        kind, fields = self._exchange.ask(message, gives=gives)
        return kind, Reader(fields)

    def _asked_for(self, way: _Way) -> str:
        return f" as the answer to {self._prompt!r}" if way.method == KEYBOARD and self._prompt else ""

    def _refusal(self, methods: list[str], accepted: list[str], refused: list[str]) -> AuthenticationFailed:
        """Say what was refused, and what the server wants instead or besides."""
        wanted = excerpt(", ".join(methods), LONGEST_WORDS) or "nothing more"
        said = _quoted(self._exchange.banner)
        if accepted and not refused:
            return AuthenticationFailed(
                f"the server accepted {_list(accepted)} and wants another credential too: {wanted}{said}"
            )
        if refused:
            but = f"accepted {_list(accepted)}, but " if accepted else ""
            return AuthenticationFailed(f"the server {but}refused {_list(refused)} (it takes: {wanted}){said}")
        return AuthenticationFailed(
            f"the server takes no credential of the kind that is configured: it wants {wanted}{said}"
        )


def _failure(kind: int, fields: Reader) -> tuple[list[str], bool]:
    """Return the methods that can go on, and whether what was offered was accepted (RFC 4252, section 5.1)."""
    if kind != USERAUTH_FAILURE:
        raise _no_answer(kind)
    with _readable(kind):
        return [name for name in _text(fields).split(",") if name], fields.boolean()


@contextmanager
def _readable(kind: int) -> Iterator[None]:
    """Take an answer that ends too early for one that is none."""
    try:
        yield
    except ConnectionLost:
        raise _no_answer(kind) from None


def _no_answer(kind: int) -> AuthenticationFailed:
    """Return what counts as a refusal: nobody knows what the server made of the credential."""
    return AuthenticationFailed(f"the server answered the login with a message (type {kind}) that is no answer to it")


def _text(fields: Reader) -> str:
    return fields.string().decode("utf-8", "replace")


def _quoted(words: str) -> str:
    shown = excerpt(words.strip(), LONGEST_WORDS)
    return f" (it said {shown!r})" if shown else ""


def _list(names: list[str]) -> str:
    return " and ".join(dict.fromkeys(names))
