"""A watchdog for the event loop: while that is blocked, nothing in the module works."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HEARTBEAT_INTERVAL = 10.0  # seconds
HEARTBEATS_MISSED = 12  # in a row, until the process exits

_log = logging.getLogger(__name__)


def watch_loop(
    leave: Callable[[], None],
    may_exit: Callable[[], bool],
    *,
    interval: float = HEARTBEAT_INTERVAL,
    missed: int = HEARTBEATS_MISSED,
) -> None:
    """Call `leave`, in a thread, once the running event loop has missed so many heartbeats; logs where it is blocked.

    Heartbeats are counted and not time: while the process is stopped (SIGSTOP, a device that sleeps), none is due.

    Parameters:
        leave: ends the process.
        may_exit: whether the process may exit now; asked after each further heartbeat, when there is a reason to.
        interval: seconds between two heartbeats.
        missed: how many heartbeats may be missing.
    """
    loop, ident, heartbeat = asyncio.get_running_loop(), threading.get_ident(), threading.Event()

    def watch() -> None:
        missing, pause = 0, threading.Event()
        while missing < missed or not may_exit():
            heartbeat.clear()
            try:
                loop.call_soon_threadsafe(heartbeat.set)
            except RuntimeError:  # it is closed: the process ends
                return
            pause.wait(interval)
            missing = 0 if heartbeat.is_set() else missing + 1
        with contextlib.suppress(Exception):
            stack = "".join(traceback.format_stack(sys._current_frames()[ident]))  # noqa: SLF001 - public, but for its name
            text = (
                "the module exits so that the edge agent restarts it: its event loop was blocked for %.0f s, here: %s"
            )
            _log.error(text, missing * interval, stack)
        leave()

    threading.Thread(target=watch, name="loop-watch", daemon=True).start()
