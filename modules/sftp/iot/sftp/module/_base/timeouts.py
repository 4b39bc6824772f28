"""Time limits for what has none of its own, such as the calls of the SDK; and the pauses between attempts."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from iot.sftp.client._base.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

T = TypeVar("T")

PAUSE_FIRST, PAUSE_LONGEST = 1.0, 30.0  # seconds
ABANDONED = "abandoned"  # the name of an asyncio task that nobody waits for any more


def pauses() -> Iterator[float]:
    """Give the seconds to wait between attempts to reach the edge hub, without end."""
    return Backoff(PAUSE_FIRST, PAUSE_LONGEST).pauses()


async def within(seconds: float, work: Awaitable[T]) -> T:
    """Wait for an awaitable, with a time limit.

    It is abandoned after that, not cancelled: the SDK completes its futures later, and fails on cancelled ones.

    Raises:
        TimeoutError: it is not done by then.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:  # whoever waits may be cancelled as well, when the module stops
        if not task.done():
            _abandon(task)
    if not task.done():
        message = f"no answer within {seconds:.0f} s"
        raise TimeoutError(message)
    return task.result()


async def in_thread(function: Callable[[], T], seconds: float) -> T:
    """Call a blocking function in a daemon thread of its own, with a time limit: it may never return.

    Raises:
        TimeoutError: it has not returned by then.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(error: BaseException | None, result: T | None) -> None:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type] # there is a result when there is no error

    def call() -> None:
        error, result = None, None
        try:
            result = function()
        except BaseException as raised:  # noqa: BLE001 - raised where it is awaited
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop may have ended meanwhile
            loop.call_soon_threadsafe(settle, error, result)

    threading.Thread(target=call, name=function.__name__, daemon=True).start()
    return await within(seconds, future)


def _abandon(task: asyncio.Future[Any]) -> None:
    task.add_done_callback(_take_note)  # else asyncio logs its exception as one that nobody has seen
    if isinstance(task, asyncio.Task):
        task.set_name(ABANDONED)


def _take_note(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()
