"""Counters and durations that the rooms keep of their own work; `_app/metrics` exposes them."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iot.sftp.client import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from iot.sftp.client import FolderProgress

WINDOW = 300.0  # seconds; the longest duration is that of this window and the one before
DIRECTIONS = ("download", "upload")
OUTCOMES = ("completed", "failed", "interrupted", "quarantined")


class LabelledCounter:
    """Counts by the values of some labels, which only grow; thread-safe."""

    def __init__(self, *known: tuple[str, ...]) -> None:
        """Start at zero; label values that are `known` in advance are exposed as 0."""
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, ...], int] = dict.fromkeys(known, 0)

    def add(self, *labels: str, count: int = 1) -> None:
        """Add to the count of some label values."""
        with self._lock:
            self._counts[labels] = self._counts.get(labels, 0) + count

    def counts(self) -> dict[tuple[str, ...], int]:
        """Return all counts by their label values."""
        with self._lock:
            return dict(self._counts)


@dataclass
class Duration:
    """How long something takes.

    Attributes:
        count: how often it was measured.
        seconds: the sum.
        longest: of this window, and of the one before.
    """

    count: int = 0
    seconds: float = 0.0
    longest: tuple[float, float] = (0.0, 0.0)


class Durations:
    """How long things take, by name; thread-safe."""

    def __init__(self, window: float = WINDOW, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without measurements.

        Parameters:
            window: seconds.
            clock: returns seconds, and never goes back.
        """
        self._window = window
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, Duration] = {}
        self._number = self._now()  # of the window that is open

    def add(self, name: str, seconds: float) -> None:
        """Add a measurement."""
        with self._lock:
            self._turn()
            known = self._known.setdefault(name, Duration())
            known.count += 1
            known.seconds += seconds
            known.longest = max(known.longest[0], seconds), known.longest[1]

    def durations(self) -> dict[str, Duration]:
        """Return the durations by name."""
        with self._lock:
            self._turn()
            return {name: Duration(**vars(known)) for name, known in self._known.items()}

    def _turn(self) -> None:
        """Begin a new window if it is due; the longest of the last one is kept."""
        passed, self._number = self._now() - self._number, self._now()
        if passed:
            for known in self._known.values():
                known.longest = 0.0, known.longest[0] if passed == 1 else 0.0

    def _now(self) -> int:
        return int(self._clock() // self._window)


class CallCounters:
    """The answers to direct methods, and their durations."""

    def __init__(self) -> None:
        """Start without measurements."""
        self.answers = LabelledCounter()  # by method and code
        self.durations = Durations()  # by method

    def note(self, method: str, code: str, seconds: float) -> None:
        """Count an answer.

        Parameters:
            method: a known method, or one word for all others, so that the number of label values is bounded.
            code: that of an `SFTPError`, or a word for success.
            seconds: from the request's arrival.
        """
        self.answers.add(method, code)
        self.durations.add(method, seconds)


@dataclass
class TransferCount:
    """The transfer of a file or of a folder, as far as it has come."""

    files: int | None = None  # of a folder
    failed: int = 0
    quarantined: int = 0

    def note(self, progress: FolderProgress) -> None:
        """Update the progress of a folder."""
        self.files = progress.files
        self.failed = progress.failed - progress.not_removed  # these have arrived
        self.quarantined = progress.quarantined


class TransferCounters:
    """The files whose transfer has ended, by server, direction and outcome."""

    def __init__(self) -> None:
        """Start without measurements."""
        self.files = LabelledCounter()

    def counts(self, servers: Iterable[str]) -> dict[tuple[str, ...], int]:
        """Return all counts by server, direction and outcome; those of these servers also where they are 0."""
        known = ((server, direction, outcome) for server in servers for direction in DIRECTIONS for outcome in OUTCOMES)
        return dict.fromkeys(known, 0) | self.files.counts()

    @contextmanager
    def one(self, method: str, server: str) -> Iterator[TransferCount]:
        """Count the outcome of a transfer: of one file, unless the progress of a folder is noted.

        Parameters:
            method: the method that runs, or the direction.
            server: its name.
        """
        move, ended = TransferCount(), "failed"
        direction = "upload" if method.startswith("upload") else "download"
        try:
            yield move
            ended = ""
        except Cancelled:
            ended = "interrupted"
            raise
        finally:
            done = move.files if move.files is not None else int(not ended)
            self.files.add(server, direction, "completed", count=done)
            self.files.add(server, direction, "failed", count=move.failed)
            self.files.add(server, direction, "quarantined", count=move.quarantined)
            if ended:
                self.files.add(server, direction, ended)
