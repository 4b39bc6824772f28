"""Versions of files whose bytes say which version they are of, wherever they lie, and what some other bytes are."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

BLOCK = 16  # bytes
SIZES = (BLOCK, 4_000, 40_000)
LARGE = 1_400_000  # more than is worth to be resumed
_TEMPLATE = b"".join(b"......:%08x\n" % block for block in range(-(-LARGE // BLOCK)))


@dataclass(frozen=True)
class Version:
    """One complete content that was published at a path.

    Attributes:
        number: in the order of publication; every block of the content begins with it.
        path: relative to the folder it was published in.
        content: all bytes.
    """

    number: int
    path: str
    content: bytes

    def __str__(self) -> str:
        return f"version {self.number} of {self.path!r} ({len(self.content)} bytes)"


class Versions:
    """All that was ever published."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._complete: dict[tuple[str, bytes], Version] = {}
        self._drafts: list[tuple[str, bytes]] = []

    def __len__(self) -> int:
        return len(self._complete)

    def draw(self, size: int) -> bytes:
        """Return a content that nobody has had before."""
        return _TEMPLATE[:size].replace(b"......", f"{next(self._numbers):06x}".encode())

    def draft(self, path: str, content: bytes) -> None:
        """Take note of what will be complete at a path later, to know its parts when they are seen."""
        self._drafts.append((path, content))

    def publish(self, path: str, content: bytes) -> Version:
        """Take note that a content is complete at a path; the same one again is the same version."""
        version = self._complete.get((path, content))
        if version is None:
            version = self._complete[path, content] = Version(len(self._complete) + 1, path, content)
        return version

    def find(self, path: str, content: bytes) -> Version | None:
        """Return the version that a path's content is, if it is one."""
        return self._complete.get((path, content))

    def describe(self, path: str, content: bytes) -> str:
        """Say what a content is that is no version of its path."""
        for (where, whole), version in self._complete.items():
            if whole == content:
                return f"{version}, which is of another path"
            if where == path and content and whole.startswith(content):
                return f"the first {len(content)} bytes of {version}"
        for where, whole in self._drafts:
            if where == path and content and whole.startswith(content):
                return f"the first {len(content)} of {len(whole)} bytes of what is still being written"
        numbers = [content[at : at + 6].decode("latin-1") for at in range(0, len(content), BLOCK)]
        runs = [f"{len(list(run))} blocks of #{number}" for number, run in itertools.groupby(numbers)]
        return f"{len(content)} bytes that were never complete: {', '.join(runs[:6]) or 'none'}"
