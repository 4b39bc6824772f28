"""Globs: `*` and `?` stand for characters of a name, `**` for folders, none included; everything else for itself.

Brackets, braces and backslashes are characters like any other, a leading dot is no exception, and names are compared as
they are, those that are not UTF-8 too. Shells and `wcmatch` know more, but brackets and backslashes would be surprises
in file names, and here can be answered for a folder whether anything in it may match, or everything does.

No pattern takes more than the length of a name times its own: see `_name_pattern`.
"""

from __future__ import annotations

import posixpath
import re
from functools import lru_cache

from iot.sftp.client._base.errors import InvalidRequest

PATTERNS_MAXIMUM = 64
PATTERN_MAXIMUM = 1024  # bytes
FOLDERS_REMEMBERED = 256  # a walk lists sixteen at a time, and names come folder by folder

ANY_FOLDERS = None  # what stands for `**` among the parts of a pattern
ANY_NAME = "*"


class Globs:
    """Some patterns, of which one is enough; thread-safe."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        """Compile patterns that `check_globs` has let through."""
        self._patterns = tuple(_parts_of(pattern) for pattern in patterns)
        self._states_in = lru_cache(FOLDERS_REMEMBERED)(self._find_states_in)
        self._names_in = lru_cache(FOLDERS_REMEMBERED)(self._find_names_in)

    def match(self, path: str) -> bool:
        """Return whether any pattern matches a file, by its path relative to the source."""
        directory, name = posixpath.split(path)
        return any(pattern.fullmatch(name) for pattern in self._names_in(directory))

    def may_match_in(self, directory: str) -> bool:
        """Return whether any pattern may match a file in a folder, or in one of its folders."""
        return any(
            position < len(parts)
            for parts, positions in zip(self._patterns, self._states_in(directory), strict=True)
            for position in positions
        )

    def match_all_in(self, directory: str) -> bool:
        """Return whether a pattern matches every file in a folder and its folders."""
        everything = _parts_of("**")
        return any(
            parts[position:] == everything
            for parts, positions in zip(self._patterns, self._states_in(directory), strict=True)
            for position in positions
        )

    def _find_names_in(self, directory: str) -> list[re.Pattern[str]]:
        """Return what the names of files in a folder have to match."""
        last = [
            parts[-1]
            for parts, positions in zip(self._patterns, self._states_in(directory), strict=True)
            if len(parts) - 1 in positions
        ]
        return [pattern for pattern in last if pattern is not None]

    def _find_states_in(self, directory: str) -> list[frozenset[int]]:
        """Return, of each pattern, which of its parts may come next inside of a folder."""
        if not directory:
            return [_with_skipped(parts, {0}) for parts in self._patterns]
        parent, name = posixpath.split(directory)
        before = self._states_in(parent)
        return [_after(parts, positions, name) for parts, positions in zip(self._patterns, before, strict=True)]


def check_globs(key: str, patterns: tuple[str, ...]) -> None:
    """Raise `InvalidRequest` for a pattern that cannot be meant, or that would take too long.

    Parameters:
        key: names the list in the message.
        patterns: of the list.
    """
    if len(patterns) > PATTERNS_MAXIMUM:
        raise InvalidRequest(f"{key} has more than {PATTERNS_MAXIMUM} patterns")
    for pattern in patterns:
        problem = _problem_of(pattern)
        if problem:
            raise InvalidRequest(f"{key} has a pattern that {problem}")


def _problem_of(pattern: object) -> str:
    if not isinstance(pattern, str):
        return "is not a string"
    if not pattern or "\0" in pattern:
        return "is empty, or has a NUL character"
    if len(pattern.encode("utf-8", "surrogatepass")) > PATTERN_MAXIMUM:
        return f"is longer than {PATTERN_MAXIMUM} bytes"
    parts = pattern.split("/")
    if not {"", ".", ".."}.isdisjoint(parts):
        return (
            "begins or ends with '/', or has an empty part, '.' or '..': patterns are relative to the source, and "
            "all files in a folder are 'folder/**'"
        )
    if any("**" in part and part != "**" for part in parts):
        return "has '**' beside other characters: it stands for folders, as in '**/*.csv'"
    return ""


def _parts_of(pattern: str) -> tuple[re.Pattern[str] | None, ...]:
    parts = pattern.split("/")
    if parts[-1] == "**":  # all that is in a folder, and not the folder's own name
        parts.append(ANY_NAME)
    found: list[re.Pattern[str] | None] = []
    for part in parts:
        if part != "**":
            found.append(_name_pattern(part))
        elif not found or found[-1] is not ANY_FOLDERS:
            found.append(ANY_FOLDERS)
    return tuple(found)


@lru_cache(maxsize=4 * PATTERNS_MAXIMUM)
def _name_pattern(glob: str) -> re.Pattern[str]:
    """Return the regular expression of one name.

    The first place where a piece between two stars fits is as good as any other: a lookahead with a back-reference
    keeps the engine from trying them all, as in the standard library's `fnmatch`. (Python 3.10 has no atomic groups.)
    """
    first, *pieces = ["".join("." if char == "?" else re.escape(char) for char in piece) for piece in glob.split("*")]
    if not pieces:
        return re.compile(first, re.DOTALL)
    *inner, last = pieces
    found = "".join(f"(?=(?P<g{number}>.*?{piece}))(?P=g{number})" for number, piece in enumerate(inner))
    return re.compile(f"{first}{found}.*{last}", re.DOTALL)


def _with_skipped(parts: tuple[re.Pattern[str] | None, ...], positions: set[int]) -> frozenset[int]:
    """Add the positions behind each `**`, which may stand for no folder at all."""
    skipped = {position + 1 for position in positions if position < len(parts) and parts[position] is ANY_FOLDERS}
    return frozenset(positions | skipped)


def _after(parts: tuple[re.Pattern[str] | None, ...], positions: frozenset[int], name: str) -> frozenset[int]:
    """Return where a pattern may be after one more folder."""
    reached = set[int]()
    for position in positions:
        part = parts[position] if position < len(parts) else re.compile(r"(?!)")
        if part is ANY_FOLDERS:
            reached.add(position)
        elif part.fullmatch(name):
            reached.add(position + 1)
    return _with_skipped(parts, reached)
