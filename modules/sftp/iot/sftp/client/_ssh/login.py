"""User authentication (RFC 4252): the credentials, offered one by one in the order that suits servers best.

There is one SERVICE_REQUEST for a connection: asyncssh, MikroTik, Cisco, Nokia and Tectia end a connection that sends a
second one. A secret that was refused is not offered again, whatever the server answers.
"""

from __future__ import annotations

import struct
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from iot.sftp.client._base.errors import AuthenticationFailed, ConnectionLost, ServerBusy
from iot.sftp.client._base.text import excerpt
from iot.sftp.client._ssh.algorithms import CERTIFICATE_SUFFIX, RSA_SIGNATURES
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
PASSWORD_SECRET = "password"  # noqa: S105 - the name of a secret, not one

Answer = tuple[int, Reader]


class Exchange(Protocol):
    """What a login needs of a connection."""

    @property
    def session_id(self) -> bytes:
        """The identifier of the session, to which every signature is bound."""

    @property
    def signature_algorithms(self) -> tuple[str, ...] | None:
        """The signature algorithms that the server accepts (`server-sig-algs`, RFC 8308), if it announced them."""

    @property
    def banner(self) -> str:
        """The server's text since a credential was sent."""

    def request_service(self) -> None:
        """Request the authentication service (RFC 4253, section 10)."""

    def ask(self, message: bytes, *, has_credential: bool) -> tuple[int, bytes]:
        """Send a message, with or without a credential in it, and return the type and the fields of the answer."""


@dataclass(frozen=True)
class _Offer:
    """One way to log in.

    Attributes:
        method: its name, as servers list it.
        shown: what is offered, for people.
        send: sends it, and returns the last answer.
        secret: offers with the same one are refused, or accepted, together.
        key: the fingerprint of the key that is offered; `None` for the password.
    """

    method: str
    shown: str
    send: Callable[[], Answer]
    secret: str
    key: str | None = None


def authenticate(exchange: Exchange, credentials: Credentials) -> tuple[str, ...]:
    """Log in.

    Returns:
        the fingerprints of the keys that the server accepted.

    Raises:
        AuthenticationFailed: the server refused, wants another credential, or sent something that is no answer.
        ConnectionLost: the connection ended.
    """
    exchange.request_service()
    return _Login(exchange, credentials).run()


class _Login:
    """One login: offers the credentials, and follows the server's list of what it accepts next."""

    def __init__(self, exchange: Exchange, credentials: Credentials) -> None:
        self._exchange = exchange
        self._user = credentials.user
        self._password = credentials.password or ""
        self._prompt = ""  # that was answered with the password
        self._is_password_sent = self._is_password_accepted = False
        self._offers: list[_Offer] = []
        last: list[_Offer] = []
        for key in credentials.keys:
            best, *others = self._offers_of(key)
            self._offers.append(best)
            # OpenSSH before 9.6 announces what its configuration forbids: the other signature comes last then.
            (self._offers if exchange.signature_algorithms is None else last).extend(others)
        if credentials.password is not None:
            self._offers += [
                _Offer(PASSWORD, "the password", self._send_password, PASSWORD_SECRET),
                _Offer(KEYBOARD, "the password", self._answer_prompts, PASSWORD_SECRET),
            ]
        self._offers += last

    def run(self) -> tuple[str, ...]:
        """Send one offer after the other until the server accepts the login; see `authenticate`."""
        keys: list[str] = []  # that were accepted
        methods: list[str] | None = None  # that the server accepts next, once it has listed them
        not_now: list[_Offer] = []  # that were not in its list when they were sent
        accepted: list[str] = []
        refused: list[str] = []
        while offer := self._next(methods):
            self._offers.remove(offer)
            try:
                kind, fields = offer.send()
            except ConnectionLost as error:
                if not refused or isinstance(error, ServerBusy):
                    raise
                # Some servers hang up with a refusal, before the next credential is sent
                raise self._refusal(methods or [], accepted, refused) from error
            if kind == USERAUTH_SUCCESS:
                return tuple(key for key in (*keys, offer.key) if key is not None)
            methods, is_partial_success = _failure(kind, fields)
            if is_partial_success:
                accepted.append(offer.shown)
                keys += [offer.key] if offer.key is not None else []
                self._is_password_accepted |= offer.secret == PASSWORD_SECRET
                self._offers, not_now = [*not_now, *self._offers], []
            elif offer.method in methods:
                refused.append(f"{offer.shown}{self._asked_for(offer)}")
                if offer.secret != PASSWORD_SECRET or self._is_password_sent:
                    self._offers = [other for other in self._offers if other.secret != offer.secret]
            else:
                not_now.append(offer)
        raise self._refusal(methods or [], accepted, refused)

    def _next(self, methods: list[str] | None) -> _Offer | None:
        """Return the next offer among those that the server accepts now."""
        listed = (offer for offer in self._offers if methods is None or offer.method in methods)
        # Some list only keyboard-interactive, and then ask nothing: `password` is what they implement.
        unlisted = (offer for offer in self._offers if KEYBOARD in (methods or ()) and not self._is_password_sent)
        return next(listed, None) or next(unlisted, None)

    # --- keys ---

    def _offers_of(self, key: paramiko.PKey) -> Iterator[_Offer]:
        blob, kind = key.asbytes(), key.get_name()
        if key.public_blob is not None:
            blob, kind = key.public_blob.key_blob, key.public_blob.key_type
        suffix = CERTIFICATE_SUFFIX if kind.endswith(CERTIFICATE_SUFFIX) else ""
        shown = "the certificate" if suffix else "the private key"
        announced = self._exchange.signature_algorithms
        known = [name for name in RSA_SIGNATURES if announced is None or name in announced] or RSA_SIGNATURES
        for algorithm in [name + suffix for name in known] if "rsa" in kind else [kind]:
            secret, send = f"{algorithm} {key.fingerprint}", partial(self._sign, key, blob, algorithm)
            yield _Offer(PUBLIC_KEY, shown, send, secret, key.fingerprint)

    def _sign(self, key: paramiko.PKey, blob: bytes, algorithm: str) -> Answer:
        """Offer a key, with a signature by it (RFC 4252, section 7)."""
        request = self._request(PUBLIC_KEY) + b"\1" + string(algorithm.encode()) + string(blob)
        try:
            signature = key.sign_ssh_data(string(self._exchange.session_id) + request, algorithm)
        except ValueError:  # OpenSSL looks at what it has made with the numbers of an RSA key
            message = "the private key makes no signature: its numbers do not belong together, make another key"
            raise AuthenticationFailed(message) from None
        return self._ask(request + string(signature.asbytes()), has_credential=True)

    # --- passwords ---

    def _send_password(self) -> Answer:
        """Send the password (RFC 4252, section 8)."""
        self._is_password_sent = True
        kind, fields = self._ask(self._request(PASSWORD) + b"\0" + string(self._password.encode()), has_credential=True)
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
        """Answer the one prompt of keyboard-interactive with the password (RFC 4256)."""
        kind, fields = self._ask(self._request(KEYBOARD) + string(b"") + string(b""), has_credential=False)
        while kind == INFO_REQUEST:
            with _readable(kind):
                answers = self._answers(fields)
            message = struct.pack(">BI", INFO_RESPONSE, len(answers)) + b"".join(map(string, answers))
            kind, fields = self._ask(message, has_credential=bool(answers))
        return kind, fields

    def _answers(self, fields: Reader) -> list[bytes]:
        """Return the answers to the prompts of one round trip: none to none, the password to the first one.

        Raises:
            AuthenticationFailed: the server asks for something else, or for the password again.
            ConnectionLost: the message is truncated.
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
        if self._prompt or (self._is_password_accepted and "pass" not in prompt.casefold()):
            message = (
                f"the server was given the password, and now asks {asked!r}: the password is wrong or has expired, or "
                "the server wants more than a password"
            )
            raise AuthenticationFailed(message)
        self._prompt, self._is_password_sent = asked or "a prompt without words", True
        return [self._password.encode()]

    # --- messages ---

    def _request(self, method: str) -> bytes:
        names = (self._user.encode(), b"ssh-connection", method.encode())
        return bytes([USERAUTH_REQUEST]) + b"".join(map(string, names))

    def _ask(self, message: bytes, *, has_credential: bool) -> Answer:
        kind, fields = self._exchange.ask(message, has_credential=has_credential)
        return kind, Reader(fields)

    def _asked_for(self, offer: _Offer) -> str:
        return f" as the answer to {self._prompt!r}" if offer.method == KEYBOARD and self._prompt else ""

    def _refusal(self, methods: list[str], accepted: list[str], refused: list[str]) -> AuthenticationFailed:
        """Return an error with what was refused, and what the server wants instead or in addition."""
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
    """Return the methods that can continue, and whether the offer was accepted (RFC 4252, section 5.1)."""
    if kind != USERAUTH_FAILURE:
        raise _no_answer(kind)
    with _readable(kind):
        return [name for name in _text(fields).split(",") if name], fields.boolean()


@contextmanager
def _readable(kind: int) -> Iterator[None]:
    """Treat a truncated answer as one that is no answer."""
    try:
        yield
    except ConnectionLost:
        raise _no_answer(kind) from None


def _no_answer(kind: int) -> AuthenticationFailed:
    """Return a refusal: whether the server accepted the credential is unknown."""
    return AuthenticationFailed(f"the server answered the login with a message (type {kind}) that is no answer to it")


def _text(fields: Reader) -> str:
    return fields.string().decode("utf-8", "replace")


def _quoted(words: str) -> str:
    shown = excerpt(words.strip(), LONGEST_WORDS)
    return f" (it said {shown!r})" if shown else ""


def _list(names: list[str]) -> str:
    return " and ".join(dict.fromkeys(names))
