"""How much memory this process may use, as far as the system tells."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Where a process in a container finds its container's limit, by the version of the control groups
CGROUP_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
RESOURCES = ("RLIMIT_AS", "RLIMIT_DATA")


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
