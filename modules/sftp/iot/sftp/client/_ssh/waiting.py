"""Waiting for an answer that a server owes: with a deadline, and with a limit for the server's silence."""

from __future__ import annotations

import threading
import time
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from iot.sftp.client._base.errors import ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from iot.sftp.client._base.deadline import Deadline

Result = TypeVar("Result")


def never() -> bool:
    """Return that there is no excuse for a server's silence."""
    return False


def wait_for(
    is_ready: Callable[[float], bool],
    deadline: Deadline,
    silence: Callable[[], float],
    longest_silence: float,
    is_excused: Callable[[], bool] = never,
) -> None:
    """Wait for what the server owes.

    Parameters:
        is_ready: waits for so many seconds at most, and returns whether it is there.
        deadline: of the call.
        silence: returns the seconds since anything came from the server.
        longest_silence: seconds; a server that is silent for longer while it owes an answer is considered dead,
        is_excused: unless there is a reason for its silence. It may take its time to find out.

    Raises:
        DeadlineExceeded: the call's time has run out.
        ConnectionLost: the server is dead.
    """
    asked, patience = time.monotonic(), longest_silence
    while not is_ready(deadline.wait_at_most(patience)):
        deadline.check()
        silent_for = min(silence(), time.monotonic() - asked)
        if silent_for >= longest_silence:
            if not is_excused():
                deadline.check()
                message = f"the server has answered nothing for {longest_silence:g} s"
                raise ConnectionLost(message) from None
            asked, silent_for = time.monotonic(), 0.0
        patience = longest_silence - silent_for


def wait_for_answer(
    future: Future[Result],
    deadline: Deadline,
    silence: Callable[[], float],
    longest_silence: float,
    is_excused: Callable[[], bool] = never,
) -> Result:
    """Wait for an answer; see `wait_for`."""

    def is_ready(seconds: float) -> bool:
        try:
            future.exception(seconds)
        except (FutureTimeoutError, TimeoutError):
            return False
        return True

    wait_for(is_ready, deadline, silence, longest_silence, is_excused)
    return future.result()


@contextmanager
def at_deadline(deadline: Deadline, action: Callable[[], object]) -> Iterator[None]:
    """Run an action at the deadline, unless the block has ended by then: some of paramiko's calls wait without end."""
    timer = threading.Timer(min(deadline.remaining(), threading.TIMEOUT_MAX), action)
    timer.daemon = True
    timer.name = "sftp-connect-limit"
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
