"""Why the state directory cannot be used: told by the directory itself, where SQLite does not tell."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from iot.sftp.client import NoSpace, PermissionDenied
from iot.sftp.module._state_directory import TRIAL_SIZE, inode, try_to_write, why_unusable

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
