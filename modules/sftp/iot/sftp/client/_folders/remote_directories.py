"""The directories on the server that a folder is uploaded into: each is made once, by the first who needs it."""

from __future__ import annotations

import posixpath
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import PermissionDenied
from iot.sftp.client._folders.folder_walk import below

if TYPE_CHECKING:
    from iot.sftp.client._files.remote_files import RemoteFiles

_MADE: Future[None] = Future()  # what stands for all directories that are there: a future of each would take 2 KB
_MADE.set_result(None)


class RemoteDirectories:
    """The directories below one on the server: each is made, if it is missing, by the first thread that needs it."""

    def __init__(self, root: str, mode: int | None = None) -> None:
        """Take the directory, and the permissions of new ones."""
        self._root = root
        self._mode = mode
        self._lock = threading.Lock()
        self._made: dict[str, Future[None]] = {}

    def make_parent(self, remote: RemoteFiles, path: str) -> None:
        """Make the directory of a file, given relative to the root; wait for whoever is just making it."""
        directory = posixpath.dirname(path)
        with self._lock:
            made = self._made.get(directory)
            is_first = made is None
            if made is None:
                made = self._made[directory] = Future()
        if not is_first:
            made.result()
            return
        try:
            # A folder may be written without being looked at: the upload itself shows.
            with suppress(PermissionDenied):
                remote.make_directories(below(self._root, directory), self._mode)
        except BaseException as error:
            with self._lock:
                del self._made[directory]
            made.set_exception(error)
            raise
        made.set_result(None)
        with self._lock:
            self._made[directory] = _MADE
