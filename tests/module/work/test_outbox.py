"""Messages are sent when the hub is there, answers first; nobody is busy with them while the hub is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from iot.sftp.module._work.journal import Journal
from iot.sftp.module._work.message_store import MessageLimits
from iot.sftp.module._work.outbox import UNKEPT, Outbox
from iot.sftp.module._work.outgoing import Outgoing
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


def send_all(journal: Journal, outbox: Outbox, wanted: int) -> None:
    """Run an outbox until it has sent so many messages."""

    async def run() -> None:
        outbox.wake()
        running = asyncio.create_task(outbox.run())
        while sum(outbox.sent.values()) < wanted or any(journal.messages.counts.values()):  # noqa: ASYNC110 - of a thread
            await asyncio.sleep(0.01)
        running.cancel()

    asyncio.run(asyncio.wait_for(run(), 60))


def test_answers_go_before_what_has_waited_for_weeks(tmp_path: Path) -> None:
    journal, sent = Journal(tmp_path), list[tuple[str, str]]()
    store = journal.messages

    async def send(message: Message, output: str) -> None:
        sent.append((output, message.message_id))
        if output == "files" and len(sent) == 2:
            await asyncio.to_thread(store.refuse, Outgoing("answers", "late", "{}"))

    files = [Outgoing("files", f"files-{number}", "{}") for number in range(3)]
    store.add_gathered("ledgers", 3, files)
    store.refuse(Outgoing("answers", "first", "{}"))
    outbox = Outbox(store, send)
    outbox.wanted_outputs = {"answers", "files"}
    send_all(journal, outbox, 5)
    assert sent == [
        ("answers", "first"), ("files", "files-0"), ("answers", "late"), ("files", "files-1"), ("files", "files-2"),
    ]  # fmt: skip


def test_what_is_for_an_output_that_is_off_is_not_sent_later(journal: Journal) -> None:
    sent: list[str] = []

    async def send(_message: Message, output: str) -> None:
        sent.append(output)

    outbox = Outbox(journal.messages, send)
    outbox.wanted_outputs = {"answers"}
    send_all(journal, outbox, 0)
    journal.messages.refuse(Outgoing("answers", "later", "{}"))
    send_all(journal, Outbox(journal.messages, send), 1)
    assert sent == ["answers"]


def test_a_message_that_was_not_confirmed_comes_again_with_the_same_id(journal: Journal) -> None:
    sent: list[str] = []

    async def send(message: Message, _output: str) -> None:
        sent.append(message.message_id)
        if len(sent) == 1:
            raise OSError("the connection broke before the acknowledgement")

    send_all(journal, Outbox(journal.messages, send, backoff=lambda: iter([0.01] * 100)), 1)
    assert len(sent) == 2
    assert sent[0] == sent[1]


def test_ends_of_tasks_go_together_and_are_written_as_sent_once(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, confirmed = list[str](), list[int]()
    confirm = journal.messages.confirm

    def note(*messages: Outgoing) -> None:
        confirmed.append(len(messages))
        confirm(*messages)

    async def send(message: Message, _output: str) -> None:
        sent.append(message.message_id)

    monkeypatch.setattr(journal.messages, "confirm", note)
    for number in range(3):
        record = replace(new_task("upload_file", {"source": "a", "dest": "b"}, 60), task_id=f"task-{number}")
        journal.save(replace(record, status=TaskStatus.COMPLETED, finished=time.time()))

    async def run() -> None:
        outbox = Outbox(journal.messages, send)
        running = asyncio.create_task(outbox.run())
        await asyncio.sleep(0)
        for _ in range(4):
            outbox.wake_soon()
        while not confirmed:  # noqa: ASYNC110 - of a thread
            await asyncio.sleep(0.01)
        running.cancel()

    asyncio.run(asyncio.wait_for(run(), 60))
    assert (len(sent), confirmed) == (4, [4])


def test_the_number_of_a_message_that_was_sent_is_not_given_to_another(journal: Journal) -> None:
    (first,) = journal.messages.unsent("tasks", 9)
    journal.messages.confirm(first)
    journal.messages.refuse(Outgoing("answers", "second", "{}"))
    journal.messages.confirm(first)
    assert [message.message_id for message in journal.messages.unsent("answers", 9)] == ["second"]


def test_the_oldest_ends_of_tasks_are_dropped_when_too_many_wait(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path)
    journal.messages.limits = MessageLimits(tasks=3)
    for number in range(5):
        record = replace(new_task("upload_file", {"source": "a", "dest": "b"}, 60), task_id=f"task-{number}")
        journal.save(replace(record, status=TaskStatus.COMPLETED, finished=time.time()))
    kept = [message.message_id for message in journal.messages.unsent("tasks", 9)]
    assert kept == [f"task-{number}-Completed" for number in range(2, 5)]
    assert journal.messages.dropped == {"answers": 0, "tasks": 2, "files": 0}
    assert "the oldest for output tasks were dropped" in caplog.text


def test_the_oldest_messages_that_the_journal_does_not_take_are_dropped_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def never(_message: Message, _output: str) -> None:
        raise AssertionError("nothing is sent here")

    journal = Journal(tmp_path)
    outbox = Outbox(journal.messages, never)
    for number in range(UNKEPT + 3):
        outbox.send_unkept(Outgoing("answers", str(number), "{}"))
    assert journal.messages.dropped["answers"] == 3
    assert "the oldest for output answers were dropped" in caplog.text
