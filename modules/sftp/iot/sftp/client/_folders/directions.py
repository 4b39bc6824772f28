"""The two directions of a folder: where its files are found, where they go, what becomes of the originals."""

from __future__ import annotations

import logging
import os
import posixpath
import stat
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    IsADirectory,
    NotADirectory,
    NotFound,
    PermissionDenied,
    TransferIncomplete,
    Unsupported,
    from_os_error,
)
from iot.sftp.client._files.file_version import WRONG_BY, FileVersion, Observed
from iot.sftp.client._files.local_files import UNKNOWN, LocalFiles, LocalName, check_name
from iot.sftp.client._files.taking import VersionChanged, own_place
from iot.sftp.client._folders.trees import below, look_locally, look_on_server
from iot.sftp.client._ssh.packets import OpenFlag
from iot.sftp.client._transfer.download import download_file
from iot.sftp.client._transfer.remote_copy import move_by_copy
from iot.sftp.client._transfer.replace import replace_remote, replacing
from iot.sftp.client._transfer.upload import forget_rename, no_spare, upload_file
from iot.sftp.client._transfer.verify import compare_hashes

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._files.remote_paths import RemotePaths
    from iot.sftp.client._folders.folder_order import FolderOrder
    from iot.sftp.client._folders.trees import Found, Page
    from iot.sftp.client._ssh.packets import Attributes
    from iot.sftp.client._transfer.terms import Terms

logger = logging.getLogger(__name__)

LOOKS = 5  # at a file on the server that is being written, before it is left for the next time
SETTLING_PAUSE, SETTLING_TRIES = 0.025, 4  # seconds: a little more than a tick of the clock for files
DIRECTORIES_OPEN = 32  # descriptors that are kept for the next file in the same directory


class Downloads:
    """From the server into a local directory."""

    def __init__(
        self, order: FolderOrder, local_files: LocalFiles, paths: RemotePaths, terms: Terms, *, is_remembered: bool
    ) -> None:
        """Take what is to be done, and how both sides are reached.

        Parameters:
            order: which files, and how.
            local_files: how local files are reached.
            paths: how remote ones are.
            terms: how each file is transferred.
            is_remembered: whether a ledger remembers which versions have arrived.
        """
        self._order = order
        self._is_remembered = is_remembered
        self._source = paths.on_server(order.source)
        self._move_to = None if order.move_to is None else paths.on_server(order.move_to)
        self._terms = terms
        self._dest = _LocalTree(local_files, order.dest)
        self._moved = _RemoteTree(self._move_to or "")
        self._apart = set[tuple[str, str]]()  # directories that are not one and the same
        self.excluded = _inside(self._source, self._move_to)

    def begin(self) -> None:
        """Prepare for an attempt: nothing has to be."""

    def end(self) -> None:
        """Close the directories."""
        self._dest.close()

    def look(self, remote: RemoteFiles, directory: str, page: Page) -> None:
        """List a directory on the server."""
        look_on_server(remote, self._source, directory, page, recursive=self._order.recursive)

    def version_at_source(self, remote: RemoteFiles, found: Found) -> FileVersion:
        """Return the version of the server's file that is there now."""
        return FileVersion.of_remote(remote.stat(self._path_of(found)))

    def version_at_dest(self, remote: RemoteFiles, found: Found) -> FileVersion | None:
        """Return the version of the local file that would be replaced."""
        del remote
        status = self._dest.stat(found.path)
        return None if status is None else FileVersion.of_local(status)

    def proven_version(self, remote: RemoteFiles, found: Found) -> FileVersion | None:
        """Return the version of the server's file whose bytes the local one has, by a hash; `None` if it has others."""
        source = self._path_of(found)
        before = FileVersion.of_remote(remote.stat(source))
        if not before.tells_time:
            return None
        self._settle(remote, Observed(before, found.seen if before == found.version else time.monotonic()))
        with (
            self._dest.source(found.path) as descriptor,
            remote.opened(source, OpenFlag.READ, wait_for_close=False) as handle,
        ):
            compare_hashes(remote, handle, source, descriptor)
        return before if before.is_same_as(FileVersion.of_remote(remote.stat(source))) else None

    def transfer(
        self,
        remote: RemoteFiles,
        found: Found,
        accept: Callable[[FileVersion], object],
        progress: Callable[[int, int | None], None],
    ) -> tuple[int, FileVersion]:
        """Download a file."""
        observed, source = Observed(found.version, found.seen), self._path_of(found)
        terms = replace(self._terms, on_progress=progress)

        def look(attributes: Attributes) -> None:
            nonlocal observed
            version = FileVersion.of_remote(attributes)
            accept(version)
            if version != observed.version:
                observed = Observed(version, time.monotonic())
            if self._is_remembered and _settles_in(observed):
                raise _Unsettled

        for _ in range(LOOKS):
            self._settle(remote, observed)
            with suppress(_Unsettled):
                outcome = download_file(remote, source, self._dest, found.path, terms, observed=observed, accept=look)
                return outcome.size, observed.version
        message = "it is being written all the time: it is for the next time"
        raise TransferIncomplete(message, path=source)

    def _settle(self, remote: RemoteFiles, observed: Observed) -> None:
        """Wait until the version's time would show a further write, if that version is to be remembered.

        Else one that is written in the same second, and as long, would be taken for it, and be lost.
        """
        if self._is_remembered and (pause := _settles_in(observed)):
            remote.deadline.pause(pause)
            remote.deadline.check()

    def vanished(self, remote: RemoteFiles, found: Found) -> bool:
        """Tell whether the server's file is not there any more."""
        try:
            remote.stat(self._path_of(found))
        except (NotFound, NotADirectory):
            return True
        return False

    def finish(
        self, remote: RemoteFiles, found: Found, version: FileVersion, on_put_back: Callable[[FileVersion], object]
    ) -> None:
        """Delete or move the server's file, if it still is the version that has arrived."""
        del on_put_back  # what is on the server stays in its place
        source = self._path_of(found)
        if not FileVersion.of_remote(remote.stat(source)).is_same_as(version):
            raise VersionChanged(source)
        if self._move_to is None:
            remote.remove(source)
            return
        self._moved.make_parent(remote, found.path)
        target = posixpath.join(self._move_to, found.path)
        self._refuse_own_place(remote, source, target)
        try:
            with replacing(remote, target, self._terms) as put_aside:
                replace_remote(remote, source, target, put_aside)
        except (PermissionDenied, Unsupported) as error:
            if remote.kind_of(target) == stat.S_IFDIR:
                message = "there is a directory on the server in the place that the file is to be moved to"
                raise IsADirectory(message, path=target) from error
            logger.debug("%r is not renamed to %r: %s", source, target, error)
            move_by_copy(remote, source, target, self._terms)

    def _refuse_own_place(self, remote: RemoteFiles, source: str, target: str) -> None:
        """Raise where a link leads from the folder to move into to the source: a copy's original would be the copy."""
        places = posixpath.dirname(source), posixpath.dirname(target)
        if places in self._apart:
            return
        with suppress(PermissionDenied, Unsupported, NotFound):
            real = remote.real_path(places[0] or ".")
            # A server that has one answer to every REALPATH tells nothing by it
            if real == remote.real_path(places[1] or ".") and real != remote.real_path(source):
                raise own_place(target)
        self._apart.add(places)

    def _path_of(self, found: Found) -> str:
        return posixpath.join(self._source, found.path)


class Uploads:
    """From a local directory to the server."""

    def __init__(
        self, order: FolderOrder, local_files: LocalFiles, paths: RemotePaths, terms: Terms, *, is_remembered: bool
    ) -> None:
        """Take what is to be done, and how both sides are reached.

        Parameters:
            order: which files, and how.
            local_files: how local files are reached.
            paths: how remote ones are.
            terms: how each file is transferred.
            is_remembered: whether a ledger remembers which versions have arrived.
        """
        self._order = order
        self._is_remembered = is_remembered
        self._dest = paths.on_server(order.dest)
        self._terms = terms
        self._local_files = local_files
        self._tree = _RemoteTree(self._dest)
        self.excluded = _inside(order.source, order.move_to)

    def begin(self) -> None:
        """Prepare for an attempt: the server may be another one behind the same name."""
        self._tree = _RemoteTree(self._dest)

    def end(self) -> None:
        """Give nothing back: no file is held open."""

    def look(self, remote: RemoteFiles, directory: str, page: Page) -> None:
        """List a local directory."""
        look_locally(self._local_files, self._order.source, directory, page, remote.deadline.check)

    def version_at_source(self, remote: RemoteFiles, found: Found) -> FileVersion:
        """Return the version of the local file that is there now."""
        del remote
        with self._local_files.source(self._path_of(found)) as descriptor:
            return FileVersion.of_local(os.fstat(descriptor))

    def version_at_dest(self, remote: RemoteFiles, found: Found) -> FileVersion | None:
        """Return the version of the server's file that would be replaced."""
        try:
            return FileVersion.of_remote(remote.stat(self._end_of(found)))
        except (NotFound, NotADirectory):
            return None

    def proven_version(self, remote: RemoteFiles, found: Found) -> FileVersion | None:
        """Return the version of the local file whose bytes the server's has, by a hash; `None` if it has others."""
        end = self._end_of(found)
        with self._local_files.source(self._path_of(found)) as descriptor:
            before = _settled_version(descriptor, remote.deadline)
            if before is None:
                return None
            with remote.opened(end, OpenFlag.READ, wait_for_close=False) as handle:
                compare_hashes(remote, handle, end, descriptor)
            if before != FileVersion.of_local(os.fstat(descriptor)):
                return None
        forget_rename(remote, end, self._terms)
        return before

    def transfer(
        self,
        remote: RemoteFiles,
        found: Found,
        accept: Callable[[FileVersion], object],
        progress: Callable[[int, int | None], None],
    ) -> tuple[int, FileVersion]:
        """Upload a file."""
        with self._local_files.source(self._path_of(found)) as descriptor:
            settled = _settled_version(descriptor, remote.deadline) if self._is_remembered else None
            version = settled or FileVersion.of_local(os.fstat(descriptor))
            accept(version)
            self._tree.make_parent(remote, found.path)
            terms = replace(self._terms, on_progress=progress)
            outcome = upload_file(remote, descriptor, None, self._end_of(found), terms=terms, spare=no_spare)
            return outcome.size, version

    def vanished(self, remote: RemoteFiles, found: Found) -> bool:
        """Tell whether the local file is not there any more."""
        del remote
        try:
            with self._local_files.source(self._path_of(found)):
                return False
        except NotFound:
            return True

    def finish(
        self, remote: RemoteFiles, found: Found, version: FileVersion, on_put_back: Callable[[FileVersion], object]
    ) -> None:
        """Delete or move the local file, if it still is the version that has arrived."""
        path = self._path_of(found)
        if self._order.move_to is None:
            self._local_files.remove_version(path, version, on_put_back)
        else:
            target = posixpath.join(self._order.move_to, found.path)
            self._local_files.move_version(path, target, version, on_put_back, remote.deadline.check)

    def _path_of(self, found: Found) -> str:
        return posixpath.join(self._order.source, found.path)

    def _end_of(self, found: Found) -> str:
        return posixpath.join(self._dest, found.path)


class _LocalTree(LocalFiles):
    """A local directory to write into, by paths relative to it, whose names come from a server.

    Each directory is walked to once, in the way of the `LocalFiles` underneath; its descriptor is kept for the next
    file in it.
    """

    def __init__(self, local_files: LocalFiles, root: str) -> None:
        self._local_files = local_files
        self._root = root
        self._lock = threading.Lock()
        self._open: OrderedDict[str, int] = OrderedDict()

    def open_parent(self, path: str, *, create: bool) -> LocalName:
        parent, name = posixpath.split(path)
        for part in (*parent.split("/"), name) if parent else (name,):
            check_name(part)
        directory = self._directory(parent, create=create)
        shown = posixpath.join(self._root, path)
        try:
            is_link = stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            is_link = False
        except OSError as error:
            os.close(directory)
            raise from_os_error(error, shown) from error
        if is_link:  # of whoever rules here: it is followed as elsewhere
            os.close(directory)
            return self._local_files.open_parent(shown, create=create)
        return LocalName(directory, name, shown)

    def stat(self, path: str) -> os.stat_result | None:
        """Return what is told of a file; `None` if it is not there."""
        try:
            place = self.open_parent(path, create=False)
        except (NotFound, NotADirectory):
            return None
        try:
            return os.stat(place.name or ".", dir_fd=place.directory, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise from_os_error(error, place.path) from error
        finally:
            os.close(place.directory)

    def close(self) -> None:
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1])

    def _directory(self, path: str, *, create: bool) -> int:
        """Return a descriptor of a directory, which the caller closes."""
        try:
            with self._lock:
                kept = self._open.get(path)
                if kept is not None:
                    self._open.move_to_end(path)
                    return os.dup(kept)
            opened = self._local_files.open_directory(below(self._root, path), create=create)
            self._keep(path, opened)
        except OSError as error:  # there may be no descriptor left at the moment
            raise from_os_error(error, below(self._root, path)) from error
        return opened

    def _keep(self, path: str, opened: int) -> None:
        """Keep a descriptor of a directory for the next file in it, unless there is none left for that."""
        with self._lock:
            if path not in self._open:
                with suppress(OSError):
                    self._open[path] = os.dup(opened)
            if len(self._open) > DIRECTORIES_OPEN:
                os.close(self._open.popitem(last=False)[1])


_MADE: Future[None] = Future()  # what stands for all directories that are there: a future of each would take 2 KB
_MADE.set_result(None)


class _RemoteTree:
    """The directories below one on the server: each is made, if it is missing, by the first who needs it."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._made: dict[str, Future[None]] = {}

    def make_parent(self, remote: RemoteFiles, path: str) -> None:
        """Make the directory of a file, given relative to the root; wait for whoever is just making it."""
        parent = posixpath.dirname(path)
        with self._lock:
            made = self._made.get(parent)
            is_first = made is None
            if made is None:
                made = self._made[parent] = Future()
        if not is_first:
            made.result()
            return
        try:
            # A folder may be written without being looked at: the upload itself tells.
            with suppress(PermissionDenied):
                remote.make_directories(below(self._root, parent))
        except BaseException as error:
            with self._lock:
                del self._made[parent]
            made.set_exception(error)
            raise
        made.set_result(None)
        with self._lock:
            self._made[parent] = _MADE


def _settled_version(descriptor: int, deadline: Deadline) -> FileVersion | None:
    """Return a file's version when a further write would show in it; `None` if that is not so within a moment."""
    seen = Observed(UNKNOWN, time.monotonic())
    for _ in range(SETTLING_TRIES):
        version = FileVersion.of_local(os.fstat(descriptor))
        if version != seen.version:
            seen = Observed(version, time.monotonic())
        # The change time tells of any write, and nobody can set it; but the clock, which may be behind it by now
        if not _settles_in(seen._replace(version=version._replace(modified=None))):
            return version
        deadline.pause(SETTLING_PAUSE)
        deadline.check()
    return None


def _settles_in(observed: Observed) -> float:
    """Return the seconds after which a version would show a further write; 0 if it does.

    What depends on it is whether a file is deleted: neither side's clock is believed, but for what is days old.
    """
    return observed.version.settles_in(time.monotonic() - observed.since, skew=WRONG_BY)


class _Unsettled(Exception):  # noqa: N818 - it is no error: the file is looked at again in a moment
    pass


def _inside(folder: str, place: str | None) -> str | None:
    """Return the path of a place relative to a folder, if it is inside it: as far as their words tell."""
    if place is None:
        return None
    folder, place = posixpath.normpath(folder), posixpath.normpath(place)
    if folder == ".":
        return None if place.startswith(("/", "..")) else place
    prefix = folder.rstrip("/") + "/"
    return place[len(prefix) :] if place.startswith(prefix) else None
