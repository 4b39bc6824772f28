"""The status document of `get_status`: everything that is known of the module, collected without blocking."""

from __future__ import annotations

import logging
import os
import platform
import ssl
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import cryptography
import paramiko
from azure.iot.device.constant import VERSION as SDK_VERSION
from cryptography.hazmat.backends.openssl import backend as openssl_of_cryptography

from iot.sftp.client import __version__
from iot.sftp.client._base.text import excerpt, shortened
from iot.sftp.module._base.times import rfc3339, rfc3339_now
from iot.sftp.module._hub.response import encoded_size
from iot.sftp.module._work.failures import Failures

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DISK_LIMIT = 0.5  # seconds that a file system has to answer
STRING_LIMITS = (4_096, 1_000, 300, 100, 30)  # characters of a string, one after the other, until the document fits
DISPENSABLE = ("failures", "reported", "settings")  # parts that are left out, in this order, if that is not enough

_log = logging.getLogger(__name__)


class Disks:
    """Asks file systems for their free space, each in a thread of its own: one that hangs may never respond."""

    def __init__(self, directories: Mapping[str, Path]) -> None:
        """Take the directories, by the names under which they are reported."""
        self._directories = directories
        self._changed = threading.Condition()
        self._asking: set[str] = set()
        self._found: dict[str, dict[str, Any]] = {}

    def free(self, limit: float = DISK_LIMIT) -> dict[str, dict[str, Any]]:
        """Return the free bytes and files of each directory whose file system responds within `limit` seconds."""
        with self._changed:
            for name in self._directories.keys() - self._asking:
                self._start_to_ask(name)
            self._changed.wait_for(lambda: self._found.keys() == self._directories.keys(), limit)
            silent = {"error": "the file system does not respond"}
            return {
                name: {"path": str(path)} | self._found.get(name, silent) for name, path in self._directories.items()
            }

    def _start_to_ask(self, name: str) -> None:
        self._found.pop(name, None)
        try:
            threading.Thread(target=self._ask, args=(name,), name=f"disk-{name}", daemon=True).start()
        except RuntimeError:
            self._found[name] = {"error": "no thread is left to ask the file system"}
        else:
            self._asking.add(name)  # the thread removes it, once the lock is released

    def _ask(self, name: str) -> None:
        found: dict[str, Any]
        try:
            disk = os.statvfs(self._directories[name])
            size = disk.f_frsize
            found = {"free": disk.f_bavail * size, "total": disk.f_blocks * size, "free_files": disk.f_favail}
        except (OSError, ValueError) as error:
            found = {"error": getattr(error, "strerror", None) or "the path is invalid"}
        with self._changed:
            self._asking.discard(name)
            self._found[name] = found
            self._changed.notify_all()


class Status:
    """Collects the document that `get_status` returns; thread-safe."""

    def __init__(self, directories: Mapping[str, Path] | None = None) -> None:
        """Begin to measure the uptime.

        Parameters:
            directories: whose free space is reported, by their names.
        """
        self.failures = Failures()
        self.disks = Disks(directories or {})
        self._started = time.time()
        self._since = time.monotonic()
        self._parts: dict[str, Callable[[], Any]] = {}

    def add(self, name: str, describe: Callable[[], Any]) -> None:
        """Add a part of the module.

        Parameters:
            name: its key in the document.
            describe: returns any JSON value, without blocking; `None` leaves the key out.
        """
        self._parts[name] = describe

    def document(self, maximum: int) -> dict[str, Any]:
        """Return the document, cut to `maximum` bytes of JSON."""
        document = {
            "time": rfc3339_now(),
            "started": rfc3339(self._started),
            "uptime": round(time.monotonic() - self._since, 1),
            "versions": versions(),
            "process": process(),
            "disks": self.disks.free(),
        }
        document |= {name: value for name in self._parts if (value := self._described(name)) is not None}
        return _within(document | {"failures": self.failures.newest_first()}, maximum)

    def _described(self, name: str) -> Any:
        try:
            return self._parts[name]()
        except Exception:  # noqa: BLE001 - a bug in one part must not hide the others
            _log.exception("internal error in the status of %s", name)
            return {"error": "internal error of the module, described in its log"}


def versions() -> dict[str, str]:
    """Return the versions of the components; Python and the SDK use one OpenSSL, paramiko that of cryptography."""
    return {
        "module": __version__,
        "python": platform.python_version(),
        "paramiko": paramiko.__version__,
        "cryptography": f"{cryptography.__version__} ({openssl_of_cryptography.openssl_version_text()})",
        "azure-iot-device": SDK_VERSION,
        "openssl": ssl.OPENSSL_VERSION,
    }


def process() -> dict[str, int | None]:
    """Return what this process uses: bytes of memory now and at most, threads, descriptors."""
    memory = _memory()
    try:
        descriptors: int | None = len(os.listdir("/proc/self/fd")) - 1  # that of the listing itself
    except OSError:  # not Linux, or no descriptor is left
        descriptors = None
    return {
        "pid": os.getpid(),
        "memory": memory.get("VmRSS"),
        "memory_highest": memory.get("VmHWM"),
        "threads": threading.active_count(),
        "descriptors": descriptors,
    }


def _memory() -> dict[str, int]:
    """Return the memory of this process as Linux counts it (proc_pid_status(5)), in bytes."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            lines = [line.split() for line in file if line.startswith("Vm")]
    except OSError:
        return {}
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}


def _within(document: dict[str, Any], maximum: int) -> dict[str, Any]:
    """Cut strings, and in the end leave out whole parts, until the document fits."""
    fitting = document
    for limit in STRING_LIMITS:
        fitting = {key: _cut(value, limit) for key, value in document.items()}
        if encoded_size(fitting) <= maximum:
            return fitting
    for name in DISPENSABLE:
        fitting = {key: value for key, value in fitting.items() if key != name}
        if encoded_size(fitting) <= maximum:
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
