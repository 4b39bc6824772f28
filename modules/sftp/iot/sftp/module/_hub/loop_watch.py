"""Watches that the event loop goes on: what it does not do any more, nobody else does."""

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

ROUND = 10.0  # seconds
ROUNDS = 12  # without a sign of the loop

_log = logging.getLogger(__name__)


def watch_loop(
    on_end: Callable[[], None], may_end: Callable[[], bool], *, seconds: float = ROUND, rounds: int = ROUNDS
) -> None:
    """Call `on_end`, in a thread, once the running event loop has stood still for so long; logs where it stands.

    Rounds are counted and not time: while the whole process is held (SIGSTOP, a device that sleeps), none pass.

    Parameters:
        on_end: ends the process.
        may_end: says whether it may be ended now; asked after each further round, when there is a reason to.
        seconds: between two signs.
        rounds: how many of them may pass without one.
    """
    loop, ident, sign = asyncio.get_running_loop(), threading.get_ident(), threading.Event()

    def watch() -> None:
        missed, pause = 0, threading.Event()
        while missed < rounds or not may_end():
            sign.clear()
            try:
                loop.call_soon_threadsafe(sign.set)
            except RuntimeError:  # it is closed: the process ends
                return
            pause.wait(seconds)
            missed = 0 if sign.is_set() else missed + 1
        with contextlib.suppress(Exception):
            stack = "".join(traceback.format_stack(sys._current_frames()[ident]))  # noqa: SLF001 - public, but for its name
            text = "the module ends to be started anew: its event loop has stood still for %.0f s, here: %s"
            _log.error(text, missed * seconds, stack)
        on_end()

    threading.Thread(target=watch, name="loop-watch", daemon=True).start()
