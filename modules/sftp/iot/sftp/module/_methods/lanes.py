"""The lanes of direct methods: blocking work in worker threads, with a deadline for each call.

Calls that speak to a server have a queue of their own for each server: a server that lets calls wait for their timeouts
delays no call to another one.
"""

from __future__ import annotations

import asyncio
import time
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from iot.sftp.client import DeadlineExceeded
from iot.sftp.client._base.threads import WorkerThreads
from iot.sftp.module._methods.method import Lane
from iot.sftp.module._work.server_slots import ServerSlots
from iot.sftp.module._work.slots import Kind, Slots, Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

T = TypeVar("T")

THREADS_MAXIMUM = 16  # of a queue: the upper limit of transfers.concurrency
CONTROL_THREADS, QUICK_THREADS = 8, 8  # for each server
LOCAL_THREADS, TASKS_THREADS, STATUS_THREADS = 4, 8, 2
NO_SERVER = ""  # the name for the queues of lanes in which no call speaks to a server
GRACE = 0.3  # seconds after its deadline in which a worker may still return with a more precise error


class Lanes:
    """The queues of all lanes; those of lanes whose calls speak to a server are made for each server when needed.

    Belongs to the event loop, but for `waiting`.
    """

    def __init__(self, transfer_slots: ServerSlots, servers: Callable[[], Collection[str]]) -> None:
        """Have no queue yet.

        Parameters:
            transfer_slots: those of transfers, which are shared with tasks and rules.
            servers: returns the names of the servers that there are.
        """
        self._servers = servers
        self._slots: Mapping[Lane, ServerSlots] = {
            Lane.CONTROL: ServerSlots(CONTROL_THREADS, lambda: len(servers())),
            Lane.QUICK: ServerSlots(QUICK_THREADS, lambda: len(servers())),
            Lane.LOCAL: ServerSlots(LOCAL_THREADS),
            Lane.TASKS: ServerSlots(TASKS_THREADS),
            Lane.STATUS: ServerSlots(STATUS_THREADS),
            Lane.TRANSFER: transfer_slots,
        }
        self._queues: dict[tuple[Lane, str], CallQueue] = {}

    def queue(self, lane: Lane, server: str = NO_SERVER) -> CallQueue:
        """Return the queue of a lane, for the calls to one server.

        Parameters:
            lane: of the method.
            server: the name of a server that there is.
        """
        slots = self._slots[lane].of(server)
        if (lane, server) not in self._queues:
            self._close_unused()
            self._queues[lane, server] = CallQueue(f"{lane.value} {server}".rstrip(), slots)
        return self._queues[lane, server]

    def _close_unused(self) -> None:
        """Close the queues of servers that were removed, whose threads would be there for good."""
        known = {NO_SERVER, *self._servers()}
        for key, queue in list(self._queues.items()):
            if key[1] not in known and queue.is_idle:
                queue.close()
                del self._queues[key]

    def waiting(self) -> dict[tuple[str, str], tuple[int, float]]:
        """Return, for each lane and server, how many calls wait and the seconds that the first of them has waited.

        Lanes of calls that speak to no server have `NO_SERVER`.
        """
        return {
            (lane.value, server): slots.waiting(Kind.CALL)
            for lane, of_servers in self._slots.items()
            for server, slots in of_servers.by_server().items()
        }


class CallQueue:
    """Runs blocking work in a bounded number of threads; the rest waits, first in, first out."""

    def __init__(self, name: str, slots: Slots) -> None:
        """Start no thread yet.

        Parameters:
            name: of the threads.
            slots: as many calls run at a time.
        """
        self._slots = slots
        self._threads = WorkerThreads(THREADS_MAXIMUM, name=name)

    @property
    def is_idle(self) -> bool:
        """Whether no call runs or waits."""
        return not self._slots.running and not self._slots.waiting(Kind.CALL)[0]

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False)

    async def run(self, work: Callable[[], T], deadline: float) -> T:
        """Run the work in a thread; return its result, or raise an error, by `deadline` (in `time.monotonic()`).

        Work that has no slot by then is not started. Work that does not return in time is abandoned, and keeps its
        slot until it returns.

        Raises:
            Busy: too many calls are waiting, or the system has no thread left.
            DeadlineExceeded: the work was not started, or has not returned.
        """
        turn = await self._turn(deadline)
        # In the call's context, so that each line that is logged there, also by the client, begins with the call's id
        try:
            task = asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, work)
        except BaseException:
            turn.leave()
            raise
        task.add_done_callback(lambda task: _leave(turn, task))
        await asyncio.wait({task}, timeout=max(0.0, deadline - time.monotonic()) + GRACE)
        if not task.done():
            message = "the call timed out, and its work is being stopped"
            raise DeadlineExceeded(message)
        return task.result()

    async def _turn(self, deadline: float) -> Turn:
        loop = asyncio.get_running_loop()
        come = loop.create_future()

        def on_turn(_turn: Turn) -> None:
            loop.call_soon_threadsafe(come.set_result, None)

        turn = self._slots.ask(Kind.CALL, on_turn)
        if not turn.has_come:
            await asyncio.wait({come}, timeout=max(0.0, deadline - time.monotonic()))
        if not turn.has_come and turn.withdraw():
            message = "the call timed out while it waited for a free slot: nothing was done"
            raise DeadlineExceeded(message)
        return turn


def _leave(turn: Turn, task: asyncio.Future[Any]) -> None:
    task.exception()  # retrieved here, as nobody may wait for it any more
    turn.leave()
