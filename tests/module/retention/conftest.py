"""A device with rules and retention, on a real server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clients import settings_of
from tests.servers import Server

from iot.sftp.client import SFTPSession
from iot.sftp.module._documents.retention import read_retention
from iot.sftp.module._documents.rule import read_rules
from iot.sftp.module._documents.template import Placeholders
from iot.sftp.module._retention.age_clock import AgeClock
from iot.sftp.module._retention.proof import Duties
from iot.sftp.module._retention.retention import Retention, RetentionContext
from iot.sftp.module._rules.run import RuleContext
from iot.sftp.module._rules.runner import Rules
from iot.sftp.module._work.delivery_ledgers import DeliveryLedgers
from iot.sftp.module._work.file_events import FileEvents
from iot.sftp.module._work.journal import Journal
from iot.sftp.module._work.local_files import LocalRoot
from iot.sftp.module._work.server_slots import ServerSlots
from iot.sftp.module._work.servers import Servers
from iot.sftp.module._work.transfers import Transfers


class Device:
    """Rules and retention, as the module puts them together; looks are made by `look`, or when there is no room."""

    def __init__(self, directory: Path, server: Server, root: Path | None = None) -> None:
        self.root, self.state = root or directory / "data", directory / "state"
        for path in (self.root, self.state):
            path.mkdir(exist_ok=True)
        files = LocalRoot(self.root, self.state)
        self.servers = Servers(lambda _name, _state: None)
        self.servers.default.replace(SFTPSession(settings_of(server), local_files=files))
        self._changed = threading.Condition()
        self.ledgers = DeliveryLedgers(self.state)
        self.journal = Journal(self.state)
        self.events = FileEvents(self.ledgers.events, self.journal.messages, lambda: None, gathering=0.0)
        self.events.is_enabled = True
        self.transfers = Transfers(self.servers, self.ledgers, files, self.events)
        context = RuleContext(self.transfers, ServerSlots(2), self.ledgers, files)
        self.rules = Rules(context, self._note)
        self.now = time.time()
        ages = AgeClock(lambda: self.now, lambda: self.now)
        duties = Duties(lambda: self.rules.in_force, self.servers, files, self.state, lambda: self.now)
        parts = RetentionContext(files, self.state, self.ledgers.delivered, duties, self.events, lambda: self.now, ages)
        self.retention = Retention(parts, period=10**6)
        self.transfers.room.make = self.retention.make_room
        self._last = 0

    def have(self, *rules: dict[str, Any]) -> None:
        section = read_rules(list(rules))
        assert section is not None
        assert (section.error, section.errors) == (None, {})
        self.rules.apply(section.rules)

    def until(self, condition: Callable[[], object], seconds: float = 100) -> None:
        """Wait until something holds: looked at whenever a rule reports, and now and then."""
        end = time.monotonic() + seconds
        with self._changed:
            while not condition():
                assert time.monotonic() < end, (self.rules.statuses(), self.retention.document())
                self._changed.wait(0.05)

    def look(self, *entries: dict[str, Any]) -> list[str | None]:
        """Put entries into force, and wait until each was looked at; return what is wrong with each."""
        self.retention.apply([])
        self.retention.apply(read_retention(list(entries), Placeholders()))
        self.until(lambda: all(each["last_look"] for each in self.retention.document()))
        return [each["problem"] for each in self.retention.document()]

    def events_of(self, outcome: str) -> list[dict[str, Any]]:
        """Return what was told of files with this outcome."""
        self.events.gather()
        messages = [json.loads(message.body) for message in self.journal.messages.unsent("files", 1000)]
        return [file for message in messages for file in message["files"] if file["outcome"] == outcome]

    def close(self) -> None:
        self.rules.stop(20)
        self.retention.stop(60)
        self.servers.close()
        self.journal.close()

    def _note(self) -> None:
        with self._changed:
            self._changed.notify_all()


@pytest.fixture
def device(openssh_server: Server, tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path, openssh_server)
    (device.root / "out").mkdir()
    yield device
    device.close()


@pytest.fixture
def remote(openssh_server: Server, tmp_path: Path) -> Path:
    """A folder of the test's own on the server; its name is the remote path."""
    folder = openssh_server.directory / f"{tmp_path.parent.name}-{tmp_path.name}"
    folder.mkdir()
    return folder
