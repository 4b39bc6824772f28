"""Define the limits of tasks: how many, how long, how often again."""

from __future__ import annotations

from dataclasses import dataclass

from iot.sftp.client._base.backoff import Backoff
from iot.sftp.module._work.server_slots import share

TURNS_MAXIMUM = 16  # of a server at a time: transfers.concurrency goes so far
THREADS_MAXIMUM = 17 * TURNS_MAXIMUM  # never reached: `ServerSlots` bounds what runs
USE_PERIOD = 60.0  # seconds after which the journal notes for how long unfinished tasks have had the module's time
INCOMPLETE_ATTEMPTS = 5  # of a file that changes while it is transferred
MESSAGE_MAXIMUM = 2_000  # characters
TASK_BACKOFF = Backoff(first=1.0, longest=60.0)  # seconds between two attempts of a task


@dataclass(frozen=True)
class TaskLimits:
    """What bounds tasks; tests shorten it.

    Attributes:
        maximum: tasks of a server that have not ended, as long as there are four servers at most: then they divide
            what four have.
        backoff: between two attempts of a task.
        journal_pause: seconds between two attempts to write what the journal did not take.
    """

    maximum: int = 1_000
    backoff: Backoff = TASK_BACKOFF
    journal_pause: float = 10.0

    def maximum_of_each(self, servers: int) -> int:
        """Return how many tasks each of so many servers may have."""
        return share(self.maximum, 4 * self.maximum, servers)


TASK_LIMITS = TaskLimits()  # of the module
