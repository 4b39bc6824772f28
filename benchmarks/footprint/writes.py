"""What a process writes into the state directory, and how often it waits for the disk: counted by strace(1)."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WRITES, SYNCS = ("write", "pwrite64", "pwritev", "writev"), ("fsync", "fdatasync")
_CALL = re.compile(r"(\w+)\(\d+<([^>]*)>.*= (-?\d+)")


@dataclass(frozen=True)
class Written:
    """What was written under a directory so far."""

    content: int = 0
    syncs: int = 0

    def __sub__(self, earlier: Written) -> Written:
        """Return what was written since then."""
        return Written(self.content - earlier.content, self.syncs - earlier.syncs)


def is_installed() -> bool:
    """Whether strace is there."""
    return shutil.which("strace") is not None


def traced(command: Sequence[str], output: Path) -> list[str]:
    """Return the command under strace, which stops the process at these calls only."""
    calls = ",".join(WRITES + SYNCS)
    return ["strace", "-f", "-y", "--seccomp-bpf", "-s", "0", "-o", str(output), "-e", f"trace={calls}", *command]


def written(output: Path, directory: Path) -> Written:
    """Return what the calls in strace's output have written under a directory."""
    content = syncs = 0
    for line in output.read_text(encoding="utf-8", errors="replace").splitlines():
        call = _CALL.search(line)
        if call is None or not call[2].startswith(f"{directory}/"):
            continue
        if call[1] in SYNCS:
            syncs += 1
        else:
            content += max(0, int(call[3]))
    return Written(content, syncs)
