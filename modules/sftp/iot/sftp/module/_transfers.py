"""Moving files on the session in force, for calls that wait and for tasks."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Literal

from iot.sftp.client import FolderProgress, SFTPError
from iot.sftp.module._logging import printable, quoted, rate, shortened
from iot.sftp.module._requests import FolderRequest, TransferRequest
from iot.sftp.module._tallies import Moves
from iot.sftp.module._task_status import TEXT_SHOWN
from iot.sftp.module._tasks import Outcome, Progress

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from iot.sftp.client import FolderTransfer, SFTPSession, Transfer
    from iot.sftp.module._current_session import CurrentSession
    from iot.sftp.module._tallies import Move
    from iot.sftp.module._tasks import Job

Verify = Literal["size", "sha256"]

_log = logging.getLogger(__name__)


class Transfers:
    """Carries transfers out, as the section `transfers` of the twin wants them."""

    def __init__(self, sessions: CurrentSession) -> None:
        """Use the session in force."""
        self._sessions = sessions
        self.verify: Verify = "size"
        self.moves = Moves()

    def move(self, method: str, request: TransferRequest, timeout: float) -> None:
        """Move one file within `timeout` seconds."""
        with self.moves.one(method), self._sessions.use() as session:
            _move_one(session, method, request, verify=self.verify, timeout=timeout)

    def work(self, job: Job) -> Outcome:
        """Do one try of a task, without a time limit: the task's own ends it."""
        with self.moves.one(job.method) as move, self._sessions.use() as session:
            if job.method in ("download_files", "upload_files"):
                return _move_folder(session, job, FolderRequest.model_validate(job.request), self.verify, move)
            return self._move_file(session, job, TransferRequest.model_validate(job.request))

    def _move_file(self, session: SFTPSession, job: Job, request: TransferRequest) -> Outcome:
        done = _move_one(session, job.method, request, verify=self.verify, cancelled=job.cancelled, report=job.report)
        details = {"verified": done.verified, "atomic": done.atomic}
        return Outcome(Progress(done.bytes, done.bytes, details))


def _move_one(
    session: SFTPSession,
    method: str,
    request: TransferRequest,
    *,
    verify: Verify,
    timeout: float | None = None,
    cancelled: threading.Event | None = None,
    report: Callable[[Progress], object] | None = None,
) -> Transfer:
    """Move one file, and log what was moved, also where that is not all."""
    started, reached = time.monotonic(), None

    def note(count: int, total: int | None) -> None:
        nonlocal reached
        reached = Progress(count, total)
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


def _move_folder(session: SFTPSession, job: Job, request: FolderRequest, verify: Verify, move: Move) -> Outcome:
    started, reached = time.monotonic(), FolderProgress()

    def note(done: FolderProgress) -> None:
        nonlocal reached
        reached = done
        move.note(done)
        job.report(_folder_progress(done))

    transfer = session.download_files if job.method == "download_files" else session.upload_files
    # After an interruption, what has arrived is not moved again
    again = job.tries > 0 and request.if_exists == "replace"
    try:
        done = transfer(
            request.source,
            request.dest,
            file_pattern=request.file_pattern,
            recursive=request.recursive,
            if_exists="skip_same" if again else request.if_exists,
            then="move" if isinstance(request.then, dict) else request.then,
            move_to=request.then["move"] if isinstance(request.then, dict) else None,
            min_age=request.min_age,
            progress=note,
            cancelled=job.cancelled,
            verify=verify,
        )
    except SFTPError:
        counts = reached.files, reached.total_files, reached.bytes, time.monotonic() - started
        line = "%s -> %s: it broke off with %d of %d files there, %d bytes, after %.3f s"
        _log.info(line, quoted(request.source), quoted(request.dest), *counts, extra={"repeated": True})
        raise
    _log.info("%s -> %s: %s", quoted(request.source), quoted(request.dest), folder_in_words(done, verify))
    move.note(done)
    progress = _folder_progress(done)
    if not done.failed:
        return Outcome(progress)
    first = done.failures[0]
    return Outcome(progress, first.code, f"{done.failed} files failed, the first one '{first.path}': {first.message}")


def folder_in_words(done: FolderTransfer, verify: Verify) -> str:
    """Word what the transfer of a folder did, for a line of the log."""
    counts = f"{done.files} files, {done.skipped} skipped, {done.failed} failed"
    pace = f"{done.bytes} bytes in {done.seconds:.3f} s ({rate(done.bytes, done.seconds)})"
    return f"{counts}, {pace}, {_tries(done.attempts)}, verified by {verify}"


def _log_end(request: TransferRequest, done: Transfer) -> None:
    pace = f"{done.bytes} bytes in {done.seconds:.3f} s ({rate(done.bytes - done.resumed, done.seconds)})"
    before = f", {done.resumed} of them there before" if done.resumed else ""
    way = "" if done.atomic else ", replaced in two steps"
    place = f"{quoted(request.source)} -> {quoted(request.dest)}"
    _log.info("%s: %s%s, %s, verified by %s%s", place, pace, before, _tries(done.attempts), done.verified, way)


def _log_break(request: TransferRequest, reached: Progress, seconds: float) -> None:
    place = f"{quoted(request.source)} -> {quoted(request.dest)}"
    line = "%s: it broke off with %d of %d bytes there, after %.3f s"
    _log.info(line, place, reached.bytes, reached.total_bytes or 0, seconds, extra={"repeated": True})


def _tries(count: int) -> str:
    return f"{count} attempt{'' if count == 1 else 's'}"


def _folder_progress(done: FolderProgress | FolderTransfer) -> Progress:
    details: dict[str, Any] = {
        "files": done.files,
        "total_files": done.total_files,
        "skipped": done.skipped,
        "failed": done.failed,
        "failures": [
            {
                "path": printable(shortened(failure.path, TEXT_SHOWN)),
                "code": failure.code,
                "message": printable(shortened(failure.message, TEXT_SHOWN)),
            }
            for failure in done.failures
        ],
    }
    return Progress(done.bytes, done.total_bytes, details)
