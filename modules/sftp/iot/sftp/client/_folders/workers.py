"""Run the steps of many files in threads: the first failure ends all of them; local shortages are waited out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from iot.sftp.client._base.backoff import backoff
from iot.sftp.client._base.deadline import Deadline, Interruption
from iot.sftp.client._base.errors import (
    Busy,
    Cancelled,
    LocalBusy,
    SFTPError,
)
from iot.sftp.client._base.threads import WorkerThreads

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from iot.sftp.client._files.remote_files import RemoteFiles

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

PROGRESS_INTERVAL = 0.1  # seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 3.2  # seconds of backoff where the local system is short of something: `LocalBusy`
RETRIES = 6


class ChannelLender(Protocol):
    """Lends a connection's channels: an attempt of a call."""

    deadline: Deadline

    def transfer(self, deadline: Deadline | None = None) -> AbstractContextManager[RemoteFiles]:
        """Lend the server's files over a channel for one transfer."""


Step = Callable[[ChannelLender, Deadline], None]


def run_in_threads(
    lender: ChannelLender, steps: list[Step], report: Callable[[], object], *, needs_all: bool = False
) -> None:
    """Run steps in threads of their own, and report progress in this one; what ends one of them ends all of them.

    Parameters:
        lender: lends channels; its deadline is that of all steps.
        steps: receive the lender and the deadline that ends them.
        report: called ten times a second.
        needs_all: whether steps wait for others. If not, and the system has fewer threads, some begin when others end.

    Raises:
        SFTPError: what ended the first step; `LocalBusy` if there are too few threads.
    """
    if not steps:
        return
    stop = Interruption()
    deadline = Deadline(lender.deadline.remaining() if lender.deadline.limited else None, stop)
    futures: list[Future[None]] = []
    with WorkerThreads(len(steps), least=len(steps) if needs_all else 1, name="sftp-folder") as threads:
        try:
            # In the caller's context, so that log records can be attributed to its call
            futures += [threads.submit(copy_context().run, _run_step, step, lender, deadline) for step in steps]
            pending = set(futures)
            while pending and not any(future.exception() for future in futures if future.done()):
                _, pending = wait(pending, PROGRESS_INTERVAL, FIRST_EXCEPTION)
                report()
                lender.deadline.check()
        finally:
            stop.goes_on = lender.deadline.keeps
            stop.set()
    lender.deadline.check()
    # The cause is reported, not that the other threads were asked to end because of it.
    errors = [error for error in (future.exception() for future in futures) if error is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, Cancelled)):
        raise error


def retry_while_local_busy(deadline: Deadline, work: Callable[[], Result]) -> Result:
    """Do some work; retry it with exponential backoff as long as the local system is short of something."""
    for pause in pauses_while_local_busy():
        try:
            return work()
        except LocalBusy as error:
            pause(deadline, error)
    return work()


def pauses_while_local_busy() -> Iterator[Callable[[Deadline, LocalBusy], None]]:
    """Give the pauses before each retry of what the local system is too short of something for."""
    for attempt in range(1, RETRIES + 1):
        yield partial(_pause, backoff(attempt, first=FIRST_PAUSE, longest=LONGEST_PAUSE))


def _pause(seconds: float, deadline: Deadline, error: LocalBusy) -> None:
    logger.debug("Trying again in %.1f s: %s", seconds, error)
    deadline.pause(seconds)
    deadline.check()


def is_busy(error: SFTPError) -> bool:
    """Return whether another transfer or call is in the way."""
    return isinstance(error, Busy) and not isinstance(error, LocalBusy)


def _run_step(step: Step, lender: ChannelLender, deadline: Deadline) -> None:
    """Run one step; an error that is kept after it does not keep all names that were in its hands.

    A connection holds the error that has ended it, and many of its calls, until it is opened again.
    """
    try:
        step(lender, deadline)
    except SFTPError as error:
        error.__traceback__ = None
        raise type(error)(error.message, path=error.path) from None
