"""Keep what the C library's allocator holds small: a module runs for months, mostly idle.

glibc raises the size from which it maps memory with each large block that is freed: the buffers of a connection (1.6
MB) come from the heap then, and small blocks that outlive them keep it large. It also has eight heaps for each core, as
threads begin. After 600 connections that broke, that was 40 MB.
"""

from __future__ import annotations

import ctypes
import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # mallopt(3)
MAPPED = 64 * 1024  # bytes: a block of this size is memory of its own, which is given back when it is freed
HEAPS = 2
THRESHOLDS = 700, 5, 1  # of `gc.set_threshold`


def keep_memory_small() -> None:
    """Bound the heaps; to be called before there are threads. Nothing happens where the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MAPPED)
        mallopt(M_ARENA_MAX, HEAPS)


@contextmanager
def imports() -> Iterator[None]:
    """Surround the imports of the process: no garbage collection looks at what they make, neither then nor later.

    That is a tenth of the time to start. And a connection ends as garbage, in a circle. With Python's own thresholds,
    and the 60,000 objects of the imports, the garbage of a hundred connections waits for a collection of all
    generations: 5 MB. Here that is made ten times as often, and takes a few milliseconds.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(*THRESHOLDS)
