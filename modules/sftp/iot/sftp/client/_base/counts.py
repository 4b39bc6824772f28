"""What a session has done so far, in numbers."""

from __future__ import annotations

import threading


class Counts:
    """Numbers that only grow; for any number of threads.

    Attributes:
        connections: how often a session with the server was opened.
        retries: how often an operation was tried again, after a break.
        downloaded: bytes of files that have arrived, also of transfers that were not completed.
        uploaded: bytes of files that the server has taken, also of transfers that were not completed.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self._lock = threading.Lock()
        self.connections = self.retries = self.downloaded = self.uploaded = 0

    def add(self, *, connections: int = 0, retries: int = 0, downloaded: int = 0, uploaded: int = 0) -> None:
        """Count what has just been done."""
        with self._lock:
            self.connections += connections
            self.retries += retries
            self.downloaded += downloaded
            self.uploaded += uploaded
