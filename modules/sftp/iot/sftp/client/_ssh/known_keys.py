"""The keys that are known of one server: in known_hosts files, and in memory where they cannot be written."""

from __future__ import annotations

import logging
import os
import threading
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._ssh.known_hosts import (
    AUTHORITY,
    REVOKED,
    KnownKey,
    fingerprint,
    is_of_one_host,
    known_hosts_name,
    line_of,
    parse_line,
    read_all_lines,
    read_lines,
    write_lines,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import paramiko

logger = logging.getLogger(__name__)

_lock = threading.Lock()
# Keys that could not be written, kept for the life of this process: the file that they belong to, the server's name.
_in_memory: dict[tuple[Path | None, str], set[KnownKey]] = defaultdict(set)


def forget_all() -> None:
    """Forget all keys that are kept in memory, as a new process does."""
    with _lock:
        _in_memory.clear()


def authorities(known: Iterable[KnownKey]) -> set[str]:
    """Return the texts of the keys of certificate authorities."""
    return {entry.text for entry in known if entry.marker == AUTHORITY}


class KnownKeys:
    """The keys that are known of one server.

    Attributes:
        name: the server's name, as known_hosts has it.
        file: the file in which keys are remembered; `None` remembers them in memory.
    """

    def __init__(
        self,
        host: str,
        port: int,
        file: Path | None,
        read_only_files: Iterable[Path],
        write: Callable[[Path, Iterable[str]], None] = write_lines,
    ) -> None:
        """Read these files at each use.

        Parameters:
            host: the server's name.
            port: the server's port.
            file: see `KnownKeys.file`.
            read_only_files: further files, which are never written.
            write: replaces a file by lines.
        """
        self.name = known_hosts_name(host, port)
        self.file = file
        self._host = host.lower()
        self._read_only_files = tuple(read_only_files)
        self._write = write
        self._place = file, self.name

    def all(self) -> list[KnownKey]:
        """Return all keys that are known."""
        known = self._read_only()
        if self.file is not None:
            known += [entry for line in read_lines(self.file) for entry in self._entries(line)]
        with _lock:
            if all(entry.marker or entry.is_for_other_port for entry in known):
                # Beside an authority only what is written in a file counts
                known += () if authorities(known) else _in_memory.get(self._place, ())
            else:  # what is written, and can be read again, takes precedence
                _in_memory.pop(self._place, None)
        return known

    def not_ours(self) -> list[KnownKey]:
        """Return the keys that we never replace: of read-only files, and of lines that are about other hosts too."""
        lines = [] if self.file is None else read_lines(self.file)
        shared = [entry for line in lines if not is_of_one_host(line) for entry in self._entries(line)]
        return self._read_only() + shared

    @property
    def is_empty(self) -> bool:
        """Whether the server is unknown."""
        return all(entry.marker == REVOKED or entry.is_for_other_port for entry in self.all())

    def remember(self, key: paramiko.PKey) -> None:
        """Write a key to the file, unless it is there; if that fails, keep it in memory: the next connection retries.

        This is trust on first use.
        """
        if self._is_written(key):
            return
        error = None if self.file is None else self._append(key, self.file)
        if self.file is not None and error is None:
            logger.info("Remembered the key %s of %s, seen for the first time", key.fingerprint, self.name)
            with _lock:
                _in_memory.pop(self._place, None)
            return
        if error is not None and not self._is_in_memory(key):
            logger.warning(
                "The key %s of %s cannot be remembered in %s (%s): it is kept until this process ends",
                key.fingerprint, self.name, self.file, error.strerror,
            )  # fmt: skip
        with _lock:
            _in_memory[self._place].add(KnownKey.of(key))

    def replace_all_by(self, key: paramiko.PKey) -> None:
        """Put a key in the place of those that were remembered before; revoked keys and authorities stay.

        Raises:
            SFTPError: the file cannot be changed.
        """
        with _lock:
            before = {fingerprint(entry.text) for entry in _in_memory.get(self._place, ())}
        if self.file is not None and os.path.exists(self.file):
            try:
                before |= self._replace_lines(key, self.file)
            except OSError as error:
                raise from_os_error(error, str(self.file)) from error
        with _lock:
            _in_memory.pop(self._place, None)
        before.discard(key.fingerprint)
        if before:
            logger.warning("The key %s of %s is forgotten, as was asked for", ", ".join(sorted(before)), self.name)

    def _read_only(self) -> list[KnownKey]:
        return [entry for path in self._read_only_files for line in read_lines(path) for entry in self._entries(line)]

    def _entries(self, line: str) -> list[KnownKey]:
        """Return the key that a line gives to the server: by its name and port, or by the host's name alone.

        OpenSSH looks up a server on another port under the host's name, too, if it finds nothing else.
        """
        by_name = parse_line(line, self.name)
        return by_name or [replace(entry, is_for_other_port=True) for entry in parse_line(line, self._host)]

    def _is_in_memory(self, key: paramiko.PKey) -> bool:
        with _lock:
            return KnownKey.of(key) in _in_memory.get(self._place, ())

    def _is_written(self, key: paramiko.PKey) -> bool:
        known = {entry.text for entry in self.all() if not entry.marker and not entry.is_for_other_port}
        return key.get_base64() in known and not self._is_in_memory(key)

    def _append(self, key: paramiko.PKey, path: Path) -> OSError | None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Lines that cannot be read would be lost in a new file
            self._write(path, [*read_all_lines(path), line_of(self.name, key)])
        except OSError as error:
            return error
        return None

    def _replace_lines(self, key: paramiko.PKey, path: Path) -> set[str]:
        """Write a key in the place of the lines that are about this host alone; return the fingerprints of those."""
        lines = read_all_lines(path)
        ours = [
            line
            for line in lines
            if is_of_one_host(line) and any(not entry.marker for entry in parse_line(line, self.name))
        ]
        texts = {entry.text for line in ours for entry in parse_line(line, self.name)}
        if texts - {key.get_base64()}:  # damaged base64 may have a key's fingerprint, and is not it
            kept = [line for line in lines if line not in ours]
            self._write(path, [*kept, line_of(self.name, key)])
        return {fingerprint(text) for text in texts}
