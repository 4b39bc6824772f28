"""Every request is answered exactly once, by its deadline, and none of them holds up the event loop or another lane."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from iot.sftp.client import DeadlineExceeded, Internal, SFTPError
from iot.sftp.client._base.text import excerpt, quoted
from iot.sftp.module._base.counters import CallCounters
from iot.sftp.module._base.logging import about, subject
from iot.sftp.module._documents.requests import ChangeRequest, FolderRequest, TransferRequest
from iot.sftp.module._hub.response import Response
from iot.sftp.module._methods.request_ids import RequestIds, compare
from iot.sftp.module._methods.table import (
    ACCEPTED,
    METHODS,
    Call,
    Lane,
    Parts,
    accepted,
    refused,
    succeeded,
    understand,
)
from iot.sftp.module._work.slots import Kind, Slots, Turn
from iot.sftp.module._work.task_document import short_id
from iot.sftp.module._work.task_record import new_task

if TYPE_CHECKING:
    from collections.abc import Callable

    Work = Callable[[], Any]

T = TypeVar("T")

THREADS_MAXIMUM = 16  # of a lane: transfers.concurrency goes so far
CONTROL_THREADS, QUICK_THREADS, TASKS_THREADS, STATUS_THREADS = 8, 8, 8, 2
LEAST_TIME = 0.05  # seconds that must be left when a call's turn comes: with less it could only say that it had none
GRACE = 0.3  # seconds after its deadline in which a worker may still come back with the better message

_log = logging.getLogger(__name__)


class Queue:
    """Blocking work in threads: so many at a time, the rest in the order of their arrival."""

    def __init__(self, name: str, slots: Slots) -> None:
        """Start no thread yet.

        Parameters:
            name: of the threads.
            slots: who may run now.
        """
        self._slots = slots
        self._threads = ThreadPoolExecutor(THREADS_MAXIMUM, thread_name_prefix=name)

    async def run(self, work: Callable[[], T], deadline: float) -> T:
        """Do the work in a thread; by `deadline` (in `time.monotonic()`) there is a result, or an error.

        Work whose turn has not come by then is not begun. Work that does not come back is left to end by itself, and
        keeps its place until it does.

        Raises:
            Busy: too many wait already.
            DeadlineExceeded: the work was not begun, or has not come back.
        """
        turn = await self._turn(deadline)
        # In the call's context: what is logged there, also by the client, is logged on its behalf
        task = asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, work)
        task.add_done_callback(lambda task: _leave(turn, task))
        await asyncio.wait({task}, timeout=max(0.0, deadline - time.monotonic()) + GRACE)
        if not task.done():
            message = "the time ran out, and the work is being stopped"
            raise DeadlineExceeded(message)
        return task.result()

    @property
    def waiting(self) -> tuple[int, float]:
        """How many calls wait for their turn, and the seconds for which the first of them has."""
        return self._slots.waiting(Kind.CALL)

    async def _turn(self, deadline: float) -> Turn:
        loop = asyncio.get_running_loop()
        come = loop.create_future()

        def on_turn(_turn: Turn) -> None:
            loop.call_soon_threadsafe(come.set_result, None)

        turn = self._slots.ask(Kind.CALL, on_turn)
        if not turn.has_come:
            await asyncio.wait({come}, timeout=max(0.0, deadline - time.monotonic()))
        if not turn.has_come and turn.withdraw():
            message = "the time ran out before the call's turn came: others are running, nothing was done"
            raise DeadlineExceeded(message)
        return turn


class Dispatcher:
    """Takes requests, runs them in their lanes, gives back what to answer."""

    def __init__(self, parts: Parts, slots: Slots, request_ids: RequestIds) -> None:
        """Take what methods work with.

        Parameters:
            parts: the same.
            slots: those of transfers, which are shared with tasks.
            request_ids: the calls that may come again.
        """
        self.calls = CallCounters()
        self._parts = parts
        self._request_ids = request_ids
        self._queues = {
            Lane.CONTROL: Queue("control", Slots(CONTROL_THREADS)),
            Lane.QUICK: Queue("quick", Slots(QUICK_THREADS)),
            Lane.TASKS: Queue("status", Slots(TASKS_THREADS)),
            Lane.STATUS: Queue("get_status", Slots(STATUS_THREADS)),
            Lane.TRANSFER: Queue("transfer", slots),
        }

    def waiting(self) -> dict[str, tuple[int, float]]:
        """Return, for each lane, how many calls wait there and the seconds for which the first of them has."""
        return {lane.value: queue.waiting for lane, queue in self._queues.items()}

    async def answer(self, name: str, payload: Any, received: float | None = None) -> Response:
        """Carry a request out and word the answer; never raises for anything that is in it or happens to it.

        Parameters:
            name: the method's.
            payload: any JSON value, or `Malformed`.
            received: when, in `time.monotonic()`; time limits count from then.
        """
        started = time.monotonic() if received is None else received
        call_id, shown = secrets.token_hex(3), excerpt(name, 100)
        paths, attempts = "", 1
        with subject(f"call {call_id} {shown}", shown):
            try:
                call = understand(name, payload)
                paths = _paths(call)
                response = await self._respond(call, started + call.request.timeout)
            except SFTPError as error:
                response, attempts = refused(name, error), error.attempts
            except Exception:  # noqa: BLE001 - every request is answered, whatever fails inside
                _log.exception("a defect")
                message = f"a defect of the module, which its log describes at call {call_id}: please report it"
                response = refused(name, Internal(message))
            thing = f"{shown} {paths}".rstrip()
            self._count(name, response, time.monotonic() - started)
            _log_answer(thing, paths, response, attempts, time.monotonic() - started)
            if response.code is not None:
                self._parts.status.failures.note(thing, response.code, response.payload["message"])
        return response

    def _count(self, name: str, response: Response, seconds: float) -> None:
        method = name if name in METHODS else "unknown"  # names are the caller's, and there is no end of them
        succeeded_as = "accepted" if response.status == ACCEPTED else "ok"
        self.calls.note(method, response.code or succeeded_as, seconds)

    async def _respond(self, call: Call, deadline: float) -> Response:
        request = call.request
        if isinstance(request, TransferRequest | FolderRequest) and request.background:
            return await self._accept(call, request, deadline)
        if isinstance(request, ChangeRequest) and request.request_id is not None:
            return await self._request_ids.once(call, deadline, lambda wrap: self._run(call, deadline, wrap))
        return await self._run(call, deadline, _without_id)

    async def _run(self, call: Call, deadline: float, wrap: Callable[[Work], Callable[[], Response]]) -> Response:
        def remaining() -> float:
            return deadline - time.monotonic()  # counted anew: the call may have waited for its turn

        do = wrap(lambda: call.method.run(self._parts, call.request, remaining()))

        def work() -> Response:
            if remaining() <= LEAST_TIME:
                message = "the time ran out before the call's turn came: nothing was done"
                raise DeadlineExceeded(message)
            return do()

        return await self._queues[call.method.lane].run(work, deadline)

    async def _accept(self, call: Call, request: TransferRequest | FolderRequest, deadline: float) -> Response:
        """Make a task of a call, or find the one that it became the first time."""
        record = new_task(call.name, request.parameters(), request.time_limit)
        if request.request_id is not None:
            self._request_ids.check(call)

        def accept() -> Response:
            known = self._parts.tasks.accept(record, request.request_id, request.fingerprint(call.name))
            if known is None:
                return accepted(record.task_id)
            compare(known, call)
            return accepted(known.task_id or "")

        return await self._queues[Lane.TASKS].run(accept, deadline)


def _without_id(work: Work) -> Callable[[], Response]:
    return lambda: succeeded(work())


def _leave(turn: Turn, task: asyncio.Future[Any]) -> None:
    task.exception()  # taken note of: nobody may be waiting for it any more
    turn.leave()


def _paths(call: Call) -> str:
    """Name the paths that a call is about."""
    request = call.request.model_dump(include={"path", "source", "dest", "task_id"})
    return " -> ".join(quoted(str(value)) for value in request.values())


def _log_answer(thing: str, paths: str, response: Response, attempts: int, seconds: float) -> None:
    level = logging.INFO if response.code is None else logging.WARNING
    place, tried = f"{paths}: " if paths else "", "" if attempts == 1 else f", {attempts} attempts"
    if response.code is not None:
        words = f" {response.code}: {response.payload['message']}"
    else:
        words = f" task {short_id(response.payload['task_id'])}" if response.status == ACCEPTED else ""
    _log.log(level, "%s%d%s (%.3f s%s)", place, response.status, words, seconds, tried, extra=about(thing))
