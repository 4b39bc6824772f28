"""Record which versions of which files were delivered, over restarts, so that none is delivered twice.

What is written survives a crash of the process. A power cut may take the last moments: a run after it compares hashes
at the destination first.
"""

from __future__ import annotations

import os
import sqlite3
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from iot.sftp.module._work.delivered_versions import DeliveredVersions, MovedFile, MovedFiles
from iot.sftp.module._work.delivery_record import (
    PROOF,
    WHOLE_LINES,
    DeliveryRecord,
    forget_version,
    read_record,
    write_record,
)
from iot.sftp.module._work.delivery_tables import UNUSED_KEPT
from iot.sftp.module._work.event_queue import EventQueue
from iot.sftp.module._work.failure_memory import FailureMemory
from iot.sftp.module._work.group_commit import GroupCommit
from iot.sftp.module._work.growth_memory import (
    forget_absent_growths,
    forget_growth,
    growth_of,
    paths_growing_as,
    write_growth,
)
from iot.sftp.module._work.marker_memory import MarkerMemory
from iot.sftp.module._work.place_memory import PlaceMemory, forget_places, undelivered_places
from iot.sftp.module._work.sqlite_file import SQLiteFile
from iot.sftp.module._work.stored_version import folded, signed

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client import FileVersion, GrowthRecord
    from iot.sftp.client._folders.delivery_ledger import Handed

ABSENT_SCANS = 3  # complete scans in a row that do not find a file, until its delivery is forgotten
SEEN_PERIOD = 86_400.0  # seconds of use time after which it is noted again that a file is still there


class DeliveryLedger:
    """One ledger during one scan of its source: the `Ledger` of the client's call; thread-safe.

    A version counts as the delivered one if size, times and inode are the same, as far as both are known. The device is
    recorded, but not compared: its number may change whenever a file system is mounted or the machine boots, with
    nothing else changed, while another file system with the same inode, size and times to the nanosecond is a copy of
    this one, block by block.

    A file of which only the change time differs (chmod, chown, a new hard link, a backup) most likely has the same
    content; but so it looks where a writer has reset the modification time. Its hash at the destination decides: see
    `is_in_doubt`.

    Of a remote file, the record keeps its version until another one is found in its place: the next one may have the
    same size and second again. What a scan has recorded itself is kept: its listing may be older.

    Attributes:
        markers: what is still to be done with those of its files.
        failures: of files that have failed by themselves.
        moved_files: finds those that it moves on the device, if it remembers these; set by who opens it.
    """

    def __init__(
        self,
        file: SQLiteFile,
        commits: GroupCommit,
        events: EventQueue,
        ledger: str,
        use: float,
        *,
        covers: Callable[[str], bool],
        home: int | None,
        is_strict: bool,
        verifies: bool,
        places: PlaceMemory | None,
        delivered: DeliveredVersions,
        delivers_lines: bool,
    ) -> None:
        """Made by `DeliveryLedgers.of`."""
        self._places = places
        self._file = file
        self._commits = commits
        self._event_queue = events
        self._ledger = ledger
        self._use = use
        self._covers = covers
        self._home = home
        self._is_strict = is_strict
        self._verifies = verifies
        self._events: dict[str, list[str]] = {}  # of files whose delivery is about to be recorded, by their paths
        self._found: set[int] = set()  # hashes of the paths that are there
        self._devices: set[int | None] = set()  # where they are
        self._doubts = 0
        self._delivered = delivered
        self._delivers_lines = delivers_lines
        self.moved_files: MovedFiles | None = None
        self.markers = MarkerMemory(file, ledger)
        self.failures = FailureMemory(file, ledger)

    def knows(self, path: str, version: FileVersion) -> bool:
        """Return whether this very version was delivered before.

        Raises:
            SFTPError: the file cannot be used.
        """
        name, device = os.fsencode(path), signed(version.device)
        self._found.add(hash(name))
        self._devices.add(device)
        is_known = self._is_known(name, device, version)
        if self._places is not None and not is_known:
            self._places.note_seen(path, folded(version))
        return is_known

    def _is_known(self, name: bytes, device: int | None, version: FileVersion) -> bool:
        with self._file.reading() as connection:
            delivery = read_record(connection, self._ledger, name)
        if delivery is None or not self._is_enough(delivery):
            return False
        now = folded(version)
        if not delivery.is_of(now):
            is_touched = delivery.is_touched(now)
            self._doubts += is_touched and not self._answers_no
            if now.inode is None and delivery.version.size is not None and delivery.seen != self._use:
                # A later version may have the size and the second of the recorded one: a server reports no more
                with self._file.transaction() as connection:
                    forget_version(connection, self._ledger, name)
            return is_touched and not self._answers_no
        is_stale = delivery.missed or (delivery.version.device, delivery.home) != (device, self._home)
        if is_stale or self._use - delivery.seen > SEEN_PERIOD:
            with self._file.transaction() as connection:
                connection.execute(
                    "UPDATE deliveries SET missed = 0, device = ?, home = ?, seen = ? WHERE ledger = ? AND path = ?",
                    (device, self._home, self._use, self._ledger, name),
                )
        return True

    def _is_enough(self, delivery: DeliveryRecord) -> bool:
        """Return whether a record stands for all that is to be delivered of a version."""
        if delivery.is_proof == WHOLE_LINES:
            return self._delivers_lines
        return not self._is_strict or delivery.is_proof == PROOF

    def announce(self, path: str, event: str) -> None:
        """Take the event of a file whose delivery is recorded next: both are written in one transaction."""
        self._events.setdefault(path, []).append(event)

    def place_of(self, path: str, choose: Callable[[str], str]) -> str:
        """Return where a file goes, as it was decided when this version of it was taken for the first time.

        Raises:
            SFTPError: the file cannot be used, or `choose` cannot decide.
        """
        return choose(path) if self._places is None else self._places.place_of(path, choose)

    def note(self, path: str, version: FileVersion) -> None:
        """Record that a version was delivered.

        Raises:
            SFTPError: the file cannot be used.
        """
        self.hand_in(path, version)(is_complete=False)

    def hand_in(self, path: str, version: FileVersion) -> Handed:
        """Take that a version was delivered, to be recorded with what others hand in: see `GatheringLedger`."""
        events = self._events.get(path, [])
        write = self._commits.hand_in(lambda connection: self._write(connection, path, version, events))

        def wait(*, is_complete: bool) -> None:
            self._commits.wait(write, is_complete=is_complete)
            self._events.pop(path, None)

        return wait

    def _write(
        self,
        connection: sqlite3.Connection,
        path: str,
        version: FileVersion | None,
        events: list[str],
        is_proof: int = PROOF,
    ) -> None:
        """Write a delivery, if its version may be known the next time, and its events."""
        if version is not None:
            record = DeliveryRecord(folded(version), is_proof, self._home, 0, self._use)
            write_record(connection, self._ledger, os.fsencode(path), record)
            if self._places is not None:
                self._places.note_delivered(connection, path, folded(version))
            self.markers.note_delivered(connection, path)
        for event in events:
            self._event_queue.write(connection, event)

    def growth(self, path: str) -> GrowthRecord | None:
        """Return how much was delivered of the growing file that has, or had, a path.

        Raises:
            SFTPError: the file cannot be used.
        """
        with self._file.transaction() as connection:
            return growth_of(connection, self._ledger, path)

    def growing_as(self, inode: int) -> list[str]:
        """Return under which paths a local file with this inode is recorded.

        Raises:
            SFTPError: the file cannot be used.
        """
        with self._file.transaction() as connection:
            return paths_growing_as(connection, self._ledger, signed(inode))

    def note_growth(self, path: str, growth: GrowthRecord, version: FileVersion | None) -> None:
        """Record how much of a growing file was delivered; and which version, if that is settled.

        Raises:
            SFTPError: the file cannot be used.
        """
        events = self._events.get(path, [])
        is_whole = version is None or version.size is None or growth.length >= version.size
        with self._file.transaction() as connection:
            write_growth(connection, self._ledger, path, growth, signed(growth.inode), use=self._use)
            self._write(connection, path, version, events, PROOF if is_whole else WHOLE_LINES)
        self._events.pop(path, None)

    def write_events(self) -> None:
        """Write the events whose deliveries could not be recorded: nobody reports them again once the sources are gone.

        Raises:
            SFTPError: the file cannot be used.
        """
        if self._events:
            with self._file.transaction() as connection:
                for event in chain.from_iterable(self._events.values()):
                    self._event_queue.write(connection, event)
            self._events.clear()

    def settle(self, path: str) -> None:
        """Delete the record of a file whose source was deleted or moved: it is not needed any more.

        Raises:
            SFTPError: the file cannot be used.
        """
        self.hand_in_settled(path)(is_complete=False)

    def hand_in_settled(self, path: str) -> Handed:
        """Take that a source was deleted or moved, to be recorded with what others hand in: see `GatheringLedger`."""
        moved = None if self.moved_files is None else self.moved_files.of(path)
        write = self._commits.hand_in(lambda connection: self._delete(connection, path, moved))
        return partial(self._commits.wait, write)

    def _delete(self, connection: sqlite3.Connection, path: str, moved: MovedFile | None) -> None:
        name = os.fsencode(path)
        if moved is not None:
            self._note_moved(connection, name, moved)
        connection.execute("DELETE FROM deliveries WHERE ledger = ? AND path = ?", (self._ledger, name))
        forget_places(connection, self._ledger, [name])
        forget_growth(connection, self._ledger, name)

    def _note_moved(self, connection: sqlite3.Connection, name: bytes, moved: MovedFile) -> None:
        """Keep the record of a delivery for the file in its new place; renaming it has changed its change time only."""
        delivery = read_record(connection, self._ledger, name)
        known = folded(moved.version)._replace(changed=None, device=None)
        if delivery is not None and delivery.is_proof == PROOF and delivery.version.is_same_as(known):
            self._delivered.note_moved(connection, moved, self._use)

    def has_found(self, path: str) -> bool:
        """Return whether this scan has found a path."""
        return hash(os.fsencode(path)) in self._found

    @property
    def is_in_doubt(self) -> bool:
        """Whether this scan has skipped files about which only a scan that `verifies` can decide."""
        return self._doubts > 0

    def holds_any(self) -> bool:
        """Return whether the ledger has any records: with `is_strict`, of files that still have to be deleted or moved.

        Raises:
            SFTPError: the file cannot be used.
        """
        with self._file.transaction() as connection:
            row = connection.execute("SELECT 1 FROM deliveries WHERE ledger = ? LIMIT 1", (self._ledger,)).fetchone()
        return row is not None

    def end_scan(self, *, is_complete: bool) -> None:
        """Delete the records of files that are gone for good, so that the ledger is no larger than the folder.

        A file is gone if several complete scans in a row have not found it, though they would have: they cover its
        path, and have found others on its file system, in the same folder. So a missing mount, an empty scan or one
        that failed delete nothing.

        Parameters:
            is_complete: whether all folders could be listed.

        Raises:
            SFTPError: the file cannot be used.
        """
        if not is_complete or not self._found:
            return
        with self._file.transaction() as connection:
            gone, absent = list[tuple[str, bytes]](), list[tuple[str, bytes]]()
            for path, device, home, missed, seen in connection.execute(
                "SELECT path, device, home, missed, seen FROM deliveries WHERE ledger = ?", (self._ledger,)
            ):
                if not self._is_absent(path):
                    continue
                if device in self._devices and home in {self._home, None}:
                    (gone if missed + 1 >= ABSENT_SCANS else absent).append((self._ledger, path))
                elif self._use - seen > UNUSED_KEPT:
                    gone.append((self._ledger, path))
            connection.executemany("DELETE FROM deliveries WHERE ledger = ? AND path = ?", gone)
            # What was taken and is gone before it was delivered, such as a file that was quarantined, has no delivery
            vanished = [
                path
                for path, device in (undelivered_places(connection, self._ledger) if self._places is not None else [])
                if device in self._devices and self._is_absent(path)
            ]
            forget_places(connection, self._ledger, [*vanished, *(path for _, path in gone)])
            forget_absent_growths(connection, self._ledger, self._is_absent)
            self.failures.forget_unless(connection, lambda path: not self._is_absent(path))
            connection.executemany("UPDATE deliveries SET missed = missed + 1 WHERE ledger = ? AND path = ?", absent)

    def _is_absent(self, path: bytes) -> bool:
        """Return whether this scan has not found a path that it would have found."""
        return hash(path) not in self._found and self._covers(os.fsdecode(path))

    @property
    def _answers_no(self) -> bool:
        """Whether a file in doubt has to be transferred or verified by this scan."""
        return self._is_strict or self._verifies
