"""What was delivered goes when it is too old, or in the way; what was not stays, whatever rules and clocks do."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.module.retention.conftest import Device
from tests.servers import Server

from iot.sftp.client import Direction, FileOrder, FileVersion, FolderOrder, NoSpace
from iot.sftp.module._documents.retention import read_retention
from iot.sftp.module._documents.rule import read_rules
from iot.sftp.module._documents.template import Placeholders
from iot.sftp.module._retention import retention as thread_of_retention
from iot.sftp.module._retention.deletions import SHOWN
from iot.sftp.module._work.delivery_ledger import ABSENT_SCANS
from iot.sftp.module._work.delivery_ledgers import DeliveryLedgers
from iot.sftp.module._work.room import Need

DAY = 86_400


def upload(remote: Path, **changes: Any) -> dict[str, Any]:
    rule = {"name": "up", "direction": "upload", "source": "out", "dest": f"{remote.name}/in"}
    return rule | {"every": 3600, "min_age": 0, "recursive": True} | changes


def put(device: Device, *names: str, content: bytes = b"1", days: float = 0) -> None:
    for number, name in enumerate(names):
        path = device.root / "out" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        moment = device.now - days * DAY + number
        os.utime(path, (moment, moment))


def deliver(device: Device, remote: Path, count: int, **changes: Any) -> None:
    device.have(upload(remote, **changes))
    device.until(lambda: device.rules.statuses()[changes.get("name", "up")].files == count)
    device.until(lambda: device.rules.runs(["sftp"])["sftp", "completed"] > 0)


def here(device: Device, folder: str = "out") -> set[str]:
    root = device.root / folder
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_old_files_go_once_they_are_delivered_and_not_before(
    device: Device, remote: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    put(device, "old", "folder/old", days=8)
    put(device, "new", days=1)
    week = {"path": "out", "maxAge": 7 * DAY}
    assert device.look(week) == ["2 files are too old (2 files: not delivered)"]
    assert here(device) == {"old", "folder/old", "new"}
    deliver(device, remote, 3)
    assert device.look(week) == [None]
    assert here(device) == {"new"}
    assert (device.root / "out/folder").is_dir()
    told = device.events_of("expired")
    assert sorted(file["source"] for file in told) == ["out/folder/old", "out/old"]
    assert {(file["dest"], file["bytes"], file["code"]) for file in told} == {(None, 1, None)}
    assert "deleted 'out/folder/old': delivered, 1 bytes, of 20" in caplog.text
    assert device.retention.deleted.counts() == {("true",): 2, ("false",): 0}
    assert device.retention.sizes.counts()["true",] == 2
    (status,) = device.retention.document()
    assert (status["path"], status["deleted"], status["bytes"]) == ("out", 2, 2)


def test_the_oldest_go_until_the_rest_fits(device: Device, remote: Path) -> None:
    for number in range(9):
        put(device, f"{number}", content=b"12345", days=9 - number)
    deliver(device, remote, 9)
    assert device.look({"path": "out", "maxBytes": 22}) == [None]
    assert here(device) == {"5", "6", "7", "8"}
    assert device.look({"path": "out", "maxBytes": 0, "include": ["[67]", "6"]}) == [None]
    assert here(device) == {"5", "7", "8"}


def test_a_file_that_was_written_again_is_not_delivered(device: Device, remote: Path) -> None:
    put(device, "a", days=8)
    deliver(device, remote, 1)
    device.have()
    put(device, "a", days=8)  # the same bytes and times, but written again
    assert device.look({"path": "out", "maxAge": DAY}) == ["1 files are too old (1 files: not delivered)"]
    assert here(device) == {"a"}


def test_a_log_whose_last_line_is_not_delivered_stays(device: Device, remote: Path) -> None:
    put(device, "torn.log", content=b"a line\nthe beginning of one", days=8)
    put(device, "whole.log", content=b"a line\n", days=8)
    deliver(device, remote, 2, mode="append", lines=True)
    entry = {"path": "out", "maxAge": DAY}
    assert device.look(entry) == ["1 files are too old (1 files: not delivered)"]
    assert here(device) == {"torn.log"}
    device.have(upload(remote, mode="append"))  # now the rest of it too
    device.until(lambda: (remote / "in/torn.log").read_bytes() == b"a line\nthe beginning of one")
    device.until(lambda: device.rules.statuses()["up"].files == 1)
    assert device.look(entry) == [None]
    assert here(device) == set()


def test_a_file_that_is_for_two_rules_goes_when_both_have_it(device: Device, remote: Path) -> None:
    put(device, "a.csv", "b.txt", days=8)
    deliver(device, remote, 2)
    gone = upload(remote, name="archive", dest="archive", server="archive", include=["*.csv"])
    device.have(upload(remote), gone)
    assert device.look({"path": "out", "maxAge": DAY}) == [
        "1 files are too old (1 files: not delivered by the rule archive)"
    ]
    assert here(device) == {"a.csv"}
    device.have(upload(remote))
    assert device.look({"path": "out", "maxAge": DAY}) == [None]
    assert here(device) == set()


def test_what_is_gone_is_forgotten_afterwards_and_nothing_is_sent_again(device: Device, remote: Path) -> None:
    put(device, "a", "b", days=8)
    put(device, "c")
    deliver(device, remote, 3)
    assert device.look({"path": "out", "maxAge": DAY}) == [None]
    for name in "ab":
        (remote / "in" / name).unlink()  # the partner has taken them
    for _ in range(ABSENT_SCANS):
        runs = completed(device)
        device.have()
        device.have(upload(remote))
        device.until(lambda runs=runs: completed(device) > runs)  # type: ignore[misc] # of this round
    assert os.listdir(remote / "in") == ["c"]
    with device.ledgers._file.transaction() as connection:
        assert connection.execute("SELECT path FROM deliveries").fetchall() == [(b"c",)]


def completed(device: Device) -> int:
    return device.rules.runs(["sftp"])["sftp", "completed"]


def test_what_was_moved_after_its_delivery_is_delivered(device: Device, remote: Path) -> None:
    (device.root / "sent").mkdir()
    month, none = {"path": "sent", "maxAge": 30 * DAY}, {"path": "sent", "maxBytes": 0}
    device.look(month)
    put(device, "a", "folder/b", days=8)
    deliver(device, remote, 2, then={"move": "sent"})
    assert here(device, "sent") == {"a", "folder/b"}
    (device.root / "sent/stranger").write_bytes(b"1")
    assert device.look(none) == ["there are 1 bytes too many (1 files: not delivered)"]
    assert here(device, "sent") == {"stranger"}


def test_without_retention_nothing_is_remembered_of_what_was_moved(device: Device, remote: Path) -> None:
    put(device, "a")
    deliver(device, remote, 1, then={"move": "sent"})
    assert device.look({"path": "sent", "maxBytes": 0}) == ["there are 1 bytes too many (1 files: not delivered)"]


def test_what_a_task_has_delivered_is_delivered_when_it_has_ended(device: Device, remote: Path) -> None:
    put(device, "a", "b", days=8)
    device.look({"path": "out", "maxAge": 30 * DAY})
    order, cancelled = FolderOrder(Direction.UPLOAD, "out", remote.name), threading.Event()
    device.transfers.transfer_folder(
        order, server="sftp", is_careful=False, progress=lambda _: None, cancelled=cancelled, task_id="0123"
    )
    device.transfers.forget("0123")  # as at the end of a task
    put(device, "c", days=8)
    assert device.look({"path": "out", "maxAge": DAY}) == ["1 files are too old (1 files: not delivered)"]
    assert here(device) == {"c"}


def test_undelivered_files_go_only_if_asked_for_and_that_is_told(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    put(device, "a", days=8)
    assert device.look({"path": "out", "maxAge": DAY, "onlyDelivered": False}) == [None]
    assert here(device) == set()
    (told,) = device.events_of("expired")
    assert told["code"] == "not_delivered"
    (record,) = [record for record in caplog.records if record.message.startswith("deleted")]
    assert record.levelno == logging.WARNING
    assert "not delivered" in record.message
    assert device.retention.deleted.counts()["false",] == 1


def test_many_deletions_are_summed_up(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    put(device, *(f"{number}" for number in range(SHOWN + 30)), days=8)
    assert device.look({"path": "out", "maxAge": DAY, "onlyDelivered": False}) == [None]
    lines = [record.message for record in caplog.records if record.message.startswith("deleted")]
    assert len(lines) == SHOWN + 1
    assert (
        lines[-1] == f"deleted {SHOWN + 30} files of 'out', {SHOWN + 30} bytes; {SHOWN + 30} of them were not delivered"
    )


def test_a_clock_that_is_not_set_makes_no_file_old(device: Device, remote: Path) -> None:
    put(device, "a", days=8)
    deliver(device, remote, 1)
    device.now += 20 * 366 * DAY  # with the other clock: not a step. Files of the future are not old
    put(device, "b", days=-400)
    device.now -= 20 * 366 * DAY
    device.retention._context.ages._stepped = device.now
    (problem,) = device.look({"path": "out", "maxAge": DAY})
    assert problem is not None
    assert problem.startswith("ages do not count")
    assert here(device) == {"a", "b"}


def test_a_missing_folder_is_no_problem_and_one_that_leads_away_is(device: Device, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (device.root / "link").symlink_to(tmp_path / "outside")
    missing, link = ({"path": path, "maxAge": 1} for path in ("missing", "link"))
    first, second = device.look(missing, link)
    assert first is None
    assert second is not None
    assert "outside" in second
    assert device.retention.unmet == 1


def test_an_entry_that_stays_keeps_its_counts(device: Device) -> None:
    put(device, "a", days=8)
    entry = {"path": "out", "maxAge": DAY, "onlyDelivered": False}
    device.look(entry)
    kept, new = device.retention.in_force, read_retention([{"path": "in", "maxBytes": 1}], Placeholders())
    device.retention.apply((*new, *kept))
    assert [each["deleted"] for each in device.retention.document()] == [0, 1]
    device.retention.apply([])
    assert device.retention.document() == []
    device.retention.apply(kept)
    assert [each["deleted"] for each in device.retention.document()] == [0]


def test_without_entries_nobody_waits_for_room(device: Device) -> None:
    assert device.retention.make_room(Need()) is False
    device.retention.ask_for_room()


def test_without_a_free_thread_nothing_is_in_force_until_there_is_one(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    entries = read_retention([{"path": ".", "maxBytes": 0, "onlyDelivered": False}], Placeholders())
    rules = read_rules([{"name": "up", "direction": "upload", "source": ".", "dest": "in"}])
    assert rules is not None
    with monkeypatch.context() as none_left:
        none_left.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError):
            device.retention.apply(entries)
        with pytest.raises(RuntimeError):
            device.rules.apply(rules.rules)
    assert (device.retention.in_force, device.rules.in_force) == ((), {})
    (device.root / "a").write_bytes(b"1")
    device.retention.apply(entries)
    device.until(lambda: not (device.root / "a").exists())


def test_who_needs_room_does_not_wait_for_a_disk_that_hangs(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs, entered = threading.Event(), threading.Event()

    def opened_tree(*_arguments: object) -> None:
        entered.set()
        hangs.wait()
        raise OSError(5, "at last")

    monkeypatch.setattr(thread_of_retention, "opened_tree", opened_tree)
    device.retention._patience = 0.0
    device.retention.apply(read_retention([{"path": "out", "maxAge": DAY}], Placeholders()))
    entered.wait()
    try:
        assert device.retention.make_room(Need()) is False
        device.retention._patience = 100.0
        cancelled = threading.Event()
        cancelled.set()
        assert device.retention.make_room(Need(), cancelled) is False
    finally:
        hangs.set()


# --- a small disk


@pytest.fixture
def small(openssh_server: Server, tmp_path: Path) -> Iterator[Device]:
    """A device whose local root has 6 MB."""
    root = tmp_path / "small"
    root.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(root)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("only root mounts a small disk, and not everywhere")
    try:
        device = Device(tmp_path, openssh_server, root)
        (root / "out").mkdir()
        yield device
        device.close()
    finally:
        subprocess.run(["umount", "--lazy", str(root)], check=False)


def fill(device: Device, remote: Path) -> None:
    for number in range(5):
        put(device, f"{number}", content=bytes(2**20), days=5 - number)
    deliver(device, remote, 5)


def test_so_much_is_kept_free(small: Device, remote: Path) -> None:
    fill(small, remote)
    assert small.look({"path": "out", "minFree": "50%"}) == [None]
    assert here(small) == {"2", "3", "4"}
    assert small.look({"path": "out", "minFree": 4 * 2**20}) == [None]
    assert here(small) == {"3", "4"}


def test_a_name_more_of_a_file_is_not_deleted_for_space(small: Device, remote: Path) -> None:
    fill(small, remote)
    small.have()
    os.link(small.root / "out/0", small.root / "other")
    (problem,) = small.look({"path": "out", "minFree": "99%"})
    assert problem is not None
    assert "bytes are missing on the disk" in problem
    assert here(small) == {"0"}


def test_a_download_arrives_on_a_disk_full_of_delivered_files(small: Device, remote: Path) -> None:
    fill(small, remote)
    small.look({"path": "out", "maxAge": 100 * DAY})
    (remote / "from").mkdir()
    for number in range(3):
        (remote / "from" / f"new-{number}").write_bytes(os.urandom(2**20))
    fetch = {"name": "fetch", "direction": "download", "source": f"{remote.name}/from", "dest": "in", "min_age": 0}
    small.have(upload(remote), fetch)
    small.until(lambda: small.rules.statuses()["fetch"].files == 3)
    assert here(small, "in") == {"new-0", "new-1", "new-2"}
    assert small.rules.statuses()["fetch"].code is None
    assert {"0", "1"}.isdisjoint(here(small))
    assert "4" in here(small)  # no more went than had to
    assert {file["source"] for file in small.events_of("expired")} >= {"out/0", "out/1"}


def test_a_ledger_on_the_same_disk_is_read_without_a_free_block(small: Device, remote: Path) -> None:
    fill(small, remote)
    small.ledgers.close()  # which leaves one file, without those for several connections
    shutil.copytree(small.state, small.root / "state", ignore=shutil.ignore_patterns("*-shm", "*-wal"))
    ledgers = DeliveryLedgers(small.root / "state")
    with (small.root / "filler").open("wb", buffering=0) as filler:
        for size in (2**16, 2**12):
            with suppress(OSError):
                while True:
                    filler.write(bytes(size))
    with pytest.raises(NoSpace):
        ledgers.of("any")
    file = small.root / "out/0"
    version = FileVersion.of_local(file.stat())
    assert len(ledgers.delivered.ledgers_of(str(file), version)) == 1
    file.unlink()
    ledgers.of("any")
    ledgers.close()


def test_undelivered_files_are_not_in_the_way_of_a_download(small: Device, remote: Path) -> None:
    for number in range(5):
        put(small, f"{number}", content=bytes(2**20), days=5 - number)
    small.look({"path": "out", "maxAge": 100 * DAY})
    (remote / "from").mkdir()
    (remote / "from/new").write_bytes(os.urandom(2 * 2**20))
    fetch = {"name": "fetch", "direction": "download", "source": f"{remote.name}/from", "dest": "in", "min_age": 0}
    small.have(fetch)
    small.until(lambda: small.rules.statuses()["fetch"].code == "no_space")
    assert here(small) == {"0", "1", "2", "3", "4"}


def test_room_that_was_made_for_somebody_else_counts(small: Device, remote: Path) -> None:
    fill(small, remote)
    small.look({"path": "out", "maxAge": 100 * DAY})
    with small.retention._changed:  # so that both have asked before the first one is looked after
        requests = [small.retention._ask(Need(2 * 2**20)) for _ in range(2)]
    for request in requests:
        assert request is not None
        request.is_done.wait()
        assert request.has_made_room
    assert here(small) == {"2", "3", "4"}


def test_a_call_that_finds_no_room_is_tried_again(small: Device, remote: Path) -> None:
    fill(small, remote)
    small.look({"path": "out", "maxAge": 100 * DAY})
    (remote / "new").write_bytes(os.urandom(3 * 2**20))
    order = FileOrder(Direction.DOWNLOAD, f"{remote.name}/new", "new")
    small.transfers.transfer_file(order, 100, server="sftp")
    assert (small.root / "new").stat().st_size == 3 * 2**20
    assert "4" in here(small)
