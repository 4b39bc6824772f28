"""Download what a file on a server has grown by: the local file always holds a beginning of one version of it.

The first bytes of a version replace the local file atomically. What follows is written behind them, in its order, once
it is known to be of the same version: so the local file is a beginning at every moment, also after a power cut, and a
reader may see any part of the new bytes. A copy for each version would wear out the flash memory of a device, where a
hundred megabytes of log grow by one.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import AlreadyExists, EndOfFile, TransferIncomplete, Unsupported
from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._files.disk_sync import sync_file
from iot.sftp.client._ssh.packets import Attributes, OpenFlag
from iot.sftp.client._transfer.append_upload import AppendOutcome
from iot.sftp.client._transfer.download_target import local_key
from iot.sftp.client._transfer.file_order import Direction
from iot.sftp.client._transfer.growth import LONGEST_LINE, GrowthRecord, record_of
from iot.sftp.client._transfer.replace import keep_times, replace_local
from iot.sftp.client._transfer.resume_records import ResumeState
from iot.sftp.client._transfer.temporary_files import claim, remove_leftovers, temporary_name
from iot.sftp.client._transfer.upload_job import OWNER_MAY_WRITE, PERMISSION_BITS
from iot.sftp.client._transfer.verify import PART, all_is_same, beginning_is_same, parts_are_same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from iot.sftp.client._files.local_files import LocalFiles, LocalName
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._ssh.requests import Reply
    from iot.sftp.client._transfer.resume_records import ResumeRecord
    from iot.sftp.client._transfer.transfer_context import TransferContext

SLICE = 4 * LONGEST_LINE  # bytes that are read, compared and then written at a time
IN_FLIGHT = 64  # READs


@dataclass(frozen=True)
class RemoteGrowth:
    """What is to be downloaded.

    Attributes:
        source: the remote file.
        attributes: of it.
        lines: whole lines only.
        before: what was delivered before, as far as that is recorded.
        note_coming: called before bytes are written, with what is here, and what will be.
        finds_rotated: whether what was rotated is to make way before it is replaced: raises `WasRotated` then.
    """

    source: str
    attributes: Attributes
    lines: bool
    before: GrowthRecord | None
    note_coming: Callable[[GrowthRecord, GrowthRecord], object]
    finds_rotated: bool = False


class WasRotated(Exception):  # noqa: N818 - it is what happened, and no failure
    """Raised where a remote file does not begin with what is here of it any more."""


def append_download(
    remote: RemoteFiles, growth: RemoteGrowth, local_files: LocalFiles, dest: str, context: TransferContext
) -> AppendOutcome:
    """Have a local file hold the beginning of a remote one, as far as that goes by now.

    Parameters:
        remote: the server's files.
        growth: what it is to hold.
        local_files: how the local file is reached.
        dest: the local file.
        context: how to download.

    Raises:
        AlreadyExists: what is there is not a beginning of the remote file, and was not delivered by us.
        TransferIncomplete: the remote file was cut or rewritten meanwhile.
        WasRotated: see `RemoteGrowth.finds_rotated`.
    """
    with local_files.destination(dest, "", context.modes.directory) as place:
        remove_leftovers(place.directory)
        with (
            context.records.held(local_key(place), place.path) as record,
            remote.opened(growth.source, OpenFlag.READ, wait_for_close=False) as handle,
        ):
            try:
                return _AppendDownload(remote, growth, handle, place, record, context).run()
            except OSError as error:
                raise from_os_error(error, place.path) from error


class _AppendDownload:
    """One download of new bytes."""

    def __init__(  # noqa: PLR0917 - what `append_download` has opened
        self,
        remote: RemoteFiles,
        growth: RemoteGrowth,
        handle: bytes,
        place: LocalName,
        record: ResumeRecord,
        context: TransferContext,
    ) -> None:
        self._remote = remote
        self._growth = growth
        self._handle = handle
        self._place = place
        self._record = record
        self._context = context
        self._head = b""  # of the version that is read

    def run(self) -> AppendOutcome:
        size = self._size()
        descriptor = self._open_dest()
        try:
            start = 0 if descriptor is None else self._beginning(descriptor, size)
            if descriptor is not None and start:
                return self._append(descriptor, start, size)
            if descriptor is not None and not size and not os.fstat(descriptor).st_size:
                return AppendOutcome(0, record_of(descriptor, 0), is_new=False)
            known = record_of(descriptor, os.fstat(descriptor).st_size) if descriptor is not None else None
        finally:
            if descriptor is not None:
                os.close(descriptor)
        return self._begin(size, known)

    def _size(self) -> int:
        remote, source = self._remote, self._growth.source
        there = remote.attributes_if_reported(remote.begin_fstat(self._handle), source)
        size = self._growth.attributes.size if there is None or there.size is None else there.size
        if size is None:
            message = "the server does not report how long this file is: it cannot be kept up with by new bytes"
            raise Unsupported(message, path=source)
        return size

    def _open_dest(self) -> int | None:
        try:
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            return os.open(self._place.name, flags, dir_fd=self._place.directory)
        except FileNotFoundError:
            return None

    def _beginning(self, descriptor: int, size: int) -> int:
        """Return how much of the remote file is here; 0 if what is here is to be replaced."""
        here, before = os.fstat(descriptor).st_size, self._growth.before
        if not here:
            return 0
        if before is not None and before.length and before.is_beginning_of(descriptor):
            if before.length <= size and self._joins(descriptor, before.length):
                if here == before.length or (here <= size and self._is_same(descriptor, here)):
                    return here
                if here <= before.reach:
                    return before.length
            elif here <= before.reach or os.fstat(descriptor).st_nlink > 1:
                # What was rotated may have grown since it got its second name: it is kept under that
                if self._growth.finds_rotated:
                    raise WasRotated
                return 0
        if here <= size and self._is_same(descriptor, here):
            return here
        coming = None if before is None else before.coming
        if coming is not None and coming.length == here and coming.is_beginning_of(descriptor):
            return 0
        message = (
            "what is at the destination is not the beginning of this file, and was left alone: another rule may write "
            "there, or somebody has changed it. Move it away, or choose another destination"
        )
        raise AlreadyExists(message, path=self._place.path)

    def _joins(self, descriptor: int, length: int) -> bool:
        """Return whether the first and the last bytes of a beginning are those of the remote file; or all of them."""
        if self._context.verify == "sha256":
            return self._is_same(descriptor, length)
        start = max(0, length - PART)
        parts = [part for part in ((0, min(PART, length)), (start, length - start)) if part[1]]
        return parts_are_same(self._remote, self._handle, self._growth.source, descriptor, parts)

    def _is_same(self, descriptor: int, length: int) -> bool:
        compare = all_is_same if self._context.verify == "sha256" else beginning_is_same
        return compare(self._remote, self._handle, self._growth.source, descriptor, length)

    # --- a new version ---

    def _begin(self, size: int, known: GrowthRecord | None) -> AppendOutcome:
        """Replace what is here, if anything is, by the first bytes, and append the others."""
        context = replace(self._context, keeps_existing=known is None)
        mode = self._growth.attributes.mode if context.modes.local is None else context.modes.local
        permissions = None if mode is None else mode & PERMISSION_BITS | OWNER_MAY_WRITE
        first = self._slice(0, size)
        with self._temporary_file(0o666 if permissions is None else 0o600) as (name, descriptor):
            _write(descriptor, first, 0)
            self._keep_times(descriptor)
            self._growth.note_coming(known or record_of(descriptor, 0), record_of(descriptor, len(first)))
            replace_local(self._place, name, descriptor, permissions, context)
            self._record.forget()
            self._context.counts.add(downloaded=len(first))
            self._context.on_progress(len(first), size)
            if first and len(first) < size:
                rest = self._append(descriptor, len(first), size, is_begun=True)
                return rest._replace(sent=rest.sent + len(first), is_new=True)
            return AppendOutcome(len(first), self._record_of(descriptor, len(first)))

    @contextmanager
    def _temporary_file(self, mode: int) -> Iterator[tuple[str, int]]:
        name, place = temporary_name(), self._place
        with suppress(OSError):
            directory = os.readlink(f"/proc/self/fd/{place.directory}")
            server: list[str | int] = list(self._context.server)
            self._record.save(ResumeState(Direction.DOWNLOAD.value, server, place.name, directory, name))
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=place.directory)
        claim(descriptor)
        try:
            yield name, descriptor
        except BaseException:
            with suppress(OSError):
                os.unlink(name, dir_fd=place.directory)
            self._record.forget()
            raise
        finally:
            os.close(descriptor)

    # --- new bytes ---

    def _append(self, descriptor: int, start: int, size: int, *, is_begun: bool = False) -> AppendOutcome:
        """Write the new bytes behind those that are here, slice by slice."""
        self._head = self._head or os.pread(descriptor, min(PART, start), 0)
        offset = start
        if size > start:
            self._growth.note_coming(self._record_of(descriptor, start), GrowthRecord(size, "", ""))
        while offset < size:
            data = self._slice(offset, size)
            if not data:
                break
            _write(descriptor, data, offset)
            offset += len(data)
            self._context.counts.add(downloaded=len(data))
            self._context.on_progress(offset if is_begun else offset - start, size if is_begun else size - start)
        here = os.fstat(descriptor).st_size
        if offset == start and here == start:
            return AppendOutcome(0, self._record_of(descriptor, start), is_atomic=is_begun, is_new=False)
        if here != offset:  # behind what an earlier run has sent of another version
            os.ftruncate(descriptor, offset)
        self._keep_times(descriptor)
        sync_file(descriptor)
        if self._context.verify == "sha256" and not self._is_same(descriptor, offset):
            message = "the local file differs from the beginning of the remote one after bytes were appended to it"
            raise TransferIncomplete(message, path=self._growth.source)
        return AppendOutcome(offset - start, self._record_of(descriptor, offset), is_atomic=False)

    def _slice(self, offset: int, size: int) -> bytes:
        """Return the next bytes of the remote file, all of the version whose beginning is here."""
        remote, source = self._remote, self._growth.source
        wanted = min(SLICE, size - offset)
        data = self._read(offset, wanted)
        head = remote.read_exactly(self._handle, 0, max(1, len(self._head)), source) if self._head else b""
        there = remote.attributes_if_reported(remote.begin_fstat(self._handle), source)
        was_cut = there is not None and there.size is not None and there.size < offset + wanted
        if len(data) < wanted or head != self._head or was_cut:
            message = "the file on the server was cut or rewritten while it was read: try again"
            raise TransferIncomplete(message, path=source)
        if not offset:
            self._head = data[:PART]
        if self._growth.lines:
            end = data.rfind(b"\n") + 1
            if end or len(data) <= LONGEST_LINE:
                return data[:end]
        return data

    def _read(self, offset: int, length: int) -> bytes:
        """Read a part of the remote file, many requests at a time; shorter if the file is."""
        remote, source, context = self._remote, self._growth.source, self._context
        size = context.limit.largest(remote.request_sizes()[0])
        window: deque[tuple[int, int, Future[Reply]]] = deque()
        data, asked = bytearray(), 0
        while len(data) < length:
            while asked < length and len(window) < IN_FLIGHT and (remote.has_room or not window):
                part = min(size, length - asked)
                context.limit.wait_for_turn(part, remote.deadline)
                window.append((asked, part, remote.begin_read(self._handle, offset + asked, part)))
                asked += part
            _, part, future = window.popleft()
            remote.deadline.check()
            try:
                piece = remote.data(future, source)
            except EndOfFile:
                break
            if not piece or len(piece) > part:
                break
            data += piece
            if len(piece) < part:  # a short answer is not the end of the file
                data += remote.read_exactly(self._handle, offset + len(data), part - len(piece), source)
        return bytes(data)

    def _keep_times(self, descriptor: int) -> None:
        there = self._growth.attributes
        if there.access_time is not None and there.modification_time is not None:
            keep_times(descriptor, there.access_time, there.modification_time, self._place.path)

    def _record_of(self, descriptor: int, length: int) -> GrowthRecord:
        is_full = self._context.verify == "sha256"
        return replace(record_of(descriptor, length, is_full=is_full), inode=None)


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
