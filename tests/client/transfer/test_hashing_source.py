"""The hash of an upload is that of the bytes that were sent, in whatever order that was."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot.sftp.client import TransferIncomplete
from iot.sftp.client._transfer.hashing_source import HashingSource
from iot.sftp.client._transfer.memory_file import memory_file

CONTENT = bytes(range(256)) * 40
PARTS = st.lists(st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(1, 3_000)), max_size=12)


@given(PARTS)
def test_what_is_sent_in_any_order_has_one_hash(parts: list[tuple[int, int]]) -> None:
    with memory_file(CONTENT, "a") as descriptor:
        source = HashingSource(descriptor)
        for offset, length in parts:
            buffer = bytearray(min(length, len(CONTENT) - offset))
            source.read_into(memoryview(buffer), offset)
            assert buffer == CONTENT[offset : offset + len(buffer)]
        assert source.sha256(len(CONTENT), lambda: None) == hashlib.sha256(CONTENT).hexdigest()


def test_what_was_sent_in_order_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT)
    descriptor = os.open(tmp_path / "a", os.O_RDWR)
    try:
        source = HashingSource(descriptor)
        for offset in range(0, len(CONTENT), 1_000):
            source.read_into(memoryview(bytearray(min(1_000, len(CONTENT) - offset))), offset)
        os.ftruncate(descriptor, 0)
        assert source.sha256(len(CONTENT), lambda: None) == hashlib.sha256(CONTENT).hexdigest()
        with pytest.raises(TransferIncomplete):
            source.sha256(len(CONTENT) - 1, lambda: None)
        source.end()
        with pytest.raises(TransferIncomplete):
            source.read_into(memoryview(bytearray(1)), 0)
    finally:
        os.close(descriptor)
