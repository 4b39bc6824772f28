"""Servers that mean harm, and how much memory they cost."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psutil
from tests.faulty_servers import DIRECTORY, EOF, FILE, PASSWORD, FaultyServer, attributes, packet, status

from iot.sftp.client import Secret, ServerSettings, SFTPSession, TimeLimits
from iot.sftp.client._ssh.packets import ATTR_USUAL, Kind, Reader, string

if TYPE_CHECKING:
    import paramiko

MEBIBYTE = 1024 * 1024
PER_ANSWER = 2000  # names
USUAL = struct.pack(">IQIIIII", ATTR_USUAL, 1, 0, 0, FILE, 0, 0)


@contextmanager
def session_with(server: FaultyServer, *, connect: float = 60, stall: float = 60) -> Iterator[SFTPSession]:
    """A running server and a session with it, both ended afterwards."""
    with server.running() as port:
        limits = TimeLimits(connect=connect, stall=stall)
        session = SFTPSession(ServerSettings("127.0.0.1", port, "device", Secret(PASSWORD), time_limits=limits))
        try:
            yield session
        finally:
            session.disconnect()


@contextmanager
def growing_by_at_most(most: float) -> Iterator[None]:
    """The memory of this process, in bytes, looked at every few milliseconds."""
    process, ended, peak = psutil.Process(), threading.Event(), [0]
    before = process.memory_info().rss

    def look() -> None:
        while not ended.wait(0.005):
            peak[0] = max(peak[0], process.memory_info().rss)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield
    finally:
        ended.set()
        looking.join()
    assert peak[0] - before <= most, f"grew by {(peak[0] - before) / MEBIBYTE:.0f} MiB"


MEASURE = """
import sys
from pathlib import Path
from iot.sftp.client import Secret, ServerSettings, SFTPSession

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024

port, password, limit = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]) or None
session = SFTPSession(ServerSettings("127.0.0.1", port, "device", Secret(password)))
session.connect()
before = peak()
paths = session.list_files("in", limit=limit)
print(len(paths), paths[0], paths[-1], peak() - before)
session.disconnect()
"""


def list_in_a_process(port: int, limit: int | None) -> tuple[int, str, str, int]:
    """List in a process of its own: how many paths there are, the first, the last, and by how many bytes it grew."""
    command = [sys.executable, "-c", MEASURE, str(port), PASSWORD, str(limit or 0)]
    # As it is, and not as it is when its lines are counted
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=True)
    count, first, last, grown = done.stdout.split()
    return int(count), first, last, int(grown)


class Lists(FaultyServer):
    """Has one directory with these names, all of which are regular files, listed by many at a time."""

    def __init__(self, names: Iterable[bytes]) -> None:
        super().__init__()
        self._names = names
        self._rest: dict[bytes, Iterator[bytes]] = {}

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        if kind != Kind.READDIR:
            return super().truth(kind, fields)
        handle = fields.string()
        return next(self._rest.setdefault(handle, self._packets()), status(EOF))

    def _packets(self) -> Iterator[bytes]:
        some: list[bytes] = []
        for name in self._names:
            some.append(string(name) + b"\0\0\0\0" + USUAL)
            if len(some) == PER_ANSWER:
                yield struct.pack(">BI", Kind.NAME, len(some)) + b"".join(some)
                some = []
        if some:
            yield struct.pack(">BI", Kind.NAME, len(some)) + b"".join(some)


class Mixed(FaultyServer):
    """Has one directory `in` with files of these names, and shows directories of those names."""

    def __init__(self, files: Iterable[bytes], directories: Iterable[bytes]) -> None:
        super().__init__()
        entries = [(name, FILE) for name in files] + [(name, DIRECTORY) for name in directories]
        packed = b"".join(string(name) + string(name) + attributes(7, mode) for name, mode in entries)
        self._listing = struct.pack(">BI", Kind.NAME, len(entries)) + packed
        self.files = {"in/" + name.decode("utf-8", "surrogateescape"): bytearray(b"hostile") for name in files}
        self.opened: list[bytes] = []

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        if kind == Kind.OPENDIR:
            self.opened.append(fields.string())
            return bytes([Kind.HANDLE]) + string(b"directory")
        if kind == Kind.READDIR:
            listing, self._listing = self._listing, status(EOF)
            return listing
        return super().truth(kind, fields)


class AnswersOnlyStrangers(FaultyServer):
    """Answers requests that nobody made, without end, and no other."""

    def __init__(self, stranger: bytes) -> None:
        super().__init__()
        self._stranger = stranger * 500

    def send(self, channel: paramiko.Channel, answers: list[bytes]) -> None:
        if answers == [self._version]:
            super().send(channel, answers)
            return
        while not self.stopped.is_set():
            channel.sendall(self._stranger)


STRANGER = packet(0xFFFFFFF0, status(EOF))


class Says(FaultyServer):
    """Says something before it is an SSH server, which it never is: first this, and then that without end."""

    def __init__(self, first: bytes, then: bytes | Callable[[], bytes] = b"") -> None:
        super().__init__()
        self._first = first
        self._then = then

    def accepted(self, transport: paramiko.Transport) -> None:
        with suppress(OSError):
            transport.sock.sendall(self._first)
            while self._then and not self.stopped.is_set():
                transport.sock.sendall(self._then if isinstance(self._then, bytes) else self._then())


class Introduces(FaultyServer):
    """An honest server that has something to say of itself: in its version, and before the login."""

    def __init__(self, version: str, banner: str = "") -> None:
        super().__init__()
        self._name = version
        self._banner = banner

    def accepted(self, transport: paramiko.Transport) -> None:
        transport.local_version = self._name
        super().accepted(transport)

    def get_banner(self) -> tuple[str | None, str | None]:
        return (self._banner, "en") if self._banner else (None, None)
