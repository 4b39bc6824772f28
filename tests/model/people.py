"""Producers and partners as they are in a plant: what they do to files, entered into the books."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.model.contents import SIZES
from tests.model.marks import WAITED_FOR, has_marker, take_marks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.model.books import Books
    from tests.model.clock import Clock

NAMES = ("a.csv", "b.csv", "c.json", "sub/d.csv", "ö '\"*[1].json")
ARCHIVED = 1_700_000_000  # the time that a reproducible image or a tar file gives to all
QUIET = 100.0  # seconds after which a file counts as complete

WAYS = (
    "replaced", "replaced, same size", "replaced, same size and time", "replaced, as from an archive",
    "replaced, as from an archive, but for its ends",
    "in place", "in place, same size", "in place, same size and time", "appended", "cut", "touched",
)  # fmt: skip
"""How a producer makes a new version of a file that may be there."""


@dataclass
class Producer:
    """Writes into the source."""

    books: Books
    clock: Clock
    workshop: Path

    def make(self, path: str, way: str, size: int, quiet: bool) -> None:
        """Leave a new version of a file, complete when this returns.

        Parameters:
            path: where.
            way: one of `WAYS`.
            size: its size, where the way leaves that open.
            quiet: whether it was written long ago, and its marker too if it has one; else just now.
        """
        with self.books.lock:
            before = self._before(path)
            place = self.books.source / path
            if before is None:
                way = way if "archive" in way else "replaced"
            old = b"" if before is None else before
            content = self._content(way, old, size)
            moment = (_time_of(place) if way.endswith("and time") else None) or self._now(quiet=quiet)
            if "archive" in way:
                moment = ARCHIVED * 10**9
            if way.startswith("replaced"):
                self._replace(place, content, moment)
            elif not self._write_in_place(place, content, moment):
                self.books.has_lost(path, content)
                return
            self.books.has_put(path, content, touched=way == "touched")
            if quiet:
                self.confirm(path)

    def confirm(self, path: str) -> None:
        """Put a marker beside a file that is complete, where one is waited for."""
        with self.books.lock:
            entry = self.books.expected.get(path)
            if self.books.waits and self.books.is_mounted and entry is not None and entry.version is not None:
                self._replace(self._marker_of(path), b"", self._now(quiet=False))
                self.books.has_confirmed(path)

    def _marker_of(self, path: str) -> Path:
        return self.books.source / f"{path}{WAITED_FOR}"

    def begin(self, path: str, size: int) -> None:
        """Write the first half of a new version."""
        with self.books.lock:
            before = self._before(path)
            content = self.books.versions.draw(size)
            half = content[: len(content) // 2]
            self.books.versions.draft(path, content)
            place = self.books.source / path
            if before is None:
                self._replace(place, half, self._now(quiet=False))
            elif not self._write_in_place(place, half, self._now(quiet=False)):
                self.books.has_lost(path, half)
                return
            self.books.has_put(path, half, complete=False)
            self._open[path] = content

    def end(self, path: str) -> None:
        """Write the rest of what was begun."""
        with self.books.lock:
            content = self._open.pop(path)
            self.books.settle()
            if path not in self.books.expected:
                return
            self._write_in_place(self.books.source / path, content, self._now(quiet=False))
            self.books.has_put(path, content)
            self.confirm(path)

    def go_on(self) -> None:
        """Touch what is being written, as its writer does all the time."""
        for path in list(self._open):
            if path in self.books.expected and (self.books.source / path).exists():
                moment = self._now(quiet=False)
                os.utime(self.books.source / path, ns=(moment, moment))

    def remove(self, path: str) -> None:
        """Take a file away."""
        with self.books.lock:
            if self._before(path) is not None:
                (self.books.source / path).unlink(missing_ok=True)
                self.books.has_removed(path)

    @property
    def writing(self) -> list[str]:
        """What is being written."""
        return sorted(self._open)

    def __post_init__(self) -> None:
        """Write nothing yet."""
        self._open: dict[str, bytes] = {}

    def _before(self, path: str) -> bytes | None:
        """Return what is there, once it is known what a run has done until now."""
        self.books.settle()
        self._open.pop(path, None)
        if self.books.waits:
            self._marker_of(path).unlink(missing_ok=True)
        (self.books.source / path).parent.mkdir(parents=True, exist_ok=True)
        try:
            return (self.books.source / path).read_bytes()
        except FileNotFoundError:
            return None

    def _content(self, way: str, old: bytes, size: int) -> bytes:
        draw = self.books.versions.draw
        if way == "appended":
            return old + draw(SIZES[0])
        if way == "cut" and len(old) > SIZES[0]:
            return old[: len(old) - SIZES[0] // 2]
        if way == "touched":
            return old
        if way.endswith("but for its ends") and len(old) > 2 * SIZES[0]:
            new = draw(len(old))
            return new[: SIZES[0]] + old[SIZES[0] : -SIZES[0]] + new[-SIZES[0] :]
        return draw(len(old) if old and ("same size" in way or "archive" in way) else size)

    def _now(self, *, quiet: bool) -> int:
        return self.clock.time_ns() - (int(QUIET * 10**9) if quiet else 0)

    def _replace(self, place: Path, content: bytes, moment: int) -> None:
        self.workshop.write_bytes(content)
        os.utime(self.workshop, ns=(moment, moment))
        self.workshop.replace(place)

    def _write_in_place(self, place: Path, content: bytes, moment: int) -> bool:
        """Write into a file; `False` if it was taken away meanwhile."""
        try:
            descriptor = os.open(place, os.O_RDWR)
        except FileNotFoundError:
            self._replace(place, content, moment)
            return True
        try:
            if os.pread(descriptor, len(content) + 1, 0) != content:
                os.pwrite(descriptor, content, 0)
                os.ftruncate(descriptor, len(content))
            os.utime(descriptor, ns=(moment, moment))
            return os.path.exists(place) and os.stat(place).st_ino == os.fstat(descriptor).st_ino
        finally:
            os.close(descriptor)


@dataclass
class Partner:
    """Takes what arrives, and may leave something of its own."""

    books: Books

    def take(self, path: str) -> None:
        """Take a file away."""
        with self.books.lock:
            self.books.look()
            if not self._may_touch(path):
                return
            (self.books.dest / path).unlink(missing_ok=True)
            self.books.has_taken(path)

    def leave(self, path: str) -> None:
        """Put an own file there, of the size and the time of what is at the source."""
        with self.books.lock:
            self.books.look()
            if not self._may_touch(path):
                return
            entry = self.books.expected.get(path)
            place = self.books.dest / path
            place.parent.mkdir(parents=True, exist_ok=True)
            content = self.books.versions.draw(SIZES[0] if entry is None else len(entry.content) or SIZES[0])
            aside = self.books.archive.parent / "of the partner"
            aside.write_bytes(content)
            if entry is not None and self.books.is_mounted and (self.books.source / path).exists():
                moment = os.stat(self.books.source / path).st_mtime_ns
                os.utime(aside, ns=(moment, moment))
            aside.replace(place)
            self.books.has_taken(path, content)

    def _may_touch(self, path: str) -> bool:
        """Return whether the partner may have a file: while a run is under way, one with a marker, which goes first."""
        books = self.books
        if books.is_marked:
            if books.is_running and (books.dest / path).exists() and not has_marker(books.dest, path):
                return False
            take_marks(books.dest, path)
        return True


def _time_of(place: Path) -> int | None:
    try:
        return os.stat(place).st_mtime_ns
    except FileNotFoundError:
        return None
