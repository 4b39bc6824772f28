"""Let no two scans find the same files at the same time: each would deliver them."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from iot.sftp.client import Cancelled

if TYPE_CHECKING:
    from collections.abc import Iterator

POLL_PERIOD = 0.2  # seconds after which a scan that waits for another one sees whether it was cancelled


class ExclusiveScans:
    """The scans in progress; thread-safe."""

    def __init__(self) -> None:
        """Have none yet."""
        self._patterns: dict[str, list[str | None]] = {}  # by route
        self._changed = threading.Condition()

    @contextmanager
    def scan(self, *route: object, pattern: str | None, cancelled: threading.Event) -> Iterator[None]:
        """Wait until no other scan is in progress that may find the same files, and begin one.

        Patterns of which neither contains the other are taken for those of different files, which need not wait.

        Parameters:
            route: as for `DeliveryLedgers.of`.
            pattern: the text that paths have to contain.
            cancelled: set to stop waiting.

        Raises:
            Cancelled: it was set.
        """
        name = json.dumps(route)
        with self._changed:
            while any(_may_overlap(pattern, other) for other in self._patterns.get(name, [])):
                if cancelled.is_set():
                    raise Cancelled("another rule or task is transferring this folder")
                self._changed.wait(POLL_PERIOD)
            self._patterns.setdefault(name, []).append(pattern)
        try:
            yield
        finally:
            with self._changed:
                self._patterns[name].remove(pattern)
                if not self._patterns[name]:
                    del self._patterns[name]
                self._changed.notify_all()


def _may_overlap(one: str | None, other: str | None) -> bool:
    return one is None or other is None or one in other or other in one
