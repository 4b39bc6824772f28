"""Decide which task runs when: the queue, its slots, backoff and time limits."""

from __future__ import annotations

import threading
import time
from bisect import insort
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from iot.sftp.client import Busy, Retry, error_for_code
from iot.sftp.module._work.live_task import LiveTask, StopReason
from iot.sftp.module._work.slots import Kind
from iot.sftp.module._work.task_limits import THREADS_MAXIMUM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iot.sftp.module._work.slots import Slots, Turn
    from iot.sftp.module._work.task_limits import TaskLimits
    from iot.sftp.module._work.task_record import TaskRecord


class TaskScheduler:
    """The tasks that have not ended, each of which is ready, pausing, running, or about to end; thread-safe.

    Ready tasks take slots in the order of their acceptance. A task whose attempt failed by itself pauses, with
    exponential backoff, while the others go on. While the server cannot be reached, nobody is started.

    Locks: `lock` protects this object, every `LiveTask` and its record. It is held for moments only: never while an
    attempt runs, and never while the journal is used, whose file system may hang. It is taken before the locks of
    `Slots` and `TaskStore`, which are both held for moments too. `Slots` calls back without its own lock, so that its
    callbacks may take this one. The journal has a lock of its own, which is taken alone.
    """

    def __init__(self, slots: Slots, run: Callable[[LiveTask], None], limits: TaskLimits) -> None:
        """Have no tasks yet.

        Parameters:
            slots: where tasks wait for their turns, with others.
            run: makes one attempt of a task, and calls `pause`, `retry_later` or `remove` at its end; blocking.
            limits: bound tasks.
        """
        self.lock = threading.Condition()
        self.retries = 0  # attempts that failed and are followed by another one
        self._slots = slots
        self._run = run
        self._limits = limits
        self._threads = ThreadPoolExecutor(THREADS_MAXIMUM, thread_name_prefix="task")
        self._live: dict[str, LiveTask] = {}
        self._coming: set[str] = set()  # tasks that are being accepted
        self._ready: list[LiveTask] = []  # the oldest first
        self._pausing: list[LiveTask] = []
        self._running: list[LiveTask] = []
        self._added = 0
        self._turns_wanted = 0  # that were asked for and have not come
        self._server_failures = 0
        self._server_retry_at = 0.0  # when the server may be reached again, in time.monotonic()
        self.is_stopping = False

    # --- tasks

    @contextmanager
    def admission(self, task_id: str) -> Iterator[None]:
        """Keep a place for a task while the journal takes it.

        Raises:
            Busy: too many tasks have not ended yet.
        """
        with self.lock:
            if len(self._live) + len(self._coming) >= self._limits.maximum:
                message = f"{self._limits.maximum} tasks have not ended yet: try again later, or cancel some"
                raise Busy(message)
            self._coming.add(task_id)
        try:
            yield
        finally:
            with self.lock:
                self._coming.discard(task_id)

    def add(self, record: TaskRecord, remaining: float) -> None:
        """Take a task, which has so many seconds left."""
        with self.lock:
            self._added += 1
            task = LiveTask(record, self._added, remaining, self._slots.time_slice)
            self._live[record.task_id] = task
            self._make_ready(task)
            self._ask_for_turns()
            self.lock.notify_all()

    def live(self) -> list[LiveTask]:
        """Return all tasks in the order of acceptance; does not wait for the lock."""
        return list(self._live.values())

    def find(self, task_id: str) -> LiveTask | None:
        """Return a task that has not ended."""
        return self._live.get(task_id)

    def is_running(self, task: LiveTask) -> bool:
        """Return whether an attempt runs; with the lock held."""
        return task in self._running

    def is_known(self, task_id: str) -> bool:
        """Return whether a task is here, or is being accepted; with the lock held."""
        return task_id in self._live or task_id in self._coming

    def stop_task(self, task_id: str, reason: StopReason) -> tuple[LiveTask | None, bool]:
        """Ask a task to end.

        Returns:
            the task, if it has not ended; and whether the caller has to end it, as no attempt runs that would.
        """
        with self.lock:
            task = self._live.get(task_id)
            return task, task is not None and self._stop(task, reason)

    def _stop(self, task: LiveTask, reason: StopReason) -> bool:
        is_ours = task not in self._running and task.stop_reason is None
        task.stop(reason)
        for queue in (self._ready, self._pausing):
            if task in queue:
                queue.remove(task)
        return is_ours

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
            for task in self._running:
                task.stop(StopReason.SHUTDOWN)
            self.lock.notify_all()
            self.lock.wait_for(lambda: not self._running, max(0.0, end - time.monotonic()))
        self._threads.shutdown(wait=False)

    # --- the end of an attempt

    def pause(self, task: LiveTask) -> None:
        """Put a task back into its place that was interrupted to go on later; with the lock held."""
        self._running.remove(task)
        task.pause()
        if not self.is_stopping:
            self._make_ready(task)
        self.lock.notify_all()

    def retry_later(self, task: LiveTask, code: str) -> float:
        """Put a task back whose attempt failed; return the seconds until the next one; with the lock held."""
        self.retries += 1
        now = time.monotonic()
        self._running.remove(task)
        task.turn = None
        self.lock.notify_all()
        if error_for_code(code).retry is Retry.WHEN_REACHABLE:
            if now >= self._server_retry_at:  # others that find the same at the same time make it no worse
                self._server_failures += 1
                self._server_retry_at = now + self._limits.backoff.after(self._server_failures)
            self._make_ready(task)
            return self._server_retry_at - now
        task.retry_at = now + self._limits.backoff.after(task.attempts)
        self._pausing.append(task)
        return task.retry_at - now

    def note_success(self) -> None:
        """Begin the backoff for the server anew, which was reached; with the lock held."""
        self._server_failures = 0

    def remove(self, task: LiveTask) -> None:
        """Forget a task that has ended."""
        with self.lock:
            if task in self._running:
                self._running.remove(task)
            del self._live[task.record.task_id]
            self.lock.notify_all()
        task.ended.set()

    # --- time

    def start_due(self, now: float) -> list[LiveTask]:
        """Do what is due: stop overdue tasks, and make those ready whose pause is over.

        Returns:
            overdue tasks that the caller has to end, as no attempt runs that would.
        """
        with self.lock:
            overdue = [task for task in self._live.values() if task.ends <= now and task.can_be_stopped]
            to_end = [task for task in overdue if self._stop(task, StopReason.OVERDUE)]
            for task in [task for task in self._pausing if task.retry_at <= now]:
                self._pausing.remove(task)
                self._make_ready(task)
            self._ask_for_turns()
        return to_end

    def wait(self, now: float, until: float) -> None:
        """Wait until something changes or is due, after what was due at `now`, no longer than `until`."""
        with self.lock:
            if self.is_stopping:
                return
            moments = [task.retry_at for task in self._pausing]
            moments += [task.ends for task in self._live.values() if task.stop_reason is None]
            if self._ready:
                moments.append(self._server_retry_at)
            moment = min([until, *(moment for moment in moments if moment > now)])
            self.lock.wait(max(0.0, moment - time.monotonic()))

    # --- turns

    def _make_ready(self, task: LiveTask) -> None:
        insort(self._ready, task, key=lambda waiting: waiting.number)

    def _ask_for_turns(self) -> None:
        """Ask for as many turns as there are tasks that could take one."""
        if self.is_stopping or time.monotonic() < self._server_retry_at:
            return
        while self._turns_wanted < min(len(self._ready), THREADS_MAXIMUM):
            self._turns_wanted += 1
            self._slots.ask(Kind.TASK, self._on_turn, self._on_make_way)

    def _on_turn(self, turn: Turn) -> None:
        try:
            self._threads.submit(self._take_turn, turn)
        except RuntimeError:  # the module exits
            turn.leave()

    def _on_make_way(self, turn: Turn) -> None:
        with self.lock:
            for task in self._running:
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
            task = next((task for task in self._ready if task.ends > now), None)
            if task is not None:
                self._ready.remove(task)
                task.turn, turn.slice = turn, task.slice.seconds
                self._running.append(task)
            return task
