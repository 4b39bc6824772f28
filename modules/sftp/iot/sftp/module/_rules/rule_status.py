"""Report how a rule does: at once what is new, and what is only counted as often as the hub allows."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from iot.sftp.client._base.text import excerpt
from iot.sftp.module._base.log_suppression import without_quantities
from iot.sftp.module._base.times import rfc3339, rfc3339_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client import FolderProgress
    from iot.sftp.module._base.token_bucket import TokenBucket

MESSAGE_MAXIMUM = 300  # characters of a message that is reported
NEVER = float("inf")
ACTIVE, FAILING = RULE_STATES = ("active", "failing")


@dataclass(frozen=True)
class RuleStatus:
    """How a rule does.

    Attributes:
        since: when it came into force, in UTC (ISO 8601); what is counted is counted from then.
        last_run: when it last looked for files.
        files: that were transferred.
        bytes: of these.
        failed: files that the last run could not transfer, or not delete or move at their source.
        delivered: of these, files that have arrived, and lack a last step: a marker, or to be deleted or moved.
        code: why the last run, or the first of these files, failed; `None` if all is well.
        message: the same for people.
        next: when it runs next, if it waits for its calendar.
        in_place: files that were appended to in place, as their server does not copy data itself.
        quarantined: files that were put aside, since they failed by themselves; counted as `files` are.
    """

    since: str
    last_run: str | None = None
    files: int = 0
    bytes: int = 0
    failed: int = 0
    delivered: int = 0
    code: str | None = None
    message: str | None = None
    next: str | None = None
    in_place: int = 0
    quarantined: int = 0

    @property
    def state(self) -> str:
        """One of `RULE_STATES`."""
        return ACTIVE if self.code is None else FAILING

    def as_properties(self) -> dict[str, Any]:
        """Return what is reported."""
        properties: dict[str, Any] = {
            "state": self.state,
            "since": self.since,
            "lastRun": self.last_run,
            "files": self.files,
            "bytes": self.bytes,
            "failed": self.failed,
            "delivered": self.delivered,
            "code": self.code,
            "message": self.message,
            "next": self.next,
        }
        if_any = {"inPlace": self.in_place, "quarantined": self.quarantined}
        return properties | {key: count for key, count in if_any.items() if count}


class RuleReporter:
    """Keeps the status of one rule, and reports it; changed by the rule's thread only, read by any."""

    def __init__(self, report: Callable[[], None], allowance: TokenBucket, nothing_new: float) -> None:
        """Begin with a rule that comes into force.

        Parameters:
            report: called when the status is to be reported; must not block.
            allowance: of all rules, for reports that only count further.
            nothing_new: seconds between two reports that only say that the rule has run again.
        """
        self.status = RuleStatus(rfc3339_now())
        self._report = report
        self._allowance = allowance
        self._nothing_new = nothing_new
        self._reported = RuleStatus("")  # what was reported last
        self._reported_at = 0.0
        self._due = NEVER  # when counts are to be reported that had to wait

    def note_run(self, moved: FolderProgress, code: str | None, message: str | None) -> None:
        """Add what a run has done to the status, and report it if it is new."""
        before = self.status
        self.status = RuleStatus(
            before.since,
            rfc3339_now(),
            before.files + moved.files,
            before.bytes + moved.bytes,
            moved.failed,
            moved.not_removed,
            code,
            None if message is None else excerpt(message, MESSAGE_MAXIMUM),
            in_place=before.in_place + moved.in_place,
            quarantined=before.quarantined + moved.quarantined,
        )
        self._report_news()

    def note_next(self, moment: float | None, *, is_well: bool = False) -> None:
        """Report when the rule runs next, if that is new.

        Parameters:
            moment: in seconds since 1970; `None` if it does not wait for its calendar.
            is_well: whether what the last run failed for is over.
        """
        status = replace(self.status, next=None if moment is None else rfc3339(moment))
        if is_well:
            status = replace(status, code=None, message=None)
        if status != self.status:
            self.status = status
            self._report_news()

    def report_due(self) -> float:
        """Report counts that had to wait, if it is time; return when to call again, in `time.monotonic()`."""
        if self._due <= time.monotonic():
            self._report_news()
        return self._due

    def _report_news(self) -> None:
        now, new, old = time.monotonic(), self.status, self._reported
        self._due = NEVER
        if _state_of(new) == _state_of(old):
            if replace(new, last_run=None) == replace(old, last_run=None):
                if now - self._reported_at < self._nothing_new:
                    return
            elif (wait := self._allowance.wait()) > 0:
                self._due = now + wait
                return
            else:
                self._allowance.take()
        self._reported, self._reported_at = new, now
        self._report()


def _state_of(status: RuleStatus) -> tuple[object, ...]:
    """Return what is reported at once when it changes."""
    return (
        status.since,
        status.next,
        status.code,
        status.delivered > 0,
        status.in_place > 0,
        status.quarantined,
        without_quantities(status.message or ""),
    )
