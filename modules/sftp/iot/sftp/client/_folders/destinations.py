"""Where the files of a folder go: under which path, and no two of one run under the same one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import AlreadyExists, PathNotAllowed
from iot.sftp.client._files.remote_paths import TEMPORARY_PREFIX
from iot.sftp.client._folders.folder_order import IfExists

if TYPE_CHECKING:
    from iot.sftp.client._folders.folder_order import FolderOrder

MOST_GIVEN = 1_000_000  # paths that are remembered, some hundred bytes each: beyond that a run is taken for two


class Destinations:
    """The paths that files get, relative to the destination; thread-safe.

    A path that was chosen for a file stays chosen while that is tried again: a date in it must not make another one of
    it, nor a number that an answer was lost for.
    """

    def __init__(self, order: FolderOrder) -> None:
        """Choose nothing yet."""
        self._rename = order.rename
        self._is_exclusive = order.rename is not None and order.replaces
        self._is_numbered = order.if_exists is IfExists.RENAME
        self._lock = threading.Lock()
        self._renamed: dict[str, str] = {}  # of files in hand, by their paths
        self._chosen: dict[str, str] = {}  # with a number, or because the name was free
        self._in_use: dict[str, str] = {}  # the same the other way round
        self._given: dict[int, int] = {}  # hashes of all paths of this run, and of the files that have them

    def of(self, path: str) -> str:
        """Return where a file goes, before anybody has looked whether something is there.

        Raises:
            PathNotAllowed: what `rename` returns is no path below the destination.
            AlreadyExists: another file of this run has it: one of the two would be lost.
        """
        if self._rename is None:
            return path
        with self._lock:
            renamed = self._renamed.get(path)
        if renamed is None:
            renamed = _checked(self._rename(path), path)
        with self._lock:
            renamed = self._renamed.setdefault(path, renamed)
            if self._is_exclusive and self._given.setdefault(hash(renamed), hash(path)) != hash(path):
                message = (
                    f"another file of this run has got {renamed!r} at its destination, and would be replaced: have "
                    "'rename' tell them apart, or use if_exists 'rename'"
                )
                raise AlreadyExists(message, path=path)
            if len(self._given) > MOST_GIVEN:
                self._given.clear()
        return renamed

    def chosen(self, path: str) -> str | None:
        """Return what was chosen for a file before, and was not written as far as is known."""
        with self._lock:
            return self._chosen.get(path)

    def last_of(self, path: str) -> str | None:
        """Return where a file was going when it was looked at last; `None` if that was never decided."""
        with self._lock:
            if self._is_numbered:
                return self._chosen.get(path)
            return path if self._rename is None else self._renamed.get(path)

    def choose(self, path: str, dest: str) -> bool:
        """Choose a path for a file; `False` if another file is just being written there."""
        with self._lock:
            if self._in_use.setdefault(dest, path) != path:
                return False
            self._chosen[path] = dest
            return True

    def discard(self, path: str) -> None:
        """Take back what was chosen for a file."""
        with self._lock:
            self._in_use.pop(self._chosen.pop(path, ""), None)

    def end(self, path: str) -> None:
        """Forget a file that need not be looked at again."""
        self.discard(path)
        with self._lock:
            self._renamed.pop(path, None)


def _checked(renamed: object, path: str) -> str:
    """Return a path that was made up for a file, if it can be one."""
    parts = renamed.split("/") if isinstance(renamed, str) else [""]
    is_hidden = any(part.startswith(TEMPORARY_PREFIX) for part in parts)
    if not isinstance(renamed, str) or not {"", ".", ".."}.isdisjoint(parts) or "\0" in renamed or is_hidden:
        message = f"'rename' makes {renamed!r} of it, which cannot be its path at the destination"
        raise PathNotAllowed(message, path=path)
    return renamed
