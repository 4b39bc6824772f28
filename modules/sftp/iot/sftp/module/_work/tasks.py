"""Work that outlives a call: queued, begun in the order of acceptance, tried again, and told about when it has ended.

For whoever gives out work (direct methods, rules):

    task_id = tasks.submit("upload_files", {"source": "out", "dest": "in", "then": "delete"}, details={"rule": "a"})
    status = tasks.status(task_id)     # the document that get_task_status answers; blocks for nothing that runs
    tasks.cancel(task_id, timeout)     # True if that stopped it

`submit` takes the method's name and its parameters as JSON has them (those of the request model in `_methods`, without
`timeout`, `request_id`, `background` and `time_limit`), and blocks until the task is safe in the journal. It raises
`Busy` if too many wait, and another `SFTPError` if the journal cannot be written. `announce=False` keeps the task's end
from the output `tasks`. `details` are shown in the status as they are. `await_end(task_id, timeout)` blocks until it
has ended. All of it may be called from any thread, none of it from the event loop.

A task's work is the function that `Tasks` was made with; tests give it others. Everything here is about when it is
done, not about what.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from bisect import insort
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from iot.sftp.client import (
    Busy,
    DeadlineExceeded,
    Internal,
    Interruption,
    Retry,
    SFTPError,
    TransferIncomplete,
    error_for_code,
)
from iot.sftp.client._base.text import excerpt, quoted, shortened
from iot.sftp.module._base.logging import about, subject
from iot.sftp.module._base.wording import describe
from iot.sftp.module._work.journal import Record
from iot.sftp.module._work.slots import SLICE, Kind, TimeSlice
from iot.sftp.module._work.task_status import Rate, document, short_id, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from iot.sftp.module._work.journal import Journal, Request
    from iot.sftp.module._work.slots import Slots, Turn

TASKS_MAXIMUM = 1_000  # that have not ended
THREADS_MAXIMUM = 16  # transfers.concurrency goes so far
TIME_LIMIT = 86_400.0  # seconds
PAUSE_FIRST, PAUSE_LONGEST = 1.0, 60.0  # seconds between two tries
JOURNAL_PAUSE = 10.0  # seconds between two tries to write what could not be written
USE_EVERY = 60.0  # seconds after which it is written down how long unfinished tasks have had
INCOMPLETE_TRIES = 5  # of a file that changes while it is moved
MESSAGE_MAXIMUM = 2_000  # characters

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far a task's work has come.

    Attributes:
        bytes: that have been moved.
        total_bytes: that there are, if that is known.
        details: further fields of the task's status.
    """

    bytes: int
    total_bytes: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a task's work has ended, if it ended by itself.

    Attributes:
        progress: how far it came.
        code: why it is not complete, if it is not.
        message: the same for people.
    """

    progress: Progress
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True)
class Job:
    """One try of a task, as its work sees it.

    Attributes:
        method: what is to be done.
        request: the parameters.
        tries: how often it was tried before.
        report: to be told how far it has come.
        cancelled: set when it has to end soon, for good or to go on later.
        task_id: whose try it is.
    """

    method: str
    request: Mapping[str, Any]
    tries: int
    report: Callable[[Progress], None]
    cancelled: threading.Event
    task_id: str = ""


@dataclass(frozen=True)
class Pauses:
    """Seconds between two tries: growing from the first to the longest."""

    first: float = PAUSE_FIRST
    longest: float = PAUSE_LONGEST

    def after(self, failures: int) -> float:
        """Return the pause after so many failures, never the same on two devices."""
        pause: float = min(self.longest, self.first * 2 ** min(failures - 1, 30))
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - nothing secret


class _Task:
    """A task that has not ended."""

    def __init__(self, record: Record, number: int, remaining: float, time_slice: float = SLICE) -> None:
        self.record = record
        self.slice = TimeSlice(time_slice)
        self.number = number  # in the order of acceptance
        self.ends = time.monotonic() + remaining
        self.tries = 0 if record.started is None else 1
        self.incomplete = 0  # tries that found that the file had changed
        self.again = 0.0  # when it is tried again, while it is pausing
        self.turn: Turn | None = None  # while it runs
        self.stopped_for = ""  # why it was told to end: "cancel", "time", "way", "stop"
        self.cancelled = Interruption()
        self.ended = threading.Event()
        self.rate = Rate()

    def stop(self, why: str) -> None:
        """Tell its work to end soon; a reason that leaves it waiting gives way to one that ends it."""
        if self.stopped_for in {"", "way"}:
            self.stopped_for = why
        if self.stopped_for in {"way", "stop"}:
            self.cancelled.interrupt()  # what it has moved is kept: it goes on later
        else:
            self.cancelled.goes_on = False
            self.cancelled.set()


class Tasks:
    """All tasks. Those that have not ended are in memory and in the journal, the others in the journal only."""

    def __init__(
        self,
        journal: Journal,
        slots: Slots,
        work: Callable[[Job], Outcome],
        *,
        on_end: Callable[[], None] = lambda: None,
        on_failure: Callable[[str, str, str], None] = lambda _what, _code, _message: None,
        forget: Callable[[str], None] = lambda _task_id: None,
        pauses: Pauses = Pauses(),
        maximum: int = TASKS_MAXIMUM,
    ) -> None:
        """Take the parts; `start` begins.

        Parameters:
            journal: where tasks are written down.
            slots: where they wait for their turn.
            work: does one try, blocking; returns its outcome or raises an `SFTPError`.
            on_end: told that a task has ended and its end may be told, from any thread; must not block.
            on_failure: told of each try that failed: what, the code and the message; must not block.
            forget: told the id of a task whose end is in the journal: nothing is to be kept for its next try any more.
            pauses: between tries.
            maximum: how many tasks may be there that have not ended.
        """
        self._journal = journal
        self._slots = slots
        self._work = work
        self._on_end = on_end
        self._on_failure = on_failure
        self._forget = forget
        self._pauses = pauses
        self._maximum = maximum
        self._changed = threading.Condition()
        self._threads = ThreadPoolExecutor(THREADS_MAXIMUM, thread_name_prefix="task")
        self._live: dict[str, _Task] = {}
        self._ready: list[_Task] = []  # the oldest first
        self._pausing: list[_Task] = []
        self._running: list[_Task] = []
        self._unsaved: dict[str, Record] = {}  # ends that could not be written down yet
        self._coming: set[str] = set()  # tasks that are being accepted
        self._accepted = 0
        self._asked = 0  # turns that were asked for and have not come
        self.retries = 0  # tries that failed and are followed by another one
        self._ended: Counter[str] = Counter()  # by their status, since the process began
        self._way_failures = 0
        self._way_again = 0.0  # when there may be a way to the server again
        self._journal_again = 0.0
        self._use_again = 0.0
        self._loaded = False
        self._generation = 0
        self._stopping = False

    # --- for everybody

    def start(self) -> None:
        """Go on with what the journal holds, and begin; blocks while the journal is read."""
        self._load()
        threading.Thread(target=self._keep_time, name="tasks", daemon=True).start()

    def submit(
        self,
        method: str,
        request: Mapping[str, Any],
        *,
        time_limit: float = TIME_LIMIT,
        announce: bool = True,
        details: Mapping[str, Any] | None = None,
    ) -> str:
        """Accept a task, durably, and return its id.

        Parameters:
            method: what is to be done.
            request: its parameters, as JSON has them; never anything secret.
            time_limit: seconds of the module's running after which it is given up.
            announce: whether its end is told on the output `tasks`.
            details: further fields of its status.

        Raises:
            Busy: too many tasks have not ended yet.
            SFTPError: the journal cannot be written.
        """
        record = new_record(method, request, time_limit=time_limit, announce=announce, details=details)
        self.accept(record)
        return record.task_id

    def accept(self, record: Record, request_id: str | None = None, fingerprint: str = "") -> Request | None:
        """Accept a task that is described already. If its request id is known, nothing is; that is returned then."""
        with self._changed:
            if len(self._live) + len(self._coming) >= self._maximum:
                message = f"{self._maximum} tasks have not ended yet: try again later, or cancel some"
                raise Busy(message)
            self._coming.add(record.task_id)
        try:
            known = self._journal.add(record, request_id, fingerprint)
            if known is None:
                self._take(record, record.time_limit)
            return known
        finally:
            with self._changed:
                self._coming.discard(record.task_id)

    def status(self, task_id: str) -> dict[str, Any]:
        """Return the status document of a task; one that is not known has the status `Unknown`."""
        with self._changed:
            shown = self._shown(task_id)
        if shown is None:
            # a name with anything else in it is none of ours, and may be none that SQLite takes
            record = self._journal.get(task_id) if task_id.isprintable() else None
            shown = unknown(task_id) if record is None else document(record)
        return shown

    def newest(self, limit: int, after: str | None = None) -> list[dict[str, Any]]:
        """Return the status documents of the newest tasks first, or of those that come after one of them.

        Raises:
            SFTPError: the journal could not be read yet.
        """
        if after is not None and not after.isprintable():
            return []
        try:
            records = self._journal.newest(limit, after)
        except SFTPError:
            if not self._loaded:  # then there may be others than those that are known
                raise
            records = self._newest_in_memory(limit, after)
        with self._changed:
            return [self._shown(record.task_id) or document(record) for record in records]

    @property
    def can_be_accepted(self) -> bool:
        """Whether nothing is known to be in the way of writing them down."""
        return self._journal.is_well

    def cancel(self, task_id: str, timeout: float) -> bool:
        """End a task; `True` if that stopped it, `False` if it had ended, or is not known.

        Raises:
            DeadlineExceeded: it has not ended within `timeout` seconds; it is being stopped.
        """
        with self._changed:
            task = self._live.get(task_id)
            if task is None:
                return False
            ours = task not in self._running and task.stopped_for == ""  # to be ended here
            task.stop("cancel")
            self._withdraw(task)
        if ours:
            self._end(task, "Cancelled", None, "it was cancelled")
        if not task.ended.wait(timeout):
            message = "the task is being stopped, and has not ended yet"
            raise DeadlineExceeded(message)
        return task.record.status == "Cancelled"

    def await_end(self, task_id: str, timeout: float) -> dict[str, Any]:
        """Wait until a task has ended, no longer than `timeout` seconds, and return its status document."""
        with self._changed:
            task = self._live.get(task_id)
        if task is not None:
            task.ended.wait(timeout)
        return self.status(task_id)

    @property
    def counts(self) -> dict[str, int]:
        """How many tasks there are that have not ended, and how many have since the process began, by status."""
        live = Counter(task.record.status for task in list(self._live.values()))
        return {**live, **self._ended}  # one whose end is being written down is among both

    @property
    def waiting(self) -> tuple[int, float]:
        """How many wait for their turn or their next try, and the seconds since the first of them was accepted.

        Like `counts`, it waits for no lock.
        """
        now = time.monotonic()
        ages = [now - task.ends + task.record.time_limit for task in list(self._live.values()) if task.turn is None]
        return len(ages), max([0.0, *ages])

    def wake(self) -> None:
        """There may be a way to the server again: try at once."""
        with self._changed:
            self._way_failures, self._way_again = 0, 0.0
            self._changed.notify_all()

    def stop(self, limit: float) -> None:
        """Interrupt what runs, within `limit` seconds; it goes on when the module starts again."""
        end = time.monotonic() + limit
        with self._changed:
            self._stopping = True
            for task in self._running:
                task.stop("stop")
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._running, max(0.0, end - time.monotonic()))
        self._threads.shutdown(wait=False)
        self._journal.close()

    def _newest_in_memory(self, limit: int, after: str | None) -> list[Record]:
        """Return those tasks that are known without the journal: what has not ended, or ended without it."""
        with self._changed:
            known = self._unsaved | {name: task.record for name, task in self._live.items()}
        records = sorted(known.values(), key=lambda record: record.accepted, reverse=True)
        names = [record.task_id for record in records]
        first = 0 if after is None else names.index(after) + 1 if after in names else len(names)
        return records[first : first + limit]

    def _shown(self, task_id: str) -> dict[str, Any] | None:
        task = self._live.get(task_id)
        if task is not None:
            return document(task.record, task.rate.value if task in self._running else None)
        record = self._unsaved.get(task_id)
        return None if record is None else document(record)

    # --- the queue

    def _take(self, record: Record, remaining: float) -> None:
        with self._changed:
            self._accepted += 1
            task = _Task(record, self._accepted, remaining, self._slots.time_slice)
            self._live[record.task_id] = task
            self._make_ready(task)
            self._changed.notify_all()

    def _make_ready(self, task: _Task) -> None:
        insort(self._ready, task, key=lambda waiting: waiting.number)
        self._ask_for_turns()

    def _withdraw(self, task: _Task) -> None:
        for queue in (self._ready, self._pausing):
            if task in queue:
                queue.remove(task)

    def _ask_for_turns(self) -> None:
        """Ask for as many turns as there are tasks that could take one."""
        if self._stopping or time.monotonic() < self._way_again:
            return
        while self._asked < min(len(self._ready), THREADS_MAXIMUM):
            self._asked += 1
            self._slots.ask(Kind.TASK, self._begin, self._make_way)

    def _begin(self, turn: Turn) -> None:
        try:
            self._threads.submit(self._take_turn, turn)
        except RuntimeError:  # the module ends
            turn.leave()

    def _make_way(self, turn: Turn) -> None:
        with self._changed:
            for task in self._running:
                if task.turn is turn:
                    task.stop("way")

    def _take_turn(self, turn: Turn) -> None:
        with self._changed:
            self._asked -= 1
            now = time.monotonic()
            held_up = self._stopping or now < self._way_again
            # One whose time is over is not begun any more: it is about to be given up
            task = next((task for task in self._ready if task.ends > now and not held_up), None)
            if task is not None:
                self._ready.remove(task)
                task.turn, turn.slice = turn, task.slice.seconds
                self._running.append(task)
        if task is not None:
            try:
                with subject(_name(task)):
                    self._try(task)
            except Exception:  # noqa: BLE001 - whatever it is, the task is not left without an end
                _log.exception("task %s: a defect of the queue", task.record.task_id)
                self._end(task, "Failed", Internal.code, "a defect of the module, which its log describes")
            finally:
                turn.leave()
        else:
            turn.leave()
        with self._changed:
            self._ask_for_turns()
            self._changed.notify_all()

    # --- one try

    def _try(self, task: _Task) -> None:
        """Do the work of a task once, and see what follows from how it ended."""
        record = task.record
        if record.started is None:
            record.status, record.started = "Running", time.time()
            self._save(record)
        code: str | None
        try:
            report, name = (lambda done: self._note(task, done)), record.task_id
            job = Job(record.method, record.request, task.tries, report, task.cancelled, name)
            outcome = self._work(job)
            self._note(task, outcome.progress)
            code, message = outcome.code, outcome.message
        except SFTPError as error:
            code, message = error.code, describe(error)
        except Exception:  # noqa: BLE001 - whatever it is, the task has an end that is told
            _log.exception("a defect")
            code, message = Internal.code, f"a defect of the module, which its log describes at task {record.task_id}"
        task.tries += 1
        self._settle(task, code, None if message is None else excerpt(message, MESSAGE_MAXIMUM))

    def _note(self, task: _Task, progress: Progress) -> None:
        with self._changed:
            record = task.record
            record.bytes, record.total_bytes = progress.bytes, progress.total_bytes
            record.code = record.message = None  # of the try before
            record.details.update(progress.details)
            task.rate.note(progress.bytes)
            task.slice.note(progress.bytes, files=progress.details.get("files", 0))

    def _settle(self, task: _Task, code: str | None, message: str | None) -> None:
        if code == TransferIncomplete.code:
            task.incomplete += 1
        with self._changed:
            stopped_for, again = task.stopped_for, None
            if code is None:
                self._way_failures = 0
            elif stopped_for in {"way", "stop"}:
                self._wait_for_next_turn(task)
                return
            elif not stopped_for and error_for_code(code).retry.is_automatic and task.incomplete < INCOMPLETE_TRIES:
                task.record.code, task.record.message = code, message
                again = self._wait_and_try_again(task, code)
        if again is not None:
            _log.warning("it is tried again in %.1f s: %s: %s", again, code, message)
            self._on_failure(_what(task), code or "", message or "")
            self._save(task.record)
        elif code is None:
            self._end(task, "Completed", None, None)
        elif stopped_for == "cancel":
            self._end(task, "Cancelled", None, "it was cancelled")
        elif stopped_for == "time":
            self._give_up(task)
        else:
            self._end(task, "Failed", code, message)

    def _wait_for_next_turn(self, task: _Task) -> None:
        """Let a task wait that was interrupted and is to go on."""
        self._running.remove(task)
        task.slice.interrupt()
        task.turn, task.stopped_for, task.cancelled = None, "", Interruption()
        if not self._stopping:
            insort(self._ready, task, key=lambda waiting: waiting.number)
        self._changed.notify_all()

    def _wait_and_try_again(self, task: _Task, code: str) -> float:
        """Let a task wait whose try failed; return for how many seconds."""
        self.retries += 1
        now = time.monotonic()
        self._running.remove(task)
        task.turn = None
        self._changed.notify_all()
        if error_for_code(code).retry is Retry.WHEN_REACHABLE:  # all tasks wait, and go on in their order
            if now >= self._way_again:  # others that find the same at the same time make it no worse
                self._way_failures += 1
                self._way_again = now + self._pauses.after(self._way_failures)
            insort(self._ready, task, key=lambda waiting: waiting.number)
            return self._way_again - now
        task.again = now + self._pauses.after(task.tries)
        self._pausing.append(task)
        return task.again - now

    def _give_up(self, task: _Task) -> None:
        record = task.record
        last = f"; the last try: {record.code}: {record.message}" if record.code is not None else ""
        message = f"the task did not end within its time limit of {record.time_limit:g} s{last}"
        self._end(task, "Failed", DeadlineExceeded.code, shortened(message, MESSAGE_MAXIMUM))

    def _end(self, task: _Task, status: str, code: str | None, message: str | None) -> None:
        record = task.record
        with self._changed:
            record.status, record.result = status, status == "Completed"
            record.code, record.message, record.finished = code, message, time.time()
            if record.started is not None:  # a clock that was set meanwhile must not make it end before it began
                record.finished = max(record.started, record.finished)
            self._unsaved[record.task_id] = record
            self._ended[status] += 1
        if status == "Failed":
            self._on_failure(_what(task), code or "", message or "")
        level = logging.WARNING if status == "Failed" else logging.INFO
        reason = "" if code is None else f": {code}: {message}"
        tries = f"{task.tries} {'try' if task.tries == 1 else 'tries'}"
        with subject(_name(task)):
            place = f"{paths}: " if (paths := _paths(record)) else ""
            _log.log(level, "%s%s%s (%s)", place, status, reason, tries, extra=about(_name(task)))
        self._save(record, durable=True)
        with self._changed:
            if task in self._running:
                self._running.remove(task)
            del self._live[record.task_id]
            self._changed.notify_all()
        task.ended.set()

    def _save(self, record: Record, *, durable: bool = False) -> None:
        """Write a task down; if that fails, it is kept in memory and written down later."""
        try:
            self._journal.save(record, durable=durable)
        except Exception as error:  # noqa: BLE001 - whatever it is, the task goes on and has an end
            if not isinstance(error, SFTPError):
                _log.exception("a defect of the journal")
            self._journal_again = time.monotonic() + JOURNAL_PAUSE
            return
        if record.finished is not None:
            with self._changed:
                self._unsaved.pop(record.task_id, None)
            with suppress(SFTPError):  # then it goes when nobody has used it for long
                self._forget(record.task_id)
            self._on_end()

    # --- time

    def _keep_time(self) -> None:
        """Do what is due, and wait for what is next, until the end."""
        while not self._stopping:
            try:
                self._do_what_is_due()
            except Exception:  # noqa: BLE001 - whatever it is, the time of the other tasks goes on
                _log.exception("a defect of the queue")
                with self._changed:
                    self._changed.wait(JOURNAL_PAUSE)

    def _do_what_is_due(self) -> None:
        self._look_after_journal()
        now = time.monotonic()
        with self._changed:
            overdue = self._find_overdue(now)
            for task in [task for task in self._pausing if task.again <= now]:
                self._pausing.remove(task)
                self._make_ready(task)
            self._ask_for_turns()
        for task in overdue:
            self._give_up(task)
        with self._changed:
            if not overdue and not self._stopping:
                self._changed.wait(max(0.0, self._next_moment(now) - time.monotonic()))

    def _find_overdue(self, now: float) -> list[_Task]:
        """Stop the tasks whose time has run out; return those that are to be ended here, since they do not run."""
        overdue = [task for task in self._live.values() if task.ends <= now and task.stopped_for in {"", "way"}]
        for task in overdue:
            task.stop("time")
            self._withdraw(task)
        return [task for task in overdue if task not in self._running]

    def _next_moment(self, now: float) -> float:
        """Return when there is something to do, after what was due at `now`."""
        moments = [self._journal_again, *(task.again for task in self._pausing)]
        moments += [task.ends for task in self._live.values() if not task.stopped_for]
        if self._ready:
            moments.append(self._way_again)
        # No later than in a while: other calls may have found that the journal is another one
        return min([now + JOURNAL_PAUSE, *(moment for moment in moments if moment > now)])

    def _look_after_journal(self) -> None:
        """Load the journal once it can be read; write down what could not be; fill a file that was begun anew."""
        if time.monotonic() < self._journal_again:
            return
        try:
            self._journal.try_again()
        except SFTPError:
            self._journal_again = time.monotonic() + JOURNAL_PAUSE
            return
        if not self._loaded:
            self._load()
        if self._live and time.monotonic() >= self._use_again:
            self._use_again = time.monotonic() + USE_EVERY
            with suppress(SFTPError):  # told by the journal
                self._journal.count_use()
        with self._changed:
            unsaved = list(self._unsaved.values())
            renewed = self._journal.generation != self._generation
            self._generation = self._journal.generation
            if renewed and self._loaded:
                unsaved += [task.record for task in self._live.values()]
        for record in unsaved:
            self._save(record, durable=True)

    def _load(self) -> None:
        try:
            self._journal.prune()
            use = self._journal.count_use()
            records = self._journal.unfinished()
        except SFTPError:
            self._journal_again = time.monotonic() + JOURNAL_PAUSE
            return
        with self._changed:
            known = self._live.keys() | self._coming | self._unsaved.keys()
            new = [record for record in records if record.task_id not in known]
            self._loaded, self._generation = True, self._journal.generation
        for record in new:
            self._take(record, _remaining(record, use))
        if new:
            _log.info("%d tasks go on that were accepted before the module started", len(new))


def new_record(
    method: str,
    request: Mapping[str, Any],
    *,
    time_limit: float = TIME_LIMIT,
    announce: bool = True,
    details: Mapping[str, Any] | None = None,
) -> Record:
    """Describe a new task, for `Tasks.accept`; see `Tasks.submit` for the parameters."""
    task_id = uuid.uuid4().hex
    return Record(task_id, method, dict(request), time_limit, announce=announce, details=dict(details or {}))


def _name(task: _Task) -> str:
    return f"task {short_id(task.record.task_id)} {task.record.method}"


def _paths(record: Record) -> str:
    return " -> ".join(quoted(str(record.request[name])) for name in ("source", "dest") if name in record.request)


def _what(task: _Task) -> str:
    return f"{_name(task)} {_paths(task.record)}".rstrip()


def _remaining(record: Record, use: float) -> float:
    """Return the seconds that a task of an earlier process still has; no clock that was set takes any of them away."""
    return record.time_limit if record.used is None else record.time_limit - max(0.0, use - record.used)
