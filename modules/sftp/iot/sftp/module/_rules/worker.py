"""Run one rule in a thread of its own: wait until it is due, take a slot, make a run, see what follows."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from iot.sftp.client import (
    Busy,
    FolderTransfer,
    Internal,
    Interruption,
    NotFound,
    Retry,
    SFTPError,
    error_for_code,
)
from iot.sftp.module._base.logging import about, subject
from iot.sftp.module._base.wording import internal_error
from iot.sftp.module._documents.servers import on_server
from iot.sftp.module._documents.template_parts import CLOCK_STARTS
from iot.sftp.module._rules.backoff import RuleBackoff
from iot.sftp.module._rules.limits import RULE_LIMITS, RuleLimits
from iot.sftp.module._rules.rule_hours import RuleHours
from iot.sftp.module._rules.run import RuleContext, RunOutcome, RunResult, make_run
from iot.sftp.module._rules.schedule import NEVER, RuleSchedule
from iot.sftp.module._rules.watcher import Watch
from iot.sftp.module._work.slots import Kind, TimeSlice

if TYPE_CHECKING:
    from iot.sftp.module._documents.rule import Rule
    from iot.sftp.module._rules.rule_status import RuleReporter, RuleStatus
    from iot.sftp.module._work.slots import Turn

LAST_LOOKS = 5  # into a source of an earlier date in which files are too young again and again

_log = logging.getLogger(__name__)


class RuleWorker:
    """One rule at work. `run_once` and what it calls belong to the rule's thread; the rest may be called from any.

    It stays in one piece, as each run changes the schedule, the backoff, the time slice and the status together.
    """

    def __init__(
        self, rule: Rule, context: RuleContext, reporter: RuleReporter, limits: RuleLimits = RULE_LIMITS
    ) -> None:
        """Take a rule; `start` begins.

        Parameters:
            rule: what is transferred, and when.
            context: the parts that rules use.
            reporter: keeps and reports the rule's status.
            limits: bound rules.
        """
        self.rule = rule
        self._context = context
        self._reporter = reporter
        self._limits = limits
        self._name = on_server(f"rule {rule.name}", rule.server)
        self._hours = RuleHours(rule, context.clock, context.due_times, limits.look)
        self._schedule = RuleSchedule(self._hours.look if rule.calendar is not None else None)
        self._backoff = RuleBackoff(limits, rule.every)
        self._source_moment: float | None = None  # of the source that was looked at last, if it has a date
        self._looked_at = 0.0  # when the last run began
        self._looks = 0  # last ones into that source, since the date has changed
        self._waits_for_clock = False  # the last run has failed as the clock is not set
        self._had_young = False  # whether the last run has left files that were too young
        self._is_careful = True  # what an interrupted run has done may not be in the ledger
        self._interruption = Interruption()
        self._turn_came = threading.Event()
        self._slice = TimeSlice(context.slots.time_slice)
        self._appeared = threading.Event()  # the source, or a folder above it, since it was looked for
        self._watch = Watch(
            context.local_files,
            self._on_event,
            recursive=rule.recursive,
            appeared=self._on_appearance,
            completed=self._on_completion,
        )
        self._thread = threading.Thread(target=self._run, name=f"rule-{rule.name}", daemon=True)
        self._predecessor: RuleWorker | None = None

    @property
    def status(self) -> RuleStatus:
        """How the rule does."""
        return self._reporter.status

    def start(self, *, after: RuleWorker | None) -> None:
        """Begin, as soon as the worker has ended that had the name before."""
        self._predecessor = after
        self._thread.start()

    def stop(self) -> None:
        """End soon; does not block."""
        self._schedule.stop()
        self._interruption.interrupt()
        self._turn_came.set()

    def join(self, limit: float) -> None:
        """Wait for the end of the thread, for `limit` seconds at most."""
        self._thread.join(limit)

    def wake(self) -> None:
        """Run at once, if the server could not be reached: it may be reachable again."""
        self._schedule.wake()

    def run_once(self) -> None:
        """Wait for a slot, and transfer what there is."""
        started = self._looked_at = time.monotonic()
        due = self._hours.last.due
        self._turn_came.clear()
        interruption = self._interruption = Interruption()
        if self._schedule.is_stopped():
            return
        slots = self._context.slots.of(self.rule.server)
        turn = slots.ask(Kind.TASK, self._on_turn, lambda _turn: interruption.interrupt())
        self._turn_came.wait()
        try:
            if self._schedule.is_stopped() and turn.withdraw():
                return
            if not self._hours.may_run():
                self._schedule.run_by(0.0)
                return
            turn.slice = self._slice.seconds
            moment, is_last_look = self._moment_of_run()
            with self._hours.interrupting(interruption):
                result = make_run(
                    self.rule,
                    self._context,
                    is_careful=self._is_careful,
                    interruption=interruption,
                    progress=lambda moved: self._slice.note(moved.bytes, files=moved.files),
                    moment=moment,
                )
            self._looks += is_last_look and result.is_whole
            if is_last_look and (_has_been_seen(result) or self._looks >= LAST_LOOKS):
                self._source_moment, self._looks = None, 0
                self._schedule.run_by(0.0)
                result = replace(result, outcome=RunOutcome.COMPLETED, code=None, message=None, is_whole=True)
            self._settle(result, started)
            if not is_last_look and self._is_done(result):
                self._hours.note_done(due)
        finally:
            turn.leave()

    def _run(self) -> None:
        if self._predecessor is not None:
            self._predecessor.join(threading.TIMEOUT_MAX)
            self._predecessor = None
        try:
            while self._schedule.wait(self._report):
                with subject(self._name):
                    self._report()  # it waits no longer
                    self._make_attempt()
        finally:
            self._watch.stop()

    def _make_attempt(self) -> None:
        """Run once; whatever goes wrong around the run fails it, and does not end the rule."""
        try:
            self._renew_watch()
            self.run_once()
        except RuntimeError as error:  # no thread is left
            _log.debug("the run could not be made: %r", error, exc_info=True)
            self._fail_attempt(Busy.code, f"the run could not be made ({error}): another one is, when there is room")
        except Exception:  # noqa: BLE001 - see above
            _log.exception("internal error")
            self._fail_attempt(Internal.code, internal_error(self._name))

    def _fail_attempt(self, code: str, message: str) -> None:
        self._settle_failed(RunResult(RunOutcome.FAILED, FolderTransfer(), code, message))

    def _report(self) -> float:
        """Report for what the rule waits; return when to call again."""
        seen = self._hours.last
        is_well = self._waits_for_clock and seen.knows_time
        if is_well:
            self._waits_for_clock = False
        self._reporter.note_next(seen.next, is_well=is_well)
        return self._reporter.report_due()

    def _moment_of_run(self) -> tuple[float, bool]:
        """Return the moment for the date in the source, and whether that is the last look into an earlier folder.

        When the date changes, the folder of the run before is looked at once more: what came into it since then, in the
        last moments of its day, is not left there.
        """
        now, before = self._context.clock(), self._source_moment
        source = self.rule.source
        if before is not None and now >= before and source.fill(before) != source.fill(now):
            return before, True
        self._source_moment = now if source.has_date and now >= CLOCK_STARTS else None
        return now, False

    def _renew_watch(self) -> None:
        """Watch the source that counts now, if it is local; the run that follows reports where there is none."""
        if self.rule.direction == "upload" and not self._hours.has_times:
            self._appeared.clear()
            with suppress(SFTPError):
                self._watch.renew(self.rule.source.fill(self._context.clock()))

    def _on_event(self) -> None:
        """Run soon after an event in the folder."""
        self._schedule.run_by(time.monotonic() + self._limits.gathering + self.rule.min_age)

    def _on_completion(self) -> None:
        """Run at once when a file is whole, but for a burst of them."""
        gathered = max(time.monotonic() + self._limits.glance, self._looked_at + self._limits.gathering)
        self._schedule.run_by(gathered + self.rule.min_age)

    def _on_appearance(self) -> None:
        """Run soon, as the source is there now, or a folder above it; called from the thread of the watch."""
        self._appeared.set()
        if self.status.code == NotFound.code:
            self._schedule.end_pause()
        self._on_event()

    def _on_turn(self, _turn: Turn) -> None:
        self._turn_came.set()

    # --- what follows from a run

    def _settle(self, result: RunResult, started: float) -> None:
        """Report a run, and schedule the next one."""
        self._context.runs.add(self.rule.server, result.outcome.value)
        if result.is_whole:
            self._slice = TimeSlice(self._context.slots.time_slice)
        if result.outcome is RunOutcome.INTERRUPTED:
            self._settle_interrupted(result)
        elif result.outcome is RunOutcome.FAILED:
            self._settle_failed(result)
        else:
            self._settle_whole(result, started)

    def _settle_interrupted(self, result: RunResult) -> None:
        """Resume soon after a run that was preempted; the failures are still those of the last whole run."""
        self._is_careful = True
        self._slice.interrupt()
        before = self.status
        moved = replace(result.moved, failed=before.failed, not_removed=before.delivered)
        if before.code is None:
            self._schedule.end_pause()
        if not self._hours.may_run():
            _log.info("interrupted at the end of its window; it goes on in the next one", extra=about(self._name))
        self._schedule.run_by(0.0)
        self._reporter.note_run(moved, before.code, before.message)

    def _settle_failed(self, result: RunResult) -> None:
        """Pause after a run that failed; other rules go on."""
        code, message = result.code or "", result.message or ""
        self._is_careful = True
        self._waits_for_clock = self.rule.calendar is not None and not self._hours.last.knows_time
        pause = self._backoff.failed(code, made_progress=result.moved.files > 0)
        self._schedule.pause(pause, until_reachable=error_for_code(code).retry is Retry.WHEN_REACHABLE)
        _log.warning("it is tried again in %.0f s: %s: %s", pause, code, message)
        self._context.on_failure(self._name, code, message)
        self._schedule.run_by(0.0)
        self._reporter.note_run(result.moved, code, message)
        if code == NotFound.code and self._appeared.is_set():  # while this run failed
            self._schedule.end_pause()

    def _settle_whole(self, result: RunResult, started: float) -> None:
        """Wait for the next period after a run that has scanned the whole folder; single files may have failed."""
        self._is_careful = result.is_in_doubt or result.has_undelivered
        self._backoff.succeeded()
        self._log_change(result)
        self._schedule.end_pause()
        self._schedule.run_by(0.0 if result.is_in_doubt else self._next_run(result, started))
        self._reporter.note_run(result.moved, result.code, result.message)

    def _log_change(self, result: RunResult) -> None:
        """Log files that failed, and the end of failures.

        What was delivered and cannot be deleted holds up nothing, and is logged once, not for each run.
        """
        before = self.status
        if result.code is None:
            if before.code is not None:
                _log.info("the rule works again", extra=about(self._name))
        elif result.has_undelivered or (result.code, result.moved.not_removed) != (before.code, before.delivered):
            _log.warning("%s", result.message)
            self._context.on_failure(self._name, result.code, result.message or "")

    def _next_run(self, result: RunResult, started: float) -> float:
        """Return when to run again: a young file is old enough by then, or an event has said that it was changed."""
        due = NEVER if self._hours.has_times else started + self.rule.every
        if result.has_young:
            due = min(due, time.monotonic() + self.rule.min_age + self._limits.gathering)
        return due

    def _is_done(self, result: RunResult) -> bool:
        """Return whether a run was the last one for a time of `at`: files that are too young are waited for once."""
        is_repeated, self._had_young = self._had_young, result.has_young
        if result.outcome not in {RunOutcome.COMPLETED, RunOutcome.INCOMPLETE} or result.is_in_doubt:
            return False
        return not result.has_young or is_repeated


def _has_been_seen(result: RunResult) -> bool:
    """Return whether a folder need not be looked at again: all that was in it was taken, or has failed by itself."""
    return (result.is_whole and not result.has_young) or result.code == NotFound.code
