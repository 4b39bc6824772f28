"""Send the ends of tasks to the module's output `tasks`: each at least once.

The journal knows whose end is still to be sent. A message may be sent twice, where it could not be seen whether the hub
had got it: both have the same message id.
"""

# mypy: disallow-untyped-calls=False
# The SDK gives its messages no types.

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

from azure.iot.device import Message

from iot.sftp.client import SFTPError
from iot.sftp.module._base.timeouts import pauses
from iot.sftp.module._base.wording import with_causes
from iot.sftp.module._work.task_document import document

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from iot.sftp.module._work.journal import Journal
    from iot.sftp.module._work.task_record import TaskRecord

OUTPUT = "tasks"
BATCH = 50  # ends that are read from the journal at a time

_log = logging.getLogger(__name__)


class Announcer:
    """Sends the ends of tasks as soon as the hub is connected; belongs to one event loop."""

    def __init__(
        self,
        journal: Journal,
        send: Callable[[Message, str], Awaitable[None]],
        *,
        backoff: Callable[[], Iterator[float]] = pauses,
    ) -> None:
        """Take what it needs.

        Parameters:
            journal: knows what is to be sent.
            send: sends a message to an output; raises an exception unless the hub has confirmed it.
            backoff: gives the seconds between two attempts.
        """
        self._journal = journal
        self._send = send
        self._backoff = backoff
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wanted = asyncio.Event()
        self.enabled = True  # if not, what ends meanwhile is never sent, not even later

    def wake(self) -> None:
        """Look for something to send: a task has ended, or the hub is back; thread-safe."""
        if self._loop is None:
            self._wanted.set()  # nobody waits yet
        else:
            self._loop.call_soon_threadsafe(self._wanted.set)

    async def run(self) -> None:
        """Send until this is cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            await self._wanted.wait()
            for pause in self._backoff():
                self._wanted.clear()  # before each attempt: what was wanted before one that fails causes no other
                try:
                    await self._send_all()
                    break
                except Exception as error:  # noqa: BLE001 - whatever it is, what is to be sent is still in the journal
                    _log.info("the ends of tasks cannot be sent, next attempt in %.0f s: %s", pause, with_causes(error))
                waiting = asyncio.ensure_future(self._wanted.wait())  # the hub may come back sooner
                await asyncio.wait({waiting}, timeout=pause)
                waiting.cancel()

    async def _send_all(self) -> None:
        while True:
            try:
                records = await asyncio.to_thread(self._journal.unannounced, BATCH)
                for record in records:
                    if self.enabled:
                        await self._send(as_message(record), OUTPUT)
                    await asyncio.to_thread(self._journal.announced, [record.task_id])
            except SFTPError:
                return  # logged by the journal, which wakes us when it can be written again
            if not records:
                return


def as_message(record: TaskRecord) -> Message:
    """Return the message for the end of a task, which holds its status document."""
    message = Message(json.dumps(document(record)), content_encoding="utf-8", content_type="application/json")
    message.message_id = f"{record.task_id}-{record.status.value}"
    return message
