"""Decide which task runs when: turns, backoff, time limits and interruptions."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from iot.sftp.client import Retry, error_for_code
from iot.sftp.client._base.errors import LocalBusy
from iot.sftp.client._base.threads import WorkerThreads
from iot.sftp.module._work.live_task import LiveTask, StopReason, TaskState
from iot.sftp.module._work.slots import Kind
from iot.sftp.module._work.task_limits import THREADS_MAXIMUM, TURNS_MAXIMUM
from iot.sftp.module._work.task_queue import TaskQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iot.sftp.module._work.server_slots import ServerSlots
    from iot.sftp.module._work.slots import Turn
    from iot.sftp.module._work.task_limits import TaskLimits
    from iot.sftp.module._work.task_record import TaskRecord

PAUSE_WITHOUT_THREADS = 1.0  # seconds, after which a thread is asked for again where the system had none


@dataclass
class ServerPause:
    """The tasks of one server: their turns, and their pause while it cannot be reached.

    Attributes:
        turns_wanted: that were asked for and have not come.
        failures: in a row.
        retry_at: when it may be reached again, in time.monotonic().
    """

    turns_wanted: int = 0
    failures: int = 0
    retry_at: float = 0.0


class TaskScheduler:
    """Starts, interrupts and retries tasks; thread-safe.

    Ready tasks take their server's slots in the order of their acceptance. A task whose attempt failed by itself
    pauses, with exponential backoff, while the others go on. While a server cannot be reached, none of its tasks is
    started.

    It stays in one piece, as all of this changes under one lock. The lists are in `TaskQueue`, the thread that waits in
    `TaskTimer`.

    Locks: `lock` protects this object, the queue, every `LiveTask` and its record. It is held for moments only: never
    while an attempt runs, and never while the journal is used, whose file system may hang. It is taken before the locks
    of `Slots`, `Servers` and `TaskStore`, which are held for moments too. `Slots` calls back without its own lock, so
    that its callbacks may take this one. The journal has a lock of its own, which is taken alone.
    """

    def __init__(self, slots: ServerSlots, run: Callable[[LiveTask], None], limits: TaskLimits) -> None:
        """Have no tasks yet.

        Parameters:
            slots: where tasks wait for their turns, with others.
            run: makes one attempt of a task, and calls `go_on_later`, `retry_later` or `remove` at its end; blocking.
            limits: bound tasks.
        """
        self.lock = threading.Condition()
        self.queue = TaskQueue(lambda: limits.maximum_of_each(slots.servers()))
        self.retries: Counter[str] = Counter()  # attempts that failed and are followed by another one, by server
        self.is_stopping = False
        self._slots = slots
        self._run = run
        self._backoff = limits.backoff
        self._threads = WorkerThreads(THREADS_MAXIMUM, name="task")
        self._pauses: dict[str, ServerPause] = {}  # by server

    @contextmanager
    def admission(self, record: TaskRecord) -> Iterator[None]:
        """Keep a place for a task while the journal takes it.

        Raises:
            Busy: too many tasks of its server have not ended yet.
        """
        with self.lock:
            self.queue.admit(record.task_id, record.server)
        try:
            yield
        finally:
            with self.lock:
                self.queue.dismiss(record.task_id)

    def add(self, record: TaskRecord, remaining: float) -> None:
        """Take a task, which has so many seconds left."""
        with self.lock:
            task = LiveTask(record, remaining, self._slots.time_slice)
            self.queue.add(task)
            self._ask_for_turns(task.server)
            self.lock.notify_all()

    def stop_task(self, task_id: str, reason: StopReason) -> tuple[LiveTask | None, bool]:
        """Ask a task to end.

        Returns:
            the task, if it has not ended; and whether the caller has to end it, as no attempt runs that would.
        """
        with self.lock:
            task = self.queue.find(task_id)
            return task, task is not None and self._stop(task, reason)

    def wake(self, server: str) -> None:
        """Start the tasks of a server at once: it may be reachable again."""
        with self.lock:
            pause = self._pause_of(server)
            pause.failures, pause.retry_at = 0, 0.0
            self.lock.notify_all()

    def stop(self, limit: float) -> None:
        """Interrupt what runs, and wait for it, for `limit` seconds at most."""
        end = time.monotonic() + limit
        with self.lock:
            self.is_stopping = True
            for task in self.queue.in_state(TaskState.RUNNING):
                task.stop(StopReason.SHUTDOWN)
            self.lock.notify_all()
            self.lock.wait_for(self._is_idle, max(0.0, end - time.monotonic()))
        self._threads.shutdown(wait=False)

    # --- the end of an attempt

    def go_on_later(self, task: LiveTask) -> None:
        """Put a task back into its place that was interrupted; with the lock held."""
        task.interrupted()
        self.lock.notify_all()

    def retry_later(self, task: LiveTask, code: str) -> float:
        """Put a task back whose attempt failed; return the seconds until the next one; with the lock held."""
        self.retries[task.server] += 1
        now = time.monotonic()
        task.turn = None
        self.lock.notify_all()
        if error_for_code(code).retry is Retry.WHEN_REACHABLE:
            pause = self._pause_of(task.server)
            if now >= pause.retry_at:  # others that find the same at the same time make it no worse
                pause.failures += 1
                pause.retry_at = now + self._backoff.after(pause.failures)
            task.state = TaskState.READY
            return pause.retry_at - now
        task.state, task.retry_at = TaskState.PAUSING, now + self._backoff.after(task.attempts)
        return task.retry_at - now

    def note_success(self, server: str) -> None:
        """Reset the backoff for a server, which was reached; with the lock held."""
        self._pause_of(server).failures = 0

    def remove(self, task: LiveTask) -> None:
        """Forget a task that has ended."""
        with self.lock:
            self.queue.remove(task)
            self.lock.notify_all()
        task.ended.set()

    # --- time

    def start_due(self, now: float) -> list[LiveTask]:
        """Do what is due: stop overdue tasks, and make those ready whose pause is over.

        Returns:
            overdue tasks that the caller has to end, as no attempt runs that would.
        """
        with self.lock:
            to_end = [task for task in self.queue.overdue(now) if self._stop(task, StopReason.OVERDUE)]
            for task in self.queue.in_state(TaskState.PAUSING):
                if task.retry_at <= now:
                    task.state = TaskState.READY
            for server in {task.server for task in self.queue.in_state(TaskState.READY)}:
                self._ask_for_turns(server)
        return to_end

    def wait(self, now: float, until: float) -> None:
        """Wait until something changes or is due, after what was due at `now`, no longer than `until`."""
        with self.lock:
            if self.is_stopping:
                return
            moment = min(until, self.queue.next_moment(now))
            ready = {task.server for task in self.queue.in_state(TaskState.READY)}
            pauses = (self._pause_of(server).retry_at for server in ready)
            moment = min([moment, *(retry_at for retry_at in pauses if retry_at > now)])
            self.lock.wait(max(0.0, moment - time.monotonic()))

    # --- turns

    def _stop(self, task: LiveTask, reason: StopReason) -> bool:
        """Ask a task to end; return whether the caller has to end it, as no attempt runs that would."""
        is_ours = task.state in {TaskState.READY, TaskState.PAUSING}
        task.stop(reason)
        if is_ours:
            task.state = TaskState.ENDING
        return is_ours

    def _pause_of(self, server: str) -> ServerPause:
        return self._pauses.setdefault(server, ServerPause())

    def _ask_for_turns(self, server: str) -> None:
        """Ask for as many turns as a server has tasks that could take one."""
        pause = self._pause_of(server)
        if self.is_stopping or time.monotonic() < pause.retry_at:
            return
        ready = sum(1 for _ in islice(self.queue.in_state(TaskState.READY, server), TURNS_MAXIMUM))
        slots = self._slots.of(server)
        while pause.turns_wanted < ready and time.monotonic() >= pause.retry_at:
            pause.turns_wanted += 1
            slots.ask(Kind.TASK, partial(self._on_turn, server), self._on_preempt)

    def _on_turn(self, server: str, turn: Turn) -> None:
        try:
            self._threads.submit(self._take_turn, server, turn)
        except RuntimeError:  # the module exits
            turn.leave()
        except LocalBusy:
            with self.lock:
                pause = self._pause_of(server)
                pause.turns_wanted -= 1
                pause.retry_at = time.monotonic() + PAUSE_WITHOUT_THREADS
                self.lock.notify_all()
            turn.leave()

    def _on_preempt(self, turn: Turn) -> None:
        with self.lock:
            for task in self.queue.in_state(TaskState.RUNNING):
                if task.turn is turn:
                    task.stop(StopReason.PREEMPTED)

    def _take_turn(self, server: str, turn: Turn) -> None:
        try:
            task = self._next(server, turn)
            if task is not None:
                self._run(task)
        finally:
            turn.leave()
        with self.lock:
            self._ask_for_turns(server)
            self.lock.notify_all()

    def _next(self, server: str, turn: Turn) -> LiveTask | None:
        """Return the task of a server that takes a turn, if there is still one."""
        with self.lock:
            pause = self._pause_of(server)
            pause.turns_wanted -= 1
            now = time.monotonic()
            if self.is_stopping or now < pause.retry_at:
                return None
            # One whose time limit is over is not started any more: it is about to be given up
            ready = self.queue.in_state(TaskState.READY, server)
            task = next((task for task in ready if task.ends > now), None)
            if task is not None:
                task.state, task.turn, turn.slice = TaskState.RUNNING, turn, task.slice.seconds
            return task

    def _is_idle(self) -> bool:
        return not any(self.queue.in_state(TaskState.RUNNING))
