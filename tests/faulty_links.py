"""Links that break: a relay that counts what passes it, and cuts, freezes or damages at a given byte of either way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import NamedTuple

from tests.servers import Relay, shut_down

Action = Callable[[], object]


class Break(NamedTuple):
    """What happens when so many bytes of one way have passed (`down` is to the client).

    `how` is `cut`, `freeze`, `damage` (of the byte that is next) or something to be done, while all goes on.
    """

    after: int
    down: bool = True
    how: str | Action = "cut"


class BreakingRelay(Relay):
    """Counts the bytes of both ways, and breaks once where it is told to."""

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(target)
        self.down = self.up = 0
        self.broken = threading.Event()
        self._break: Break | None = None
        self._counting = threading.Lock()

    @property
    def passed(self) -> int:
        """All bytes, both ways."""
        return self.down + self.up

    def break_at(self, point: Break | None) -> None:
        """Count from zero, and break at this point; `None` lets everything pass, for links that were frozen too."""
        with self._counting:
            self.down = self.up = 0
            self.broken.clear()
            self.frozen.clear()
            self._break = point

    def _pump(self, source: socket.socket, sink: socket.socket, *, count: bool) -> None:
        try:
            while data := source.recv(65536):
                if self.frozen.is_set():
                    continue
                point, passes = self._due(len(data), down=count)
                if point is not None and point.how == "damage":
                    data = data[:passes] + bytes([data[passes] ^ 0x80]) + data[passes + 1 :]
                    passes = len(data)
                sink.sendall(data[:passes])
                if point is not None:
                    self._happen(point)
        finally:
            shut_down(source, sink)

    def _due(self, size: int, *, down: bool) -> tuple[Break | None, int]:
        """Return what happens within so many bytes, if anything does, and how many of them pass before."""
        with self._counting:
            before, point = self.down if down else self.up, self._break
            if point is None or point.down is not down or before + size <= point.after:
                point = None
            else:
                self._break = None
                if not callable(point.how):
                    size = max(0, point.after - before)
            self.down, self.up = (before + size, self.up) if down else (self.down, before + size)
            return point, size

    def _happen(self, point: Break) -> None:
        if callable(point.how):
            point.how()
        elif point.how == "cut":
            self.cut()
        elif point.how == "freeze":
            self.frozen.set()
        self.broken.set()
