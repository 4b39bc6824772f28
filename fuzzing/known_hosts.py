"""Whole known_hosts files: what a key is compared with, what is remembered, and what is forgotten again."""

from __future__ import annotations

import atexit
import tempfile
from pathlib import Path

from fuzzing.host_keys import KEY, OFFERED, SPOKEN, WORDS
from iot.sftp.client import HostKeyMismatch
from iot.sftp.client._ssh.host_keys import HostKeyPolicy
from iot.sftp.client._ssh.known_hosts import parse_line
from iot.sftp.client._ssh.known_keys import forget_all

__all__ = ["WORDS", "check"]

_directory = tempfile.TemporaryDirectory(prefix="fuzzing-")
atexit.register(_directory.cleanup)


def check(data: bytes) -> None:
    """A key is accepted or refused, the same each time; other hosts' lines stay as they are, byte by byte."""
    path = Path(_directory.name) / "known_hosts"
    path.write_bytes(data)
    forget_all()
    policy = HostKeyPolicy("host.example", 22, known_hosts=path)
    assert set(policy.wanted_types(OFFERED)) <= SPOKEN
    was_known = any(not entry.marker for entry in policy.keys.all())
    accepted = _accepts(policy)
    assert accepted == _accepts(policy)
    assert path.read_bytes().startswith(data)
    assert was_known or not accepted or policy.basis == "known"
    _learns(policy, path, data)


def _accepts(policy: HostKeyPolicy) -> bool:
    try:
        policy.check(KEY)
    except HostKeyMismatch as error:
        assert KEY.fingerprint in error.message
        return False
    return True


def _learns(policy: HostKeyPolicy, path: Path, data: bytes) -> None:
    """Learn a key: where that is refused, as it is revoked, nothing is changed."""
    before = path.read_bytes()
    learning = policy.learning()
    if not _accepts(learning):
        assert path.read_bytes() == before
        return
    assert {entry.text for entry in policy.keys.all() if not entry.marker} == {KEY.get_base64()}
    lines, kept = data.split(b"\n"), path.read_bytes().split(b"\n")
    for line in set(lines) - set(kept):
        assert not line or parse_line(line.decode("utf-8", "surrogateescape"), policy.name)
