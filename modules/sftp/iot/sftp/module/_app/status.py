"""What the module tells of itself when it is asked: all that is known here, gathered without waiting for anything."""

from __future__ import annotations

import json
import logging
import os
import platform
import ssl
import threading
import time
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.backends.openssl import backend as openssl_of_cryptography

from iot.sftp.client import __version__
from iot.sftp.client._base.text import excerpt, shortened
from iot.sftp.module._base.times import rfc3339, rfc3339_now
from iot.sftp.module._work.failures import Failures

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DISK_LIMIT = 0.5  # seconds that a file system has to answer
STRING_LIMITS = (4_096, 1_000, 300, 100, 30)  # characters, when the whole is too long
DISPENSABLE = ("failures", "reported", "settings")  # the first one first, when nothing else helps

_log = logging.getLogger(__name__)


class Disks:
    """Asks file systems how full they are, each in a thread of its own: one that is gone may never answer."""

    def __init__(self, directories: Mapping[str, Path]) -> None:
        """Take the directories, by the names under which they are shown."""
        self._directories = directories
        self._changed = threading.Condition()
        self._asking: set[str] = set()
        self._found: dict[str, dict[str, Any]] = {}

    def free(self, limit: float = DISK_LIMIT) -> dict[str, dict[str, Any]]:
        """Return bytes and files that are free, for each directory that answers within `limit` seconds."""
        with self._changed:
            for name in self._directories.keys() - self._asking:
                self._begin_to_ask(name)
            self._changed.wait_for(lambda: self._found.keys() == self._directories.keys(), limit)
            silent = {"error": "the file system does not answer"}
            return {
                name: {"path": str(path)} | self._found.get(name, silent) for name, path in self._directories.items()
            }

    def _begin_to_ask(self, name: str) -> None:
        self._found.pop(name, None)
        try:
            threading.Thread(target=self._ask, args=(name,), name=f"disk-{name}", daemon=True).start()
        except RuntimeError:
            self._found[name] = {"error": "no thread is left to ask"}
        else:
            self._asking.add(name)  # the thread takes it out, when we have left the lock

    def _ask(self, name: str) -> None:
        found: dict[str, Any]
        try:
            told = os.statvfs(self._directories[name])
            size = told.f_frsize
            found = {"free": told.f_bavail * size, "total": told.f_blocks * size, "free_files": told.f_favail}
        except (OSError, ValueError) as error:
            found = {"error": getattr(error, "strerror", None) or "this is no path"}
        with self._changed:
            self._asking.discard(name)
            self._found[name] = found
            self._changed.notify_all()


class Status:
    """Gathers the document that `get_status` answers; for any number of threads."""

    def __init__(self, directories: Mapping[str, Path] | None = None) -> None:
        """Begin to count the time.

        Parameters:
            directories: whose free space is told, by their names.
        """
        self.failures = Failures()
        self.disks = Disks(directories or {})
        self._started = time.time()
        self._since = time.monotonic()
        self._parts: dict[str, Callable[[], Any]] = {}

    def add(self, name: str, tell: Callable[[], Any]) -> None:
        """Have a part of the module told under a name, by a function that blocks for nothing; any JSON value.

        There is no such part in the document while it tells `None`.
        """
        self._parts[name] = tell

    def document(self, maximum: int) -> dict[str, Any]:
        """Return all of it, cut to `maximum` bytes of JSON."""
        document = {
            "time": rfc3339_now(),
            "started": rfc3339(self._started),
            "uptime": round(time.monotonic() - self._since, 1),
            "versions": versions(),
            "process": process(),
            "disks": self.disks.free(),
        }
        document |= {name: told for name in self._parts if (told := self._told(name)) is not None}
        return _within(document | {"failures": self.failures.newest_first()}, maximum)

    def _told(self, name: str) -> Any:
        try:
            return self._parts[name]()
        except Exception:  # noqa: BLE001 - a defect of one part is no reason to tell nothing of the others
            _log.exception("a defect in the status of %s", name)
            return {"error": "a defect of the module, which its log describes"}


def versions() -> dict[str, str]:
    """Return the versions of what works here; Python and the SDK use one OpenSSL, paramiko that of cryptography."""
    return {
        "module": __version__,
        "python": platform.python_version(),
        "paramiko": metadata.version("paramiko"),
        "cryptography": f"{metadata.version('cryptography')} ({openssl_of_cryptography.openssl_version_text()})",
        "azure-iot-device": metadata.version("azure-iot-device"),
        "openssl": ssl.OPENSSL_VERSION,
    }


def process() -> dict[str, int | None]:
    """Return what this process takes: bytes of memory now and at most, threads, descriptors."""
    memory = _memory()
    try:
        descriptors: int | None = len(os.listdir("/proc/self/fd")) - 1  # that of the listing itself
    except OSError:  # not Linux, or no descriptor left
        descriptors = None
    return {
        "pid": os.getpid(),
        "memory": memory.get("VmRSS"),
        "memory_highest": memory.get("VmHWM"),
        "threads": threading.active_count(),
        "descriptors": descriptors,
    }


def _memory() -> dict[str, int]:
    """Return what Linux tells of this process's memory (proc_pid_status(5)), in bytes."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            lines = [line.split() for line in file if line.startswith("Vm")]
    except OSError:
        return {}
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}


def _within(document: dict[str, Any], maximum: int) -> dict[str, Any]:
    """Cut texts, and in the end leave out whole parts, until the document is short enough."""
    fitting = document
    for limit in STRING_LIMITS:
        fitting = {key: _cut(value, limit) for key, value in document.items()}
        if _size(fitting) <= maximum:
            return fitting
    for name in DISPENSABLE:
        fitting = {key: value for key, value in fitting.items() if key != name}
        if _size(fitting) <= maximum:
            break
    return fitting


def _cut(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        return excerpt(value, limit)
    if isinstance(value, Mapping):
        return {shortened(str(key), limit): _cut(inner, limit) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_cut(inner, limit) for inner in value]
    return value


def _size(value: Any) -> int:
    return len(json.dumps(value))  # as the SDK encodes it: ASCII only
