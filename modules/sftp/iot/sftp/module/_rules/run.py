"""Make one run of a rule: transfer its folder once, and say how that ended."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from iot.sftp.client import Cancelled, Direction, FolderTransfer, Internal, SFTPError
from iot.sftp.module._base.counters import LabelledCounter
from iot.sftp.module._base.wording import describe, internal_error
from iot.sftp.module._documents.orders import folder_order
from iot.sftp.module._documents.template_parts import check_clock
from iot.sftp.module._work.due_times import DueTimes
from iot.sftp.module._work.transfer_wording import failures_in_words, folder_in_words

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from iot.sftp.client import FolderOrder, FolderProgress, LocalFiles
    from iot.sftp.module._documents.rule import Rule
    from iot.sftp.module._work.delivery_ledgers import DeliveryLedgers
    from iot.sftp.module._work.server_slots import ServerSlots
    from iot.sftp.module._work.transfers import Transfers

_log = logging.getLogger(__name__)


class RunOutcome(Enum):
    """How a run ends; the values are those of the metrics."""

    COMPLETED = "completed"
    INCOMPLETE = "incomplete"  # single files have failed, others have not
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # preempted by a call, or because the rule or the module ends


@dataclass(frozen=True)
class RuleContext:
    """The parts of the module that rules use.

    Attributes:
        transfers: transfer the folders.
        slots: where runs wait for their turns.
        ledgers: what has arrived.
        local_files: how local folders are reached.
        on_failure: called for each failure with what, the code and the message; must not block.
        clock: gives the moment for calendars, and for dates in paths, in seconds since 1970.
        due_times: remember which times of `at` are done.
        runs: counts the runs that have ended, by server and outcome.
    """

    transfers: Transfers
    slots: ServerSlots
    ledgers: DeliveryLedgers
    local_files: LocalFiles
    on_failure: Callable[[str, str, str], None] = lambda _what, _code, _message: None
    clock: Callable[[], float] = time.time
    due_times: DueTimes = field(default_factory=DueTimes)
    runs: LabelledCounter = field(default_factory=LabelledCounter)


@dataclass(frozen=True)
class RunResult:
    """How a run has ended.

    Attributes:
        outcome: in one word.
        moved: what it has transferred.
        code: why it, or the first file, failed.
        message: the same for people.
        is_whole: whether it has scanned the whole folder, so that only single files can have failed.
        is_in_doubt: whether files may have changed since they arrived, which only a careful run finds out.
        has_young: whether files were left because they are younger than the rule's `min_age`.
    """

    outcome: RunOutcome
    moved: FolderProgress
    code: str | None = None
    message: str | None = None
    is_whole: bool = False
    is_in_doubt: bool = False
    has_young: bool = False

    @property
    def has_undelivered(self) -> bool:
        """Whether files were found that have not arrived."""
        return self.moved.failed > self.moved.not_removed


def make_run(
    rule: Rule,
    context: RuleContext,
    *,
    is_careful: bool,
    interruption: threading.Event,
    progress: Callable[[FolderProgress], None],
    moment: float | None = None,
) -> RunResult:
    """Transfer the folder of a rule once; raises nothing.

    Parameters:
        rule: what is transferred.
        context: what it is transferred with.
        is_careful: whether bytes at the destination are compared where the ledger does not decide.
        interruption: set when the run has to stop soon.
        progress: called for each step.
        moment: the moment for a date in the source, in seconds since 1970; `None` is this one.
    """
    moved: FolderProgress = FolderTransfer()  # as far as it came

    def note(reached: FolderProgress) -> None:
        nonlocal moved
        moved = reached
        progress(reached)

    try:
        if rule.calendar is not None:
            check_clock(context.clock(), "the times of the rule cannot be known")
        order = folder_order(Direction(rule.direction), rule, context.clock, moment=moment)
        done, is_in_doubt = context.transfers.transfer_folder(
            order,
            server=rule.server,
            is_careful=is_careful,
            progress=note,
            cancelled=interruption,
            destination=rule.dest.identity(),
            rule=rule.name,
        )
    except Cancelled:
        return RunResult(RunOutcome.INTERRUPTED, moved)
    except SFTPError as error:
        return RunResult(RunOutcome.FAILED, moved, error.code, describe(error))
    except Exception:  # noqa: BLE001 - whatever it is, the rule goes on
        _log.exception("internal error")
        return RunResult(RunOutcome.FAILED, moved, Internal.code, internal_error(f"rule {rule.name}"))
    if done.files:
        _log.info("%s", folder_in_words(done, context.transfers.verify))
    return _result(order, done, is_in_doubt=is_in_doubt)


def _result(order: FolderOrder, done: FolderTransfer, *, is_in_doubt: bool) -> RunResult:
    """Return the result of a run that has scanned the whole folder."""
    has_young = done.young > 0
    if not done.failures:
        return RunResult(RunOutcome.COMPLETED, done, is_whole=True, is_in_doubt=is_in_doubt, has_young=has_young)
    is_failure = done.failed > done.not_removed and not done.files
    outcome = RunOutcome.FAILED if is_failure else RunOutcome.INCOMPLETE
    code, message = done.failures[0].code, failures_in_words(done, order.then)
    return RunResult(outcome, done, code, message, is_whole=True, has_young=has_young)
