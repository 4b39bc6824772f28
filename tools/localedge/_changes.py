"""Wait for a condition: asked again after each change, and now and then for what nobody notifies of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LOOK_EVERY = 0.05  # seconds: conditions about files and processes change without a notification


class Changes:
    """Wakes everyone who waits, each time that something changed. For one event loop."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        """Say that something changed."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Return `True` once `condition` holds, `False` if it does not within `timeout` seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while not condition():
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiters.add(waiter)
            try:
                await asyncio.wait_for(waiter, min(LOOK_EVERY, deadline - loop.time()))
            except asyncio.TimeoutError:  # another class than TimeoutError before Python 3.11
                self._waiters.discard(waiter)
                if loop.time() >= deadline:
                    return condition()
        return True
