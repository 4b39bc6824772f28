"""Send what waits in the journal to the module's outputs: each message at least once, in its order.

A message may be sent twice, where it could not be seen whether the hub had got it: both have the same message id.
"""

# mypy: disallow-untyped-calls=False
# The SDK gives its messages no types.

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING

from azure.iot.device import Message

from iot.sftp.client import SFTPError
from iot.sftp.module._base.state_directory import INTEGER_MAXIMUM
from iot.sftp.module._base.timeouts import pauses
from iot.sftp.module._base.wording import with_causes
from iot.sftp.module._work.outgoing import ANSWERS, FILES, OUTPUTS, TASKS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from iot.sftp.module._work.message_store import MessageStore
    from iot.sftp.module._work.outgoing import Outgoing

UNKEPT = 100  # messages that are in memory only
GATHERING = 0.5  # seconds
BATCH = 50  # messages that are read from the journal at a time

_log = logging.getLogger(__name__)


class Outbox:
    """Sends messages as soon as the hub is connected; belongs to one event loop.

    Answers go first, since somebody waits for them: after weeks without the hub there may be thousands of others.
    """

    def __init__(
        self,
        store: MessageStore,
        send: Callable[[Message, str], Awaitable[None]],
        *,
        gather: Callable[[], object] = lambda: None,
        on_sent: Callable[[str], None] = lambda _output: None,
        backoff: Callable[[], Iterator[float]] = pauses,
    ) -> None:
        """Take what it needs.

        Parameters:
            store: what is to be sent.
            send: sends a message to an output; raises an exception unless the hub has confirmed it.
            gather: puts further messages into the store, if there are any; blocks, in a thread.
            on_sent: called with the output after each message.
            backoff: gives the seconds between two attempts.
        """
        self._store = store
        self._send = send
        self._gather = gather
        self._on_sent = on_sent
        self._backoff = backoff
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wanted, self._unkept_wanted = asyncio.Event(), asyncio.Event()
        self._unkept: deque[Outgoing] = deque(maxlen=UNKEPT)
        self._is_gathering = False
        self.wanted_outputs = {ANSWERS, TASKS}  # what is for another output meanwhile is never sent, not even later
        self.attempted: int | None = None  # the message about files that is being sent: it may have arrived
        self.sent: Counter[str] = Counter(dict.fromkeys(OUTPUTS, 0))  # since the process began, by output

    def wake(self) -> None:
        """Look for something to send, as there may be more, or the hub is back; thread-safe."""
        for wanted in (self._wanted, self._unkept_wanted):
            self._in_loop(wanted.set)

    def wake_soon(self) -> None:
        """Look for something to send in a moment: what comes until then goes with it; thread-safe."""
        self._in_loop(self._begin_gathering)

    def _in_loop(self, do: Callable[[], object]) -> None:
        if self._loop is None:
            do()  # nobody waits yet
        else:
            with suppress(RuntimeError):  # the module has just ended
                self._loop.call_soon_threadsafe(do)

    def _begin_gathering(self) -> None:
        if self._loop is None:
            self._wanted.set()
        elif not self._is_gathering:
            self._is_gathering = True
            self._loop.call_later(GATHERING, self._end_gathering)

    def _end_gathering(self) -> None:
        self._is_gathering = False
        self._wanted.set()

    def send_unkept(self, message: Outgoing) -> None:
        """Send a message that the journal does not take; the oldest one is dropped if there are too many."""
        if len(self._unkept) == UNKEPT:
            self._store.note_dropped(self._unkept[0].output, 1)
        self._unkept.append(message)
        self.wake()

    async def run(self) -> None:
        """Send until this is cancelled."""
        self._loop = asyncio.get_running_loop()
        # What the journal did not take is not to wait for it: it may hang, with the thread that reads it
        await asyncio.gather(
            self._repeat(self._wanted, self._send_all), self._repeat(self._unkept_wanted, self._send_all_unkept)
        )

    async def _repeat(self, wanted: asyncio.Event, send: Callable[[], Awaitable[None]]) -> None:
        """Send whenever that is wanted, and until it succeeds."""
        while True:
            await wanted.wait()
            for pause in self._backoff():
                wanted.clear()  # before each attempt: what was wanted before one that fails causes no other
                try:
                    await send()
                    break
                except Exception as error:  # noqa: BLE001 - whatever it is, what is to be sent is still there
                    _log.info("messages cannot be sent, next attempt in %.0f s: %s", pause, with_causes(error))
                waiting = asyncio.ensure_future(wanted.wait())  # the hub may come back sooner
                await asyncio.wait({waiting}, timeout=pause)
                waiting.cancel()

    async def _send_all_unkept(self) -> None:
        while self._unkept:
            message = self._unkept[0]
            await self._send(as_message(message), message.output)
            with suppress(ValueError):
                self._unkept.remove(message)
            self.sent[message.output] += 1

    async def _send_all(self) -> None:
        try:
            await asyncio.to_thread(self._gather)
            synced = await asyncio.to_thread(self._store.sync)
            while True:
                messages = await asyncio.to_thread(self._next, synced)
                if not messages:
                    return
                await self._send_these(messages)
        except SFTPError:
            return  # logged by the journal, which wakes us when it can be written again

    def _next(self, synced: int) -> list[Outgoing]:
        """Return the next messages, all for one output: an answer that comes meanwhile does not wait for all others.

        The end of a task that comes meanwhile does: it may not be on the disk yet.
        """
        for output in OUTPUTS:
            up_to = synced if output == TASKS else INTEGER_MAXIMUM
            messages = self._store.unsent(output, 1 if output == FILES else BATCH, up_to)
            if messages:
                return messages
        return []

    async def _send_these(self, messages: list[Outgoing]) -> None:
        """Send messages for one output; that they were sent is written once."""
        done = []
        try:
            for message in messages:
                if message.output in self.wanted_outputs:
                    self.attempted = message.sequence if message.output == FILES else None
                    await self._send(as_message(message), message.output)
                    self.sent[message.output] += 1
                done.append(message)
        finally:
            if done:
                await asyncio.to_thread(self._store.confirm, *done)
                self._on_sent(done[-1].output)


def as_message(outgoing: Outgoing) -> Message:
    """Return the SDK's message."""
    message = Message(outgoing.body, content_encoding="utf-8", content_type="application/json")
    message.message_id = outgoing.message_id
    message.correlation_id = outgoing.correlation_id
    return message
