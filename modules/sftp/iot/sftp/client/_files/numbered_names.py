"""Names with a number, for a file whose own name is taken: `a-1.csv`, `a-2.csv`."""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_NAME = 255  # bytes: NAME_MAX of nearly all file systems
LONGEST_EXTENSION = 32  # bytes: what is longer is no extension
NUMBERS = 10_000


def numbered(path: str, number: int) -> str:
    """Return a path with a number in front of its extension; the path itself for 0."""
    if not number:
        return path
    directory, name = posixpath.split(path)
    stem, extension = posixpath.splitext(name)
    if len(os.fsencode(extension)) > LONGEST_EXTENSION:
        stem, extension = name, ""
    while len(os.fsencode(f"{stem}-{number}{extension}")) > LONGEST_NAME:
        stem = stem[:-1]
    return posixpath.join(directory, f"{stem}-{number}{extension}")


def numbered_in_parts(path: str) -> Iterator[list[str]]:
    """Give a path and its numbered ones, ever more at a time: most often, few are needed, and each costs a look."""
    number, count = 0, 1
    while number < NUMBERS:
        yield [numbered(path, each) for each in range(number, min(NUMBERS, number + count))]
        number, count = number + count, min(8 * count, 64)
