"""The clock that ages are measured with: only one that is known to be set counts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from iot.sftp.client._files.file_version import SECOND, FileVersion
from iot.sftp.module._documents.template_parts import CLOCK_STARTS

if TYPE_CHECKING:
    from collections.abc import Callable

STEP = 60.0  # seconds by which a clock that is only adjusted does not run away from the other one
SETTLING = 3_600.0  # seconds after a step, until it is believed: it may be set back
# Devices without a battery begin in 1970, 1980 or 2000: a file whose change time is of then was written by such a clock
UNSET_BEFORE = 1_420_070_400 * SECOND  # 2015-01-01


def running_time() -> float:
    """Return seconds that are never set; those of a suspended device count, where the system counts them."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class AgeClock:
    """Gives the time for ages, unless it is not to be trusted; used by one thread.

    A clock that steps, for example to 2036, would make all files too old at once. So after a step of more than a minute
    ages do not count for an hour.
    """

    def __init__(self, clock: Callable[[], float] = time.time, running: Callable[[], float] = running_time) -> None:
        """Take the clocks.

        Parameters:
            clock: gives the time in seconds since 1970, and may be set.
            running: counts seconds, and is never set.
        """
        self._clock = clock
        self._running = running
        self._offset = clock() - running()
        self._stepped: float | None = None  # when, in seconds of `running`

    def now(self) -> int | None:
        """Return nanoseconds since 1970; `None` if they are not to be trusted."""
        now, running = self._clock(), self._running()
        offset = now - running
        if abs(offset - self._offset) > STEP:
            self._stepped = running
        self._offset = offset
        if now < CLOCK_STARTS or (self._stepped is not None and running - self._stepped < SETTLING):
            return None
        return int(now * SECOND)


def has_known_age(version: FileVersion) -> bool:
    """Return whether a file was not written while the clock was not set yet.

    An old modification time alone proves nothing: copies keep that of the original. The change time is of the device.
    """
    return version.changed is None or version.changed >= UNSET_BEFORE
