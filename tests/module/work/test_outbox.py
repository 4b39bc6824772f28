"""Messages that tasks have ended: told when the hub is there, and nobody is busy with it while the hub is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from iot.sftp.module._work.journal import Journal
from iot.sftp.module._work.outbox import Outbox
from iot.sftp.module._work.task_record import TaskStatus, new_task

if TYPE_CHECKING:
    from azure.iot.device import Message


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal with one task that has ended, which nobody was told."""
    journal = Journal(tmp_path)
    record = new_task("upload_file", {"source": "a", "dest": "b"}, 60)
    journal.add(record)
    journal.save(replace(record, status=TaskStatus.COMPLETED, finished=time.time()))
    yield journal
    journal.close()


def test_while_the_hub_is_away_a_task_that_ends_causes_one_attempt(journal: Journal) -> None:
    async def wake_once() -> None:
        tries: asyncio.Queue[None] = asyncio.Queue()

        async def fail(_message: Message, _output: str) -> None:
            tries.put_nowait(None)
            raise OSError("there is no connection to the edge hub")

        outbox = Outbox(journal.messages, fail, backoff=lambda: iter([3600.0] * 100))
        outbox.wake()
        running = asyncio.create_task(outbox.run())
        await asyncio.wait_for(tries.get(), 10)
        outbox.wake()
        await asyncio.wait_for(tries.get(), 10)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(tries.get(), 1)
        running.cancel()

    asyncio.run(wake_once())
