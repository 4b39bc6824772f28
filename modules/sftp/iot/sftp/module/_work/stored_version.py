"""The version of a file as SQLite takes it: its integers have a sign, and inodes may use all 64 bits."""

from __future__ import annotations

from iot.sftp.client import FileVersion
from iot.sftp.module._base.state_directory import INTEGER_MAXIMUM


def folded(version: FileVersion) -> FileVersion:
    """Return a version with all its numbers folded."""
    return FileVersion(*(signed(value) for value in version))


def signed(number: int | None) -> int | None:
    """Map 64 bits without a sign to those that SQLite takes, one to one."""
    return None if number is None else (number + INTEGER_MAXIMUM + 1) % 2**64 - INTEGER_MAXIMUM - 1
