"""The local file of an upload that is still being written to: only its beginning, up to an offset, is sent."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._files.file_version import FileVersion
from iot.sftp.client._transfer.growth import record_of
from iot.sftp.client._transfer.pipeline import SourceChanged
from iot.sftp.client._transfer.upload_job import UploadSource, check_size
from iot.sftp.client._transfer.verify import BLOCK, PART

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._transfer.growth import GrowthRecord


class GrowingSource(UploadSource):
    """The beginning of a local file. It may grow meanwhile; that it is still the same is known by its bytes."""

    def __init__(
        self, descriptor: int, end: int, mode: int | None, *, is_full: bool, proceed: Callable[[], object]
    ) -> None:
        """Look at the file.

        Parameters:
            descriptor: of the file.
            end: up to where it is sent.
            mode: what the remote file gets instead of its permissions.
            is_full: compare the digest of all bytes, however many there are.
            proceed: called now and then; ends what takes long by raising.
        """
        super().__init__(descriptor, mode)
        self._end = end
        self._is_full = is_full
        self._proceed = proceed
        self._start = 0
        self._record = record_of(descriptor, end, is_full=is_full, proceed=proceed)
        self._head = os.pread(descriptor, PART, 0)
        self._new = ""
        self.is_settled = True

    @property
    def version(self) -> FileVersion:
        """What an interrupted upload of it is recognised by: size and times are other ones with each write."""
        return FileVersion(None, None, None, self.status.st_dev, self.status.st_ino)

    @property
    def size(self) -> int:
        """Up to where it is sent."""
        return self._end

    def begin_at(self, start: int) -> None:
        """Take the offset from which on the bytes are new."""
        self._start = start
        self._new = self._digest_of_new()

    def record_at(self, length: int) -> GrowthRecord:
        """Return the record for so many bytes at the destination."""
        if length == self._end:
            return self._record
        return record_of(self.descriptor, length, is_full=self._is_full, proceed=self._proceed)

    def read(self, offset: int, length: int, path: str) -> bytes:
        """Return a part, unless the file was cut or rewritten since `begin_at`."""
        try:
            data = os.pread(self.descriptor, length, offset)
            head = os.pread(self.descriptor, len(self._head), 0)
        except OSError as error:
            raise from_os_error(error) from error
        if len(data) < length or not head.startswith(self._head[: self._end]):
            raise self._changed(path)
        return data

    def check_unchanged(self, moved: int, path: str) -> bool:
        """Raise if what was sent is not the beginning of the file any more; return that this is known."""
        check_size(moved, self._end, path)
        self.check_beginning(path)
        if self._new != self._digest_of_new():
            raise self._changed(path)
        return False

    def check_beginning(self, path: str) -> None:
        """Raise if the file does not begin any more with what it began with at first."""
        if not self._record.is_beginning_of(self.descriptor, self._proceed):
            raise self._changed(path)

    def _digest_of_new(self) -> str:
        digest = hashlib.sha256()
        try:
            for offset in range(self._start, self._end, BLOCK):
                digest.update(os.pread(self.descriptor, min(BLOCK, self._end - offset), offset))
                self._proceed()
        except OSError as error:
            raise from_os_error(error) from error
        return digest.hexdigest()

    @staticmethod
    def _changed(path: str) -> SourceChanged:
        return SourceChanged("the local file was cut or rewritten while it was read: try again", path=path)
