"""Delete directories on a server, for calls that wait and for tasks."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from iot.sftp.client._base.text import quoted
from iot.sftp.module._documents.requests import DeleteDirectoryRequest
from iot.sftp.module._work.live_task import TaskOutcome, TaskProgress

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from iot.sftp.client import SFTPSession
    from iot.sftp.module._work.live_task import Job
    from iot.sftp.module._work.servers import Servers

DELETE_DIRECTORY = "delete_directory"

_log = logging.getLogger(__name__)


def delete_directory(
    session: SFTPSession,
    request: DeleteDirectoryRequest,
    *,
    resumes: bool = False,
    timeout: float | None = None,
    progress: Callable[[int], object] = lambda _count: None,
    cancelled: threading.Event | None = None,
) -> int:
    """Delete a directory, and log how many entries that were, also where it did not end: see `SFTPSession`."""
    started, reached = time.monotonic(), 0

    def note(count: int) -> None:
        nonlocal reached
        reached = count
        progress(count)

    try:
        reached = session.delete_directory(
            request.path,
            recursive=request.recursive,
            resumes=resumes,
            timeout=timeout,
            progress=note,
            cancelled=cancelled,
        )
    finally:
        if request.recursive:
            seconds = time.monotonic() - started
            _log.info("%s: %d entries deleted in %.3f s", quoted(request.path), reached, seconds)
    return reached


def work_on_deletion(servers: Servers, job: Job) -> TaskOutcome:
    """Make one attempt of a task that deletes a directory; it goes on with what an earlier one has left."""
    request = DeleteDirectoryRequest.model_validate(job.request)
    before = job.reported.get("deleted", 0)

    def progress_of(count: int) -> TaskProgress:
        return TaskProgress(0, None, {"deleted": before + count})

    with servers.find(job.server).use() as session:
        count = delete_directory(
            session,
            request,
            resumes=job.is_in_doubt,
            progress=lambda count: job.report(progress_of(count)),
            cancelled=job.cancelled,
        )
    return TaskOutcome(progress_of(count))
