"""When the module ended itself, kept in the state directory: it must not do so too often."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TYPE_CHECKING

from iot.sftp.client import SFTPError

if TYPE_CHECKING:
    from collections.abc import Callable

FILE = "endings"
FEW = 3  # short lives that may follow each other
RECENT = 3600.0  # seconds; what is older does not count
ANSWER_LIMIT = 2.0  # seconds for the file system
LONG_LIFE = 660.0  # seconds: the edge agent forgets a module's restarts once it has run for ten minutes


class Endings:
    """Says whether the module may end itself now.

    The edge agent starts a module that ended again, at most 20 times, and forgets those that lie before ten minutes of
    running. So a few short lives may follow each other; then each life is longer than that, and the agent never gives
    up. Where nothing can be remembered, each is.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        clock: Callable[[], float] = time.time,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin to count this life.

        Parameters:
            state_dir: where the endings of earlier lives are kept.
            clock: gives seconds of the epoch: lives are compared over restarts.
            guard: raises an `SFTPError` while the directory is not ours to use.
        """
        self._guard = guard
        self._file = state_dir / FILE
        self._clock = clock
        self._born = time.monotonic()
        self._lock = threading.Lock()
        self._noted: Future[bool] | None = None  # of the ending that is being written down

    def allow(self) -> bool:
        """Say whether the module may end itself now; if so, that is remembered for its next lives."""
        is_short = time.monotonic() - self._born < LONG_LIFE
        with self._lock:
            return self._is_noted(is_short=is_short) or not is_short

    def _is_noted(self, *, is_short: bool) -> bool:
        """Write an ending down in a thread, as the file system may be what hangs; it is waited for once."""
        limit = 0.0
        if self._noted is None:
            noted: Future[bool] = Future()
            write = threading.Thread(target=lambda: noted.set_result(self._note(is_short=is_short)), daemon=True)
            try:
                write.start()
            except RuntimeError:  # there are no threads left
                return False
            self._noted, limit = noted, ANSWER_LIMIT
        wait({self._noted}, limit)
        if not self._noted.done():
            return False
        answer, self._noted = self._noted.result(), None
        return answer

    def _note(self, *, is_short: bool) -> bool:
        now = self._clock()
        endings = [moment for moment in self._read() if 0 <= now - moment < RECENT]
        return not (is_short and len(endings) >= FEW) and self._remember([*endings[1 - FEW :], now])

    def _read(self) -> list[float]:
        try:
            return [float(line) for line in self._file.read_text(encoding="ascii").split()]
        except (OSError, ValueError):
            return []

    def _remember(self, endings: list[float]) -> bool:
        new = self._file.with_suffix(".new")
        try:
            self._guard()
            new.write_text("".join(f"{moment:.0f}\n" for moment in endings), encoding="ascii")
            os.replace(new, self._file)
        except (OSError, SFTPError):
            return False
        return True
