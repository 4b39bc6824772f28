"""Downloading one file: it is whole and checked before it takes its destination's place.

Three round trips where nothing is in the way: one for what the file is, since opening a pipe would hang the server;
one to open it; and one for its bytes, its end, and what it is by then.
"""

from __future__ import annotations

import os
import posixpath
import stat
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from iot.sftp.client._errors import (
    ConnectionLost,
    DeadlineExceeded,
    IsADirectory,
    PathNotAllowed,
    TransferIncomplete,
    from_os_error,
)
from iot.sftp.client._packets import OpenFlag
from iot.sftp.client._replace import is_temporary, replace_local, temporary_name
from iot.sftp.client._terms import Outcome
from iot.sftp.client._transfer import Download
from iot.sftp.client._unfinished import WORTH_KEEPING, Progress
from iot.sftp.client._verify import compare_hashes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iot.sftp.client._local_files import LocalFiles, LocalName
    from iot.sftp.client._packets import Attributes
    from iot.sftp.client._remote_files import RemoteFiles
    from iot.sftp.client._terms import Terms
    from iot.sftp.client._unfinished import Record

PERMISSION_BITS = 0o777
COMPARED = 32 * 1024  # bytes at the end of what is there, compared before a transfer goes on
SAVE_EVERY = 1.0  # seconds; more on a disk that takes its time


def download_file(
    remote: RemoteFiles,
    source: str,
    local_files: LocalFiles,
    dest: str,
    terms: Terms,
    *,
    accept: Callable[[Attributes], object] = lambda _: None,
) -> Outcome:
    """Write a remote file's bytes, permissions and modification time to a local one.

    Parameters:
        remote: the server's files.
        source: the remote file.
        local_files: how local paths are reached.
        dest: the local file.
        terms: how to do it.
        accept: told what the server tells of the file, before anything is done; ends it by raising.
    """
    attributes = remote.stat(source)
    accept(attributes)
    _refuse_irregular(attributes, source)
    with local_files.destination(dest, posixpath.basename(source)) as place:
        directory = os.fstat(place.directory)
        key = "download", directory.st_dev, directory.st_ino, place.name
        with terms.unfinished.held(key, place.path) as record:
            try:
                return _Run(remote, source, attributes, place, record=record, terms=terms).run()
            except OSError as error:
                raise from_os_error(error, place.path) from error


class _Run:
    """One try to download a file."""

    def __init__(
        self,
        remote: RemoteFiles,
        source: str,
        attributes: Attributes,
        place: LocalName,
        *,
        record: Record,
        terms: Terms,
    ) -> None:
        self._remote = remote
        self._source = source
        self._before = attributes
        self._place = place
        self._record = record
        self._terms = terms
        self._progress = Progress(
            "download",
            list(terms.server),
            place.name,
            directory=_path_of(place.directory),
            source=[source, attributes.size or 0, attributes.modification_time or 0],
        )
        self._next_save = time.monotonic() + SAVE_EVERY

    def run(self) -> Outcome:
        permissions = None if self._before.mode is None else self._before.mode & PERMISSION_BITS
        with (
            self._remote.opened(self._source, OpenFlag.READ, wait_for_close=False) as handle,
            self._temporary(permissions) as descriptor,
        ):
            resumed = self._proven(handle, descriptor)
            size = self._fill(handle, descriptor, resumed)
            verified = "size"
            if self._terms.verify == "sha256":
                verified = compare_hashes(self._remote, handle, self._source, descriptor)
            if self._before.access_time is not None and self._before.modification_time is not None:
                os.utime(descriptor, (self._before.access_time, self._before.modification_time))
            replace_local(self._place, self._progress.temporary, descriptor, permissions)
        self._record.forget()
        return Outcome(size, verified, resumed, atomic=True)

    def _fill(self, handle: bytes, descriptor: int, start: int) -> int:
        def on_progress(whole: int) -> None:
            self._terms.on_progress(whole, self._before.size)
            if whole >= WORTH_KEEPING and time.monotonic() >= self._next_save:
                self._save(descriptor, whole)

        download = Download(
            self._remote,
            handle,
            self._source,
            descriptor,
            limit=self._terms.limit,
            counts=self._terms.counts,
            on_progress=on_progress,
        )
        try:
            size = download.run(start, self._before.size or 0)
        except (ConnectionLost, DeadlineExceeded):
            if download.whole >= WORTH_KEEPING and self._remote.deadline.keeps:
                self._save(descriptor, download.whole)
            raise
        after = self._remote.attributes_at_end(download.after, handle, self._source)
        self._compare(size, after, os.fstat(descriptor).st_size)
        self._terms.on_progress(size, size)
        return size

    def _compare(self, size: int, after: Attributes, here: int) -> None:
        """Raise unless the file is as long as what was moved, there and here, and has not changed.

        Of a file that was cut meanwhile there may be more here: what was answered before.
        """
        times = {attributes.modification_time for attributes in (self._before, after)} - {None}
        if not size == after.size == here or len(times) > 1:
            message = (
                f"{size} bytes were moved, but the file has {after.size}: it changed meanwhile, "
                "or the server cut it short"
            )
            raise TransferIncomplete(message, path=self._source)

    def _save(self, descriptor: int, whole: int) -> None:
        """Write down how far we are: what is said to be there is on the disk by then, whatever happens to the power."""
        started = time.monotonic()
        os.fdatasync(descriptor)
        self._progress.whole = whole
        self._record.save(self._progress)
        now = time.monotonic()
        self._next_save = now + max(SAVE_EVERY, 10 * (now - started))

    # --- what an earlier try has left ---

    @contextmanager
    def _temporary(self, permissions: int | None) -> Iterator[int]:
        """Open the file that collects the bytes: that of an earlier try, or a new one. Keep it for a later try, or not.

        Until it is whole, a file whose permissions are known is nobody else's business.
        """
        descriptor = self._open_earlier()
        if descriptor is None:
            self._progress.temporary = temporary_name()
            self._record.save(self._progress)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            mode = 0o666 if permissions is None else 0o600
            descriptor = os.open(self._progress.temporary, flags, mode, dir_fd=self._place.directory)
        try:
            yield descriptor
        except BaseException as error:
            if not self._worth_keeping(error):
                self._remove(self._progress.temporary)
                self._record.forget()
            raise
        finally:
            os.close(descriptor)

    def _worth_keeping(self, error: BaseException) -> bool:
        goes_on = isinstance(error, ConnectionLost | DeadlineExceeded) and self._remote.deadline.keeps
        return goes_on and self._progress.whole >= WORTH_KEEPING

    def _open_earlier(self) -> int | None:
        earlier = self._record.load()
        if earlier is None or not is_temporary(earlier.temporary):
            return None
        same = (earlier.server, earlier.source) == (self._progress.server, self._progress.source)
        if same and self._before.modification_time is not None and earlier.whole >= WORTH_KEEPING:
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
            with suppress(OSError):
                descriptor = os.open(earlier.temporary, flags, dir_fd=self._place.directory)
                found = os.fstat(descriptor)
                if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_size >= earlier.whole:
                    self._progress.temporary, self._progress.whole = earlier.temporary, earlier.whole
                    return descriptor
                os.close(descriptor)
        self._remove(earlier.temporary)
        return None

    def _proven(self, handle: bytes, descriptor: int) -> int:
        """Return how much of an earlier try can be built on: all, if its last block is the server's, else nothing."""
        whole = self._progress.whole
        if whole:
            start = max(0, whole - COMPARED)
            there = self._remote.read_exactly(handle, start, whole - start, self._source)
            if os.pread(descriptor, whole - start, start) != there:
                whole = self._progress.whole = 0
        os.ftruncate(descriptor, whole)
        return whole

    def _remove(self, name: str) -> None:
        with suppress(OSError):
            os.unlink(name, dir_fd=self._place.directory)


def remove_abandoned(progress: Progress) -> None:
    """Remove what a download has left that nobody goes on with."""
    if is_temporary(progress.temporary) and os.path.isabs(progress.directory):
        with suppress(OSError, ValueError):  # a record that was tampered with may name what is no path
            os.unlink(os.path.join(progress.directory, progress.temporary))


def _path_of(directory: int) -> str:
    """Return a directory's path, to clean up in later; empty where the system does not tell."""
    try:
        return os.readlink(f"/proc/self/fd/{directory}")
    except OSError:
        return ""


def _refuse_irregular(attributes: Attributes, path: str) -> None:
    """Raise where what is to be read is known not to be a regular file: opening a pipe would hang the server."""
    kind = stat.S_IFMT(attributes.mode or 0)
    if kind == stat.S_IFDIR:
        message = "this is a directory on the server: name a file in it"
        raise IsADirectory(message, path=path)
    if kind not in {0, stat.S_IFREG}:
        message = "this is neither a file nor a directory on the server, and is left alone"
        raise PathNotAllowed(message, path=path)
