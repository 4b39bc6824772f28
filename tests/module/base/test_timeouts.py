"""Waiting with limits of our own: the SDK has none."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading

import pytest
from azure.iot.device import exceptions

from iot.sftp.module._base.timeouts import in_thread, within
from iot.sftp.module._base.uncaught import log_loop_exception
from iot.sftp.module._base.wording import with_causes


def test_work_that_takes_too_long_is_left_alone_and_not_cancelled() -> None:
    async def scenario() -> None:
        future = asyncio.get_running_loop().create_future()
        with pytest.raises(TimeoutError, match="no answer"):
            await within(0.01, future)
        assert not future.cancelled()
        future.set_exception(KeyError("nobody waits for this any more"))
        await asyncio.sleep(0)

    asyncio.run(scenario())


def test_work_that_was_left_alone_goes_with_its_client_and_alarms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """As with the calls of a client of the SDK that another one takes the place of."""

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(log_loop_exception)

        async def never() -> None:
            await asyncio.get_running_loop().create_future()

        with pytest.raises(TimeoutError):
            await within(0.01, never())
        gc.collect()

    with caplog.at_level(logging.DEBUG):
        asyncio.run(scenario())
    (record,) = (record for record in caplog.records if "destroyed" in record.message)
    assert record.levelno == logging.DEBUG


def test_work_whose_caller_is_cancelled_alarms_nobody_when_it_fails_later(caplog: pytest.LogCaptureFixture) -> None:
    """As when the module stops while the SDK is sending: shutting it down fails that."""

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(log_loop_exception)
        goes_on = asyncio.Event()

        async def fails() -> None:
            await goes_on.wait()
            raise exceptions.OperationCancelled("Operation was cancelled before completion")

        caller = asyncio.create_task(within(60, fails()))
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        goes_on.set()
        for _ in range(3):
            await asyncio.sleep(0)
        gc.collect()

    with caplog.at_level(logging.DEBUG):
        asyncio.run(scenario())
    assert [record.message for record in caplog.records if record.levelno > logging.DEBUG] == []


def test_work_in_time_gives_its_result_or_its_error() -> None:
    async def fails() -> None:
        raise KeyError("lost")

    async def scenario() -> None:
        assert await within(5, asyncio.sleep(0, "done")) == "done"
        with pytest.raises(KeyError):
            await within(5, fails())

    asyncio.run(scenario())


def test_a_function_that_blocks_runs_in_a_thread_and_is_not_waited_for_longer_than_allowed() -> None:
    free = threading.Event()

    def fails() -> None:
        raise OSError("no workload API")

    async def scenario() -> None:
        assert await in_thread(threading.get_ident, 5) != threading.get_ident()
        with pytest.raises(OSError, match="no workload API"):
            await in_thread(fails, 5)

        def hangs() -> bool:
            return free.wait(10)

        with pytest.raises(TimeoutError):
            await in_thread(hangs, 0.05)
        free.set()

    asyncio.run(scenario())


def test_an_error_of_the_sdk_is_told_with_its_causes_once_each() -> None:
    error = exceptions.ConnectionFailedError("Could not connect")
    error.__cause__ = ConnectionRefusedError("refused")
    error.__cause__.__cause__ = OSError("refused")
    assert with_causes(error) == "Could not connect: refused"
    assert with_causes(KeyError()) == "KeyError"
