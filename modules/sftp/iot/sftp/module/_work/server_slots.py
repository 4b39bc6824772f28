"""Give each server slots of its own, so that one that is dead or slow takes none of another one's.

Slots that all servers share could not do that: as many transfers that hang as there are slots would stop everything,
and which server will hang is not known in advance. So `transfers.concurrency` is what each server gets, and the device
is bounded by a total, which the servers divide equally. With one server nothing is divided.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from iot.sftp.module._work.slots import SLICE, Slots

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TOTAL = 34  # slots of all servers together: two for each of 17, or 16, the most that one may have, for each of two


def share(most: int, total: int, servers: int) -> int:
    """Return how much of a total each server may take: `most`, or its part of the total, and 1 at least."""
    return min(most, max(1, total // max(1, servers)))


class ServerSlots:
    """The slots of each server by its name; thread-safe."""

    def __init__(
        self, width: int, servers: Callable[[], int] = lambda: 1, *, total: int = TOTAL, time_slice: float = SLICE
    ) -> None:
        """Have no slots yet: those of a server are made when they are first asked for.

        Parameters:
            width: the number of slots of each server, as long as the total allows it.
            servers: returns how many servers there are; must not block.
            total: the number of slots of all servers together. Each has one in any case.
            time_slice: see `Slots`.
        """
        self.time_slice = time_slice
        self._width = width
        self.servers = servers
        self._total = total
        self._lock = threading.Lock()
        self._slots: dict[str, Slots] = {}

    @property
    def share(self) -> int:
        """The number of slots that each server has now."""
        return share(self._width, self._total, self.servers())

    def widen(self, width: int) -> None:
        """Change the number of slots of each server; those that are granted are kept."""
        self._width = width
        for server in self.by_server():
            self.of(server)

    def of(self, server: str) -> Slots:
        """Return the slots of a server, as many as it has now."""
        width = self.share
        with self._lock:
            slots = self._slots.setdefault(server, Slots(width, time_slice=self.time_slice))
        if slots.width != width:
            slots.widen(width)
        return slots

    def by_server(self) -> Mapping[str, Slots]:
        """Return the slots of the servers that have asked for some, by their names."""
        with self._lock:
            return dict(self._slots)
