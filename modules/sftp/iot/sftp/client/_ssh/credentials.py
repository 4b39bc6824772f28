"""Credentials: what the settings hold, read again for each login."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import paramiko
from cryptography import __version__ as CRYPTOGRAPHY  # noqa: N812 - a constant
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from iot.sftp.client._base.errors import AuthenticationFailed
from iot.sftp.client._base.messages import KEY_IS_ENCRYPTED
from iot.sftp.client._ssh.algorithms import CERTIFICATE_SUFFIX
from iot.sftp.client._ssh.login_backoff import identity

if TYPE_CHECKING:
    from iot.sftp.client._base.settings import Secret, ServerSettings

# That the factors of an RSA key are primes is not tested: it takes longer than all the rest of a login, a second on a
# small device. ssh(1) does not either; OpenSSL looks at each signature, so that a wrong one would give nothing away.
UNTESTED: dict[str, Any] = {"unsafe_skip_rsa_key_validation": True} if int(CRYPTOGRAPHY.split(".")[0]) >= 45 else {}  # noqa: PLR2004 - the first version that can
SMALLEST_RSA, LARGEST_RSA = (
    1024,
    16 * 1024,
)  # bits: SSH_RSA_MINIMUM_MODULUS_SIZE, OPENSSL_RSA_MAX_MODULUS_BITS in OpenSSH
CHECKED_KEPT = 64  # keys whose check is remembered


def _rsa_key(loaded: rsa.RSAPrivateKey) -> paramiko.PKey:
    """Return a key for paramiko, which checks for primes again what it reads: a second on a small device."""
    return paramiko.RSAKey(key=loaded)


def _key_of(
    key_class: type[paramiko.PKey], loaded: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
) -> paramiko.PKey:
    openssh = loaded.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return key_class.from_private_key(io.StringIO(openssh.decode()))


KEYS: tuple[tuple[type, Callable[[Any], paramiko.PKey]], ...] = (
    (rsa.RSAPrivateKey, _rsa_key),
    (ec.EllipticCurvePrivateKey, partial(_key_of, paramiko.ECDSAKey)),
    (ed25519.Ed25519PrivateKey, partial(_key_of, paramiko.Ed25519Key)),
)


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
    for loaded_class, make in KEYS:
        if isinstance(loaded, loaded_class):
            try:
                plain = make(loaded)
            except ValueError:  # one of the curves that SSH has no name for
                break
            if not certificate:
                return (plain,)
            return _certified(make(loaded), certificate, loaded.public_key()), plain  # type: ignore[attr-defined] # each of KEYS has it
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
        loaded = _load(partial(load, **UNTESTED), text.encode(), None if passphrase is None else passphrase.encode())
        if isinstance(loaded, rsa.RSAPrivateKey):
            _check_numbers(loaded.private_numbers())
    except UnsupportedAlgorithm:
        message = (
            "the private key, or the way in which it is encrypted, is of a kind that cannot be used here: make an "
            "ed25519, ECDSA or RSA key"
        )
        raise AuthenticationFailed(message) from None
    except TypeError:
        raise AuthenticationFailed(KEY_IS_ENCRYPTED) from None
    except AuthenticationFailed:
        raise
    except Exception:  # noqa: BLE001 - cryptography raises anything for bytes that are no key
        raise AuthenticationFailed(_why_unreadable(text, passphrase)) from None
    return loaded


def _check_numbers(numbers: rsa.RSAPrivateNumbers) -> None:
    """Raise `ValueError` unless the numbers of an RSA key belong together (RFC 8017, section 3.2).

    Raises:
        AuthenticationFailed: it has a size that no server accepts, or that takes minutes for one signature.
    """
    n, e = numbers.public_numbers.n, numbers.public_numbers.e
    p, q, d = numbers.p, numbers.q, numbers.d
    if not SMALLEST_RSA <= n.bit_length() <= LARGEST_RSA:
        message = (
            f"an RSA key of {n.bit_length()} bits is not accepted: make an ed25519 key, or an RSA key of 2048 to "
            f"{LARGEST_RSA} bits"
        )
        raise AuthenticationFailed(message)
    is_in_range = 1 < d < n and 1 < e < n and p & q & e & 1 and min(p, q) > 1 and numbers.iqmp < p
    is_whole = is_in_range and p * q == n and (numbers.dmp1, numbers.dmq1) == (d % (p - 1), d % (q - 1))
    if not is_whole or {e * d % (p - 1), e * d % (q - 1), numbers.iqmp * q % p} != {1}:
        raise ValueError


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
