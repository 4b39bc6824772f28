"""The retry policy: how often an operation is attempted, and the exponential backoff between two attempts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from iot.sftp.client._base.backoff import backoff
from iot.sftp.client._base.errors import Retry, ServerBusy

if TYPE_CHECKING:
    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._base.errors import SFTPError


@dataclass(frozen=True)
class RetryPolicy:
    """How often an operation is attempted, and the exponential backoff with jitter in between.

    Attributes:
        attempts: to connect at all; and to run an operation that has no deadline.
        busy_attempts: where the server turns connections away for now and the call has no deadline. With the backoff
            between them these outlast OpenSSH's shortest penalty (PerSourcePenalties, min:15s), which other clients at
            our address may have earned.
        first_pause: seconds; doubled for each attempt, the first one included.
        longest_pause: seconds.
    """

    attempts: int = 3
    busy_attempts: int = 10
    first_pause: float = 0.2
    longest_pause: float = 5.0

    def pause_after(self, attempts: int) -> float:
        """Return the seconds to wait after this many attempts."""
        return backoff(attempts + 1, first=self.first_pause, longest=self.longest_pause)


@dataclass
class Attempts:
    """The attempts of one call: how many were begun, and whether one of them had a connection."""

    policy: RetryPolicy
    begun: int = 0
    were_connected: bool = False

    def are_exhausted_by(self, failure: SFTPError, deadline: Deadline) -> bool:
        """Return whether this failure ends the call, however much time is left."""
        if failure.retry is Retry.AFTER_PAUSE:  # nothing is wrong with the connection
            return self.begun >= self.policy.attempts
        is_busy = isinstance(failure, ServerBusy)
        goes_on = (self.were_connected or is_busy) and deadline.limited
        return self.begun >= (self.policy.busy_attempts if is_busy else self.policy.attempts) and not goes_on
