"""Report what became of files: one message to the output `files` for each batch that was moved or given up.

An event is written where the delivery is recorded, in the same transaction. A few seconds later it is gathered with
others into messages in the journal. The journal records in the same transaction up to which event it has gathered: so a
crash in between repeats nothing, and loses nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from iot.sftp.client import SFTPError
from iot.sftp.client._base.text import quoted
from iot.sftp.module._base.logging import about
from iot.sftp.module._base.times import rfc3339
from iot.sftp.module._work.file_summaries import summarize
from iot.sftp.module._work.outgoing import FILES, Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from iot.sftp.client import FileOutcome
    from iot.sftp.module._work.delivery_ledger import DeliveryLedger
    from iot.sftp.module._work.event_queue import EventQueue
    from iot.sftp.module._work.message_store import MessageStore

GATHERING = 5.0  # seconds that an event waits for others
MESSAGE_MAXIMUM = 128 * 1024  # bytes of a message
READ_AT_ONCE = 1_000  # events
FAILURES_KNOWN = 10_000  # files whose failure was reported: it is not reported again at each attempt
LOST = "an event of %s cannot be recorded, and is lost: %s"

_log = logging.getLogger(__name__)


class FileEvents:
    """Gathers the events of files into messages; thread-safe."""

    def __init__(
        self,
        queue: EventQueue,
        store: MessageStore,
        send: Callable[[], None],
        *,
        gathering: float = GATHERING,
    ) -> None:
        """Take the parts.

        Parameters:
            queue: where events are written first.
            store: where messages wait to be sent.
            send: called when there is something to gather; must not block.
            gathering: seconds that an event waits for others.
        """
        self._is_enabled = False
        self._changed: Callable[[], object] = lambda: None  # wakes `run`
        self._queue = queue
        queue.on_dropped = partial(store.count_dropped, FILES)
        self._store = store
        self._send = send
        self._gathering = gathering
        self._lock = threading.Lock()
        self._first: float | None = 0.0  # when the first event was written that is not gathered, in time.monotonic()
        self._size = 0  # characters of these
        self._failures: OrderedDict[tuple[object, ...], str] = OrderedDict()

    @property
    def is_enabled(self) -> bool:
        """Whether events are wanted."""
        return self._is_enabled

    @is_enabled.setter
    def is_enabled(self, enabled: bool) -> None:
        self._is_enabled = enabled
        self._changed()

    def of(self, origin: Mapping[str, Any], ledger: DeliveryLedger | None) -> Callable[[FileOutcome], None] | None:
        """Return what takes the outcomes of one transfer of a folder; `None` if they are not wanted.

        Parameters:
            origin: the keys `server`, `direction`, and `rule` or `task_id` of its messages.
            ledger: where the transfer records what was delivered.
        """
        if not self.is_enabled:
            return None
        return lambda outcome: self._note(origin, ledger, outcome)

    def _note(self, origin: Mapping[str, Any], ledger: DeliveryLedger | None, outcome: FileOutcome) -> None:
        """Write an event; never raises."""
        place = (*origin.values(), outcome.path)
        if outcome.is_quarantined:
            with self._lock:
                self._failures.pop(place, None)
            self.note(origin, outcome, "quarantined")
            return
        if outcome.code is None:
            with self._lock:
                self._failures.pop(place, None)
        elif self._is_reported(place, outcome.code):
            return
        is_written = self._write(origin, outcome, "delivered" if outcome.code is None else "failed", ledger)
        if is_written and outcome.code is not None:
            self._note_reported(place, outcome.code)

    def note(self, origin: Mapping[str, Any], outcome: FileOutcome, word: str) -> None:
        """Report that a file was `quarantined` or has `expired`; never raises.

        Parameters:
            origin: as for `of`; what is `None` there is not known.
            outcome: which file, and where it is now.
            word: what has become of it.
        """
        if self.is_enabled:
            self._write(origin, outcome, word)

    def _write(
        self, origin: Mapping[str, Any], outcome: FileOutcome, word: str, ledger: DeliveryLedger | None = None
    ) -> bool:
        """Write an event: that of a delivery together with its record; return whether it was."""
        event = json.dumps({"origin": dict(origin), "file": _as_file(outcome, word)})
        if outcome.code is None and ledger is not None:
            ledger.announce(outcome.path, event)
        else:
            try:
                self._queue.add(event)
            except SFTPError as error:
                _log.warning(LOST, quoted(outcome.source), error.message, extra=about("file events"))
                return False
        with self._lock:
            is_first, was_full = self._first is None, self._size >= MESSAGE_MAXIMUM
            self._first = time.monotonic() if self._first is None else self._first
            self._size += len(event)
            is_news = is_first or (not was_full and self._size >= MESSAGE_MAXIMUM)
        if is_news:
            self._changed()
        return True

    def close(self, ledger: DeliveryLedger | None) -> None:
        """Write the events of a transfer that has ended, if some could not be written with their deliveries."""
        if ledger is None:
            return
        try:
            ledger.write_events()
        except SFTPError as error:
            _log.warning(LOST, "some files", error.message, extra=about("file events"))

    def _is_reported(self, place: tuple[object, ...], code: str) -> bool:
        """Return whether a file has failed like this before, since the process began or it was delivered."""
        with self._lock:
            return self._failures.get(place) == code

    def _note_reported(self, place: tuple[object, ...], code: str) -> None:
        with self._lock:
            self._failures[place] = code
            if len(self._failures) > FAILURES_KNOWN:
                self._failures.popitem(last=False)

    async def run(self) -> None:
        """Have events gathered when they are due, until this is cancelled."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the module has just ended
                loop.call_soon_threadsafe(changed.set)

        self._changed = wake
        while True:
            waiting = asyncio.ensure_future(changed.wait())
            await asyncio.wait({waiting}, timeout=self._due_in())
            waiting.cancel()
            changed.clear()
            if self._due_in() == 0:
                self._send()
                await asyncio.sleep(self._gathering / 5)  # until it was gathered

    def _due_in(self) -> float | None:
        """Return after how many seconds events are due; `None` if there are none."""
        with self._lock:
            if not self._is_enabled or self._first is None:
                return None
            if self._size >= MESSAGE_MAXIMUM:
                return 0.0
            return max(0.0, self._first + self._gathering * 0.8 - time.monotonic())

    def gather(self, attempted: int | None = None) -> None:
        """Put what is due into messages; blocks. Where a file cannot be used, that is logged, and tried again.

        Parameters:
            attempted: the message that may have arrived already, by its sequence: it is not changed any more.
        """
        if self._due_in() != 0:
            return
        with self._lock:
            self._first, self._size = None, 0
        try:
            while True:
                identity, events = self._queue.after(self._store.gathered, READ_AT_ONCE)
                if not events:
                    return
                self._store.add_gathered(identity, events[-1][0], _messages(identity, events))
                self._store.fold(FILES, attempted, summarize)
        except SFTPError as error:
            _log.warning("file events are delayed: %s", error.message, extra=about("file events"))
            with self._lock:
                self._first = time.monotonic()
            self._changed()


def _messages(identity: str, events: list[tuple[int, str]]) -> Iterator[Outgoing]:
    """Give the messages for some events: one for each origin, or several where one would be too large."""
    read = [(number, json.loads(event)) for number, event in events]
    read.sort(key=lambda item: (json.dumps(item[1]["origin"], sort_keys=True), item[0]))
    for _, group in groupby(read, key=lambda item: item[1]["origin"]):
        files: list[dict[str, Any]] = []
        size = first = 0
        origin: dict[str, Any] = {}
        for number, event in group:
            length = len(json.dumps(event["file"])) + 2
            if files and size + length > MESSAGE_MAXIMUM - 1_024:
                yield _message(identity, first, origin, files)
                files = []
            if not files:
                first, size, origin = number, 0, event["origin"]
            files.append(event["file"])
            size += length
        yield _message(identity, first, origin, files)


def _message(identity: str, first: int, origin: dict[str, Any], files: list[dict[str, Any]]) -> Outgoing:
    return Outgoing(FILES, f"files-{identity}-{first}", json.dumps({**origin, "files": files}))


def _as_file(outcome: FileOutcome, word: str) -> dict[str, Any]:
    modified = None if outcome.modified is None else _moment(outcome.modified / 1e9)
    return {
        "source": outcome.source,
        "dest": outcome.dest,
        "bytes": outcome.size,
        "modified": modified,
        "outcome": word,
        "code": outcome.code,
        "at": rfc3339(time.time()),
    }


def _moment(seconds: float) -> str | None:
    try:
        return rfc3339(seconds)
    except (OverflowError, ValueError, OSError):  # a file may have any time, also one in the year 10,000
        return None
