"""Whether a server is alive: what it has sent last, and whether it is only slow."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from iot.sftp.client._base.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._ssh.paramiko_internals.transport import Transport

# A server that is doing something slow (a RENAME of an object store copies) is waited for as long as it answers
# liveness probes, but not without end: so many stall limits, and at least so many seconds.
SLOW_STALLS, SLOW_SECONDS = 10, 300.0


class Activity:
    """When something came from the server last."""

    def __init__(self) -> None:
        """Start now."""
        self._last = time.monotonic()

    def note(self) -> None:
        """Record that something came just now."""
        self._last = time.monotonic()

    def silence(self) -> float:
        """Return for how many seconds nothing has come."""
        return time.monotonic() - self._last


class Liveness:
    """Distinguishes a server that is dead from one that is busy with something slow."""

    def __init__(self, transport: Transport, stall: float, is_amid_an_answer: Callable[[], bool]) -> None:
        """Watch a connection.

        Parameters:
            transport: of the connection.
            stall: see `TimeLimits`.
            is_amid_an_answer: returns whether an answer has begun on any channel: then it is the link that is slow.
        """
        self._transport = transport
        self._stall = stall
        self._is_amid_an_answer = is_amid_an_answer
        self._lock = threading.Lock()
        self._slow: dict[object, float] = {}  # requests that are waited for, and since when
        self._prober: threading.Thread | None = None

    def begin_slow_wait(self, request: object) -> None:
        """Note that somebody begins to wait for a request that may take the server long."""
        with self._lock:
            self._slow[request] = time.monotonic()

    def end_slow_wait(self, request: object) -> None:
        """Note that nobody waits for it any more."""
        with self._lock:
            self._slow.pop(request, None)

    def is_only_slow(self, deadline: Deadline) -> bool:
        """Return whether a silent server is alive, and busy with something that may take long.

        Other answers that it owes meanwhile may have to wait behind that: many servers do one thing after the other.
        """
        if self._is_amid_an_answer():
            return False
        with self._lock:
            since = min(self._slow.values(), default=None)
        longest = max(SLOW_STALLS * self._stall, SLOW_SECONDS)
        return since is not None and time.monotonic() - since < longest and self._answers_probe(deadline)

    def join(self) -> None:
        """Wait for the thread of the last probe; it ends as soon as the transport is closed."""
        prober = self._prober
        if prober is not None and prober is not threading.current_thread():
            prober.join()

    def _answers_probe(self, deadline: Deadline) -> bool:
        """Send a liveness probe to the SSH server, below SFTP: it has to answer that too (RFC 4254, section 4)."""
        with self._lock:
            prober = self._prober
            if prober is None or not prober.is_alive():
                prober = self._prober = start_thread(self._probe, name="sftp-prober")
        limit = deadline.within(self._stall)
        while prober.is_alive() and limit.remaining():
            prober.join(limit.wait_at_most())
        return not prober.is_alive() and self._transport.is_active()

    def _probe(self) -> None:
        with suppress(Exception):  # a connection that has ended answers nothing, and is seen to have ended
            self._transport.global_request("keepalive@openssh.com", wait=True)
