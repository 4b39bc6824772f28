"""What the checker is worth: it finds each thing that is planted, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.faults import checker as checking
from tests.faults.drive import Drive, driving
from tests.faults.faults import FAULTS, Fault
from tests.faults.report import Report
from tests.faults.scene import INBOX

HARMLESS = Fault("nothing", "nothing happens", lambda _: iter([0.0]))


@pytest.fixture(scope="module")
def drive(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drive]:
    """A device at which nothing breaks."""
    with driving(tmp_path_factory.mktemp("checker"), address, "OpenSSH", "1", Report("1")) as drive:
        yield drive


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "CLEAN_LIMIT", 0.5)


def test_nothing_is_wrong_when_nothing_happens(drive: Drive) -> None:
    assert drive.step(HARMLESS) == []


def test_a_mixture_and_a_version_of_another_file_are_found(drive: Drive) -> None:
    destination = drive.work.local[0]
    destination.path.parent.mkdir(exist_ok=True)
    content = destination.path.read_bytes() if destination.path.exists() else None
    destination.path.write_bytes(b"half of this and half of that: longer than a hash")
    (mixture,) = drive.checker.glance()
    assert "that are no version" in mixture
    destination.path.write_bytes((destination.path.parents[1] / "source-5000-0").read_bytes())
    destination.may_hold = {None}
    (other,) = drive.checker.glance()
    assert "and not one of" in other
    destination.path.write_bytes(content) if content is not None else destination.path.unlink()


def test_what_is_left_behind_is_found(drive: Drive) -> None:
    drive.step(HARMLESS)
    left = drive.work.remote[0].path.parent / ".iot-sftp-left"
    left.parent.mkdir(exist_ok=True)
    left.touch()
    assert drive.checker.quiet(HARMLESS) == [f"left behind: {left}"]
    left.unlink()


def test_a_secret_and_a_trace_in_the_log_are_found(drive: Drive) -> None:
    drive.step(HARMLESS)
    scene = drive.checker._scene
    with scene.edge.log_file.open("a") as log:
        log.write(f"<6> [INF] {scene.secrets[0]}\n<3> [ERR] Traceback (most recent call last):\n")
    wrong = drive.checker.quiet(HARMLESS)
    assert len(wrong) == 2
    assert "a secret in the log" in wrong


def test_a_call_that_is_not_answered_an_end_and_a_late_answer_are_found(drive: Drive) -> None:
    (call,) = drive.work.begin(1)
    drive.work.collect([call])
    assert drive.checker.calls([call], HARMLESS) == []
    call.ended += 100
    assert "late" in drive.checker.calls([call], HARMLESS)[0]
    call.status = 0
    assert "no answer" in drive.checker.calls([call], HARMLESS)[0]
    drive.checker._scene.tap.answered("", f"$iothub/methods/res/200/?$rid={os.getpid()}", b"")
    assert drive.checker.calls([], HARMLESS) == ["a request that was delivered 0 times was answered 1 times"]


def test_an_end_that_nobody_asked_for_is_found(drive: Drive) -> None:
    (killed,) = (fault for fault in FAULTS if fault.name == "module is killed")
    unexpected = Fault(killed.part, killed.name, killed.course, cuts_off=True)
    assert drive.step(unexpected) == ["the module ended with status -9"]


def test_what_a_rule_sends_in_part_or_loses_is_found(drive: Drive) -> None:
    scene = drive.outbox._scene
    drive.outbox.fill(1)
    (name,) = drive.outbox._contents
    assert drive.outbox.settle() == []

    drive.outbox._contents["lost.csv"] = b"whole"
    assert drive.outbox.glance() == ["the rule has lost lost.csv"]
    (scene.remote / INBOX / "lost.csv").write_bytes(b"who")
    assert drive.outbox.settle() == ["the rule has sent 3 bytes as lost.csv"]
    assert not (scene.remote / INBOX / name).exists()


def test_a_secret_that_is_written_down_is_found(drive: Drive) -> None:
    scene = drive.checker._scene
    path = scene.edge.state_directory / "notes"
    path.write_text(f"it is {scene.secrets[0]}")
    assert drive.step(HARMLESS) == [f"a secret in {path}"]
    path.unlink()


def test_memory_that_is_lost_at_each_step_is_found_and_what_is_kept_for_good_is_not() -> None:
    lost, kept, short = checking.Life(), checking.Life(), checking.Life()
    for step in range(80):
        for life, memory in ((lost, step * 2**21), (kept, min(step, 30) * 2**21)):
            life.memory.append(memory)
            life.threads.append(20)
            life.descriptors.append(20)
    short.memory += [0] * 10 + [2**30] * 10
    assert lost.growth()["memory"] > checking.GROWTH_MAXIMUM
    assert kept.growth() == {"memory": 0, "threads": 0, "descriptors": 0}
    assert short.growth() == {}
