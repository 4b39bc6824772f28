"""How far the transfer of a folder is: what callers see, and the thread-safe counts behind it."""

from __future__ import annotations

import threading
from dataclasses import dataclass

FAILURES_REPORTED = 20


@dataclass(frozen=True)
class FileFailure:
    """Why one file of a folder was not transferred, or could not be deleted or moved at its source after its arrival.

    Attributes:
        path: the file's, as `list_files` shows it.
        code: the stable name of the reason: that of an `SFTPError`.
        message: the same for people.
        delivered: whether this version of the file has arrived, now or in an earlier call.
    """

    path: str
    code: str
    message: str
    delivered: bool = False


@dataclass(frozen=True)
class FileOutcome:
    """What has become of one file of a folder: it was delivered, or could not be transferred.

    Attributes:
        path: the file's, relative to the folder.
        source: the same, as `list_files` shows it.
        dest: where it is now, or would be, in the same terms; `None` of a failure if files are renamed.
        size: in bytes, if known.
        modified: in nanoseconds since 1970, if known.
        code: the stable name of the reason why it was not transferred; `None` if it was delivered.
        message: the same for people.
        is_quarantined: whether it was put aside, to `dest`.
    """

    path: str
    source: str
    dest: str | None
    size: int | None = None
    modified: int | None = None
    code: str | None = None
    message: str | None = None
    is_quarantined: bool = False


@dataclass(frozen=True)
class FolderProgress:
    """How far the transfer of a folder is.

    Attributes:
        files: delivered by this call.
        total_files: found so far and selected; files that vanished meanwhile are taken out again. A folder with more
            files than there is memory for is listed part by part, so that this number grows.
        bytes: transferred.
        total_bytes: of all files that were found so far.
        skipped: because of `if_exists`; or delivered by an earlier call, and now deleted or moved.
        failed: not transferred, or not deleted or moved afterwards.
        failures: the first 20 of these.
        young: left for the next call, because of `min_age`.
        not_removed: delivered, by this call or an earlier one, and could not be deleted or moved at the source: these
            are counted in `failed` as well, and are not transferred again as long as they stay what they are. So are
            those whose marker could not be written, or removed at the source.
        in_place: of the files delivered by this call, those that were appended to in place, where a reader may see a
            part of the new bytes.
        quarantined: put aside at the source, as they fail by themselves; not counted in `failed`.
    """

    files: int = 0
    total_files: int = 0
    bytes: int = 0
    total_bytes: int = 0
    skipped: int = 0
    failed: int = 0
    failures: tuple[FileFailure, ...] = ()
    young: int = 0
    not_removed: int = 0
    in_place: int = 0
    quarantined: int = 0


@dataclass(frozen=True)
class FolderTransfer(FolderProgress):
    """What the transfer of a folder did: its last progress, the seconds that it took, and how many attempts."""

    seconds: float = 0.0
    attempts: int = 1


class FolderTally:
    """Counts what becomes of a folder's files; thread-safe."""

    def __init__(self) -> None:
        """Start at zero."""
        self._lock = threading.Lock()
        self._in_flight: dict[str, int] = {}  # bytes of files that are being transferred
        self._files = self._total_files = self._bytes = self._total_bytes = self._skipped = self._failed = 0
        self._young = self._not_removed = self._in_place = self._quarantined = 0
        self._failures: list[FileFailure] = []

    @property
    def settled(self) -> int:
        """How many files need not be looked at again."""
        return self._files + self._skipped + self._failed + self._young + self._quarantined

    @property
    def delivered(self) -> int:
        """How many files have arrived."""
        return self._files

    def snapshot(self) -> FolderProgress:
        """Return the counts of this moment."""
        with self._lock:
            return FolderProgress(
                self._files,
                self._total_files,
                self._bytes + sum(self._in_flight.values()),
                self._total_bytes,
                self._skipped,
                self._failed,
                tuple(self._failures),
                self._young,
                self._not_removed,
                self._in_place,
                self._quarantined,
            )

    def add_found(self, files: int, size: int, *, young: int, unlisted: int) -> None:
        """Count what was found: files, their bytes, those that are too young, and directories that are not reported."""
        with self._lock:
            self._total_files += files
            self._total_bytes += size
            self._young += young
            self._failed += unlisted

    def remove_found(self, size: int, *, is_young: bool = False) -> None:
        """Take out a file of this size that is not there any more, or that is too young by now."""
        with self._lock:
            self._total_files -= 1
            self._total_bytes -= size
            self._young += is_young

    def note_in_flight(self, path: str, done: int) -> None:
        """Record how many bytes of a file are at its destination."""
        with self._lock:
            self._in_flight[path] = done

    def end_in_flight(self, path: str) -> None:
        """Record that a file is not being transferred any more."""
        with self._lock:
            self._in_flight.pop(path, None)

    def add_delivered(self, size: int, planned: int, *, is_atomic: bool = True) -> None:
        """Count a file that was transferred, and correct what was planned for it."""
        with self._lock:
            self._files += 1
            self._in_place += not is_atomic
            self._bytes += size
            self._total_bytes += size - planned

    def add_skipped(self, files: int = 1) -> None:
        """Count files that were skipped."""
        with self._lock:
            self._skipped += files

    def add_quarantined(self, path: str) -> None:
        """Count a file that was put aside, in place of its failure."""
        with self._lock:
            self._failed -= 1
            self._quarantined += 1
            self._failures = [failure for failure in self._failures if failure.path != path]

    def add_failed(self, failure: FileFailure, *, not_removed: bool = False) -> bool:
        """Count a failure; return whether it is among the first ones, which are reported one by one."""
        with self._lock:
            self._failed += 1
            self._not_removed += not_removed
            is_reported = len(self._failures) < FAILURES_REPORTED
            if is_reported:
                self._failures.append(failure)
            return is_reported
