"""Messages on their way to a module's inputs: kept, and sent again until the module has acknowledged them.

As the edge hub does it: one message at a time to a module, the next one when it is acknowledged; what is not within a
time limit, or when the connection breaks, is sent again. Source: `DeviceMessageHandler` in the edge hub's source; its
own time limit is 30 s.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

KEPT = 10_000  # messages for a module
RETRY_PAUSE = 0.05  # seconds


class ModuleInputs:
    """The messages for one module, in their order. For one event loop."""

    def __init__(self, deliver: Callable[[str, bytes], Awaitable[bool]]) -> None:
        """Take what sends a message: it returns whether the module has acknowledged it."""
        self._deliver = deliver
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=KEPT)
        self._sending: asyncio.Task[None] | None = None
        self.delivered = 0

    @property
    def waiting(self) -> int:
        """How many messages the module has not acknowledged."""
        return len(self._waiting)

    def put(self, topic: str, body: bytes) -> None:
        """Keep a message until it is delivered."""
        self._waiting.append((topic, body))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send())

    async def stop(self) -> None:
        """Give up."""
        if self._sending is not None:
            self._sending.cancel()
            with suppress(asyncio.CancelledError):
                await self._sending

    async def _send(self) -> None:
        while self._waiting:
            if await self._deliver(*self._waiting[0]):
                self._waiting.popleft()
                self.delivered += 1
            else:
                await asyncio.sleep(RETRY_PAUSE)
