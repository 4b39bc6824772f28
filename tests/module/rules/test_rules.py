"""Rules: everything that appears is taken once, when it is complete, whatever goes wrong in between."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.clients import settings_of
from tests.servers import Relay, Server, openssh

from iot.sftp.client import SFTPSession, TimeLimits
from iot.sftp.module._documents.rule import NAME, Rule, read_rules
from iot.sftp.module._rules.limits import RuleLimits
from iot.sftp.module._rules.run import RuleContext
from iot.sftp.module._rules.runner import Rules
from iot.sftp.module._work.delivery_ledgers import DeliveryLedgers
from iot.sftp.module._work.delivery_tables import NAME as LEDGERS
from iot.sftp.module._work.local_files import LocalRoot
from iot.sftp.module._work.server_slots import ServerSlots
from iot.sftp.module._work.servers import Servers
from iot.sftp.module._work.slots import Kind, Turn
from iot.sftp.module._work.transfers import Transfers

OLD = 1_600_000_000
QUICK = RuleLimits(first_pause=0.1)
OFTEN = 0.1  # seconds between two runs of a rule whose document says 1, the least


class Device:
    """The parts that rules work with, on a real server."""

    def __init__(
        self,
        directory: Path,
        server: Server,
        *,
        port: int | None = None,
        concurrency: int = 2,
        limits: RuleLimits = QUICK,
    ) -> None:
        self.root, self.state = directory / "data", directory / "state"
        for path in (self.root, self.state):
            path.mkdir(exist_ok=True)
        files = LocalRoot(self.root, self.state)
        self.slots = ServerSlots(concurrency, time_slice=0.1)
        self.servers = Servers(lambda _name, _state: None)
        time_limits = TimeLimits(connect=60, stall=60)
        settings = settings_of(server, port=port or server.port, time_limits=time_limits)
        self.servers.default.replace(SFTPSession(settings, local_files=files))
        self.reports = self.reported = 0
        self._changed = threading.Condition()
        ledgers = DeliveryLedgers(self.state)
        transfers = Transfers(self.servers, ledgers, files)
        context = RuleContext(transfers, self.slots, ledgers, files)
        self.rules = Rules(context, self._note, limits=limits)

    def have(self, *rules: dict[str, Any]) -> None:
        section = read_rules(list(rules))
        assert section is not None
        assert (section.error, section.errors) == (None, {})
        self.rules.apply({name: often(rule) for name, rule in section.rules.items()})

    def until(self, condition: Callable[[], object], seconds: float = 100) -> None:
        """Wait until something holds: looked at whenever a rule reports, and now and then."""
        end = time.monotonic() + seconds
        with self._changed:
            while not condition():
                assert time.monotonic() < end, self.rules.statuses()
                self._changed.wait(0.05)

    def runs(self, outcome: str) -> int:
        """Return the number of runs that have ended so."""
        return self.rules.runs(["sftp"])["sftp", outcome]

    def close(self) -> None:
        self.rules.stop(20)
        self.servers.close()

    def _note(self) -> None:
        with self._changed:
            self.reports += 1
            self.reported = sum(status.files for status in self.rules.statuses().values())
            self._changed.notify_all()


def often(rule: Rule) -> Rule:
    return rule.model_copy(update={"every": OFTEN}) if rule.every == 1 else rule


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


def upload(remote: Path, **changes: Any) -> dict[str, Any]:
    rule = {"name": "up", "direction": "upload", "source": "out", "dest": f"{remote.name}/in"}
    return rule | {"every": 3600, "min_age": 0} | changes


def files_of(directory: Path) -> dict[str, bytes]:
    """Read what is there; a file may go meanwhile."""
    found = {}
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file() and not path.name.startswith(".iot-sftp-"):
                found[str(path.relative_to(directory))] = path.read_bytes()
    return found


def thread_of(name: str) -> threading.Thread:
    """Return the thread in which a rule runs."""
    (thread,) = (thread for thread in threading.enumerate() if thread.name == f"rule-{name}")
    return thread


def put(directory: Path, name: str, content: bytes, when: int = OLD) -> None:
    """Put a file into a folder, whole, as a program does that knows how."""
    part = directory.parent / f".{name}.part"
    part.write_bytes(content)
    os.utime(part, (when, when))
    part.rename(directory / name)


def test_what_is_there_is_sent_and_what_appears_later_by_its_event(device: Device, remote: Path) -> None:
    put(device.root / "out", "there", b"1")
    device.have(upload(remote))
    device.until(lambda: device.rules.statuses()["up"].files == 1)
    assert files_of(remote / "in") == {"there": b"1"}
    put(device.root / "out", "later", b"2")
    device.until(lambda: device.rules.statuses()["up"].files == 2)
    (device.root / "out/written").write_bytes(b"3")
    device.until(lambda: device.rules.statuses()["up"].files == 3)
    assert files_of(remote / "in") == {"there": b"1", "later": b"2", "written": b"3"}
    status = device.rules.statuses()["up"]
    assert (status.bytes, status.failed, status.code) == (3, 0, None)
    assert files_of(device.root / "out") == files_of(remote / "in")


def test_a_rule_takes_what_it_selects_and_names_it_and_keeps_what_it_replaces(device: Device, remote: Path) -> None:
    for name, when in (("a.csv", OLD), ("b.csv", OLD + 60), ("c.txt", OLD), ("draft.csv", OLD)):
        put(device.root / "out", name, name.encode(), when)
    (remote / "in").mkdir()
    (remote / "in/line-a.csv").write_bytes(b"of yesterday")
    backup = {"backup": f"{remote.name}/kept/{{stem}}"}
    device.have(
        upload(remote, include=["*.csv"], exclude=["draft*"], order="oldest", rename="line-{name}", if_exists=backup)
    )
    device.until(lambda: device.rules.statuses()["up"].files == 2)
    assert files_of(remote) == {
        "in/line-a.csv": b"a.csv",
        "in/line-b.csv": b"b.csv",
        "kept/a/line-a.csv": b"of yesterday",
    }
    put(device.root / "out", "a.csv", b"again", OLD + 1)
    device.until(lambda: device.rules.statuses()["up"].files == 3)
    assert files_of(remote / "kept") == {"a/line-a.csv": b"of yesterday", "a/line-a-1.csv": b"a.csv"}


def test_a_file_that_is_in_the_way_fails_one_file_until_it_is_gone(device: Device, remote: Path) -> None:
    put(device.root / "out", "a", b"ours")
    put(device.root / "out", "b", b"b")
    (remote / "in").mkdir()
    (remote / "in/a").write_bytes(b"a stranger's")
    device.have(upload(remote, if_exists="fail", then="delete", every=1))
    device.until(lambda: device.rules.statuses()["up"].code == "already_exists")
    assert files_of(remote / "in") == {"a": b"a stranger's", "b": b"b"}
    assert files_of(device.root / "out") == {"a": b"ours"}
    (remote / "in/a").unlink()
    device.until(lambda: device.rules.statuses()["up"].code is None)
    assert files_of(remote / "in") == {"a": b"ours", "b": b"b"}
    assert files_of(device.root / "out") == {}


def test_a_file_that_is_written_slowly_is_sent_once_when_it_is_complete(device: Device, remote: Path) -> None:
    device.have(upload(remote, min_age=0.6, then="delete"))
    device.until(lambda: device.rules.statuses()["up"].last_run)
    pause = threading.Event()
    with open(device.root / "out/slow", "wb") as file:
        for _ in range(15):
            file.write(b"a line\n")
            file.flush()
            pause.wait(0.1)
            assert not (remote / "in").exists()
    device.until(lambda: device.rules.statuses()["up"].files == 1)
    assert files_of(remote / "in") == {"slow": b"a line\n" * 15}
    assert files_of(device.root / "out") == {}


def test_a_file_renamed_into_place_is_taken_under_its_last_name_only(device: Device, remote: Path) -> None:
    device.have(upload(remote, file_pattern=".csv"))
    device.until(lambda: device.rules.statuses()["up"].last_run)
    (device.root / "out/a.part").write_bytes(b"half")
    (device.root / "out/a.part").write_bytes(b"whole")
    (device.root / "out/a.part").rename(device.root / "out/a.csv")
    device.until(lambda: device.rules.statuses()["up"].files == 1)
    assert files_of(remote / "in") == {"a.csv": b"whole"}


def test_files_that_are_deleted_meanwhile_are_no_failure(device: Device, remote: Path) -> None:
    device.have(upload(remote, then="delete"))
    for number in range(300):
        put(device.root / "out", f"kept-{number:03}", b"1")
        put(device.root / "out", f"gone-{number:03}", b"2")
        (device.root / f"out/gone-{number:03}").unlink(missing_ok=True)
    device.until(lambda: not files_of(device.root / "out"))
    device.until(lambda: device.rules.statuses()["up"].code is None)
    assert {name for name in files_of(remote / "in") if name.startswith("kept")} == {
        f"kept-{number:03}" for number in range(300)
    }
    assert device.rules.statuses()["up"].failed == 0


@pytest.mark.parametrize("then", ["keep", "delete", {"move": "out/done"}], ids=str)
def test_many_files_at_once_are_all_sent_once(device: Device, remote: Path, then: object) -> None:
    number = int(os.environ.get("SFTP_TEST_FILES", "150"))
    device.have(upload(remote, then=then, recursive=True))
    device.until(lambda: device.rules.statuses()["up"].last_run)
    for index in range(number):
        (device.root / f"out/{index:05}").write_bytes(b"%d" % index)
    device.until(lambda: device.rules.statuses()["up"].files >= number, 110)
    assert files_of(remote / "in") == {f"{index:05}": b"%d" % index for index in range(number)}
    assert device.rules.statuses()["up"].failed == 0
    if then == "keep":
        assert device.rules.statuses()["up"].bytes <= sum(len(str(index)) for index in range(number)) + 100
    if isinstance(then, dict):
        assert len(files_of(device.root / "out/done")) == number
    assert len(files_of(device.root / "out")) == (0 if then == "delete" else number)


def test_after_a_restart_only_what_has_changed_is_sent_again(
    device: Device, remote: Path, openssh_server: Server, tmp_path: Path
) -> None:
    for name in ("same", "changed", "odd \udcff"):
        put(device.root / "out", name, b"1")
    device.have(upload(remote))
    device.until(lambda: device.rules.statuses()["up"].files == 3)
    device.close()
    for path in (remote / "in").iterdir():
        path.unlink()  # the partner has taken it
    put(device.root / "out", "changed", b"12", OLD + 60)
    again = Device(tmp_path, openssh_server)
    again.have(upload(remote))
    again.until(lambda: again.rules.statuses()["up"].files == 1)
    again.close()
    assert files_of(remote / "in") == {"changed": b"12"}


def test_what_arrived_and_was_not_recorded_is_found_at_the_destination(
    device: Device, remote: Path, openssh_server: Server, tmp_path: Path
) -> None:
    put(device.root / "out", "a", b"1")
    device.have(upload(remote))
    device.until(lambda: device.rules.statuses()["up"].files == 1)
    device.close()
    before = (remote / "in/a").stat().st_ino
    for ending in ("", "-wal", "-shm"):
        (device.state / (LEDGERS + ending)).unlink(missing_ok=True)
    (device.state / LEDGERS).write_bytes(b"this is no database" * 100)
    put(device.root / "out", "b", b"2")
    again = Device(tmp_path, openssh_server)
    again.have(upload(remote))
    again.until(lambda: again.rules.statuses()["up"].files == 1)
    again.close()
    assert (remote / "in/a").stat().st_ino == before
    assert files_of(remote / "in") == {"a": b"1", "b": b"2"}
    assert len(list(device.state.glob(f"{LEDGERS}.set-aside-*Z"))) == 1


def test_a_file_that_is_gone_and_comes_again_is_sent_again(device: Device, remote: Path) -> None:
    put(device.root / "out", "a", b"1")
    device.have(upload(remote, every=1))
    device.until(lambda: device.rules.statuses()["up"].files == 1)
    (device.root / "out/a").unlink()
    runs = device.runs("completed")
    device.until(lambda: device.runs("completed") > runs)
    put(device.root / "out", "a", b"1")
    device.until(lambda: device.rules.statuses()["up"].files == 2)


def test_rules_with_different_patterns_on_one_folder_send_each_file_once(device: Device, remote: Path) -> None:
    for name in ("a.csv", "b.csv", "a.json"):
        put(device.root / "out", name, b"1")
    kinds = ("csv", "json")
    device.have(*(upload(remote, name=kind, file_pattern=f".{kind}", every=1) for kind in kinds))
    looks = 2 * 4 * len(kinds)  # more than it takes to forget a file
    device.until(lambda: device.runs("completed") >= looks, 60)
    assert {name: status.files for name, status in device.rules.statuses().items()} == {"csv": 2, "json": 1}


def test_rules_that_find_the_same_files_deliver_each_once(device: Device, remote: Path) -> None:
    for number in range(300):
        put(device.root / "out", f"{number}.csv", b"1")
    device.have(upload(remote), upload(remote, name="csv", file_pattern=".csv"))
    device.until(lambda: all(status.last_run for status in device.rules.statuses().values()))
    device.until(lambda: device.runs("completed") >= 2)
    assert sum(status.files for status in device.rules.statuses().values()) == 300


def test_rules_that_give_other_names_deliver_each_file_under_both(device: Device, remote: Path) -> None:
    put(device.root / "out", "a.csv", b"a")
    device.have(upload(remote), upload(remote, name="dated", rename="line-7-{name}"))
    device.until(lambda: files_of(remote / "in") == {"a.csv": b"a", "line-7-a.csv": b"a"})
    device.until(lambda: {status.files for status in device.rules.statuses().values()} == {1})
    device.have(upload(remote, name="as-it-is", rename="{name}"))  # which is the default, in words
    device.until(lambda: device.rules.statuses()["as-it-is"].last_run is not None)
    assert device.rules.statuses()["as-it-is"].files == 0


def test_a_touched_file_is_compared_and_a_rewritten_one_is_sent(device: Device, remote: Path) -> None:
    path = device.root / "out/a"
    put(device.root / "out", "a", b"1")
    device.have(upload(remote, every=1))
    device.until(lambda: device.rules.statuses()["up"].files == 1)
    arrived = (remote / "in/a").stat().st_ino
    path.chmod(0o600)
    runs = device.runs("completed")
    device.until(lambda: device.runs("completed") >= runs + 3)
    assert device.rules.statuses()["up"].files == 1
    assert (remote / "in/a").stat().st_ino == arrived
    path.write_bytes(b"2")
    os.utime(path, (OLD, OLD))  # as `cp -p` does: nothing but the change time tells
    device.until(lambda: files_of(remote / "in") == {"a": b"2"})


def test_another_pattern_sends_nothing_again(device: Device, remote: Path) -> None:
    for name in ("a.csv", "b.csv"):
        put(device.root / "out", name, b"1")
    device.have(upload(remote))
    device.until(lambda: device.rules.statuses()["up"].files == 2)
    put(device.root / "out", "c.csv", b"1")
    device.have(upload(remote, name="other", file_pattern=".csv"))
    device.until(lambda: device.rules.statuses()["other"].last_run)
    assert device.rules.statuses()["other"].files == 1


def test_a_mount_that_is_missing_for_a_while_makes_nothing_be_sent_again(device: Device, remote: Path) -> None:
    out, away = device.root / "out", device.root / "away"
    for name in ("a", "b"):
        put(out, name, b"1")
    device.have(upload(remote, every=1))
    device.until(lambda: device.rules.statuses()["up"].files == 2)
    out.rename(away)
    out.mkdir()  # what is under the mount
    put(out, "written-meanwhile", b"1")
    device.until(lambda: device.rules.statuses()["up"].files == 3)
    runs = device.runs("completed")
    device.until(lambda: device.runs("completed") > runs + 3)
    out.rename(device.root / "under")
    away.rename(out)
    put(out, "c", b"1")
    device.until(lambda: device.rules.statuses()["up"].files == 4)
    runs = device.runs("completed")
    device.until(lambda: device.runs("completed") > runs)
    assert device.rules.statuses()["up"].files == 4


def test_what_cannot_be_deleted_is_delivered_once_and_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rule = upload(tmp_path, direction="download", source="orders", dest="in", then="delete", every=1)
    with openssh(tmp_path / "sshd", sftp_options="-P remove") as server:
        orders = server.directory / "orders"
        orders.mkdir()
        put(orders, "a", b"1")
        device = Device(tmp_path, server)
        device.have(rule)
        device.until(lambda: device.rules.statuses()["up"].delivered == 1)
        (device.root / "in/a").unlink()  # whom it was for has taken it
        runs = device.runs("incomplete")
        device.until(lambda: device.runs("incomplete") >= runs + 3)
        status = device.rules.statuses()["up"]
        assert (status.files, status.failed, status.delivered, status.code) == (1, 1, 1, "permission_denied")
        assert (status.message or "").startswith("delivered, cannot be deleted: 1 files, the first one 'orders/a': ")
        assert status.as_properties()["state"] == "failing"
        told = [line for line in caplog.messages if line.startswith("delivered, cannot be deleted")]
        assert len(told) == 1
        put(orders, "b", b"2")  # what comes later is not held up, also while the first one cannot be deleted
        device.until(lambda: device.rules.statuses()["up"].delivered == 2)
        device.close()
        (device.root / "in/b").unlink()

        again = Device(tmp_path, server)
        again.have(rule)
        again.until(lambda: again.rules.statuses()["up"].delivered == 2)
        again.close()
        assert again.rules.statuses()["up"].files == 0
        assert files_of(device.root / "in") == {}
        for name in ("a", "b"):
            (orders / name).unlink()  # as somebody does in the end
        after = Device(tmp_path, server)
        after.have(rule)
        after.until(lambda: after.rules.statuses()["up"].last_run)
        assert after.rules.statuses()["up"].code is None
        after.close()


def test_a_rule_that_fails_backs_off_alone(device: Device, remote: Path) -> None:
    (remote / "file").write_bytes(b"")
    (device.root / "bad").mkdir()
    put(device.root / "bad", "a", b"1")
    bad = upload(remote, name="bad", source="bad", dest=f"{remote.name}/file/below")
    outside = upload(remote, name="outside", source="../..")
    device.have(bad, outside, upload(remote))
    device.until(lambda: device.rules.statuses()["bad"].code is not None)
    device.until(lambda: device.rules.statuses()["outside"].code == "path_not_allowed")
    for number in range(3):
        put(device.root / "out", f"{number}", b"1")
        device.until(lambda number=number: device.rules.statuses()["up"].files == number + 1)  # type: ignore[misc]
    status = device.rules.statuses()["bad"]
    assert status.failed == 1
    assert "'bad/a'" in (status.message or "")
    assert status.as_properties()["state"] == "failing"
    device.until(lambda: device.runs("failed") >= 6)
    (remote / "file").unlink()
    device.until(lambda: device.rules.statuses()["bad"].code is None)
    assert files_of(remote / "file/below") == {"a": b"1"}


def test_rules_go_on_when_the_server_is_back(tmp_path: Path, openssh_server: Server, remote: Path) -> None:
    relay = Relay((openssh_server.host, openssh_server.port))
    with relay.running() as port:
        device = Device(tmp_path, openssh_server, port=port)
        (device.root / "out").mkdir()
        device.have(upload(remote))
        device.until(lambda: device.rules.statuses()["up"].last_run)
    put(device.root / "out", "a", b"1")
    relay.cut()
    device.until(lambda: device.rules.statuses()["up"].code in {"unreachable", "connection_lost"})
    with relay.running() as port:
        session = SFTPSession(settings_of(openssh_server, port=port), local_files=LocalRoot(device.root, device.state))
        device.servers.default.replace(session)
        device.rules.wake("sftp")
        device.until(lambda: device.rules.statuses()["up"].files == 1)
        assert device.rules.statuses()["up"].code is None
        device.close()


def test_a_rule_that_is_removed_or_changed_ends_at_once(device: Device, remote: Path) -> None:
    with open(device.root / "out/huge", "wb") as file:
        file.truncate(3_000_000_000)
    device.have(upload(remote))
    device.until(lambda: any(path.name.startswith(".iot-sftp-") for path in remote.rglob("*")))
    former = thread_of("up")
    changed = upload(remote, dest=f"{remote.name}/elsewhere", file_pattern="small")
    started = time.monotonic()
    device.have(changed)
    assert time.monotonic() - started < 20
    put(device.root / "out", "small", b"1")
    device.until(lambda: device.rules.statuses()["up"].files == 1, 10)
    assert not former.is_alive()
    assert files_of(remote) == {"elsewhere/small": b"1"}
    kept = thread_of("up")
    device.have(changed)
    assert thread_of("up") is kept
    device.have()
    put(device.root / "out", "small too", b"1")
    kept.join(60)
    assert not kept.is_alive()
    assert files_of(remote) == {"elsewhere/small": b"1"}


def test_a_partners_folder_is_fetched_by_period(device: Device, remote: Path) -> None:
    (remote / "sub").mkdir()
    put(remote, "a", b"1")
    device.have(
        {"name": "down", "direction": "download", "source": remote.name, "dest": "in", "every": 1, "min_age": 0}
        | {"then": "delete", "recursive": True}
    )
    device.until(lambda: device.rules.statuses()["down"].files == 1)
    put(remote / "sub", "b", b"2")
    device.until(lambda: device.rules.statuses()["down"].files >= 2)
    device.until(lambda: not files_of(remote))
    assert files_of(device.root / "in")["sub/b"] == b"2"


def test_a_rule_makes_way_for_a_call_and_goes_on_afterwards(
    tmp_path: Path, openssh_server: Server, remote: Path
) -> None:
    device = Device(tmp_path, openssh_server, concurrency=1)
    (device.root / "out").mkdir()
    for index in range(1000):
        (device.root / f"out/{index:05}").write_bytes(b"1")
    device.have(upload(remote, then="delete"))
    device.until(lambda: len(os.listdir(device.root / "out")) < 990)
    came = threading.Event()
    turns: list[Turn] = []
    turns.append(device.slots.of("sftp").ask(Kind.CALL, lambda _: came.set()))
    assert came.wait(30)
    assert os.listdir(device.root / "out")
    turns[0].leave()
    device.until(lambda: not os.listdir(device.root / "out"))
    device.close()
    assert len(files_of(remote / "in")) == 1000


def test_a_folder_that_is_made_later_or_anew_is_watched(device: Device, remote: Path) -> None:
    device.have(upload(remote, source="later", every=1))
    device.until(lambda: device.rules.statuses()["up"].code == "not_found")
    assert str(device.rules.statuses()["up"].message).startswith("'later': ")
    for turn in (1, 2):
        (device.root / "later").mkdir()
        put(device.root / "later", f"{turn}-a", b"1")
        device.until(lambda turn=turn: device.rules.statuses()["up"].files == 2 * turn - 1)  # type: ignore[misc]
        put(device.root / "later", f"{turn}-b", b"1")
        device.until(lambda turn=turn: device.rules.statuses()["up"].files == 2 * turn)  # type: ignore[misc]
        (device.root / "later").rename(device.root / f"former-{turn}")


def test_a_folder_that_is_missing_for_long_is_noticed_when_it_appears(
    openssh_server: Server, tmp_path: Path, remote: Path
) -> None:
    device = Device(tmp_path, openssh_server, limits=RuleLimits(first_pause=100_000, longest_pause=100_000))
    device.have(upload(remote, source="plant/line/out", every=100_000))
    try:
        device.until(lambda: device.rules.statuses()["up"].code == "not_found")
        (device.root / "plant/other").mkdir(parents=True)
        (device.root / "plant/made").mkdir()
        put(device.root / "plant/made", "a", b"1")
        (device.root / "plant/line").mkdir()
        (device.root / "plant/made").rename(device.root / "plant/line/out")
        device.until(lambda: device.rules.statuses()["up"].files == 1)
        put(device.root / "plant/line/out", "b", b"1")
        device.until(lambda: device.rules.statuses()["up"].files == 2)
    finally:
        device.close()


def test_a_run_that_found_nothing_is_reported_seldom(device: Device, remote: Path) -> None:
    device.have(upload(remote, every=1))
    device.until(lambda: device.rules.statuses()["up"].last_run)
    reports, first = device.reports, device.rules.statuses()["up"].last_run
    device.until(lambda: device.rules.statuses()["up"].last_run != first)
    assert device.reports == reports


def test_counts_are_reported_as_often_as_is_allowed_and_in_the_end(
    tmp_path: Path, openssh_server: Server, remote: Path
) -> None:
    device = Device(tmp_path, openssh_server, limits=RuleLimits(counts_at_once=1, counts_period=1.0))
    (device.root / "out").mkdir()
    device.have(upload(remote))
    device.until(lambda: device.reports == 1)
    started = time.monotonic()
    for number in range(8):
        put(device.root / "out", f"{number}", b"1")
        device.until(lambda number=number: device.rules.statuses()["up"].files == number + 1)  # type: ignore[misc]
    device.until(lambda: device.reported == 8)
    assert device.reports <= 3 + (time.monotonic() - started)
    device.close()


# --- what is in the twin ---------------------------------------------------------------------------------------------


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(sorted(Rule.model_fields)) | st.text(), inner),
    )
)
def test_any_section_is_read_or_refused_in_words(content: Any) -> None:
    section = read_rules(content)
    if section is not None:
        assert section.rules or section.errors or section.error or content == []
        assert all(NAME.fullmatch(name) for name in (*section.rules, *section.errors))


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("name", "a.b", "'name' must be 1 to 64 letters, digits, hyphens and underscores"),
        ("name", "", "'name' must not be empty"),
        ("direction", "both", "'direction' must be 'upload' or 'download'"),
        ("source", 5, "'source' must be a string"),
        ("every", 0, "'every' must be a number of seconds from 1 to 604800"),
        ("every", True, "'every' must be a number of seconds from 1 to 604800"),
        ("min_age", -1, "'min_age' must be a number of seconds from 0 to"),
        ("then", "move", '\'then\' must be "keep", "delete" or'),
        ("if_exists", "ask", '\'if_exists\' must be "replace", "skip", "skip_same", "rename", "fail" or'),
        ("minAge", 5, "'minAge' is not known here; known are: at, between, days, dest,"),
    ],
)
def test_what_is_wrong_with_a_rule_is_told_by_its_key(key: str, value: object, words: str) -> None:
    rule = {"name": "a", "direction": "upload", "source": "a", "dest": "b"} | {key: value}
    section = read_rules([rule])
    assert section is not None
    told = section.error if key == "name" else section.errors["a"]
    assert told is not None
    assert words in told


def test_an_unwritable_state_directory_is_named_and_nothing_is_sent(device: Device, remote: Path) -> None:
    put(device.root / "out", "a", b"1")
    device.state.rmdir()
    device.state.write_bytes(b"")
    device.have(upload(remote))
    device.until(lambda: device.rules.statuses()["up"].code is not None)
    assert files_of(remote) == {}
    assert str(device.state) in (device.rules.statuses()["up"].message or "")
