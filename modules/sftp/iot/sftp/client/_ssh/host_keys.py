"""Which keys a server may have: pinned, certified, known, or trusted on first use; any other is refused."""

from __future__ import annotations

import base64
import copy
from contextlib import suppress
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import HostKeyMismatch
from iot.sftp.client._ssh.algorithms import HOST_CERTIFICATE_TYPES, RSA_SIGNATURES
from iot.sftp.client._ssh.certificates import read_host_certificate
from iot.sftp.client._ssh.known_hosts import REVOKED, fingerprint, locked, write_lines
from iot.sftp.client._ssh.known_keys import KnownKeys, authorities

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import paramiko

    from iot.sftp.client._base.settings import ServerSettings
    from iot.sftp.client._ssh.known_hosts import KnownKey


class HostKeyPolicy:
    """Decides which keys one server may have.

    Attributes:
        name: the server's name, as known_hosts has it.
        keys: the keys that are known of the server.
        learns: whether the key that is shown replaces the one that is remembered.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        pinned: Iterable[str] = (),
        known_hosts: Path | None = None,
        known_hosts_files: Iterable[Path] = (),
        write: Callable[[Path, Iterable[str]], None] = write_lines,
    ) -> None:
        """Take the server's name, and the sources of its keys; see `ServerSettings`.

        Parameters:
            host: the server's name.
            port: the server's port.
            pinned: see `ServerSettings.host_keys`.
            known_hosts: see `ServerSettings`.
            known_hosts_files: see `ServerSettings`.
            write: replaces a file by lines.
        """
        self.keys = KnownKeys(host, port, known_hosts, known_hosts_files, write)
        self.name = self.keys.name
        self._host = host
        self._pinned = tuple(pinned)
        self._mismatched: str | None = None  # the type of the key that was refused last
        self._excluded: set[str] = set()  # key types whose key was not the pinned one
        self.learns = False

    @classmethod
    def of(cls, settings: ServerSettings) -> HostKeyPolicy:
        """Return the policy for a server."""
        return cls(
            settings.host,
            settings.port,
            pinned=settings.host_keys,
            known_hosts=settings.known_hosts,
            known_hosts_files=settings.known_hosts_files,
        )

    # --- which types of keys to ask for ---

    def wanted_types(self, offered: Iterable[str]) -> tuple[str, ...]:
        """Return the key types to negotiate, best first: those that are pinned or known (RFC 4253, section 7.1).

        Parameters:
            offered: the types that are implemented, best first.
        """
        if self._pinned:
            types = [fields[0] for fields in map(str.split, self._pinned) if len(fields) > 1]
        else:
            known = self.keys.all()
            types = [entry.key_type for entry in known if not entry.marker]
            if authorities(known):
                types = [*HOST_CERTIFICATE_TYPES, *types]
        offered = tuple(offered)
        # Not every known or pinned type is implemented: the keys of old servers (ssh-dss), those of hardware (sk-…)
        possible = {*offered, *HOST_CERTIFICATE_TYPES} - set(_signatures(self._excluded))
        return tuple(kind for kind in dict.fromkeys([*_signatures(types), *offered]) if kind in possible)

    def exclude_mismatched_type(self) -> bool:
        """After a mismatch, ask for other key types from now on; return whether a key of them may be the pinned one.

        A fingerprint does not say of which type its key is.
        """
        if self._mismatched is None or not any(pin.startswith("SHA256:") for pin in self._pinned):
            return False
        self._excluded.add(self._mismatched)
        return True

    def include_all_types(self) -> bool:
        """Ask for all key types again, when the server has no others; return whether any had been excluded."""
        had_excluded = bool(self._excluded)
        self._excluded.clear()
        return had_excluded

    @property
    def basis(self) -> str:
        """What a key is compared with: `pinned` or `known` ones, or none, of an `unknown` server."""
        if self._pinned:
            return "pinned"
        return "unknown" if self.keys.is_empty else "known"

    def learning(self) -> HostKeyPolicy:
        """Return a policy that accepts the key that it is shown in the place of the one that is remembered.

        The remembered key stays until then. A pinned key, and one of a read-only file, stay as they are: any other is
        refused.
        """
        policy = copy.copy(self)
        policy.learns = True
        return policy

    # --- whether a key is accepted ---

    def check(self, key: paramiko.PKey, certificate: bytes | None = None) -> None:
        """Accept a key that is pinned, certified or known, trust the first one, refuse any other.

        A key that is marked as revoked is refused, pinned or not. Called in every key exchange, the first and all
        later ones.

        Parameters:
            key: the server's.
            certificate: the certificate that the server showed with it, if it did.

        Raises:
            HostKeyMismatch: with both fingerprints.
            SFTPError: it should replace one in a file that cannot be changed.
        """
        with locked(None if self._pinned else self.keys.file):
            known = self.keys.all()
            self._refuse_revoked(key, certificate, known)
            if self._pinned:
                self._check_pins(key)
            elif self._is_certified(key, certificate, known):
                self.learns = False
            else:
                self._check_known(key, known)
                self.learns = False  # one key: a rekey does not bring another one

    def _refuse_revoked(self, key: paramiko.PKey, certificate: bytes | None, known: list[KnownKey]) -> None:
        """Refuse a key that is marked as revoked, or whose certificate is by an authority that is."""
        revoked = {entry.text for entry in known if entry.marker == REVOKED}
        if key.get_base64() in revoked:
            message = f"the key {key.fingerprint} of {self.name} is marked as revoked"
            raise HostKeyMismatch(message)
        claimed = read_host_certificate(certificate) if certificate is not None else None
        if claimed is not None and claimed.authority in revoked:
            message = f"the authority {fingerprint(claimed.authority)} that certified {self.name} is marked as revoked"
            raise HostKeyMismatch(message)

    def _check_pins(self, key: paramiko.PKey) -> None:
        pins = [_pin_fingerprint(pin) for pin in self._pinned]
        if key.fingerprint not in pins:
            self._mismatched = key.get_name()
            raise self._mismatch(key, pins, "pinned")

    def _is_certified(self, key: paramiko.PKey, certificate: bytes | None, known: list[KnownKey]) -> bool:
        """Return whether a certificate vouches for a key. With an authority, there is no trust on first use.

        A key that is listed itself stays accepted beside an authority, as with OpenSSH.

        Raises:
            HostKeyMismatch: there is an authority, and neither is the key listed.
        """
        known_authorities = authorities(known)
        refusal = self._refusal_of(certificate, known_authorities)
        if not known_authorities or refusal is None:
            return bool(known_authorities)
        listed = self.keys.not_ours() if self.learns else known
        if any(entry.text == key.get_base64() for entry in listed if not entry.marker):
            return False
        expected = ", ".join(fingerprint(text) for text in sorted(known_authorities))
        message = (
            f"{self.name} shows the key {key.fingerprint} {refusal}. Nothing was sent to it: where an authority is "
            f"known ({expected}), no key is trusted on first use. Ask the server's administrator for a valid host "
            "certificate; or list the key in known_hosts, once it is confirmed"
        )
        raise HostKeyMismatch(message)

    def _refusal_of(self, blob: bytes | None, known_authorities: set[str]) -> str | None:
        """Return what is wrong with a certificate, or `None` if it is valid."""
        if blob is None:
            return "without a certificate"
        certificate = read_host_certificate(blob)
        if certificate is None:
            return "with a certificate that is not one for hosts, or was changed"
        if certificate.authority not in known_authorities:
            return f"with a certificate by the unknown authority {fingerprint(certificate.authority)}"
        refusal = certificate.refusal(self._host)
        return refusal and f"with a certificate that does not count ({refusal})"

    def _check_known(self, key: paramiko.PKey, known: list[KnownKey]) -> None:
        """Compare a key with those that are known; remember the first one."""
        if self.learns:
            known = self.keys.not_ours()
        valid = [entry for entry in known if not entry.marker and not entry.is_for_other_port]
        text = key.get_base64()
        if not valid and any(entry.text == text for entry in known if not entry.marker):
            return  # the host's key on its usual port, as OpenSSH does
        if valid and not any(entry.text == text for entry in valid):
            raise self._mismatch(key, (fingerprint(entry.text) for entry in valid), "known")
        if self.learns:
            self.keys.replace_all_by(key)
        self.keys.remember(key)

    def _mismatch(self, key: paramiko.PKey, expected: Iterable[str], how: str) -> HostKeyMismatch:
        return HostKeyMismatch(
            f"{self.name} has the key {key.fingerprint}, but {how} is {' or '.join(expected)}. Nothing was sent to it. "
            "Ask the server's administrator whether its key was changed, before you accept the new one",
        )


def in_words(key: str, basis: str) -> tuple[str, str]:
    """Return what is said of a key that was accepted, and what to do about it: nothing, if it was known before.

    Parameters:
        key: its fingerprint.
        basis: that of the policy, before the handshake.
    """
    if basis != "unknown":
        return f"{key}, which is {basis}", ""
    advice = "Ask the administrator of that host for the fingerprint of its key, compare it with this one, and pin it"
    return f"{key}, seen for the first time and accepted from now on", advice


def check_pin(pin: str) -> str:
    """Return a pin that can match a key.

    Raises:
        ValueError: it is neither `SHA256:…` nor a public key line.
    """
    pin = pin.strip()
    fields = pin.split()
    with suppress(ValueError):
        if pin.startswith("SHA256:") and len(base64.b64decode(pin[7:].rstrip("=") + "=", validate=True)) == 32:  # noqa: PLR2004 - SHA-256
            return pin
        if len(fields) > 1:
            blob = base64.b64decode(fields[1], validate=True)
            if blob[4 : 4 + int.from_bytes(blob[:4], "big")].decode() == fields[0]:
                return pin
    message = "a host key is 'SHA256:' and 43 characters as ssh-keygen -l shows it, or a public key line 'type base64'"
    raise ValueError(message)


def _pin_fingerprint(pin: str) -> str:
    pin = pin.strip()
    return pin.rstrip("=") if pin.startswith("SHA256:") else fingerprint(pin.split()[1])


def _signatures(key_types: Iterable[str]) -> list[str]:
    """Return what keys of these types sign with."""
    return [name for kind in key_types for name in (RSA_SIGNATURES if kind == "ssh-rsa" else (kind,))]
