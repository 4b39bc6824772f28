"""Whole folders: many files on their way at once over one connection, each whole or not at all.

A file by itself costs a few round trips. Here the steps of many files are in flight together: small files by the
dozen, large ones, each of which fills the line by itself, a few at a time, so that what is held in memory is bounded.
One file's failure is told and does not stop the others; after a broken connection only what is not done is done again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

from iot.sftp.client._deadline import Deadline, Interruption
from iot.sftp.client._errors import (
    AuthenticationFailed,
    Busy,
    Cancelled,
    ConnectionLost,
    DeadlineExceeded,
    HostKeyMismatch,
    Internal,
    InvalidRequest,
    NoSpace,
    SFTPError,
    TooLarge,
    Unreachable,
)
from iot.sftp.client._listing import Budget
from iot.sftp.client._remote_paths import listed
from iot.sftp.client._trees import Found, Unlisted, size_of, walk

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from iot.sftp.client._remote_files import RemoteFiles
    from iot.sftp.client._trees import Listing

logger = logging.getLogger(__name__)

SMALL = 256 * 1024  # bytes: what is not larger goes in one request or two
SMALL_AT_ONCE, LARGE_AT_ONCE = 64, 4
FAILURES_KEPT = 20
PROGRESS_INTERVAL = 0.1  # seconds

EXISTING = ("replace", "skip", "skip_same")
AFTERWARDS = ("keep", "delete", "move")

# What is wrong with the connection, the call or the disk is wrong for all files. Everything else is about one file.
ENDS_ALL = (
    AuthenticationFailed, ConnectionLost, DeadlineExceeded, HostKeyMismatch, Internal, NoSpace, TooLarge, Unreachable,
)  # fmt: skip


@dataclass(frozen=True)
class FileFailure:
    """Why one file of a folder was not transferred.

    Attributes:
        path: the file's, as `list_files` shows it.
        code: the stable name of the reason: that of an `SFTPError`.
        message: the same for people.
    """

    path: str
    code: str
    message: str


@dataclass(frozen=True)
class FolderProgress:
    """How far the transfer of a folder is.

    Attributes:
        files: done, with all that was to be done with them.
        total_files: found that are to be looked at; those that vanished meanwhile are taken out again.
        bytes: transferred.
        total_bytes: of all files that were found.
        skipped: left alone, because of `if_exists`.
        failed: not transferred, or not deleted or moved afterwards.
        failures: the first 20 of these.
        young: left for the next time, because of `min_age`.
    """

    files: int = 0
    total_files: int = 0
    bytes: int = 0
    total_bytes: int = 0
    skipped: int = 0
    failed: int = 0
    failures: tuple[FileFailure, ...] = ()
    young: int = 0


@dataclass(frozen=True)
class FolderTransfer(FolderProgress):
    """What the transfer of a folder did: its last progress, the seconds that it took, and how often it was tried."""

    seconds: float = 0.0
    attempts: int = 1


class Ledger(Protocol):
    """Remembers from one call to the next which files of a folder have been transferred.

    A file is given by its path relative to the folder, its size in bytes, and its time in seconds since 1970. Both
    methods are called from several threads, and may raise an `SFTPError`.
    """

    def knows(self, path: str, size: int, modified: float | None) -> bool:
        """Tell whether a file, as it is now, was transferred before; asked once about each one that is found."""

    def note(self, path: str, size: int, modified: float | None) -> None:
        """Take note that a file, as it was when it was found, has been transferred."""


@dataclass(frozen=True)
class FolderOrder:
    """Which files of a folder are transferred, and what becomes of them: see `SFTPSession.download_files`."""

    source: str
    dest: str
    file_pattern: str | None = None
    recursive: bool = False
    if_exists: str = "replace"
    then: str = "keep"
    move_to: str | None = None
    min_age: float = 0.0
    ledger: Ledger | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.if_exists not in EXISTING:
            raise InvalidRequest(f"if_exists must be one of {', '.join(EXISTING)}")
        if self.then not in AFTERWARDS:
            raise InvalidRequest(f"then must be one of {', '.join(AFTERWARDS)}")
        if (self.then == "move") != (self.move_to is not None):
            raise InvalidRequest("then='move' and move_to, the folder to move into, need each other")
        if not 0 <= self.min_age < float("inf"):
            raise InvalidRequest("min_age must be a number of seconds, 0 or more")

    def wants(self, found: Found) -> bool:
        """Tell whether a file is to be transferred, by its path, and by what is remembered."""
        if self.file_pattern is not None and self.file_pattern not in listed(self.source, found.path):
            return False
        return self.ledger is None or not self.ledger.knows(*found)

    def is_young(self, found: Found, now: float) -> bool:
        """Tell whether a file is to be left for the next time.

        SFTP does not tell the server's time: its clock is taken to be right to better than `min_age`, as ours is. So a
        file is young if its time is less than `min_age` away from now, either way.
        """
        return found.modified is not None and abs(now - found.modified) < self.min_age


class Lender(Protocol):
    """Gives a connection's channels: an attempt of the session."""

    deadline: Deadline

    def transfer(self, deadline: Deadline | None = None) -> AbstractContextManager[RemoteFiles]:
        """Lend the server's files over a channel for one transfer."""


class Direction(Protocol):
    """What differs between downloads and uploads."""

    def look(self, remote: RemoteFiles, directory: str, budget: Budget) -> Listing:
        """List a directory of the source, given relative to it; its names are kept within a budget."""

    def begin(self) -> None:
        """Prepare for an attempt."""

    def end(self) -> None:
        """Give back what an attempt holds."""

    def state_of_dest(self, remote: RemoteFiles, found: Found) -> tuple[int | None, int | None] | None:
        """Return size and time (whole seconds) of what is at a file's destination, `None` where nothing is."""

    def transfer(self, remote: RemoteFiles, found: Found, progress: Callable[[int, int | None], None]) -> int:
        """Transfer a file and return its size."""

    def vanished(self, remote: RemoteFiles, found: Found) -> bool:
        """Tell whether the source's file is not there any more."""

    def afterwards(self, remote: RemoteFiles, found: Found) -> None:
        """Delete or move the source's file, if it still is what was transferred."""


@dataclass
class _Plan:
    """What was found: the files to transfer, how many are too young, and directories that could not be listed."""

    files: list[Found] = field(default_factory=list)
    young: int = 0
    unlisted: int = 0
    told: list[Unlisted] = field(default_factory=list)

    def add_unlisted(self, directory: Unlisted) -> None:
        self.unlisted += 1
        if len(self.told) < FAILURES_KEPT:  # there may be as many as there are names, and each error takes much more
            self.told.append(directory)


class FolderRun:
    """The transfer of one folder, over as many attempts as it takes: what is done stays done."""

    def __init__(
        self, order: FolderOrder, direction: Direction, progress: Callable[[FolderProgress], object] | None
    ) -> None:
        """Take what is to be done; nothing is begun.

        Parameters:
            order: which files, and how.
            direction: where to.
            progress: told of each change, at most ten times a second, in the thread of `attempt`.
        """
        self.order = order
        self._direction = direction
        self._progress = progress
        self._lock = threading.Lock()
        self._attempts = 0
        self._is_planned = False
        self._budget: Budget | None = None  # of the names below, which count as long as it is held
        self._small: deque[Found] = deque()
        self._large: deque[Found] = deque()
        self._young = 0
        self._busy: list[Found] = []
        self._is_second_try = False
        self._under_way: dict[str, int] = {}  # bytes of files that are being transferred
        self._arrived: dict[str, int] = {}  # files of which only `then` is not done yet, and their sizes
        self._files = self._total_files = self._bytes = self._total_bytes = self._skipped = self._failed = 0
        self._failures: list[FileFailure] = []
        self._told = FolderProgress()

    @property
    def done(self) -> int:
        """How much is done: it grows with each file that need not be looked at again."""
        return self._is_planned + self._files + self._skipped + self._failed

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
            if not self._is_planned:
                self._together(lender, [self._plan])
            self._work(lender)
            # What a broken attempt has left may just have been cleaned up, which keeps a destination for a moment.
            self._small += self._busy
            self._busy, self._is_second_try = [], True
            self._work(lender)
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
        """Find the files. Nothing is kept of an attempt that breaks."""
        plan, budget, now = _Plan(), Budget(), time.time()
        look = partial(self._look, lender, deadline, budget)
        for item in walk(look, recursive=self.order.recursive, ends_all=_ends_planning):
            if isinstance(item, Unlisted):
                plan.add_unlisted(item)
            elif self.order.wants(item):
                if self.order.is_young(item, now):
                    plan.young += 1
                else:
                    plan.files.append(item)
        budget.keep_only(sum(size_of(file.path) for file in plan.files))
        with self._lock:
            for file in sorted(plan.files, key=lambda file: file.path):
                (self._small if file.size <= SMALL else self._large).append(file)
            self._total_files, self._total_bytes = len(plan.files), sum(file.size for file in plan.files)
            self._young = plan.young
            self._failed += plan.unlisted - len(plan.told)
            self._budget = budget
            self._is_planned = True
        for path, error in plan.told:
            self._fail(path, error)

    def _look(self, lender: Lender, deadline: Deadline, budget: Budget, directory: str) -> Listing:
        deadline.check()
        with lender.transfer(deadline) as remote:
            return self._direction.look(remote, directory, budget)

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
            size = self._arrived.get(found.path)
            if size is None:
                if self._is_to_be_skipped(remote, found):
                    return
                size = self._transfer(remote, found)
            self._has_arrived(remote, found)
        except ENDS_ALL:
            raise
        except SFTPError as error:
            if isinstance(error, Busy) and not self._is_second_try:
                self._busy.append(found)
                return
            if not self._vanished(remote, found):
                self._fail(found.path, error)
                return
            with self._lock:
                if self._arrived.pop(found.path, None) is None:
                    self._total_files -= 1
                    self._total_bytes -= found.size
                    return
        with self._lock:
            self._arrived.pop(found.path, None)
            self._files += 1

    def _is_to_be_skipped(self, remote: RemoteFiles, found: Found) -> bool:
        """Tell whether `if_exists` leaves a file alone; one that is the same counts as arrived before."""
        if self.order.if_exists == "replace":
            return False
        there = self._direction.state_of_dest(remote, found)
        if there is None:
            return False
        modified = None if found.modified is None else int(found.modified)
        if modified is not None and there == (found.size, modified):
            # The same file is there: an earlier call may have ended before it came to the rest.
            self._has_arrived(remote, found)
        elif self.order.if_exists == "skip_same":
            return False
        with self._lock:
            self._skipped += 1
        return True

    def _has_arrived(self, remote: RemoteFiles, found: Found) -> None:
        """Do what is to be done at the source, and take note."""
        if self.order.then != "keep":
            self._direction.afterwards(remote, found)
        if self.order.ledger is not None:
            self.order.ledger.note(*found)

    def _transfer(self, remote: RemoteFiles, found: Found) -> int:
        def note(done: int, _total: int | None) -> None:
            with self._lock:
                self._under_way[found.path] = done

        try:
            size = self._direction.transfer(remote, found, note)
        finally:
            with self._lock:
                self._under_way.pop(found.path, None)
        logger.debug("%r was transferred: %d bytes", found.path, size)
        with self._lock:
            self._bytes += size
            self._total_bytes += size - found.size
            if self.order.then != "keep":
                self._arrived[found.path] = size
        return size

    def _vanished(self, remote: RemoteFiles, found: Found) -> bool:
        try:
            return self._direction.vanished(remote, found)
        except ENDS_ALL:
            raise
        except SFTPError:
            return False

    def _fail(self, path: str, error: SFTPError) -> None:
        with self._lock:
            self._arrived.pop(path, None)
            self._failed += 1
            told = len(self._failures) < FAILURES_KEPT
            failure = FileFailure(listed(self.order.source, path), error.code, error.message)
            if told:
                self._failures.append(failure)
        if told:
            logger.warning("%r was not transferred: %s: %s", failure.path, failure.code, failure.message)


def _do_work(step: Callable[[Lender, Deadline], None], lender: Lender, deadline: Deadline) -> None:
    """Do one thread's work; whoever holds the error that has ended it does not hold all names that were in its hands.

    A connection holds the error that has ended it, and many of its calls: for as long as nobody connects anew.
    """
    try:
        step(lender, deadline)
    except SFTPError as error:
        error.__traceback__ = None
        raise type(error)(error.message, path=error.path) from None


def _ends_planning(error: SFTPError) -> bool:
    return isinstance(error, (*ENDS_ALL, Busy))
