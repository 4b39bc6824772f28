"""What became of files is told in batches: each at least once, and a week without the hub takes a bounded room."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from iot.sftp.client import FileOutcome, FileVersion, PermissionDenied
from iot.sftp.module._work.delivery_ledger import DeliveryLedger
from iot.sftp.module._work.delivery_ledgers import DeliveryLedgers
from iot.sftp.module._work.delivery_tables import NAME
from iot.sftp.module._work.file_events import FileEvents
from iot.sftp.module._work.journal import NAME as JOURNAL
from iot.sftp.module._work.journal import Journal
from iot.sftp.module._work.message_store import Bound, MessageLimits, MessageStore

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/schemas/files.schema.json").read_text())
RULE = {"server": "sftp", "direction": "upload", "rule": "daily"}
VERSION = FileVersion(10, 1_700_000_000_000_000_000, None, 1, 2)


class Device:
    """The ledgers and the journal of one module, and its events, which are due at once."""

    def __init__(self, directory: Path, limits: MessageLimits | None = None) -> None:
        self.ledgers = DeliveryLedgers(directory)
        self.journal = Journal(directory)
        self.store = self.journal.messages
        if limits is not None:
            self.store.limits = limits
        self.events = FileEvents(self.ledgers.events, self.store, lambda: None, gathering=0.0)
        self.events.is_enabled = True
        self.ledger: DeliveryLedger = self.ledgers.of("route")

    def take(self, origin: dict[str, Any] = RULE) -> Callable[[FileOutcome], None]:
        take = self.events.of(origin, self.ledger)
        assert take is not None
        return take

    def deliver(self, path: str, origin: dict[str, Any] = RULE, size: int = 10) -> None:
        self.take(origin)(FileOutcome(path, f"out/{path}", f"in/{path}", size, VERSION.modified))
        self.ledger.note(path, VERSION)

    def fail(self, path: str, code: str = "permission_denied") -> None:
        self.take()(FileOutcome(path, f"out/{path}", f"in/{path}", code=code, message="why"))

    def messages(self) -> list[dict[str, Any]]:
        """Gather what is due; return all that waits to be sent."""
        self.events.gather()
        documents = [json.loads(message.body) for message in self.store.unsent("files", 100_000)]
        for document in documents:
            Draft202012Validator(SCHEMA).validate(document)
        return documents

    def close(self) -> None:
        self.ledgers.close()
        self.journal.close()


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def sources(messages: list[dict[str, Any]]) -> list[str]:
    return [file["source"] for message in messages for file in message["files"]]


def test_files_of_one_rule_are_one_message(device: Device) -> None:
    device.deliver("a.csv")
    device.deliver("b.csv")
    device.fail("c.csv")
    (message,) = device.messages()
    assert {key: message[key] for key in RULE} == RULE
    first, _, third = message["files"]
    assert first.pop("at") <= third.pop("at")
    delivered = {"bytes": 10, "modified": "2023-11-14T22:13:20Z", "outcome": "delivered", "code": None}
    assert first == {"source": "out/a.csv", "dest": "in/a.csv", **delivered}
    failed = {"bytes": None, "modified": None, "outcome": "failed", "code": "permission_denied"}
    assert third == {"source": "out/c.csv", "dest": "in/c.csv", **failed}


def test_each_rule_and_each_task_has_messages_of_its_own(device: Device) -> None:
    task = {"server": "sftp", "direction": "download", "task_id": "3f"}
    for number in range(4):
        device.deliver(f"{number}.csv", task if number % 2 else RULE)
    messages = device.messages()
    assert sorted(map(sources, [[message] for message in messages])) == [
        ["out/0.csv", "out/2.csv"],
        ["out/1.csv", "out/3.csv"],
    ]


def test_a_message_has_128_kib_at_most_and_none_is_missing(device: Device) -> None:
    names = [f"{number:04}-{'é' * 1_000}.csv" for number in range(120)]
    for name in names:
        device.deliver(name)
    messages = device.messages()
    assert sources(messages) == [f"out/{name}" for name in names]
    assert len(messages) > 8
    assert all(len(message.body) <= 128 * 1024 for message in device.store.unsent("files", 1_000))
    assert len({message.message_id for message in device.store.unsent("files", 1_000)}) == len(messages)


def test_a_name_that_is_not_utf_8_and_a_time_that_no_calendar_has_are_told(device: Device) -> None:
    name = os.fsdecode(b"\xff\n.csv")
    device.take()(FileOutcome(name, name, name, 1, 10**30))
    device.ledger.note(name, VERSION)
    (message,) = device.messages()
    assert (message["files"][0]["source"], message["files"][0]["modified"]) == (name, None)


def test_a_failure_is_told_once_until_the_file_has_arrived_or_fails_otherwise(device: Device) -> None:
    for code in ("permission_denied", "permission_denied", "no_space", "no_space"):
        device.fail("a.csv", code)
    device.deliver("a.csv")
    device.fail("a.csv", "no_space")
    codes = [file["code"] for message in device.messages() for file in message["files"]]
    assert codes == ["permission_denied", "no_space", None, "no_space"]


def test_what_was_put_aside_or_has_expired_is_told_in_its_place(device: Device) -> None:
    device.events.note(RULE, FileOutcome("a", "out/a", "failed/a", 1, None, "no_space"), "quarantined")
    expired = {"server": None, "direction": None, "rule": None}
    device.events.note(expired, FileOutcome("b", "out/b", None, 1), "expired")
    told = {
        (message["rule"], file["outcome"], file["code"]) for message in device.messages() for file in message["files"]
    }
    assert told == {("daily", "quarantined", "no_space"), (None, "expired", None)}


def test_what_is_off_is_not_told_later(device: Device) -> None:
    device.events.is_enabled = False
    assert device.events.of(RULE, device.ledger) is None
    device.ledger.note("a.csv", VERSION)
    device.events.is_enabled = True
    assert device.messages() == []


def test_a_delivery_and_its_event_are_one_transaction(device: Device, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / NAME)) as connection:
        connection.execute("CREATE TRIGGER refuse BEFORE INSERT ON file_events BEGIN SELECT RAISE(ABORT, 'no'); END")
        connection.commit()
    with pytest.raises(PermissionDenied):
        device.deliver("a.csv")
    assert not device.ledger.knows("a.csv", VERSION)
    with closing(sqlite3.connect(tmp_path / NAME)) as connection:
        connection.execute("DROP TRIGGER refuse")
        connection.commit()
    device.ledger.note("a.csv", VERSION)  # as the transfer that finds it at its destination does
    assert sources(device.messages()) == ["out/a.csv"]


def test_a_failure_that_could_not_be_written_is_told_the_next_time(device: Device, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / NAME)) as connection:
        connection.execute("CREATE TRIGGER refuse BEFORE INSERT ON file_events BEGIN SELECT RAISE(ABORT, 'no'); END")
        connection.commit()
        device.fail("a.csv")
        connection.execute("DROP TRIGGER refuse")
        connection.commit()
    assert device.messages() == []
    device.fail("a.csv")
    device.fail("a.csv")
    assert sources(device.messages()) == ["out/a.csv"]


@pytest.mark.parametrize("bound, kept", [(Bound(20, 1_000_000), 20), (Bound(1_000, 2_400), 9)])
def test_while_the_journal_cannot_be_used_the_newest_are_kept_and_the_others_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bound: Bound, kept: int
) -> None:
    (tmp_path / JOURNAL).mkdir()
    device = Device(tmp_path)
    queue = device.ledgers.events
    queue.bound, queue.check_every = bound, 5
    names = [f"{number:03}.csv" for number in range(100)]
    for name in names:
        device.deliver(name)
    device.events.gather()
    assert "file events are delayed: the module's state directory" in caplog.text

    (tmp_path / JOURNAL).rmdir()
    assert sources(device.messages()) == [f"out/{name}" for name in names[-kept:]]
    assert device.store.dropped["files"] == 100 - kept
    assert "too many file events wait for the journal: the oldest 5 were dropped" in caplog.text


@pytest.mark.parametrize("step", ["read", "written"])
def test_a_crash_while_events_are_gathered_loses_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    device = Device(tmp_path)
    device.deliver("a.csv")
    add = MessageStore.add_gathered

    class Killed(BaseException):
        pass

    def crash(self: MessageStore, *arguments: Any) -> None:
        if step == "written":
            add(self, *arguments)
        raise Killed

    monkeypatch.setattr(MessageStore, "add_gathered", crash)
    with pytest.raises(Killed):
        device.events.gather()
    monkeypatch.undo()
    device.close()
    device = Device(tmp_path)
    device.deliver("b.csv")
    assert sorted(sources(device.messages())) == ["out/a.csv", "out/b.csv"]
    device.close()


def test_ledgers_that_were_made_anew_count_from_1_and_are_gathered(device: Device, tmp_path: Path) -> None:
    for number in range(3):
        device.deliver(f"{number}.csv")
    device.events.gather()
    device.ledgers.close()
    for path in tmp_path.glob(f"{NAME}*"):
        path.unlink()
    device.ledger = device.ledgers.of("route")
    device.deliver("new.csv")
    assert sources(device.messages())[-1] == "out/new.csv"


def test_a_week_without_the_hub_is_summarized_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    limits = MessageLimits(files=Bound(20, 1_000_000))
    device = Device(tmp_path, limits)
    task = {"server": "sftp", "direction": "download"}
    for minute in range(60):
        device.deliver(f"{minute}.csv")
        device.deliver(f"{minute}.txt", {**task, "task_id": f"task-{minute}"}, size=3)
        device.events.gather()
    messages = device.messages()
    assert len(messages) <= 22
    summaries = [message for message in messages if "summary" in message]
    assert sorted(message.get("rule") or "" for message in summaries) == ["", "daily"]
    told = sum(message["summary"]["outcomes"]["delivered"] for message in summaries)
    newest = [message for message in messages if "summary" not in message]
    assert told + len(newest) == 120
    assert newest[-1]["files"][0]["source"] in {"out/59.csv", "out/59.txt"}
    size = sum(message["summary"]["bytes"] for message in summaries)
    assert size + sum(message["files"][0]["bytes"] for message in newest) == 60 * 13
    assert device.store.dropped["files"] == sum(message["summary"]["messages"] for message in summaries) == told
    assert "too many messages wait for the edge hub: the oldest" in caplog.text


def test_a_message_that_may_have_arrived_is_not_summarized(tmp_path: Path) -> None:
    device = Device(tmp_path, MessageLimits(files=Bound(4, 1_000_000)))
    device.deliver("0.csv")
    device.events.gather()
    (attempted,) = device.store.unsent("files", 9)
    for number in range(1, 20):
        device.deliver(f"{number}.csv")
        device.events.gather(attempted.sequence)
    assert attempted in device.store.unsent("files", 99)


def test_rules_that_are_renamed_every_day_share_a_summary_in_the_end(tmp_path: Path) -> None:
    device = Device(tmp_path, MessageLimits(files=Bound(10, 1_000_000)))
    for number in range(130):
        device.deliver(f"{number}.csv", {**RULE, "rule": f"rule-{number}"})
        device.events.gather()
    messages = device.messages()
    assert len(messages) <= 112
    told = sum(message["summary"]["outcomes"]["delivered"] for message in messages if "summary" in message)
    assert told + sum("summary" not in message for message in messages) == 130
