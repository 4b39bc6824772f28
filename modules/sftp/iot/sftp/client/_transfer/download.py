"""Downloading one file: it is whole and checked before it takes its destination's place.

Three round trips where nothing is in the way: one for what the file is, since opening a pipe would hang the server;
one to open it; and one for its bytes, its end, and what it is by then.
"""

from __future__ import annotations

import logging
import os
import posixpath
import stat
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    ConnectionLost,
    DeadlineExceeded,
    IsADirectory,
    PathNotAllowed,
    PermissionDenied,
    TransferIncomplete,
    Unsupported,
)
from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._files.file_version import FileVersion, Observed
from iot.sftp.client._ssh.packets import Attributes, Kind, OpenFlag, encode_path, string
from iot.sftp.client._transfer.pipeline import Download, SourceChanged
from iot.sftp.client._transfer.replace import (
    NOT_OFFERED,
    claim,
    is_temporary,
    keep_times,
    remove_leftovers,
    replace_local,
    temporary_name,
)
from iot.sftp.client._transfer.terms import Outcome
from iot.sftp.client._transfer.unfinished import WORTH_KEEPING, Progress
from iot.sftp.client._transfer.verify import all_parts, beginning_is_same, compare_hashes, parts_are_same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from iot.sftp.client._files.local_files import LocalFiles, LocalName
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._ssh.channel import Reply
    from iot.sftp.client._transfer.terms import Terms
    from iot.sftp.client._transfer.unfinished import Record

logger = logging.getLogger(__name__)

PERMISSION_BITS = 0o777
OWNED = 0o600  # what is written here can be read and written by its owner, whatever the server says of the original
SAVE_EVERY = 1.0  # seconds; more on a disk that takes its time
TRIES = 3  # to have a source whole that is written while it is read
TRIED_AGAIN = 32 * 1024 * 1024  # bytes: more are not moved again at once
READ_TWICE = 256 * 1024  # bytes that are sooner read again than waited for
LOOKS = 2  # at a source that is being written, before it is read as it is


def download_file(
    remote: RemoteFiles,
    source: str,
    local_files: LocalFiles,
    dest: str,
    terms: Terms,
    *,
    observed: Observed | None = None,
    accept: Callable[[Attributes], object] = lambda _: None,
) -> Outcome:
    """Write a remote file's bytes, permissions and modification time to a local one.

    Parameters:
        remote: the server's files.
        source: the remote file.
        local_files: how the local one is reached.
        dest: the local file.
        terms: how to do it.
        observed: which version of the source was seen before, as in a listing, and when: it need not be waited for
            again whether it is still being written.
        accept: told what the server tells of the file, each time that it is looked at, before it is read; leaves it
            alone by raising.
    """
    attributes = _look(remote, source, accept)
    with local_files.destination(dest, posixpath.basename(source)) as place:
        remove_leftovers(place.directory)
        directory = os.fstat(place.directory)
        key = "download", directory.st_dev, directory.st_ino, place.name
        with terms.unfinished.held(key, place.path) as record:
            for number in range(TRIES):
                run = _Run(
                    remote, source, attributes, place, record=record, terms=terms, observed=observed, accept=accept
                )
                try:
                    return run.run()
                except SourceChanged as error:
                    if number == TRIES - 1 or (attributes.size or 0) > TRIED_AGAIN:
                        raise TransferIncomplete(error.message, path=error.path) from error
                    logger.info("%r is read again: %s", source, error.message)
                except OSError as error:
                    raise from_os_error(error, place.path) from error
                attributes = _look(remote, source, accept)
    raise AssertionError  # the last try has returned or raised


def _look(remote: RemoteFiles, source: str, accept: Callable[[Attributes], object]) -> Attributes:
    """Return what the server tells of a source, nothing where it refuses; raise if that is no regular file."""
    try:
        attributes = remote.stat(source)
    except (PermissionDenied, Unsupported):
        attributes = Attributes()
    _refuse_irregular(attributes, source)
    accept(attributes)
    return attributes


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
        observed: Observed | None,
        accept: Callable[[Attributes], object],
    ) -> None:
        self._remote = remote
        self._source = source
        self._before = attributes
        self._place = place
        self._record = record
        self._terms = terms
        self._accept = accept
        self._observed = Observed(self._version, time.monotonic())
        if observed is not None and observed.version == self._version:
            self._observed = observed
        self._is_settled = False
        self._progress = Progress("download", list(terms.server), place.name, directory=_path_of(place.directory))
        self._next_save = time.monotonic() + SAVE_EVERY

    def run(self) -> Outcome:
        self._is_settled = self._settle()
        with self._remote.opened(self._source, OpenFlag.READ, wait_for_close=False) as handle:
            self._look_into(handle)
            permissions = None if self._before.mode is None else self._before.mode & PERMISSION_BITS | OWNED
            with self._temporary(permissions) as descriptor:
                resumed = self._proven(handle, descriptor)
                size, verified = self._fill(handle, descriptor, resumed)
                if not self._is_settled:
                    self._read_again(handle, descriptor, size)
                if self._terms.verify == "sha256":
                    verified = self._compare_hashes(handle, descriptor, resumed)
                if self._before.access_time is not None and self._before.modification_time is not None:
                    accessed, modified = self._before.access_time, self._before.modification_time
                    keep_times(descriptor, accessed, modified, self._place.path)
                replace_local(self._place, self._progress.temporary, descriptor, permissions)
        self._record.forget()
        return Outcome(size, verified, resumed, atomic=True)

    # --- which version it is ---

    @property
    def _version(self) -> FileVersion:
        return FileVersion.of_remote(self._before)

    def _settle(self) -> bool:
        """Wait until a further write would show in the file's time; tell whether it would.

        A write after the wait has another second than the one that was seen before it, by the server's own clock.
        A file that is written all the time, or so small that it is read again in less time, is not waited for.
        """
        for _ in range(LOOKS):
            pause = self._observed.version.settles_in(time.monotonic() - self._observed.since)
            if not pause:
                return True
            is_small = self._before.size is not None and self._before.size <= READ_TWICE
            if is_small or pause > self._remote.deadline.remaining() / 2:
                return False
            logger.debug("%r may still be written: waiting %.2f s until a change would show", self._source, pause)
            self._remote.deadline.pause(pause)
            self._remote.deadline.check()
            self._before = _look(self._remote, self._source, self._accept)
            if self._version == self._observed.version:
                return True
            self._observed = Observed(self._version, time.monotonic())
        return False

    def _look_into(self, handle: bytes) -> None:
        """Ask for the open file's attributes where its path's were refused."""
        if self._before == Attributes():
            asked = self._remote.send(Kind.FSTAT, string(handle))
            self._before = self._remote.told(asked, self._source) or self._before
            _refuse_irregular(self._before, self._source)
            self._accept(self._before)
            self._is_settled = not self._version.tells_time or not self._version.is_racy()
        self._progress.source = [self._source, *self._version]

    def _read_again(self, handle: bytes, descriptor: int, size: int) -> None:
        """Raise unless the file still has the bytes that were read: then it had all of them at one moment.

        What was there twice, once during the first reading and once during the second, was there in between, and that
        is true of all bytes. It is for a source whose time would not show another write.
        """
        if size <= READ_TWICE:
            is_same = parts_are_same(self._remote, handle, self._source, descriptor, all_parts(size))
        else:
            try:
                is_same = bool(compare_hashes(self._remote, handle, self._source, descriptor))
            except TransferIncomplete:
                is_same = False
        if not is_same:
            message = "the file was written while it was read: try again when it is complete"
            raise SourceChanged(message, path=self._source)

    def _compare_hashes(self, handle: bytes, descriptor: int, resumed: int) -> str:
        try:
            return compare_hashes(self._remote, handle, self._source, descriptor)
        except TransferIncomplete as error:
            if not resumed:
                raise
            raise SourceChanged(error.message, path=error.path) from error  # or what was there was damaged

    def _compare(self, moved: int, asked: Future[Reply] | None, handle: bytes, here: int) -> str:
        """Raise unless the file is what it was before and as long as what was moved; return how that is known.

        FSTAT tells first. Where it tells something else than STAT has told before, or nothing, STAT is asked again:
        rclone's cache has other times for an open file than for its path, and others tell nothing of an open file.
        """
        asked = asked or self._remote.send(Kind.FSTAT, string(handle))
        told = self._remote.told(asked, self._source)
        if told is not None and self._is_as_before(told, moved, here):
            return "size"
        by_path = self._remote.send(Kind.STAT, string(encode_path(self._source)))
        told = self._remote.told(by_path, self._source) or told or self._before
        if self._is_as_before(told, moved, here):  # or nothing is told, and READ met the end where it was said to be
            return "size"
        tells_no_size = told.size is None and self._before.size is None
        if tells_no_size and here == moved and FileVersion.of_remote(told).is_same_as(self._version):
            return "acknowledged"
        sizes = {told.size, self._before.size} - {None}
        if here != moved or sizes - {moved}:
            size = told.size if told.size not in {None, moved} else self._before.size
            message = (
                f"{moved} bytes were moved, but the file has {size}: it changed meanwhile, or the server cut it short"
            )
            raise SourceChanged(message, path=self._source)
        # The time alone is another: that of a file which rclone writes back from its cache, or of one that was written.
        logger.debug("The time of %r has changed while it was read: its bytes are compared again", self._source)
        self._is_settled = False
        return "size" if sizes else "acknowledged"

    def _is_as_before(self, told: Attributes, moved: int, here: int) -> bool:
        """Tell whether the server describes the version that was to be moved, and all of it was.

        Of a file that was cut meanwhile there may be more here: what was answered before.
        """
        sizes = {told.size, self._before.size} - {None}
        return here == moved and sizes == {moved} and FileVersion.of_remote(told).is_same_as(self._version)

    # --- the bytes ---

    def _fill(self, handle: bytes, descriptor: int, start: int) -> tuple[int, str]:
        def on_progress(whole: int) -> None:
            self._terms.on_progress(whole, self._before.size)
            if whole >= WORTH_KEEPING and self._is_settled and time.monotonic() >= self._next_save:
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
            size = download.run(start, self._before.size)
        except (ConnectionLost, DeadlineExceeded):
            if download.whole >= WORTH_KEEPING and self._goes_on:
                self._save(descriptor, download.whole)
            raise
        verified = self._compare(size, download.after, handle, os.fstat(descriptor).st_size)
        self._terms.on_progress(size, size)
        return size, verified

    def _save(self, descriptor: int, whole: int) -> None:
        """Write down how far we are: what is said to be there is on the disk by then, whatever happens to the power."""
        started = time.monotonic()
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            if error.errno not in NOT_OFFERED:
                raise
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
        claim(descriptor)
        try:
            yield descriptor
        except BaseException as error:
            if not self._worth_keeping(error):
                self._remove(self._progress.temporary)
                self._record.forget()
            raise
        finally:
            os.close(descriptor)

    @property
    def _goes_on(self) -> bool:
        """Whether a later try may go on with what is there: with the same version of the source, and no other."""
        return self._is_settled and self._version.tells_time and self._remote.deadline.keeps

    def _worth_keeping(self, error: BaseException) -> bool:
        lost = isinstance(error, ConnectionLost | DeadlineExceeded)
        return lost and self._goes_on and self._progress.whole >= WORTH_KEEPING

    def _open_earlier(self) -> int | None:
        earlier = self._record.load()
        if earlier is None or not is_temporary(earlier.temporary):
            return None
        same = (earlier.server, earlier.source) == (self._progress.server, self._progress.source)
        if same and self._is_settled and self._version.tells_time and earlier.whole >= WORTH_KEEPING:
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
        """Return how much of an earlier try can be built on: all of it or nothing.

        Size and time may be those of another version: images that are built anew often have both in common. So the
        server's hash decides, or where it tells none, parts that are spread over all that is there.
        """
        whole = self._progress.whole
        if whole and not beginning_is_same(self._remote, handle, self._source, descriptor, whole):
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
