"""What all machines share: a place, a clock, a server, a script of what was done, and what to do when it was wrong."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import asyncssh
from hypothesis.stateful import RuleBasedStateMachine
from tests.model.books import Books
from tests.model.clock import Clock
from tests.model.device import Device, Place
from tests.model.figures import Figures
from tests.model.log_books import LogBooks
from tests.model.server import Cut, Scene

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.model.device import Victims
    from tests.model.server import ModelServer, Moment
    from tests.model.strategies import Event

AFTER_ALL = 1_000.0  # seconds


class Broken(AssertionError):  # noqa: N818 - a promise is
    """Raised where a promise was broken; its words are those of the violations."""


class Machine(RuleBasedStateMachine):
    """What the machines are made of.

    Attributes:
        server: running, shared by all machines.
        victims: the process whose children may be killed; without it nobody is.
        figures: the counts.
        goes_on: whether violations are recorded only; else they end the machine.
        only: kinds of violations that are looked for; all where it is empty.
    """

    server: ClassVar[ModelServer]
    victims: ClassVar[Victims | None] = None
    figures: ClassVar[Figures] = Figures()
    goes_on: ClassVar[bool] = False
    only: ClassVar[frozenset[str]] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self._base = Path(tempfile.mkdtemp(prefix="model-"))
        self._clock = Clock()
        self._in_force = self._clock.in_force()
        self._in_force.__enter__()
        self._script: list[str] = []
        self._told: dict[int, int] = {}
        self._latest = self._clock.time()
        self._all_books: list[Books | LogBooks] = []

    def _build(self, *, keeps_order: bool = False) -> None:
        """Build the server's side and the device; with a server that `keeps_order`, as far as the device can tell."""
        (self._base / "archive").mkdir()
        (self._base / "server").mkdir()
        (self._base / "data").mkdir()
        self._scene = Scene(self._base / "server", self._look)
        self.server.scene = self._scene
        port = self.server.ordered_port if keeps_order else self.server.port
        self._device = Device(Place(os.fspath(self._base), port, self.server.host_key))

    def _look(self) -> None:
        for books in self._all_books:
            books.look()

    def teardown(self) -> None:
        """Repair everything, let the device do what it still has to, and look."""
        try:
            if self._all_books:
                self._note("finish")
                self._finish()
                self._check()
                self._count()
        finally:
            self._in_force.__exit__(None, None, None)
            if self._all_books:
                self._device.close()
            shutil.rmtree(self._base, ignore_errors=True)

    def _finish(self) -> None:
        raise NotImplementedError

    def _with_faults(self, happens: list[Event], work: Callable[[], str]) -> str:
        """Do some work while things happen."""
        self._scene.arm({event.moment: self._act(event) for event in happens if self._may(event)})
        struck = self._scene.struck["cut"]
        for books in self._all_books:
            books.begin_run()
        code = work()
        self._scene.arm({})
        self._scene.is_full = False
        for books in self._all_books:
            books.end_run(unsure=self._scene.struck["cut"] > struck)
        self.figures.counts["runs and calls"] += 1
        return code

    def _and_kill(self, moment: Moment, work: list[Any]) -> None:
        """Have a process of its own do some work, and kill it at a moment."""
        assert self.victims is not None
        self._device.close()
        victim = 0

        def strike(_path: str) -> None:
            os.kill(victim, signal.SIGKILL)

        for books in self._all_books:
            books.begin_run()
        with self._scene.lock:  # nothing is served until it is known who is to be killed
            self._scene.arm({moment: strike})
            victim = self.victims.start(self._device.place, self._clock.ahead, work)
        was_killed = self.victims.outcome() is None
        self._scene.arm({})
        self.figures.faults["killed"] += was_killed
        self.figures.counts["runs and calls"] += 1
        for books in self._all_books:
            books.end_run(killed=was_killed)

    def _may(self, event: Event) -> bool:
        """Return whether something may happen: what no client could see may not."""
        del event
        return True

    def _act(self, event: Event) -> Callable[[str], None]:
        def act(path: str) -> None:
            if event.what in ("cut", "full", "refuse"):
                self.figures.faults[f"during it: {event.what}"] += 1
            match event.what:
                case "cut":
                    self._cut(event)
                case "full":
                    self._scene.is_full = True
                case "refuse":
                    raise asyncssh.SFTPFailure("Failure")
                case _:
                    self._happen(event, path)

        return act

    def _cut(self, event: Event) -> None:
        del event
        raise Cut

    def _happen(self, event: Event, path: str) -> None:
        raise NotImplementedError

    def _set_clock(self, seconds: float) -> None:
        self._clock.ahead += seconds
        self._latest = max(self._latest, self._clock.time())

    def _note(self, step: str, **arguments: object) -> None:
        self.figures.steps[step] += 1
        words = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        self._script.append(f"model.{step}({words})")

    def _check(self) -> None:
        new = []
        for number, books in enumerate(self._all_books):
            new += books.violations[self._told.get(number, 0) :]
            self._told[number] = len(books.violations)
        if self.only:
            new = [violation for violation in new if violation.kind in self.only]
        if new:
            script = "\n".join(self._script)
            self.figures.violations += [(violation, script) for violation in new]
            if not self.goes_on:
                raise Broken("; ".join(map(str, new)) + "\n" + script)

    def _count(self) -> None:
        self.figures.counts["machines"] += 1
        for books in self._all_books:
            self.figures.counts["files"] += len({path for path, _ in books.delivered})
            self.figures.counts["versions"] += len(books.versions)
            self.figures.counts["deliveries"] += sum(books.delivered.values())
        self.figures.faults.update({f"server: {kind}": count for kind, count in self._scene.struck.items()})
