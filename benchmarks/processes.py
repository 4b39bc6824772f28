"""One run of a client: its time, its processor seconds and its peak memory."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
LOOK_EVERY = 0.025  # seconds between two looks at a process's peak memory
SAID = 300  # characters kept of what a failed client says


@dataclass(frozen=True)
class Run:
    """What one run of a client took.

    Attributes:
        seconds: from the start of the process to its end.
        cpu_seconds: user and system time of the process and of those it started, as wait4(2) reports them.
        peak_bytes: the sum of the peaks of resident memory (VmHWM) of the process and its children.
        server_cpu_seconds: what the server's session took; `proxy_cpu_seconds`: what the proxy took.
        failure: what it said, if it failed.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    server_cpu_seconds: float = 0.0
    proxy_cpu_seconds: float = 0.0
    failure: str | None = None


def run(command: list[str], environment: dict[str, str], directory: Path, time_limit: float) -> Run:
    """Run a command to its end, and measure it. Beyond `time_limit` seconds it is ended, and has failed."""
    said = directory / "said"
    with said.open("w+b") as output:
        start = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 - the commands are our own
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=output,
            env=environment,
            cwd=directory,
            start_new_session=True,
        )
        with _Watch(process.pid, time_limit) as watch:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
        cpu = usage.ru_utime + usage.ru_stime + watch.cpu_seconds_of_orphans()
        process.returncode = os.waitstatus_to_exitcode(status)
        failure = None
        if process.returncode:
            output.seek(0)
            words = output.read().decode(errors="replace").split("\n")
            last = next((line.strip() for line in reversed(words) if line.strip()), "")  # of a traceback, its reason
            failure = f"more than {time_limit:g} s" if watch.timed_out else f"{process.returncode}: {last[:SAID]}"
    return Run(seconds, cpu, watch.peak_bytes, failure=failure)


def adopt_orphans() -> None:
    """Become the parent of processes whose own has ended without waiting for them, as lftp does with its ssh."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this process cannot wait for the children of its children")


class _Watch:
    """Looks at the memory of a process and its children until it ends; ends it when its time is over.

    wait4's own figure would not do: it begins with the memory of the process that started it.
    """

    def __init__(self, pid: int, time_limit: float) -> None:
        self.timed_out = False
        self._pid, self._deadline = pid, time.monotonic() + time_limit
        self._peaks: dict[int, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def cpu_seconds_of_orphans(self) -> float:
        """Wait for those that the process left behind, and return the processor seconds that they took."""
        taken = 0.0
        for pid in self._peaks:
            with suppress(ChildProcessError):  # the process has waited for it, as most do
                usage = os.wait4(pid, 0)[2]
                taken += usage.ru_utime + usage.ru_stime
        return taken

    @property
    def peak_bytes(self) -> int:
        return sum(self._peaks.values())

    def _look(self) -> None:
        while not self._over.wait(LOOK_EVERY):
            for pid in _family(self._pid):
                peak = _peak_bytes(pid)
                self._peaks[pid] = max(peak, self._peaks.get(pid, 0))
            if time.monotonic() > self._deadline and not self.timed_out:
                self.timed_out = True
                with suppress(ProcessLookupError):
                    os.killpg(self._pid, signal.SIGKILL)


def cpu_seconds_of_adopted(own: set[int]) -> float:
    """Wait for the children that this process has adopted, all but its `own`; return what they took.

    sshd leaves its SFTP server behind when a client hangs up rather than say goodbye first.
    """
    taken = 0.0
    for pid in set(children(os.getpid())) - own:
        with suppress(ChildProcessError):
            usage = os.wait4(pid, 0)[2]
            taken += usage.ru_utime + usage.ru_stime
    return taken


def cpu_seconds(pid: int, *, of_children: bool = False) -> float:
    """Return the processor seconds of a process, or of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    user, system = (13, 14) if of_children else (11, 12)
    return (int(fields[user]) + int(fields[system])) / TICKS


def children(pid: int) -> list[int]:
    """Return the children of a process that its first thread has started."""
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    return []


def _family(pid: int) -> list[int]:
    return [pid, *(relative for child in children(pid) for relative in _family(child))]


def _peak_bytes(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
