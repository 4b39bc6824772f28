"""Read a remote file into memory: all of one version of it, as a download does, without a local file."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import TooLarge, TransferIncomplete
from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._base.steps import finish
from iot.sftp.client._ssh.packets import OpenFlag
from iot.sftp.client._transfer.download import ATTEMPTS
from iot.sftp.client._transfer.download_source import READ_TWICE, DownloadSource, look_at_source
from iot.sftp.client._transfer.memory_file import memory_file
from iot.sftp.client._transfer.pipeline import SourceChanged
from iot.sftp.client._transfer.read_pipeline import ReadPipeline
from iot.sftp.client._transfer.verify import compare_hashes

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._ssh.packets import Attributes
    from iot.sftp.client._transfer.transfer_context import TransferContext

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileContent:
    """What a remote file held at one moment.

    Attributes:
        content: all of its bytes.
        modified: seconds since 1970; `None` if the server does not report it.
        verified: what was compared: see `Transfer`.
    """

    content: bytes = field(repr=False)
    modified: int | None
    verified: str = "size"


def read_content(remote: RemoteFiles, path: str, longest: int | None, context: TransferContext) -> FileContent:
    """Return the bytes of a remote file, all of one version.

    Parameters:
        remote: the server's files.
        path: of the file.
        longest: bytes that it may have; `None` for as many as memory takes.
        context: how to read.

    Raises:
        TooLarge: it has more.
        TransferIncomplete: it is written all the time.
    """

    def accept(attributes: Attributes) -> None:
        if longest is not None and attributes.size is not None and attributes.size > longest:
            raise _too_large(longest, path)

    for _ in range(ATTEMPTS - 1):
        try:
            return _read_version(remote, path, longest, context, accept)
        except SourceChanged as error:
            logger.info("%r is read again: %s", path, error.message)
    try:
        return _read_version(remote, path, longest, context, accept)
    except SourceChanged as error:
        raise TransferIncomplete(error.message, path=error.path) from error


def _read_version(
    remote: RemoteFiles,
    path: str,
    longest: int | None,
    context: TransferContext,
    accept: Callable[[Attributes], object],
) -> FileContent:
    source = DownloadSource(remote, path, look_at_source(remote, path, accept), observed=None, accept=accept)
    source.settle()
    try:
        with remote.opened(path, OpenFlag.READ, wait_for_close=False) as handle, memory_file(b"", path) as descriptor:
            source.look_into(handle)
            pipeline = BoundedPipeline(remote, handle, path, descriptor, longest=longest, context=context)
            size = finish(pipeline.run(0, source.before.size))
            verified = source.check_unchanged(size, pipeline.after, handle, os.fstat(descriptor).st_size)
            tells_nothing = (
                not source.version.tells_time and size <= READ_TWICE
            )  # what was written since would not show
            if tells_nothing or not source.is_settled:
                source.read_again(handle, descriptor, size)
            if context.verify == "sha256":
                verified = compare_hashes(remote, handle, path, descriptor)
            with open(descriptor, "rb", closefd=False) as file:
                return FileContent(file.read(), source.before.modification_time, verified)
    except OSError as error:
        raise from_os_error(error) from error


class BoundedPipeline(ReadPipeline):
    """Reads a remote file into memory, and ends when there is more of it than may be: its server may not say so."""

    def __init__(
        self,
        remote: RemoteFiles,
        handle: bytes,
        path: str,
        descriptor: int,
        *,
        longest: int | None,
        context: TransferContext,
    ) -> None:
        """Read nothing yet.

        Parameters:
            remote, handle, path, descriptor: see `ReadPipeline`.
            longest: bytes that it may have; `None` for any number.
            context: how to read.
        """
        super().__init__(
            remote, handle, path, descriptor, limit=context.limit, counts=context.counts, on_progress=lambda _: None
        )
        self._longest = longest

    def store(self, data: memoryview, offset: int) -> None:
        """Write what has arrived to its place, unless it is too much."""
        if self._longest is not None and offset + len(data) > self._longest:
            self.answered_wrongly(_too_large(self._longest, self._path))
        else:
            super().store(data, offset)


def _too_large(longest: int, path: str) -> TooLarge:
    message = f"the file has more than {longest} bytes, the most that is read into memory: download it instead"
    return TooLarge(message, path=path)
