"""Single calls among partners and faults: what they move is whole, and what they delete is what they saw."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from tests.model.books import Books
from tests.model.machine import AFTER_ALL, Machine
from tests.model.people import Partner, Producer
from tests.model.strategies import Event, Made, events, first, made, moments, names, order_events, orders, seconds

if TYPE_CHECKING:
    from pathlib import Path

    from tests.model.server import Moment

SECOND = 1_000_000_000  # nanoseconds


class Seen(NamedTuple):
    """A file as a server reports it, and what only the model knows."""

    size: int
    second: int
    content: bytes

    def may_be(self, other: Seen) -> bool:
        """Return whether it is the same one, or no client could distinguish the two."""
        return self.content == other.content or (self.size, self.second) == (other.size, other.second)


class Calls(Machine):
    """Uploads, downloads, deletions and moves of single files."""

    @initialize()
    def begin(self) -> None:
        """Build everything."""
        self._note("begin")
        self._build()
        served, local = self._base / "server", self._base / "data"
        folders = served / "out", served / "in", served / "orders", served / "done", local / "out", local / "in"
        for folder in folders:
            folder.mkdir()
        archive, none = self._base / "archive", self._base / "none"
        up = Books(local / "out", served / "in", none, archive, "keep", times_are_whole=False)
        down = Books(served / "out", local / "in", none, archive, "keep", times_are_whole=True)
        self._books = {"upload_file": up, "download_file": down}
        self._all_books = [up, down]
        self._producers = {
            method: Producer(books, self._clock, self._base / "of the producer")
            for method, books in self._books.items()
        }
        self._partners = {method: Partner(books) for method, books in self._books.items()}
        self._orders = served / "orders"
        self._moved = served / "done"
        self._looked: Seen | None = None  # what the call under way has seen first
        self._scene.before = self._before_deed
        self._is_ordering = self._is_first_look = False

    # --- files that are transferred

    @rule(method=st.sampled_from(("upload_file", "download_file")), made=made)
    def make(self, method: str, made: Made) -> None:
        """A producer leaves a new version."""
        self._note("make", method=method, made=made)
        self._producers[method].make(*made)
        self._check()

    @rule(method=st.sampled_from(("upload_file", "download_file")), name=names, what=st.sampled_from(("take", "leave")))
    def lose(self, method: str, name: str, what: str) -> None:
        """The partner takes what has arrived, or leaves its own instead."""
        self._note("lose", method=method, name=name, what=what)
        getattr(self._partners[method], what)(name)
        self._check()

    @rule(method=st.sampled_from(("upload_file", "download_file")), name=names, first=first, happens=events)
    def transfer(self, method: str, name: str, first: list[Made], happens: list[Event]) -> None:
        """A file is transferred, and something may happen meanwhile."""
        self._note("transfer", method=method, name=name, first=first, happens=happens)
        for one in first:
            self._producers[method].make(*one)
        self._transfer(method, name, happens)
        self._check()

    @precondition(lambda self: self.victims is not None)
    @rule(method=st.sampled_from(("upload_file", "download_file")), made=made, moment=moments)
    def kill(self, method: str, made: Made, moment: Moment) -> None:
        """A file is transferred by a process that is killed at a moment."""
        self._note("kill", method=method, made=made, moment=moment)
        self._producers[method].make(*made)
        self._allow(method, made.name)
        self._and_kill(moment, ["call", method, f"out/{made.name}", f"in/{made.name}"])
        self._check()

    @rule(seconds=seconds)
    def restart(self, seconds: float) -> None:
        """The process ends, and another one goes on, some time later or with another clock."""
        self._note("restart", seconds=seconds)
        self._set_clock(seconds)
        self._device.close()

    # --- orders, which are deleted or moved away

    @rule(order=orders, what=st.sampled_from(("delete_file", "move_file")), happens=order_events)
    def handle(self, order: Made, what: str, happens: list[Event]) -> None:
        """A partner leaves an order, it is deleted or moved away, and something may happen meanwhile."""
        self._note("handle", order=order, what=what, happens=happens)
        self._leave(order)
        self._begin_order()
        arguments = [f"orders/{order.name}"] + ([f"done/{order.name}"] if what == "move_file" else [])
        before = _see(self._orders / order.name)
        code = self._with_faults(happens, lambda: self._device.call(what, *arguments))
        self._is_ordering = False
        seen = self._looked or before
        after = _see(self._moved / order.name)
        if what == "move_file" and not code and seen and after is None:
            self._report("moved", f"move_file ended well, and {order.name!r} is not where it was to go")
        if what == "move_file" and not code and seen and after and not after.may_be(seen):
            self._report("moved", f"move_file ended well, and {order.name!r} is not what it saw first")
        self._check()

    # --- how it is done

    def _begin_order(self) -> None:
        self._looked, self._is_ordering = None, True

    def _transfer(self, method: str, name: str, happens: list[Event]) -> str:
        books = self._books[method]
        self._allow(method, name)
        self._method, self._name = method, name
        self._current = [books.expected[name].content] if name in books.expected else []
        code = self._with_faults(happens, lambda: self._device.call(method, f"out/{name}", f"in/{name}"))
        if not code:
            there = _see(books.dest / name)
            if not any(event.what in ("take", "leave") for event in happens) and (
                there is None or there.content not in self._current
            ):
                self._report("not it", f"{method} of {name!r} ended well, and its destination holds something else")
        return code

    def _allow(self, method: str, name: str) -> None:
        """Each call may deliver what others have delivered."""
        books = self._books[method]
        for path, number in list(books.delivered):
            if path == name:
                books.allowed[path, number] = books.delivered[path, number]

    def _leave(self, order: Made) -> None:
        place, aside = self._orders / order.name, self._base / "an order"
        place.parent.mkdir(exist_ok=True)
        before = _see(place) or _see(self._moved / order.name)
        content = self._books["upload_file"].versions.draw(
            before.size if before and "same size" in order.way else order.size
        )
        aside.write_bytes(content)
        second = before.second if before and order.way.endswith("and time") else int(self._clock.time())
        moment = (second - 100 * order.quiet) * SECOND
        os.utime(aside, ns=(moment, moment))
        aside.replace(place)

    def _cut(self, event: Event) -> None:
        if self._is_first_look and event.moment.after:
            self._looked = None  # the answer is lost: the call has not seen what the server saw
        super()._cut(event)

    def _before_deed(self, kind: str, path: str, other: str) -> None:
        """Look at what a request is about, just before it is carried out."""
        self._is_first_look = False
        if not self._is_ordering:
            return
        folder, _, name = (other if kind == "rename" else path).lstrip("/").partition("/")
        if folder != "orders":
            return
        there = _see(self._orders / name)
        if kind in ("stat", "open") and self._looked is None:
            self._looked, self._is_first_look = there, True
        if kind in ("remove", "rename") and there is not None:
            looked = self._looked or there
            if not there.may_be(looked):
                self._report("repeated", f"{kind} of {name!r} struck an order that had come after the first look")
            self._looked = looked

    def _happen(self, event: Event, path: str) -> None:
        del path
        self.figures.faults[f"during it: {event.what}"] += 1
        if event.what.endswith("order"):
            self._leave(Made(event.name, event.way, 4_000, quiet=False))
            if event.what.startswith("cut"):
                self._cut(event)
            return
        method, name = self._method, self._name
        if event.what == "make":
            self._producers[method].make(name, event.way, 4_000, quiet=False)
            if name in self._books[method].expected:
                self._current.append(self._books[method].expected[name].content)
        elif event.what in ("take", "leave"):
            getattr(self._partners[method], event.what)(name)

    def _may(self, event: Event) -> bool:
        if self._is_ordering:  # who comes between LSTAT and what is asked for next cannot be seen
            return not (event.what == "order" and event.moment.kind == "stat" and event.moment.after)
        if event.what in ("begin", "remove"):
            return False
        # Who keeps the times on the server cannot be seen
        return not (event.what == "make" and self._method == "download_file" and event.way.endswith("and time"))

    def _report(self, kind: str, words: str) -> None:
        self._all_books[0].report(kind, words)

    def _finish(self) -> None:
        self._clock.set_to(self._latest + AFTER_ALL)
        for method, books in self._books.items():
            for name in list(books.expected):
                code = self._transfer(method, name, [])
                if code:
                    books.report("fails", f"with every fault removed, {method} of {name!r} fails: {code}")
            books.finish()
            books.violations = [one for one in books.violations if one.kind not in ("never", "stale")]


def _see(place: Path) -> Seen | None:
    try:
        with open(place, "rb") as file:
            status = os.fstat(file.fileno())
            return Seen(status.st_size, int(status.st_mtime), file.read())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
