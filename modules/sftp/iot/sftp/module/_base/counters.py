"""Counts that the parts of the module keep of their own work; what they are told for is not their business."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iot.sftp.client import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iot.sftp.client import FolderProgress

WINDOW = 300.0  # seconds; the longest duration is told of this window and the one before
DIRECTIONS = ("download", "upload")
OUTCOMES = ("completed", "failed", "interrupted")


class LabelledCounter:
    """Numbers that only grow, by the values of some labels; for any number of threads."""

    def __init__(self, *known: tuple[str, ...]) -> None:
        """Begin with nothing; what is `known` to come is told as 0 until then."""
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, ...], int] = dict.fromkeys(known, 0)

    def add(self, *labels: str, count: int = 1) -> None:
        """Count what has just happened."""
        with self._lock:
            self._counts[labels] = self._counts.get(labels, 0) + count

    def counts(self) -> dict[tuple[str, ...], int]:
        """Return all counts by their labels."""
        with self._lock:
            return dict(self._counts)


@dataclass
class Duration:
    """What is known about how long something takes.

    Attributes:
        count: how often it was done.
        seconds: all of these together took.
        longest: of the last moments: those of this window, and of the one before.
    """

    count: int = 0
    seconds: float = 0.0
    longest: tuple[float, float] = (0.0, 0.0)


class Durations:
    """How long things take, by name; for any number of threads."""

    def __init__(self, window: float = WINDOW, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing.

        Parameters:
            window: seconds.
            clock: tells the seconds.
        """
        self._window = window
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, Duration] = {}
        self._number = self._now()  # of the window that is open

    def add(self, name: str, seconds: float) -> None:
        """Take note of how long it took."""
        with self._lock:
            self._turn()
            known = self._known.setdefault(name, Duration())
            known.count += 1
            known.seconds += seconds
            known.longest = max(known.longest[0], seconds), known.longest[1]

    def durations(self) -> dict[str, Duration]:
        """Return what is known, by name."""
        with self._lock:
            self._turn()
            return {name: Duration(**vars(known)) for name, known in self._known.items()}

    def _turn(self) -> None:
        """Begin a new window if it is time to; what was longest in the last one is still told."""
        passed, self._number = self._now() - self._number, self._now()
        if passed:
            for known in self._known.values():
                known.longest = 0.0, known.longest[0] if passed == 1 else 0.0

    def _now(self) -> int:
        return int(self._clock() // self._window)


class CallCounters:
    """The direct methods that were answered."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.answers = LabelledCounter()  # by method and code
        self.durations = Durations()  # by method

    def note(self, method: str, code: str, seconds: float) -> None:
        """Take note of an answer.

        Parameters:
            method: one of those that there are, or a word for all others: there are as many counts as names.
            code: that of an `SFTPError`, or a word for success.
            seconds: from the request's arrival.
        """
        self.answers.add(method, code)
        self.durations.add(method, seconds)


@dataclass
class TransferCount:
    """The transfer of a file or of a folder, as far as it came."""

    files: int | None = None  # of a folder
    failed: int = 0

    def note(self, progress: FolderProgress) -> None:
        """Take note of how far a folder is."""
        self.files = progress.files
        self.failed = progress.failed - progress.not_removed  # what has arrived has not failed to


class TransferCounters:
    """The files whose transfer has ended."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.files = LabelledCounter(*((direction, outcome) for direction in DIRECTIONS for outcome in OUTCOMES))

    @contextmanager
    def one(self, method: str) -> Iterator[TransferCount]:
        """Count what becomes of a transfer: of one file, unless the progress of a folder is noted.

        Parameters:
            method: that is carried out, or the direction.
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
            self.files.add(direction, "completed", count=done)
            self.files.add(direction, "failed", count=move.failed)
            if ended:
                self.files.add(direction, ended)
