"""Report each file that was deleted: in the log, in messages, in counts."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from iot.sftp.client import FileOutcome
from iot.sftp.client._base.text import quoted
from iot.sftp.module._base.times import rfc3339

if TYPE_CHECKING:
    from iot.sftp.module._base.counters import LabelledCounter
    from iot.sftp.module._retention.found_file import FoundFile
    from iot.sftp.module._work.file_events import FileEvents

SHOWN = 20  # files that one look logs one by one
ORIGIN = {"server": None, "direction": None, "rule": None}
EXPIRED, NOT_DELIVERED = "expired", "not_delivered"  # the outcome in a message, and its code

_log = logging.getLogger(__name__)


class Deletions:
    """The deletions of one look into one folder.

    Attributes:
        files: how many there were.
        bytes: of these.
    """

    def __init__(self, folder: str, events: FileEvents, counts: LabelledCounter, sizes: LabelledCounter) -> None:
        """Begin without any.

        Parameters:
            folder: its path, as the author of the section wrote it.
            events: takes what has become of files.
            counts: counts files, by whether they were delivered.
            sizes: counts their bytes.
        """
        self._folder = folder
        self._events = events
        self._counts = counts
        self._sizes = sizes
        self._undelivered = 0
        self.files = 0
        self.bytes = 0

    def note(self, file: FoundFile, *, lacks: str | None) -> None:
        """Report a file that has just been deleted; `lacks` is what it lacked of a delivery."""
        path = os.path.join(self._folder, file.path)
        label = "true" if lacks is None else "false"
        self._counts.add(label)
        self._sizes.add(label, count=file.size)
        self.files += 1
        self.bytes += file.size
        self._undelivered += lacks is not None
        if self.files <= SHOWN:
            level = logging.INFO if lacks is None else logging.WARNING
            state = "delivered" if lacks is None else lacks
            _log.log(level, "deleted %s: %s, %d bytes, of %s", quoted(path), state, file.size, _moment(file.modified))
        code = None if lacks is None else NOT_DELIVERED
        outcome = FileOutcome(file.path, path, None, file.size, file.modified, code)
        self._events.note(ORIGIN, outcome, EXPIRED)

    def close(self) -> None:
        """Log how many there were, if not all were logged one by one."""
        if self.files > SHOWN:
            level = logging.WARNING if self._undelivered else logging.INFO
            text = "deleted %d files of %s, %d bytes; %d of them were not delivered"
            _log.log(level, text, self.files, quoted(self._folder), self.bytes, self._undelivered)


def _moment(nanoseconds: int) -> str:
    try:
        return rfc3339(nanoseconds / 1e9)
    except (OverflowError, ValueError, OSError):  # a file may have any time
        return "an unknown time"
