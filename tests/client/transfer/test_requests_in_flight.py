"""A window of requests is in flight: no more than it holds, nothing twice, and nothing of a transfer that is over."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.faulty_servers import PASSWORD, HoldsAnswers, RenamesLate, StopsReading

from iot.sftp.client import (
    Cancelled,
    DeadlineExceeded,
    NoSpace,
    Secret,
    ServerSettings,
    SFTPSession,
    TimeLimits,
    Transfer,
)
from iot.sftp.client._base import deadline
from iot.sftp.client._files.remote_requests import SAFE_REQUEST
from iot.sftp.client._ssh.packets import Kind
from iot.sftp.client._transfer.rate_limit import START
from iot.sftp.client._transfer.read_pipeline import ReadPipeline

CONTENT = os.urandom(3 * START + 1234)  # a size that no request divides
DIRECTIONS = {"download_file": Kind.READ, "upload_file": Kind.WRITE}
both_directions = pytest.mark.parametrize("operation", list(DIRECTIONS))


@contextmanager
def session_at(port: int) -> Iterator[SFTPSession]:
    limits = TimeLimits(stall=20)
    session = SFTPSession(ServerSettings("127.0.0.1", port, "device", Secret(PASSWORD), time_limits=limits))
    try:
        yield session
    finally:
        session.disconnect()


class Moving:
    """A transfer that runs in a thread, with a server that holds its answers."""

    def __init__(self, operation: str, tmp_path: Path, limits: tuple[int, int] | None = None) -> None:
        self.server = HoldsAnswers(DIRECTIONS[operation], limits)
        self.server.files["source"] = bytearray(CONTENT)
        self.cancelled = threading.Event()
        self.progress: list[int] = []
        self._more = threading.Condition()
        self._operation = operation
        self._local = tmp_path / operation
        self._local.write_bytes(CONTENT if operation == "upload_file" else b"old")

    @contextmanager
    def running(self, timeout: float | None = None) -> Iterator[Future[Transfer]]:
        ends = ("source", str(self._local)) if self._operation == "download_file" else (str(self._local), "dest")
        with self.server.running() as port, session_at(port) as self.session, ThreadPoolExecutor(1) as executor:
            call: Callable[..., Transfer] = getattr(self.session, self._operation)
            options = {"timeout": timeout, "cancelled": None if timeout else self.cancelled, "progress": self._note}
            try:
                yield executor.submit(self._measured, call, *ends, **options)
            finally:
                self.cancelled.set()

    def _measured(self, call: Callable[..., Transfer], *ends: str, **options: Any) -> Transfer:
        before = time.thread_time()
        try:
            return call(*ends, **options)
        finally:
            self.processor_seconds = time.thread_time() - before

    def _note(self, done: int, _: int | None) -> None:
        with self._more:
            self.progress.append(done)
            self._more.notify_all()

    def wait_for_progress(self, done: int) -> None:
        """Wait until so many bytes are told, as the latest."""
        with self._more:
            assert self._more.wait_for(lambda: self.progress[-1:] == [done], 10), self.progress

    def moved(self) -> bytes:
        return self._local.read_bytes() if self._operation == "download_file" else bytes(self.server.files["dest"])


@both_directions
@pytest.mark.parametrize("limits", [None, (100_000, 40_000)])
def test_no_more_is_on_its_way_than_the_window_holds_and_nothing_is_asked_for_twice(
    operation: str, limits: tuple[int, int] | None, tmp_path: Path
) -> None:
    moving = Moving(operation, tmp_path, limits)
    length = SAFE_REQUEST if limits is None else limits[operation == "upload_file"]
    full = START - START % length
    with moving.running() as transfer:
        moving.server.wait_for(full)
        for _ in range(20):
            assert moving.session.exists("source")  # there is time to ask for more
        assert sum(held.length for held in moving.server.held) == full
        assert not transfer.done()
        moving.server.give_all()
        assert transfer.result(20).bytes == len(CONTENT)
    assert moving.moved() == CONTENT
    pieces = [(offset, min(length, len(CONTENT) - offset)) for offset in range(0, len(CONTENT), length)]
    past_the_end = [(len(CONTENT), length)] if operation == "download_file" else []
    assert moving.server.asked == pieces + past_the_end
    assert moving.server.requests.count(Kind.FSTAT) <= 2  # before and after, and not with each request


@both_directions
def test_what_is_behind_a_hole_counts_when_the_hole_is_filled(operation: str, tmp_path: Path) -> None:
    """Progress is what a later try can build on."""
    moving = Moving(operation, tmp_path)
    with moving.running() as transfer:
        moving.server.wait_for(START)
        count = len(moving.server.held)
        moving.server.give(*range(count - 1, 1, -1))  # all but the first two, the last one first
        moving.server.wait_for(3 * SAFE_REQUEST)  # more is asked for before everything is answered
        assert set(moving.progress) == {0}
        moving.server.give(0)
        moving.wait_for_progress(SAFE_REQUEST)
        moving.server.give(0)
        moving.wait_for_progress(START)
        moving.server.give_all()
        assert transfer.result(20).bytes == len(CONTENT)
    assert moving.moved() == CONTENT
    assert moving.progress == sorted(moving.progress)
    assert moving.progress[-1] == len(CONTENT)


def test_answers_that_come_when_a_download_is_over_reach_no_file(tmp_path: Path) -> None:
    """Its descriptor is another file's by then."""
    moving = Moving("download_file", tmp_path)
    with moving.running() as transfer:
        moving.server.wait_for(START)
        moving.cancelled.set()
        with pytest.raises(Cancelled):
            transfer.result(20)
        others = [tmp_path / f"other {number}" for number in range(8)]
        files = [other.open("wb") for other in others]
        moving.server.give_all()
        assert moving.session.exists("source")  # its answer comes behind the others
        for file in files:
            file.close()
        assert [other.read_bytes() for other in others] == [b""] * len(others)
        assert moving.session.counts.downloaded == 0
        moving.session.download_file("source", str(tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == CONTENT


@both_directions
def test_waiting_ends_at_the_deadline_and_takes_no_processor(operation: str, tmp_path: Path) -> None:
    moving = Moving(operation, tmp_path)
    started = time.monotonic()
    with moving.running(timeout=2) as transfer:
        with pytest.raises(DeadlineExceeded):
            transfer.result(60)
        assert 2 <= time.monotonic() - started < 25
    assert moving.processor_seconds < 0.5


def test_an_upload_that_is_over_reads_its_file_no_more(tmp_path: Path) -> None:
    """What was not sent by then is not sent any more: the descriptor is another file's."""
    server, cancelled, source = StopsReading(), threading.Event(), tmp_path / "source"
    server.files["source"] = bytearray()
    source.write_bytes(CONTENT)
    with server.running() as port, session_at(port) as session, ThreadPoolExecutor(1) as executor:
        transfer = executor.submit(session.upload_file, str(source), "dest", cancelled=cancelled)
        assert server.asked.wait(60)
        cancelled.set()
        with pytest.raises(Cancelled):
            transfer.result(20)
        others = [(tmp_path / f"other {number}") for number in range(8)]
        for other in others:
            other.write_bytes(bytes(len(CONTENT)))
        files = [other.open("rb") for other in others]
        server.goes_on.set()
        assert session.exists("source")  # its answer comes behind the others
        for file in files:
            file.close()
        assert session.counts.uploaded <= sum(len(content) for _, content in server.written) < START
    assert all(CONTENT[offset : offset + len(content)] == content for offset, content in server.written)


def test_an_upload_cancelled_while_it_is_renamed_reports_success(tmp_path: Path) -> None:
    """Cancelled means that the destination is what it was."""
    server, cancelled = RenamesLate(), threading.Event()
    server.files["dest"] = bytearray(b"old")
    (tmp_path / "source").write_bytes(CONTENT)
    with server.running() as port, session_at(port) as session, ThreadPoolExecutor(1) as executor:
        transfer = executor.submit(session.upload_file, str(tmp_path / "source"), "dest", cancelled=cancelled)
        assert server.renamed.wait(60)
        cancelled.set()
        with pytest.raises(TimeoutError):
            transfer.result(0.5)
        server.goes_on.set()
        assert transfer.result(60).bytes == len(CONTENT)
    assert server.files == {"dest": CONTENT}


def test_an_upload_cancelled_while_its_rename_hangs_reports_an_unknown_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "PATIENCE", 0.5)
    server, cancelled = RenamesLate(), threading.Event()
    (tmp_path / "source").write_bytes(CONTENT)
    with server.running() as port, session_at(port) as session, ThreadPoolExecutor(1) as executor:
        transfer = executor.submit(session.upload_file, str(tmp_path / "source"), "dest", cancelled=cancelled)
        assert server.renamed.wait(60)
        cancelled.set()
        with pytest.raises(Cancelled, match="is not known"):
            transfer.result(60)
        server.goes_on.set()


def test_a_disk_that_is_full_at_the_last_answers_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may all come between two looks of the one who waits for them."""
    moving, done = Moving("download_file", tmp_path), ReadPipeline._done
    moving.server.files["source"] = bytearray(CONTENT[: 10 * SAFE_REQUEST])

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def looks_late(download: ReadPipeline) -> bool:
        if moving.server.held:
            monkeypatch.setattr(os, "pwrite", full)
            moving.server.give_all()
            end = time.monotonic() + 100
            while download._in_flight and time.monotonic() < end:
                time.sleep(0.001)
        return done(download)

    monkeypatch.setattr(ReadPipeline, "_done", looks_late)
    with moving.running() as transfer:
        moving.server.wait_for(11 * SAFE_REQUEST)  # and the one past the end
        moving.server.give(*range(9))
        with pytest.raises(NoSpace):
            transfer.result(30)


def test_a_file_system_that_takes_less_than_it_is_given_gets_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file system can be made to do so on demand, and go on."""
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: pwrite(descriptor, data[:1000], offset))
    moving = Moving("download_file", tmp_path)
    with moving.running() as transfer:
        moving.server.wait_for(START)
        moving.server.give_all()
        transfer.result(20)
    assert moving.moved() == CONTENT
