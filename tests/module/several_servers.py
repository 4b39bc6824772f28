"""A module's parts with several servers, without a hub: what calls, tasks and rules do to each other is seen alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.clients import settings_of
from tests.servers import Server

from iot.sftp.client import SFTPSession, TimeLimits
from iot.sftp.module._app.status import Status
from iot.sftp.module._documents.rule import read_rules
from iot.sftp.module._methods.dispatcher import Dispatcher
from iot.sftp.module._methods.idempotency import Idempotency
from iot.sftp.module._methods.method import MethodContext
from iot.sftp.module._rules.limits import RuleLimits
from iot.sftp.module._rules.run import RuleContext
from iot.sftp.module._rules.runner import Rules
from iot.sftp.module._work.delivery_ledgers import DeliveryLedgers
from iot.sftp.module._work.journal import Journal
from iot.sftp.module._work.local_files import LocalRoot
from iot.sftp.module._work.server_slots import ServerSlots
from iot.sftp.module._work.servers import Servers
from iot.sftp.module._work.tasks import Tasks
from iot.sftp.module._work.transfers import Transfers

PATIENCE = 120.0  # seconds: it only bounds a test that hangs
NEVER = TimeLimits(connect=3_600, stall=3_600)  # a server that does not answer holds what it was given all the time


class Device:
    """The module's parts, with servers by their names."""

    def __init__(self, directory: Path, *, concurrency: int = 2) -> None:
        self.root, self.state = directory / "data", directory / "state"
        for path in (self.root, self.state):
            path.mkdir(exist_ok=True)
        self.files = LocalRoot(self.root, self.state)
        self.servers = Servers(lambda _name, _state: None)
        self.slots = ServerSlots(concurrency, lambda: len(self.servers.all()))
        ledgers = DeliveryLedgers(self.state)
        self.transfers = Transfers(self.servers, ledgers, self.files)
        journal = Journal(self.state)
        self.tasks = Tasks(journal, self.slots, self.transfers.work, forget=self.transfers.forget)
        context = MethodContext(self.servers, self.transfers, self.tasks, Status(), self.files)
        self.dispatcher = Dispatcher(context, self.slots, Idempotency(journal))
        self._changed = threading.Condition()
        parts = RuleContext(self.transfers, self.slots, ledgers, self.files)
        self.rules = Rules(parts, self._note, limits=RuleLimits(first_pause=0.1))
        self.tasks.start()

    def have(self, name: str, server: Server, **changes: Any) -> None:
        """Have a server, as a change of the twin would."""
        session = SFTPSession(settings_of(server, **changes), local_files=self.files)
        self.servers.add(name).replace(session)

    def run(self, *rules: Mapping[str, Any]) -> None:
        """Put rules into force."""
        section = read_rules(list(rules))
        assert section is not None
        assert (section.error, section.errors) == (None, {})
        self.rules.apply(section.rules)

    def put(self, folder: str, name: str) -> None:
        """Put a file into a folder, whole, as a program does that knows how."""
        part = self.root / ".part"
        part.write_text(name)
        part.replace(self.root / folder / name)

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until something holds: looked at whenever a rule reports, and now and then."""
        end = time.monotonic() + PATIENCE
        with self._changed:
            while not condition():
                assert time.monotonic() < end, self.rules.statuses()
                self._changed.wait(0.05)

    def close(self) -> None:
        """End everything."""
        self.servers.close()  # first: what waits for a server that does not answer ends at once
        self.rules.stop(20)
        self.tasks.stop(20)

    def _note(self) -> None:
        with self._changed:
            self._changed.notify_all()
