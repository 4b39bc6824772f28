"""Why the state directory cannot be used: told by the directory itself, where SQLite does not tell."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from iot.sftp.client import NoSpace, PermissionDenied
from iot.sftp.module._base.state_directory import LOCK, TRIAL_SIZE, StateLock, inode, try_to_write, why_unusable

UNABLE = sqlite3.OperationalError("unable to open database file")


@pytest.fixture
def full() -> Iterator[None]:
    """Let this process write no more than half of the trial into any file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (TRIAL_SIZE // 2, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("full")
def test_a_disk_that_takes_a_part_only_is_full(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        try_to_write(tmp_path)
    reason = why_unusable(tmp_path, "for the journal", UNABLE)
    assert isinstance(reason, NoSpace)
    assert reason.message.endswith(f"{tmp_path} cannot be used for the journal: No space left on device")


@pytest.mark.parametrize("directory", ["/sys", "/dev/null", "nowhere"])
def test_a_directory_that_is_none_or_takes_nothing_is_refused(directory: str, tmp_path: Path) -> None:
    reason = why_unusable(tmp_path / directory, "for the journal", UNABLE)
    assert isinstance(reason, PermissionDenied)
    assert "unable to open" not in reason.message


def test_where_the_directory_is_well_the_words_are_those_of_sqlite(tmp_path: Path) -> None:
    assert isinstance(why_unusable(tmp_path, "", sqlite3.OperationalError("database or disk is full")), NoSpace)
    assert "unable to open database file" in why_unusable(tmp_path, "", UNABLE).message
    assert isinstance(why_unusable(tmp_path, "", FileExistsError(17, "File exists")), PermissionDenied)


def test_a_file_that_is_not_there_is_no_other_one(tmp_path: Path) -> None:
    assert inode(tmp_path / "none") is None
    assert inode(tmp_path) == (tmp_path.stat().st_dev, tmp_path.stat().st_ino)


HOLDER = """
import sys, time
from pathlib import Path
from iot.sftp.module._base.state_directory import StateLock
StateLock(Path(sys.argv[1])).check()
print("held", flush=True)
time.sleep(600)
"""


def test_the_second_one_is_told_who_has_the_directory_and_gets_it_when_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        lock = StateLock(tmp_path)
        with pytest.raises(PermissionDenied, match=rf"in use by another module \(process {holder.pid} on "):
            lock.check()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    lock.check()
    lock.check()
    with pytest.raises(PermissionDenied, match=f"process {os.getpid()} "):
        StateLock(tmp_path).check()
    lock.release()
    StateLock(tmp_path).check()


def test_a_directory_that_was_taken_away_is_locked_anew(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    lock = StateLock(state)
    lock.check()
    state.rename(tmp_path / "away")
    lock.check()  # what is wrong with it is found by whoever uses it
    state.mkdir()
    lock.check()
    with pytest.raises(PermissionDenied):
        StateLock(state).check()
    StateLock(tmp_path / "away").check()


def test_what_a_power_cut_has_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / ".iot-sftp-left").write_bytes(b"1")
    (state / ".iot-sftp-directory").mkdir()
    (state / "known_hosts").write_bytes(b"1")
    StateLock(state).check()
    assert {path.name for path in state.iterdir()} == {".iot-sftp-directory", "known_hosts", LOCK}
