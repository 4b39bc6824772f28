"""Every request is answered exactly once and by its deadline, and no lane holds up another."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.few_threads import ThreadLimit
from tests.module.conftest import dispatcher_in

from iot.sftp.client import Busy, ConnectionLost, DeadlineExceeded, SFTPError, __version__
from iot.sftp.module._base import logging as logging_module
from iot.sftp.module._base.logging import LineFormatter, LineHandler
from iot.sftp.module._documents.requests import PathRequest, Request
from iot.sftp.module._hub.sdk import Malformed
from iot.sftp.module._methods import table
from iot.sftp.module._methods.lanes import GRACE, CallQueue
from iot.sftp.module._methods.method import Call, Lane, Method, MethodContext
from iot.sftp.module._methods.parsing import parse_call
from iot.sftp.module._methods.table import METHODS
from iot.sftp.module._work.server_slots import ServerSlots
from iot.sftp.module._work.slots import Slots


def soon(seconds: float = 60) -> float:
    return time.monotonic() + seconds


def test_work_gives_its_result_or_its_error() -> None:
    def fails() -> None:
        raise KeyError("lost")

    async def scenario() -> None:
        queue = CallQueue("test", Slots(1))
        assert await queue.run(lambda: 5, soon()) == 5
        with pytest.raises(KeyError):
            await queue.run(fails, soon())

    asyncio.run(scenario())


def test_without_a_thread_a_call_is_busy_and_neither_its_slot_is_taken_nor_its_work_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = ThreadLimit(monkeypatch)

    async def scenario() -> None:
        slots = Slots(1)
        queue = CallQueue("test", slots)
        done: list[int] = []
        limit.leave(0)
        for _ in range(3):
            with pytest.raises(Busy, match="no further thread"):
                await queue.run(lambda: done.append(1), soon())
        limit.leave(None)
        assert not slots.running
        await queue.run(lambda: done.append(2), soon())
        assert done == [2]

    asyncio.run(scenario())


def test_a_bounded_number_runs_at_a_time_first_in_first_out() -> None:
    async def scenario() -> None:
        queue = CallQueue("test", Slots(2))
        running, most, order = 0, 0, []
        lock = threading.Lock()

        def work(number: int) -> None:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
                order.append(number)
            time.sleep(0.002)  # the work itself
            with lock:
                running -= 1

        await asyncio.gather(*(queue.run(lambda n=n: work(n), soon()) for n in range(40)))  # type: ignore[misc]
        assert most == 2
        assert all(abs(place - number) <= 1 for place, number in enumerate(order))

    asyncio.run(scenario())


def test_work_that_does_not_return_is_answered_at_its_deadline() -> None:
    async def scenario() -> None:
        queue = CallQueue("test", Slots(1))
        free = threading.Event()
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="timed out"):
            await queue.run(free.wait, soon(0.2))
        assert 0.2 <= time.monotonic() - started < GRACE + 15
        # its thread is still busy: what comes next waits for it, and is not begun
        begun = []
        with pytest.raises(DeadlineExceeded, match="nothing was done"):
            await queue.run(lambda: begun.append(1), soon(0.1))
        assert not begun
        free.set()
        assert await queue.run(lambda: "next", soon()) == "next"

    asyncio.run(scenario())


def test_too_many_waiting_calls_are_refused_as_busy() -> None:
    async def scenario() -> None:
        queue = CallQueue("test", Slots(1, length=2))
        free = threading.Event()
        calls = [asyncio.create_task(queue.run(free.wait, soon())) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="try again later"):
            await queue.run(lambda: 1, soon())
        free.set()
        assert await asyncio.gather(*calls) == [True] * 3

    asyncio.run(scenario())


def test_a_wider_queue_starts_waiting_calls_at_once() -> None:
    async def scenario() -> None:
        slots = Slots(1)
        queue = CallQueue("test", slots)
        together = threading.Barrier(3)
        calls = [asyncio.create_task(queue.run(lambda: together.wait(60), soon())) for _ in range(3)]
        await asyncio.sleep(0)
        slots.widen(3)
        assert sorted(await asyncio.gather(*calls)) == [0, 1, 2]

    asyncio.run(scenario())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
KEYS = st.sampled_from(
    ["path", "source", "dest", "file_pattern", "timeout", "limit", "after", "learn", "task_id", "request_id", "x"]
)
PAYLOADS = JSON | st.dictionaries(KEYS, JSON, max_size=5) | st.text().map(Malformed)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the journal may be the same for all
@given(name=st.sampled_from([*METHODS, "nope"]) | st.text(), payload=PAYLOADS)
def test_any_payload_to_any_method_gets_one_response_of_the_contracts_form(
    tmp_path: Path, name: str, payload: Any
) -> None:
    async def scenario() -> None:
        response = await dispatcher_in(tmp_path).answer(name, payload)
        if response.status == 200:
            if name == "get_task_status":
                assert response.payload["status"] == "Unknown"
                return
            if name == "get_status":
                assert response.payload["versions"]["module"] == __version__
                return
            results: dict[str, Any] = {"is_connected": False, "disconnect": None, "cancel_task": False}
            assert response.payload == results.get(name, [])
            return
        if response.status == 202:
            assert name in {"download_files", "upload_files"}
            assert set(response.payload) == {"task_id"}
            return
        assert response.status in {400, 404, 503, 504}
        assert set(response.payload) == {"result", "code", "message"}
        assert response.payload["code"] == response.code
        assert response.payload["result"] is (METHODS[name].failed if name in METHODS else False)
        assert 0 < len(response.payload["message"]) < 2_100

    asyncio.run(scenario())


def test_an_internal_error_is_answered_without_its_details_which_are_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(_context: MethodContext, _request: Request, _timeout: float) -> None:
        raise RuntimeError("what a bug says")

    monkeypatch.setitem(table.METHODS, "exists", Method(Request, breaks, Lane.QUICK))
    response = asyncio.run(dispatcher_in(tmp_path).answer("exists", {}))
    assert (response.status, response.code) == (500, "internal")
    assert "what a bug says" not in response.payload["message"]
    assert "what a bug says" in caplog.text


def test_the_time_limit_counts_from_the_requests_arrival(tmp_path: Path) -> None:
    response = asyncio.run(dispatcher_in(tmp_path).answer("exists", {"path": "a", "timeout": 1}, time.monotonic() - 2))
    assert (response.status, response.code) == (504, "deadline_exceeded")
    assert "nothing was done" in response.payload["message"]


def test_quick_calls_are_answered_while_transfers_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()

    def hangs(_context: MethodContext, _request: Request, timeout: float) -> bool:
        return free.wait(timeout)

    def looks(_context: MethodContext, _request: Request, _timeout: float) -> bool:
        return True

    monkeypatch.setitem(table.METHODS, "download_file", Method(Request, hangs, Lane.TRANSFER))
    monkeypatch.setitem(table.METHODS, "exists", Method(Request, looks, Lane.QUICK))

    async def scenario() -> None:
        slots = ServerSlots(1)
        dispatcher = dispatcher_in(tmp_path, slots=slots)
        transfers = [asyncio.create_task(dispatcher.answer("download_file", {})) for _ in range(5)]
        assert (await dispatcher.answer("exists", {})).payload is True
        assert not any(transfer.done() for transfer in transfers)
        slots.widen(5)
        free.set()
        assert {(await transfer).status for transfer in transfers} == {200}

    asyncio.run(scenario())


def test_the_status_is_answered_while_everything_else_is_stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()

    def hangs(_context: MethodContext, _request: Request, timeout: float) -> bool:
        return free.wait(timeout)

    stuck = {"is_connected": 8, "exists": 8, "upload_file": 4, "list_tasks": 8}
    for name in stuck:
        monkeypatch.setitem(table.METHODS, name, Method(Request, hangs, METHODS[name].lane))

    async def scenario() -> None:
        dispatcher = dispatcher_in(tmp_path)
        calls = [asyncio.create_task(dispatcher.answer(name, {})) for name, many in stuck.items() for _ in range(many)]
        assert (await dispatcher.answer("get_status", {"timeout": 5})).status == 200
        assert not any(call.done() for call in calls)
        free.set()
        assert {(await call).status for call in calls} == {200}

    asyncio.run(scenario())


def test_a_call_that_failed_is_in_the_status_with_an_advice(tmp_path: Path) -> None:
    async def scenario() -> None:
        dispatcher = dispatcher_in(tmp_path)
        for _ in range(2):
            await dispatcher.answer("exists", {"path": "a"})
        await dispatcher.answer("exists", {})
        last, first = (await dispatcher.answer("get_status", None)).payload["failures"]
        assert (first["what"], first["code"], first["times"]) == ("exists 'a'", "not_configured", 2)
        assert (last["what"], last["code"], last["message"]) == ("exists", "invalid_request", "'path' is missing")
        assert first["advice"].startswith("Set the section sftp")

    asyncio.run(scenario())


def test_a_failure_is_logged_in_one_line_with_its_code_and_path(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="iot")
    asyncio.run(dispatcher_in(tmp_path).answer("delete_file", {"path": "a\nb" + "x" * 1_000}))
    (record,) = [record for record in caplog.records if "bxxx" in record.getMessage()]
    assert "503 not_configured" in record.getMessage()
    assert r"'a\nbxxx" in record.getMessage()
    assert len(record.getMessage()) < 1_000


def test_the_log_line_of_a_failed_call_has_the_number_of_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_context: MethodContext, request: PathRequest, _timeout: float) -> None:
        error = ConnectionLost("the server closed the connection", path=request.path)
        error.attempts = 3
        raise error

    monkeypatch.setitem(table.METHODS, "exists", Method(PathRequest, fails, Lane.QUICK))
    asyncio.run(dispatcher_in(tmp_path).answer("exists", {"path": "a"}))
    (text,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert text.startswith("'a': 503 connection_lost: 'a': the server closed the connection (0.")
    assert text.endswith(" s, 3 attempts)")


def test_everything_that_is_logged_for_a_call_has_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def looks(_context: MethodContext, _request: Request, _timeout: float) -> bool:
        logging.getLogger("iot.sftp.client._session").warning("what the client says")
        return True

    monkeypatch.setitem(table.METHODS, "exists", Method(Request, looks, Lane.QUICK))
    lines = io.StringIO()
    handler = LineHandler(lines)
    handler.addFilter(logging_module._add_subject)
    handler.setFormatter(LineFormatter())
    log = logging.getLogger("iot")
    before = log.level
    log.addHandler(handler)
    log.setLevel("INFO")
    try:
        asyncio.run(dispatcher_in(tmp_path).answer("exists", {}))
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
    found = [re.fullmatch(r".*\] call ([0-9a-f]{6}) exists: (.*)", line) for line in lines.getvalue().splitlines()]
    assert len({match[1] for match in found if match}) == 1
    assert [match and match[2].partition(" (")[0] for match in found] == ["what the client says", "200"]


def test_an_error_of_the_client_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_context: MethodContext, _request: Request, _timeout: float) -> None:
        raise SFTPError("a plain one", path="p")

    monkeypatch.setitem(table.METHODS, "exists", Method(Request, fails, Lane.QUICK))
    response = asyncio.run(dispatcher_in(tmp_path).answer("exists", {}))
    assert response.payload == {"result": False, "code": "internal", "message": "'p': a plain one"}


def test_a_call_knows_its_method() -> None:
    assert isinstance(parse_call("disconnect", None), Call)


def test_methods_on_local_files_need_no_server(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").touch()
    dispatcher = dispatcher_in(tmp_path)
    listed = asyncio.run(dispatcher.answer("list_local_directory", None))
    assert [entry["path"] for entry in listed.payload] == ["a"]
    assert asyncio.run(dispatcher.answer("delete_local_file", {"path": "a"})).payload is True
    assert asyncio.run(dispatcher.answer("read_file", {"path": "a"})).code == "not_configured"


@pytest.mark.parametrize(
    "method, payload",
    [
        ("exists", {"path": "a"}), ("list_files", {"path": "a"}), ("write_file", {"path": "a", "content": ""}),
        ("test_connection", None), ("rotate_key", None), ("move_directory", {"source": "a", "dest": "b"}),
    ],
)  # fmt: skip
def test_what_needs_a_server_says_that_there_is_none_yet(method: str, payload: object, tmp_path: Path) -> None:
    response = asyncio.run(dispatcher_in(tmp_path).answer(method, payload))
    assert (response.status, response.code) == (503, "not_configured")
    assert "has not received its desired properties yet" in response.payload["message"]
