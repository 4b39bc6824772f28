"""Keep the folders of the section `retention` within their limits, in a thread of its own.

Each folder is looked at every minute, and whenever a transfer fails for want of space. A disk that hangs hangs this
thread and nobody else: who needs space waits for a bounded time.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from iot.sftp.client import NotFound, SFTPError
from iot.sftp.client._base.text import quoted
from iot.sftp.module._base.counters import LabelledCounter
from iot.sftp.module._base.log_suppression import without_quantities
from iot.sftp.module._base.logging import about, subject
from iot.sftp.module._base.wording import describe
from iot.sftp.module._retention.age_clock import AgeClock
from iot.sftp.module._retention.deletions import Deletions
from iot.sftp.module._retention.entry_status import EntryStatus
from iot.sftp.module._retention.local_tree import opened_tree
from iot.sftp.module._retention.look import Look
from iot.sftp.module._retention.proof import DeliveryProofs
from iot.sftp.module._work.real_path import real_path
from iot.sftp.module._work.room import Need

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from iot.sftp.client import LocalFiles
    from iot.sftp.module._documents.retention import RetentionEntry
    from iot.sftp.module._retention.proof import Duties
    from iot.sftp.module._work.delivered_versions import DeliveredVersions
    from iot.sftp.module._work.file_events import FileEvents

PERIOD = 60.0  # seconds between two looks
REST = 9  # times as long as a look has taken: looks take a tenth of the time at most, however many files there are
PATIENCE = 60.0  # seconds that a transfer waits for room
POLL = 0.25  # seconds after which it is seen that nobody waits any more
LABELS = (("true",), ("false",))  # whether files were delivered

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RetentionContext:
    """The parts of the module that retention uses.

    Attributes:
        local_files: how local folders are reached.
        state_dir: the module's state directory, which is left alone.
        delivered: the records of what is delivered.
        duties: of the rules in force.
        events: takes what has become of files.
        clock: gives the moment for dates in paths, in seconds since 1970.
        ages: gives the time for ages.
    """

    local_files: LocalFiles
    state_dir: Path
    delivered: DeliveredVersions
    duties: Duties
    events: FileEvents
    clock: Callable[[], float] = time.time
    ages: AgeClock = field(default_factory=AgeClock)


class _Interrupted(Exception):  # noqa: N818 - it is no error
    """A look ends early: somebody needs room, the entries have changed, or the module ends."""


class _Request:
    """Somebody who needs room."""

    def __init__(self, need: Need) -> None:
        self.need = need
        self.since = time.monotonic()
        self.is_done = threading.Event()
        self.is_given_up = False
        self.has_made_room = False


class Retention:
    """The entries in force; thread-safe."""

    def __init__(self, context: RetentionContext, *, period: float = PERIOD, patience: float = PATIENCE) -> None:
        """Have no entries yet.

        Parameters:
            context: the parts that it uses.
            period: seconds between two looks.
            patience: seconds that a transfer waits for room.
        """
        self._context = context
        self._period = period
        self._patience = patience
        self._changed = threading.Condition()
        self._entries: tuple[RetentionEntry, ...] = ()
        self._statuses: tuple[EntryStatus, ...] = ()
        self._requests: list[_Request] = []
        self._due = 0.0  # when to look, in time.monotonic()
        self._deleted_at = 0.0  # when the last file went, in time.monotonic()
        self._is_stopped = False
        self._thread: threading.Thread | None = None
        self.deleted = LabelledCounter(*LABELS)
        self.sizes = LabelledCounter(*LABELS)

    def apply(self, entries: Sequence[RetentionEntry]) -> None:
        """Put these entries into force, without blocking; those that have not changed keep their counts."""
        with self._changed:
            known = dict(zip(self._entries, self._statuses, strict=True))
            if tuple(entries) == self._entries:
                return
            if self._thread is None and entries:
                thread = threading.Thread(target=self._run, name="retention", daemon=True)
                thread.start()  # before anything counts: there may be no thread left
                self._thread = thread
            self._entries = tuple(entries)
            self._context.delivered.is_asked = bool(entries)
            self._statuses = tuple(known.get(entry) or EntryStatus(str(entry.path)) for entry in entries)
            self._due = 0.0
            self._changed.notify_all()

    @property
    def in_force(self) -> tuple[RetentionEntry, ...]:
        """The entries in force."""
        return self._entries

    def document(self) -> list[dict[str, Any]]:
        """Return what `get_status` shows of each entry."""
        return [status.as_document() for status in self._statuses]

    @property
    def unmet(self) -> int:
        """The number of folders that hold too much still."""
        return sum(status.problem is not None for status in self._statuses)

    def make_room(self, need: Need, cancelled: threading.Event | None = None) -> bool:
        """Delete what may go, for a transfer that has found no room; return whether there is more of it now.

        Parameters:
            need: what the transfer needs.
            cancelled: set when it has to stop soon: then nobody waits.
        """
        request = self._ask(need)
        if request is None:
            return False
        end = time.monotonic() + self._patience
        while not request.is_done.wait(min(POLL, max(0.0, end - time.monotonic()))):
            if time.monotonic() >= end or (cancelled is not None and cancelled.is_set()):
                request.is_given_up = True
                return False
        return request.has_made_room

    def ask_for_room(self) -> None:
        """Have room made for the module's own state, without waiting for it."""
        self._ask(Need())

    def stop(self, limit: float) -> None:
        """End, within `limit` seconds."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
            for request in self._requests:
                request.is_done.set()
        if self._thread is not None:
            self._thread.join(limit)

    def _ask(self, need: Need) -> _Request | None:
        request = _Request(need)
        with self._changed:
            if not self._entries or self._is_stopped:
                return None
            self._requests.append(request)
            self._changed.notify_all()
        return request

    # --- the thread

    def _run(self) -> None:
        with subject("retention"):
            for request in self._work():
                started = time.monotonic()
                try:
                    self._look_at_all(request)
                except _Interrupted:
                    continue
                except Exception:  # noqa: BLE001 - whatever it is, the next look may do better
                    _log.exception("internal error")
                finally:
                    if request is not None:
                        request.is_done.set()
                if request is None:
                    now = time.monotonic()
                    with self._changed:
                        self._due = now + max(self._period - (now - started), REST * (now - started))

    def _work(self) -> Iterator[_Request | None]:
        """Wait for work, until the end: give who needs room, or `None` for a look that is due."""
        while True:
            with self._changed:
                work = self._wait()
                if self._is_stopped:
                    return
            yield work

    def _wait(self) -> _Request | None:
        while not self._is_stopped:
            self._requests = [request for request in self._requests if not request.is_given_up]
            if self._requests:
                return self._requests.pop(0)
            wait = self._due - time.monotonic() if self._entries else None
            if wait is not None and wait <= 0:
                break
            self._changed.wait(wait)
        return None

    def _look_at_all(self, request: _Request | None) -> None:
        entries = self._entries
        now = self._context.ages.now()

        def proceed() -> None:
            if self._is_stopped or self._entries is not entries or (request is None and self._requests):
                raise _Interrupted

        for number, entry in enumerate(entries):
            self._look(number, entry, now, request, proceed)
        if request is not None:
            request.has_made_room = self._deleted_at >= request.since  # also by a look for somebody else

    def _look(
        self,
        number: int,
        entry: RetentionEntry,
        now: int | None,
        request: _Request | None,
        proceed: Callable[[], None],
    ) -> None:
        """Look at a folder, and delete what is too much there."""
        path, context = str(entry.path), self._context
        done = Deletions(path, context.events, self.deleted, self.sizes)
        problem = None
        try:
            path = entry.path.fill(context.clock())
            done = Deletions(path, context.events, self.deleted, self.sizes)
            with opened_tree(context.local_files, path, context.state_dir) as tree:
                proofs = DeliveryProofs(context.delivered, context.duties.now(), real_path(tree.directory))
                look = Look(tree, entry, proofs, done, proceed)
                remaining = look.run(now, None if request is None else request.need)
                problem = remaining.in_words() or tree.problem
                if entry.max_age is not None and now is None and problem is None:
                    problem = "ages do not count, as the clock is not set, or was set within the last hour"
        except NotFound:
            problem = None  # it may be made at any time, or be a mount that is missing
        except SFTPError as error:
            problem = describe(error)
        except OSError as error:
            problem = f"{quoted(path)}: {error.strerror}"
        finally:
            done.close()
            if done.files:
                self._deleted_at = time.monotonic()
            self._note(number, entry, path, done, problem)

    def _note(self, number: int, entry: RetentionEntry, path: str, done: Deletions, problem: str | None) -> None:
        with self._changed:
            if number >= len(self._entries) or self._entries[number] is not entry:
                return
            before = self._statuses[number]
            after = before.after(path, done, problem)
            self._statuses = (*self._statuses[:number], after, *self._statuses[number + 1 :])
        thing = about(f"retention {path}")
        if problem is not None and without_quantities(problem) != without_quantities(before.problem or ""):
            _log.warning("%s is not within its limits: %s", quoted(path), problem, extra=thing)
        elif problem is None and before.problem is not None:
            _log.info("%s is within its limits again", quoted(path), extra=thing)
