"""Standing orders: what appears in a folder is transferred, without a call from the cloud.

Each rule has a thread that waits until there is something to do: an event of the file system, the end of a period, the
age that a young file comes to. Then it waits for its turn among the tasks, and transfers the folder in one call of the
client, which goes file by file. What has been transferred is deleted, moved, or remembered; so a run can be interrupted
anywhere, and the next one goes on.
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

from iot.sftp.client import Cancelled, FolderTransfer, Internal, Interruption, NotFound, SFTPError
from iot.sftp.module._logging import about, printable, shortened, subject, told
from iot.sftp.module._slots import Kind
from iot.sftp.module._tallies import Tally
from iot.sftp.module._tasks import NO_WAY
from iot.sftp.module._transfers import folder_in_words
from iot.sftp.module._watching import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from iot.sftp.client import FolderProgress, LocalFiles
    from iot.sftp.module._current_session import CurrentSession
    from iot.sftp.module._rule import Rule
    from iot.sftp.module._sent import Memory, Sent
    from iot.sftp.module._slots import Slots, Turn
    from iot.sftp.module._transfers import Transfers

GATHERING = 0.2  # seconds between an event and what follows: files seldom come alone
PAUSE_FIRST, PAUSE_LONGEST = 2.0, 900.0  # seconds after a run that failed
NOTHING_NEW = 600.0  # seconds between two reports that only say that a rule has run again
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
        failed: files that the last run could not transfer.
        code: why the last run, or the first of these files, failed; `None` if all is well.
        message: the same for people.
    """

    since: str
    last_run: str | None = None
    files: int = 0
    bytes: int = 0
    failed: int = 0
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
            "code": self.code,
            "message": self.message,
        }


@dataclass(frozen=True)
class Means:
    """What all rules work with; `on_failure` is told of each failure: what, the code and the message."""

    sessions: CurrentSession
    transfers: Transfers
    slots: Slots
    sent: Sent
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

    def apply(self, rules: Mapping[str, Rule]) -> None:
        """Have these rules in force from now on; does not block. A rule that has not changed goes on as it is."""
        ending: dict[str, _Runner] = {}
        for name, runner in list(self._runners.items()):
            if rules.get(name) != runner.rule:
                runner.stop()
                ending[name] = self._runners.pop(name)
        for name, rule in rules.items():
            if name not in self._runners:
                self._runners[name] = _Runner(rule, self._means, self._on_change)
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
        self._means.sent.close()


class _Runner:
    """One rule at work."""

    def __init__(self, rule: Rule, means: Means, on_change: Callable[[], None]) -> None:
        self.rule = rule
        self.status = RuleStatus(_now())
        self._means = means
        self._on_change = on_change
        self._changed = threading.Condition()
        self._due = 0.0  # when to look for files, in time.monotonic()
        self._not_before = 0.0  # while it pauses after a failure
        self._failures = 0
        self._has_no_way = False
        self._is_careful = True  # what an interrupted run has done may not have been written down
        self._stopped = False
        self._interruption = Interruption()
        self._turn_came = threading.Event()
        self._reported = 0.0
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
                pause = max(self._due, self._not_before) - time.monotonic()
                if pause <= 0:
                    self._due = float("inf")
                    return True
                self._changed.wait(min(pause, threading.TIMEOUT_MAX))
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
            self._try(started, interruption)
        finally:
            turn.leave()

    def _is_to_end(self) -> bool:
        return self._stopped

    def _begin(self, _turn: Turn) -> None:
        self._turn_came.set()

    def _try(self, started: float, interruption: Interruption) -> None:
        moved: list[FolderProgress] = [FolderTransfer()]  # as far as it came
        try:
            done = self._transfer(moved, interruption)
        except Cancelled:
            # It made way for a call that somebody waits for, or is to end
            self._means.runs.add("interrupted")
            self._is_careful = True
            self._settle(moved[0], code=self.status.code, message=self.status.message, due=0.0)
        except SFTPError as error:
            self._fail(moved[0], error.code, told(error))
        except Exception:  # noqa: BLE001 - whatever it is, the rule goes on
            _log.exception("a defect")
            self._fail(moved[0], Internal.code, "a defect of the module, which its log describes")
        else:
            self._succeed(done, started)

    def _transfer(self, moved: list[FolderProgress], interruption: Interruption) -> FolderTransfer:
        rule = self.rule

        def note(progress: FolderProgress) -> None:
            moved[0] = progress
            move.note(progress)

        with self._means.transfers.moves.one(rule.direction) as move, self._means.sessions.use() as session:
            settings = session.settings
            place = [settings.host, settings.port, settings.user, settings.root]
            memory: Memory | None = None
            if rule.then == "keep":
                memory = self._means.sent.of(*place, rule.direction, rule.source, rule.dest)
            transfer = session.upload_files if rule.direction == "upload" else session.download_files
            done = transfer(
                rule.source,
                rule.dest,
                file_pattern=rule.file_pattern,
                recursive=rule.recursive,
                if_exists="skip_same" if self._is_careful and rule.if_exists == "replace" else rule.if_exists,
                then="move" if isinstance(rule.then, dict) else rule.then,
                move_to=rule.then["move"] if isinstance(rule.then, dict) else None,
                min_age=rule.min_age,
                progress=note,
                cancelled=interruption,
                ledger=memory,
                verify=self._means.transfers.verify,
            )
            move.note(done)
        if memory is not None and not done.failed:
            memory.forget_vanished()
        return done

    # --- what follows

    def _succeed(self, done: FolderTransfer, started: float) -> None:
        """See to the next run after one that came to its end, though single files may have failed."""
        first = done.failures[0] if done.failures else None
        if done.files:
            _log.info("%s", folder_in_words(done, self._means.transfers.verify))
        if first is not None:
            words = f"{done.failed} files failed, the first one '{first.path}': {first.message}"
            self._is_careful = True
            if not done.files:
                self._fail(done, first.code, words)
                return
            _log.warning("%s", words)
            self._means.runs.add("incomplete")
            self._means.on_failure(_name(self.rule), first.code, words)
            self._settle(done, code=first.code, message=words, due=started + self.rule.every)
            return
        if self.status.code is not None:
            _log.info("all is well again", extra=about(_name(self.rule)))
        self._means.runs.add("completed")
        self._is_careful = False
        now = time.monotonic()
        # A young file has come to its age by then, or has told by a further event that it was changed again
        due = now + self.rule.min_age + GATHERING if done.young else started + self.rule.every
        self._settle(done, code=None, message=None, due=min(due, started + self.rule.every))
        self._failures = 0

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
            self._has_no_way = code in NO_WAY
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
            code,
            None if message is None else printable(shortened(message, MESSAGE_MAXIMUM)),
        )
        with self._changed:
            self._due = min(self._due, due)
            if code is None:
                self._has_no_way, self._not_before = False, 0.0
        now = time.monotonic()
        same = replace(self.status, last_run=before.last_run) == before and before.last_run is not None
        if not same or now - self._reported >= NOTHING_NEW:
            self._reported = now
            self._on_change()


def _name(rule: Rule) -> str:
    return f"rule {rule.name}"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
