"""One attempt to upload a file: what its steps share, and the local file that is its source."""

from __future__ import annotations

import os
import posixpath
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import SFTPError, TransferIncomplete
from iot.sftp.client._base.messages import size_differs
from iot.sftp.client._files.file_version import SECOND, FileVersion
from iot.sftp.client._ssh.packets import Attributes
from iot.sftp.client._transfer.drop_boxes import DropBox
from iot.sftp.client._transfer.file_order import Direction
from iot.sftp.client._transfer.pipeline import SourceChanged
from iot.sftp.client._transfer.resume_records import ResumeState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._transfer.resume_records import ResumeRecord
    from iot.sftp.client._transfer.transfer_context import TransferContext

    SpareChannel = Callable[[], AbstractContextManager[RemoteFiles | None]]

PERMISSION_BITS = 0o777
OWNER_MAY_WRITE = 0o600  # what is written can be read and written by its owner
SETTLING_ATTEMPTS = 5  # of a source that is being written, before it is read as it is


@contextmanager
def no_spare() -> Iterator[RemoteFiles | None]:
    """Lend no further channel."""
    yield None


class UploadSource:
    """The local file of an upload.

    Attributes:
        descriptor: of the file.
        status: what the file system reported when the version to be sent was chosen.
        is_settled: whether a further write would show in its times.
    """

    def __init__(self, descriptor: int, mode: int | None = None) -> None:
        """Look at the file; `mode` is what the remote file gets instead of its permissions."""
        self.descriptor = descriptor
        self._mode = mode
        self.status = os.fstat(descriptor)
        self.is_settled = False

    @property
    def version(self) -> FileVersion:
        """The version that is sent."""
        return FileVersion.of_local(self.status)

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.status.st_size

    @property
    def mode(self) -> int:
        """The permissions that the remote file gets."""
        mode = self.status.st_mode if self._mode is None else self._mode
        return mode & PERMISSION_BITS | OWNER_MAY_WRITE

    @property
    def attributes(self) -> Attributes:
        """The permissions and times that the remote file gets."""
        return Attributes(
            mode=self.mode,
            access_time=as_sftp_time(self.status.st_atime_ns),
            modification_time=as_sftp_time(self.status.st_mtime_ns),
        )

    def settle(self, deadline: Deadline) -> None:
        """Wait until a further write would show in the file's times; a file that is written all the time is not."""
        if self.is_settled:
            return
        for _ in range(SETTLING_ATTEMPTS):
            seen, since = self.version, time.monotonic()
            pause = seen.settles_in()
            if not pause:
                self.is_settled = True
                return
            deadline.pause(pause)
            deadline.check()
            self.status = os.fstat(self.descriptor)
            if self.version == seen and not seen.settles_in(time.monotonic() - since):
                self.is_settled = True
                return

    def check_unchanged(self, moved: int, path: str) -> bool:
        """Raise if the file was written meanwhile; return whether its bytes have to be compared to know that.

        A change time alone may be that of a new link, name or permission.

        Parameters:
            moved: how many bytes were sent.
            path: for messages.
        """
        after = FileVersion.of_local(os.fstat(self.descriptor))
        check_size(moved, after.size, path)
        if after.modified != self.version.modified:
            message = "the local file was changed while it was read: try again when it is complete"
            raise SourceChanged(message, path=path)
        return after != self.version or not self.is_settled


class UploadJob:
    """What the steps of one attempt share.

    Attributes:
        remote: the server's files.
        source: the local file.
        dest: the path of the destination.
        record: the destination's resume record, held by this attempt.
        context: how to upload.
        spare: lends the server's files over a further channel, if there is one.
        state: what is written into the record: how far this attempt is.
        drop_box: the destination's directory, and what is refused there.
        earlier_rename: an earlier attempt whose rename was requested, and had not been carried out.
    """

    def __init__(
        self,
        remote: RemoteFiles,
        descriptor: int,
        dest: str,
        *,
        record: ResumeRecord,
        context: TransferContext,
        spare: SpareChannel,
    ) -> None:
        """Send nothing yet; see the attributes."""
        self.remote = remote
        self.source = UploadSource(descriptor, context.modes.remote)
        self.dest = dest
        self.record = record
        self.context = context
        self.spare = spare
        self.state = ResumeState(Direction.UPLOAD.value, list(context.server), dest)
        self.drop_box = DropBox(remote, context, posixpath.dirname(dest))
        self.earlier_rename: ResumeState | None = None

    @property
    def temporary(self) -> str:
        """The path that the bytes are written to; empty if it is not known yet."""
        return self.state.temporary

    @property
    def is_direct(self) -> bool:
        """Whether the bytes go to the destination itself, where nothing else was."""
        return self.temporary == self.dest

    def save(self) -> None:
        """Write the state into the record."""
        self.record.save(self.state)

    def close(self, handle: bytes) -> None:
        """Close a file that is of no use any more; its removal must not overtake that."""
        closed = self.remote.begin_close(handle)
        if not self.remote.traits.keeps_order:
            with suppress(SFTPError):
                self.remote.wait(closed, self.temporary)


def as_sftp_time(nanoseconds: int) -> int:
    """Return a time as version 3 has it: whole seconds from 1970 to 2106; what is outside is at their end."""
    return max(0, min(0xFFFFFFFF, nanoseconds // SECOND))


def check_size(moved: int, size: int | None, path: str) -> None:
    """Raise `TransferIncomplete` unless a file has as many bytes as were sent, as far as its size is known."""
    if size is not None and size != moved:
        raise TransferIncomplete(size_differs(moved, size), path=path)
