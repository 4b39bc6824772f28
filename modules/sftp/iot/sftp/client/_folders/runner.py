"""Whole folders: many files on their way at once over one connection, each whole or not at all.

A file by itself costs a few round trips. Here the steps of many files are in flight together: small files by the
dozen, large ones, each of which fills the line by itself, a few at a time, so that what is held in memory is bounded.
One file's failure is told and does not stop the others; after a broken connection only what is not done is done again.

A decision about a file is made when its turn comes, with what it is like then: it may be minutes since its folder was
listed. No source is deleted or moved unless the very version that is there is known to have arrived: because it was
just transferred, by a ledger's record, or by equal hashes (`_versions` says why sizes and times do not prove that).
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from iot.sftp.client._base.deadline import Deadline, Interruption
from iot.sftp.client._base.errors import (
    AuthenticationFailed,
    Busy,
    Cancelled,
    ConnectionLost,
    DeadlineExceeded,
    HostKeyMismatch,
    Internal,
    LocalBusy,
    NoSpace,
    SFTPError,
    TooLarge,
    Unreachable,
)
from iot.sftp.client._base.memory import Budget
from iot.sftp.client._files.remote_paths import listed
from iot.sftp.client._files.taking import VersionChanged
from iot.sftp.client._folders.folder_order import IfExists, Then
from iot.sftp.client._folders.trees import Found, Page, Unlisted, size_of, walk

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from iot.sftp.client._files.file_version import FileVersion
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._folders.folder_order import FolderOrder
    from iot.sftp.client._folders.ledgers import SessionLedger

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

SMALL = 256 * 1024  # bytes: what is not larger goes in one request or two
SMALL_AT_ONCE, LARGE_AT_ONCE = 64, 4
FAILURES_KEPT = 20
PROGRESS_INTERVAL = 0.1  # seconds
PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # seconds, before what often passes is tried again: see `LocalBusy`
TOUCHED_TRIES = 3  # to delete or move a file whose change time goes on changing
NANOSECONDS = 1_000_000_000
LATEST = 0xFFFFFFFF * NANOSECONDS  # since 1970

# What is wrong with the connection, the call or the disk is wrong for all files. Everything else is about one file.
ENDS_ALL = (
    AuthenticationFailed, ConnectionLost, DeadlineExceeded, HostKeyMismatch, Internal, NoSpace, TooLarge, Unreachable,
)  # fmt: skip
# What is wrong with the place that a file is moved to concerns that file: others may arrive, at least.
ENDS_ALL_AFTER_ARRIVAL = tuple(reason for reason in ENDS_ALL if reason not in {NoSpace, TooLarge})


@dataclass(frozen=True)
class FileFailure:
    """Why one file of a folder was not transferred, or could not be deleted or moved at its source after its arrival.

    Attributes:
        path: the file's, as `list_files` shows it.
        code: the stable name of the reason: that of an `SFTPError`.
        message: the same for people.
        delivered: whether this version of the file has arrived, now or in an earlier call.
    """

    path: str
    code: str
    message: str
    delivered: bool = False


@dataclass(frozen=True)
class FolderProgress:
    """How far the transfer of a folder is.

    Attributes:
        files: delivered by this call.
        total_files: found so far that are to be looked at; those that vanished meanwhile are taken out again. A folder
            with more files than there is memory for is listed part by part, so that it grows.
        bytes: transferred.
        total_bytes: of all files that were found so far.
        skipped: left alone, because of `if_exists`; or delivered by an earlier call, and now deleted or moved.
        failed: not transferred, or not deleted or moved afterwards.
        failures: the first 20 of these.
        young: left for the next time, because of `min_age`.
        not_removed: delivered, by this call or an earlier one, and could not be deleted or moved at the source: these
            are counted in `failed` as well, and are not transferred again as long as they stay what they are.
    """

    files: int = 0
    total_files: int = 0
    bytes: int = 0
    total_bytes: int = 0
    skipped: int = 0
    failed: int = 0
    failures: tuple[FileFailure, ...] = ()
    young: int = 0
    not_removed: int = 0


@dataclass(frozen=True)
class FolderTransfer(FolderProgress):
    """What the transfer of a folder did: its last progress, the seconds that it took, and how often it was tried."""

    seconds: float = 0.0
    attempts: int = 1


class Lender(Protocol):
    """Gives a connection's channels: an attempt of the session."""

    deadline: Deadline

    def transfer(self, deadline: Deadline | None = None) -> AbstractContextManager[RemoteFiles]:
        """Lend the server's files over a channel for one transfer."""


class Direction(Protocol):
    """What differs between downloads and uploads.

    Attributes:
        excluded: the directory that files are moved to, relative to the source, if it is in it: not to be found again.
    """

    excluded: str | None

    def look(self, remote: RemoteFiles, directory: str, page: Page) -> None:
        """List a directory of the source, given relative to it, onto a page."""

    def begin(self) -> None:
        """Prepare for an attempt."""

    def end(self) -> None:
        """Give back what an attempt holds."""

    def version_at_source(self, remote: RemoteFiles, found: Found) -> FileVersion:
        """Return the version of the source's file that is there now."""

    def version_at_dest(self, remote: RemoteFiles, found: Found) -> FileVersion | None:
        """Return the version of what is at a file's destination, `None` where nothing is."""

    def proven_version(self, remote: RemoteFiles, found: Found) -> FileVersion | None:
        """Return the version of the source's file whose bytes are at the destination, by a hash; `None` for others."""

    def transfer(
        self,
        remote: RemoteFiles,
        found: Found,
        accept: Callable[[FileVersion], object],
        progress: Callable[[int, int | None], None],
    ) -> tuple[int, FileVersion]:
        """Transfer a file and return its size, and the version that was transferred.

        Parameters:
            remote: the server's files.
            found: the file.
            accept: told the version that is there now, before it is transferred; leaves it alone by raising.
            progress: told the bytes that are there, and those that there will be.
        """

    def vanished(self, remote: RemoteFiles, found: Found) -> bool:
        """Tell whether the source's file is not there any more."""

    def finish(
        self, remote: RemoteFiles, found: Found, version: FileVersion, on_put_back: Callable[[FileVersion], object]
    ) -> None:
        """Delete or move the source's file, if it still is the version that has arrived.

        Parameters:
            remote: the server's files.
            found: the file.
            version: the one that has arrived.
            on_put_back: told what it is like by now, where it was taken out of its place and had to be put back.

        Raises:
            VersionChanged: it is another version, and was left alone.
        """


class _IsYoung(Exception):  # noqa: N818 - it is no error: the file is left for the next time
    pass


class FolderRun:
    """The transfer of one folder, over as many attempts as it takes: what is done stays done."""

    def __init__(
        self,
        order: FolderOrder,
        direction: Direction,
        ledger: SessionLedger | None,
        progress: Callable[[FolderProgress], object] | None,
    ) -> None:
        """Take what is to be done; nothing is begun.

        Parameters:
            order: which files, and how.
            direction: where to.
            ledger: which versions of files have arrived before.
            progress: told of each change, at most ten times a second, in the thread of `attempt`.
        """
        self.order = order
        self._ledger = ledger
        self._direction = direction
        self._progress = progress
        self._lock = threading.Lock()
        self._attempts = 0
        self._start: str | None = ""  # where the next page of the folder begins; `None` behind the last one
        self._is_planned = False
        self._pages = self._found = 0
        self._ledger_failure: SFTPError | None = None
        self._budget: Budget | None = None  # of the names below, which count as long as it is held
        self._small: deque[Found] = deque()
        self._large: deque[Found] = deque()
        self._busy: list[Found] = []
        self._is_second_try = False
        self._under_way: dict[str, int] = {}  # bytes of files that are being transferred
        self._arrived: dict[str, FileVersion] = {}  # files of which only the last step is left, and what has arrived
        self._files = self._total_files = self._bytes = self._total_bytes = self._skipped = self._failed = 0
        self._young = self._not_removed = 0
        self._failures: list[FileFailure] = []
        self._told = FolderProgress()

    @property
    def done(self) -> int:
        """How much is done: it grows with each file that need not be looked at again."""
        return self._pages + self._files + self._skipped + self._failed + self._young

    def snapshot(self) -> FolderProgress:
        """Return how far it is."""
        with self._lock:
            return FolderProgress(
                self._files,
                self._total_files,
                self._bytes + sum(self._under_way.values()),
                self._total_bytes,
                self._skipped,
                self._failed,
                tuple(self._failures),
                self._young,
                self._not_removed,
            )

    def result(self, seconds: float) -> FolderTransfer:
        """Return what was done."""
        return FolderTransfer(**vars(self.snapshot()), seconds=seconds, attempts=self._attempts)

    def close(self) -> None:
        """Keep no names any more, also where its error is held: nothing is gone on with."""
        with self._lock:
            for names in (self._small, self._large, self._busy, self._arrived):
                names.clear()
        if self._budget is not None:
            self._budget.close()

    def attempt(self, lender: Lender) -> None:
        """Do all that is not done yet over a connection.

        Raises:
            SFTPError: what ended it for all files: see `ENDS_ALL`, and the folder itself that could not be listed.
        """
        self._attempts += 1
        self._direction.begin()
        try:
            while self._is_planned or self._start is not None:
                if not self._is_planned:
                    self._together(lender, [self._plan])
                self._work(lender)
                # What a broken attempt has left may just have been cleaned up, which keeps a destination for a moment.
                self._small += self._busy
                self._busy, self._is_second_try = [], True
                self._work(lender)
                self._is_planned = self._is_second_try = False
        finally:
            self._direction.end()
            self.tell()

    def tell(self) -> None:
        """Tell of the progress, if there is any."""
        now = self.snapshot()
        if self._progress is not None and now != self._told:
            self._told = now
            self._progress(now)

    def _work(self, lender: Lender) -> None:
        widths = ((self._small, SMALL_AT_ONCE), (self._large, LARGE_AT_ONCE))
        queues = [queue for queue, width in widths for _ in range(min(width, len(queue)))]
        self._together(lender, [partial(self._work_off, queue) for queue in queues])

    def _together(self, lender: Lender, work: list[Callable[[Lender, Deadline], None]]) -> None:
        """Do work in threads, and tell of the progress here; whatever ends one of them ends all of them."""
        if not work:
            return
        stop = Interruption()
        deadline = Deadline(lender.deadline.remaining() if lender.deadline.limited else None, stop)
        with ThreadPoolExecutor(len(work), thread_name_prefix="sftp-folder") as threads:
            # In the caller's context, so that what is logged can be told to be about its call
            futures = [threads.submit(copy_context().run, _do_work, step, lender, deadline) for step in work]
            try:
                pending = set(futures)
                while pending and not any(future.exception() for future in futures if future.done()):
                    _, pending = wait(pending, PROGRESS_INTERVAL, FIRST_EXCEPTION)
                    self.tell()
                    lender.deadline.check()
            finally:
                stop.goes_on = lender.deadline.keeps
                stop.set()
        lender.deadline.check()
        # What ended the work is told, and not that the other threads were asked to end because of it.
        errors = [error for error in (future.exception() for future in futures) if error is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, Cancelled)):
            raise error

    def _plan(self, lender: Lender, deadline: Deadline) -> None:
        """Find the next files, as many as there is memory for. Nothing is kept of an attempt that breaks."""
        if self._budget is not None:
            self._budget.close()
        budget, unlisted, told = Budget(), 0, list[Unlisted]()
        page = Page(budget, self._start or "", self._choose, self._direction.excluded, self._found)
        look = partial(self._look, lender, deadline, page)
        for directory in walk(look, page, recursive=self.order.recursive, ends_all=self._ends_planning):
            unlisted += 1
            if len(told) < FAILURES_KEPT:  # there may be as many as there are names, and each error takes much more
                told.append(directory)
        old, young = list[Found](), 0
        for file in page.files():
            if self.order.is_too_young(file.version) and not file.is_delivered:
                young += 1
            else:
                old.append(file)
        budget.keep_only(sum(size_of(file.path) for file in old))
        with self._lock:
            for file in old:
                (self._small if file.size <= SMALL else self._large).append(file)
            self._total_files += len(old)
            self._total_bytes += sum(map(_size_to_move, old))
            self._young += young
            self._failed += unlisted - len(told)
            self._budget, self._start, self._is_planned = budget, page.bound, True
            self._found = page.count
            self._pages += 1
        for path, error in told:
            self._fail(path, error)

    def _choose(self, found: Found) -> Found | None:
        """Return a file that is to be looked at, with what the ledger tells of it; nothing of any other."""
        if not self.order.selects(found.path):
            return None
        ledger = self._ledger
        if ledger is None:
            return found
        try:
            if found.was_taken:  # which has changed its change time, and nothing else
                is_known = ledger.knows(found.path, found.version._replace(changed=None))
                if is_known:
                    ledger.note(found.path, found.version)
            else:
                is_known = ledger.knows(found.path, found.version)
        except SFTPError as error:
            self._ledger_failure = error
            raise
        if not is_known:
            return found
        is_all = self.order.keeps_source and found.version.modified is not None  # else there may be more to ask
        return None if is_all else found._replace(is_delivered=True)

    def _look(self, lender: Lender, deadline: Deadline, page: Page, directory: str) -> None:
        deadline.check()
        with lender.transfer(deadline) as remote:
            _patiently(deadline, lambda: self._direction.look(remote, directory, page))

    def _ends_planning(self, error: SFTPError) -> bool:
        if error is self._ledger_failure or isinstance(error, ENDS_ALL):
            return True
        return _is_busy(error)

    def _work_off(self, queue: deque[Found], lender: Lender, deadline: Deadline) -> None:
        """Do what one thread does: one file after the other, until there is none left."""
        while True:
            try:
                found = queue.popleft()
            except IndexError:
                return
            try:
                deadline.check()
                with lender.transfer(deadline) as remote:
                    self._do(remote, found)
            except BaseException:
                queue.appendleft(found)  # for the next attempt
                raise

    def _do(self, remote: RemoteFiles, found: Found) -> None:
        """Do all that is to be done with one file; what is wrong with it is noted, what ends all is raised."""
        try:
            if found.path not in self._arrived:
                if found.is_delivered and self._finish_delivered(remote, found):
                    return
                _patiently(remote.deadline, lambda: self._deliver(remote, found))
        except _IsYoung:
            self._take_out(found)
            with self._lock:
                self._young += 1
        except ENDS_ALL:
            raise
        except SFTPError as error:
            if _is_busy(error) and not self._is_second_try:
                self._busy.append(found)
            elif self._vanished(remote, found):
                self._take_out(found)
            else:
                self._fail(found.path, error)
        else:
            arrived = self._arrived.get(found.path)
            if arrived is not None:
                self._finish(remote, found, arrived)

    def _take_out(self, found: Found) -> None:
        with self._lock:
            self._total_files -= 1
            self._total_bytes -= _size_to_move(found)

    def _finish_delivered(self, remote: RemoteFiles, found: Found) -> bool:
        """Do the last step for what a ledger knows to have arrived; `False` if it does not know what is there now."""
        version, is_kept = found.version, self.order.keeps_source
        if version.modified is None:  # by the listing; the server may tell more of a single file
            version = self._direction.version_at_source(remote, found)
            assert self._ledger is not None  # noqa: S101 - which has told that it is delivered
            is_known = self._ledger.knows(found.path, version)
            if not is_known or (version.modified is None and not is_kept):
                return False
        if is_kept:
            with self._lock:
                self._skipped += 1
            return True
        return self._finish(remote, found, version)

    def _deliver(self, remote: RemoteFiles, found: Found) -> None:
        """Have a file at its destination, unless it is to be skipped; if it is there, what is left is the last step."""
        if not self._is_there(remote, found):
            self._transfer(remote, found)

    def _is_there(self, remote: RemoteFiles, found: Found) -> bool:
        """Tell whether `if_exists` has a file left alone; what is the same beyond doubt counts as arrived before."""
        order = self.order
        if order.if_exists is IfExists.REPLACE and not order.verify_existing and not found.is_delivered:
            return False
        there = self._direction.version_at_dest(remote, found)
        if there is None:
            return False
        at_source = found.version
        if at_source.modified is None:  # by the listing
            at_source = self._direction.version_at_source(remote, found)
        resembles = _as_sftp_tells(there).resembles(_as_sftp_tells(at_source))
        if order.keeps_source and not order.verify_existing:
            is_to_be_skipped = order.if_exists is IfExists.SKIP or (order.if_exists is IfExists.SKIP_SAME and resembles)
            if resembles and is_to_be_skipped and self._ledger is not None:
                self._ledger.suppose(found.path, found.version)
        else:
            # Where a side does not tell the time, its size has to be enough of a reason to compare the bytes
            times = (there.modified, at_source.modified)
            may_be_same = resembles or (there.size == at_source.size and None in times)
            version = self._proven_version(remote, found) if may_be_same else None
            if version is not None:
                self._accept(found, version)
                self._has_arrived(found, version)
            is_to_be_skipped = version is not None or order.if_exists is IfExists.SKIP
        if is_to_be_skipped:
            with self._lock:
                self._skipped += 1
        return is_to_be_skipped

    def _proven_version(self, remote: RemoteFiles, found: Found) -> FileVersion | None:
        try:
            return self._direction.proven_version(remote, found)
        except ENDS_ALL:
            raise
        except SFTPError as error:  # the bytes differ, or cannot be compared: nothing is proven
            logger.debug("%r is not known to be at its destination: %s", found.path, error)
            return None

    def _accept(self, found: Found, version: FileVersion) -> None:
        """Take the version that is there when a file's turn comes, unless it is too young by now."""
        if self.order.is_too_young(version):
            raise _IsYoung
        if not version.is_same_as(found.version):
            logger.debug("%r has changed since it was listed: it is taken as it is now", found.path)

    def _transfer(self, remote: RemoteFiles, found: Found) -> None:
        def note(done: int, _total: int | None) -> None:
            with self._lock:
                self._under_way[found.path] = done

        try:
            size, version = self._direction.transfer(remote, found, partial(self._accept, found), note)
        finally:
            with self._lock:
                self._under_way.pop(found.path, None)
        logger.debug("%r was transferred: %d bytes", found.path, size)
        with self._lock:
            self._files += 1
            self._bytes += size
            self._total_bytes += size - _size_to_move(found)
        self._has_arrived(found, version)

    def _has_arrived(self, found: Found, version: FileVersion) -> None:
        """Take note of a version that has arrived, so that whatever fails afterwards is no reason to send it again."""
        with self._lock:
            if not self.order.keeps_source:
                self._arrived[found.path] = version
        if self._ledger is None:
            return
        try:
            self._ledger.note(found.path, version)
        except SFTPError as error:
            if self.order.keeps_source:
                self._fail(found.path, error, delivered="it was delivered, and that cannot be written down")
            else:
                logger.warning("that %r was delivered cannot be written down: %s", found.path, error.message)

    def _finish(self, remote: RemoteFiles, found: Found, version: FileVersion) -> bool:
        """Delete or move the source's file after its arrival.

        Returns:
            `False` where another version has taken the place of one that has arrived in an earlier call.
        """
        versions = [version]

        def note(now: FileVersion) -> None:
            versions[0] = now  # renaming it has changed its change time
            self._has_arrived(found, now)

        try:
            self._do_last_step(remote, found, versions, note)
        except ENDS_ALL_AFTER_ARRIVAL:
            raise
        except VersionChanged as error:
            if found.is_delivered and found.path not in self._arrived:
                return False
            self._fail(found.path, error, delivered="")
            return True
        except SFTPError as error:
            if not self._vanished(remote, found):
                done = "deleted" if self.order.then is Then.DELETE else "moved"
                with self._lock:
                    self._not_removed += 1
                words = f"it was delivered, and cannot be {done} at its source"
                self._fail(found.path, error, delivered=words, is_known=found.is_delivered)
                return True
        with self._lock:
            if self._arrived.pop(found.path, None) is None:
                self._skipped += 1
        if self._ledger is not None:
            with suppress(SFTPError):  # what is remembered of a file that is gone does no harm
                self._ledger.settle(found.path)
        return True

    def _do_last_step(
        self, remote: RemoteFiles, found: Found, versions: list[FileVersion], note: Callable[[FileVersion], object]
    ) -> None:
        """Delete or move the source's file.

        One of which nothing but the change time differs most likely has a link, an owner or a permission more or less
        than when it arrived: its bytes are compared, and not sent again.
        """
        for tries_left in range(TOUCHED_TRIES, -1, -1):
            try:
                _patiently(remote.deadline, lambda: self._direction.finish(remote, found, versions[0], note))
            except VersionChanged:
                now = self._direction.version_at_source(remote, found)
                is_touched = now != versions[0] and now._replace(changed=None).is_same_as(versions[0])
                proven = self._proven_version(remote, found) if is_touched and tries_left else None
                if proven is None:
                    raise
                note(proven)
            else:
                return

    def _vanished(self, remote: RemoteFiles, found: Found) -> bool:
        try:
            return self._direction.vanished(remote, found)
        except ENDS_ALL:
            raise
        except SFTPError:
            return False

    def _fail(self, path: str, error: SFTPError, *, delivered: str | None = None, is_known: bool = False) -> None:
        """Count a failure, and tell the first ones.

        Parameters:
            path: the file's, relative to the source.
            error: the reason.
            delivered: what to say in front of it if the file has arrived all the same.
            is_known: an earlier call has logged it.
        """
        message = f"{delivered}: {error.message}" if delivered else error.message
        failure = FileFailure(listed(self.order.source, path), error.code, message, delivered is not None)
        with self._lock:
            self._arrived.pop(path, None)
            self._failed += 1
            told = len(self._failures) < FAILURES_KEPT
            if told:
                self._failures.append(failure)
        if told and delivered is None:
            logger.warning("%r was not transferred: %s: %s", failure.path, failure.code, failure.message)
        elif told and not is_known:
            logger.warning("%r is still at its source: %s: %s", failure.path, failure.code, failure.message)


def _is_busy(error: SFTPError) -> bool:
    """Tell whether another transfer or call is in the way."""
    return isinstance(error, Busy) and not isinstance(error, LocalBusy)


def _as_sftp_tells(version: FileVersion) -> FileVersion:
    """Return a version with the nearest time that SFTP version 3 can tell: 1970 to 2106, in whole seconds."""
    if version.modified is None:
        return version
    return version._replace(modified=max(0, min(LATEST, version.modified)))


def _size_to_move(found: Found) -> int:
    """Return what a file counts for among the bytes that are to be moved."""
    return 0 if found.is_delivered else found.size


def _patiently(deadline: Deadline, work: Callable[[], Result]) -> Result:
    """Do some work, again after growing pauses as long as the local system cannot do its part."""
    for pause in PAUSES:
        try:
            return work()
        except LocalBusy as error:
            logger.debug("trying again in %.1f s: %s", pause, error)
            deadline.pause(pause * random.uniform(0.5, 1.0))  # noqa: S311 - nothing secret
            deadline.check()
    return work()


def _do_work(step: Callable[[Lender, Deadline], None], lender: Lender, deadline: Deadline) -> None:
    """Do one thread's work; whoever holds the error that has ended it does not hold all names that were in its hands.

    A connection holds the error that has ended it, and many of its calls: for as long as nobody connects anew.
    """
    try:
        step(lender, deadline)
    except SFTPError as error:
        error.__traceback__ = None
        raise type(error)(error.message, path=error.path) from None
