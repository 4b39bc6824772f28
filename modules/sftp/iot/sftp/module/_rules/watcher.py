"""Notice new files in a local folder, by the events of the file system (inotify).

Events are hints, on which nothing depends: they may be lost when too many come, and a network file system has none. The
periodic runs of a rule find what they missed.
"""

from __future__ import annotations

import logging
import os
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from iot.sftp.client import SFTPError

if TYPE_CHECKING:
    from collections.abc import Callable

    from watchdog.observers.api import BaseObserver

    from iot.sftp.client import LocalFiles

# Events after which there may be something to send; not those of opening, reading and removing, as we do ourselves
EVENTS: list[type[FileSystemEvent]] = [
    DirCreatedEvent, DirMovedEvent, FileClosedEvent, FileCreatedEvent, FileModifiedEvent, FileMovedEvent,
]  # fmt: skip

APPEARANCES = ("created", "moved")  # the kinds of events after which something new has a name
WHOLE = (FileClosedEvent, FileMovedEvent)  # events after which a file is no longer written, most likely

OURS = b"/.iot-sftp-"  # in paths of temporary files of the client

_log = logging.getLogger(__name__)


class Watch(FileSystemEventHandler):
    """Watches one folder at a time, which may come and go: while it is not there, the nearest one above it."""

    def __init__(
        self,
        local_files: LocalFiles,
        notice: Callable[[], None],
        *,
        recursive: bool,
        appeared: Callable[[], None] = lambda: None,
        completed: Callable[[], None] | None = None,
    ) -> None:
        """Begin without a watch.

        Parameters:
            local_files: how the folder is reached.
            notice: called for each event in the folder, from a thread of its own; must not block.
            recursive: watch the folders in it too.
            appeared: the same for a folder that was not there, or one above it: `renew` watches it then.
            completed: called in the place of `notice` for a file that was closed or renamed: most likely it is whole.
        """
        super().__init__()
        self._local_files = local_files
        self._notice = notice
        self._appeared = appeared
        self._completed = completed or notice
        self._awaited: str | None = None  # the name that is to appear in the folder that is watched
        self._recursive = recursive
        self._observer: BaseObserver | None = None
        self._watched: tuple[int, int, bool] | None = None  # device and inode, and whether something is awaited there
        self._told = False

    def renew(self, folder: str) -> None:
        """Watch the local folder that exists now, unless it is watched already.

        What appears while a watch is set up causes no event: so it is looked for again, level by level.
        """
        for _ in range(folder.count("/") + 2):
            before = self._watched
            self._renew(folder)
            if self._awaited is None or self._watched in {None, before}:
                return

    def _renew(self, folder: str) -> None:
        directory, self._awaited = self._open(folder)
        if directory is None:
            self.stop()
            return
        try:
            status = os.fstat(directory)
            identity = status.st_dev, status.st_ino, self._awaited is not None
            if identity == self._watched and self._is_alive():
                return
            self.stop()
            with suppress(FileNotFoundError):
                self._start(os.readlink(f"/proc/self/fd/{directory}"))
                self._watched = identity
        except (OSError, RuntimeError) as error:  # the latter where no thread is left
            if not self._told:
                self._told = True
                _log.warning("%r cannot be watched (%s): it is polled instead", folder, error)
        finally:
            os.close(directory)

    def stop(self) -> None:
        """Stop watching; idempotent."""
        observer, self._observer, self._watched = self._observer, None, None
        if observer is not None and observer.is_alive():
            observer.stop()
            observer.join()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Take an event; called by `watchdog`. What the client does to the files that it sends is ignored."""
        if self._awaited is not None:
            name = os.path.basename(os.fsdecode(event.dest_path or event.src_path))
            if name == self._awaited and event.event_type in APPEARANCES:
                self._appeared()
            return
        if any(OURS in os.fsencode(path) for path in (event.src_path, event.dest_path)):
            return
        if not self._local_files.was_put_back(os.fsdecode(event.dest_path or event.src_path)):
            (self._completed if isinstance(event, WHOLE) else self._notice)()

    def _open(self, folder: str) -> tuple[int | None, str | None]:
        """Open a folder, or the nearest one above it that exists; return it, and the name that is to appear in it."""
        awaited = None
        while True:
            with suppress(SFTPError):
                return self._local_files.open_directory(folder), awaited
            above, awaited = os.path.split(folder.rstrip("/"))
            above = above or "."
            if above == folder or not awaited:
                return None, None
            folder = above

    def _start(self, path: str) -> None:
        observer = Observer()
        observer.daemon = True
        observer.schedule(self, path, recursive=self._recursive and self._awaited is None, event_filter=EVENTS)
        try:
            observer.start()
        except (OSError, RuntimeError) as error:
            _close_leftovers(error)
            observer.unschedule_all()
            raise
        self._observer = observer

    def _is_alive(self) -> bool:
        observer = self._observer
        return observer is not None and all(emitter.is_alive() for emitter in observer.emitters)


def _close_leftovers(error: Exception) -> None:
    """Close what `watchdog` 6.0.0 leaves open where it cannot watch all directories (fs.inotify.max_user_watches).

    Its object for inotify(7) fails in its constructor, behind having opened it: nobody but the error's trace has it. So
    does the one that has it where no thread is left. There are 128 for each user (fs.inotify.max_user_instances), and a
    rule retries with each run.
    """
    opened = {}
    for frame, _ in traceback.walk_tb(error.__traceback__):
        failed = frame.f_locals.get("self")
        failed = getattr(failed, "_inotify", None) if type(failed).__name__ == "InotifyBuffer" else failed
        if type(failed).__name__ == "Inotify":
            opened[id(failed)] = failed
    for each in opened.values():
        with suppress(OSError, AttributeError):
            each._close_resources()  # type: ignore[union-attr]  # noqa: SLF001 - there is no other way
