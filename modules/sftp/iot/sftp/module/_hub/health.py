"""The health of a connection that seems to be there: what speaks against it, and whether a new process is needed."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.module._hub.limits import HubLimits


class ConnectionHealth:
    """Counts requests without an answer and failed probes, and wakes who watches; lives in the event loop.

    Attributes:
        suspicion: why the client has to be replaced; empty while it is healthy.
    """

    def __init__(self, limits: HubLimits) -> None:
        """Begin with a healthy connection."""
        self.suspicion = ""
        self._limits = limits
        self._changed = asyncio.Event()
        self._twin_timeouts = 0  # in a row
        self._silent_since: float | None = None  # when the first of them was sent
        self._has_answered = False  # whether the hub has answered a twin request since this process started
        self._failed_probes = 0  # in a row

    def notify(self) -> None:
        """Wake who waits: the connection was made, or broke."""
        self._changed.set()

    def suspect(self, reason: str) -> None:
        """Have the client replaced; the first reason counts."""
        self.suspicion = self.suspicion or reason
        self._twin_timeouts = 0
        self._changed.set()

    def twin_answered(self) -> None:
        """Record that the hub has answered a twin request."""
        self._twin_timeouts, self._silent_since, self._has_answered = 0, None, True

    def twin_timed_out(self, sent: float) -> None:
        """Record that the hub has not answered a twin request, which was sent then, in `time.monotonic()`."""
        self._twin_timeouts += 1
        if self._silent_since is None:
            self._silent_since = sent
        if self._twin_timeouts >= self._limits.twin_timeouts:
            self.suspect(f"{self._twin_timeouts} twin requests in a row were not answered")

    def method_arrived(self) -> None:
        """Record that a method, or a probe, came through the SDK's threads."""
        self._failed_probes = 0

    def probe_failed(self, reason: str) -> None:
        """Record that a probe failed."""
        self._failed_probes += 1
        self.suspect(f"a probe failed: {reason}")

    def reason_to_exit(self) -> str:
        """Return why a new client is no remedy, and only a new process may be one; empty if there is no such reason.

        Either the hub answered once, and new clients get no answer any more; or no method gets through the SDK, whose
        threads belong to the process.
        """
        silent = 0.0 if self._silent_since is None else time.monotonic() - self._silent_since
        if self._has_answered and silent > self._limits.give_up:
            return f"no answer to a twin request for {silent:.0f} s"
        if self._failed_probes >= self._limits.failed_probes:
            return f"{self._failed_probes} probes in a row failed"
        return ""

    async def wait_until(self, holds: Callable[[], object], limit: float) -> None:
        """Wait until a condition holds, checked after each change of the connection; no longer than `limit` seconds."""
        end = time.monotonic() + limit
        while not holds():
            self._changed.clear()
            remaining = end - time.monotonic()
            if remaining <= 0:
                return
            waiting = asyncio.ensure_future(self._changed.wait())
            await asyncio.wait({waiting}, timeout=remaining)
            waiting.cancel()
