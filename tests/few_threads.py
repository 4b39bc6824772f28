"""A system that lets this process have few further threads, or none."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


class ThreadLimit:
    """The threads that this process may have beside those that it has."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._most: int | None = None
        self._begun: list[threading.Thread] = []
        begin = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            if self._most is not None and sum(each.is_alive() for each in self._begun) >= self._most:
                raise RuntimeError("can't start new thread")  # as CPython does
            begin(thread)
            self._begun.append(thread)

        patch.setattr(threading.Thread, "start", start)

    def leave(self, count: int | None) -> None:
        """Let so many further threads run at a time; `None` is no limit."""
        self._most, self._begun = count, []
