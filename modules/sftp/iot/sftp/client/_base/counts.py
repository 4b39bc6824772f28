"""Count what a session has done."""

from __future__ import annotations

import threading


class Counts:
    """Counters of a session, which only grow; thread-safe.

    Attributes:
        connections: how often a session with the server was opened.
        retries: how often an operation was retried after the connection broke.
        downloaded: bytes of files that arrived, incomplete transfers included.
        uploaded: bytes of files that the server accepted, incomplete transfers included.
    """

    def __init__(self) -> None:
        """Start at zero."""
        self._lock = threading.Lock()
        self.connections = self.retries = self.downloaded = self.uploaded = 0

    def add(self, *, connections: int = 0, retries: int = 0, downloaded: int = 0, uploaded: int = 0) -> None:
        """Add to the counters."""
        with self._lock:
            self.connections += connections
            self.retries += retries
            self.downloaded += downloaded
            self.uploaded += uploaded
