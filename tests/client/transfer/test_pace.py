"""How fast transfers go, what is told of them meanwhile, and how soon they end when they are told to."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.clients import connection_of, session_of
from tests.faulty_links import Break, BreakingRelay
from tests.servers import Server, listening, never_answers

from iot.sftp.client import Cancelled, DeadlineExceeded, Secret, ServerSettings, SFTPSession
from iot.sftp.client._base.deadline import Deadline
from iot.sftp.client._ssh.paramiko_internals.packetizers import FastPacketizer
from iot.sftp.client._transfer import verify as verify_module
from iot.sftp.client._transfer.rate_limit import BURST, LEAST, MOST, START, RateLimit, TransferWindow

SLACK = 12.0  # seconds on a busy machine, on top of the 0.2 that are promised
NEW = os.urandom(6_000_000)


def move(session: SFTPSession, name: str, tmp_path: Path, *, down: bool, **options: Any) -> object:
    """Download or upload a file of this name, which is on both sides."""
    if down:
        return session.download_file(name, str(tmp_path / "dest"), **options)
    return session.upload_file(str(tmp_path / name), "dest", **options)


# --- the limit -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["download", "upload"])
def test_a_limit_is_kept_within_a_twentieth(openssh_server: Server, tmp_path: Path, direction: str) -> None:
    size, rate = 4_500_000, 1_500_000
    content = NEW[:size]
    (openssh_server.directory / "paced").write_bytes(content)
    (tmp_path / "paced").write_bytes(content)
    with session_of(openssh_server) as session:
        session.connect()
        session.limit_bandwidth(rate)
        if direction == "download":
            took = session.download_file("paced", str(tmp_path / "dest")).seconds
        else:
            took = session.upload_file(str(tmp_path / "paced"), "dest").seconds
    # A tenth of a second's worth goes at once: of 3 s, that is 3 %.
    assert size / took < rate * 1.05
    assert size / took > rate * 0.1  # on a busy machine; that the limit itself is exact is held below


def test_many_transfers_share_one_limit(openssh_server: Server, tmp_path: Path) -> None:
    size, rate, number = 600_000, 1_200_000, 4
    (tmp_path / "paced").write_bytes(NEW[:size])
    with session_of(openssh_server) as session, ThreadPoolExecutor(number) as threads:
        session.connect()
        session.limit_bandwidth(rate)
        started = time.monotonic()
        uploads = [
            threads.submit(session.upload_file, str(tmp_path / "paced"), f"shared-{turn}") for turn in range(number)
        ]
        took = [upload.result().seconds for upload in uploads]
        elapsed = time.monotonic() - started
    assert number * size / elapsed < rate * 1.07
    assert min(took) > elapsed * 0.35  # none went first: it would have taken a quarter


def test_a_limit_may_be_changed_while_a_transfer_runs(openssh_server: Server, tmp_path: Path) -> None:
    (tmp_path / "paced").write_bytes(NEW)
    with session_of(openssh_server) as session:
        session.connect()
        session.limit_bandwidth(300_000)  # it would take 20 s
        told: list[int] = []

        def change(done: int, _: int | None) -> None:
            told.append(done)
            if len(told) == 5:
                session.limit_bandwidth(None)

        assert session.upload_file(str(tmp_path / "paced"), "changed", progress=change).seconds < 15
        assert told[3] < 400_000


@pytest.mark.parametrize("rate", [0, -1, 1.5, True, "fast"])
def test_what_is_no_rate_is_refused(rate: object) -> None:
    with pytest.raises(ValueError, match="bytes per second"):
        RateLimit().bytes_per_second = rate  # type: ignore[assignment]


def test_the_limit_itself_is_exact_whatever_sizes_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock of the test's own, on which nothing else takes time."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limit = RateLimit()
    limit.bytes_per_second = 1_000_000

    class Waits(Deadline):
        def pause(self, seconds: float) -> None:
            nonlocal now
            now += seconds

    deadline, moved = Waits(None), 0
    while moved < 10_000_000:
        count = limit.largest(261_120)
        limit.wait_for_turn(count, deadline)
        moved += count
    assert moved / (now - 100.0 + BURST) == pytest.approx(1_000_000, rel=0.01)
    assert moved / (now - 100.0) < 1_050_000


def test_a_window_grows_with_what_arrives_and_stays_within_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    window = TransferWindow(0.05)
    sizes = [window.size]
    for _ in range(4000):  # 80 MB/s
        now += 0.0032
        window.arrived(256 * 1024)
        sizes.append(window.size)
    assert sizes[0] == START
    assert 80_000_000 * 0.05 < sizes[-1] <= MOST  # what the link carries in a round trip, at least
    for _ in range(4000):  # and then 80 kB/s
        now += 0.4
        window.arrived(32 * 1024)
    assert LEAST <= window.size < sizes[-1] / 4


def test_a_transfer_is_no_short_call_for_which_others_keep_less_in_flight(
    openssh_server: Server, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with session_of(openssh_server) as session:
        session.upload_file(str(tmp_path / "file"), "no-short-call")
        session.download_file("no-short-call", str(tmp_path / "file"))
        assert not connection_of(session).has_short_calls
        assert session.exists("no-short-call")
        assert connection_of(session).has_short_calls


@pytest.mark.parametrize("has_short_calls", [True, False])
def test_short_calls_wait_behind_little_of_what_is_in_flight(
    monkeypatch: pytest.MonkeyPatch, has_short_calls: bool
) -> None:
    now, rate = 100.0, 20_000_000
    monkeypatch.setattr(time, "monotonic", lambda: now)
    window = TransferWindow(0.0, lambda: has_short_calls)
    for _ in range(2000):
        now += 0.001
        window.arrived(rate // 1000)
    assert (window.size <= rate * 0.02) == has_short_calls


# --- progress --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["download", "upload"])
@pytest.mark.parametrize("rate", [None, 4_000_000])
def test_progress_is_told_at_most_ten_times_a_second_and_never_goes_back(
    openssh_server: Server, tmp_path: Path, direction: str, rate: int | None
) -> None:
    (openssh_server.directory / "told").write_bytes(NEW)
    (tmp_path / "told").write_bytes(NEW)
    told: list[tuple[float, int, int | None]] = []
    caller = threading.get_ident()

    def progress(done: int, total: int | None) -> None:
        assert threading.get_ident() == caller
        told.append((time.monotonic(), done, total))

    with session_of(openssh_server) as session:
        session.limit_bandwidth(rate)
        started = time.monotonic()
        if direction == "download":
            session.download_file("told", str(tmp_path / "dest"), progress=progress)
        else:
            session.upload_file(str(tmp_path / "told"), "dest", progress=progress)
        took = time.monotonic() - started
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert told[-1][1:] == (len(NEW), len(NEW))
    assert {total for _, _, total in told} == {len(NEW)}
    assert len(told) <= took * 10 + 2  # the first and the last
    if rate:
        assert len(told) > 5


# --- the end before the end ------------------------------------------------------------------------------------------


@contextmanager
def ends_soon_after(moment: Callable[[], object]) -> Iterator[threading.Event]:
    """Give the event that cancels a call, set as soon as `moment` has come; measure from there to the call's end."""
    cancelled = threading.Event()
    set_at: list[float] = []

    def cancel() -> None:
        moment()
        set_at.append(time.monotonic())
        cancelled.set()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(Cancelled):
        yield cancelled
    ended = time.monotonic()
    thread.join()
    assert ended - set_at[0] < 0.2 + SLACK


def test_a_call_is_cancelled_while_it_connects() -> None:
    reached = threading.Event()

    def answer(connection: object) -> None:
        reached.set()
        never_answers(connection)  # type: ignore[arg-type]

    with listening(answer) as port:
        session = SFTPSession(ServerSettings("127.0.0.1", port, "device", Secret("x")))
        with ends_soon_after(reached.wait) as cancelled:
            session.download_file("x", "/tmp/never-written", cancelled=cancelled)
        session.disconnect()


@pytest.mark.parametrize("down", [True, False])
@pytest.mark.parametrize("after", [200, 900, 1_500_000, 4_000_000])
def test_a_transfer_is_cancelled_while_the_server_says_nothing(
    openssh_server: Server, tmp_path: Path, down: bool, after: int
) -> None:
    """While a channel or a file is opened, and with a full window."""
    relay = BreakingRelay((openssh_server.host, openssh_server.port))
    (openssh_server.directory / "ended").write_bytes(NEW)
    (tmp_path / "ended").write_bytes(NEW)
    with relay.running() as port, session_of(openssh_server, port=port) as session:
        session.connect()
        relay.break_at(Break(after, down, "freeze"))
        with ends_soon_after(relay.broken.wait) as cancelled:
            move(session, "ended", tmp_path, down=down, cancelled=cancelled)
        session.disconnect()
        relay.break_at(None)
    assert not (tmp_path / "dest").exists()
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".iot-sftp-")]


@pytest.mark.parametrize("down", [True, False])
def test_a_transfer_is_cancelled_while_it_waits_for_the_limit(
    openssh_server: Server, tmp_path: Path, down: bool
) -> None:
    (openssh_server.directory / "slow").write_bytes(NEW)
    (tmp_path / "slow").write_bytes(NEW)
    moving = threading.Event()
    with session_of(openssh_server) as session:
        session.connect()
        session.limit_bandwidth(1)
        with ends_soon_after(moving.wait) as cancelled:
            move(session, "slow", tmp_path, down=down, cancelled=cancelled, progress=lambda *_: moving.set())


def test_a_transfer_is_cancelled_while_new_keys_are_agreed_on(
    openssh_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server falls silent as soon as we ask for new keys."""
    relay = BreakingRelay((openssh_server.host, openssh_server.port))
    (tmp_path / "keys").write_bytes(NEW)
    asked = threading.Event()
    monkeypatch.setattr(FastPacketizer, "REKEY_BYTES", 1_000_000)
    ask = FastPacketizer._trigger_rekey

    def freeze(packetizer: FastPacketizer) -> None:
        relay.frozen.set()
        asked.set()
        ask(packetizer)  # type: ignore[call-arg] # declared as an attribute, for want of stubs

    monkeypatch.setattr(FastPacketizer, "_trigger_rekey", freeze)
    with relay.running() as port, session_of(openssh_server, port=port) as session:
        session.connect()
        with ends_soon_after(asked.wait) as cancelled:
            session.upload_file(str(tmp_path / "keys"), "dest", cancelled=cancelled)
        started = time.monotonic()
        session.disconnect()
        assert time.monotonic() - started < 25
        relay.break_at(None)


def test_a_transfer_is_cancelled_while_the_server_computes_a_hash(
    openssh_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (openssh_server.directory / "hashed").write_bytes(NEW)
    begun = threading.Event()
    told = verify_module._hash_by_shell

    def slowly(remote: object, path: str) -> bytes | None:
        begun.set()
        return told(_Slow(remote), path)  # type: ignore[arg-type]

    monkeypatch.setattr(verify_module, "_hash_by_shell", slowly)
    with session_of(openssh_server) as session:
        session.connect()
        with ends_soon_after(begun.wait) as cancelled:
            session.download_file("hashed", str(tmp_path / "dest"), verify="sha256", cancelled=cancelled)
    assert not (tmp_path / "dest").exists()


class _Slow:
    """Has the server take its time for a command."""

    def __init__(self, remote: object) -> None:
        self._remote = remote

    def __getattr__(self, name: str) -> Any:
        return getattr(self._remote, name)

    def run(self, command: str) -> bytes:
        words: bytes = self._remote.run(f"sleep 20; {command}")  # type: ignore[attr-defined]
        return words


@pytest.mark.parametrize("down", [True, False])
@pytest.mark.parametrize("after", [900, 3_000_000])
def test_a_deadline_is_kept_while_the_server_says_nothing(
    openssh_server: Server, tmp_path: Path, down: bool, after: int
) -> None:
    relay = BreakingRelay((openssh_server.host, openssh_server.port))
    (openssh_server.directory / "late").write_bytes(NEW)
    (tmp_path / "late").write_bytes(NEW)
    with relay.running() as port, session_of(openssh_server, port=port) as session:
        session.connect()
        relay.break_at(Break(after, down, "freeze"))
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            move(session, "late", tmp_path, down=down, timeout=0.8)
        assert time.monotonic() - started < 0.8 + 0.2 + SLACK
        session.disconnect()
        relay.break_at(None)
