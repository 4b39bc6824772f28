"""The ends of tasks, told on the module's output `tasks`: each one at least once, whatever happens in between.

The journal says whose end is still to be told. A message may come twice, when it could not be seen whether the hub had
it: both then have the same message id.
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
from iot.sftp.module._base.waiting import pauses
from iot.sftp.module._base.wording import with_causes
from iot.sftp.module._work.task_document import document

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from iot.sftp.module._work.journal import Journal
    from iot.sftp.module._work.task_record import TaskRecord

OUTPUT = "tasks"
BATCH = 50  # ends that are read from the journal at a time

_log = logging.getLogger(__name__)


class Announcer:
    """Sends what is to be told as soon as the hub is there; lives in one event loop."""

    def __init__(self, journal: Journal, send: Callable[[Message, str], Awaitable[None]]) -> None:
        """Take the means.

        Parameters:
            journal: knows what is to be told.
            send: a message to an output; raises an exception if it cannot tell that the hub has it.
        """
        self._journal = journal
        self._send = send
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wanted = asyncio.Event()
        self.enabled = True  # if not, what ends is never told, not even later

    def wake(self) -> None:
        """Something may have to be told, or the hub is back; from any thread."""
        if self._loop is None:
            self._wanted.set()  # nobody waits yet
        else:
            self._loop.call_soon_threadsafe(self._wanted.set)

    async def run(self) -> None:
        """Send for ever."""
        self._loop = asyncio.get_running_loop()
        while True:
            await self._wanted.wait()
            for pause in pauses():
                self._wanted.clear()  # before each try: one that fails is not tried again for what was wanted before it
                try:
                    await self._tell_all()
                    break
                except Exception as error:  # noqa: BLE001 - whatever it is, what is to be told is still in the journal
                    _log.info("the ends of tasks cannot be told, next try in %.0f s: %s", pause, with_causes(error))
                waiting = asyncio.ensure_future(self._wanted.wait())  # the hub may come back sooner
                await asyncio.wait({waiting}, timeout=pause)
                waiting.cancel()

    async def _tell_all(self) -> None:
        while True:
            try:
                records = await asyncio.to_thread(self._journal.unannounced, BATCH)
                for record in records:
                    if self.enabled:
                        await self._send(as_message(record), OUTPUT)
                    await asyncio.to_thread(self._journal.announced, [record.task_id])
            except SFTPError:
                return  # the journal has told of it; it wakes us when it is written again
            if not records:
                return


def as_message(record: TaskRecord) -> Message:
    """Return the message that tells of a task's end: its status document."""
    message = Message(json.dumps(document(record)), content_encoding="utf-8", content_type="application/json")
    message.message_id = f"{record.task_id}-{record.status.value}"
    return message
