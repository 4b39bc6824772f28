"""On a slow link with one slot, a task and a rule come to their end while calls keep coming, and so do the calls."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.clients import settings_of
from tests.servers import Server
from tests.tasks import submit

from iot.sftp.client import SFTPSession
from iot.sftp.module._app.status import Status
from iot.sftp.module._documents.rule import read_rules
from iot.sftp.module._methods.dispatcher import Dispatcher
from iot.sftp.module._methods.idempotency import Idempotency
from iot.sftp.module._methods.method import MethodContext
from iot.sftp.module._rules.run import RuleContext
from iot.sftp.module._rules.runner import Rules
from iot.sftp.module._work.delivery_ledgers import DeliveryLedgers
from iot.sftp.module._work.journal import Journal
from iot.sftp.module._work.local_files import LocalRoot
from iot.sftp.module._work.server_slots import ServerSlots
from iot.sftp.module._work.servers import Servers
from iot.sftp.module._work.tasks import Tasks
from iot.sftp.module._work.transfers import Transfers

RATE = 300_000  # bytes per second
SIZE = 600_000  # two seconds of it
SLICE = 0.25  # seconds: nothing is kept of so little
PATIENCE = 60.0  # seconds


class Device:
    """A module's parts on a slow link, with one slot."""

    def __init__(self, directory: Path, server: Server) -> None:
        self.root, state = directory / "data", directory / "state"
        for path in (self.root, state):
            path.mkdir()
        files, ledgers = LocalRoot(self.root, state), DeliveryLedgers(state)
        self.servers = Servers(lambda _name, _state: None)
        session = SFTPSession(settings_of(server), local_files=files)
        session.limit_bandwidth(RATE)
        self.servers.default.replace(session)
        slots, transfers, journal = (
            ServerSlots(1, time_slice=SLICE),
            Transfers(self.servers, ledgers, files),
            Journal(state),
        )
        self.tasks = Tasks(journal, slots, transfers.work, forget=transfers.forget)
        self.dispatcher = Dispatcher(
            MethodContext(self.servers, transfers, self.tasks, Status(), files), slots, Idempotency(journal)
        )
        self.changed = threading.Event()
        self.rules = Rules(RuleContext(transfers, slots, ledgers, files), self.changed.set)
        self.tasks.start()

    async def call_until(self, holds: Callable[[], bool], source: str) -> list[float]:
        """Call one after the other, without a pause, until something holds; return how long each took."""
        durations: list[float] = []
        end = time.monotonic() + PATIENCE
        while not holds():
            started = time.monotonic()
            assert started < end, durations
            answer = await self.dispatcher.answer("download_file", {"source": source, "dest": "call"})
            assert answer.status == 200, answer
            durations.append(time.monotonic() - started)
        return durations

    def close(self) -> None:
        self.rules.stop(5)
        self.tasks.stop(5)
        self.servers.close()


@pytest.mark.parametrize("what", ["task", "rule"])
def test_neither_calls_nor_what_makes_way_for_them_starve(
    openssh_server: Server, remote: Path, tmp_path: Path, what: str
) -> None:
    (remote / "small").write_bytes(b"1")
    (remote / "from").mkdir()
    (remote / "from/large").write_bytes(os.urandom(SIZE))
    device = Device(tmp_path, openssh_server)
    source = f"{remote.name}/from"
    if what == "rule":
        section = read_rules([{"name": "r", "direction": "download", "source": source, "dest": "in", "min_age": 0}])
        assert section is not None
        device.rules.apply(section.rules)

        def has_ended() -> bool:
            return device.rules.statuses()["r"].files == 1
    else:
        task_id = submit(device.tasks, "download_files", {"source": source, "dest": "in"})

        def has_ended() -> bool:
            return bool(device.tasks.status(task_id)["status"] == "Completed")

    durations = asyncio.run(device.call_until(has_ended, f"{remote.name}/small"))
    device.close()
    assert (device.root / "in/large").read_bytes() == (remote / "from/large").read_bytes()
    assert len(durations) >= 3  # it was interrupted, more than once
    assert max(durations) < 15
