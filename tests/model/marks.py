"""Markers and checksums at the destination, as a reader sees them who waits for the one and compares the other."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARKER, CHECKSUM = ".done", ".sha256"
WAITED_FOR = ".ok"  # the producer's own
RULE = {"write": f"{{name}}{MARKER}", "checksum": f"{{name}}{CHECKSUM}"}  # of the rule


def is_mark(path: str) -> bool:
    """Return whether a path at the destination is that of a marker or a checksum."""
    return path.endswith((MARKER, CHECKSUM))


def has_marker(dest: Path, path: str) -> bool:
    """Return whether a file has its marker."""
    return (dest / f"{path}{MARKER}").exists()


def take_marks(dest: Path, path: str) -> None:
    """Take the marker of a file away, and then its checksum, as a reader does before the file."""
    for ending in (MARKER, CHECKSUM):
        (dest / f"{path}{ending}").unlink(missing_ok=True)


def misleading(dest: Path) -> Iterator[str]:
    """Give the paths of files whose marker is there, and whose bytes are not those of their checksum."""
    for directory, _, names in os.walk(dest):
        for name in names:
            if not name.endswith(MARKER):
                continue
            path = os.path.relpath(os.path.join(directory, name), dest).removesuffix(MARKER)
            before = _looked_at(dest, path)
            # Who replaces the file takes its marker away first: so it may have gone meanwhile
            if not _is_right(dest, path) and before is not None and before == _looked_at(dest, path):
                yield path


def _is_right(dest: Path, path: str) -> bool:
    with suppress(FileNotFoundError):
        digest = hashlib.sha256((dest / path).read_bytes()).hexdigest()
        return (dest / f"{path}{CHECKSUM}").read_text() == f"{digest}  {os.path.basename(path)}\n"
    return False


def _looked_at(dest: Path, path: str) -> list[int | None] | None:
    """Return what distinguishes a file, its checksum and its marker from others; `None` if there is no marker."""
    found: list[int | None] = []
    for ending in ("", CHECKSUM, MARKER):
        try:
            found.append(os.stat(dest / f"{path}{ending}").st_ctime_ns)
        except FileNotFoundError:
            found.append(None)
    return None if found[-1] is None else found
