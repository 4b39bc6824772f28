"""From a caller's remote path to the server's: inside the root, if there is one, and never out of it."""

from __future__ import annotations

import posixpath

from iot.sftp.client._base.errors import IsADirectory, PathNotAllowed
from iot.sftp.client._base.messages import IS_A_REMOTE_DIRECTORY

TEMPORARY_PREFIX = ".iot-sftp-"


class RemotePaths:
    """Takes paths inside a remote directory, or as they are."""

    def __init__(self, root: str | None) -> None:
        """Take the directory that paths are inside of; `None` takes them as the server does."""
        self._root = None if root is None else root.rstrip("/") or "/"

    @property
    def root(self) -> str | None:
        """The directory that paths are inside of, if there is one."""
        return self._root

    def on_server(self, path: str) -> str:
        """Return what the server is asked for.

        With a root, `a`, `/a` and `./a` are the same file in it, and `..` is taken as text, before the server sees it.

        Raises:
            PathNotAllowed: the path would leave the root.
        """
        if self._root is None:
            return path or "."
        parts: list[str] = []
        for part in path.split("/"):
            if part == "..":
                if not parts:
                    message = "the path leads out of the configured root by '..'"
                    raise PathNotAllowed(message, path=path)
                parts.pop()
            elif part not in {"", "."}:
                parts.append(part)
        inside = posixpath.join(self._root, *parts)
        return f"{inside}/" if path.endswith("/") and parts else inside

    def file_on_server(self, path: str) -> str:
        """Return what the server is asked for, of a file that is deleted or moved.

        Raises:
            IsADirectory: the path is the root, which may be a link on the server: REMOVE and RENAME would take that.
            PathNotAllowed: the path would leave the root.
        """
        if self.is_root(path):
            raise IsADirectory(IS_A_REMOTE_DIRECTORY, path=path)
        return self.on_server(path)

    def directory_on_server(self, path: str) -> str:
        """Return what the server is asked for, of a directory that is deleted or moved.

        Raises:
            PathNotAllowed: the path is the root, which may be a link on the server, or would leave it.
        """
        if self.is_root(path):
            message = "this is the configured root: it is never deleted or moved"
            raise PathNotAllowed(message, path=path)
        return self.on_server(path)

    def dest_on_server(self, path: str) -> str:
        """Return what the server is asked for, of a destination; with a `/` at its end it can only be a directory.

        So can the root, also if it is not there yet, and what ends with `.` or `..`, as in POSIX (IEEE Std 1003.1,
        section 4.13).

        Raises:
            PathNotAllowed: the path would leave the root.
        """
        on_server = self.on_server(path)
        if not self.is_root(path) and posixpath.basename(path) not in {".", ".."}:
            return on_server
        while on_server.endswith("/."):
            on_server = on_server.removesuffix("/.") or "/"
        return posixpath.join(on_server, "")

    def is_root(self, path: str) -> bool:
        """Return whether a path is the root that is configured.

        Raises:
            PathNotAllowed: the path would leave the root.
        """
        return self._root is not None and self.on_server(path) == self._root

    def of_caller(self, path: str, *given: str) -> str:
        """Return the path of an error as its caller knows it: as it was given, not the server's or a temporary one."""
        if TEMPORARY_PREFIX in path and given[-1]:
            return given[-1]
        for candidate in given:
            try:
                if candidate and path in {candidate, self.on_server(candidate)}:
                    return candidate
            except PathNotAllowed:
                continue
        return path


def listed(path: str, name: str) -> str:
    """Return the path under which a listing of `path` shows `name`."""
    return name if path in {"", "."} else posixpath.join(path, name)


def check_names_file(path: str) -> str:
    """Return a path that may be a file's; refuse one that can only be a directory's.

    Raises:
        IsADirectory: it ends with `/`, `.` or `..`, or is empty.
    """
    if posixpath.basename(path) in {"", ".", ".."}:
        raise IsADirectory(IS_A_REMOTE_DIRECTORY, path=path)
    return path
