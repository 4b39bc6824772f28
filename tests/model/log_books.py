"""The books of logs that grow: all that a producer ever wrote, and what a reader sees of it."""

from __future__ import annotations

import os
import shutil
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.model.books import Violation
from tests.model.contents import BLOCK, Versions
from tests.model.server import TEMPORARY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.clock import Clock

LOG = "app.log"
ROTATED = (f"{LOG}.1", f"{LOG}.2")
PACKED = f"{LOG}.1.gz"
ROTATIONS = ("renamed", "copied and cut", "packed", "rewritten", "emptied")


@dataclass
class LogBooks:
    """The books of a folder with a log, and of its destination.

    A *generation* is one log from its beginning to its end, whatever names it has.

    Attributes:
        source: the producer's folder.
        dest: the reader's.
        names: those that are selected.
        lines: whole lines only are delivered.
        generations: all bytes of each.
        there: what is at the source: the generation that each name has by now.
        delivered: how often a reader has seen more, by name and generation.
    """

    source: Path
    dest: Path
    names: tuple[str, ...]
    lines: bool
    generations: list[bytes] = field(default_factory=list)
    there: dict[str, int] = field(default_factory=dict)
    delivered: Counter[tuple[str, int]] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    may_be_unfinished: bool = False
    _seen: dict[str, bytes] = field(default_factory=dict)  # what a reader has seen last, by name
    _most: Counter[int] = field(default_factory=Counter)  # bytes of each generation that a reader has seen
    _known: dict[int, int] = field(default_factory=dict)  # the lengths of what was beside the log when the run began

    @property
    def versions(self) -> list[bytes]:
        """What was published."""
        return self.generations

    def report(self, kind: str, words: str) -> None:
        """Take note of a broken promise."""
        self.violations.append(Violation(kind, words))

    def begin_run(self) -> None:
        """Look before a run, and at what it finds at the source."""
        self.look()
        self._known = {number: len(self._wanted(number)) for number in self.there.values()}

    def end_run(self, *, killed: bool = False, unsure: bool = False) -> None:
        """Look after a run."""
        del killed, unsure
        self.look()

    def look(self) -> None:
        """Look at the destination: each file is the beginning of one generation, and only becomes longer."""
        with self.lock:
            for name, content in self._at_dest():
                before = self._seen.get(name, b"")
                if content == before:
                    continue
                self._seen[name] = content
                number = self._generation_of(content)
                if content and number is None:
                    self.report("mixed", f"{name!r} holds {len(content)} bytes that begin no generation")
                elif content and before.startswith(content):
                    self.report("shrunk", f"{name!r} has {len(content)} of the {len(before)} bytes it had")
                if number is not None:
                    self.delivered[name, number] += 1
                    self._most[number] = max(self._most[number], len(content))
                if before and not content.startswith(before):
                    self._was_replaced(name, before)

    def _was_replaced(self, name: str, before: bytes) -> None:
        """What makes way for another generation is complete, if it could still be read when the run began."""
        number = self._generation_of(before)
        if number is None or self.may_be_unfinished or number not in self.there.values():
            return
        if self._most[number] < self._known.get(number, 0):
            words = f"generation {number} made way in {name!r} with {self._most[number]} of {self._known[number]} bytes"
            self.report("unfinished", words)

    def finish(self) -> None:
        """Look when all is quiet: all that is selected has arrived, and nothing is left over."""
        self.look()
        for name in self.names:
            if name in self.there and self._seen.get(name, b"") != self._wanted(self.there[name]):
                wanted, seen = len(self._wanted(self.there[name])), len(self._seen.get(name, b""))
                self.report("never", f"{name!r} has {seen} bytes where {wanted} were written")
        for place in self.leftovers():
            self.report("left over", f"{place.name} in {place.parent.name}")

    def is_quiet(self) -> bool:
        """Return whether all has arrived."""
        wanted = {name: self._wanted(self.there[name]) for name in self.names if name in self.there}
        return all(self._seen.get(name, b"") == content for name, content in wanted.items())

    def leftovers(self) -> list[Path]:
        """Return temporary files."""
        return [place for folder in (self.source, self.dest) for place in folder.rglob(f"{TEMPORARY}*")]

    def _wanted(self, number: int) -> bytes:
        content = self.generations[number]
        return content[: content.rfind(b"\n") + 1] if self.lines else content

    def _generation_of(self, content: bytes) -> int | None:
        if not content:
            return None
        return next((number for number, each in enumerate(self.generations) if each.startswith(content)), None)

    def _at_dest(self) -> Iterator[tuple[str, bytes]]:
        for name in sorted(os.listdir(self.dest)):
            if not name.startswith(TEMPORARY):
                with suppress(FileNotFoundError):
                    yield name, (self.dest / name).read_bytes()


@dataclass
class Logger:
    """Writes a log, and rotates it."""

    books: LogBooks
    clock: Clock
    _contents: Versions = field(default_factory=Versions)

    def write(self, size: int) -> None:
        """Write some more, which may end in the middle of a line."""
        with self.books.lock:
            books, place = self.books, self.books.source / LOG
            if LOG not in books.there:
                self._begin()
            new = self._contents.draw(size + BLOCK // 2)
            with place.open("ab") as file:
                file.write(new)
            books.generations[books.there[LOG]] += new
            self._stamp(place)

    def rotate(self, way: str) -> None:
        """Begin a new log, in one of `ROTATIONS`; the old one is kept, packed or gone."""
        books, source = self.books, self.books.source
        with books.lock:
            if LOG not in books.there:
                return
            if way in ("renamed", "copied and cut"):
                if ROTATED[0] in books.there:
                    (source / ROTATED[0]).replace(source / ROTATED[1])
                    books.there[ROTATED[1]] = books.there.pop(ROTATED[0])
                books.there[ROTATED[0]] = books.there.pop(LOG)
                if way == "renamed":
                    (source / LOG).rename(source / ROTATED[0])
                    return
                shutil.copyfile(source / LOG, source / ROTATED[0])
                self._stamp(source / ROTATED[0])
            elif way == "packed":
                content = self._contents.draw(4_000)
                (source / PACKED).write_bytes(content)
                self._stamp(source / PACKED)
                books.generations.append(content)
                books.there[PACKED] = len(books.generations) - 1
                (source / LOG).unlink()
                del books.there[LOG]
                return
            os.truncate(source / LOG, 0)
            self._begin()
            if way == "rewritten":
                self.write(len(books.generations) * BLOCK)  # of no size that it had before

    def _begin(self) -> None:
        books, place = self.books, self.books.source / LOG
        place.touch()
        self._stamp(place)
        books.generations.append(b"")
        books.there[LOG] = len(books.generations) - 1

    def _stamp(self, place: Path) -> None:
        moment = self.clock.time_ns()
        os.utime(place, ns=(moment, moment))
