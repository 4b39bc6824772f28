"""A plant: a device with a small disk, machines that write on it, a link that fails, a partner who reads on markers."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections import Counter
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from tests.clients import settings_of
from tests.servers import Relay

from iot.sftp.client import SFTPSession
from iot.sftp.module._documents.retention import read_retention
from iot.sftp.module._documents.rule import read_rules
from iot.sftp.module._documents.template import Placeholders
from iot.sftp.module._retention.age_clock import AgeClock
from iot.sftp.module._retention.proof import Duties
from iot.sftp.module._retention.retention import Retention, RetentionContext
from iot.sftp.module._rules.limits import RuleLimits
from iot.sftp.module._rules.run import RuleContext
from iot.sftp.module._rules.runner import Rules
from iot.sftp.module._work.delivery_ledgers import DeliveryLedgers
from iot.sftp.module._work.due_times import DueTimes
from iot.sftp.module._work.file_events import FileEvents
from iot.sftp.module._work.journal import Journal
from iot.sftp.module._work.local_files import LocalRoot
from iot.sftp.module._work.server_slots import ServerSlots
from iot.sftp.module._work.servers import Servers
from iot.sftp.module._work.transfers import Transfers

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.servers import Server

ZONE = ZoneInfo("Europe/Berlin")
MONDAY = datetime(2026, 11, 23, tzinfo=ZONE)
PATIENCE = 100.0  # seconds: a hang
LIMITS = RuleLimits(gathering=0.02, first_pause=0.05, longest_pause=0.2, look=0.05)


class PlantClock:
    """The plant's clock, which the test moves."""

    def __init__(self) -> None:
        self.moment = MONDAY

    def now(self) -> float:
        """Return seconds since 1970."""
        return self.moment.timestamp()

    def set(self, time_of_day: str, *, days: int = 0) -> None:
        """Go to a time of day, so many days later."""
        hour, minute = map(int, time_of_day.split(":"))
        self.moment = (self.moment + timedelta(days=days)).replace(hour=hour, minute=minute)


class Link(Relay):
    """The plant's link to the partner: while it is down, nobody gets through."""

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(target)
        self._is_down = threading.Event()

    def go_down(self) -> None:
        """Fail, for all connections."""
        self._is_down.set()
        self.cut()

    def come_back(self) -> None:
        """Work again."""
        self._is_down.clear()

    def _relay(self, client: socket.socket) -> None:
        if self._is_down.is_set():
            client.close()
        else:
            super()._relay(client)


class Device:
    """The module's parts, put together as the module does it, on a clock of the plant's."""

    def __init__(self, root: Path, state: Path, session: SFTPSession, clock: PlantClock) -> None:
        files = LocalRoot(root, state)
        self.servers = Servers(lambda _name, _state: None)
        self.servers.default.replace(session)
        self._changed = threading.Condition()
        self.ledgers = DeliveryLedgers(state)
        self.journal = Journal(state)
        self.events = FileEvents(self.ledgers.events, self.journal.messages, lambda: None, gathering=0.0)
        self.events.is_enabled = True
        transfers = Transfers(self.servers, self.ledgers, files, self.events)
        self.context = RuleContext(
            transfers, ServerSlots(4), self.ledgers, files, clock=clock.now, due_times=DueTimes(state)
        )
        self.rules = Rules(self.context, self._note, limits=LIMITS)
        duties = Duties(lambda: self.rules.in_force, self.servers, files, state, clock.now)
        ages = AgeClock(clock.now, clock.now)
        parts = RetentionContext(files, state, self.ledgers.delivered, duties, self.events, clock.now, ages)
        self.retention = Retention(parts, period=0.2)
        transfers.room.make = self.retention.make_room

    def configure(self, rules: Sequence[dict[str, Any]], retention: Sequence[dict[str, Any]]) -> None:
        """Put a desired document into force."""
        placeholders = Placeholders(zone=ZONE)
        section = read_rules(list(rules), placeholders)
        assert section is not None
        assert (section.error, section.errors) == (None, {})
        self.rules.apply(section.rules)
        self.retention.apply(read_retention(list(retention), placeholders))

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until something holds."""
        end = time.monotonic() + PATIENCE
        with self._changed:
            while not condition():
                assert time.monotonic() < end, (what, self.rules.statuses(), self.retention.document())
                self._changed.wait(0.05)

    def reported(self) -> Counter[tuple[str, str]]:
        """Return what was reported of files: outcome and source, with how often."""
        self.events.gather()
        messages = [json.loads(message.body) for message in self.journal.messages.unsent("files", 10_000)]
        return Counter((file["outcome"], file["source"]) for message in messages for file in message["files"])

    def close(self) -> None:
        """End, as the module does when it is told to."""
        self.rules.stop(20)
        self.retention.stop(20)
        self.servers.close()
        self.journal.close()
        self.ledgers.close()

    def _note(self) -> None:
        with self._changed:
            self._changed.notify_all()


class Partner:
    """Whoever reads on the server: takes a file only when its marker is there, and checks it as `sha256sum` does."""

    def __init__(self, inbox: Path, erp: Path) -> None:
        self.inbox = inbox
        self.taken: Counter[bytes] = Counter()
        self._erp = erp

    def take(self) -> None:
        """Take what has its marker away."""
        for marker in sorted(self.inbox.glob("*.done")):
            file = marker.with_suffix("")
            check = ["sha256sum", "--check", "--strict", "--quiet", f"{file.name}.sha256"]
            subprocess.run(check, cwd=self.inbox, check=True, capture_output=True)
            self.taken[file.read_bytes()] += 1
            for path in (marker, file.with_name(f"{file.name}.sha256"), file):
                path.unlink()

    def order(self, name: str, content: bytes) -> None:
        """Write an order in pieces, and its marker when it is complete."""
        with (self._erp / name).open("wb") as file:
            file.write(content[:3])
            file.flush()
            file.write(content[3:])
        (self._erp / f"{name}.ready").touch()


class Plant:
    """All of it, on one server."""

    def __init__(self, root: Path, directory: Path, server: Server, link: Link, port: int) -> None:
        self.clock = PlantClock()
        self.root = root
        self.link = link
        self.remote = server.directory / f"plant-{directory.name}"
        for folder in ("pictures", "orders", "shipments", "logs", "archive"):
            (self.remote / folder).mkdir(parents=True)
        self.partner = Partner(self.remote / "shipments", self.remote / "orders")
        self._state = directory / "state"
        self._server, self._port = server, port
        self._documents: tuple[Sequence[dict[str, Any]], Sequence[dict[str, Any]]] = ((), ())
        self.written: set[tuple[str, bytes]] = set()
        self.device = self._new_device()

    def _new_device(self) -> Device:
        self._state.mkdir(exist_ok=True)
        files = LocalRoot(self.root, self._state)
        settings = settings_of(self._server, port=self._port, state=self._state / "transfers")
        return Device(self.root, self._state, SFTPSession(settings, local_files=files), self.clock)

    def configure(self, rules: Sequence[dict[str, Any]], retention: Sequence[dict[str, Any]]) -> None:
        """Put a desired document into force."""
        self._documents = rules, retention
        self.device.configure(rules, retention)

    def restart(self) -> None:
        """End the module, and start it again on the same state directory."""
        self.device.close()
        self.device = self._new_device()
        self.device.configure(*self._documents)

    def write(self, path: str, content: bytes) -> None:
        """Write a file as a careful machine does: whole, and then under its name."""
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        hidden = self.root / f"machine-{threading.get_ident()}"
        hidden.write_bytes(content)
        os.utime(hidden, (self.clock.now(), self.clock.now()))
        hidden.replace(place)

    def append(self, path: str, content: bytes) -> None:
        """Write to the end of a file, as a logger does."""
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("ab") as file:
            file.write(content)

    def here(self, folder: str) -> set[str]:
        """Return the names in a folder of the device."""
        return {path.name for path in (self.root / folder).iterdir() if path.is_file()}

    def there(self, folder: str) -> set[str]:
        """Return the names in a folder of the server, without what is being written."""
        return {path.name for path in (self.remote / folder).iterdir() if not path.name.startswith(".iot-sftp-")}

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until something holds, while the partner takes what is ready."""

        def holds() -> bool:
            self.partner.take()
            return bool(condition())

        self.device.until(holds, what)


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[bool]:
    """Mount a file system of this size, where that is allowed."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    is_mounted = os.geteuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=False)


@contextmanager
def plant(directory: Path, server: Server, *, size: str) -> Iterator[Plant]:
    """Run a plant whose device has a disk of this size."""
    link = Link((server.host, server.port))
    with small_disk(directory / "disk", size), link.running() as port:
        for folder in ("camera", "shipments", "logs", "archive", "orders"):
            (directory / "disk" / folder).mkdir()
        running = Plant(directory / "disk", directory, server, link, port)
        try:
            yield running
        finally:
            running.device.close()
