"""Uploading one file: it is whole and checked under a temporary name before it takes its destination's place.

Three round trips where nothing is in the way: one to open the temporary file and to learn whether the destination is
a directory; one for the bytes, the attributes, the server's disk, the size and the close; and one for the rename,
which has to wait until all of these have gone well.
"""

from __future__ import annotations

import logging
import os
import posixpath
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from iot.sftp.client._errors import (
    ConnectionLost,
    DeadlineExceeded,
    NotADirectory,
    NotFound,
    PermissionDenied,
    SFTPError,
    TransferIncomplete,
    Unsupported,
)
from iot.sftp.client._packets import Attributes, Kind, OpenFlag, encode_path, string
from iot.sftp.client._remote_files import FSYNC
from iot.sftp.client._replace import is_temporary, put_back, remote_key, replace_remote, temporary_name
from iot.sftp.client._terms import Outcome
from iot.sftp.client._transfer import Lane, Upload
from iot.sftp.client._unfinished import WORTH_KEEPING, Progress
from iot.sftp.client._verify import compare_hashes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from iot.sftp.client._remote_files import RemoteFiles
    from iot.sftp.client._terms import Terms
    from iot.sftp.client._unfinished import Record

    Spare = Callable[[], AbstractContextManager[RemoteFiles | None]]

logger = logging.getLogger(__name__)

PERMISSION_BITS = 0o777
COMPARED = 32 * 1024  # bytes at the end of what is there, compared before a transfer goes on
SAVE_EVERY = 1.0  # seconds

# One channel carries its window, 2 MiB with OpenSSH, in one round trip. Where that is slow, more channels are used.
LANES_MOST = 8
ROUND_TRIP_OF_A_LANE = 0.006  # seconds
BYTES_OF_A_LANE = 4 * 1024 * 1024  # bytes that are worth a further channel


def upload_file(
    remote: RemoteFiles, descriptor: int, name: str | None, dest: str, *, terms: Terms, spare: Spare
) -> Outcome:
    """Write a local file's bytes, permissions and modification time to a remote one.

    Parameters:
        remote: the server's files.
        descriptor: of the local file.
        name: of the local file, which it keeps where `dest` is a directory or ends with `/`; `None` does not ask.
        dest: the remote file.
        terms: how to do it.
        spare: lends the server's files over a further channel, if there is one.
    """
    path = posixpath.join(dest, name) if name and dest.endswith("/") else dest
    with terms.unfinished.held(remote_key(terms, path), path) as record:
        try:
            return _Run(remote, descriptor, path, record=record, terms=terms, spare=spare).run(
                may_be_directory=name is not None and path == dest
            )
        except _IsDirectory:
            pass
    return upload_file(remote, descriptor, name, dest + "/", terms=terms, spare=spare)


@contextmanager
def no_spare() -> Iterator[RemoteFiles | None]:
    """Lend no further channel."""
    yield None


class _IsDirectory(Exception):  # noqa: N818 - it is no error: the file goes into the directory
    pass


class _Run:
    """One try to upload a file."""

    def __init__(
        self, remote: RemoteFiles, descriptor: int, dest: str, *, record: Record, terms: Terms, spare: Spare
    ) -> None:
        self._remote = remote
        self._descriptor = descriptor
        self._dest = dest
        self._record = record
        self._terms = terms
        self._spare = spare
        self._before = os.fstat(descriptor)
        identity: list[str | int] = [self._before.st_dev, self._before.st_ino]
        identity += [self._before.st_size, self._before.st_mtime_ns]
        self._progress = Progress("upload", list(terms.server), dest, source=identity)
        self._next_save = time.monotonic() + SAVE_EVERY
        self._moved_away = False

    def run(self, *, may_be_directory: bool) -> Outcome:
        asked = self._remote.send(Kind.STAT, string(encode_path(self._dest))) if may_be_directory else None
        earlier = self._earlier()
        try:
            handle = self._open(earlier)
            self._progress.opened = True
            resumed = self._progress.whole
            if asked is not None and self._remote.is_directory(asked, self._dest):
                self._remote.send(Kind.CLOSE, string(handle))
                raise _IsDirectory  # noqa: TRY301 - it has to be cleaned up
            self._fill(handle, resumed)
            verified = self._verify()
            atomic = self._replace()
        except BaseException as error:
            self._clean_up(error)
            raise
        self._record.forget()
        return Outcome(self._before.st_size, verified, resumed, atomic)

    # --- the temporary file ---

    @property
    def _temporary(self) -> str:
        return self._progress.temporary

    def _earlier(self) -> Progress | None:
        """Return what an earlier try has left to go on with; clean up what is left of another one."""
        earlier = self._record.load()
        if earlier is None:
            return None
        if earlier.aside:
            put_back(self._remote, earlier.aside, self._dest)
        if earlier.source == self._progress.source and WORTH_KEEPING <= earlier.whole <= self._before.st_size:
            return earlier
        self._remove(earlier)
        return None

    def _remove(self, earlier: Progress) -> None:
        """Remove an earlier temporary file; one that may come yet gets a record of its own."""
        if not remove_temporary(self._remote, earlier):
            key = remote_key(self._terms, earlier.temporary)
            with self._terms.unfinished.held(key, earlier.temporary) as record:
                record.save(replace(earlier, whole=0, aside=""))

    def _open(self, earlier: Progress | None) -> bytes:
        if earlier is not None:
            self._progress.temporary, self._progress.whole = earlier.temporary, earlier.whole
            self._progress.opened = earlier.opened
            handle = self._go_on(earlier)
            if handle is not None:
                return handle
            self._progress.whole = 0
            self._remove(earlier)
            self._progress.opened = False
        self._progress.temporary = posixpath.join(posixpath.dirname(self._dest), temporary_name())
        self._record.save(self._progress)
        try:
            return self._create()
        except (NotFound, NotADirectory):
            self._remote.make_directories(posixpath.dirname(self._dest) or ".")
            return self._create()

    def _create(self) -> bytes:
        flags = OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.TRUNCATE
        return self._remote.open(self._temporary, flags, Attributes(mode=self._before.st_mode & PERMISSION_BITS))

    def _go_on(self, earlier: Progress) -> bytes | None:
        """Open what is there for writing, if its last block is that of the local file."""
        start = max(0, earlier.whole - COMPARED)
        here = os.pread(self._descriptor, earlier.whole - start, start)
        try:
            with self._remote.opened(earlier.temporary, OpenFlag.READ, wait_for_close=False) as handle:
                if self._remote.read_exactly(handle, start, len(here), earlier.temporary) != here:
                    return None
            return self._remote.open(earlier.temporary, OpenFlag.WRITE)
        except (ConnectionLost, DeadlineExceeded):
            raise
        except SFTPError:
            return None  # it is gone, or the server lets nobody read or write there

    # --- the bytes ---

    def _fill(self, handle: bytes, start: int) -> None:
        upload = Upload(
            self._remote,
            handle,
            self._temporary,
            self._descriptor,
            limit=self._terms.limit,
            counts=self._terms.counts,
            on_progress=self._on_progress,
        )
        finished = threading.Event()
        try:
            self._add_lanes(upload, finished)
            upload.send(start, self._before.st_size)
            if upload.several:
                upload.finish()  # on the other channels, before the last word on this one
            last_words = self._last_words(handle)
            upload.finish()
        except BaseException as error:
            self._remote.send(Kind.CLOSE, string(handle))
            self._note(upload, error)
            raise
        finally:
            upload.stop()
            finished.set()
        size = last_words()
        after = os.fstat(self._descriptor)
        _compare(upload.whole, size, self._temporary)
        _compare(upload.whole, after.st_size, self._temporary)
        if after.st_mtime_ns != self._before.st_mtime_ns:
            message = "the local file was changed while it was read: try again when it is complete"
            raise TransferIncomplete(message, path=self._dest)
        self._progress.whole = upload.whole
        self._terms.on_progress(upload.whole, self._before.st_size)

    def _last_words(self, handle: bytes) -> Callable[[], int | None]:
        """Ask for everything that is done after the last byte, and return what waits for it and tells the size."""
        attributes = Attributes(
            mode=self._before.st_mode & PERMISSION_BITS,
            access_time=int(self._before.st_atime) & 0xFFFFFFFF,
            modification_time=int(self._before.st_mtime) & 0xFFFFFFFF,
        )
        remote, path = self._remote, self._temporary
        set_attributes = remote.send(Kind.FSETSTAT, string(handle) + attributes.pack())
        sync = remote.send(Kind.EXTENDED, string(FSYNC.encode()) + string(handle)) if remote.offers(FSYNC) else None
        status = remote.send(Kind.FSTAT, string(handle))
        close = remote.send(Kind.CLOSE, string(handle))

        def wait() -> int | None:
            with suppress(PermissionDenied, NotFound, Unsupported):  # a server may keep its own permissions and times
                remote.wait(set_attributes, path)
            if sync is not None:
                with suppress(Unsupported):
                    remote.wait(sync, path)
            size = remote.attributes_at_end(status, handle, path).size
            remote.wait(close, path)
            return size

        return wait

    def _on_progress(self, whole: int) -> None:
        self._terms.on_progress(whole, self._before.st_size)
        now = time.monotonic()
        if whole >= WORTH_KEEPING and now >= self._next_save:
            self._progress.whole = whole
            self._record.save(self._progress)
            self._next_save = now + SAVE_EVERY

    def _note(self, upload: Upload, error: BaseException) -> None:
        if isinstance(error, ConnectionLost | DeadlineExceeded):
            self._progress.whole = upload.whole

    # --- further channels ---

    def _add_lanes(self, upload: Upload, finished: threading.Event) -> None:
        """Open the file over further channels beside the transfer, if the round trip holds one channel back."""
        wanted = min(
            LANES_MOST,
            int(self._remote.round_trip / ROUND_TRIP_OF_A_LANE),
            (self._before.st_size - self._progress.whole) // BYTES_OF_A_LANE,
        )
        if wanted < 2 or not self._remote.takes_parts_in_any_order:  # noqa: PLR2004 - one is there already
            return
        upload.several = True
        for _ in range(wanted - 1):
            threading.Thread(target=self._lend_lane, args=(upload, finished), name="sftp-lane", daemon=True).start()

    def _lend_lane(self, upload: Upload, finished: threading.Event) -> None:
        with suppress(SFTPError, OSError), ExitStack() as stack:
            remote = stack.enter_context(self._spare())
            if remote is None:
                return
            handle = remote.open(self._temporary, OpenFlag.WRITE)
            stack.callback(lambda: remote.send(Kind.CLOSE, string(handle)))
            if not finished.is_set():
                upload.add_lane(Lane(remote, handle))
                finished.wait()

    # --- the end ---

    def _verify(self) -> str:
        if self._terms.verify == "size":
            return "size"
        with self._remote.opened(self._temporary, OpenFlag.READ, wait_for_close=False) as handle:
            return compare_hashes(self._remote, handle, self._temporary, self._descriptor)

    def _replace(self) -> bool:
        try:
            return replace_remote(self._remote, self._temporary, self._dest, self._put_aside)
        except NotFound as error:
            if self._remote.kind_of(self._temporary) is None:
                message = (
                    "the server took the file away under its temporary name, before it could get its own: have the "
                    "server leave alone what begins with .iot-sftp-"
                )
                raise Unsupported(message, path=self._dest) from error
            raise

    def _put_aside(self, aside: str) -> None:
        self._progress.aside = aside
        self._record.save(self._progress)

    def _clean_up(self, error: BaseException) -> None:
        """Leave what a later try goes on with, remove everything else; what cannot be removed now is remembered."""
        lost = isinstance(error, ConnectionLost | DeadlineExceeded)
        goes_on = lost and self._remote.deadline.keeps
        if goes_on and self._progress.whole >= WORTH_KEEPING:
            self._record.save(self._progress)
        elif self._temporary:
            self._progress.whole = 0
            self._record.save(self._progress)
            with suppress(ConnectionLost, DeadlineExceeded):  # the reason why we are here is what counts
                remove_temporary(self._remote, self._progress)
                if not lost:
                    self._record.forget()


def remove_temporary(remote: RemoteFiles, progress: Progress) -> bool:
    """Remove what an upload has collected, if the server lets us; return `False` if it may come yet.

    Raises:
        ConnectionLost, DeadlineExceeded: it may be there still.
    """
    if is_temporary(posixpath.basename(progress.temporary)):
        try:
            remote.remove(progress.temporary)
        except (ConnectionLost, DeadlineExceeded):
            raise
        except NotFound:
            return progress.opened  # else the server may still be asked for it, by what a lost connection holds
        except SFTPError as error:
            logger.debug("%r cannot be removed: %s", progress.temporary, error)
    return True


def remove_abandoned(remote: RemoteFiles, progress: Progress) -> bool:
    """Remove what an upload has left that nobody goes on with, and finish a replacement that was cut in its middle.

    Returns:
        whether nothing can be left; `False` where the temporary file may come yet.
    """
    if progress.aside:
        put_back(remote, progress.aside, progress.dest)
    return remove_temporary(remote, progress)


def _compare(moved: int, size: int | None, path: str) -> None:
    if size is not None and size != moved:
        message = f"{moved} bytes were moved, but the file has {size}: it changed meanwhile, or the server cut it short"
        raise TransferIncomplete(message, path=path)
