"""Rules on folders, both ways, among producers, partners, faults and clocks: each version arrives once, and whole."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from tests.model.books import Books
from tests.model.machine import AFTER_ALL, Machine
from tests.model.marks import RULE, WAITED_FOR
from tests.model.people import NAMES, Partner, Producer
from tests.model.strategies import AGE, DAYS, Event, Made, events, first, made, moments, names, seconds, small

if TYPE_CHECKING:
    from tests.model.server import Moment

ROUNDS = 8  # of all rules, until all has to be quiet


class FolderMachine(Machine):
    """One folder on each side, and one rule or two between them."""

    direction: ClassVar[str] = "upload"

    @initialize(
        then=st.sampled_from(("keep", "delete", "move")),
        rules=st.sampled_from((1, 2)),
        aged=st.booleans(),
        tasks=st.sampled_from((False, False, True)),
        if_exists=st.sampled_from(("replace", "replace", "rename", "fail", "backup")),
        marked=st.booleans(),
        waits=st.sampled_from((False, False, True)),
        quarantines=st.booleans(),
        keeps_order=st.booleans(),
    )
    def begin(
        self,
        *,
        then: str,
        rules: int,
        aged: bool,
        tasks: bool = False,
        if_exists: str = "replace",
        marked: bool = False,
        waits: bool = False,
        quarantines: bool = False,
        keeps_order: bool = False,
    ) -> None:
        """Build everything."""
        marked, waits, quarantines = (
            each and not tasks for each in (marked, waits, quarantines)
        )  # only rules have them
        kind = {"then": then, "rules": rules, "aged": aged, "tasks": tasks, "if_exists": if_exists}
        more = {"marked": marked, "waits": waits, "quarantines": quarantines, "keeps_order": keeps_order}
        self._note("begin", **kind, **more)
        self._if_exists = if_exists
        self._by_tasks = tasks
        self._is_aged = aged
        self._build(keeps_order=keeps_order)
        served, local = self._base / "server", self._base / "data"
        upwards = self.direction == "upload"
        source, dest = (local, served) if upwards else (served, local)
        for folder in (source / "out", dest / "in"):
            folder.mkdir()
        self.books = Books(
            source / "out",
            dest / "in",
            source / "done",
            self._base / "archive",
            then,
            times_are_whole=not upwards,
            if_exists=if_exists,
            backup=dest / "kept",
            is_marked=marked,
            waits=waits,
            quarantine=source / "failed" if quarantines else None,
            may_fail=if_exists == "fail",
        )
        self._all_books = [self.books]
        self._producer = Producer(self.books, self._clock, self._base / "of the producer")
        self._partner = Partner(self.books)
        common = {
            "direction": self.direction,
            "source": "out",
            "dest": "in",
            "recursive": True,
            "every": 3600,
            "min_age": AGE if aged else 0,
            "then": {"move": "done"} if then == "move" else then,
            "if_exists": {"backup": "kept"} if if_exists == "backup" else if_exists,
            "marker": (RULE if marked else {}) | ({"wait": f"{{name}}{WAITED_FOR}"} if waits else {}) or None,
            "on_failure": {"after": 2, "move": "failed"} if quarantines else None,
        }
        patterns = (".csv", ".json") if rules == 2 else (None,)
        self._rules = [common | {"name": f"r{n}", "file_pattern": pattern} for n, pattern in enumerate(patterns)]

    # --- producers and partners

    @precondition(lambda self: self.books.is_mounted)
    @rule(made=made)
    def make(self, made: Made) -> None:
        """A producer leaves a new version."""
        self._note("make", made=made)
        self._producer.make(*made)
        self._check()

    @precondition(lambda self: self.books.is_mounted and self._is_aged)
    @rule(name=names, size=small)
    def write_slowly(self, name: str, size: int) -> None:
        """A producer begins to write, or comes to the end of what it has begun."""
        self._note("write_slowly", name=name, size=size)
        if name in self._producer.writing:
            self._producer.end(name)
        else:
            self._producer.begin(name, size)
        self._check()

    @precondition(lambda self: self.books.waits)
    @rule(name=names)
    def confirm(self, name: str) -> None:
        """The producer leaves the marker of what it has written."""
        self._note("confirm", name=name)
        self._producer.confirm(name)
        self._check()

    @rule(name=names, what=st.sampled_from(("take", "leave", "remove")))
    def lose(self, name: str, what: str) -> None:
        """The partner takes what has arrived, or leaves its own instead; or the producer takes its file back."""
        self._note("lose", name=name, what=what)
        if what == "take":
            self._partner.take(name)
        elif what == "leave":
            self._partner.leave(name)
        elif self.books.is_mounted:
            self._producer.remove(name)
        self._check()

    # --- what is around

    @rule(seconds=seconds)
    def time(self, seconds: float) -> None:
        """Time passes, or somebody sets the clock."""
        self._note("time", seconds=seconds)
        self.figures.faults["clock stepped"] += abs(seconds) > AGE + 40
        self._set_clock(seconds)
        self._producer.go_on()

    @rule(what=st.sampled_from(("mount", "block", "refuse remove", "refuse rename", "restart")))
    def change(self, what: str) -> None:
        """Something around is not as it should be, or is again."""
        self._note("change", what=what)
        if what == "mount":
            self._mount() if not self.books.is_mounted else self._unmount()
        elif what == "block":
            self._block(wanted=not self._is_blocked and self.books.then == "move")
        elif what == "restart":
            self._device.close()
        elif self.direction == "download":  # else nothing could arrive
            self._scene.refused ^= {what.removeprefix("refuse ")}
        self._check()

    # --- the device

    @rule(number=st.integers(0, 1), first=first, happens=events)
    def run(self, number: int, first: list[Made], happens: list[Event]) -> None:
        """A rule runs, or a task, after a producer has worked, and something may happen meanwhile."""
        self._note("run", number=number, first=first, happens=happens)
        self._make(first)
        self._run(number, happens)
        self._check()

    @precondition(lambda self: self.victims is not None)
    @rule(number=st.integers(0, 1), first=first, moment=moments)
    def kill(self, number: int, first: list[Made], moment: Moment) -> None:
        """A rule runs in a process that is killed at a moment; the module is restarted."""
        self._note("kill", number=number, first=first, moment=moment)
        self._make(first)
        self._and_kill(moment, self._work(number))
        self._check()

    @precondition(lambda self: self.direction == "upload" and self.books.is_mounted)
    @rule(most=st.sampled_from((0, 0, 5_000)))
    def retain(self, most: int) -> None:
        """Retention looks at the source, and at what was moved away: what is delivered may go, and nothing else."""
        self._note("retain", most=most)
        self.books.settle()
        self.books.is_retained = True
        self._device.retain([{"path": folder, "maxBytes": most} for folder in ("out", "done")], self._rules)
        self.books.settle()
        self.books.is_retained = False
        self._check()

    # --- how it is done

    def _make(self, first: list[Made]) -> None:
        if self.books.is_mounted:
            for one in first:
                self._producer.make(*one)

    def _run(self, number: int, happens: list[Event]) -> str:
        method, *arguments = self._work(number)
        self.books.may_fail |= any(event.what == "refuse" for event in happens)
        begun = len(self._scene.done)
        code = self._with_faults(happens, lambda: getattr(self._device, method)(*arguments))
        if not happens and self.direction == "download" and not self._by_tasks and self.books.is_mounted:
            pattern = str(self._rules[number % len(self._rules)]["file_pattern"] or "")
            listed = {path.strip("/") for kind, path in self._scene.done[begun:] if kind == "list"}
            for path in self.books.expected:
                if os.path.dirname(f"out/{path}") in listed and pattern in path:
                    self.books.has_been_listed(path)
        return code

    def _run_alone(self, number: int) -> str:
        """Let a rule or a task run, and return its failure if it is one: a task wants what is there sent again."""
        code = self._run(number, [])
        is_asked_again = self._by_tasks and (self.books.then, self._if_exists) == ("keep", "fail")
        return "" if is_asked_again and code == "already_exists" else code

    def _work(self, number: int) -> list[Any]:
        """Return what the device is to do: let a rule run, or the same as a task, once older ones have ended."""
        order = self._rules[number % len(self._rules)]
        if not self._by_tasks:
            return ["run_rule", order, self._device.is_careful(order)]
        self._with_faults([], self._device.end_tasks)
        self.books.allow_again()
        parameters = "source", "dest", "file_pattern", "recursive", "then", "min_age", "if_exists"
        return ["run_task", f"{self.direction}_files", {name: order[name] for name in parameters}]

    def _may(self, event: Event) -> bool:
        """Return whether something may happen: what no client could see between two of its requests may not."""
        if event.what == "begin" and not self._is_aged:
            return False
        if event.what == "leave" and self._if_exists == "backup":
            return False  # between the backup and the replacement, nobody could see it
        if event.what in ("make", "begin", "remove"):
            if not self.books.is_mounted:
                return False
            if self.direction == "download":
                # STAT and REMOVE are two requests: who writes between them cannot be seen. Nor can who keeps times.
                return event.moment.kind in ("open", "read", "list") and not event.way.endswith("and time")
        return True

    def _happen(self, event: Event, path: str) -> None:
        name = event.name
        if self.direction == "download" and event.what in ("make", "begin", "remove"):
            name = os.path.relpath(path.lstrip("/"), "out")
            if name not in self.books.expected:
                return  # a folder's request, or one for a temporary file
        self.figures.faults[f"during it: {event.what}"] += 1
        match event.what:
            case "make":
                self._producer.make(name, event.way, 4_000, quiet=False)
                if self.direction == "upload":  # a server does not distinguish two markers of one second
                    self._producer.confirm(name)
            case "begin":
                self._producer.begin(name, 4_000)
            case "remove":
                self._producer.remove(name)
            case "take":
                self._partner.take(name)
            case "leave":
                self._partner.leave(name)

    @property
    def _is_blocked(self) -> bool:
        return self.books.done.is_file()

    def _block(self, *, wanted: bool) -> None:
        self.books.settle()
        done, aside = self.books.done, self._base / "done aside"
        if wanted and not self._is_blocked:
            self.figures.faults["folder to move to is blocked"] += 1
            if done.exists():
                done.rename(aside)
            done.write_bytes(b"in the way")
        elif not wanted and self._is_blocked:
            done.unlink()
            if aside.exists():
                aside.rename(done)

    def _unmount(self) -> None:
        """Let the mount point be an empty folder."""
        self.figures.faults["mount gone"] += 1
        self.books.settle()
        self.books.is_mounted = False
        self.books.source.rename(self._base / "unmounted")
        self.books.source.mkdir()

    def _mount(self) -> None:
        if not self.books.is_mounted:
            shutil.rmtree(self.books.source)
            (self._base / "unmounted").rename(self.books.source)
            self.books.is_mounted = True
            self.books.settle()

    def _finish(self) -> None:
        self._mount()
        self._block(wanted=False)
        self._scene.refused.clear()
        self._clock.set_to(self._latest + AFTER_ALL)
        for name in self._producer.writing:
            self._producer.end(name)
        for name in NAMES:
            self._producer.confirm(name)
        if self._if_exists == "fail":
            for name in NAMES:
                self._partner.take(name)  # else what is there stays in the way
        self._clock.ahead += AFTER_ALL
        codes: list[str] = []
        quiet = 0
        for _ in range(ROUNDS):
            codes = [self._run_alone(number) for number in range(len(self._rules))]
            quiet += not any(codes) and self.books.is_quiet()
            if quiet > 1:  # once more: nothing is to happen then
                break
        if self._scene.struck["remove refused"] or self.books.has_leftovers():
            # What could not be removed goes with the next session, and so does what nothing has resumed within a day
            self._device.close()
            self._clock.ahead += DAYS + AFTER_ALL
            codes = [self._run_alone(number) for number in range(len(self._rules))]
        self.books.finish()
        if any(codes):
            self.books.report("fails", f"with every fault removed, rules fail: {codes}")


class Outbox(FolderMachine):
    """Uploads."""


class Inbox(FolderMachine):
    """Downloads."""

    direction = "download"


class _InBatches(FolderMachine):
    """What is delivered in batches: plain orders, and a server that keeps the order of requests."""

    @initialize(
        then=st.sampled_from(("keep", "delete", "move")),
        rules=st.sampled_from((1, 1, 2)),
        aged=st.booleans(),
        tasks=st.booleans(),
    )
    def begin(self, **kind: Any) -> None:
        """Build everything."""
        super().begin(**kind, keeps_order=True)

    @rule(first=st.lists(made, min_size=3, max_size=8), number=st.integers(0, 1), happens=events)
    def run_many(self, first: list[Made], number: int, happens: list[Event]) -> None:
        """A rule or a task runs after a producer has worked hard, and after a run in which nothing went wrong."""
        self.run(number, [], [])
        self.run(number, first, happens)

    @precondition(lambda self: self.victims is not None)
    @rule(first=st.lists(made, min_size=3, max_size=8), number=st.integers(0, 1), moment=moments)
    def kill_many(self, first: list[Made], number: int, moment: Moment) -> None:
        """The same, in a process that is killed at a moment."""
        self.run(number, [], [])
        self.kill(number, first, moment)


class BatchOutbox(_InBatches):
    """Uploads in batches."""


class BatchInbox(_InBatches):
    """Downloads in batches: of files that are kept."""

    direction = "download"
