"""Host certificates: a key that an authority has signed for some hosts and for some time.

Fields and rules are those of OpenSSH's PROTOCOL.certkeys.
"""

from __future__ import annotations

import fnmatch
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import paramiko

if TYPE_CHECKING:
    from collections.abc import Callable

# What a server may be asked for, best first.
HOST_CERTIFICATE_TYPES = (
    "ssh-ed25519-cert-v01@openssh.com",
    "ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "ecdsa-sha2-nistp384-cert-v01@openssh.com",
    "ecdsa-sha2-nistp521-cert-v01@openssh.com",
    "rsa-sha2-512-cert-v01@openssh.com",
    "rsa-sha2-256-cert-v01@openssh.com",
)
HOST_CERTIFICATE = 2  # the type of a certificate for hosts; 1 is for users
CERTIFICATE_SUFFIX = "-cert-v01@openssh.com"
# How many fields a public key of each type has in a certificate, behind the nonce.
KEY_FIELDS = {"ssh-ed25519": 1, "ecdsa-sha2-nistp256": 2, "ecdsa-sha2-nistp384": 2, "ecdsa-sha2-nistp521": 2}
RSA_FIELDS = 2


@dataclass(frozen=True)
class HostCertificate:
    """What a host certificate says, its signature checked.

    `authority` is the base64 text of the key that signed it; times are seconds since 1970.
    """

    authority: str
    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    critical_options: bytes

    def refusal(self, host: str, now: Callable[[], float] = time.time) -> str | None:
        """Say why this certificate does not hold for `host`, or return `None` if it does."""
        if not self.valid_after <= now() < self.valid_before:
            return "it is not valid at this time: is the clock right?"
        names = (pattern.lower() for pattern in self.principals)
        if self.principals and not any(fnmatch.fnmatchcase(host.lower(), name) for name in names):
            return f"it is not for {host}"
        if self.critical_options:
            return "it has conditions that are not known here"
        return None


def read_host_certificate(blob: bytes) -> HostCertificate | None:
    """Return what a host certificate says; `None` if it is none, or if its signature is wrong."""
    try:
        return _read(paramiko.Message(blob), blob)
    except Exception:  # noqa: BLE001 - paramiko raises anything for bytes that are no certificate
        return None


def _read(message: paramiko.Message, blob: bytes) -> HostCertificate | None:
    key_type = message.get_text().removesuffix(CERTIFICATE_SUFFIX)
    message.get_binary()  # nonce
    for _ in range(KEY_FIELDS.get(key_type, RSA_FIELDS)):
        message.get_binary()
    message.get_int64()  # serial number
    kind = message.get_int()
    message.get_binary()  # key id
    principals = _strings(message.get_binary())
    valid_after, valid_before = message.get_int64(), message.get_int64()
    critical_options = message.get_binary()
    message.get_binary()  # extensions
    message.get_binary()  # reserved
    authority = message.get_binary()
    signed = blob[: len(blob) - len(message.get_remainder())]
    signature = message.get_binary()
    if signed + len(signature).to_bytes(4, "big") + signature != blob:
        return None
    key = paramiko.PKey.from_type_string(paramiko.Message(authority).get_text(), authority)
    if kind != HOST_CERTIFICATE or not key.verify_ssh_sig(signed, paramiko.Message(signature)):
        return None
    return HostCertificate(key.get_base64(), principals, valid_after, valid_before, critical_options)


def _strings(packed: bytes) -> tuple[str, ...]:
    message, names = paramiko.Message(packed), []
    while message.get_remainder():
        names.append(message.get_text())
    return tuple(names)
