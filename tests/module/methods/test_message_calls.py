"""Calls that arrive as messages: what is taken, in which order it is done, and what becomes of a flood of them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from iot.sftp.client import NoSpace
from iot.sftp.module._hub.input_message import InputMessage
from iot.sftp.module._hub.response import Response
from iot.sftp.module._methods.message_calls import MessageCalls
from iot.sftp.module._work.journal import Journal
from iot.sftp.module._work.message_store import Bound, MessageLimits, MessageStore
from iot.sftp.module._work.outbox import Outbox

if TYPE_CHECKING:
    from azure.iot.device import Message

SOON = 60.0  # seconds, that only bound a hang


class FakeDispatcher:
    """Records what is to be done, and does it when it is let."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.running = self.most = 0
        self.called = asyncio.Event()
        self.go_on: asyncio.Event | None = None
        self.held = ""  # the server whose calls alone have to wait for `go_on`; empty: all

    async def answer(self, name: str, payload: Any, received: float | None = None) -> Response:
        del received
        self.calls.append((name, payload))
        self.called.set()
        self.running += 1
        self.most = max(self.most, self.running)
        if self.go_on is not None and (not self.held or payload.get("server") == self.held):
            await self.go_on.wait()
        self.running -= 1
        return Response(200, len(self.calls))


class Device:
    """The calls of one module, the journal below them, and the hub that takes their answers."""

    def __init__(self, directory: Path, *, width: int = 2, limits: MessageLimits | None = None) -> None:
        self.journal = Journal(directory)
        self.store = self.journal.messages
        if limits is not None:
            self.store.limits = limits
        self.dispatcher = FakeDispatcher()
        self.sent: list[Message] = []
        self.arrived = asyncio.Event()
        self.confirmed = asyncio.Event()  # an answer was recorded as sent
        self.is_connected = True
        self.outbox = Outbox(
            self.store,
            self._send,
            on_sent=lambda _output: self.confirmed.set(),
            backoff=lambda: iter([0.01] * 100_000),
        )
        self.calls = MessageCalls(
            self.store,
            self.dispatcher,  # type: ignore[arg-type] # its one method
            self.outbox,
            width=lambda: width,
            servers=lambda: ("sftp", "dead"),
            write_limit=SOON,  # a starved disk takes longer than the module's own limit
        )
        self.tasks = [asyncio.ensure_future(part) for part in (self.outbox.run(), self.calls.run())]

    async def _send(self, message: Message, _output: str) -> None:
        if not self.is_connected:
            raise OSError("there is no connection to the edge hub")
        self.sent.append(message)
        self.arrived.set()

    async def receive(self, body: object, message_id: str | None = "id", **fields: Any) -> None:
        """Let a message arrive, as the SDK's thread does it."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        message = InputMessage(fields.pop("input", "calls"), data, message_id, **fields)
        await asyncio.to_thread(self.calls.receive, message)

    async def answers(self, count: int) -> list[tuple[str | None, Any]]:
        """Return what was answered, once it is as much: ids and statuses."""

        async def enough() -> None:
            while len(self.sent) < count:
                self.arrived.clear()
                await self.arrived.wait()

        await asyncio.wait_for(enough(), SOON)
        return [(message.correlation_id, json.loads(message.data)["status"]) for message in self.sent]

    async def stop(self) -> None:
        self.calls.stop()
        for task in self.tasks:
            task.cancel()
        for task in self.tasks:
            with suppress(asyncio.CancelledError):
                await task
        self.journal.close()


def with_device(directory: Path, test: Callable[[Device], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def run() -> None:
        device = Device(directory, **options)
        try:
            await test(device)
        finally:
            await device.stop()

    asyncio.run(run())


EXISTS = {"method": "exists", "payload": {"path": "a"}}
DELETE = {"method": "delete_file", "payload": {"path": "a"}}


def test_nothing_is_done_before_the_hub_is_there(tmp_path: Path) -> None:
    async def test(device: Device) -> None:
        await device.receive(EXISTS)
        assert device.dispatcher.calls == []
        device.calls.open()
        assert await device.answers(1) == [("id", 200)]

    with_device(tmp_path, test)


def test_calls_begin_in_their_order_and_no_more_run_than_may(tmp_path: Path) -> None:
    async def test(device: Device) -> None:
        for number in range(20):
            await device.receive({"method": "exists", "payload": {"path": str(number)}}, str(number))
        device.calls.open()
        await device.answers(20)
        assert [payload["path"] for _, payload in device.dispatcher.calls] == [str(number) for number in range(20)]
        assert device.dispatcher.most <= 3

    with_device(tmp_path, test, width=3)


def test_the_id_of_a_message_is_the_request_id_where_there_is_none(tmp_path: Path) -> None:
    async def test(device: Device) -> None:
        device.calls.open()
        await device.receive(DELETE, "mine")
        await device.receive({"method": "delete_file", "payload": {"path": "a", "request_id": "own"}}, "other")
        await device.receive({"method": "disconnect", "payload": {"request_id": None}}, "none")
        await device.receive(EXISTS, "not for a question")
        await device.receive(DELETE, None)
        await device.answers(5)
        ids = [payload.get("request_id") for _, payload in device.dispatcher.calls]
        assert sorted(map(str, ids[:4])) == ["None", "mine", "none", "own"]
        assert len(ids[4]) == 32  # so that a crash in between does not do it twice

    with_device(tmp_path, test, width=1)


def test_a_repeat_gets_the_first_answer_and_is_not_done_again(tmp_path: Path) -> None:
    async def test(device: Device) -> None:
        device.dispatcher.go_on = asyncio.Event()
        device.calls.open()
        await device.receive(DELETE)
        await device.receive(DELETE)  # while the first one runs: one answer is for both
        device.dispatcher.go_on.set()
        assert await device.answers(1) == [("id", 200)]
        await asyncio.wait_for(device.confirmed.wait(), SOON)  # until then, the answer that was just sent is for both
        await device.receive(DELETE)
        await device.answers(2)
        assert len(device.dispatcher.calls) == 1
        first, second = device.sent
        assert (first.message_id, first.data) == (second.message_id, second.data)
        assert device.calls.received == {"accepted": 1, "repeated": 2, "refused": 0}

    with_device(tmp_path, test)


def test_the_same_id_of_another_sender_or_for_another_call_is_no_repeat(tmp_path: Path) -> None:
    async def test(device: Device) -> None:
        device.calls.open()
        await device.receive(EXISTS, "1", sender="device/camera")
        await device.receive(EXISTS, "1", sender="device/scanner")
        await device.receive({"method": "exists", "payload": {"path": "b"}}, "1", sender="device/camera")
        await device.answers(3)
        assert len(device.dispatcher.calls) == 3

    with_device(tmp_path, test)


def test_what_an_earlier_process_has_taken_is_done_by_the_next(tmp_path: Path) -> None:
    async def killed(device: Device) -> None:
        device.dispatcher.go_on = asyncio.Event()  # never set: it ends in the middle of the call
        device.calls.open()
        await device.receive(DELETE)
        await device.receive(EXISTS, "later")
        while len(device.dispatcher.calls) < 2:
            device.dispatcher.called.clear()
            await asyncio.wait_for(device.dispatcher.called.wait(), SOON)

    async def restarted(device: Device) -> None:
        device.calls.open()
        assert sorted(await device.answers(2)) == [("id", 200), ("later", 200)]
        assert device.dispatcher.calls[0] == ("delete_file", {"path": "a", "request_id": "id"})

    with_device(tmp_path, killed)
    with_device(tmp_path, restarted)


def test_a_flood_is_refused_beyond_the_bound_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    limits = MessageLimits(calls=Bound(5, 10_000))

    async def test(device: Device) -> None:
        for number in range(200):
            await device.receive(EXISTS, str(number))
        answers = dict(await device.answers(195))
        assert set(answers.values()) == {429}
        device.calls.open()
        answers = dict(await device.answers(200))
        assert {answers[str(number)] for number in range(5)} == {200}
        assert device.calls.received == {"accepted": 5, "repeated": 0, "refused": 195}
        while any(device.store.counts.values()):  # noqa: ASYNC110 - the last answer is confirmed in a thread
            await asyncio.sleep(0.01)

    with_device(tmp_path, test, limits=limits)
    assert "a call by message is refused: busy: 5 calls, or 10000 bytes of them, are waiting" in caplog.text


def test_a_flood_without_the_hub_takes_no_more_room_than_the_bounds(tmp_path: Path) -> None:
    limits = MessageLimits(calls=Bound(5, 10_000), waiting_answers=Bound(10, 10_000))

    async def test(device: Device) -> None:
        device.is_connected = False
        for number in range(100):
            await device.receive(EXISTS, str(number))
        assert device.store.counts == {"calls": 5, "answers": 10, "tasks": 0, "files": 0}
        assert device.store.dropped["answers"] == 85
        device.calls.open()
        await asyncio.sleep(0.1)
        assert device.dispatcher.calls == []  # there is no room for its answer
        device.is_connected = True
        assert [status for _, status in await device.answers(10)] == [429] * 10
        device.calls.wake()  # as the module does after each answer that was sent
        await device.answers(15)

    with_device(tmp_path, test, limits=limits)


def test_a_body_that_is_too_large_is_refused(tmp_path: Path) -> None:
    async def test(device: Device) -> None:
        await device.receive(b"x" * (256 * 1024 + 1))
        assert await device.answers(1) == [("id", 413)]

    with_device(tmp_path, test)


def test_a_message_to_another_input_is_told_and_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(device: Device) -> None:
        await device.receive(EXISTS, input="call\n")
        assert device.store.counts["calls"] == 0

    with_device(tmp_path, test)
    assert "a message to input 'call\\n' is ignored: there is only 'calls'" in caplog.text


def test_while_the_journal_cannot_be_written_calls_are_refused_by_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_self: MessageStore, _thing: object, **_options: object) -> None:
        raise NoSpace("the state directory is full")

    async def test(device: Device) -> None:
        monkeypatch.setattr(MessageStore, "take", full)
        monkeypatch.setattr(MessageStore, "refuse", full)
        await device.receive(DELETE)
        assert await device.answers(1) == [("id", 507)]
        monkeypatch.undo()
        device.calls.open()
        await device.receive(DELETE)  # nothing was done: so it is no repeat
        assert await device.answers(2) == [("id", 507), ("id", 200)]

    with_device(tmp_path, test)


def test_a_journal_that_hangs_holds_up_one_message_and_then_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, take = threading.Event(), MessageStore.take

    def slow(self: MessageStore, call: Any, **options: Any) -> Any:
        goes_on.wait(SOON)
        return take(self, call, **options)

    async def test(device: Device) -> None:
        monkeypatch.setattr(MessageStore, "take", slow)
        device.calls._write_limit = 0.05
        for number in range(3):
            await device.receive(DELETE, str(number))
        assert await device.answers(3) == [("0", 504), ("1", 504), ("2", 504)]
        goes_on.set()
        device.calls._writer.shutdown(wait=True)
        assert device.store.waiting_calls() == {}  # what was refused is not done after all

    with_device(tmp_path, test)


def test_a_call_is_not_done_before_it_is_known_whether_it_was_taken_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, goes_on, take = threading.Event(), threading.Event(), MessageStore.take

    def take_slowly(self: MessageStore, call: Any, **options: Any) -> Any:
        taken = take(self, call, **options)
        written.set()
        goes_on.wait(SOON)
        return taken

    async def test(device: Device) -> None:
        device.calls._write_limit = 0.3
        device.calls.open()
        monkeypatch.setattr(MessageStore, "take", take_slowly)
        arrival = asyncio.ensure_future(device.receive(DELETE, "late"))
        assert await asyncio.to_thread(written.wait, SOON)
        device.calls.wake()  # as any other call does that ends meanwhile
        await arrival
        assert await device.answers(1) == [("late", 504)]
        assert device.calls._hanging is not None
        goes_on.set()
        await asyncio.to_thread(device.calls._hanging.exception, SOON)  # while it hangs, further ones are refused
        device.calls._write_limit = SOON
        await device.receive(DELETE, "next")
        assert await device.answers(2) == [("late", 504), ("next", 200)]
        assert len(device.dispatcher.calls) == 1

    with_device(tmp_path, test)


def test_refusals_are_told_while_the_file_of_the_journal_hangs(tmp_path: Path) -> None:
    refusals = 30  # one after the other: no more are in memory than are refused at a time

    async def test(device: Device) -> None:
        device.calls._write_limit = 0.05
        held, goes_on = threading.Event(), threading.Event()

        def hang() -> None:
            with device.journal._file.transaction():
                held.set()
                goes_on.wait(SOON)

        hanging = threading.Thread(target=hang)
        hanging.start()
        try:
            assert await asyncio.to_thread(held.wait, SOON)
            for number in range(refusals):
                await device.receive(DELETE, str(number))
                assert (await device.answers(number + 1))[-1] == (str(number), 504)
            device.calls._hanging = None  # as if the journal began to hang now: what is refused anyway waits as little
            await device.receive(b"x" * (256 * 1024 + 1), "large")
            assert (await device.answers(refusals + 1))[-1] == ("large", 413)
            assert not goes_on.is_set()
        finally:
            goes_on.set()
            await asyncio.to_thread(hanging.join)

    with_device(tmp_path, test)


def test_an_answer_that_cannot_be_written_is_written_later_and_the_call_not_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[object] = []
    answer = MessageStore.answer

    def fails_once(self: MessageStore, call: Any, message: Any) -> None:
        attempts.append(call)
        if len(attempts) == 1:
            raise NoSpace("the state directory is full")
        answer(self, call, message)

    monkeypatch.setattr(MessageStore, "answer", fails_once)
    monkeypatch.setattr("iot.sftp.module._methods.message_calls.RETRY_PAUSE", 0.01)

    async def test(device: Device) -> None:
        device.calls.open()
        await device.receive(DELETE)
        assert await device.answers(1) == [("id", 200)]
        assert len(device.dispatcher.calls) == 1

    with_device(tmp_path, test)
    assert len(attempts) == 2


def test_calls_to_a_dead_server_delay_none_to_another_one(tmp_path: Path) -> None:
    async def test(device: Device) -> None:
        device.dispatcher.go_on, device.dispatcher.held = asyncio.Event(), "dead"
        call = {"method": "exists", "payload": {"path": "a"}}
        to_dead = {"method": "exists", "payload": {"path": "a", "server": "dead"}}
        for number in range(5):
            await device.receive(to_dead, f"dead-{number}")
        for number in range(5):
            await device.receive(call, f"sftp-{number}")
        device.calls.open()
        assert {name for name, _ in await device.answers(5)} == {f"sftp-{number}" for number in range(5)}
        assert device.dispatcher.running == 2  # as many as run at a time, for each server
        device.dispatcher.go_on.set()
        assert len(await device.answers(10)) == 10

    with_device(tmp_path, test)


TO_DEAD = {"method": "exists", "payload": {"path": "a", "server": "dead"}}
TO_NONE = {"method": "exists", "payload": {"path": "a", "server": "gone-#"}}  # another one each time


@pytest.mark.parametrize("flood", [TO_DEAD, EXISTS, TO_NONE])
def test_a_flood_for_one_server_takes_no_room_of_another_one(tmp_path: Path, flood: dict[str, Any]) -> None:
    size = len(json.dumps(flood))
    each = 4
    limits = [
        MessageLimits(calls=Bound(each, 10_000)),
        MessageLimits(calls=Bound(100, 10_000), all_calls=Bound(2 * each + 1, 10_000)),
        MessageLimits(calls=Bound(100, 10_000), all_calls=Bound(100, 2 * each * size)),
    ]

    async def test(device: Device) -> None:
        for number in range(20):
            call = json.dumps(flood).replace("#", str(number % 10))
            await device.receive(call.encode(), f"flood-{number}")
        assert device.calls.received["accepted"] == each
        await device.receive(EXISTS if flood is TO_DEAD else TO_DEAD, "other")
        assert device.calls.received["accepted"] == each + 1
        device.calls.open()
        assert dict(await device.answers(21))["other"] == 200

    for number, limit in enumerate(limits):
        with_device(tmp_path / str(number), test, limits=limit)


def test_calls_of_servers_that_were_removed_take_no_more_room_than_all_may(tmp_path: Path) -> None:
    limits = MessageLimits(all_calls=Bound(6, 10_000))

    async def test(device: Device) -> None:
        servers: list[str] = ["sftp"]
        device.calls._servers = lambda: servers
        for number in range(10):
            await device.receive(EXISTS, str(number))
        servers.append("dead")
        await device.receive(TO_DEAD, "dead")
        assert device.calls.received == {"accepted": 6, "repeated": 0, "refused": 5}

    with_device(tmp_path, test, limits=limits)


@pytest.mark.parametrize("server", [5, None, "", "\ud800", "x" * 10_000, ["sftp"], {"sftp": 1}])
def test_a_call_whose_server_has_no_name_is_taken_and_answered(tmp_path: Path, server: Any) -> None:
    async def test(device: Device) -> None:
        device.calls.open()
        await device.receive({"method": "exists", "payload": {"path": "a", "server": server}})
        assert await device.answers(1) == [("id", 200)]  # by the dispatcher, which would refuse it

    with_device(tmp_path, test)
