"""The key pair that a device makes itself for a server, and its rotation.

The private keys lie in the state directory: the current one, and during a rotation the next one. A login offers the
next one first. Once the server has accepted it, it takes the place of the current one in one atomic step. So at every
moment, also after a crash, one of the two files holds a key that the server knows, as long as its administrator removes
the old public key only after the new one was seen to work.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from iot.sftp.client import NotConfigured, Secret, SFTPError
from iot.sftp.module._base.state_directory import TEMPORARY_PREFIX, why_unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cryptography.hazmat.primitives.serialization.ssh import SSHPrivateKeyTypes

CURRENT, NEXT = "id_ed25519", "id_ed25519.next"  # in the server's part of the state directory
LONGEST = 16 * 1024  # bytes of a key file
PURPOSE = "for the private key of this device"

_log = logging.getLogger(__name__)


class DeviceKey:
    """The key pair of this device for one server; thread-safe.

    Attributes:
        current: where the private key is.
        following: where the next one is during a rotation; its file does not exist at other times.
    """

    def __init__(
        self,
        directory: Path,
        comment: str,
        *,
        guard: Callable[[], object] = lambda: None,
        on_change: Callable[[], object] = lambda: None,
    ) -> None:
        """Take the directory; nothing is read or made yet.

        Parameters:
            directory: for the files; it is created if it does not exist.
            comment: the end of the public lines, for those who read them.
            guard: raises an `SFTPError` while another module uses the directory.
            on_change: called when a public line has changed, from any thread; must not block.
        """
        self._directory = directory
        self._comment = comment
        self._guard = guard
        self._on_change = on_change
        self.current = Secret.from_file(directory / CURRENT)
        self.following = Secret.from_file(directory / NEXT)
        self._lock = threading.Lock()  # held while the directory is used, which may hang
        self._public: dict[str, str] = {}  # the lines that are known, by the file's name; replaced, never changed

    def as_properties(self) -> dict[str, str]:
        """Return the public lines that are known, as they are reported; never blocks."""
        known = self._public
        return {key: known[name] for key, name in (("publicKey", CURRENT), ("nextPublicKey", NEXT)) if name in known}

    def make(self) -> None:
        """Make the key pair, unless there is one, and read the public lines; blocks.

        Raises:
            NotConfigured: the state directory cannot be written; the message says why.
        """
        with self._lock:
            before = self._public
            lost = None
            try:
                if not os.path.lexists(self._directory / CURRENT):
                    lost = before.get(CURRENT)
                    self._write(CURRENT)
            except SFTPError as error:
                message = f"there is no key to log in with: {error.message}"
                raise NotConfigured(message) from error
            if CURRENT not in before:  # not since the process began, or what is in it is no key
                self._read()
            has_changed = self._public != before
        if lost is not None:
            _log.warning("the private key of this device (%s) is gone: another one was made", self._comment)
        if has_changed:
            self._on_change()

    def rotate(self) -> str:
        """Make the next key pair, unless the last one that was made so still waits to be accepted.

        Returns:
            its public line.

        Raises:
            SFTPError: the state directory cannot be written.
        """
        with self._lock:
            self._read()  # an earlier process may have made it; or its file is gone, and nobody could log in with it
            if NEXT in self._public:
                return self._public[NEXT]
            self._write(NEXT)
            line = self._public[NEXT]
        self._on_change()
        return line

    def note_accepted(self, fingerprints: Collection[str]) -> None:
        """Let the next key take the place of the current one, if it is among those that the server has accepted.

        Parameters:
            fingerprints: of the accepted keys, `SHA256:…`.
        """
        with self._lock:
            line = self._public.get(NEXT)
            if line is None or _fingerprint(line) not in fingerprints:
                return
            with suppress(OSError, SFTPError):  # the next login tries again
                self._guard()
                os.replace(self._directory / NEXT, self._directory / CURRENT)
                self._public = {CURRENT: line}
                _sync(self._directory)
        self._on_change()

    def _read(self) -> None:
        """Read the public lines; a file without a usable key has none."""
        lines = {name: _public_line(self._directory / name, self._comment) for name in (CURRENT, NEXT)}
        self._public = {name: line for name, line in lines.items() if line is not None}

    def _write(self, name: str) -> None:
        """Write a new key, atomically and durably.

        Raises:
            SFTPError: the state directory cannot be written.
        """
        self._guard()
        key = Ed25519PrivateKey.generate()
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        temporary = self._directory / f"{TEMPORARY_PREFIX}{name}"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._directory / name)
            _sync(self._directory)
        except OSError as error:
            raise why_unusable(self._directory, PURPOSE, error) from error
        self._public = {**self._public, name: _line_of(key, self._comment)}


def _fingerprint(line: str) -> str:
    """Return the fingerprint of a public line, as ssh-keygen -l shows it."""
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _public_line(path: Path, comment: str) -> str | None:
    try:
        with open(path, "rb") as file:
            key = serialization.load_ssh_private_key(file.read(LONGEST), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return _line_of(key, comment)


def _line_of(key: SSHPrivateKeyTypes, comment: str) -> str:
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return f"{public.decode()} {comment}".rstrip()


def _sync(directory: Path) -> None:
    """Have the names in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
