"""Moving files on the session in force, for calls that wait and for tasks."""

from __future__ import annotations

import logging
import os
import posixpath
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from iot.sftp.client import FolderProgress, SFTPError
from iot.sftp.client._base.text import excerpt, quoted
from iot.sftp.module._base.counters import TransferCounters
from iot.sftp.module._base.wording import rate
from iot.sftp.module._documents.requests import FolderRequest, TransferRequest
from iot.sftp.module._work.live_task import TaskOutcome, TaskProgress
from iot.sftp.module._work.task_document import TEXT_SHOWN

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from iot.sftp.client import FolderTransfer, LocalFiles, SFTPSession, Transfer
    from iot.sftp.module._documents.rule import Rule
    from iot.sftp.module._work.current_session import CurrentSession
    from iot.sftp.module._work.delivery_ledger import DeliveryLedger, DeliveryLedgers
    from iot.sftp.module._work.live_task import Job

Verify = Literal["size", "sha256"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderMove:
    """How a folder is transferred once, for a rule or a task.

    Attributes:
        direction: `upload` or `download`.
        what: the folders, and which files.
        is_careful: what has arrived may not be in the ledger, as the last run was interrupted.
        progress: told how far it is.
        cancelled: set when it has to end soon.
        ledgers: what has arrived; without them, nothing is known of what an earlier run did.
        local_files: how local folders are reached.
        task: whose ledger it is, if it is a task.
    """

    direction: str
    what: Rule | FolderRequest
    is_careful: bool
    progress: Callable[[FolderProgress], object]
    cancelled: threading.Event
    ledgers: DeliveryLedgers | None
    local_files: LocalFiles | None
    task: str | None = None

    @property
    def keeps(self) -> bool:
        """Whether the source keeps its files."""
        return self.what.then == "keep"

    def covers(self, path: str) -> bool:
        """Tell whether a look finds a file if it is there, by its path relative to the source."""
        pattern, shown = self.what.file_pattern, _listed(self.what.source, path)
        return (self.what.recursive or "/" not in path) and (pattern is None or pattern in shown)

    def turn(self, session: SFTPSession) -> AbstractContextManager[None]:
        """Wait until no other rule or task takes the same files the same way."""
        if self.ledgers is None:
            return nullcontext()
        return self.ledgers.exclusive_scan(
            *self._way(session), pattern=self.what.file_pattern, cancelled=self.cancelled
        )

    def _way(self, session: SFTPSession) -> list[object]:
        settings, what = session.settings, self.what
        way: list[object] = [settings.host, settings.port, settings.user, settings.root]
        way += [self.direction, what.source, what.dest]
        return way if self._own is None else [*way, self._own]

    @property
    def _own(self) -> str | None:
        """The task whose own ledger it is: who asks again for a folder that is kept wants it sent again."""
        return self.task if self.keeps else None

    def open_ledger(self, session: SFTPSession) -> tuple[DeliveryLedger | None, bool]:
        """Return the ledger for a look, and whether it is to be a careful one.

        Raises:
            SFTPError: the ledger cannot be used.
        """
        if self.ledgers is None:
            return None, self.is_careful
        try:
            ledger = self.ledgers.of(
                *self._way(session),
                task=self._own,
                covers=self.covers,
                home=self._home(),
                is_strict=not self.keeps,
                verifies=self.is_careful,
            )
            # Where something waits for its deletion, whoever mends that (chmod, chown) changes the file, not its bytes
            return ledger, self.is_careful or (not self.keeps and ledger.holds_any())
        except SFTPError as error:
            if self.keeps and self.task is None:  # it would send everything again, run after run
                raise
            _log.warning(
                "deliveries are recorded in memory only, and compared again after a restart: %s", error.message
            )
            return None, True

    def _home(self) -> int | None:
        """Return the inode of a local source; `None` if it is remote, or not there."""
        if self.direction != "upload" or self.local_files is None:
            return None
        try:
            directory = self.local_files.open_directory(self.what.source)
        except SFTPError:  # the transfer says why
            return None
        try:
            return os.fstat(directory).st_ino % 2**63
        finally:
            os.close(directory)


class Transfers:
    """Carries transfers out, as the section `transfers` of the twin wants them."""

    def __init__(
        self,
        sessions: CurrentSession,
        ledgers: DeliveryLedgers | None = None,
        local_files: LocalFiles | None = None,
    ) -> None:
        """Use the session in force.

        Parameters:
            sessions: lends it.
            ledgers: for folders: see `FolderMove`.
            local_files: the same.
        """
        self._sessions = sessions
        self._ledgers = ledgers
        self._local_files = local_files
        self.verify: Verify = "size"
        self.moves = TransferCounters()

    def move(self, method: str, request: TransferRequest, timeout: float) -> None:
        """Move one file within `timeout` seconds."""
        with self.moves.one(method), self._sessions.use() as session:
            _move_one(session, method, request, verify=self.verify, timeout=timeout)

    def work(self, job: Job) -> TaskOutcome:
        """Do one try of a task, without a time limit: the task's own ends it."""
        if job.method in ("download_files", "upload_files"):
            return self._work_on_folder(job, FolderRequest.model_validate(job.request))
        with self.moves.one(job.method), self._sessions.use() as session:
            return self._move_file(session, job, TransferRequest.model_validate(job.request))

    def forget(self, task_id: str) -> None:
        """Forget what was noted for a task that has ended.

        Raises:
            SFTPError: the ledger cannot be written.
        """
        if self._ledgers is not None:
            self._ledgers.forget_task(task_id)

    def move_folder(self, order: FolderMove) -> tuple[FolderTransfer, bool]:
        """Transfer a folder once.

        Returns:
            what was done, and whether it has to be done again carefully: files were left alone that may have changed.

        Raises:
            SFTPError: what ended it for all files.
        """
        what = order.what
        move_to = what.then["move"] if isinstance(what.then, dict) else None
        with self.moves.one(order.direction) as move, self._sessions.use() as session, order.turn(session):
            ledger, is_careful = order.open_ledger(session)

            def note(done: FolderProgress) -> None:
                move.note(done)
                order.progress(done)

            transfer = session.upload_files if order.direction == "upload" else session.download_files
            done = transfer(
                what.source,
                what.dest,
                file_pattern=what.file_pattern,
                recursive=what.recursive,
                if_exists=what.if_exists,
                then="move" if isinstance(what.then, dict) else what.then,
                move_to=move_to,
                min_age=what.min_age,
                progress=note,
                cancelled=order.cancelled,
                ledger=ledger,
                verify=self.verify,
                verify_existing=is_careful,
            )
            move.note(done)
        if ledger is None:
            return done, False
        ledger.end_scan(is_complete=_is_complete(what.source, done, ledger))
        return done, ledger.is_in_doubt

    def _work_on_folder(self, job: Job, request: FolderRequest) -> TaskOutcome:
        started, reached = time.monotonic(), FolderProgress()

        def note(done: FolderProgress) -> None:
            nonlocal reached
            reached = done
            job.report(_folder_progress(done))

        direction = "download" if job.method == "download_files" else "upload"
        order = FolderMove(
            direction,
            request,
            is_careful=job.attempts > 0,
            progress=note,
            cancelled=job.cancelled,
            ledgers=self._ledgers,
            local_files=self._local_files,
            task=job.task_id or None,
        )
        try:
            done, _ = self.move_folder(order)
        except SFTPError:
            counts = reached.files, reached.total_files, reached.bytes, time.monotonic() - started
            line = "%s -> %s: stopped after %d of %d files, %d bytes, in %.3f s"
            _log.info(line, quoted(request.source), quoted(request.dest), *counts, extra={"repeated": True})
            raise
        _log.info("%s -> %s: %s", quoted(request.source), quoted(request.dest), folder_in_words(done, self.verify))
        progress = _folder_progress(done)
        if not done.failed:
            return TaskOutcome(progress)
        return TaskOutcome(progress, done.failures[0].code, failures_in_words(done, request.then))

    def _move_file(self, session: SFTPSession, job: Job, request: TransferRequest) -> TaskOutcome:
        done = _move_one(session, job.method, request, verify=self.verify, cancelled=job.cancelled, report=job.report)
        details = {"verified": done.verified, "atomic": done.atomic}
        return TaskOutcome(TaskProgress(done.bytes, done.bytes, details))


def _move_one(
    session: SFTPSession,
    method: str,
    request: TransferRequest,
    *,
    verify: Verify,
    timeout: float | None = None,
    cancelled: threading.Event | None = None,
    report: Callable[[TaskProgress], object] | None = None,
) -> Transfer:
    """Move one file, and log what was moved, also where that is not all."""
    started, reached = time.monotonic(), None

    def note(count: int, total: int | None) -> None:
        nonlocal reached
        reached = TaskProgress(count, total)
        if report is not None:
            report(reached)

    transfer = session.download_file if method == "download_file" else session.upload_file
    try:
        done = transfer(
            request.source, request.dest, timeout=timeout, verify=verify, cancelled=cancelled, progress=note
        )
    except SFTPError:
        if reached is not None:
            _log_break(request, reached, time.monotonic() - started)
        raise
    _log_end(request, done)
    return done


def folder_in_words(done: FolderTransfer, verify: Verify) -> str:
    """Word what the transfer of a folder did, for a line of the log."""
    counts = f"{done.files} files, {done.skipped} skipped, {done.failed} failed"
    pace = f"{done.bytes} bytes in {done.seconds:.3f} s ({rate(done.bytes, done.seconds)})"
    return f"{counts}, {pace}, {_tries(done.attempts)}, verified by {verify}"


def failures_in_words(done: FolderProgress, then: object) -> str:
    """Word which files failed, and why the first one did.

    Parameters:
        done: with a failure at least.
        then: what was to become of the files at their source.
    """
    first, cause = done.failures[0], done.failures[0].message
    step = f"delivered, cannot be {'deleted' if then == 'delete' else 'moved'}"
    if done.not_removed == done.failed:
        cause = cause.removeprefix(f"it was {step.replace(',', ', and')} at its source: ")
        return f"{step}: {done.not_removed} files, the first one '{first.path}': {cause}"
    some = f" ({done.not_removed} of them {step})" if done.not_removed else ""
    return f"{done.failed} files failed{some}, the first one '{first.path}': {cause}"


def _log_end(request: TransferRequest, done: Transfer) -> None:
    pace = f"{done.bytes} bytes in {done.seconds:.3f} s ({rate(done.bytes - done.resumed, done.seconds)})"
    before = f", {done.resumed} of them there before" if done.resumed else ""
    way = "" if done.atomic else ", replaced in two steps"
    place = f"{quoted(request.source)} -> {quoted(request.dest)}"
    _log.info("%s: %s%s, %s, verified by %s%s", place, pace, before, _tries(done.attempts), done.verified, way)


def _log_break(request: TransferRequest, reached: TaskProgress, seconds: float) -> None:
    place = f"{quoted(request.source)} -> {quoted(request.dest)}"
    line = "%s: stopped after %d of %d bytes, in %.3f s"
    _log.info(line, place, reached.bytes, reached.total_bytes or 0, seconds, extra={"repeated": True})


def _listed(source: str, path: str) -> str:
    """Return the path of a file as listings of its folder show it."""
    return path if source in {"", "."} else posixpath.join(source, path)


def _is_complete(source: str, done: FolderTransfer, ledger: DeliveryLedger) -> bool:
    """Tell whether all folders of a source could be listed: what failed are files that were found there."""
    prefix = _listed(source, "")
    found = [failure for failure in done.failures if ledger.has_found(failure.path[len(prefix) :])]
    return len(found) == done.failed


def _tries(count: int) -> str:
    return f"{count} attempt{'' if count == 1 else 's'}"


def _folder_progress(done: FolderProgress | FolderTransfer) -> TaskProgress:
    details: dict[str, Any] = {
        "files": done.files,
        "total_files": done.total_files,
        "skipped": done.skipped,
        "failed": done.failed,
        "delivered": done.not_removed,
        "failures": [
            {
                "path": excerpt(failure.path, TEXT_SHOWN),
                "code": failure.code,
                "message": excerpt(failure.message, TEXT_SHOWN),
            }
            for failure in done.failures
        ],
    }
    return TaskProgress(done.bytes, done.total_bytes, details)
