"""A buffer takes memory where it was used, and gives it back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from iot.sftp.client._ssh.buffers import new_buffer

MIB = 2**20


def resident() -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux")
def test_a_buffer_takes_no_memory_until_it_is_used() -> None:
    before = resident()
    buffer = new_buffer(64 * MIB)
    assert resident() - before < 16 * MIB
    assert buffer[-1] == 0
    buffer[:] = bytes(b"x" * len(buffer))
    assert resident() - before > 48 * MIB
    del buffer
    assert resident() - before < 16 * MIB


def test_a_process_without_memory_is_told_so() -> None:
    """An `OSError` would be taken for one of the network."""
    with pytest.raises(MemoryError):
        new_buffer(2**62)
