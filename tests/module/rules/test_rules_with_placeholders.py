"""Rules whose folders depend on the device, the file and the date: nothing is lost or sent twice over midnight."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from tests.clients import settings_of
from tests.servers import Server

from iot.sftp.client import SFTPSession
from iot.sftp.module._base.token_bucket import TokenBucket
from iot.sftp.module._documents.rule import read_rules
from iot.sftp.module._documents.template import Placeholders
from iot.sftp.module._rules.rule_status import RuleReporter, RuleStatus
from iot.sftp.module._rules.run import RuleContext
from iot.sftp.module._rules.worker import LAST_LOOKS, RuleWorker
from iot.sftp.module._work.delivery_ledgers import DeliveryLedgers
from iot.sftp.module._work.delivery_tables import NAME as LEDGERS
from iot.sftp.module._work.local_files import LocalRoot
from iot.sftp.module._work.server_slots import ServerSlots
from iot.sftp.module._work.servers import Servers
from iot.sftp.module._work.transfers import Transfers

HERE = Placeholders("device-42", "sftp", "plant-hub", {"line": "7"}, ZoneInfo("Europe/Berlin"))
DAILY = "{date:%Y/%m/%d}"
BEFORE_MIDNIGHT = "2026-11-28T22:59:50+00:00"
AFTER_MIDNIGHT = "2026-11-28T23:00:10+00:00"
DAY, NEXT_DAY = "2026/11/28", "2026/11/29"
OLD = 1_600_000_000


class Device:
    """What rules work with, on a real server, at a moment of the test's choice; each run is asked for."""

    def __init__(self, directory: Path, server: Server) -> None:
        self.root, self.state = directory / "data", directory / "state"
        for path in (self.root, self.root / "out", self.state):
            path.mkdir(parents=True)
        self.now = moment(BEFORE_MIDNIGHT)
        files = LocalRoot(self.root, self.state)
        self.servers = Servers(lambda _name, _state: None)
        self.servers.default.replace(SFTPSession(settings_of(server), local_files=files))
        self.ledgers = DeliveryLedgers(self.state)
        transfers = Transfers(self.servers, self.ledgers, files)
        self._context = RuleContext(transfers, ServerSlots(2), self.ledgers, files, clock=lambda: self.now)
        self._worker: RuleWorker | None = None

    def run(self, **rule: Any) -> RuleStatus:
        """Let a rule run once; another one, or one after `restart`, starts as in a new process."""
        section = read_rules([{"name": "r", "every": 3600, "min_age": 0} | rule], HERE)
        assert section is not None
        assert (section.error, section.errors) == (None, {}), section
        if self._worker is None or self._worker.rule != section.rules["r"]:
            reporter = RuleReporter(lambda: None, TokenBucket(1, 1), 1)
            self._worker = RuleWorker(section.rules["r"], self._context, reporter)
        self._worker.run_once()
        return self._worker.status

    def restart(self) -> None:
        self._worker = None

    def records(self, table: str) -> int:
        with closing(sqlite3.connect(self.state / LEDGERS)) as connection:
            return int(connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])  # noqa: S608 - the tests' own

    def forget_deliveries(self) -> None:
        """Leave what a process leaves that is killed between a delivery and its record."""
        with closing(sqlite3.connect(self.state / LEDGERS)) as connection, connection:
            connection.execute("DELETE FROM deliveries")


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def put(file: Path, content: bytes, when: int = OLD) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    os.utime(file, (when, when))


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def device(openssh_server: Server, tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path, openssh_server)
    yield device
    device.ledgers.close()
    device.servers.close()


@pytest.fixture
def remote(openssh_server: Server, tmp_path: Path) -> Path:
    folder = openssh_server.directory / f"{tmp_path.parent.name}-{tmp_path.name}"
    folder.mkdir()
    return folder


@pytest.fixture
def daily(device: Device, remote: Path) -> Callable[..., RuleStatus]:
    """Run a rule with a folder for each day."""
    rule = {"direction": "upload", "source": "out", "dest": f"{remote.name}/{DAILY}"}
    return lambda **changes: device.run(**rule | changes)


# Where files go


@pytest.mark.parametrize(
    "dest, places",
    [
        ("{deviceId}/line-{line}/", {"device-42/line-7/a.csv", "device-42/line-7/sub/deep/b"}),
        (DAILY, {f"{DAY}/a.csv", f"{DAY}/sub/deep/b"}),
        ("{folder}/" + DAILY, {f"{DAY}/a.csv", f"sub/deep/{DAY}/b"}),
        ("by-name/{stem}{ext}//{server}/", {"by-name/a.csv/sftp/a.csv", "by-name/b/sftp/sub/deep/b"}),
    ],
)
def test_each_file_goes_where_its_words_say(device: Device, remote: Path, dest: str, places: set[str]) -> None:
    put(device.root / "out/a.csv", b"1")
    put(device.root / "out/sub/deep/b", b"2")
    status = device.run(direction="upload", source="out", dest=f"{remote.name}/{dest}", recursive=True)
    assert (status.code, status.files) == (None, 2)
    assert set(files_of(remote)) == places
    assert device.run(direction="upload", source="out", dest=f"{remote.name}/{dest}", recursive=True).files == 2


def test_downloads_go_where_their_words_say(device: Device, remote: Path) -> None:
    put(remote / "device-42/a.csv", b"1")
    status = device.run(direction="download", source=f"{remote.name}/{{deviceId}}", dest="{date:%F}/{stem}")
    assert (status.code, status.files) == (None, 1)
    assert files_of(device.root) == {"2026-11-28/a/a.csv": b"1"}


def test_a_file_whose_words_make_no_name_fails_alone(device: Device, remote: Path) -> None:
    put(device.root / "out/a.csv", b"1")
    put(device.root / "out/none", b"2")
    status = device.run(direction="upload", source="out", dest=f"{remote.name}/{{ext}}")
    assert (status.code, status.files, status.failed) == ("path_not_allowed", 1, 1)
    assert files_of(remote) == {".csv/a.csv": b"1"}


# Midnight


def test_what_has_arrived_is_not_sent_again_because_the_date_is_another_one(
    device: Device, daily: Callable[..., RuleStatus], remote: Path
) -> None:
    put(device.root / "out/a", b"1")
    assert daily().files == 1
    device.now = moment(AFTER_MIDNIGHT)
    put(device.root / "out/b", b"2")
    assert daily().files == 2
    assert files_of(remote) == {f"{DAY}/a": b"1", f"{NEXT_DAY}/b": b"2"}
    put(device.root / "out/a", b"new", OLD + 1)
    assert daily().files == 3
    assert files_of(remote)[f"{NEXT_DAY}/a"] == b"new"
    assert files_of(remote)[f"{DAY}/a"] == b"1"


def test_a_touched_file_is_compared_where_it_went(
    device: Device, daily: Callable[..., RuleStatus], remote: Path
) -> None:
    put(device.root / "out/a", b"1")
    assert daily().files == 1
    device.now = moment(AFTER_MIDNIGHT)
    (device.root / "out/a").chmod(0o600)
    for _ in range(3):
        assert daily().files == 1
    assert files_of(remote) == {f"{DAY}/a": b"1"}


@pytest.mark.parametrize("then", ["keep", "delete"])
def test_what_arrived_and_was_not_recorded_is_found_in_the_folder_of_its_day(
    device: Device, daily: Callable[..., RuleStatus], remote: Path, then: str
) -> None:
    put(device.root / "out/a", b"1")
    assert daily().files == 1
    inode = (remote / DAY / "a").stat().st_ino
    device.forget_deliveries()
    device.restart()
    device.now = moment(AFTER_MIDNIGHT)
    assert daily(then=then).files == 0
    assert files_of(remote) == {f"{DAY}/a": b"1"}
    assert (remote / DAY / "a").stat().st_ino == inode
    assert files_of(device.root / "out") == ({"a": b"1"} if then == "keep" else {})


def test_what_was_begun_before_midnight_ends_in_the_folder_of_its_day(
    device: Device, daily: Callable[..., RuleStatus], remote: Path
) -> None:
    put(device.root / "out/a", b"1")
    (remote / DAY / "a").mkdir(parents=True)  # in the way
    assert daily(then="delete").code == "is_a_directory"
    (remote / DAY / "a").rmdir()
    device.restart()
    device.now = moment(AFTER_MIDNIGHT)
    assert daily(then="delete").files == 1
    assert files_of(remote) == {f"{DAY}/a": b"1"}
    assert (device.records("places"), device.records("deliveries")) == (0, 0)  # nothing is left to remember


def test_a_version_that_was_never_sent_gives_its_place_to_the_next_one(
    device: Device, daily: Callable[..., RuleStatus], remote: Path
) -> None:
    put(device.root / "out/a", b"1")
    (remote / DAY / "a").mkdir(parents=True)
    assert daily().failed == 1
    device.now = moment(AFTER_MIDNIGHT)
    put(device.root / "out/a", b"another", OLD + 1)
    assert daily().files == 1
    assert files_of(remote) == {f"{NEXT_DAY}/a": b"another"}


def test_places_are_forgotten_with_their_files(device: Device, daily: Callable[..., RuleStatus]) -> None:
    for name in ("a", "b"):
        put(device.root / "out" / name, b"1")
    assert daily().files == 2
    assert device.records("places") == 2
    (device.root / "out/a").unlink()
    for _ in range(3):
        daily()
    assert device.records("places") == 1


def test_without_a_date_no_place_is_remembered(device: Device, remote: Path) -> None:
    put(device.root / "out/a", b"1")
    assert device.run(direction="upload", source="out", dest=f"{remote.name}/{{stem}}").files == 1
    assert device.records("places") == 0


# A source for each day


def test_a_source_is_looked_at_once_more_when_its_day_is_over(device: Device, remote: Path) -> None:
    rule = {"direction": "download", "source": f"{remote.name}/{DAILY}", "dest": "in", "then": "delete"}
    put(remote / DAY / "a", b"1")
    assert device.run(**rule).files == 1
    put(remote / DAY / "late", b"2")
    put(remote / NEXT_DAY / "early", b"3")
    device.now = moment(AFTER_MIDNIGHT)
    assert device.run(**rule).files == 2
    assert set(files_of(device.root / "in")) == {"a", "late"}
    assert device.run(**rule).files == 3
    put(remote / DAY / "too-late", b"4")
    assert device.run(**rule).files == 3
    assert set(files_of(device.root / "in")) == {"a", "late", "early"}


def test_a_source_that_is_gone_when_its_day_is_over_is_no_failure(device: Device, remote: Path) -> None:
    rule = {"direction": "download", "source": f"{remote.name}/{DAILY}", "dest": "in"}
    put(remote / NEXT_DAY / "a", b"1")
    assert device.run(**rule).code == "not_found"
    device.now = moment(AFTER_MIDNIGHT)
    assert device.run(**rule).code is None
    assert device.run(**rule).files == 1


def test_a_source_in_which_files_stay_young_does_not_hold_up_the_next_one(device: Device, remote: Path) -> None:
    rule = {"direction": "download", "source": f"{remote.name}/{DAILY}", "dest": "in", "min_age": 86_400}
    put(remote / NEXT_DAY / "a", b"1")
    put(remote / DAY / "young", b"2", int(datetime.now(timezone.utc).timestamp()))
    assert device.run(**rule).files == 0
    device.now = moment(AFTER_MIDNIGHT)
    for _ in range(LAST_LOOKS):
        assert device.run(**rule).files == 0
    assert device.run(**rule).files == 1


def test_what_was_moved_on_an_earlier_day_is_not_found_again(device: Device, remote: Path) -> None:
    rule = {"direction": "download", "source": remote.name, "dest": "in", "recursive": True}
    rule["then"] = {"move": f"{remote.name}/done/{DAILY}"}
    put(remote / "a", b"1")
    assert device.run(**rule).files == 1
    device.now = moment(AFTER_MIDNIGHT)
    put(remote / "b", b"2")
    assert device.run(**rule).files == 2
    assert set(files_of(remote)) == {f"done/{DAY}/a", f"done/{NEXT_DAY}/b"}
    taken_again = [{"name": "r"} | rule | {"then": {"move": f"{remote.name}/{DAILY}"}}]
    section = read_rules(taken_again, HERE)
    assert section is not None
    assert "add a folder in front of it" in section.errors["r"]


# A clock that is not set


@pytest.mark.parametrize("key", ["source", "dest", "then"])
def test_a_rule_with_a_date_waits_for_the_clock(device: Device, remote: Path, key: str) -> None:
    rule: dict[str, Any] = {"direction": "upload", "source": "out", "dest": remote.name}
    rule[key] = {"move": DAILY} if key == "then" else f"{rule[key]}/{DAILY}"
    put(device.root / "out/a", b"1")
    put(device.root / f"out/{DAY}/b", b"2")
    device.now = 12.5
    status = device.run(**rule)
    assert status.code == "not_configured"
    assert status.message is not None
    assert status.message.startswith("{date:…} cannot be filled in, as the clock of the device is not set yet (1970-")
    assert files_of(remote) == {}
    device.now = moment(BEFORE_MIDNIGHT)
    assert (device.run(**rule).code, len(files_of(remote))) == (None, 1)


def test_a_rule_without_a_date_needs_no_clock(device: Device, remote: Path) -> None:
    put(device.root / "out/a", b"1")
    device.now = 12.5
    assert device.run(direction="upload", source="out", dest=f"{remote.name}/{{name}}").files == 1
