"""The books of the model: what was published, what arrived, and what must never be seen.

Both sides are folders that can be looked at: the producer's, and the partner's. Nothing of the code under test
is asked.
"""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.model.contents import Version, Versions
from tests.model.marks import WAITED_FOR, has_marker, is_mark, misleading
from tests.model.server import TEMPORARY

if TYPE_CHECKING:
    from collections.abc import Iterator

NUMBER = re.compile(r"-\d+(?=(\.[^./]*)?$)")  # in a name that was taken
SECOND = 1_000_000_000  # nanoseconds


class Violation(NamedTuple):
    """A promise that was broken."""

    kind: str
    words: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.words}"


@dataclass
class Entry:
    """What the producer has left at a path.

    Attributes:
        content: all bytes that are there.
        version: what they are, if they are complete.
        key: size and whole second: all that a server reports.
        looks_old: a version before looked the same to us, and was delivered: no client can see that this is another.
    """

    content: bytes
    version: Version | None
    key: tuple[int, int]
    looks_old: bool = False


@dataclass
class Books:
    """The books of one source folder and one destination.

    Attributes:
        source: the producer's folder.
        dest: the partner's.
        done: where `then` moves what has arrived.
        archive: keeps a link to everything that ever arrived, so that no inode number is used again.
        then: `keep`, `delete` or `move`.
        if_exists: what is done where something is at the destination.
        backup: where what is replaced is kept, if it is.
        is_marked: a checksum and a marker follow each arrival.
        waits: a file is taken only when the producer has put a marker beside it.
        quarantine: where files are put aside that fail by themselves, if they are.
        may_fail: whether anything has happened that is a file's own failure.
        is_retained: retention is under way: what is delivered may go.
        times_are_whole: only whole seconds are reported of the source, and no inode: it is on the server.
    """

    source: Path
    dest: Path
    done: Path
    archive: Path
    then: str
    times_are_whole: bool
    if_exists: str = "replace"
    backup: Path = Path()
    is_marked: bool = False
    waits: bool = False
    quarantine: Path | None = None
    may_fail: bool = False
    is_retained: bool = False
    versions: Versions = field(default_factory=Versions)
    expected: dict[str, Entry] = field(default_factory=dict)
    delivered: Counter[tuple[str, int]] = field(default_factory=Counter)
    allowed: Counter[tuple[str, int]] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    is_mounted: bool = True
    is_running: bool = False
    was_killed: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)
    _there: dict[str, tuple[int, bytes]] = field(default_factory=dict)  # what is at the destination
    _last: dict[str, Version] = field(default_factory=dict)  # what was delivered last, by path
    _keys: dict[str, set[tuple[int, int]]] = field(default_factory=dict)  # of what was delivered, and not taken by us
    _all_keys: dict[tuple[str, int], set[tuple[int, int]]] = field(default_factory=dict)  # of each version
    _partners: set[tuple[str, bytes]] = field(default_factory=set)  # what the partner has put at the destination
    _limbo: set[tuple[str, bytes]] = field(default_factory=set)  # written to what was just being taken away
    _this_run: set[tuple[str, int]] = field(default_factory=set)
    _unconfirmed: set[tuple[str, int]] = field(default_factory=set)  # complete, and without their marker until now
    _put_aside: set[Path] = field(default_factory=set)
    _was_unsure: set[tuple[str, int]] = field(default_factory=set)  # at any time
    _unsure: set[tuple[str, int]] = field(default_factory=set)  # arrived, perhaps without a record

    def report(self, kind: str, words: str) -> None:
        """Take note of a broken promise."""
        self.violations.append(Violation(kind, words))

    # --- what the producer does

    def has_put(self, path: str, content: bytes, *, complete: bool = True, touched: bool = False) -> None:
        """Take note of what a producer has just left at a path."""
        version = self.versions.publish(path, content) if complete else None
        key = len(content), os.stat(self.source / path).st_mtime_ns // SECOND
        before = self.expected.get(path)
        was_seen = key in self._keys.get(path, ()) or (before is not None and before.key == key and before.looks_old)
        if before is not None and before.key == key:
            # A run that is under way may have delivered the one before without our having looked
            was_seen = was_seen or self.is_running or self._is_delivered(path, before.version)
        self.expected[path] = Entry(content, version, key, self.times_are_whole and was_seen)
        if version is not None:
            if (
                self.waits and not self.is_running
            ):  # who comes between the look at the marker and the file cannot be seen
                self._unconfirmed.add((path, version.number))
            self._all_keys.setdefault((path, version.number), set()).add(key)
        if touched and version is not None:
            self.allowed[path, version.number] += 1  # by all that is reported, it is another one

    def has_confirmed(self, path: str) -> None:
        """Take note that a producer has put the marker beside what is there."""
        entry = self.expected.get(path)
        if entry is not None and entry.version is not None:
            self._unconfirmed.discard((path, entry.version.number))

    def has_lost(self, path: str, content: bytes) -> None:
        """Take note that what a producer had open was taken away before it wrote to it: nobody could have known."""
        self.expected.pop(path, None)
        self._limbo.add((path, content))

    def has_removed(self, path: str) -> None:
        """Take note that a producer has taken a file away."""
        self.expected.pop(path, None)

    # --- what the partner does

    def has_taken(self, path: str, replacement: bytes | None = None) -> None:
        """Take note that the partner has taken a file away, and what it has put in its place."""
        found = self._there.pop(path, None)
        if found is not None:
            version = self.versions.find(self._origin(path), found[1])
            unsure = self._unsure | (self._this_run if self.is_running else set())
            if version is not None and (path, version.number) in unsure:
                self.allowed[path, version.number] += 1  # the documented moment: nobody can know that it had arrived
        if replacement is not None:
            self._partners.add((path, replacement))
            self._there[path] = os.stat(self.dest / path).st_ino, replacement

    # --- runs

    def begin_run(self) -> None:
        """Look before a run, so that what follows is known to be its work."""
        self.settle()
        self.is_running, self._this_run = True, set()

    def allow_again(self) -> None:
        """Take note of an order, by somebody who wants all that is there, to deliver it whoever has it already."""
        for (path, number), times in list(self.delivered.items()):
            self.allowed[path, number] = max(self.allowed[path, number], times)

    def has_been_listed(self, path: str) -> None:
        """Take note that a whole run has found what is at a path: the version before is not taken for it again."""
        entry = self.expected.get(path)
        if entry is not None and entry.key not in self._keys.get(path, {entry.key}):
            del self._keys[path]

    def end_run(self, *, killed: bool = False, unsure: bool = False) -> None:
        """Look after a run.

        Parameters:
            killed: nothing that it has begun was ended.
            unsure: an answer was lost: what has arrived may not be known to have.
        """
        self.is_running, self.was_killed = False, killed
        self.settle()
        self._unsure = self._unsure | self._this_run if killed or unsure else set()
        self._was_unsure |= self._unsure

    # --- looks

    def look(self) -> None:
        """Look at the destination: everything under a final name is whole, and arrives once."""
        with self.lock:
            seen = set[str]()
            for path, inode, content in _files(self.dest, self._there):
                if self.is_marked and is_mark(path):
                    continue
                seen.add(path)
                if content is None:
                    continue  # as it was
                if path in self._there:
                    self._was_replaced(path, self._there[path][1])
                if (path, content) in self._partners:
                    self._there[path] = inode, content
                    continue
                self._there[path] = inode, content
                self._keep(self.dest / path)
                self._has_arrived(self._origin(path), content)
            for path in misleading(self.dest) if self.is_marked else ():
                self.report("marker", f"{path!r} has a marker, and is not what its checksum says")
            for path in self._there.keys() - seen:
                if self.if_exists == "backup" and not self._is_kept(self._there[path][1]):
                    self.report("lost", f"{path!r} is neither at the destination nor kept")

    def _origin(self, path: str) -> str:
        """Return the path at the source of what is at the destination, perhaps with a number."""
        return NUMBER.sub("", path) if self.if_exists == "rename" else path

    def _was_replaced(self, path: str, content: bytes) -> None:
        if self.if_exists == "backup":
            if not self._is_kept(content):
                self.report("lost", f"what was at {path!r} was replaced, and is not kept")
        elif self.if_exists != "replace":
            self.report("replaced", f"{path!r} at the destination, where nothing is to be replaced")

    def _is_kept(self, content: bytes) -> bool:
        return any(place.read_bytes() == content for place in self.backup.rglob("*") if place.is_file())

    def _has_arrived(self, path: str, content: bytes) -> None:
        version = self.versions.find(path, content)
        if version is None:
            self.report("mixed or half", f"{path!r} holds {self.versions.describe(path, content)}")
            return
        if (path, version.number) in self._unconfirmed:
            self.report("no marker", f"{version} was taken before its marker was there")
        self.delivered[path, version.number] += 1
        self._this_run.add((path, version.number))
        self._last[path] = version
        entry = self.expected.get(path)
        if entry is not None and entry.version == version:
            # It may have been touched since it was listed
            self._keys[path] = self._all_keys.get((path, version.number), {entry.key})
        if self.delivered[path, version.number] > 1 + self.allowed[path, version.number]:
            self.report("twice", f"{version} was delivered {self.delivered[path, version.number]} times")
            self.allowed[path, version.number] += 1

    def settle(self) -> None:
        """Look at both sides: what is gone at the source has arrived, and nobody has changed what is there."""
        self.look()
        if not self.is_mounted:
            return
        with self.lock:
            for path, entry in list(self.expected.items()):
                there = _read(self.source / path)
                if there is None:
                    self._has_gone(path, entry)
                elif there[1] != entry.content:
                    self.report("changed", f"{path!r} at the source was not {entry.version}, but other bytes")
                    entry.content = there[1]
            for path, _, content in _files(self.source, {}):
                if self.waits and path.endswith(WAITED_FOR):
                    continue
                if path not in self.expected and content is not None:
                    self._has_come_back(path, content)

    def _has_gone(self, path: str, entry: Entry) -> None:
        if self._is_delivered(path, entry.version) or entry.looks_old:
            del self.expected[path]
            self._keys.pop(path, None)
            if self.is_retained:
                return
            if self.then == "keep":
                self.report("lost", f"{entry.version} is gone at its source, where it is to stay")
            elif self.then == "move" and not entry.looks_old:
                moved = _read(self.done / path)
                if moved is None or moved[1] != entry.content:
                    self.report("lost", f"{entry.version} is gone at its source, and was not moved to where it belongs")
        elif self._was_put_aside(path, entry):
            del self.expected[path]
            if not self.may_fail:
                self.report("put aside", f"{entry.version} was put aside, and has not failed by itself")
        elif not self.is_running and not self.was_killed:  # else it may be put back yet
            del self.expected[path]
            what = entry.version or f"what is being written to {path!r}"
            self.report("lost", f"{what} is gone at its source, and has not arrived")

    def _was_put_aside(self, path: str, entry: Entry) -> bool:
        """Return whether a file is in the quarantine by now, under its path or with a number."""
        if self.quarantine is None:
            return False
        for found, _, content in _files(self.quarantine, {}):
            place = self.quarantine / found
            if place not in self._put_aside and NUMBER.sub("", found) == path and content == entry.content:
                self._put_aside.add(place)
                return True
        return False

    def _has_come_back(self, path: str, content: bytes) -> None:
        version = self.versions.find(path, content)
        if (path, content) in self._limbo:
            version = self.versions.publish(path, content)
        elif not self._is_delivered(path, version):
            self.report("changed", f"{path!r} appeared at the source, with {len(content)} bytes")
        key = len(content), os.stat(self.source / path).st_mtime_ns // SECOND
        self.expected[path] = Entry(content, version, key)

    def finish(self) -> None:
        """Look when all is quiet: everything has arrived, and nothing is left over."""
        self.was_killed = False
        self.settle()
        for path, entry in self.expected.items():
            version = entry.version
            if version is None or entry.looks_old:
                continue
            if not self._is_delivered(path, version):
                self.report("never", f"{version} is complete and still there, and has never arrived")
            elif self._last.get(path) != version:
                self.report("stale", f"{version} is what is there, but {self._last.get(path)} was delivered after it")
            elif self.then != "keep":
                self.report("stays", f"{version} has arrived, and is still at its source")
        for path in self._unmarked() if self.is_marked else ():
            self.report("marker", f"{path!r} has arrived, and has no marker")
        for path in self._orphans() if self.waits and self.then != "keep" else ():
            self.report("marker", f"{path!r} is gone from its source, and its marker is there still")
        for place in self._leftovers():
            self.report("left over", f"{place.name} in {place.parent.name}")

    def _unmarked(self) -> Iterator[str]:
        """Give what has arrived without a marker; of what may have no record, nobody knows that it has arrived."""
        for path, (_, content) in self._there.items():
            version = self.versions.find(self._origin(path), content)
            is_ours = version is not None and (path, content) not in self._partners
            is_known = version is not None and (self._origin(path), version.number) not in self._was_unsure
            if is_ours and is_known and not has_marker(self.dest, path):
                yield path

    def _orphans(self) -> Iterator[str]:
        """Give the files that are not at their source any more, where their markers are."""
        for marker, _, _ in _files(self.source, {}):
            path = marker.removesuffix(WAITED_FOR)
            if path != marker and path not in self.expected:
                yield path

    def has_leftovers(self) -> bool:
        """Return whether temporary files are there."""
        return any(self._leftovers())

    def _leftovers(self) -> Iterator[Path]:
        for folder in (self.source, self.dest, self.done):
            yield from folder.rglob(f"{TEMPORARY}*")

    def is_quiet(self) -> bool:
        """Return whether all has been done that is to be done."""
        return all(
            entry.version is None
            or entry.looks_old
            or (self.then == "keep" and self._is_delivered(path, entry.version))
            for path, entry in self.expected.items()
        )

    def _is_delivered(self, path: str, version: Version | None) -> bool:
        return version is not None and self.delivered[path, version.number] > 0

    def _keep(self, path: Path) -> None:
        with suppress(OSError):
            os.link(path, self.archive / f"{len(list(self.archive.iterdir()))}")


def _files(folder: Path, known: dict[str, tuple[int, bytes]]) -> Iterator[tuple[str, int, bytes | None]]:
    """Give path, inode and content of each file, `None` for the content where it is the one that is known."""
    for directory, _, names in os.walk(folder):
        for name in names:
            path = os.path.relpath(os.path.join(directory, name), folder)
            if name.startswith(TEMPORARY):
                continue
            found = _read(folder / path)
            if found is not None:
                yield path, found[0], None if known.get(path) == found else found[1]


def _read(path: Path) -> tuple[int, bytes] | None:
    """Return inode and content of a file; `None` if there is none."""
    try:
        with open(path, "rb") as file:
            return os.fstat(file.fileno()).st_ino, file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
