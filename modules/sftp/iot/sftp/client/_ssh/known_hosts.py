"""known_hosts files: their lines, and how they are read and replaced.

Lines are those of OpenSSH (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"): plain names, `[host]:port`, hashed names, patterns
with `*`, `?` and `!`, and the markers `@revoked` and `@cert-authority`.
"""

from __future__ import annotations

import base64
import fcntl
import fnmatch
import hashlib
import logging
import os
import secrets
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paramiko import HostKeys

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import paramiko

logger = logging.getLogger(__name__)

SSH_PORT = 22
REVOKED, AUTHORITY = "@revoked", "@cert-authority"
LOCK_LIMIT = 2.0  # seconds


@dataclass(frozen=True)
class KnownKey:
    """A key that a line gives to a host.

    Attributes:
        key_type: such as `ssh-ed25519`.
        text: the key in base64.
        marker: of the line: `REVOKED`, `AUTHORITY` or none.
        is_for_other_port: whether the line names the host without the server's port.
    """

    key_type: str
    text: str
    marker: str = ""
    is_for_other_port: bool = False

    @classmethod
    def of(cls, key: paramiko.PKey) -> KnownKey:
        """Return the entry of a key, as a line would have it."""
        return cls(key.get_name(), key.get_base64())


# --- lines -----------------------------------------------------------------------------------------------------------


def known_hosts_name(host: str, port: int) -> str:
    """Return a server's name as known_hosts has it: `host`, or `[host]:port` if the port is not 22."""
    return host.lower() if port == SSH_PORT else f"[{host.lower()}]:{port}"


def line_of(name: str, key: paramiko.PKey) -> str:
    """Return the line that gives a key to a server."""
    return f"{name} {key.get_name()} {key.get_base64()}"


def parse_line(line: str, name: str) -> list[KnownKey]:
    """Return the key that a line gives to `name`, if it gives one."""
    fields = line.split()
    marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
    if len(fields) < 3 or fields[0].startswith("#") or marker not in {"", REVOKED, AUTHORITY}:  # noqa: PLR2004 - names type key
        return []
    return [KnownKey(fields[1], fields[2], marker)] if is_for(fields[0], name) else []


def is_for(patterns: str, name: str) -> bool:
    """Return whether the first field of a line names a server."""
    is_matched = False
    for pattern in patterns.split(","):
        if pattern.startswith("|1|"):
            with suppress(ValueError, AssertionError, IndexError):  # a damaged salt matches nothing
                is_matched |= HostKeys.hash_host(name, pattern) == pattern
        elif fnmatch.fnmatchcase(name, pattern.lstrip("!").lower().replace("[", "[[]")):
            if pattern.startswith("!"):
                return False
            is_matched = True
    return is_matched


def is_of_one_host(line: str) -> bool:
    """Return whether a line is about one host only."""
    return not set(",*?!") & set(line.split(maxsplit=1)[0]) if line.split() else False


def fingerprint(text: str) -> str:
    """Return the SHA256 fingerprint of a key's base64 text, in OpenSSH's form."""
    try:
        digest = hashlib.sha256(base64.b64decode(text, validate=True)).digest()
    except ValueError:
        return "an unreadable key"
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


# --- files -----------------------------------------------------------------------------------------------------------


def read_all_lines(path: Path) -> list[str]:
    """Return the lines of a file, such that `write_lines` gives its bytes back; none if there is no file.

    Raises:
        OSError: it cannot be read.
    """
    try:
        lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    except FileNotFoundError:
        return []
    return lines if lines[-1] else lines[:-1]


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file; none of one that cannot be read, after a warning."""
    try:
        return read_all_lines(path)
    except OSError as error:
        logger.warning("The known hosts in %s cannot be read: %s", path, error.strerror)
        return []


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Replace a file atomically by these lines, readable by its owner only.

    Raises:
        OSError: it cannot be written.
    """
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


@contextmanager
def locked(path: Path | None) -> Iterator[None]:
    """Hold a lock between processes on a known_hosts file, if its directory can be written."""
    try:
        descriptor = None if path is None else os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        descriptor = None
    try:
        if descriptor is not None:
            _wait_for_lock(descriptor)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _wait_for_lock(descriptor: int) -> None:
    """Wait for the lock; a process that hangs with it does not stop this one, whose write is atomic in any case."""
    end = time.monotonic() + LOCK_LIMIT
    while time.monotonic() < end:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01)
        else:
            return
