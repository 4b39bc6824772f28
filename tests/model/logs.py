"""Logs that grow and are rotated, both ways, among faults: a reader sees the beginning of one log, which grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from tests.model.log_books import LOG, PACKED, ROTATED, ROTATIONS, LogBooks, Logger
from tests.model.machine import AFTER_ALL, Machine
from tests.model.strategies import DAYS, Event, log_events, log_sizes, moments

from iot.sftp.module._work.delivery_ledger import ABSENT_SCANS

if TYPE_CHECKING:
    from tests.model.server import Moment

ROUNDS = 8  # until all has to be quiet


class LogMachine(Machine):
    """A folder with a log on one side, and a rule that keeps up with it by its new bytes."""

    direction: ClassVar[str] = "upload"

    @initialize(is_all=st.booleans(), lines=st.booleans(), copies=st.booleans())
    def begin(self, *, is_all: bool, lines: bool, copies: bool) -> None:
        """Build everything; `is_all` selects rotated logs too, `copies` has the server copy data itself."""
        self._note("begin", is_all=is_all, lines=lines, copies=copies)
        self._build()
        served, local = self._base / "server", self._base / "data"
        source, dest = (local, served) if self.direction == "upload" else (served, local)
        for folder in (source / "out", dest / "in"):
            folder.mkdir()
        self._scene.refuses_copy = not copies
        names = (LOG, *ROTATED, PACKED) if is_all else (LOG,)
        self.books = LogBooks(source / "out", dest / "in", names, lines)
        self._all_books = [self.books]
        self._logger = Logger(self.books, self._clock)
        self._rule = {
            "name": "logs",
            "direction": self.direction,
            "source": "out",
            "dest": "in",
            "every": 3600,
            "min_age": 0,
            "mode": "append",
            "lines": lines,
            "include": [f"{LOG}*" if is_all else LOG],
        }

    @rule(size=log_sizes)
    def write(self, size: int) -> None:
        """The producer writes some more."""
        self._note("write", size=size)
        self._logger.write(size)
        self._check()

    @rule(way=st.sampled_from(ROTATIONS))
    def rotate(self, way: str) -> None:
        """The producer rotates the log."""
        self._note("rotate", way=way)
        self._logger.rotate(way)
        self._check()

    @rule(seconds=st.sampled_from((1.0, 100.0, 40 * DAYS)))
    def restart(self, seconds: float) -> None:
        """The process ends, and another one goes on, some time later."""
        self._note("restart", seconds=seconds)
        self._set_clock(seconds)
        self._device.close()

    @rule(sizes=st.lists(log_sizes, max_size=2), happens=log_events)
    def run(self, sizes: list[int], happens: list[Event]) -> None:
        """The rule runs, after the producer has written, and something may happen meanwhile."""
        self._note("run", sizes=sizes, happens=happens)
        for size in sizes:
            self._logger.write(size)
        self._run(happens)
        self._check()

    @rule()
    def wait(self) -> None:
        """The rule runs several times while nothing is written: a log that was rotated away counts as gone."""
        self._note("wait")
        for _ in range(ABSENT_SCANS):
            self._run([])
        self._check()

    @precondition(lambda self: self.victims is not None)
    @rule(size=log_sizes, moment=moments)
    def kill(self, size: int, moment: Moment) -> None:
        """The rule runs in a process that is killed at a moment."""
        self._note("kill", size=size, moment=moment)
        self._logger.write(size)
        self._and_kill(moment, ["run_rule", self._rule])
        self._check()

    def _run(self, happens: list[Event]) -> str:
        # A rotated log that the server refuses to give or to take is passed over: the rule says that it is failing
        self.books.may_be_unfinished = any(event.what in ("refuse", "full") for event in happens)
        return self._with_faults(happens, lambda: self._device.run_rule(self._rule))

    def _happen(self, event: Event, path: str) -> None:
        del path
        self.figures.faults[f"during it: {event.what}"] += 1
        if event.what == "write":
            self._logger.write(4_000)
        else:
            self._logger.rotate(event.way)

    def _finish(self) -> None:
        self._clock.set_to(self._latest + AFTER_ALL)
        code, quiet = "", 0
        for _ in range(ROUNDS):
            code = self._run([])
            quiet += not code and self.books.is_quiet()
            if quiet > 1:  # once more: nothing is to happen then
                break
        if self.books.leftovers():  # what nothing has resumed within a day goes with the next session
            self._device.close()
            self._clock.ahead += DAYS + AFTER_ALL
            code = self._run([])
        self.books.finish()
        if code:
            self.books.report("fails", f"with every fault removed, the rule fails: {code}")


class LogOutbox(LogMachine):
    """Uploads."""


class LogInbox(LogMachine):
    """Downloads."""

    direction = "download"
