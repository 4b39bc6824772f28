"""Keep the tasks that have not ended, in the order of acceptance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iot.sftp.client import Busy
from iot.sftp.module._work.live_task import LiveTask, TaskState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class TaskQueue:
    """The tasks that have not ended; protected by the lock of `TaskScheduler`, but for `find` and `all`."""

    def __init__(self, maximum: Callable[[], int]) -> None:
        """Have no tasks yet; `maximum` returns how many each server may have."""
        self._maximum = maximum
        self._live: dict[str, LiveTask] = {}
        self._coming: dict[str, str] = {}  # tasks that are being accepted, with their servers

    def admit(self, task_id: str, server: str) -> None:
        """Keep a place for a task that is being accepted.

        Raises:
            Busy: too many tasks of its server have not ended yet.
        """
        maximum, live = self._maximum(), sum(1 for task in self._live.values() if task.server == server)
        if live + sum(1 for coming in self._coming.values() if coming == server) >= maximum:
            message = f"{maximum} tasks have not ended yet: try again later, or cancel some"
            raise Busy(message)
        self._coming[task_id] = server

    def dismiss(self, task_id: str) -> None:
        """Give up the place of a task that was accepted, or was not."""
        self._coming.pop(task_id, None)

    def add(self, task: LiveTask) -> None:
        """Take a task."""
        self._live[task.record.task_id] = task

    def remove(self, task: LiveTask) -> None:
        """Forget a task that has ended."""
        del self._live[task.record.task_id]

    def is_known(self, task_id: str) -> bool:
        """Return whether a task is here, or is being accepted."""
        return task_id in self._live or task_id in self._coming

    def find(self, task_id: str) -> LiveTask | None:
        """Return a task; thread-safe."""
        return self._live.get(task_id)

    def all(self) -> list[LiveTask]:
        """Return all tasks; thread-safe."""
        return list(self._live.values())

    def in_state(self, state: TaskState, server: str | None = None) -> Iterator[LiveTask]:
        """Yield the tasks in a state, of one server or of all; they must not be added or removed meanwhile."""
        tasks = (task for task in self._live.values() if task.state is state)
        return tasks if server is None else (task for task in tasks if task.server == server)

    def overdue(self, now: float) -> list[LiveTask]:
        """Return the tasks whose time limit is over, and which nothing has asked to end yet."""
        return [task for task in self._live.values() if task.ends <= now and task.can_be_stopped]

    def next_moment(self, now: float) -> float:
        """Return when the next pause or time limit is over, after what was due at `now`."""
        moments = [task.retry_at for task in self.in_state(TaskState.PAUSING)]
        moments += [task.ends for task in self._live.values() if task.stop_reason is None]
        return min((moment for moment in moments if moment > now), default=float("inf"))
