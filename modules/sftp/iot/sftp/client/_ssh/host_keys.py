"""Which keys a server may have: pinned, known or remembered; any other is refused.

Lines are those of OpenSSH's known_hosts (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"): plain names, `[host]:port`, hashed
names, patterns with `*`, `?` and `!`, and the markers `@revoked` and `@cert-authority`.
"""

from __future__ import annotations

import base64
import copy
import fcntl
import fnmatch
import hashlib
import logging
import os
import secrets
import threading
import time
from collections import defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from paramiko import HostKeys

from iot.sftp.client._base.errors import HostKeyMismatch
from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._ssh.certificates import HOST_CERTIFICATE_TYPES, read_host_certificate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import paramiko

logger = logging.getLogger(__name__)

SSH_PORT = 22
REVOKED, AUTHORITY = "@revoked", "@cert-authority"
LOCK_LIMIT = 2.0  # seconds
RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")  # RFC 8332: what an `ssh-rsa` key signs with today

_lock = threading.Lock()


@dataclass(frozen=True)
class KnownKey:
    """A key that a line gives to a host: its type, its base64 text, and the line's marker.

    `elsewhere` is whether the line is about the host without the server's port.
    """

    key_type: str
    text: str
    marker: str = ""
    elsewhere: bool = False


# Keys that could not be written, kept for the life of this process: the file that they belong to, the server's name.
_in_memory: dict[tuple[Path | None, str], set[KnownKey]] = defaultdict(set)


class HostKeyPolicy:
    """What is believed about one server's key.

    Attributes:
        learns: whether the key that is shown takes the place of the one that is remembered.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        pinned: Iterable[str] = (),
        known_hosts: Path | None = None,
        known_hosts_files: Iterable[Path] = (),
    ) -> None:
        """Take the server's name, and where its keys are known from; see `ServerSettings`."""
        self.name = known_hosts_name(host, port)
        self._host = host
        self._pinned = tuple(pinned)
        self._known_hosts = known_hosts
        self._files = tuple(known_hosts_files)
        self._mismatched: str | None = None  # the type of the key that was refused last
        self._passed_over: set[str] = set()  # key types whose key was not the pinned one
        self.learns = False

    def wanted_types(self, offered: Iterable[str]) -> tuple[str, ...]:
        """Return the key types to negotiate, best first: those that are pinned or known (RFC 4253, section 7.1).

        Parameters:
            offered: what paramiko speaks, in its order.
        """
        if self._pinned:
            types = [fields[0] for fields in map(str.split, self._pinned) if len(fields) > 1]
        else:
            known = self._known()
            types = [entry.key_type for entry in known if not entry.marker]
            if _authorities(known):
                types = [*HOST_CERTIFICATE_TYPES, *types]
        offered = tuple(offered)
        # Not all that is known or pinned is spoken: the keys of old servers (ssh-dss), those of hardware (sk-…)
        spoken = {*offered, *HOST_CERTIFICATE_TYPES} - set(_signatures(self._passed_over))
        return tuple(kind for kind in dict.fromkeys([*_signatures(types), *offered]) if kind in spoken)

    @property
    def basis(self) -> str:
        """What a key is compared with: `pinned` or `known` ones, or none, of an `unknown` server."""
        if self._pinned:
            return "pinned"
        known = self._known()
        return "known" if any(entry.marker != REVOKED and not entry.elsewhere for entry in known) else "unknown"

    def pass_over(self) -> bool:
        """After a mismatch, tell whether a key of another type may be the pinned one: a fingerprint names no type."""
        if self._mismatched is None or not any(pin.startswith("SHA256:") for pin in self._pinned):
            return False
        self._passed_over.add(self._mismatched)
        return True

    def start_over(self) -> bool:
        """Begin with all key types again, the server has no others; tell whether any had been passed over."""
        some = bool(self._passed_over)
        self._passed_over.clear()
        return some

    def check(self, key: paramiko.PKey, certificate: bytes | None = None) -> None:
        """Accept a key that is pinned, certified or known, remember the first one, refuse any other.

        What is marked as revoked is refused, pinned or not. Asked in every key exchange, the first and all later ones.

        Parameters:
            key: the server's.
            certificate: in whose form the server showed it, if it was one.

        Raises:
            HostKeyMismatch: with both fingerprints.
            SFTPError: it is to take the place of one that is written down, and that cannot be changed.
        """
        with _locked(None if self._pinned else self._known_hosts):
            known = self._known()
            self._refuse_revoked(key, certificate, known)
            if self._pinned:
                self._check_pins(key)
            elif self._vouched_for(key, certificate, known):
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
        if not any(_is_pin_of(pin, key) for pin in self._pinned):
            self._mismatched = key.get_name()
            raise self._mismatch(key, (_pin_fingerprint(pin) for pin in self._pinned), "pinned")

    def _vouched_for(self, key: paramiko.PKey, certificate: bytes | None, known: list[KnownKey]) -> bool:
        """Tell whether a certificate makes a key believed. Where there is an authority, nothing is on first use.

        A key that is listed as it is stays believed beside an authority, as with OpenSSH.
        """
        authorities = _authorities(known)
        refusal = self._refusal_of(certificate, authorities)
        if not authorities or refusal is None:
            return bool(authorities)
        listed = self._believed() + self._shared() if self.learns else known
        if any(entry.text == key.get_base64() for entry in listed if not entry.marker):
            return False
        expected = ", ".join(fingerprint(text) for text in sorted(authorities))
        message = (
            f"{self.name} shows the key {key.fingerprint} {refusal}. Nothing was sent to it: where an authority is "
            f"known ({expected}), no key is trusted on first use. Ask the server's administrator for a valid host "
            "certificate; or list the key in known_hosts, once it is confirmed"
        )
        raise HostKeyMismatch(message)

    def _refusal_of(self, blob: bytes | None, authorities: set[str]) -> str | None:
        """Say what is wrong with a certificate, or return `None` if it counts."""
        if blob is None:
            return "without a certificate"
        certificate = read_host_certificate(blob)
        if certificate is None:
            return "with a certificate that is not one for hosts, or was changed"
        if certificate.authority not in authorities:
            return f"with a certificate by the unknown authority {fingerprint(certificate.authority)}"
        refusal = certificate.refusal(self._host)
        return refusal and f"with a certificate that does not count ({refusal})"

    def _check_known(self, key: paramiko.PKey, known: list[KnownKey]) -> None:
        """Compare a key with those that are known; remember the first one."""
        if self.learns:
            known = self._believed() + self._shared()
        valid = [entry for entry in known if not entry.marker and not entry.elsewhere]
        text = key.get_base64()
        if not valid and any(entry.text == text for entry in known if not entry.marker):
            return  # the host's key on its usual port, as OpenSSH does
        if valid and not any(entry.text == text for entry in valid):
            raise self._mismatch(key, (fingerprint(entry.text) for entry in valid), "known")
        if self.learns:
            self._replace_others(key)
        if not self._is_written(key):
            self._remember(key)

    def learning(self) -> HostKeyPolicy:
        """Return a policy that believes the key that it is shown in the place of the one that is remembered.

        The one that is remembered stays until then. A pinned key, and one of a file that is only believed, stay as they
        are: any other is refused.
        """
        policy = copy.copy(self)
        policy.learns = True
        return policy

    def _believed(self) -> list[KnownKey]:
        """Return what the files say that are never written."""
        return [entry for path in self._files for line in _lines(path) for entry in self._entries(line)]

    def _shared(self) -> list[KnownKey]:
        """Return what our own file says in lines that are about other hosts too: somebody else has put them there."""
        lines = [] if self._known_hosts is None else _lines(self._known_hosts)
        return [entry for line in lines if not _is_of_one_host(line) for entry in self._entries(line)]

    def _known(self) -> list[KnownKey]:
        known = self._believed()
        if self._known_hosts is not None:
            known += [entry for line in _lines(self._known_hosts) for entry in self._entries(line)]
        place = self._known_hosts, self.name
        with _lock:
            if all(entry.marker or entry.elsewhere for entry in known):
                # Beside an authority only what is written down is believed
                known += () if _authorities(known) else _in_memory.get(place, ())
            else:  # what is written down, and can be read again, counts for more
                _in_memory.pop(place, None)
        return known

    def _entries(self, line: str) -> list[KnownKey]:
        """Return the key that a line gives to the server: by its name and port, or by the host's name alone.

        OpenSSH looks for a server on another port under the host's name, too, where it finds nothing else.
        """
        return _parse(line, self.name) or [replace(entry, elsewhere=True) for entry in _parse(line, self._host.lower())]

    def _is_in_memory(self, key: paramiko.PKey) -> bool:
        with _lock:
            return _known_key(key) in _in_memory.get((self._known_hosts, self.name), ())

    def _remember(self, key: paramiko.PKey) -> None:
        """Write a key down; if that fails, keep it in memory, so that the next connection tries again."""
        place = self._known_hosts, self.name
        error = None if self._known_hosts is None else self._write_down(key, self._known_hosts)
        if self._known_hosts is not None and error is None:
            logger.info("Remembered the key %s of %s, seen for the first time", key.fingerprint, self.name)
            with _lock:
                _in_memory.pop(place, None)
            return
        if error is not None and not self._is_in_memory(key):
            logger.warning(
                "The key %s of %s cannot be remembered in %s (%s): it is kept until this process ends",
                key.fingerprint, self.name, self._known_hosts, error.strerror,
            )  # fmt: skip
        with _lock:
            _in_memory[place].add(_known_key(key))

    def _is_written(self, key: paramiko.PKey) -> bool:
        known = {entry.text for entry in self._known() if not entry.marker and not entry.elsewhere}
        return key.get_base64() in known and not self._is_in_memory(key)

    def _replace_others(self, key: paramiko.PKey) -> None:
        """Put a key in the place of those that were remembered before; revoked ones and authorities stay."""
        place, path = (self._known_hosts, self.name), self._known_hosts
        with _lock:
            before = {fingerprint(entry.text) for entry in _in_memory.get(place, ())}
        if path is not None and os.path.exists(path):
            try:
                before |= self._replace_lines(key, path)
            except OSError as error:
                raise from_os_error(error, str(path)) from error
        with _lock:
            _in_memory.pop(place, None)
        before.discard(key.fingerprint)
        if before:
            logger.warning("The key %s of %s is forgotten, as was asked for", ", ".join(sorted(before)), self.name)

    def _replace_lines(self, key: paramiko.PKey, path: Path) -> set[str]:
        """Write a key in the place of the lines that are about this host alone; return the fingerprints of those."""
        lines = _read(path)
        ours = [line for line in lines if _is_of_one_host(line) and any(not e.marker for e in _parse(line, self.name))]
        before = {fingerprint(entry.text) for line in ours for entry in _parse(line, self.name)}
        if before - {key.fingerprint}:
            kept = [line for line in lines if line not in ours]
            _write(path, [*kept, f"{self.name} {key.get_name()} {key.get_base64()}"])
        return before

    def _write_down(self, key: paramiko.PKey, path: Path) -> OSError | None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Lines that cannot be read would be lost in a new file
            _write(path, [*_read(path), f"{self.name} {key.get_name()} {key.get_base64()}"])
        except OSError as error:
            return error
        return None

    def _mismatch(self, key: paramiko.PKey, expected: Iterable[str], how: str) -> HostKeyMismatch:
        return HostKeyMismatch(
            f"{self.name} has the key {key.fingerprint}, but {how} is {' or '.join(expected)}. Nothing was sent to it. "
            "Ask the server's administrator whether its key was changed, before you accept the new one",
        )


def _authorities(known: Iterable[KnownKey]) -> set[str]:
    """Return the texts of the authorities' keys."""
    return {entry.text for entry in known if entry.marker == AUTHORITY}


def _signatures(key_types: Iterable[str]) -> list[str]:
    """Return what keys of these types sign with."""
    return [name for kind in key_types for name in (RSA_SIGNATURES if kind == "ssh-rsa" else (kind,))]


def known_hosts_name(host: str, port: int) -> str:
    """Return a server's name as known_hosts has it: `host`, or `[host]:port` where the port is not 22."""
    return host.lower() if port == SSH_PORT else f"[{host.lower()}]:{port}"


def fingerprint(text: str) -> str:
    """Return the SHA256 fingerprint of a key's base64 text, in OpenSSH's form."""
    try:
        digest = hashlib.sha256(base64.b64decode(text)).digest()
    except ValueError:
        return "an unreadable key"
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


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


def _is_pin_of(pin: str, key: paramiko.PKey) -> bool:
    return _pin_fingerprint(pin) == key.fingerprint


def _pin_fingerprint(pin: str) -> str:
    pin = pin.strip()
    return pin.rstrip("=") if pin.startswith("SHA256:") else fingerprint(pin.split()[1])


def _known_key(key: paramiko.PKey) -> KnownKey:
    return KnownKey(key.get_name(), key.get_base64())


def _read(path: Path) -> list[str]:
    """Return the lines of a file, such that `_write` gives its bytes back, whatever they are; none if it is not there.

    Raises:
        OSError: it cannot be read.
    """
    try:
        lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    except FileNotFoundError:
        return []
    return lines if lines[-1] else lines[:-1]


def _lines(path: Path) -> list[str]:
    """Return the lines of a file; of one that cannot be read none, after a warning."""
    try:
        return _read(path)
    except OSError as error:
        logger.warning("The known hosts in %s cannot be read: %s", path, error.strerror)
        return []


def _parse(line: str, name: str) -> list[KnownKey]:
    """Return the key that a line gives to `name`, if it gives one."""
    fields = line.split()
    marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
    if len(fields) < 3 or fields[0].startswith("#") or marker not in {"", REVOKED, AUTHORITY}:  # noqa: PLR2004 - names type key
        return []
    return [KnownKey(fields[1], fields[2], marker)] if _names(fields[0], name) else []


def _is_of_one_host(line: str) -> bool:
    return not set(",*?!") & set(line.split(maxsplit=1)[0]) if line.split() else False


def _names(patterns: str, name: str) -> bool:
    matched = False
    for pattern in patterns.split(","):
        if pattern.startswith("|1|"):
            with suppress(ValueError, AssertionError, IndexError):  # a damaged salt matches nothing
                matched |= HostKeys.hash_host(name, pattern) == pattern
        elif fnmatch.fnmatchcase(name, pattern.lstrip("!").lower().replace("[", "[[]")):
            if pattern.startswith("!"):
                return False
            matched = True
    return matched


@contextmanager
def _locked(path: Path | None) -> Iterator[None]:
    """Hold a lock between processes on a known_hosts file, where its directory can be written."""
    try:
        descriptor = None if path is None else os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        descriptor = None
    try:
        if descriptor is not None:
            _lock_for_a_while(descriptor)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock_for_a_while(descriptor: int) -> None:
    """Wait for the lock; a process that hangs with it does not stop this one, whose write is whole in any case."""
    end = time.monotonic() + LOCK_LIMIT
    while time.monotonic() < end:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01)
        else:
            return


def _write(path: Path, lines: Iterable[str]) -> None:
    """Replace a file by these lines, whole or not at all, readable by its owner only."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
