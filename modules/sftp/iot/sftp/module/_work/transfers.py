"""Transfer files on the session in use, for calls that wait, for tasks and for rules."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from iot.sftp.client import Direction, FileOrder, FolderOrder, FolderProgress, Modes, SFTPError
from iot.sftp.client._base.text import excerpt
from iot.sftp.module._base.counters import TransferCounters
from iot.sftp.module._documents.orders import order_of
from iot.sftp.module._work.directory_deletion import DELETE_DIRECTORY, work_on_deletion
from iot.sftp.module._work.folder_delivery import FolderDelivery, with_memory
from iot.sftp.module._work.live_task import TaskOutcome, TaskProgress
from iot.sftp.module._work.room import Need, Room
from iot.sftp.module._work.room_for_transfers import need_of, transfer_with_room
from iot.sftp.module._work.task_document import TEXT_SHOWN
from iot.sftp.module._work.transfer_wording import (
    failures_in_words,
    log_file,
    log_file_break,
    log_folder,
    log_folder_break,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from iot.sftp.client import FileContent, FileOutcome, FolderTransfer, LocalFiles, SFTPSession, Transfer
    from iot.sftp.module._work.delivery_ledger import DeliveryLedger
    from iot.sftp.module._work.delivery_ledgers import DeliveryLedgers
    from iot.sftp.module._work.file_events import FileEvents
    from iot.sftp.module._work.live_task import Job
    from iot.sftp.module._work.servers import Servers

Verify = Literal["size", "sha256"]


class Transfers:
    """Carries out orders on a server, as the section `transfers` of the twin says; thread-safe."""

    def __init__(
        self,
        servers: Servers,
        ledgers: DeliveryLedgers | None = None,
        local_files: LocalFiles | None = None,
        file_events: FileEvents | None = None,
    ) -> None:
        """Use the session that a server has at each time.

        Parameters:
            servers: lends it.
            ledgers: what was delivered of folders; without them, nothing is known of earlier transfers.
            local_files: how local folders are reached.
            file_events: reports what becomes of the files of folders.
        """
        self._servers = servers
        self._file_events = file_events
        self._ledgers = ledgers
        self._local_files = local_files
        self.verify: Verify = "size"
        self.modes = Modes()
        self.room = Room()
        self.moves = TransferCounters()

    def transfer_file(self, order: FileOrder, timeout: float, *, server: str) -> None:
        """Transfer one file within `timeout` seconds, from or to a server."""
        with self.moves.one(order.direction.value, server), self._servers.find(server).use() as session:
            self._transfer_file(session, order, timeout=timeout)

    def read_file(self, path: str, longest: int, timeout: float, *, server: str) -> FileContent:
        """Return the bytes of a remote file that has so many at most, within `timeout` seconds."""
        with self.moves.one(Direction.DOWNLOAD.value, server), self._servers.find(server).use() as session:
            return session.read_file(path, longest=longest, timeout=timeout, verify=self.verify)

    def write_file(self, path: str, content: bytes, timeout: float, *, server: str) -> None:
        """Write a remote file within `timeout` seconds."""
        with self.moves.one(Direction.UPLOAD.value, server), self._servers.find(server).use() as session:
            session.write_file(path, content, timeout=timeout, verify=self.verify, modes=self.modes)

    def transfer_folder(
        self,
        order: FolderOrder,
        *,
        server: str,
        is_careful: bool,
        progress: Callable[[FolderProgress], object],
        cancelled: threading.Event,
        task_id: str | None = None,
        rule: str | None = None,
        destination: object = None,
    ) -> tuple[FolderTransfer, bool]:
        """Transfer a folder once.

        Parameters:
            order: which files, and what becomes of them.
            server: the name of the server.
            is_careful: whether the last transfer was interrupted, so that what it has delivered may not be recorded.
            progress: called with each step.
            cancelled: set when it has to stop soon.
            task_id: the task that it is for; `None` for a rule.
            rule: the name of the rule that it is for.
            destination: what stands for the destination in the ledger, if its path depends on the time or the file.

        Returns:
            what was done, and whether it has to be done again carefully, as files were skipped that may have changed.

        Raises:
            SFTPError: what ended it for all files.
        """
        sessions = self._servers.find(server)
        delivery = FolderDelivery(
            order, server, self._ledgers, self._local_files, task_id, destination, sessions.account
        )
        with (
            self.moves.one(order.direction.value, server) as move,
            sessions.use() as session,
            delivery.exclusive_scan(session, cancelled),
        ):
            ledger, verifies = self.room.retry(
                lambda: delivery.open_ledger(session, is_careful=is_careful), Need, cancelled=cancelled
            )

            def note(done: FolderProgress) -> None:
                move.note(done)
                progress(done)

            order = replace(order, verify=self.verify, modes=self.modes, verify_existing=verifies)
            if ledger is not None:
                order = with_memory(order, ledger)
            who = {"task_id": task_id} if rule is None else {"rule": rule}
            with self._reporting({"server": server, "direction": order.direction.value, **who}, ledger) as report:
                transfer = partial(session.transfer_folder, order, cancelled=cancelled, ledger=ledger, on_file=report)
                done = transfer_with_room(self.room, order.direction, transfer, note, cancelled)
            move.note(done)
        if ledger is None:
            return done, False
        delivery.close_scan(done, ledger)
        return done, ledger.is_in_doubt

    @contextmanager
    def _reporting(
        self, origin: dict[str, Any], ledger: DeliveryLedger | None
    ) -> Iterator[Callable[[FileOutcome], object] | None]:
        """Lend what takes the outcomes of a folder's files; `None` where nobody wants to know them."""
        if self._file_events is None:
            yield None
            return
        try:
            yield self._file_events.of(origin, ledger)
        finally:
            self._file_events.close(ledger)

    def work(self, job: Job) -> TaskOutcome:
        """Make one attempt of a task, without a time limit: that of the task ends it."""
        if job.method == DELETE_DIRECTORY:
            return work_on_deletion(self._servers, job)
        order = order_of(job.method, job.request)
        if isinstance(order, FolderOrder):
            return self._work_on_folder(job, order)
        with self.moves.one(order.direction.value, job.server), self._servers.find(job.server).use() as session:
            done = self._transfer_file(session, order, cancelled=job.cancelled, report=job.report)
        details = {"verified": done.verified, "atomic": done.atomic}
        return TaskOutcome(TaskProgress(done.bytes, done.bytes, details))

    def forget(self, task_id: str) -> None:
        """Delete what is recorded for a task that has ended.

        Raises:
            SFTPError: the ledger cannot be written.
        """
        if self._ledgers is not None:
            self._ledgers.forget_task(task_id)

    def _work_on_folder(self, job: Job, order: FolderOrder) -> TaskOutcome:
        started, reached = time.monotonic(), FolderProgress()

        def note(done: FolderProgress) -> None:
            nonlocal reached
            reached = done
            job.report(_progress_of(done))

        try:
            done, _ = self.transfer_folder(
                order,
                server=job.server,
                is_careful=job.attempts > 0,
                progress=note,
                cancelled=job.cancelled,
                task_id=job.task_id or None,
            )
        except SFTPError:
            log_folder_break(order, reached, time.monotonic() - started)
            raise
        log_folder(order, done, self.verify)
        progress = _progress_of(done)
        if not done.failed:
            return TaskOutcome(progress)
        return TaskOutcome(progress, done.failures[0].code, failures_in_words(done, order.then))

    def _transfer_file(
        self,
        session: SFTPSession,
        order: FileOrder,
        *,
        timeout: float | None = None,
        cancelled: threading.Event | None = None,
        report: Callable[[TaskProgress], object] | None = None,
    ) -> Transfer:
        """Transfer one file, and log how much was transferred, also where that is not all."""
        started, reached = time.monotonic(), None

        def note(count: int, total: int | None) -> None:
            nonlocal reached
            reached = TaskProgress(count, total)
            if report is not None:
                report(reached)

        try:
            order = replace(order, verify=self.verify, modes=self.modes)
            end = None if timeout is None else time.monotonic() + timeout

            def transfer() -> Transfer:
                left = None if end is None else max(0.0, end - time.monotonic())
                return session.transfer_file(order, timeout=left, progress=note, cancelled=cancelled)

            done = self.room.retry(transfer, lambda: need_of(order.direction, reached), cancelled=cancelled)
        except SFTPError:
            if reached is not None:
                log_file_break(order, reached, time.monotonic() - started)
            raise
        log_file(order, done)
        return done


def _progress_of(done: FolderProgress | FolderTransfer) -> TaskProgress:
    """Return what the status of a task shows of a folder."""
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
