"""How often the module has exited by itself, kept in the state directory: too often, and the edge agent gives it up."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from iot.sftp.client import SFTPError

if TYPE_CHECKING:
    from collections.abc import Callable

FILE = "endings"


@dataclass(frozen=True, kw_only=True)
class RestartLimits:
    """When the module may exit by itself.

    Attributes:
        short_lives: so many may follow each other.
        recent: seconds; earlier exits do not count.
        long_life: seconds: the edge agent forgets a module's restarts once it has run for ten minutes.
        answer: seconds that the file system has to record an exit.
    """

    short_lives: int = 3
    recent: float = 3600.0
    long_life: float = 660.0
    answer: float = 2.0


class RestartBudget:
    """Decides whether the module may exit now so that the edge agent restarts it.

    The edge agent restarts a module at most 20 times, and forgets restarts once it has run for ten minutes. So a few
    short lives may follow each other; then each life lasts longer than that, and the agent never gives up. Where exits
    cannot be recorded, every life is a long one.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        clock: Callable[[], float] = time.time,
        guard: Callable[[], None] = lambda: None,
        uptime: Callable[[], float] | None = None,
        limits: RestartLimits | None = None,
    ) -> None:
        """Begin to measure this life.

        Parameters:
            state_dir: where the exits of earlier lives are recorded.
            clock: returns seconds of the epoch: lives are compared over restarts.
            guard: raises an `SFTPError` while another module uses the directory.
            uptime: returns the seconds since the module started; since now by default.
            limits: when it may exit.
        """
        self._guard = guard
        self._file = state_dir / FILE
        self._clock = clock
        self._limits = limits or RestartLimits()
        started = time.monotonic()
        self._uptime = uptime or (lambda: time.monotonic() - started)
        self._lock = threading.Lock()
        self._recorded: Future[bool] | None = None  # of the exit that is being recorded

    def allow(self) -> bool:
        """Return whether the module may exit now; if so, that is recorded for its next lives."""
        is_short = self._uptime() < self._limits.long_life
        with self._lock:
            return self._is_recorded(is_short=is_short) or not is_short

    def _is_recorded(self, *, is_short: bool) -> bool:
        """Record an exit in a thread, as the file system may be what hangs; only the first caller waits for it."""
        limit = 0.0
        if self._recorded is None:
            recorded: Future[bool] = Future()
            write = threading.Thread(target=lambda: recorded.set_result(self._record(is_short=is_short)), daemon=True)
            try:
                write.start()
            except RuntimeError:  # there are no threads left
                return False
            self._recorded, limit = recorded, self._limits.answer
        wait({self._recorded}, limit)
        if not self._recorded.done():
            return False
        answer, self._recorded = self._recorded.result(), None
        return answer

    def _record(self, *, is_short: bool) -> bool:
        now, few = self._clock(), self._limits.short_lives
        exits = [moment for moment in self._read() if 0 <= now - moment < self._limits.recent]
        return not (is_short and len(exits) >= few) and self._write([*exits[1 - few :], now])

    def _read(self) -> list[float]:
        try:
            return [float(line) for line in self._file.read_text(encoding="ascii").split()]
        except (OSError, ValueError):
            return []

    def _write(self, exits: list[float]) -> bool:
        new = self._file.with_suffix(".new")
        try:
            self._guard()
            new.write_text("".join(f"{moment:.0f}\n" for moment in exits), encoding="ascii")
            os.replace(new, self._file)
        except (OSError, SFTPError):
            return False
        return True
