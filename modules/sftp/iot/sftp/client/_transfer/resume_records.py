"""Resume records: what is known of unfinished transfers, so that they are resumed, or cleaned up after, later.

Each destination that is being written has one small file in a directory of our own, which is locked as long as its
transfer runs. It holds the temporary name, which source the bytes are from, and how many of
them are proven to be there. A process that is killed gives up the lock, and leaves the rest to the next one.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from iot.sftp.client._base.errors import Busy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

BUSY = -1  # instead of a descriptor: another process holds the record
SUFFIX = ".transfer"
WORTH_KEEPING = 32 * 1024  # bytes: fewer are moved again sooner than looked after
LONGEST = 1 << 20  # bytes of a record that are read
KEPT_FOR = 24 * 3600.0  # seconds: what has not been resumed by then is cleaned up


@dataclass
class ResumeState:
    """How far a transfer is: what is needed to resume it, or to clean up after it.

    Attributes:
        direction: the value of a `Direction`; or what else the record is about.
        server: host, port and user.
        directory: the local directory of a download's destination, to clean up in.
        dest: the destination's name or path.
        temporary: the name or path of the temporary file.
        source: identifies the source, and its version.
        opened: whether the server has answered that the temporary file is open.
        contiguous: the contiguous offset: all bytes before it are proven to be in the temporary file.
        backup: the backup path: of the old file while it is being replaced in two steps.
        pending_rename: how the complete file was verified, from before its rename is requested until the answer: while
            it is set, a temporary file that is gone has got its name.
    """

    direction: str
    server: list[str | int]
    dest: str
    directory: str = ""
    temporary: str = ""
    source: list[str | int | None] = field(default_factory=list)
    opened: bool = False
    contiguous: int = 0
    backup: str = ""
    pending_rename: str = ""


EMPTY = ResumeState("", [], "")
# The names that records on disk have had since version 0.1, where they differ
ON_DISK = {"contiguous": "whole", "backup": "aside", "pending_rename": "renaming"}
IN_MEMORY = {stored: name for name, stored in ON_DISK.items()}


class Remembered(NamedTuple):
    """What is in memory, since there is no directory for it, or no room there.

    Attributes:
        state: what was saved last.
        saved_at: when, of the monotonic clock.
    """

    state: ResumeState
    saved_at: float


class ResumeRecord:
    """The record of one destination, which is ours as long as we hold it."""

    def __init__(self, records: ResumeRecords, name: str, descriptor: int | None) -> None:
        """Hold a record; without a descriptor it is kept in memory."""
        self._records = records
        self._name = name
        self._descriptor = descriptor

    @property
    def is_on_disk(self) -> bool:
        """Whether later processes find it; else it is in memory alone."""
        return self._descriptor is not None and self._name not in self._records.remembered

    @property
    def age(self) -> float:
        """Seconds since it was written: a clock that is set makes no record old that this process has written."""
        remembered = self._records.remembered.get(self._name)
        if remembered is not None:
            return time.monotonic() - remembered.saved_at
        if self._descriptor is None:
            return 0.0
        by_clock = time.time() - os.fstat(self._descriptor).st_mtime
        saved_at = self._records.saved_at.get(self._name)
        # Another process may have written it since
        return by_clock if saved_at is None else min(by_clock, time.monotonic() - saved_at)

    def load(self) -> ResumeState | None:
        """Return how far an earlier transfer to this destination came, if there was one."""
        remembered = self._records.remembered.get(self._name)
        if remembered is not None:
            return remembered.state
        return None if self._descriptor is None else _read(self._descriptor)

    def save(self, state: ResumeState) -> None:
        """Remember how far this transfer is."""
        if self._descriptor is not None:
            try:
                _write(self._descriptor, state)
            except OSError as error:
                logger.debug("The state of a transfer cannot be recorded: %s", error)
            else:
                # Another process may resume it before we do: then what we remember is out of date.
                self._records.remembered.pop(self._name, None)
                self._records.saved_at[self._name] = time.monotonic()
                return
        self._records.remembered[self._name] = Remembered(ResumeState(**vars(state)), time.monotonic())

    def forget(self) -> None:
        """Record that nothing is left to be done, and nothing to be cleaned up; what is saved afterwards is lost."""
        self._records.remembered.pop(self._name, None)
        self._records.saved_at.pop(self._name, None)
        if self._descriptor is not None:
            self._records.remove(self._name)


class ResumeRecords:
    """The records of a directory, or of this process alone.

    Attributes:
        remembered: what is in memory alone, by the record's name.
        saved_at: when this process has written what is on the disk, of the monotonic clock, by the record's name.
    """

    def __init__(self, directory: Path | None) -> None:
        """Keep records in this directory, made when it is needed; `None` keeps them in memory."""
        self._directory = directory
        self._warned = False
        self._lock = threading.Lock()
        self._held: set[str] = set()
        self.remembered: dict[str, Remembered] = {}
        self.saved_at: dict[str, float] = {}

    @staticmethod
    @cache
    def of(directory: Path | None) -> ResumeRecords:
        """Return the records of a directory: the same for all sessions of this process."""
        return ResumeRecords(directory)

    @contextmanager
    def held(self, destination: object, path: str) -> Iterator[ResumeRecord]:
        """Hold the record of a destination, so that no other transfer writes it, in this process or another.

        Parameters:
            destination: its key.
            path: its path, for the message.

        Raises:
            Busy: another transfer is writing it.
        """
        name = hashlib.sha256(repr(destination).encode("utf-8", "surrogatepass")).hexdigest()[:32] + SUFFIX
        message = "another transfer is writing this destination: try again when it has ended"
        with self._lock:
            if name in self._held:
                raise Busy(message, path=path)
            self._held.add(name)
        try:
            descriptor = self._lock_file(name)
            if descriptor == BUSY:
                raise Busy(message, path=path)
            try:
                yield ResumeRecord(self, name, descriptor)
            finally:
                if descriptor is not None:
                    self._give_up(name, descriptor)
        finally:
            with self._lock:
                self._held.discard(name)

    def abandoned(self, direction: str) -> Iterator[tuple[ResumeRecord, ResumeState]]:
        """Yield what is known of each transfer that was abandoned, and hold its record meanwhile."""
        for name in {*self._names(), *self.remembered}:
            with self._lock:
                if name in self._held:
                    continue
                self._held.add(name)
            descriptor = self._lock_file(name)
            try:
                state = self._abandoned(name, descriptor)
                if state is not None and state.direction == direction:
                    yield ResumeRecord(self, name, descriptor), state
            finally:
                if descriptor is not None and descriptor != BUSY:
                    self._give_up(name, descriptor)
                with self._lock:
                    self._held.discard(name)

    def _abandoned(self, name: str, descriptor: int | None) -> ResumeState | None:
        if descriptor == BUSY:
            return None
        record = ResumeRecord(self, name, descriptor)
        state = record.load()
        if state is None:
            if descriptor is not None:
                self.remove(name)
            return None
        if state.contiguous >= WORTH_KEEPING and not state.backup and record.age <= KEPT_FOR:
            return None
        return state

    def remove(self, name: str) -> None:
        """Remove a record's file."""
        with suppress(OSError):
            os.unlink(self._path_of(name))

    def _give_up(self, name: str, descriptor: int) -> None:
        if os.fstat(descriptor).st_size == 0 and self._is_at(name, descriptor):  # nothing is to be remembered
            self.remove(name)
        os.close(descriptor)

    def _is_at(self, name: str, descriptor: int) -> bool:
        """Return whether a record was not removed yet: by now, the name may be that of another process's record."""
        try:
            return os.stat(self._path_of(name)).st_ino == os.fstat(descriptor).st_ino
        except OSError:
            return False

    def _names(self) -> list[str]:
        if self._directory is None:
            return []
        try:
            return [name for name in os.listdir(self._directory) if name.endswith(SUFFIX)]
        except OSError:
            return []

    def _lock_file(self, name: str) -> int | None:
        """Open and lock a record's file; `BUSY` where another process holds it, `None` where there can be none."""
        if self._directory is None:
            return None
        path = self._path_of(name)
        try:
            while True:
                descriptor = self._open(path)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                        return descriptor
                except BlockingIOError:
                    os.close(descriptor)
                    return BUSY
                except FileNotFoundError:
                    pass  # its holder has removed it in between: this is not the file that the next one will lock
                except BaseException:
                    os.close(descriptor)
                    raise
                os.close(descriptor)
        except OSError as error:
            self._warn(error)
            return None

    def _open(self, path: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            assert self._directory is not None  # noqa: S101 - it is asked before
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(path, flags, 0o600)

    def _path_of(self, name: str) -> str:
        return f"{self._directory}/{name}"

    def _warn(self, error: OSError) -> None:
        if self._warned:
            return
        self._warned = True
        logger.warning(
            "Unfinished transfers cannot be remembered in %s (%s): after a restart they start from the beginning",
            self._directory,
            error.strerror,
        )


def _write(descriptor: int, state: ResumeState) -> None:
    """Write a record atomically: what it is shorter by than the last one is blank, so that it needs no second step."""
    fields = {ON_DISK.get(name, name): value for name, value in vars(state).items()}
    text = json.dumps(fields).encode().ljust(os.fstat(descriptor).st_size)
    if os.pwrite(descriptor, text, 0) < len(text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _read(descriptor: int) -> ResumeState | None:
    """Return what a record says; `None` for one that was not written to its end, or is none."""
    try:
        size = os.fstat(descriptor).st_size
        if size == 0:  # as of most transfers that begin
            return None
        content = json.loads(os.pread(descriptor, min(size, LONGEST), 0))
        state = ResumeState(**{IN_MEMORY.get(name, name): value for name, value in content.items()})
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):  # AttributeError: not an object
        return None
    return state if _makes_sense(state) else None


def _makes_sense(state: ResumeState) -> bool:
    """Return whether a record holds what we write: one that was damaged must not get in the way of later transfers."""
    fields = vars(state)
    if any(type(value) is not type(getattr(EMPTY, name)) for name, value in fields.items()):
        return False
    texts = [value for value in fields.values() if isinstance(value, str)]
    return state.contiguous >= 0 and all(map(_may_be_a_path, texts))


def _may_be_a_path(text: str) -> bool:
    try:
        return b"\0" not in text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
