"""Decide which task runs when: turns, backoff, time limits and interruptions."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from iot.sftp.client import Retry, error_for_code
from iot.sftp.module._work.live_task import LiveTask, StopReason, TaskState
from iot.sftp.module._work.slots import Kind
from iot.sftp.module._work.task_limits import THREADS_MAXIMUM
from iot.sftp.module._work.task_queue import TaskQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iot.sftp.module._work.slots import Slots, Turn
    from iot.sftp.module._work.task_limits import TaskLimits
    from iot.sftp.module._work.task_record import TaskRecord


class TaskScheduler:
    """Starts, interrupts and retries tasks; thread-safe.

    Ready tasks take slots in the order of their acceptance. A task whose attempt failed by itself pauses, with
    exponential backoff, while the others go on. While the server cannot be reached, none is started.

    It stays in one piece, as all of this changes under one lock. The lists are in `TaskQueue`, the thread that waits in
    `TaskTimer`.

    Locks: `lock` protects this object, the queue, every `LiveTask` and its record. It is held for moments only: never
    while an attempt runs, and never while the journal is used, whose file system may hang. It is taken before the locks
    of `Slots` and `TaskStore`, which are both held for moments too. `Slots` calls back without its own lock, so that
    its callbacks may take this one. The journal has a lock of its own, which is taken alone.
    """

    def __init__(self, slots: Slots, run: Callable[[LiveTask], None], limits: TaskLimits) -> None:
        """Have no tasks yet.

        Parameters:
            slots: where tasks wait for their turns, with others.
            run: makes one attempt of a task, and calls `go_on_later`, `retry_later` or `remove` at its end; blocking.
            limits: bound tasks.
        """
        self.lock = threading.Condition()
        self.queue = TaskQueue(limits.maximum)
        self.retries = 0  # attempts that failed and are followed by another one
        self.is_stopping = False
        self._slots = slots
        self._run = run
        self._backoff = limits.backoff
        self._threads = ThreadPoolExecutor(THREADS_MAXIMUM, thread_name_prefix="task")
        self._turns_wanted = 0  # that were asked for and have not come
        self._server_failures = 0
        self._server_retry_at = 0.0  # when the server may be reached again, in time.monotonic()

    @contextmanager
    def admission(self, task_id: str) -> Iterator[None]:
        """Keep a place for a task while the journal takes it.

        Raises:
            Busy: too many tasks have not ended yet.
        """
        with self.lock:
            self.queue.admit(task_id)
        try:
            yield
        finally:
            with self.lock:
                self.queue.dismiss(task_id)

    def add(self, record: TaskRecord, remaining: float) -> None:
        """Take a task, which has so many seconds left."""
        with self.lock:
            self.queue.add(LiveTask(record, remaining, self._slots.time_slice))
            self._ask_for_turns()
            self.lock.notify_all()

    def stop_task(self, task_id: str, reason: StopReason) -> tuple[LiveTask | None, bool]:
        """Ask a task to end.

        Returns:
            the task, if it has not ended; and whether the caller has to end it, as no attempt runs that would.
        """
        with self.lock:
            task = self.queue.find(task_id)
            return task, task is not None and self._stop(task, reason)

    def wake(self) -> None:
        """Start tasks at once: the server may be reachable again."""
        with self.lock:
            self._server_failures, self._server_retry_at = 0, 0.0
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
        self.retries += 1
        now = time.monotonic()
        task.turn = None
        self.lock.notify_all()
        if error_for_code(code).retry is Retry.WHEN_REACHABLE:
            if now >= self._server_retry_at:  # others that find the same at the same time make it no worse
                self._server_failures += 1
                self._server_retry_at = now + self._backoff.after(self._server_failures)
            task.state = TaskState.READY
            return self._server_retry_at - now
        task.state, task.retry_at = TaskState.PAUSING, now + self._backoff.after(task.attempts)
        return task.retry_at - now

    def note_success(self) -> None:
        """Reset the backoff for the server, which was reached; with the lock held."""
        self._server_failures = 0

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
            self._ask_for_turns()
        return to_end

    def wait(self, now: float, until: float) -> None:
        """Wait until something changes or is due, after what was due at `now`, no longer than `until`."""
        with self.lock:
            if self.is_stopping:
                return
            moment = min(until, self.queue.next_moment(now))
            if self._server_retry_at > now and any(self.queue.in_state(TaskState.READY)):
                moment = min(moment, self._server_retry_at)
            self.lock.wait(max(0.0, moment - time.monotonic()))

    # --- turns

    def _stop(self, task: LiveTask, reason: StopReason) -> bool:
        """Ask a task to end; return whether the caller has to end it, as no attempt runs that would."""
        is_ours = task.state in {TaskState.READY, TaskState.PAUSING}
        task.stop(reason)
        if is_ours:
            task.state = TaskState.ENDING
        return is_ours

    def _ask_for_turns(self) -> None:
        """Ask for as many turns as there are tasks that could take one."""
        if self.is_stopping or time.monotonic() < self._server_retry_at:
            return
        ready = sum(1 for _ in islice(self.queue.in_state(TaskState.READY), THREADS_MAXIMUM))
        while self._turns_wanted < ready:
            self._turns_wanted += 1
            self._slots.ask(Kind.TASK, self._on_turn, self._on_preempt)

    def _on_turn(self, turn: Turn) -> None:
        try:
            self._threads.submit(self._take_turn, turn)
        except RuntimeError:  # the module exits
            turn.leave()

    def _on_preempt(self, turn: Turn) -> None:
        with self.lock:
            for task in self.queue.in_state(TaskState.RUNNING):
                if task.turn is turn:
                    task.stop(StopReason.PREEMPTED)

    def _take_turn(self, turn: Turn) -> None:
        try:
            task = self._next(turn)
            if task is not None:
                self._run(task)
        finally:
            turn.leave()
        with self.lock:
            self._ask_for_turns()
            self.lock.notify_all()

    def _next(self, turn: Turn) -> LiveTask | None:
        """Return the task that takes a turn, if there is still one."""
        with self.lock:
            self._turns_wanted -= 1
            now = time.monotonic()
            if self.is_stopping or now < self._server_retry_at:
                return None
            # One whose time limit is over is not started any more: it is about to be given up
            ready = self.queue.in_state(TaskState.READY)
            task = next((task for task in ready if task.ends > now), None)
            if task is not None:
                task.state, task.turn, turn.slice = TaskState.RUNNING, turn, task.slice.seconds
            return task

    def _is_idle(self) -> bool:
        return not any(self.queue.in_state(TaskState.RUNNING))
