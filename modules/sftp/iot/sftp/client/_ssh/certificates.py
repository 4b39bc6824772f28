"""Host certificates: a key that an authority has signed for some hosts and for a period.

Fields and rules are those of OpenSSH's PROTOCOL.certkeys.
"""

from __future__ import annotations

import fnmatch
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import paramiko

from iot.sftp.client._ssh.algorithms import CERTIFICATE_SUFFIX
from iot.sftp.client._ssh.packets import Reader

if TYPE_CHECKING:
    from collections.abc import Callable

HOST_CERTIFICATE = 2  # the type of a certificate for hosts; 1 is for users
# The number of fields of a public key of each type in a certificate, behind the nonce.
KEY_FIELDS = {"ssh-ed25519": 1, "ecdsa-sha2-nistp256": 2, "ecdsa-sha2-nistp384": 2, "ecdsa-sha2-nistp521": 2}
RSA_FIELDS = 2


@dataclass(frozen=True)
class HostCertificate:
    """The contents of a host certificate whose signature is valid.

    Attributes:
        authority: the key that signed it, in base64.
        principals: the hosts that it is for, as patterns.
        valid_after: seconds since 1970.
        valid_before: seconds since 1970.
        critical_options: conditions; empty if there are none.
    """

    authority: str
    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    critical_options: bytes

    def refusal(self, host: str, now: Callable[[], float] = time.time) -> str | None:
        """Return why this certificate is not valid for `host`, or `None` if it is."""
        if not self.valid_after <= now() < self.valid_before:
            return "it is not valid at this time: is the clock right?"
        # OpenSSH's patterns have `*` and `?`, and no brackets
        names = (pattern.lower().replace("[", "[[]") for pattern in self.principals)
        if self.principals and not any(fnmatch.fnmatchcase(host.lower(), name) for name in names):
            return f"it is not for {host}"
        if self.critical_options:
            return "it has conditions that are not known here"
        return None


def read_host_certificate(blob: bytes) -> HostCertificate | None:
    """Return the contents of a host certificate; `None` if it is not one, or if its signature is not valid."""
    try:
        return _read(blob)
    except Exception:  # noqa: BLE001 - paramiko raises anything for bytes that are not a key or a signature
        return None


def _read(blob: bytes) -> HostCertificate | None:
    fields = Reader(blob)
    key_type = fields.string().decode().removesuffix(CERTIFICATE_SUFFIX)
    fields.string()  # nonce
    for _ in range(KEY_FIELDS.get(key_type, RSA_FIELDS)):
        fields.string()
    fields.uint64()  # serial number
    kind = fields.uint32()
    fields.string()  # key id
    principals = _strings(fields.string())
    valid_after, valid_before = fields.uint64(), fields.uint64()
    critical_options = fields.string()
    fields.string()  # extensions
    fields.string()  # reserved
    authority = fields.string()
    signature = fields.string()
    signed = blob[: -4 - len(signature)]
    key = paramiko.PKey.from_type_string(Reader(authority).string().decode(), authority)
    is_complete = fields.at_end() and len(_strings(signature)) == 2  # noqa: PLR2004 - algorithm and signature
    if kind != HOST_CERTIFICATE or not is_complete or not key.verify_ssh_sig(signed, paramiko.Message(signature)):
        return None
    return HostCertificate(key.get_base64(), principals, valid_after, valid_before, critical_options)


def _strings(packed: bytes) -> tuple[str, ...]:
    fields, strings = Reader(packed), []
    while not fields.at_end():
        strings.append(fields.string().decode("utf-8", "replace"))
    return tuple(strings)
