"""The module may end itself, but not so often that the edge agent gives it up."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest

from iot.sftp.module._hub import restarts
from iot.sftp.module._hub.loop_watch import watch_loop
from iot.sftp.module._hub.restarts import FEW, RECENT, Endings


def test_few_short_lives_may_follow_each_other_and_then_each_is_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [Endings(tmp_path, clock=lambda: 1000.0).allow() for _ in range(FEW + 2)] == [True] * FEW + [False] * 2
    monkeypatch.setattr(restarts, "LONG_LIFE", 0.0)
    assert Endings(tmp_path, clock=lambda: 1000.0).allow()


def test_what_was_long_ago_does_not_count(tmp_path: Path) -> None:
    for _ in range(FEW):
        Endings(tmp_path, clock=lambda: 1000.0).allow()
    assert Endings(tmp_path, clock=lambda: 1000.0 + RECENT).allow()


def test_where_nothing_can_be_remembered_each_life_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Endings(tmp_path / "none").allow()
    monkeypatch.setattr(restarts, "LONG_LIFE", 0.0)
    assert Endings(tmp_path / "none").allow()


def test_a_file_system_that_hangs_does_not_hold_up_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "ANSWER_LIMIT", 0.2)
    os.mkfifo(tmp_path / restarts.FILE)  # who opens it waits for somebody who writes
    endings, before = Endings(tmp_path), set(threading.enumerate())
    for _ in range(FEW + 1):
        assert not endings.allow()
    (asking,) = set(threading.enumerate()) - before  # it is asked once, and does not note what has not happened
    with monkeypatch.context() as long_ago:
        long_ago.setattr(restarts, "LONG_LIFE", 0.0)
        assert endings.allow()
    os.close(os.open(tmp_path / restarts.FILE, os.O_WRONLY))  # it goes on
    asking.join(20)
    assert endings.allow()
    assert len((tmp_path / restarts.FILE).read_text().split()) == 1


def test_without_a_thread_to_be_had_a_short_life_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert not Endings(tmp_path).allow()
    monkeypatch.setattr(restarts, "LONG_LIFE", 0.0)
    assert Endings(tmp_path).allow()


def test_what_cannot_be_read_counts_as_nothing(tmp_path: Path) -> None:
    (tmp_path / restarts.FILE).write_bytes(b"\xff what")
    assert Endings(tmp_path).allow()


def test_an_event_loop_that_stands_still_is_noticed_and_told_where(caplog: pytest.LogCaptureFixture) -> None:
    ended, allowed = threading.Event(), iter([False, True])

    async def stands_still() -> None:
        watch_loop(ended.set, lambda: next(allowed), seconds=0.1, rounds=3)
        await asyncio.sleep(1)  # longer than that, and all is well
        assert not ended.is_set()
        time.sleep(30) if not ended.wait(20) else None  # noqa: ASYNC251 - it stands still

    asyncio.run(stands_still())
    assert ended.is_set()
    assert list(allowed) == []  # it was asked until it might
    assert "stands_still" in caplog.text
