"""Credentials: what the settings hold, read again for each login."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from iot.sftp.client._base.errors import AuthenticationFailed
from iot.sftp.client._base.messages import KEY_IS_ENCRYPTED
from iot.sftp.client._ssh.algorithms import CERTIFICATE_SUFFIX
from iot.sftp.client._ssh.login_backoff import identity

if TYPE_CHECKING:
    from iot.sftp.client._base.settings import Secret, ServerSettings

KEY_CLASSES: tuple[tuple[type, type[paramiko.PKey]], ...] = (
    (rsa.RSAPrivateKey, paramiko.RSAKey),
    (ec.EllipticCurvePrivateKey, paramiko.ECDSAKey),
    (ed25519.Ed25519PrivateKey, paramiko.Ed25519Key),
)
CHECKED_KEPT = 64  # keys whose check is remembered


@dataclass(frozen=True)
class Credentials:
    """What the settings hold, read for one login, so that a rotated secret works. `repr` shows no secret.

    Attributes:
        user: the name to log in with.
        password: or `None`.
        keys: best first.
        identity: a keyed hash that stands for them; see `login_backoff`.
    """

    user: str
    password: str | None = field(repr=False)
    keys: tuple[paramiko.PKey, ...] = field(repr=False)
    identity: bytes = field(repr=False)

    @classmethod
    def read(cls, settings: ServerSettings) -> Credentials:
        """Read the secrets.

        Raises:
            AuthenticationFailed: one cannot be read or used.
        """
        password = settings.password.read() if settings.password else None
        keys = _keys(settings)
        public = [key.public_blob.key_blob if key.public_blob else key.asbytes() for key in keys]
        return cls(settings.user, password, keys, identity(settings.route, settings.user, password, public))


def _keys(settings: ServerSettings) -> tuple[paramiko.PKey, ...]:
    """Return the keys to offer; of the own one and the next one, each without the other if that cannot be used."""
    following = settings.next_private_key
    upcoming: tuple[paramiko.PKey, ...] = ()
    if following is not None and following.exists:
        with suppress(AuthenticationFailed):  # it is damaged, or another login has just put it in the own one's place
            upcoming = load_private_keys(following)
    try:
        return upcoming + (load_private_keys(settings.private_key, settings.passphrase) if settings.private_key else ())
    except AuthenticationFailed:
        if not upcoming:
            raise
        return upcoming


def load_private_keys(private_key: Secret, passphrase: Secret | None = None) -> tuple[paramiko.PKey, ...]:
    """Read a private key, in OpenSSH or PEM form, with its passphrase if there is one.

    If there is a certificate, the key is returned with it, and once more without: a server may know the plain key only.
    A certificate (OpenSSH's PROTOCOL.certkeys) is a line of the same text, or a file beside the key's with the suffix
    `-cert.pub`, as for ssh(1).

    Raises:
        AuthenticationFailed: it is not a private key, the passphrase is missing or wrong, or its type is not accepted.
    """
    text, certificate = _split(private_key)
    loaded = _load_key(text, passphrase.read() if passphrase else None)
    for loaded_class, key_class in KEY_CLASSES:
        if isinstance(loaded, loaded_class):
            openssh = loaded.private_bytes(  # type: ignore[attr-defined] # each of KEY_CLASSES has it
                serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
            )
            plain = key_class.from_private_key(io.StringIO(openssh.decode()))
            if not certificate:
                return (plain,)
            certified = key_class.from_private_key(io.StringIO(openssh.decode()))
            return _certified(certified, certificate, loaded.public_key()), plain  # type: ignore[attr-defined] # as above
    why = "is not accepted any more" if isinstance(loaded, dsa.DSAPrivateKey) else "cannot be used here"
    message = f"a private key of this type {why}: make an ed25519, ECDSA or RSA key"
    raise AuthenticationFailed(message)


def check_private_key(private_key: Secret, passphrase: Secret | None = None) -> None:
    """Check what can be known of a private key without asking a server, or looking into a file.

    Parameters:
        private_key: its text, maybe with a certificate.
        passphrase: or `None`.

    Raises:
        ValueError: the key cannot be used; the message says what to do, and contains no secret.
    """
    if not private_key.is_text:
        return
    is_known = passphrase is None or passphrase.is_text
    reason = _why_useless(private_key, passphrase if is_known else None)
    if reason is not None and (is_known or reason != KEY_IS_ENCRYPTED):
        raise ValueError(reason)


@lru_cache(maxsize=CHECKED_KEPT)  # a document may come often, and an encrypted key takes a second on a small device
def _why_useless(private_key: Secret, passphrase: Secret | None) -> str | None:
    try:
        load_private_keys(private_key, passphrase)
    except AuthenticationFailed as error:
        return error.message
    return None


def _load_key(text: str, passphrase: str | None) -> object:
    """Return one of cryptography's private keys.

    Raises:
        AuthenticationFailed: see `load_private_keys`.
    """
    load = serialization.load_ssh_private_key if "OPENSSH" in text else serialization.load_pem_private_key
    try:
        return _load(load, text.encode(), None if passphrase is None else passphrase.encode())
    except UnsupportedAlgorithm:
        message = (
            "the private key, or the way in which it is encrypted, is of a kind that cannot be used here: make an "
            "ed25519, ECDSA or RSA key"
        )
        raise AuthenticationFailed(message) from None
    except TypeError:
        raise AuthenticationFailed(KEY_IS_ENCRYPTED) from None
    except ValueError:
        raise AuthenticationFailed(_why_unreadable(text, passphrase)) from None


def _why_unreadable(text: str, passphrase: str | None) -> str:
    if "PRIVATE KEY" not in text and " AAAA" in text:
        return "the private key cannot be read: this is a public key. The private one is in the file without '.pub'"
    if passphrase is not None:
        return "the private key cannot be read: is the passphrase right?"
    return "the private key cannot be read: it must be the whole text of a private key in OpenSSH or PEM form"


def _split(private_key: Secret) -> tuple[str, str]:
    """Return the text of a key and that of its certificate, each empty if there is none."""
    text = private_key.read()
    lines = text.strip().splitlines()
    certificates = [line for line in lines if CERTIFICATE_SUFFIX in line]
    beside = private_key.beside("-cert.pub") if not certificates else None
    key = "\n".join(line for line in lines if line not in certificates) + "\n"
    return key, certificates[0] if certificates else beside.read() if beside else ""


def _certified(key: paramiko.PKey, certificate: str, own: object) -> paramiko.PKey:
    try:
        key.load_certificate(certificate)
        certified = serialization.load_ssh_public_identity(certificate.encode())
    except (ValueError, UnsupportedAlgorithm, paramiko.SSHException):
        message = "the certificate of the private key cannot be read: it is a line 'type base64', as ssh-keygen writes"
        raise AuthenticationFailed(message) from None
    if not isinstance(certified, serialization.SSHCertificate) or certified.public_key() != own:
        message = "the certificate is not for this private key: give the one that was made from its public key"
        raise AuthenticationFailed(message)
    return key


def _load(load: object, text: bytes, passphrase: bytes | None) -> object:
    try:
        return load(text, passphrase)  # type: ignore[operator] # one of cryptography's two functions
    except TypeError:
        if passphrase is None:
            raise
        return load(text, None)  # type: ignore[operator] # a passphrase for a key that needs none is ignored
