"""The memory limit of this process, and the part of it that listings may use."""

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

# The files with the memory limit of a container, by the version of the control groups
CGROUP_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
RESOURCES = ("RLIMIT_AS", "RLIMIT_DATA")

# Bytes that the names of all calls may use together: a million names of 255 letters fit. Where the memory limit of the
# process is low, it is one PART_KEPT-th of it: there is other data, and answers in flight.
MOST_KEPT = 512 * 1024 * 1024
PART_KEPT = 4
STEP = 64 * 1024  # bytes by which a budget grows, so that not each name needs the lock of all budgets

_lock = threading.Lock()
_budgets: WeakSet[Budget] = WeakSet()


def memory_limit() -> int | None:
    """Return how many bytes this process may use, the lowest of all limits; `None` if it is unlimited.

    - That of its control group, cgroups(7), at which the kernel kills: `memory.max` of version 2 (Linux,
      Documentation/admin-guide/cgroup-v2.rst: the word `max` is unlimited), `memory.limit_in_bytes` of version 1
      (Documentation/admin-guide/cgroup-v1/memory.rst: more than any machine has is unlimited). A container sees its own
      group as the root, cgroup_namespaces(7).
    - Those of the process, getrlimit(2): of its address space, and of its data.
    - The machine's memory, sysconf(3).
    """
    limits = (*_of_control_group(), *_of_process(), *_of_machine())
    return min((limit for limit in limits if limit > 0), default=None)  # -1 and 0 stand for unlimited


def _of_control_group() -> Iterator[int]:
    for path in CGROUP_FILES:
        with suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            yield int(file.read())


def _of_process() -> Iterator[int]:
    for name in RESOURCES:
        with suppress(AttributeError, OSError, ValueError):  # not every system has both
            yield resource.getrlimit(getattr(resource, name))[0]


def _of_machine() -> Iterator[int]:
    with suppress(OSError, ValueError):
        yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def most_kept() -> int:
    """Return how many bytes the names of all calls of this process may use together."""
    limit = memory_limit()
    return MOST_KEPT if limit is None else min(MOST_KEPT, limit // PART_KEPT)


class Budget:
    """The memory that one call uses for names, out of the limit for all calls; thread-safe.

    Neither a server nor several calls at once can use up all memory. A budget counts until it is closed or garbage
    collected: whatever holds the names holds their budget.

    Attributes:
        granted: bytes that may be used without asking. Those of all calls together are never more than `most_kept`.
        is_of_call: whether it is the budget of a call, and not that of a packet that arrives for one.
    """

    def __init__(self, most: int | None = None, *, is_of_call: bool = True) -> None:
        """Start empty; `most` bytes are a limit of its own, below that of all calls."""
        self.is_of_call = is_of_call
        self._most_of_all = most_kept()
        self._most = self._most_of_all if most is None else min(most, self._most_of_all)
        self._kept = 0
        self.granted = 0
        with _lock:
            _budgets.add(self)

    @property
    def used(self) -> float:
        """The part of its own limit that is in use, from 0 to 1."""
        return self._kept / self._most

    def take(self, size: int) -> None:
        """Add so many bytes.

        Raises:
            TooLarge: the call alone would be over the limit.
            Busy: the call would be over the limit together with other calls.
        """
        with _lock:
            self._kept += size
            if self._kept <= self.granted:
                return
        if self._grant():
            return
        if self._kept <= self._most:
            gc.collect()  # the names of a failed call may only wait for their collection
            if self._grant():
                return
        raise self._refusal()

    def give_back(self, size: int) -> None:
        """Release so many bytes."""
        with _lock:
            self._kept -= size
            self.granted = min(self.granted, self._kept + STEP)

    def keep_only(self, size: int) -> None:
        """Release all but so many bytes."""
        with _lock:
            self._kept = self.granted = size

    def close(self) -> None:
        """Release everything."""
        self.keep_only(0)

    def _grant(self) -> bool:
        with _lock:
            left = self._most_of_all - sum(budget.granted for budget in _budgets if budget is not self)
            room = min(self._most, left)
            if self._kept > room:
                return False
            self.granted = min(self._kept + STEP, room)
            return True

    def _is_alone(self) -> bool:
        """Return whether no other call uses memory: to try again would not help."""
        with _lock:
            return sum(budget.is_of_call for budget in _budgets) <= 1

    def _refusal(self) -> SFTPError:
        most = f"{self._most >> 20} MiB of memory"
        if self._kept > self._most or self._is_alone():
            message = (
                f"the names take more than {most}: ask for pages of a listing, transfer the parts of a folder one by "
                "one, or allow this process more memory"
            )
            return TooLarge(message)
        message = f"the names, and those that other calls keep, take more than {most}: try again when others have ended"
        return Busy(message)
