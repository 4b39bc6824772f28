"""A call that comes again with its request id is answered as the first one was, at every stage of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.module.conftest import dispatcher_in

from iot.sftp.client import (
    AuthenticationFailed,
    Busy,
    ConnectionLost,
    DeadlineExceeded,
    HostKeyMismatch,
    NoSpace,
    NotConfigured,
    NotFound,
    PermissionDenied,
    SFTPError,
    TransferIncomplete,
    Unreachable,
)
from iot.sftp.module._documents.requests import ChangeRequest, TransferRequest
from iot.sftp.module._documents.template_parts import CLOCK_STARTS
from iot.sftp.module._hub.response import Response
from iot.sftp.module._methods import table
from iot.sftp.module._methods.dispatcher import Dispatcher
from iot.sftp.module._methods.method import Method, MethodContext
from iot.sftp.module._methods.parsing import parse_call
from iot.sftp.module._methods.statuses import STATUSES
from iot.sftp.module._methods.table import METHODS
from iot.sftp.module._work.journal import NAME, Journal
from iot.sftp.module._work.task_record import RequestRecord

UPLOAD = {"source": "a", "dest": "b", "request_id": "1"}
MOVE = {"source": "a", "dest": "b", "request_id": "1"}
CHANGES = {
    "disconnect", "download_file", "upload_file", "delete_file", "move_file", "test_connection", "download_files",
    "upload_files", "cancel_task", "create_directory", "delete_directory", "move_directory", "write_file",
    "delete_local_file", "rotate_key",
}  # fmt: skip
SOON = 60.0


def payload_of(name: str, **more: Any) -> dict[str, Any]:
    return ({"path": "a"} if name == "delete_file" else {"source": "a", "dest": "b"}) | more


class Work:
    """What the methods do here, and how often they did it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self.times = 0
        self.does: Callable[[], Any] = lambda: True
        for name in names:
            method = METHODS[name]
            changed = Method(method.request, self.run, method.lane, method.failed, method.is_idempotent)
            monkeypatch.setitem(table.METHODS, name, changed)

    def run(self, _context: MethodContext, _request: Any, _timeout: float) -> Any:
        self.times += 1
        return self.does()

    def raises(self, error: SFTPError) -> None:
        def does() -> None:
            raise type(error)(error.message)

        self.does = does


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch, "upload_file", "move_file", "delete_file", "download_file")


def call(directory: Path, name: str, payload: Any) -> Response:
    """Call a method of a module that was just started on a state directory, as after a restart."""
    return asyncio.run(dispatcher_in(directory).answer(name, payload))


def test_every_method_that_changes_something_takes_an_id() -> None:
    assert {name for name in METHODS if issubclass(METHODS[name].request, ChangeRequest)} == CHANGES


@pytest.mark.parametrize("value", ["", "x" * 129, 5, "a\nb", "\udcff", True, []])
def test_an_id_is_a_short_text(tmp_path: Path, value: Any) -> None:
    response = call(tmp_path, "delete_file", {"path": "a", "request_id": value})
    assert response.code == "invalid_request"
    assert "'request_id' must be a string of 1 to 128 printable characters" in response.payload["message"]


@pytest.mark.parametrize("name", ["upload_file", "move_file"])
def test_a_repeat_is_not_executed_again_not_even_after_a_restart(tmp_path: Path, work: Work, name: str) -> None:
    async def scenario() -> None:
        dispatcher = dispatcher_in(tmp_path)
        for _ in range(3):
            assert (await dispatcher.answer(name, payload_of(name, request_id="1"))).payload is True

    asyncio.run(scenario())
    response = call(tmp_path, name, payload_of(name, request_id="1", timeout=100))  # the time limit may differ
    assert (response.status, response.payload) == (200, True)
    assert work.times == 1


@pytest.mark.parametrize("error", [NotFound("there is none"), PermissionDenied("no"), NoSpace("full")])
@pytest.mark.parametrize("name", ["upload_file", "delete_file"])
def test_a_refusal_is_an_outcome_too(tmp_path: Path, work: Work, name: str, error: SFTPError) -> None:
    work.raises(error)
    first = call(tmp_path, name, payload_of(name, request_id="1"))
    work.does = lambda: True
    assert call(tmp_path, name, payload_of(name, request_id="1")) == first
    assert (first.status, first.code) == (STATUSES[error.code], error.code)
    assert work.times == 1


@pytest.mark.parametrize("reason", [Unreachable, NotConfigured, AuthenticationFailed, HostKeyMismatch, Busy])
@pytest.mark.parametrize("name", ["upload_file", "move_file"])
def test_a_call_without_effect_is_executed_again_by_a_repeat(
    tmp_path: Path, work: Work, name: str, reason: type[SFTPError]
) -> None:
    work.raises(reason("not now"))
    assert call(tmp_path, name, payload_of(name, request_id="1")).code == reason.code
    work.does = lambda: True
    assert call(tmp_path, name, payload_of(name, request_id="1")).payload is True
    assert call(tmp_path, name, payload_of(name, request_id="1")).payload is True
    assert work.times == 2


@pytest.mark.parametrize("reason", [ConnectionLost, DeadlineExceeded, TransferIncomplete])
def test_a_repeat_resumes_an_interrupted_transfer_and_not_a_move(
    tmp_path: Path, work: Work, reason: type[SFTPError]
) -> None:
    for name, request_id, times in (("upload_file", "u", 2), ("move_file", "m", 1)):
        work.times = 0
        work.raises(reason("in the middle"))
        first = call(tmp_path, name, payload_of(name, request_id=request_id))
        work.does = lambda: True
        again = call(tmp_path, name, payload_of(name, request_id=request_id))
        assert again.payload is True if name == "upload_file" else again == first
        assert work.times == times


def test_another_call_with_the_id_is_refused(tmp_path: Path, work: Work) -> None:
    call(tmp_path, "upload_file", UPLOAD)
    for name, payload in (
        ("move_file", MOVE),
        ("upload_file", UPLOAD | {"dest": "c"}),
        ("upload_file", UPLOAD | {"background": True}),
        ("upload_files", UPLOAD),
    ):
        response = call(tmp_path, name, payload)
        assert (response.status, response.code) == (409, "request_id_conflict")
    assert work.times == 1


def test_a_repeat_waits_for_the_first_call_within_its_own_timeout(tmp_path: Path, work: Work) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def does() -> bool:
        begun.set()
        return go_on.wait(SOON)

    work.does = does

    async def scenario() -> None:
        dispatcher = dispatcher_in(tmp_path)
        first = asyncio.create_task(dispatcher.answer("upload_file", UPLOAD))
        await asyncio.to_thread(begun.wait, SOON)
        impatient = await dispatcher.answer("upload_file", UPLOAD | {"timeout": 1})
        assert (impatient.status, impatient.code) == (504, "deadline_exceeded")
        assert "still running" in impatient.payload["message"]
        conflict = await dispatcher.answer("upload_file", UPLOAD | {"dest": "c"})
        assert conflict.code == "request_id_conflict"
        assert (await dispatcher.answer("upload_file", UPLOAD | {"background": True})).code == "request_id_conflict"
        repeats = [asyncio.create_task(dispatcher.answer("upload_file", UPLOAD)) for _ in range(20)]
        await asyncio.sleep(0.01)
        go_on.set()
        assert all(response.payload is True for response in await asyncio.gather(first, *repeats))

    asyncio.run(scenario())
    assert work.times == 1


def test_a_repeat_after_a_timeout_finds_that_the_first_call_succeeded(tmp_path: Path, work: Work) -> None:
    go_on = threading.Event()
    work.does = lambda: go_on.wait(SOON)

    async def scenario() -> None:
        dispatcher = dispatcher_in(tmp_path)
        assert (await dispatcher.answer("move_file", MOVE | {"timeout": 1})).status == 504
        repeat = asyncio.create_task(dispatcher.answer("move_file", MOVE))
        await asyncio.sleep(0)
        go_on.set()
        assert (await repeat).payload is True

    asyncio.run(scenario())
    assert call(tmp_path, "move_file", MOVE).payload is True
    assert work.times == 1


def test_a_call_that_had_no_turn_was_not_begun(tmp_path: Path, work: Work) -> None:
    response = asyncio.run(dispatcher_in(tmp_path).answer("move_file", MOVE, time.monotonic() - 100))
    assert response.status == 504
    assert call(tmp_path, "move_file", MOVE).payload is True
    assert work.times == 1


def test_after_a_crash_a_transfer_is_repeated_and_a_move_is_reported_as_unknown(tmp_path: Path, work: Work) -> None:
    journal = Journal(tmp_path)
    for name, request_id in (("upload_file", "u"), ("move_file", "m")):
        request = parse_call(name, payload_of(name, request_id=request_id)).request
        assert isinstance(request, ChangeRequest)
        journal.save_request(
            request_id, RequestRecord(request.fingerprint(name), begun=True)
        )  # and then the process died
    journal.close()
    assert call(tmp_path, "upload_file", payload_of("upload_file", request_id="u")).payload is True
    response = call(tmp_path, "move_file", payload_of("move_file", request_id="m"))
    assert (response.status, response.code) == (503, "connection_lost")
    assert "is not known" in response.payload["message"]
    assert work.times == 1


@pytest.mark.parametrize("name", ["upload_file", "download_file", "upload_files", "download_files"])
def test_a_repeat_of_a_call_that_became_a_task_returns_the_same_task(tmp_path: Path, name: str) -> None:
    payload = payload_of(name, request_id="1", background=True)

    async def scenario() -> set[str]:
        dispatcher = dispatcher_in(tmp_path)
        responses = await asyncio.gather(*(dispatcher.answer(name, payload) for _ in range(10)))
        assert {response.status for response in responses} == {202}
        return {response.payload["task_id"] for response in responses}

    first = asyncio.run(scenario())
    assert len(first) == 1
    assert {call(tmp_path, name, payload).payload["task_id"]} == first
    assert call(tmp_path, name, payload | {"dest": "c"}).code == "request_id_conflict"


def test_without_a_journal_calls_proceed_and_ids_are_kept_in_memory(tmp_path: Path, work: Work) -> None:
    (tmp_path / NAME).mkdir()  # in the place of the file

    async def scenario() -> None:
        dispatcher: Dispatcher = dispatcher_in(tmp_path)
        for _ in range(3):
            assert (await dispatcher.answer("upload_file", UPLOAD)).payload is True
        assert (await dispatcher.answer("move_file", MOVE)).code == "request_id_conflict"
        assert (await dispatcher.answer("upload_file", {"source": "a", "dest": "b"})).payload is True
        refused = await dispatcher.answer("upload_file", payload_of("upload_file", background=True))
        assert (refused.status, refused.code) == (403, "permission_denied")
        assert "state directory" in refused.payload["message"]

    asyncio.run(scenario())
    assert work.times == 2


def test_a_journal_that_hangs_delays_no_call_beyond_its_timeout(tmp_path: Path, work: Work) -> None:
    goes_on = threading.Event()

    class HangingJournal(Journal):
        def find_request(self, _request_id: str) -> None:
            goes_on.wait(SOON)

    async def scenario() -> list[Response]:
        dispatcher = dispatcher_in(tmp_path, journal=HangingJournal(tmp_path))
        calls = range(10)  # more than there are threads for it
        payloads = [payload_of("delete_file", request_id=str(number), timeout=1) for number in calls]
        responses = await asyncio.gather(*(dispatcher.answer("delete_file", payload) for payload in payloads))
        goes_on.set()
        return [*responses, await dispatcher.answer("delete_file", payloads[0] | {"timeout": SOON})]

    *refused, later = asyncio.run(scenario())
    assert {response.code for response in refused} == {"deadline_exceeded"}
    assert (later.payload, work.times) == (True, 1)


def test_cancelling_an_ended_task_is_false_also_without_a_journal(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()  # in the place of the file
    assert call(tmp_path, "cancel_task", {"task_id": "a", "request_id": "1"}).payload is False


def test_an_internal_error_leaves_no_call_waiting(tmp_path: Path, work: Work) -> None:
    def does() -> None:
        raise RuntimeError("a bug")

    work.does = does

    async def scenario() -> None:
        dispatcher = dispatcher_in(tmp_path)
        assert (await dispatcher.answer("move_file", MOVE)).code == "internal"
        assert (await dispatcher.answer("move_file", MOVE)).code == "connection_lost"  # it may have been done

    asyncio.run(scenario())


def test_a_repeat_on_the_next_day_goes_where_the_first_attempt_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dests: list[str] = []

    def lose(_context: MethodContext, request: TransferRequest, _timeout: float) -> bool:
        dests.append(request.dest)
        if len(dests) == 1:
            raise ConnectionLost("the answer to the rename was lost")
        return True

    method = replace(METHODS["upload_file"], run=lose)
    monkeypatch.setitem(table.METHODS, "upload_file", method)
    given = UPLOAD | {"dest": "{date:%F}/b", "expand": True}
    for day, status in ((0, 503), (1, 200), (2, 200)):  # each by a new process
        dispatcher = dispatcher_in(tmp_path)
        dispatcher._context.placeholders.clock = lambda day=day: CLOCK_STARTS + day * 86_400  # type: ignore[misc] # defaults bind
        assert asyncio.run(dispatcher.answer("upload_file", given)).status == status
    assert dests == ["2026-01-01/b", "2026-01-01/b"]
    other = asyncio.run(dispatcher_in(tmp_path).answer("upload_file", given | {"dest": "{date:%D}"}))
    assert other.code == "invalid_request"
