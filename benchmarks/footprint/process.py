"""What a process takes, read from Linux."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

NANO = 1e-9


@dataclass(frozen=True)
class Taken:
    """What the threads of a process have taken since they began.

    Attributes:
        cpu: seconds on a processor.
        wakeups: voluntary context switches: a thread waited, and was woken.
        by_thread: wake-ups by the name of the thread and its number.
    """

    cpu: float
    by_thread: dict[tuple[str, int], int]

    @property
    def wakeups(self) -> int:
        """All of them."""
        return sum(self.by_thread.values())


def taken(pid: int) -> Taken:
    """Return what a process has taken; threads that have ended are not known any more."""
    cpu, by_thread = 0.0, {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            status = (task / "status").read_text(encoding="utf-8", errors="replace")
            cpu += int((task / "schedstat").read_text(encoding="ascii").split()[0]) * NANO
        except (OSError, ValueError):  # it has just ended
            continue
        by_thread[(task / "comm").read_text(encoding="utf-8").strip(), int(task.name)] = _value(
            status, "voluntary_ctxt_switches"
        )
    return Taken(cpu, by_thread)


def resident(pid: int) -> int:
    """Return the bytes of a process that are in memory."""
    return _value(Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace"), "VmRSS") * 1024


def _value(status: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    assert found is not None, name  # noqa: S101 - Linux has it
    return int(found[1])
