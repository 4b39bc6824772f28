"""The files and links of a directory that is deleted with all that is in it: many REMOVE requests in flight."""

from __future__ import annotations

import stat
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    IsADirectory,
    NotADirectory,
    NotFound,
    PermissionDenied,
    SFTPError,
    Unsupported,
)
from iot.sftp.client._folders.folder_walk import below

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._ssh.requests import Reply

REMOVALS_IN_FLIGHT = 256  # of one directory


class Removals:
    """The REMOVE requests of one directory that are in flight.

    Attributes:
        directories: what turned out to be directories, with the refusal.
    """

    def __init__(self, remote: RemoteFiles, top: str, count: Callable[[], object]) -> None:
        """Send nothing yet.

        Parameters:
            remote: the server's files.
            top: the path of the directory that is deleted.
            count: called for each that was deleted.
        """
        self.directories: list[tuple[str, SFTPError | None]] = []
        self._remote = remote
        self._top = top
        self._count = count
        self._window: deque[tuple[str, bool, Future[Reply]]] = deque()

    def send(self, name: str, *, is_clear: bool) -> None:
        """Send a request, as soon as there is room for one.

        Parameters:
            name: relative to the directory that is deleted.
            is_clear: whether the listing has shown that it is no directory.
        """
        while self._window and (len(self._window) >= REMOVALS_IN_FLIGHT or not self._remote.has_room):
            self._settle()
        self._window.append((name, is_clear, self._remote.begin_remove(below(self._top, name))))

    def settle_all(self) -> None:
        """Wait for all answers."""
        while self._window:
            self._settle()

    def give_up(self) -> None:
        """Count what was deleted in spite of a failure."""
        while self._window:
            with suppress(SFTPError):
                self._settle()

    def _settle(self) -> None:
        name, is_clear, asked = self._window.popleft()
        path = below(self._top, name)
        try:
            self._remote.wait(asked, path)
        except NotFound:
            return  # others were faster, or an earlier attempt whose answer was lost
        except IsADirectory as refusal:
            self.directories.append((name, refusal))
            return
        except (PermissionDenied, Unsupported) as refusal:
            self._look_at_refused(name, path, refusal, is_clear=is_clear)
            return
        self._count()

    def _look_at_refused(self, name: str, path: str, refusal: SFTPError, *, is_clear: bool) -> None:
        """Find out why a REMOVE was refused; raise the refusal if a file is there."""
        try:
            kind = stat.S_IFMT(self._remote.lstat(path).mode or 0)
        except (NotFound, NotADirectory):
            return
        except (PermissionDenied, Unsupported):
            raise refusal from None
        if kind != stat.S_IFDIR and (kind or is_clear):
            raise refusal
        self.directories.append((name, refusal))
