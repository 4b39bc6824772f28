"""Define the limits of tasks: how many, how long, how often again."""

from __future__ import annotations

from dataclasses import dataclass

from iot.sftp.client._base.backoff import Backoff

THREADS_MAXIMUM = 16  # transfers.concurrency goes so far
USE_PERIOD = 60.0  # seconds after which the journal notes for how long unfinished tasks have had the module's time
INCOMPLETE_ATTEMPTS = 5  # of a file that changes while it is transferred
MESSAGE_MAXIMUM = 2_000  # characters
TASK_BACKOFF = Backoff(first=1.0, longest=60.0)  # seconds between two attempts of a task


@dataclass(frozen=True)
class TaskLimits:
    """What bounds tasks; tests shorten it.

    Attributes:
        maximum: tasks that have not ended.
        backoff: between two attempts of a task.
        journal_pause: seconds between two attempts to write what the journal did not take.
    """

    maximum: int = 1_000
    backoff: Backoff = TASK_BACKOFF
    journal_pause: float = 10.0


TASK_LIMITS = TaskLimits()  # of the module
