"""The local temporary file of a download: a new one, or that of an earlier attempt, and how far it has come."""

from __future__ import annotations

import os
import stat
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import ConnectionLost, DeadlineExceeded
from iot.sftp.client._files.disk_sync import NOT_OFFERED
from iot.sftp.client._transfer.file_order import Direction
from iot.sftp.client._transfer.resume_records import WORTH_KEEPING, ResumeState
from iot.sftp.client._transfer.temporary_files import claim, is_temporary, temporary_name
from iot.sftp.client._transfer.verify import beginning_is_same

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iot.sftp.client._files.local_files import LocalName
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._transfer.download_source import DownloadSource
    from iot.sftp.client._transfer.resume_records import ResumeRecord
    from iot.sftp.client._transfer.transfer_context import TransferContext

SAVE_EVERY = 1.0  # seconds; more on a disk that takes its time


class DownloadTarget:
    """The local file that collects the bytes of one attempt.

    Attributes:
        state: what is written into the record: how far this attempt is.
    """

    def __init__(
        self,
        remote: RemoteFiles,
        source: DownloadSource,
        place: LocalName,
        record: ResumeRecord,
        context: TransferContext,
    ) -> None:
        """Open nothing yet.

        Parameters:
            remote: the server's files.
            source: the remote file.
            place: of the destination.
            record: the destination's resume record, held by this attempt.
            context: how to download.
        """
        self._remote = remote
        self._source = source
        self._place = place
        self._record = record
        self.state = ResumeState(
            Direction.DOWNLOAD.value, list(context.server), place.name, directory=_path_of(place.directory)
        )
        self._next_save = time.monotonic() + SAVE_EVERY

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Open the temporary file of an earlier attempt, or a new one; afterwards keep it for a later one, or not.

        Until it is complete, only its owner can read a file whose permissions are known.
        """
        descriptor = self._open_earlier()
        if descriptor is None:
            self.state.temporary = temporary_name()
            self._record.save(self.state)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            mode = 0o666 if self._source.permissions is None else 0o600
            descriptor = os.open(self.state.temporary, flags, mode, dir_fd=self._place.directory)
        claim(descriptor)
        try:
            yield descriptor
        except BaseException as error:
            if not self._is_worth_keeping(error):
                self._remove(self.state.temporary)
                self._record.forget()
            raise
        finally:
            os.close(descriptor)

    def proven_offset(self, handle: bytes, descriptor: int) -> int:
        """Return the offset to resume from: the earlier attempt's, or 0 if its bytes are not proven.

        Size and time may be those of another version: images that are built again often have both in common. So the
        server's hash decides, or where it computes none, parts that are spread over all that is there.
        """
        length = self.state.contiguous
        if not length:
            return 0  # it is new
        if not beginning_is_same(self._remote, handle, self._source.path, descriptor, length):
            length = self.state.contiguous = 0
        os.ftruncate(descriptor, length)
        return length

    def note_progress(self, descriptor: int, contiguous: int) -> None:
        """Record the contiguous offset now and then."""
        if contiguous >= WORTH_KEEPING and self._source.is_settled and time.monotonic() >= self._next_save:
            self._save(descriptor, contiguous)

    def note_break(self, descriptor: int, contiguous: int) -> None:
        """Record the contiguous offset when the connection broke, if a later attempt can resume from there."""
        if contiguous >= WORTH_KEEPING and self._may_be_resumed:
            self._save(descriptor, contiguous)

    def _save(self, descriptor: int, contiguous: int) -> None:
        """Record the contiguous offset; all bytes before it are on the disk by then, whatever happens to the power."""
        started = time.monotonic()
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            if error.errno not in NOT_OFFERED:
                raise
        self.state.contiguous = contiguous
        self._record.save(self.state)
        now = time.monotonic()
        self._next_save = now + max(SAVE_EVERY, 10 * (now - started))

    @property
    def _may_be_resumed(self) -> bool:
        return self._source.may_be_resumed and self._remote.deadline.keeps

    def _is_worth_keeping(self, error: BaseException) -> bool:
        is_lost = isinstance(error, ConnectionLost | DeadlineExceeded)
        return is_lost and self._may_be_resumed and self.state.contiguous >= WORTH_KEEPING

    def _open_earlier(self) -> int | None:
        earlier = self._record.load()
        if earlier is None or not is_temporary(earlier.temporary):
            return None
        is_same = (earlier.server, earlier.source) == (self.state.server, self.state.source)
        if is_same and self._source.may_be_resumed and earlier.contiguous >= WORTH_KEEPING:
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
            with suppress(OSError):
                descriptor = os.open(earlier.temporary, flags, dir_fd=self._place.directory)
                found = os.fstat(descriptor)
                if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_size >= earlier.contiguous:
                    self.state.temporary, self.state.contiguous = earlier.temporary, earlier.contiguous
                    return descriptor
                os.close(descriptor)
        self._remove(earlier.temporary)
        return None

    def _remove(self, name: str) -> None:
        with suppress(OSError):
            os.unlink(name, dir_fd=self._place.directory)


def local_key(place: LocalName) -> tuple[object, ...]:
    """Return the key of a local destination's resume record."""
    directory = os.fstat(place.directory)
    return "download", directory.st_dev, directory.st_ino, place.name


def _path_of(directory: int) -> str:
    """Return a directory's path, to clean up in later; empty where the system does not report it."""
    try:
        return os.readlink(f"/proc/self/fd/{directory}")
    except OSError:
        return ""
