"""Give out tasks as the dispatcher does, and wait for their ends."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from iot.sftp.module._work.task_record import LIVE, new_task

if TYPE_CHECKING:
    from iot.sftp.module._work.tasks import Tasks

DAY = 86_400.0  # seconds
SOON = 100.0  # seconds, that only bound a hang
POLL_PERIOD = 0.002  # seconds between two looks at a status
UNFINISHED = {status.value for status in LIVE}


def submit(tasks: Tasks, method: str, request: Mapping[str, Any], *, time_limit: float = DAY) -> str:
    """Give out a task, and return its id."""
    record = new_task(method, request, time_limit)
    tasks.accept(record)
    return record.task_id


def end_of(tasks: Tasks, task_id: str, seconds: float = SOON) -> dict[str, Any]:
    """Return the status document of a task when it has ended, after so many seconds at the latest."""
    deadline = time.monotonic() + seconds
    while (status := tasks.status(task_id))["status"] in UNFINISHED and time.monotonic() < deadline:
        time.sleep(POLL_PERIOD)
    return status
