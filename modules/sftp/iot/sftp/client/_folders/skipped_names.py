"""What was left out of a page since it is at its destination already: counted, and not kept as files are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_SKIPPED = 4 * 1024 * 1024  # characters of names: some 300,000 of them


class SkippedNames:
    """The names of files that were left out of a page, by their directories.

    A page may end in front of any of them when its memory is used up: then they belong to the next page. So their names
    are kept, each directory's as one string, which takes a fortieth of what its files would take.
    """

    def __init__(self) -> None:
        """Hold none."""
        self._names: list[tuple[str, str]] = []  # what the keys of a directory's files begin with, and their names
        self._size = 0

    @property
    def is_full(self) -> bool:
        """Whether a page should end before there are more."""
        return self._size >= MOST_SKIPPED

    def add(self, prefix: str, names: Iterable[str]) -> None:
        """Add files of a directory; `prefix` is what their keys have before their names."""
        joined = "\0".join(names)
        self._names.append((prefix, joined))
        self._size += len(joined)

    def count(self, bound: str | None) -> int:
        """Return how many there are in front of a key; `None` for all."""
        return sum(_count(prefix, names.split("\0"), bound) for prefix, names in self._names)


def _count(prefix: str, names: list[str], bound: str | None) -> int:
    if bound is not None and bound.startswith(prefix):
        return sum(prefix + name < bound for name in names)
    return len(names) if bound is None or prefix < bound else 0
