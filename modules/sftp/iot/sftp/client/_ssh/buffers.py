"""Buffers that take memory where they have been used, and nowhere else."""

from __future__ import annotations

import mmap


def new_buffer(size: int) -> memoryview:
    """Return so many bytes, all zero; they are given back when nothing refers to them any more.

    A `bytearray` of this size is written as it is made, so that all of it is resident, for months in an idle module.

    Raises:
        MemoryError: this process has no memory left.
    """
    try:
        return memoryview(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    except OSError as error:
        raise MemoryError from error
