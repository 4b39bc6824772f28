"""Logging in: what the settings hold, tried in the order that a server likes best."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from iot.sftp.client._errors import AuthenticationFailed, printable

if TYPE_CHECKING:
    from iot.sftp.client._settings import ServerSettings

KEY_CLASSES: tuple[tuple[type, type[paramiko.PKey]], ...] = (
    (rsa.RSAPrivateKey, paramiko.RSAKey),
    (ec.EllipticCurvePrivateKey, paramiko.ECDSAKey),
    (ed25519.Ed25519PrivateKey, paramiko.Ed25519Key),
)


def authenticate(transport: paramiko.Transport, settings: ServerSettings) -> None:
    """Log in with the private key, then with the password if the server wants that (too).

    The secrets are read here, at each login, so that a rotated one works.

    Raises:
        AuthenticationFailed: a secret cannot be read or used.
        paramiko.SSHException: the server refused, or the connection broke; `_connection.py` tells which.
    """
    if settings.private_key is not None:
        key = load_private_key(settings)
        try:
            wanted = transport.auth_publickey(settings.user, key)
        except paramiko.AuthenticationException:
            if settings.password is None or not transport.is_active():
                raise
        else:
            if not wanted or settings.password is None:
                _refuse_partial(wanted)
                return
    if settings.password is not None:
        _refuse_partial(_log_in(transport, settings.user, settings.password.read()))


def _log_in(transport: paramiko.Transport, user: str, password: str) -> list[str]:
    """Give the password, as an answer to a prompt where the server offers only that, as many appliances do.

    paramiko has this fallback too, but takes a connection that broke in it for a refusal.
    """

    def answer(_title: str, _instructions: str, prompts: list[tuple[str, bool]]) -> list[str]:
        if len(prompts) > 1:
            asked = printable(" ".join(prompt for prompt, _ in prompts), 200)
            message = f"the server asks for more than a password: {asked}"
            raise AuthenticationFailed(message)
        return [password] * len(prompts)

    try:
        return transport.auth_password(user, password, fallback=False)
    except paramiko.BadAuthenticationType as refusal:
        if "keyboard-interactive" not in refusal.allowed_types:
            raise
    return transport.auth_interactive(user, answer)


def load_private_key(settings: ServerSettings) -> paramiko.PKey:
    """Read the private key, in OpenSSH or PEM form, with its passphrase where there is one.

    Raises:
        AuthenticationFailed: it is not a private key, the passphrase is missing or wrong, or its type is not accepted.
    """
    text = settings.private_key.read().strip() + "\n" if settings.private_key else ""
    passphrase = settings.passphrase.read().encode() if settings.passphrase else None
    load = serialization.load_ssh_private_key if "OPENSSH" in text else serialization.load_pem_private_key
    try:
        loaded = _load(load, text.encode(), passphrase)
    except UnsupportedAlgorithm:
        message = "the private key, or the way in which it is encrypted, is of a kind that is not accepted any more"
        raise AuthenticationFailed(message) from None
    except TypeError:
        message = "the private key is encrypted: give its passphrase"
        raise AuthenticationFailed(message) from None
    except ValueError:
        message = (
            "the private key cannot be read: is the passphrase right?"
            if passphrase is not None
            else "the private key cannot be read: it must be the whole text of a private key in OpenSSH or PEM form"
        )
        raise AuthenticationFailed(message) from None
    for loaded_class, key_class in KEY_CLASSES:
        if isinstance(loaded, loaded_class):
            openssh = loaded.private_bytes(  # type: ignore[attr-defined] # each of KEY_CLASSES has it
                serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
            )
            return key_class.from_private_key(io.StringIO(openssh.decode()))
    message = "a private key of this type is not accepted any more: make an ed25519, ECDSA or RSA key"
    raise AuthenticationFailed(message)


def _load(load: object, text: bytes, passphrase: bytes | None) -> object:
    try:
        return load(text, passphrase)  # type: ignore[operator] # one of cryptography's two functions
    except TypeError:
        if passphrase is None:
            raise
        return load(text, None)  # type: ignore[operator] # a passphrase for a key that needs none does no harm


def _refuse_partial(wanted: list[str]) -> None:
    if wanted:
        message = f"the server accepted this credential and wants another one too: {', '.join(wanted)}"
        raise AuthenticationFailed(message)
