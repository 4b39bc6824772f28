"""Every request is answered exactly once, by its deadline, and none of them holds up the event loop or another lane."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from iot.sftp.client import Busy, DeadlineExceeded, Internal, SFTPError
from iot.sftp.module._logging import printable, shortened
from iot.sftp.module._methods import Call, Lane, Response, refused, succeeded, understand

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.module._current_session import CurrentSession

T = TypeVar("T")

QUEUE_MAXIMUM = 1_000  # calls that wait for their turn in a lane
THREADS_MAXIMUM = 16  # of a lane: transfers.concurrency goes so far
CONTROL_THREADS, QUICK_THREADS = 8, 8
GRACE = 0.3  # seconds after its deadline in which a worker may still come back with the better message

_log = logging.getLogger(__name__)


class Queue:
    """Blocking work in threads: so many at a time, the rest in the order of their arrival."""

    def __init__(self, name: str, width: int, *, length: int = QUEUE_MAXIMUM) -> None:
        """Start no thread yet.

        Parameters:
            name: of the threads.
            width: how much work runs at a time.
            length: how much may wait.
        """
        self._width = width
        self._length = length
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._threads = ThreadPoolExecutor(THREADS_MAXIMUM, thread_name_prefix=name)

    def widen(self, width: int) -> None:
        """Take another number of threads at once; what runs goes on."""
        self._width = width
        self._let_in()

    async def run(self, work: Callable[[], T], deadline: float) -> T:
        """Do the work in a thread; by `deadline` (in `time.monotonic()`) there is a result, or an error.

        Work whose turn has not come by then is not begun. Work that does not come back is left to end by itself, and
        keeps its place until it does.

        Raises:
            Busy: too many wait already.
            DeadlineExceeded: the work was not begun, or has not come back.
        """
        await self._turn(deadline)
        task = asyncio.get_running_loop().run_in_executor(self._threads, work)
        task.add_done_callback(self._leave)
        await asyncio.wait({task}, timeout=max(0.0, deadline - time.monotonic()) + GRACE)
        if not task.done():
            message = "the time ran out, and the work is being stopped"
            raise DeadlineExceeded(message)
        return task.result()

    async def _turn(self, deadline: float) -> None:
        if self._running < self._width and not self._waiting:
            self._running += 1
            return
        if len(self._waiting) >= self._length:
            message = f"{self._length} calls are waiting already: try again later"
            raise Busy(message)
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        await asyncio.wait({place}, timeout=max(0.0, deadline - time.monotonic()))
        if not place.done():
            self._waiting.remove(place)
            message = "the time ran out before the call's turn came: others are running, nothing was done"
            raise DeadlineExceeded(message)

    def _leave(self, task: asyncio.Future[Any]) -> None:
        task.exception()  # taken note of: nobody may be waiting for it any more
        self._running -= 1
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._running < self._width:
            self._running += 1
            self._waiting.popleft().set_result(None)


class Dispatcher:
    """Takes requests, runs them in their lanes, gives back what to answer."""

    def __init__(self, sessions: CurrentSession, *, transfers: int = 2) -> None:
        """Use the session in force, and so many threads for transfers."""
        self._sessions = sessions
        self._numbers = itertools.count(1)
        self._queues = {
            Lane.CONTROL: Queue("control", CONTROL_THREADS),
            Lane.QUICK: Queue("quick", QUICK_THREADS),
            Lane.TRANSFER: Queue("transfer", transfers),
        }

    def allow_transfers(self, number: int) -> None:
        """Run so many transfers at a time."""
        self._queues[Lane.TRANSFER].widen(number)

    async def answer(self, name: str, payload: Any, received: float | None = None) -> Response:
        """Carry a request out and word the answer; never raises for anything that is in it or happens to it.

        Parameters:
            name: the method's.
            payload: any JSON value, or `Malformed`.
            received: when, in `time.monotonic()`; time limits count from then.
        """
        started = time.monotonic() if received is None else received
        number = next(self._numbers)
        subject = ""
        try:
            call = understand(name, payload)
            subject = _subject(call)
            response = succeeded(await self._run(call, started + call.request.timeout))
        except SFTPError as error:
            response = refused(name, error)
        except Exception:  # noqa: BLE001 - every request is answered, whatever fails inside
            _log.exception("call %d: a defect in %s", number, shortened(name, 100))
            message = f"a defect of the module, which its log describes at call {number}: please report it"
            response = refused(name, Internal(message))
        _log_answer(number, name, subject, response, time.monotonic() - started)
        return response

    async def _run(self, call: Call, deadline: float) -> Any:
        def work() -> Any:
            # counted anew: the call may have waited for its turn
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                message = "the time ran out before the call's turn came: nothing was done"
                raise DeadlineExceeded(message)
            return call.method.run(self._sessions, call.request, remaining)

        return await self._queues[call.method.lane].run(work, deadline)


def _subject(call: Call) -> str:
    """Name the paths that a call is about."""
    request = call.request.model_dump(include={"path", "source", "dest"})
    return " -> ".join(repr(shortened(str(value), 200)) for value in request.values())


def _log_answer(number: int, name: str, subject: str, response: Response, seconds: float) -> None:
    level = logging.INFO if response.code is None else logging.WARNING
    outcome = "200" if response.code is None else f"{response.status} {response.code}: {response.payload['message']}"
    shown = " ".join(part for part in (shortened(printable(name), 100), subject) if part)
    _log.log(level, "call %d: %s: %s (%.3f s)", number, shown, outcome, seconds)
