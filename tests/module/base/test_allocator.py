"""Large blocks are given back to the system, whatever was freed before."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from iot.sftp.module._base.allocator import imports

PROGRAM = """
import ctypes
from iot.sftp.module._base.allocator import MAPPED, keep_memory_small
libc = ctypes.CDLL(None)
if not hasattr(libc, "mallinfo2"):
    raise SystemExit(77)
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
libc.mallinfo2.restype = Info
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
keep_memory_small()
for _ in range(3):
    libc.free(libc.malloc(2_000_000))  # raises glibc's own threshold, unless it is fixed
before = libc.mallinfo2().hblkhd
for _ in range(50):  # the first ones may find room in the heap
    libc.malloc(MAPPED + 1)
assert libc.mallinfo2().hblkhd > before, "not mapped"
"""  # noqa: E501 - a program


def test_blocks_are_mapped_one_by_one_however_large_others_were() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    if run.returncode == 77:
        pytest.skip("the C library is not glibc 2.33 or newer")
    assert run.returncode == 0, run.stderr


def test_what_is_imported_is_left_to_no_collection() -> None:
    kept, thresholds = gc.get_freeze_count(), gc.get_threshold()
    made = [[number] for number in range(1_000)]
    with imports():
        assert not gc.isenabled()
    try:
        assert gc.isenabled()
        assert gc.get_freeze_count() >= kept + len(made)
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
