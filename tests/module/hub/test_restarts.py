"""The module may exit by itself, but not so often that the edge agent gives it up."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from iot.sftp.module._hub.restarts import FILE, RestartBudget, RestartLimits

LIMITS = RestartLimits()
FEW = LIMITS.short_lives


def short_life(directory: Path, now: float = 1000.0) -> RestartBudget:
    return RestartBudget(directory, clock=lambda: now)


def long_life(directory: Path) -> RestartBudget:
    return RestartBudget(directory, clock=lambda: 1000.0, uptime=lambda: LIMITS.long_life)


def test_a_few_short_lives_may_follow_each_other_and_then_each_is_long(tmp_path: Path) -> None:
    assert [short_life(tmp_path).allow() for _ in range(FEW + 2)] == [True] * FEW + [False] * 2
    assert long_life(tmp_path).allow()


def test_an_exit_long_ago_does_not_count(tmp_path: Path) -> None:
    for _ in range(FEW):
        short_life(tmp_path).allow()
    assert short_life(tmp_path, now=1000.0 + LIMITS.recent).allow()


def test_where_no_exit_can_be_recorded_each_life_is_long(tmp_path: Path) -> None:
    assert not short_life(tmp_path / "none").allow()
    assert long_life(tmp_path / "none").allow()


def test_a_file_system_that_hangs_does_not_block_the_caller(tmp_path: Path) -> None:
    uptime = 0.0
    os.mkfifo(tmp_path / FILE)  # a reader blocks until somebody opens it to write
    restarts = RestartBudget(tmp_path, uptime=lambda: uptime, limits=RestartLimits(answer=0.2))
    before = set(threading.enumerate())
    for _ in range(FEW + 1):
        assert not restarts.allow()
    (recording,) = set(threading.enumerate()) - before  # it tries once, and records no exit that did not happen
    uptime = LIMITS.long_life
    assert restarts.allow()
    uptime = 0.0
    os.close(os.open(tmp_path / FILE, os.O_WRONLY))  # the file system answers
    recording.join(20)
    assert restarts.allow()
    assert len((tmp_path / FILE).read_text().split()) == 1


def test_without_a_free_thread_a_short_life_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert not short_life(tmp_path).allow()
    assert long_life(tmp_path).allow()


def test_an_unreadable_record_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"\xff what")
    assert short_life(tmp_path).allow()
