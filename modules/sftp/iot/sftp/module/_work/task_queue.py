"""Keep the tasks that have not ended, in the order of acceptance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iot.sftp.client import Busy
from iot.sftp.module._work.live_task import LiveTask, TaskState

if TYPE_CHECKING:
    from collections.abc import Iterator


class TaskQueue:
    """The tasks that have not ended; protected by the lock of `TaskScheduler`, but for `find` and `all`."""

    def __init__(self, maximum: int) -> None:
        """Have no tasks yet; take so many at most."""
        self._maximum = maximum
        self._live: dict[str, LiveTask] = {}
        self._coming: set[str] = set()  # tasks that are being accepted

    def admit(self, task_id: str) -> None:
        """Keep a place for a task that is being accepted.

        Raises:
            Busy: too many tasks have not ended yet.
        """
        if len(self._live) + len(self._coming) >= self._maximum:
            message = f"{self._maximum} tasks have not ended yet: try again later, or cancel some"
            raise Busy(message)
        self._coming.add(task_id)

    def dismiss(self, task_id: str) -> None:
        """Give up the place of a task that was accepted, or was not."""
        self._coming.discard(task_id)

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

    def in_state(self, state: TaskState) -> Iterator[LiveTask]:
        """Yield the tasks in a state; they must not be added or removed meanwhile."""
        return (task for task in self._live.values() if task.state is state)

    def overdue(self, now: float) -> list[LiveTask]:
        """Return the tasks whose time limit is over, and which nothing has asked to end yet."""
        return [task for task in self._live.values() if task.ends <= now and task.can_be_stopped]

    def next_moment(self, now: float) -> float:
        """Return when the next pause or time limit is over, after what was due at `now`."""
        moments = [task.retry_at for task in self.in_state(TaskState.PAUSING)]
        moments += [task.ends for task in self._live.values() if task.stop_reason is None]
        return min((moment for moment in moments if moment > now), default=float("inf"))
