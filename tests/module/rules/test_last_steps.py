"""What follows a delivery, and a failure, in rules: over restarts, in the status, in events and in metrics."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clients import settings_of
from tests.folders import OLD, content_of, fill
from tests.servers import Server

from iot.sftp.client import SFTPSession
from iot.sftp.module._base.token_bucket import TokenBucket
from iot.sftp.module._documents.rule import read_rules
from iot.sftp.module._rules.rule_status import RuleReporter, RuleStatus
from iot.sftp.module._rules.run import RuleContext
from iot.sftp.module._rules.worker import RuleWorker
from iot.sftp.module._work.delivery_ledgers import DeliveryLedgers
from iot.sftp.module._work.file_events import FileEvents
from iot.sftp.module._work.journal import Journal
from iot.sftp.module._work.local_files import LocalRoot
from iot.sftp.module._work.server_slots import ServerSlots
from iot.sftp.module._work.servers import Servers
from iot.sftp.module._work.transfers import Transfers


class Device:
    """What rules work with, on a real server; each run is asked for."""

    def __init__(self, directory: Path, server: Server) -> None:
        self.root, self._state, self._server = directory / "data", directory / "state", server
        for path in (self.root / "out", self._state):
            path.mkdir(parents=True)
        self.start()

    def start(self) -> None:
        files = LocalRoot(self.root, self._state)
        self._servers = Servers(lambda _name, _state: None)
        self._servers.default.replace(SFTPSession(settings_of(self._server), local_files=files))
        self._ledgers = DeliveryLedgers(self._state)
        self._journal = Journal(self._state)
        self._events = FileEvents(self._ledgers.events, self._journal.messages, lambda: None, gathering=0.0)
        self._events.is_enabled = True
        self.transfers = Transfers(self._servers, self._ledgers, files, self._events)
        self._context = RuleContext(self.transfers, ServerSlots(2), self._ledgers, files)
        self._worker: RuleWorker | None = None

    def run(self, **rule: Any) -> RuleStatus:
        section = read_rules([{"name": "r", "direction": "upload", "source": "out", "min_age": 0} | rule])
        assert section is not None
        assert (section.error, section.errors) == (None, {}), section
        if self._worker is None or self._worker.rule != section.rules["r"]:
            self._worker = RuleWorker(
                section.rules["r"], self._context, RuleReporter(lambda: None, TokenBucket(1, 1), 1)
            )
        self._worker.run_once()
        return self._worker.status

    def outcomes(self) -> list[tuple[str, str, str | None]]:
        """Return what events tell, in the order of the messages."""
        self._events.gather()
        messages = self._journal.messages.unsent("files", 100)
        files = [file for message in messages for file in json.loads(message.body)["files"]]
        return [(file["outcome"], file["source"], file["dest"]) for file in files]

    def close(self) -> None:
        self._ledgers.close()
        self._journal.close()
        self._servers.close()


@pytest.fixture
def device(openssh_server: Server, tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path, openssh_server)
    yield device
    device.close()


@pytest.fixture
def remote(openssh_server: Server, tmp_path: Path) -> Path:
    folder = openssh_server.directory / f"{tmp_path.parent.name}-{tmp_path.name}"
    folder.mkdir()
    return folder


def test_failures_are_counted_over_a_restart_and_told_in_all_places(device: Device, remote: Path) -> None:
    rule = {"dest": f"{remote.name}/in", "if_exists": "fail", "on_failure": {"after": 3, "move": "failed"}}
    fill(device.root / "out", {"a.csv": b"new"})
    fill(remote / "in", {"a.csv": b"of the partner"})
    for _ in range(2):
        status = device.run(**rule)
        assert (status.state, status.code, status.failed, status.quarantined) == ("failing", "already_exists", 1, 0)
    device.close()
    device.start()
    status = device.run(**rule)
    assert (status.state, status.failed, status.quarantined) == ("active", 0, 1)
    assert status.as_properties()["quarantined"] == 1
    assert content_of(device.root) == {"failed/a.csv": b"new"}
    told = [outcome for outcome in device.outcomes() if outcome[0] == "quarantined"]
    assert told == [("quarantined", "out/a.csv", "failed/a.csv")]
    counts = device.transfers.moves.counts(["sftp"])
    assert (counts["sftp", "upload", "quarantined"], counts["sftp", "upload", "failed"]) == (1, 0)
    fill(device.root / "out", {"a.csv": b"another one"})  # it is counted from its own first failure on
    assert device.run(**rule).failed == 1
    assert content_of(device.root) == {"failed/a.csv": b"new", "out/a.csv": b"another one"}


def test_while_the_server_is_away_no_failure_is_a_files_own(device: Device, remote: Path, tmp_path: Path) -> None:
    fill(device.root / "out", {"a.csv": b"1"})
    rule = {"dest": f"{remote.name}/in", "on_failure": {"after": 1, "move": "failed"}}
    section = settings_of(device._server, port=1)
    device._servers.default.replace(SFTPSession(section, local_files=LocalRoot(device.root, tmp_path / "state")))
    for _ in range(3):
        assert device.run(**rule).code == "unreachable"
    assert content_of(device.root) == {"out/a.csv": b"1"}


def test_a_marker_that_cannot_be_written_fails_the_rule_until_it_can_and_sends_nothing_twice(
    device: Device, remote: Path
) -> None:
    marker = {"wait": "{stem}.ok", "write": "{name}.done", "checksum": "{name}.sha256"}
    rule = {"dest": f"{remote.name}/in", "then": "delete", "marker": marker, "if_exists": "rename"}
    fill(device.root / "out", {"a.csv": b"1", "a.ok": b"", "b.csv": b"2"})
    (remote / "in/a.csv.done").mkdir(parents=True)
    (remote / "in/a.csv.done/in the way").touch()
    status = device.run(**rule)
    assert (status.state, status.failed, status.files) == ("failing", 1, 0)
    assert "nothing was replaced" in str(status.message)
    (remote / "in/a.csv.done/in the way").unlink()
    (remote / "in/a.csv.done").rmdir()
    status = device.run(**rule)
    assert (status.state, status.files) == ("active", 1)
    assert content_of(device.root) == {"out/b.csv": b"2"}
    assert set(content_of(remote)) == {"in/a.csv", "in/a.csv.done", "in/a.csv.sha256"}


def test_what_arrived_just_before_a_crash_gets_its_markers_and_is_not_sent_again(device: Device, remote: Path) -> None:
    """The record of the delivery is lost, so that the bytes at the destination are all that is known."""
    put = {"dest": f"{remote.name}/in", "then": "keep", "if_exists": "rename"}
    fill(device.root / "out", {"a.csv": b"1"})
    assert device.run(**put).files == 1
    device.close()
    for path in device._state.glob("rules.sqlite3*"):
        path.unlink()
    arrived = os.stat(remote / "in/a.csv").st_ino
    device.start()
    status = device.run(**put, marker={"checksum": "{name}.sha256"})
    assert (status.state, status.files) == ("active", 0)
    assert set(content_of(remote)) == {"in/a.csv", "in/a.csv.sha256"}
    assert os.stat(remote / "in/a.csv").st_ino == arrived


def test_a_rule_that_is_told_to_write_markers_later_leaves_what_was_delivered_before(
    device: Device, remote: Path
) -> None:
    fill(device.root / "out", {"a.csv": b"1"}, OLD)
    rule = {"dest": f"{remote.name}/in"}
    assert device.run(**rule).files == 1
    assert device.run(**rule, marker={"write": "{name}.done"}).files == 0
    assert set(content_of(remote)) == {"in/a.csv"}
