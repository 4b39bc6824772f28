"""An unused ledger is deleted by use time; one that somebody will ask again is not unused."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.servers import free_port

from iot.sftp.client import Direction, FileVersion, Secret, ServerSettings, SFTPSession, TransportError
from iot.sftp.module._documents.orders import folder_order
from iot.sftp.module._documents.rule import Rule
from iot.sftp.module._work.delivered_versions import MovedFile
from iot.sftp.module._work.delivery_ledgers import DeliveryLedgers
from iot.sftp.module._work.delivery_tables import UNUSED_KEPT
from iot.sftp.module._work.folder_delivery import FolderDelivery
from iot.sftp.module._work.local_files import LocalRoot
from iot.sftp.module._work.servers import Servers
from iot.sftp.module._work.transfers import Transfers

VERSION = FileVersion(1, 1_700_000_000_123_456_789, 1_700_000_001_000_000_001, 7, 42)


class Clock:
    """Counts the seconds of a process, as `time.monotonic` does."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_the_ledger_of_a_rule_is_in_use_while_its_server_is_away(tmp_path: Path) -> None:
    clock = Clock()
    ledgers = DeliveryLedgers(tmp_path / "state", clock=clock)
    files = LocalRoot(tmp_path, tmp_path / "state")
    settings = ServerSettings("127.0.0.1", free_port(), "device", Secret("x"))
    servers = Servers(lambda _name, _state: None)
    servers.default.replace(SFTPSession(settings, local_files=files))
    transfers = Transfers(servers, ledgers, files)
    rule = Rule.model_validate({"name": "up", "direction": "upload", "source": "out", "dest": "in"})
    order = folder_order(Direction.UPLOAD, rule)
    delivery = FolderDelivery(order, "sftp", ledgers, files, destination=rule.dest.identity())

    def opened() -> Any:
        session: Any = SimpleNamespace(settings=settings)
        return delivery.open_ledger(session, is_careful=False)[0]

    opened().note("a", VERSION)
    for _ in range(4):
        clock.now += UNUSED_KEPT / 3
        with pytest.raises(TransportError):
            transfers.transfer_folder(
                order,
                server="sftp",
                is_careful=True,
                progress=lambda _reached: None,
                cancelled=threading.Event(),
                rule="up",
                destination=rule.dest.identity(),
            )
        ledgers.of("another rule, whose server is there")
    assert opened().knows("a", VERSION)
    servers.close()


@pytest.mark.parametrize("is_asked", [True, False])
def test_what_was_moved_is_known_for_as_long_as_somebody_may_ask(tmp_path: Path, *, is_asked: bool) -> None:
    clock = Clock()
    ledgers = DeliveryLedgers(tmp_path, clock=clock)
    ledgers.delivered.is_asked = True
    ledger = ledgers.of("a")
    ledger.note("1", VERSION)
    moved = VERSION._replace(changed=VERSION.changed and VERSION.changed + 1)
    ledger.moved_files = SimpleNamespace(of=lambda _path: MovedFile(b"done/1", moved))  # type: ignore[assignment]
    ledger.settle("1")
    assert ledgers.delivered.ledgers_of("/data/done/1", moved)
    ledgers.delivered.is_asked = is_asked
    for _ in range(4):
        clock.now += UNUSED_KEPT / 3
        ledgers.of("a")
    assert bool(ledgers.delivered.ledgers_of("/data/done/1", moved)) == is_asked
