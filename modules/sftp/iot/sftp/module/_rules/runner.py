"""Rules: what appears in a folder is transferred, without a call from the cloud.

Each rule has a thread that waits until there is something to do: an event of the file system, the end of a period, the
age that a young file comes to. Then it waits for its turn among the tasks, and transfers the folder in one call of the
client, which goes file by file. What has arrived is written down in a delivery ledger, before its source is deleted or
moved; so a run can be interrupted anywhere, and the next one goes on.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from iot.sftp.client import (
    Cancelled,
    FolderTransfer,
    Internal,
    Interruption,
    NotFound,
    Retry,
    SFTPError,
    error_for_code,
)
from iot.sftp.client._base.text import excerpt
from iot.sftp.module._base.logging import about, subject
from iot.sftp.module._base.repeats import without_quantities
from iot.sftp.module._base.tallies import Tally
from iot.sftp.module._base.wording import describe
from iot.sftp.module._hub.reported import Allowance
from iot.sftp.module._rules.watcher import Watch
from iot.sftp.module._work.slots import Kind, TimeSlice
from iot.sftp.module._work.transfers import FolderMove, failures_in_words, folder_in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from iot.sftp.client import FolderProgress, LocalFiles
    from iot.sftp.module._documents.rule import Rule
    from iot.sftp.module._work.current_session import CurrentSession
    from iot.sftp.module._work.delivery_ledger import DeliveryLedgers
    from iot.sftp.module._work.slots import Slots, Turn
    from iot.sftp.module._work.transfers import Transfers

GATHERING = 0.2  # seconds between an event and what follows: files seldom come alone
PAUSE_FIRST, PAUSE_LONGEST = 2.0, 900.0  # seconds after a run that failed
NOTHING_NEW = 21_600.0  # seconds between two reports that only say that a rule has run again
# Reports that only count further, of all rules: so many may follow each other, and then one in so many seconds
COUNTS_AT_ONCE, COUNTS_PERIOD = 20, 600.0
MESSAGE_MAXIMUM = 300  # characters of a message that is reported
RUNS = ("completed", "incomplete", "failed", "interrupted")  # how one ends

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RuleStatus:
    """How a rule does.

    Attributes:
        since: when it came into force, in UTC (ISO 8601); what is counted is counted from then.
        last_run: when it last looked for files.
        files: that were transferred.
        bytes: of these.
        failed: files that the last run could not transfer, or not delete or move at their source.
        delivered: of these, files that have arrived, and are only to be deleted or moved.
        code: why the last run, or the first of these files, failed; `None` if all is well.
        message: the same for people.
    """

    since: str
    last_run: str | None = None
    files: int = 0
    bytes: int = 0
    failed: int = 0
    delivered: int = 0
    code: str | None = None
    message: str | None = None

    def as_properties(self) -> dict[str, Any]:
        """Return what is reported."""
        return {
            "state": "active" if self.code is None else "failing",
            "since": self.since,
            "lastRun": self.last_run,
            "files": self.files,
            "bytes": self.bytes,
            "failed": self.failed,
            "delivered": self.delivered,
            "code": self.code,
            "message": self.message,
        }


@dataclass(frozen=True)
class Means:
    """What all rules work with; `on_failure` is told of each failure: what, the code and the message."""

    sessions: CurrentSession
    transfers: Transfers
    slots: Slots
    ledgers: DeliveryLedgers
    local_files: LocalFiles
    on_failure: Callable[[str, str, str], None] = lambda _what, _code, _message: None
    runs: Tally = field(default_factory=lambda: Tally(*((outcome,) for outcome in RUNS)))


class Rules:
    """The rules in force."""

    def __init__(self, means: Means, on_change: Callable[[], None]) -> None:
        """Have no rules yet.

        Parameters:
            means: what they work with.
            on_change: told that there is something new to report, from any thread; must not block.
        """
        self._means = means
        self._on_change = on_change
        self._runners: dict[str, _Runner] = {}
        self._counts = Allowance(COUNTS_AT_ONCE, COUNTS_PERIOD)

    def apply(self, rules: Mapping[str, Rule]) -> None:
        """Have these rules in force from now on; does not block. A rule that has not changed goes on as it is."""
        ending: dict[str, _Runner] = {}
        for name, runner in list(self._runners.items()):
            if rules.get(name) != runner.rule:
                runner.stop()
                ending[name] = self._runners.pop(name)
        for name, rule in rules.items():
            if name not in self._runners:
                self._runners[name] = _Runner(rule, self._means, self._on_change, self._counts)
                self._runners[name].start(after=ending.get(name))

    @property
    def in_force(self) -> dict[str, Rule]:
        """The rules by their names."""
        return {name: runner.rule for name, runner in list(self._runners.items())}

    def statuses(self) -> dict[str, RuleStatus]:
        """Return how each rule does, by its name."""
        return {name: runner.status for name, runner in self._runners.items()}

    @property
    def runs(self) -> Tally:
        """The runs that have ended, by how they did."""
        return self._means.runs

    @property
    def retries(self) -> int:
        """How many runs failed, which are followed by another try."""
        return self.runs.counts()["failed",]

    def states(self) -> dict[str, int]:
        """Return how many rules are `active`, and how many `failing`; from any thread."""
        states = Counter(runner.status.code is None for runner in list(self._runners.values()))
        return {"active": states[True], "failing": states[False]}

    @property
    def not_removed(self) -> int:
        """How many files have arrived and cannot be deleted or moved at their source; from any thread."""
        return sum(runner.status.delivered for runner in list(self._runners.values()))

    def wake(self) -> None:
        """There may be a way to the server again: rules that found none try at once."""
        for runner in self._runners.values():
            runner.wake()

    def stop(self, limit: float) -> None:
        """End all, within `limit` seconds."""
        end = time.monotonic() + limit
        for runner in self._runners.values():
            runner.stop()
        for runner in self._runners.values():
            runner.join(max(0.0, end - time.monotonic()))
        self._means.ledgers.close()


class _Runner:
    """One rule at work."""

    def __init__(self, rule: Rule, means: Means, on_change: Callable[[], None], counts: Allowance) -> None:
        self.rule = rule
        self.status = RuleStatus(_now())
        self._means = means
        self._on_change = on_change
        self._counts = counts
        self._changed = threading.Condition()
        self._due = 0.0  # when to look for files, in time.monotonic()
        self._not_before = 0.0  # while it pauses after a failure
        self._failures = 0
        self._has_no_way = False
        self._is_careful = True  # what an interrupted run has done may not have been written down
        self._stopped = False
        self._interruption = Interruption()
        self._turn_came = threading.Event()
        self._reported = RuleStatus("")  # what was reported last
        self._reported_at = 0.0
        self._report_due = float("inf")  # when counts are to be reported that had to wait
        self._slice = TimeSlice(means.slots.time_slice)
        self._watch = Watch(means.local_files, rule.source, self._notice, recursive=rule.recursive)
        self._thread = threading.Thread(target=self._run, name=f"rule-{rule.name}", daemon=True)
        self._before: _Runner | None = None

    def start(self, *, after: _Runner | None) -> None:
        """Begin, as soon as the rule that had the name before has ended."""
        self._before = after
        self._thread.start()

    def stop(self) -> None:
        """End soon; does not block."""
        with self._changed:
            self._stopped = True
            self._interruption.interrupt()
            self._turn_came.set()
            self._changed.notify_all()

    def join(self, limit: float) -> None:
        self._thread.join(limit)

    def wake(self) -> None:
        """Try at once, if there was no way to the server."""
        with self._changed:
            if self._has_no_way:
                self._due = self._not_before = 0.0
                self._changed.notify_all()

    def _notice(self) -> None:
        """Take note of an event in the folder."""
        with self._changed:
            self._due = min(self._due, time.monotonic() + GATHERING + self.rule.min_age)
            self._changed.notify_all()

    def _run(self) -> None:
        if self._before is not None:
            self._before.join(threading.TIMEOUT_MAX)
            self._before = None
        try:
            while self._wait():
                with subject(_name(self.rule)):
                    if self.rule.direction == "upload":
                        self._watch.renew()
                    self._once()
        finally:
            self._watch.stop()

    def _wait(self) -> bool:
        """Wait until it is time to look for files; `False` if there is no such time any more."""
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                pause = max(self._due, self._not_before) - now
                if pause <= 0:
                    self._due = float("inf")
                    return True
                if self._report_due <= now:
                    self._report()
                self._changed.wait(min(pause, self._report_due - now, threading.TIMEOUT_MAX))
            return False

    def _once(self) -> None:
        """Wait for a turn, and transfer what there is."""
        started = time.monotonic()
        self._turn_came.clear()
        interruption = self._interruption = Interruption()
        if self._is_to_end():
            return
        turn = self._means.slots.ask(Kind.TASK, self._begin, lambda _: interruption.interrupt())
        self._turn_came.wait()
        try:
            if self._is_to_end() and turn.withdraw():
                return
            turn.slice = self._slice.seconds
            self._try(started, interruption)
        finally:
            turn.leave()

    def _is_to_end(self) -> bool:
        return self._stopped

    def _begin(self, _turn: Turn) -> None:
        self._turn_came.set()

    def _try(self, started: float, interruption: Interruption) -> None:
        moved: list[FolderProgress] = [FolderTransfer()]  # as far as it came

        def note(progress: FolderProgress) -> None:
            moved[0] = progress
            self._slice.note(progress.bytes, files=progress.files)

        try:
            order = FolderMove(
                self.rule.direction,
                self.rule,
                is_careful=self._is_careful,
                progress=note,
                cancelled=interruption,
                ledgers=self._means.ledgers,
                local_files=self._means.local_files,
            )
            transfer, is_in_doubt = self._means.transfers.move_folder(order)
        except Cancelled:
            # It made way for a call that somebody waits for, or is to end
            self._means.runs.add("interrupted")
            self._is_careful = True
            self._slice.interrupt()
            before = self.status
            done = replace(moved[0], failed=before.failed, not_removed=before.delivered)  # of the last whole run
            self._settle(done, code=before.code, message=before.message, due=0.0)
        except SFTPError as error:
            self._fail(moved[0], error.code, describe(error))
        except Exception:  # noqa: BLE001 - whatever it is, the rule goes on
            _log.exception("a defect")
            self._fail(moved[0], Internal.code, "a defect of the module, which its log describes")
        else:
            self._slice = TimeSlice(self._means.slots.time_slice)
            self._succeed(transfer, started, is_in_doubt=is_in_doubt)

    # --- what follows

    def _succeed(self, done: FolderTransfer, started: float, *, is_in_doubt: bool) -> None:
        """See to the next run after one that came to its end, though single files may have failed."""
        if done.files:
            _log.info("%s", folder_in_words(done, self._means.transfers.verify))
        if done.failures:
            self._see_to_failures(done, started)
            return
        if self.status.code is not None:
            _log.info("all is well again", extra=about(_name(self.rule)))
        self._means.runs.add("completed")
        self._is_careful = is_in_doubt
        self._failures = 0
        self._settle(done, code=None, message=None, due=0.0 if is_in_doubt else self._next_run(done, started))

    def _next_run(self, done: FolderTransfer, started: float) -> float:
        """Return when to look again: a young file has come to its age by then, or has told that it was changed."""
        due = started + self.rule.every
        return min(due, time.monotonic() + self.rule.min_age + GATHERING) if done.young else due

    def _see_to_failures(self, done: FolderTransfer, started: float) -> None:
        """See to the next run after one in which single files failed."""
        words, code = failures_in_words(done, self.rule.then), done.failures[0].code
        undelivered = done.failed > done.not_removed
        self._is_careful = undelivered
        if undelivered and not done.files:
            self._fail(done, code, words)
            return
        self._means.runs.add("incomplete")
        self._failures = 0
        # What is delivered and cannot be deleted holds up nothing, and is told once, not at each run
        if undelivered or (code, done.not_removed) != (self.status.code, self.status.delivered):
            _log.warning("%s", words)
            self._means.on_failure(_name(self.rule), code, words)
        with self._changed:
            self._has_no_way, self._not_before = False, 0.0
        self._settle(done, code=code, message=words, due=self._next_run(done, started))

    def _fail(self, moved: FolderProgress, code: str, message: str) -> None:
        """Pause after a run that failed, longer each time; other rules are not held up."""
        self._means.runs.add("failed")
        self._is_careful = True
        self._failures = 1 if moved.files else self._failures + 1
        # A folder that is not there may be made at any time
        longest = min(PAUSE_LONGEST, self.rule.every) if code == NotFound.code else PAUSE_LONGEST
        pause = min(longest, PAUSE_FIRST * 2 ** min(self._failures - 1, 30))
        pause *= random.uniform(0.5, 1.0)  # noqa: S311 - nothing secret
        with self._changed:
            self._not_before = time.monotonic() + pause
            self._has_no_way = error_for_code(code).retry is Retry.WHEN_REACHABLE
        _log.warning("it is tried again in %.0f s: %s: %s", pause, code, message)
        self._means.on_failure(_name(self.rule), code, message)
        self._settle(moved, code=code, message=message, due=0.0)

    def _settle(self, moved: FolderProgress, *, code: str | None, message: str | None, due: float) -> None:
        """Take note of a run, and report it if it tells anything new."""
        before = self.status
        self.status = RuleStatus(
            before.since,
            _now(),
            before.files + moved.files,
            before.bytes + moved.bytes,
            moved.failed,
            moved.not_removed,
            code,
            None if message is None else excerpt(message, MESSAGE_MAXIMUM),
        )
        with self._changed:
            self._due = min(self._due, due)
            if code is None:
                self._has_no_way, self._not_before = False, 0.0
        self._report()

    def _report(self) -> None:
        """Report what is new: how the rule does at once, what it has counted as often as that may be."""
        now, new, old = time.monotonic(), self.status, self._reported
        self._report_due = float("inf")
        if _kind_of(new) == _kind_of(old):
            if replace(new, last_run=None) == replace(old, last_run=None):
                if now - self._reported_at < NOTHING_NEW:
                    return
            elif (wait := self._counts.wait()) > 0:
                self._report_due = now + wait
                return
            else:
                self._counts.take()
        self._reported, self._reported_at = new, now
        self._on_change()


def _kind_of(status: RuleStatus) -> tuple[object, ...]:
    """Return what makes a difference that is reported at once."""
    return status.since, status.code, status.delivered > 0, without_quantities(status.message or "")


def _name(rule: Rule) -> str:
    return f"rule {rule.name}"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
