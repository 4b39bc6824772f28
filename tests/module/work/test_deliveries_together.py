"""Many small files in flight per thread, with a ledger: what is recorded when, how often, and what fails."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.clients import settings_of
from tests.faulty_links import Break, BreakingRelay
from tests.folders import content_of, fill
from tests.servers import Server

from iot.sftp.client import NoSpace, SFTPSession
from iot.sftp.client._files.local_files import LocalFiles
from iot.sftp.module._base.token_bucket import TokenBucket
from iot.sftp.module._documents.rule import read_rules
from iot.sftp.module._rules.rule_status import RuleReporter, RuleStatus
from iot.sftp.module._rules.run import RuleContext
from iot.sftp.module._rules.worker import RuleWorker
from iot.sftp.module._work.delivery_ledgers import DeliveryLedgers
from iot.sftp.module._work.delivery_tables import NAME
from iot.sftp.module._work.local_files import LocalRoot
from iot.sftp.module._work.server_slots import ServerSlots
from iot.sftp.module._work.servers import Servers
from iot.sftp.module._work.sqlite_file import SQLiteFile
from iot.sftp.module._work.transfers import Transfers


class Device:
    """A rule on a real server, which has run once: from then on it need not compare what is at its destination."""

    def __init__(self, directory: Path, server: Server, remote: str, **rule: Any) -> None:
        self.state, root = directory / "state", directory / "data"
        self.source = root / "out"
        for path in (self.state, self.source):
            path.mkdir(parents=True)
        files = LocalRoot(root, self.state)
        self.ledgers = DeliveryLedgers(self.state)
        self._servers = Servers(lambda _name, _state: None)
        self._servers.default.replace(SFTPSession(settings_of(server), local_files=files))
        context = RuleContext(Transfers(self._servers, self.ledgers, files), ServerSlots(2), self.ledgers, files)
        document = {"name": "r", "direction": "upload", "source": "out", "dest": remote, "min_age": 0} | rule
        section = read_rules([document])
        assert section is not None
        self._worker = RuleWorker(section.rules["r"], context, RuleReporter(lambda: None, TokenBucket(1, 1), 1))
        fill(self.source, {"first": b""})
        self.run()

    def run(self) -> RuleStatus:
        self._worker.run_once()
        return self._worker.status

    def recorded(self) -> set[str]:
        """Return which deliveries are committed: as another connection to the file sees them."""
        with closing(sqlite3.connect(self.state / NAME)) as connection:
            return {os.fsdecode(path) for (path,) in connection.execute("SELECT path FROM deliveries")}

    def close(self) -> None:
        self._servers.close()
        self.ledgers.close()


@contextmanager
def device(directory: Path, server: Server, remote: str, **rule: Any) -> Iterator[Device]:
    running = Device(directory, server, remote, **rule)
    try:
        yield running
    finally:
        running.close()


def many(count: int) -> dict[str, bytes]:
    return {f"{number:03}": b"content of %d" % number for number in range(count)}


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Those of files of the state directory, by and by."""
    begun: list[object] = []
    transaction = SQLiteFile.transaction

    @contextmanager
    def counted(self: SQLiteFile, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        begun.append(self)
        with transaction(self, durable=durable) as connection:
            yield connection

    monkeypatch.setattr(SQLiteFile, "transaction", counted)
    return begun


def test_the_files_of_a_batch_share_a_transaction(
    openssh_server: Server, remote: Path, tmp_path: Path, transactions: list[object]
) -> None:
    files = many(500)
    with device(tmp_path, openssh_server, remote.name) as running:
        fill(running.source, files)
        transactions.clear()
        status = running.run()
        assert (status.files, status.failed) == (501, 0)
        assert running.recorded() == {"first", *files}
    assert len(transactions) <= len(files) / 16
    assert content_of(remote) == {"first": b""} | files


def test_no_file_is_deleted_before_its_delivery_is_committed(
    openssh_server: Server, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, early = many(100), list[str]()
    remove = LocalFiles.remove_version
    with device(tmp_path, openssh_server, remote.name, then="delete") as running:
        fill(running.source, files)

        def look_and_remove(self: LocalFiles, path: str, *more: Any) -> None:
            if os.path.basename(path) not in running.recorded():
                early.append(path)
            remove(self, path, *more)

        monkeypatch.setattr(LocalFiles, "remove_version", look_and_remove)
        assert running.run().failed == 0
        assert not running.recorded()
    assert not early
    assert not content_of(running.source)
    assert {name: content for name, content in content_of(remote).items() if name != "first"} == files


def test_where_the_ledger_cannot_be_written_each_file_of_the_batch_is_named_and_none_is_sent_again(
    openssh_server: Server, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = many(40)
    with device(tmp_path, openssh_server, remote.name) as running:
        fill(running.source, files)

        def refuse(_self: object, *_arguments: Any, **_options: Any) -> None:
            raise NoSpace("the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr("iot.sftp.module._work.delivery_ledger.write_record", refuse)
            status = running.run()
        assert (status.failed, status.code) == (40, "no_space")
        arrived = {name: (remote / name).stat().st_ino for name in files}
        assert not running.recorded() & set(files)
        assert running.run().failed == 0
    assert {name: (remote / name).stat().st_ino for name in files} == arrived


@pytest.mark.parametrize(
    "at, down, then",
    [
        (300, False, "keep"),
        (6_000, False, "delete"),
        (6_000, True, "keep"),
        (25_000, False, "delete"),
        (25_000, True, "delete"),
        (60_000, False, "keep"),
    ],
)
def test_each_file_arrives_once_wherever_the_link_broke(  # noqa: PLR0917 - three are parameters
    openssh_server: Server, remote: Path, tmp_path: Path, at: int, down: bool, then: str
) -> None:
    files = many(150)
    relay = BreakingRelay((openssh_server.host, openssh_server.port))
    with (
        relay.running() as port,
        device(tmp_path, replace(openssh_server, port=port), remote.name, then=then) as running,
    ):
        fill(running.source, files)
        relay.break_at(Break(at, down=down))
        status = running.run()
        assert relay.broken.is_set()
        assert (status.files, status.failed) == (151, 0)
        kept = {"first": b""} | files if then == "keep" else {}
        assert running.recorded() == set(kept)
        assert content_of(running.source) == kept
        arrived = {name: (remote / name).stat().st_ino for name in files}
        assert running.run().failed == 0
    assert {name: (remote / name).stat().st_ino for name in files} == arrived
    assert content_of(remote) == {"first": b""} | files
    assert not list(remote.rglob(".iot-sftp-*"))


def test_young_files_wait_together(openssh_server: Server, remote: Path, tmp_path: Path) -> None:
    """A version is recorded only when a further write would show in it: the moments of all are one."""
    files = many(60)
    with device(tmp_path, openssh_server, remote.name) as running:
        for name, content in files.items():
            (running.source / name).write_bytes(content)
        assert running.run().failed == 0
        assert running.recorded() == {"first", *files}
    assert content_of(remote) == {"first": b""} | files
