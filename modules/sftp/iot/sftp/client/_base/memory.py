"""The memory of this process: what it may use as far as the system tells, and the part of it that listings may take."""

from __future__ import annotations

import gc
import os
import resource
import threading
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakSet

from iot.sftp.client._base.errors import Busy, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iot.sftp.client._base.errors import SFTPError

# Where a process in a container finds its container's limit, by the version of the control groups
CGROUP_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
RESOURCES = ("RLIMIT_AS", "RLIMIT_DATA")

# Bytes that the names of all calls may take together: a million names of 255 letters fit in. Where the memory that this
# process may use is small, it is only this part of it: there are other things to keep, and answers that are on the way.
MOST_KEPT = 512 * 1024 * 1024
PART_KEPT = 4
STEP = 64 * 1024  # bytes by which a budget grows, so that not each name is settled with all other calls

_lock = threading.Lock()
_budgets: WeakSet[Budget] = WeakSet()


def memory_limit() -> int | None:
    """Return how many bytes this process may use, the smallest of all limits; `None` if there is none.

    - That of its control group, cgroups(7), at which the kernel kills: `memory.max` of version 2 (Linux,
      Documentation/admin-guide/cgroup-v2.rst: the word `max` is none), `memory.limit_in_bytes` of version 1
      (Documentation/admin-guide/cgroup-v1/memory.rst: more than any machine has is none). A container sees its own
      group in the place of the uppermost one, cgroup_namespaces(7).
    - Those of the process, getrlimit(2): of its address space, and of its data.
    - The machine's memory, sysconf(3).
    """
    limits = (*_of_control_group(), *_of_process(), *_of_machine())
    return min((limit for limit in limits if limit > 0), default=None)  # -1 and 0 stand for none


def _of_control_group() -> Iterator[int]:
    for path in CGROUP_FILES:
        with suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            yield int(file.read())


def _of_process() -> Iterator[int]:
    for name in RESOURCES:
        with suppress(AttributeError, OSError, ValueError):  # not every system has each
            yield resource.getrlimit(getattr(resource, name))[0]


def _of_machine() -> Iterator[int]:
    with suppress(OSError, ValueError):
        yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def most_kept() -> int:
    """Return how many bytes the names of all calls of this process may take together."""
    limit = memory_limit()
    return MOST_KEPT if limit is None else min(MOST_KEPT, limit // PART_KEPT)


class Budget:
    """The memory for the names that one call keeps, in one thread or several, out of what there is for all calls.

    So no server can fill all memory, nor can several calls at once. It counts until it is closed, or until nobody holds
    it any more: it is to be held by what holds the names.

    Attributes:
        granted: bytes that may be kept without asking. Those of all calls together never are more than `most_kept`.
    """

    def __init__(self) -> None:
        """Nothing is kept yet."""
        self._most = most_kept()
        self._kept = 0
        self.granted = 0
        with _lock:
            _budgets.add(self)

    def take(self, size: int) -> None:
        """Take note that so many bytes are kept.

        Raises:
            TooLarge: there never is room for so much.
            Busy: there is none beside what other calls keep.
        """
        with _lock:
            self._kept += size
            if self._kept <= self.granted:
                return
        if self._grant():
            return
        if self._kept <= self._most:
            gc.collect()  # the names of a call that broke may be in the way, and only wait to be collected
            if self._grant():
                return
        raise self._refusal()

    def give_back(self, size: int) -> None:
        """Take note that so many bytes are not kept any more."""
        with _lock:
            self._kept -= size
            self.granted = min(self.granted, self._kept + STEP)

    def keep_only(self, size: int) -> None:
        """Take note that of all that was taken so many bytes are left."""
        with _lock:
            self._kept = self.granted = size

    def close(self) -> None:
        """Take note that nothing is kept any more."""
        self.keep_only(0)

    def _grant(self) -> bool:
        with _lock:
            room = self._most - sum(budget.granted for budget in _budgets if budget is not self)
            if self._kept > room:
                return False
            self.granted = min(self._kept + STEP, room)
            return True

    def _refusal(self) -> SFTPError:
        most = f"{self._most >> 20} MiB of memory"
        if self._kept > self._most:
            message = (
                f"the names take more than {most}: ask for pages of a listing, transfer the parts of a folder one by "
                "one, or allow this process more memory"
            )
            return TooLarge(message)
        message = f"the names, and those that other calls keep, take more than {most}: try again when others have ended"
        return Busy(message)
