"""The watchdog of the event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from iot.sftp.module._hub.loop_watch import watch_loop


def test_a_blocked_event_loop_is_noticed_and_the_log_says_where(caplog: pytest.LogCaptureFixture) -> None:
    left, allowed = threading.Event(), iter([False, True])

    async def blocks_the_loop() -> None:
        watch_loop(left.set, lambda: next(allowed), interval=0.1, missed=3)
        await asyncio.sleep(1)  # longer than three heartbeats, and the loop is not blocked
        assert not left.is_set()
        left.wait(20)

    asyncio.run(blocks_the_loop())
    assert left.is_set()
    assert list(allowed) == []  # it was asked until the process might exit
    assert "blocks_the_loop" in caplog.text
