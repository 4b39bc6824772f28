"""Word what transfers have done, for log lines and for the status of tasks and rules."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from iot.sftp.client import Then
from iot.sftp.client._base.text import quoted
from iot.sftp.module._base.wording import rate

if TYPE_CHECKING:
    from iot.sftp.client import FileOrder, FolderOrder, FolderProgress, FolderTransfer, Transfer
    from iot.sftp.module._work.live_task import TaskProgress

_log = logging.getLogger(__name__)


def folder_in_words(done: FolderTransfer, verify: str) -> str:
    """Return a line about the transfer of a folder."""
    counts = f"{done.files} files, {done.skipped} skipped, {done.failed} failed"
    pace = f"{done.bytes} bytes in {done.seconds:.3f} s ({rate(done.bytes, done.seconds)})"
    if done.in_place:
        counts += f", {done.in_place} appended to in place"
    return f"{counts}, {pace}, {_attempts(done.attempts)}, verified by {verify}"


def failures_in_words(done: FolderProgress, then: Then) -> str:
    """Return which files failed, and why the first one did.

    Parameters:
        done: the transfer, with one failure at least.
        then: what was to become of the files at their source.
    """
    first, cause = done.failures[0], done.failures[0].message
    step = f"delivered, cannot be {'deleted' if then is Then.DELETE else 'moved'}"
    if any("its marker cannot" in failure.message.partition(":")[0] for failure in done.failures if failure.delivered):
        step = "delivered, not all done that follows"
    if done.not_removed == done.failed:
        cause = cause.removeprefix(f"it was {step.replace(',', ', and')} at its source: ")
        return f"{step}: {done.not_removed} files, the first one '{first.path}': {cause}"
    some = f" ({done.not_removed} of them {step})" if done.not_removed else ""
    return f"{done.failed} files failed{some}, the first one '{first.path}': {cause}"


def log_file(order: FileOrder, done: Transfer) -> None:
    """Log that a file was transferred."""
    pace = f"{done.bytes} bytes in {done.seconds:.3f} s ({rate(done.bytes - done.resumed, done.seconds)})"
    before = f", {done.resumed} of them there before" if done.resumed else ""
    way = "" if done.atomic else ", replaced in two steps"
    line = "%s: %s%s, %s, verified by %s%s"
    _log.info(line, _route(order), pace, before, _attempts(done.attempts), done.verified, way)


def log_file_break(order: FileOrder, reached: TaskProgress, seconds: float) -> None:
    """Log how much of a file was transferred until that failed."""
    line = "%s: stopped after %d of %d bytes, in %.3f s"
    _log.info(line, _route(order), reached.bytes, reached.total_bytes or 0, seconds, extra={"repeated": True})


def log_folder(order: FolderOrder, done: FolderTransfer, verify: str) -> None:
    """Log that a folder was transferred."""
    _log.info("%s: %s", _route(order), folder_in_words(done, verify))


def log_folder_break(order: FolderOrder, reached: FolderProgress, seconds: float) -> None:
    """Log how much of a folder was transferred until that failed."""
    counts = reached.files, reached.total_files, reached.bytes, seconds
    line = "%s: stopped after %d of %d files, %d bytes, in %.3f s"
    _log.info(line, _route(order), *counts, extra={"repeated": True})


def _route(order: FileOrder | FolderOrder) -> str:
    return f"{quoted(order.source)} -> {quoted(order.dest)}"


def _attempts(count: int) -> str:
    return f"{count} attempt{'' if count == 1 else 's'}"
