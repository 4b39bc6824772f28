"""What the figures were measured on, and with what."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

from benchmarks.bench import IN_MEMORY
from benchmarks.peers import PEERS

ROOT = Path(__file__).parent.parent


def about(*, quick: bool, directory: Path | None) -> dict[str, Any]:
    """Return the frame of a run's results: all but its rows."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "run": {"id": uuid.uuid4().hex[:8], "date": now.isoformat(timespec="seconds"), "quick": quick, "of": _commit()},
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "kernel": platform.release(),
            "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
            "python": platform.python_version(),
            "load_before": os.getloadavg()[0],
            "files_on": _file_system(directory or IN_MEMORY),
        },
        "server": f"OpenSSH {PEERS['openssh'].version()}, internal-sftp, aes128-gcm@openssh.com or as a row says",
        "versions": {name: peer.version() for name, peer in PEERS.items()},
        "rows": {},
    }


def _commit() -> str:
    """Return which state of the project was measured."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        return "no repository"
    describe = [git, "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]
    return subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip() or "unknown"  # noqa: S603 - our own


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _file_system(directory: Path) -> str:
    """Return the type of the file system that a directory is on."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, place, found = line.split()[:3]
        if str(directory.resolve()).startswith(place) and len(place) > len(best):
            best, kind = place, found
    return kind
