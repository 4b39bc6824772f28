"""Ending all that a run has started: servers, their sessions, other clients, and what was mounted for them.

Some servers' sessions outlive them: they lead a process group of their own (sshd's), ignore SIGTERM, or never notice
that their client is gone (lsh's turns in a circle then). So the end of a run does not rely on who has started whom.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # prctl(2)
ENDING = 15.0  # seconds in which what was asked to end may clean up after itself
GONE_WITHIN = 10.0  # seconds after SIGKILL
PAUSE = 0.05  # seconds


def answer_for_descendants() -> None:
    """Become the parent of every descendant whose own parent ends, so that it can be found and ended."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """Have SIGTERM sent to this process when the one that has started it ends, however that ends."""
    parent = os.getppid()
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it has ended meanwhile
        sys.exit(128 + signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def exit_on_signals() -> None:
    """Turn SIGTERM and SIGINT into `SystemExit`, so that whatever is under way is cleaned up."""

    def leave(number: int, _: FrameType | None) -> None:
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, signal.SIG_IGN)  # a second one must not cut the cleaning short
        sys.exit(128 + number)

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, leave)


def end_group(process: subprocess.Popen[str]) -> None:
    """Kill a process that leads its session, and all that is in its process group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end_child(process: subprocess.Popen[bytes]) -> None:
    """Ask a child to end, and kill it if it does not."""
    process.terminate()
    try:
        process.wait(ENDING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_descendants() -> None:
    """Kill all processes that this one has started, directly or not."""
    _end(lambda: psutil.Process().children(recursive=True))


def end_all_of(place: Path) -> None:
    """Kill each process that has to do with a directory of this run alone, and unmount what is mounted in it.

    That is who has it in its command, its environment or as its working directory, whoever its parent is by now.
    """
    _end(lambda: _of(place))
    for mounted in mounted_below(place):
        subprocess.run(["umount", "--lazy", mounted], check=False, capture_output=True)


def mounted_below(place: Path) -> list[str]:
    """Return what is mounted in a directory, the innermost first."""
    with suppress(OSError):
        lines = Path("/proc/self/mounts").read_text(errors="replace").splitlines()
        points = [line.split(" ")[1].replace("\\040", " ") for line in lines]
        return sorted((point for point in points if point.startswith(f"{place}/")), reverse=True)
    return []


def _of(place: Path) -> Iterator[psutil.Process]:
    spared = {os.getpid(), *(process.pid for process in psutil.Process().parents())}
    for process in psutil.process_iter():
        if process.pid not in spared and any(str(place) in text for text in _texts(process)):
            yield process


def _texts(process: psutil.Process) -> Iterator[str]:
    with suppress(psutil.Error, OSError):
        yield from process.cmdline()
    with suppress(psutil.Error, OSError):
        yield from process.environ().values()
    with suppress(psutil.Error, OSError):
        yield process.cwd() or ""


def _end(find: Callable[[], Iterable[psutil.Process]]) -> None:
    """Kill what is found, again until there is nothing: what is being ended may start something yet."""
    give_up = time.monotonic() + GONE_WITHIN
    while found := [process for process in find() if _lives(process)]:
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        _, alive = psutil.wait_procs(found, timeout=PAUSE)
        if alive and time.monotonic() > give_up:
            return


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE
    return False
