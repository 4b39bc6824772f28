"""Records of records transfers: a damaged one is forgotten, and gets in the way of nothing."""

from __future__ import annotations

import atexit
import hashlib
import os
import tempfile
from pathlib import Path

from fuzzing.script import Script
from iot.sftp.client import SFTPError
from iot.sftp.client._ssh.packets import encode_path
from iot.sftp.client._transfer.abandoned_transfers import clean_up_locally, clean_up_remotely
from iot.sftp.client._transfer.resume_records import SUFFIX, ResumeRecords, ResumeState

SERVER = ("h", 22, "u")
TEMPORARY = ".iot-sftp-0123456789abcdef"
WORDS = (
    *(f'"{name}": ' for name in vars(ResumeState("", [], ""))),
    *('"upload"', '"download"', '["h", 22, "u"]', f'"/{TEMPORARY}"', "\\u0000", "\\ud800", "-1", "1e999", "NaN"),
)

_directory = tempfile.TemporaryDirectory(prefix="fuzzing-")
atexit.register(_directory.cleanup)


def check(data: bytes) -> None:
    """What a record says is used where it makes sense; cleaning up goes to its end."""
    place = Path(_directory.name)
    path = place / (hashlib.sha256(repr("dest").encode()).hexdigest()[:32] + SUFFIX)
    path.write_bytes(data)
    with ResumeRecords(place).held("dest", "dest") as record:
        progress = record.load()
        if progress is not None:
            _makes_sense(progress)
            record.save(progress)
            assert record.load() == progress
    for age in (0.0, 1e6):
        if path.exists():
            os.utime(path, times=(path.stat().st_mtime - age,) * 2)
        records = ResumeRecords(place)
        clean_up_locally(records)
        for answer in (b"", b"\x00\x05\x65\x00\x00\x00\x00" * 9, b"\x00\x05\x65\x00\x00\x00\x02" * 9):
            _clean_up_remotely(records, answer)
    path.unlink(missing_ok=True)


def _makes_sense(state: ResumeState) -> None:
    assert state.contiguous >= 0
    for text in (state.dest, state.temporary, state.backup):
        encode_path(text)


def _clean_up_remotely(records: ResumeRecords, answers: bytes) -> None:
    try:
        clean_up_remotely(records, Script(answers).files(), SERVER)
    except SFTPError as error:
        assert error.code != "path_not_allowed"  # what the server refuses is another matter
