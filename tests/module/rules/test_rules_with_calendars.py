"""Rules at work in their windows and at their times, on a real server and a clock of the test's own."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tests.clients import settings_of
from tests.servers import Server

from iot.sftp.client import SFTPSession
from iot.sftp.module._documents.rule import read_rules
from iot.sftp.module._documents.template import Placeholders
from iot.sftp.module._rules.limits import RuleLimits
from iot.sftp.module._rules.rule_status import RuleStatus
from iot.sftp.module._rules.run import RuleContext
from iot.sftp.module._rules.runner import Rules
from iot.sftp.module._work.delivery_ledgers import DeliveryLedgers
from iot.sftp.module._work.due_times import DueTimes
from iot.sftp.module._work.local_files import LocalRoot
from iot.sftp.module._work.server_slots import ServerSlots
from iot.sftp.module._work.servers import Servers
from iot.sftp.module._work.transfers import Transfers

BERLIN = ZoneInfo("Europe/Berlin")
TODAY = datetime(2026, 11, 23, tzinfo=BERLIN).timestamp()  # a Monday
HOUR, DAY = 3600, 86_400
OLD = 1_600_000_000
NIGHTS = ["22:00", "06:00"]


class Device:
    """The parts that rules work with, on a real server; rules look at the clock often."""

    def __init__(self, directory: Path, server: Server, now: float) -> None:
        self.now = now
        root, state = directory / "data", directory / "state"
        self.out = root / "out"
        for path in (self.out, state):
            path.mkdir(parents=True, exist_ok=True)
        files = LocalRoot(root, state)
        self.session = SFTPSession(settings_of(server), local_files=files)
        self.servers = Servers(lambda _name, _state: None)
        self.servers.default.replace(self.session)
        ledgers = DeliveryLedgers(state)
        self.context = RuleContext(
            Transfers(self.servers, ledgers, files),
            ServerSlots(2),
            ledgers,
            files,
            clock=lambda: self.now,
            due_times=DueTimes(state),
        )
        self._changed = threading.Condition()
        self.rules = Rules(self.context, self._note, limits=RuleLimits(first_pause=0.05, look=0.05))

    def have(self, rule: dict[str, Any]) -> None:
        section = read_rules([rule], Placeholders(zone=BERLIN))
        assert section is not None
        assert not section.errors, section.errors
        self.rules.apply(section.rules)

    @property
    def status(self) -> RuleStatus:
        return self.rules.statuses()["up"]

    @property
    def runs(self) -> int:
        return sum(self.context.runs.counts().values())

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until something holds, for as long as that may take on a busy machine."""
        end = time.monotonic() + 100
        with self._changed:
            while not condition():
                assert time.monotonic() < end, self.rules.statuses()
                self._changed.wait(0.05)

    def close(self) -> None:
        self.rules.stop(20)
        self.servers.close()

    def _note(self) -> None:
        with self._changed:
            self._changed.notify_all()


@pytest.fixture
def start(openssh_server: Server, tmp_path: Path) -> Iterator[Callable[[float], Device]]:
    """Start the module at a moment; a former one is ended."""
    devices: list[Device] = []

    def start(now: float) -> Device:
        for device in devices:
            device.close()
        devices[:] = [Device(tmp_path, openssh_server, now)]
        return devices[0]

    yield start
    for device in devices:
        device.close()


@pytest.fixture
def remote(openssh_server: Server, tmp_path: Path) -> Path:
    folder = openssh_server.directory / f"{tmp_path.parent.name}-{tmp_path.name}"
    folder.mkdir()
    return folder


def rule(remote: Path, **keys: Any) -> dict[str, Any]:
    return {"name": "up", "direction": "upload", "source": "out", "dest": remote.name, "min_age": 0} | keys


def put(directory: Path, name: str, content: bytes) -> None:
    (directory / name).write_bytes(content)
    os.utime(directory / name, (OLD, OLD))


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if not path.name.startswith(".iot-sftp-")}


def test_a_rule_waits_for_its_window_and_says_until_when(start: Callable[[float], Device], remote: Path) -> None:
    device = start(TODAY + 12 * HOUR)
    put(device.out, "a", b"1")
    device.have(rule(remote, between=NIGHTS))
    device.until(lambda: device.status.next)
    assert (device.status.state, device.status.next) == ("active", "2026-11-23T21:00:00Z")
    put(device.out, "b", b"2")
    device.now = TODAY + 22 * HOUR - 1
    assert (files_of(remote), device.status.last_run) == ({}, None)
    device.now = TODAY + 22 * HOUR
    device.until(lambda: device.status.files == 2)
    assert files_of(remote) == {"a": b"1", "b": b"2"}
    assert device.status.next is None
    device.now = TODAY + 30 * HOUR
    device.until(lambda: device.status.next == "2026-11-24T21:00:00Z")


def test_what_is_under_way_when_the_window_ends_goes_on_in_the_next_one(
    start: Callable[[float], Device], remote: Path
) -> None:
    device = start(TODAY + 30 * HOUR - 60)
    content = os.urandom(8_000_000)
    put(device.out, "large", content)
    device.session.limit_bandwidth(upload=500_000)  # a quarter of a minute, unless it is interrupted before
    device.have(rule(remote, between=NIGHTS))
    device.until(lambda: device.session.counts.uploaded > 400_000)
    device.now = TODAY + 30 * HOUR
    device.until(lambda: device.status.next == "2026-11-24T21:00:00Z")
    assert (files_of(remote), device.status.code) == ({}, None)
    device.session.limit_bandwidth(None)
    device.now = TODAY + 46 * HOUR
    device.until(lambda: device.status.files == 1)
    assert files_of(remote) == {"large": content}
    assert device.session.counts.uploaded < 1.6 * len(content)  # it was not sent from its beginning again


def test_a_rule_outlives_a_device_without_a_free_thread(
    start: Callable[[float], Device], remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, lost = threading.Thread.start, ("rule-up-window", "Observer", "InotifyBuffer", "InotifyEmitter")

    def begin_unless_lost(thread: threading.Thread) -> None:
        if thread.name == lost[0] or type(thread).__name__ in lost:
            raise RuntimeError("can't start new thread")
        begin(thread)

    device = start(TODAY + 23 * HOUR)
    put(device.out, "a", b"1")
    with monkeypatch.context() as none_left:
        none_left.setattr(threading.Thread, "start", begin_unless_lost)
        device.have(rule(remote, between=NIGHTS))
        device.until(lambda: device.status.code)
        assert device.status.code == "busy"
    device.until(lambda: device.status.files == 1)
    assert device.status.code is None


def test_a_rule_with_times_runs_at_them_and_not_because_a_file_appears(
    start: Callable[[float], Device], remote: Path
) -> None:
    device = start(TODAY)
    put(device.out, "a", b"1")
    device.have(rule(remote, at=["02:00", "14:00"]))
    device.until(lambda: device.status.next == "2026-11-23T01:00:00Z")
    device.now = TODAY + 2 * HOUR + 1
    device.until(lambda: device.status.files == 1)
    device.until(lambda: device.status.next == "2026-11-23T13:00:00Z")
    put(device.out, "b", b"2")
    device.now = TODAY + 14 * HOUR
    device.until(lambda: device.status.files == 2)
    device.until(lambda: device.status.next == "2026-11-24T01:00:00Z")
    assert device.runs == 2


def test_a_run_at_its_time_is_made_once_over_a_restart_and_made_up_for_after_one(
    start: Callable[[float], Device], remote: Path
) -> None:
    device = start(TODAY)
    device.have(rule(remote, at=["02:00"], then="delete"))
    device.until(lambda: device.status.next)
    device.now = TODAY + 2 * HOUR
    device.until(lambda: device.status.next == "2026-11-24T01:00:00Z")
    assert device.runs == 1

    device = start(TODAY + 3 * HOUR)
    put(device.out, "a", b"1")
    device.have(rule(remote, at=["02:00"], then="delete"))
    device.until(lambda: device.status.next == "2026-11-24T01:00:00Z")
    assert (device.runs, files_of(remote)) == (0, {})

    device = start(TODAY + 2 * DAY + 9 * HOUR)
    device.have(rule(remote, at=["02:00"], then="delete"))
    device.until(lambda: device.status.next == "2026-11-26T01:00:00Z")
    assert (device.runs, files_of(remote)) == (1, {"a": b"1"})


@pytest.mark.parametrize("keys", [{"at": ["02:00"]}, {"between": NIGHTS}], ids=str)
def test_while_the_clock_is_not_set_a_rule_with_times_fails_and_says_so(
    start: Callable[[float], Device], remote: Path, keys: dict[str, Any]
) -> None:
    device = start(1000.0)
    put(device.out, "a", b"1")
    device.have(rule(remote, **keys))
    device.until(lambda: device.status.code == "not_configured")
    assert str(device.status.message).startswith("the times of the rule cannot be known, as the clock of the device")
    device.now = TODAY + 12 * HOUR
    device.until(lambda: device.status.next)
    assert (device.status.state, device.status.message) == ("active", None)
    assert files_of(remote) == {}
    device.now = TODAY + 26 * HOUR
    device.until(lambda: device.status.files == 1)


def test_a_run_that_fails_at_its_time_is_made_again(start: Callable[[float], Device], remote: Path) -> None:
    device = start(TODAY)
    device.have(rule(remote, at=["02:00"], source="later"))
    device.until(lambda: device.status.next)
    device.now = TODAY + 2 * HOUR
    device.until(lambda: device.status.code == "not_found")
    later = device.out.parent / "later"
    later.mkdir()
    put(later, "a", b"1")
    device.until(lambda: device.status.files == 1)
    device.until(lambda: device.status.next == "2026-11-24T01:00:00Z")
    assert device.status.state == "active"


def test_files_that_are_too_young_at_a_time_are_waited_for_once(start: Callable[[float], Device], remote: Path) -> None:
    device = start(TODAY)
    device.have(rule(remote, at=["02:00"], min_age=0.5))
    device.until(lambda: device.status.next)
    (device.out / "young").write_bytes(b"1")
    device.now = TODAY + 2 * HOUR
    device.until(lambda: device.status.next == "2026-11-24T01:00:00Z")
    assert files_of(remote) == {"young": b"1"}
    assert device.runs <= 2
