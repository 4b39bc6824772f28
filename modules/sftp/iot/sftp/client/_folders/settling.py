"""When a version of a file is settled: a further write would show in its times.

Only a settled version may be remembered as delivered. Else one that is written in the same tick, with the same size,
would be taken for it, and be lost.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from iot.sftp.client._base.steps import TOGETHER, finish
from iot.sftp.client._files.file_version import WRONG_BY, FileVersion, Observed
from iot.sftp.client._files.local_files import UNKNOWN

if TYPE_CHECKING:
    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._base.steps import Steps

SETTLING_PAUSE, SETTLING_ATTEMPTS = 0.025, 4  # seconds: a little more than a tick of the clock for files


def settled_version(descriptor: int, deadline: Deadline) -> FileVersion | None:
    """Return a file's version when a further write would show in it: see `settling_version`."""
    return finish(settling_version(descriptor, deadline))


def settling_version(descriptor: int, deadline: Deadline) -> Steps[FileVersion | None]:
    """Return, in steps, a file's version when a further write would show in it; `None` if not so within a moment."""
    seen = Observed(UNKNOWN, time.monotonic())
    for _ in range(SETTLING_ATTEMPTS):
        version, now = FileVersion.of_local(os.fstat(descriptor)), time.monotonic()
        if version != seen.version:
            seen = Observed(version, now)
        # The change time shows any write, and cannot be set; the clock can, and may be behind it by now
        if not settles_in(seen._replace(version=version._replace(modified=None))):
            return version
        yield TOGETHER  # the moments of several files are one
        deadline.pause(max(0.0, now + SETTLING_PAUSE - time.monotonic()))
        deadline.check()
    return None


def settles_in(observed: Observed) -> float:
    """Return the seconds after which a version would show a further write; 0 if it does.

    What depends on it is whether a file is deleted: neither side's clock is trusted, but for what is days old.
    """
    return observed.version.settles_in(time.monotonic() - observed.since, skew=WRONG_BY)
