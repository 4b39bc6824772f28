"""Each direction has its limit, both share one, and a schedule changes them while transfers wait."""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from tests.clients import settings_of
from tests.servers import Server

from iot.sftp.client import Bandwidth, Direction, RateLimit, SFTPSession
from iot.sftp.client._base.deadline import Deadline
from iot.sftp.client._transfer.rate_limit import BURST, LOOK_PERIOD, START, TransferWindow

UPLOAD, DOWNLOAD = Direction.UPLOAD, Direction.DOWNLOAD
BEGIN = 100.0


class Clock:
    """A clock of the test's own, on which nothing but waiting takes time."""

    def __init__(self) -> None:
        self.now = BEGIN

    def deadline(self) -> Deadline:
        clock = self

        class Waits(Deadline):
            def pause(self, seconds: float) -> None:
                assert seconds <= LOOK_PERIOD
                clock.now += seconds

        return Waits(None)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


def move(limit: RateLimit, clock: Clock, count: int, *directions: Direction) -> float:
    """Move so many bytes in each of the directions in turn; return the seconds that it takes."""
    deadline, started, left = clock.deadline(), clock.now, dict.fromkeys(directions, count)
    while any(left.values()):
        for direction in directions:
            if left[direction]:
                piece = min(left[direction], limit.largest(32_768, direction))
                limit.wait_for_turn(piece, deadline, direction)
                left[direction] -= piece
    return clock.now - started


@pytest.mark.parametrize(
    "bandwidth, directions, seconds",
    [
        (Bandwidth(), [UPLOAD, DOWNLOAD], 0),
        (Bandwidth(upload=1_000), [UPLOAD], 10),
        (Bandwidth(upload=1_000), [DOWNLOAD], 0),
        (Bandwidth(upload=1_000, download=500), [UPLOAD, DOWNLOAD], 20),
        (Bandwidth(1_000), [UPLOAD, DOWNLOAD], 20),
        (Bandwidth(1_000, upload=100), [UPLOAD], 100),
        (Bandwidth(100, upload=1_000), [UPLOAD], 100),
    ],
    ids=str,
)
def test_the_lowest_limit_of_those_that_count_is_kept(
    clock: Clock, bandwidth: Bandwidth, directions: list[Direction], seconds: float
) -> None:
    limit = RateLimit()
    limit.bandwidth = bandwidth
    assert move(limit, clock, 10_000, *directions) == pytest.approx(seconds, abs=BURST + 0.1)


def test_the_limit_of_both_directions_is_the_one_that_there_was_before() -> None:
    limit = RateLimit()
    limit.bytes_per_second = 5
    assert limit.bandwidth == Bandwidth(5)
    limit.bandwidth = Bandwidth(7, 1, 2)
    assert limit.bytes_per_second == 7
    limit.bytes_per_second = None
    assert limit.bandwidth == Bandwidth()


@pytest.mark.parametrize("rate", [0, -1, 1.5, True, "fast"])
@pytest.mark.parametrize("key", ["total", "upload", "download"])
def test_what_is_no_rate_is_refused(key: str, rate: object) -> None:
    with pytest.raises(ValueError, match="bytes per second"):
        Bandwidth(**{key: rate})  # type: ignore[arg-type]


@pytest.mark.parametrize("after", [Bandwidth(), Bandwidth(upload=1_000_000)])
def test_a_schedule_that_changes_ends_a_long_wait_within_its_period(clock: Clock, after: Bandwidth) -> None:
    limit = RateLimit()
    limit.follow(lambda: Bandwidth(upload=1) if clock.now < BEGIN + 60 else after)
    deadline = clock.deadline()
    limit.wait_for_turn(1_000, deadline, UPLOAD)  # at once, and what follows waits for a quarter of an hour
    limit.wait_for_turn(1, deadline, UPLOAD)
    assert BEGIN + 60 <= clock.now <= BEGIN + 60 + LOOK_PERIOD
    assert limit.bandwidth == after


def test_a_limit_begins_while_bytes_move_without_one(clock: Clock) -> None:
    limit = RateLimit()
    limit.follow(lambda: Bandwidth(download=1_000) if clock.now >= BEGIN + 5 else Bandwidth())
    assert move(limit, clock, 10_000, DOWNLOAD) == 0
    clock.now = BEGIN + 5
    assert move(limit, clock, 10_000, DOWNLOAD) == pytest.approx(10, abs=BURST + 0.1)


def test_a_schedule_is_asked_once_in_its_period_and_only_while_bytes_move(clock: Clock) -> None:
    asked = list[float]()

    def schedule() -> Bandwidth:
        asked.append(clock.now)
        return Bandwidth(10_000)

    limit = RateLimit()
    limit.follow(schedule)
    clock.now += 1_000
    assert asked == [BEGIN]
    move(limit, clock, 100_000, UPLOAD)
    assert len(asked) <= 2 + 10 / LOOK_PERIOD


def test_setting_a_limit_ends_the_schedule(clock: Clock) -> None:
    limit = RateLimit()
    limit.follow(lambda: Bandwidth(1))
    limit.bytes_per_second = 1_000
    clock.now += 10 * LOOK_PERIOD
    assert move(limit, clock, 10_000, UPLOAD) == pytest.approx(10, abs=BURST + 0.1)


@pytest.mark.parametrize("direction", [UPLOAD, DOWNLOAD])
def test_a_transfer_goes_on_faster_when_its_schedule_says_so(
    openssh_server: Server, tmp_path: Path, direction: Direction
) -> None:
    content = os.urandom(6_000_000)
    (openssh_server.directory / "scheduled").write_bytes(content)
    (tmp_path / "scheduled").write_bytes(content)
    is_night = threading.Event()
    day = {direction.value: 50_000}  # it would take two minutes
    limit = RateLimit()
    limit.follow(lambda: Bandwidth() if is_night.is_set() else Bandwidth(**day))
    told: list[int] = []

    def progress(done: int, _: int | None) -> None:
        told.append(done)
        if len(told) == 5:
            is_night.set()

    with closing(SFTPSession(settings_of(openssh_server), limit=limit)) as session:
        if direction is UPLOAD:
            done = session.upload_file(str(tmp_path / "scheduled"), "arrived", progress=progress)
        else:
            done = session.download_file("scheduled", str(tmp_path / "arrived"), progress=progress)
    assert told[3] < 1_000_000
    assert done.seconds < 100


def test_a_window_grows_no_further_than_what_arrives_is_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst at full speed opens all of it; one that trickles in opens nothing, so that a slow link is not full."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    fast, slow = TransferWindow(0.2), TransferWindow(0.2)
    for _ in range(4):
        fast.arrived(START // 4)
    assert START < fast.size <= 64 * START
    for _ in range(4):  # 1.25 MB/s
        now += 0.2
        slow.arrived(START // 4)
        assert slow.size <= START * 5 // 4  # twice what arrives in two round trips and a tenth of a second
