"""The remote file of a download: which version it is, whether it is settled, and whether it is still the same."""

from __future__ import annotations

import logging
import stat
import time
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    IsADirectory,
    PathNotAllowed,
    PermissionDenied,
    TransferIncomplete,
    Unsupported,
)
from iot.sftp.client._base.messages import IS_A_REMOTE_DIRECTORY, size_differs
from iot.sftp.client._base.steps import finish
from iot.sftp.client._files.file_version import FileVersion, Observed
from iot.sftp.client._ssh.packets import Attributes
from iot.sftp.client._transfer.pipeline import SourceChanged
from iot.sftp.client._transfer.verify import all_parts, compare_hashes, parts_are_same

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from iot.sftp.client._base.steps import Steps
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._ssh.requests import Reply

logger = logging.getLogger(__name__)

PERMISSION_BITS = 0o777
OWNER_MAY_WRITE = 0o600  # what is written here can be read and written by its owner, whatever the original's mode
READ_TWICE = 256 * 1024  # bytes that are sooner read again than waited for
SETTLING_ATTEMPTS = 2  # of a source that is being written, before it is read as it is


def look_at_source(remote: RemoteFiles, path: str, accept: Callable[[Attributes], object]) -> Attributes:
    """Return a source's attributes: see `looking_at_source`."""
    return finish(looking_at_source(remote, path, accept))


def looking_at_source(remote: RemoteFiles, path: str, accept: Callable[[Attributes], object]) -> Steps[Attributes]:
    """Return a source's attributes, in steps, none where the server refuses them; raise if that is no regular file."""
    try:
        attributes = yield from remote.looking_at(path)
    except (PermissionDenied, Unsupported):
        attributes = Attributes()
    _refuse_irregular(attributes, path)
    accept(attributes)
    return attributes


class DownloadSource:
    """The remote file of one attempt.

    Attributes:
        path: on the server.
        before: its attributes before it was read.
        is_settled: whether a further write would show in its time.
    """

    def __init__(
        self,
        remote: RemoteFiles,
        path: str,
        attributes: Attributes,
        *,
        observed: Observed | None,
        accept: Callable[[Attributes], object],
        mode: int | None = None,
    ) -> None:
        """Take what `look_at_source` has returned.

        Parameters:
            remote: the server's files.
            path: of the file.
            attributes: of the file.
            observed: which version was seen before, and when.
            accept: receives the attributes each time that they are asked for.
            mode: the permissions that the local file gets instead of the server's.
        """
        self._mode = mode
        self._remote = remote
        self.path = path
        self.before = attributes
        self._accept = accept
        self._observed = Observed(self.version, time.monotonic())
        if observed is not None and observed.version == self.version:
            self._observed = observed
        self.is_settled = False

    @property
    def version(self) -> FileVersion:
        """The version that is downloaded."""
        return FileVersion.of_remote(self.before)

    @property
    def permissions(self) -> int | None:
        """The permissions of the local file; `None` if they are neither given nor reported by the server."""
        mode = self.before.mode if self._mode is None else self._mode
        return None if mode is None else mode & PERMISSION_BITS | OWNER_MAY_WRITE

    @property
    def may_be_resumed(self) -> bool:
        """Whether another attempt can know that it reads the same version."""
        return self.is_settled and self.version.tells_time

    def settle(self) -> None:
        """Wait until a further write would show in the file's time.

        A write after the wait has another second than the one that was seen before it, by the server's own clock.
        A file that is written all the time, or so small that it is read again in less time, is not waited for.
        """
        for _ in range(SETTLING_ATTEMPTS):
            pause = self._observed.version.settles_in(time.monotonic() - self._observed.since)
            if not pause:
                self.is_settled = True
                return
            is_small = self.before.size is not None and self.before.size <= READ_TWICE
            if is_small or pause > self._remote.deadline.remaining() / 2:
                return
            logger.debug("%r may still be written: waiting %.2f s until a change would show", self.path, pause)
            self._remote.deadline.pause(pause)
            self._remote.deadline.check()
            self.before = look_at_source(self._remote, self.path, self._accept)
            if self.version == self._observed.version:
                self.is_settled = True
                return
            self._observed = Observed(self.version, time.monotonic())

    def look_into(self, handle: bytes) -> None:
        """Ask for the open file's attributes where its path's were refused."""
        if self.before == Attributes():
            asked = self._remote.begin_fstat(handle)
            self.before = self._remote.attributes_if_reported(asked, self.path) or self.before
            _refuse_irregular(self.before, self.path)
            self._accept(self.before)
            self.is_settled = not self.version.tells_time or not self.version.is_racy()

    def check_unchanged(self, moved: int, asked: Future[Reply] | None, handle: bytes, here: int) -> str:
        """Raise unless the file is what it was before, and as long as what was read; return how that is known.

        FSTAT is asked first. Where its answer is not what STAT said before, or is empty, STAT is asked again:
        rclone's cache has other times for an open file than for its path, and others report nothing of an open file.

        Parameters:
            moved: how many bytes were read.
            asked: FSTAT behind the last READ, where the server keeps the order of requests.
            handle: of the open file.
            here: the size of the local file.
        """
        after = self._remote.attributes_if_reported(asked or self._remote.begin_fstat(handle), self.path)
        if after is not None and self._is_as_before(after, moved, here):
            return "size"
        by_path = self._remote.attributes_if_reported(self._remote.begin_stat(self.path), self.path)
        after = by_path or after or self.before
        if self._is_as_before(
            after, moved, here
        ):  # or nothing is reported, and READ met the end where it was said to be
            return "size"
        has_no_size = after.size is None and self.before.size is None
        if has_no_size and here == moved and FileVersion.of_remote(after).is_same_as(self.version):
            return "acknowledged"
        sizes = {after.size, self.before.size} - {None}
        if here != moved or sizes - {moved}:
            size = after.size if after.size not in {None, moved} else self.before.size
            raise SourceChanged(size_differs(moved, size), path=self.path)
        # The time alone is another: that of a file which rclone writes back from its cache, or of one that was written.
        logger.debug("The time of %r has changed while it was read: its bytes are compared again", self.path)
        self.is_settled = False
        return "size" if sizes else "acknowledged"

    def _is_as_before(self, after: Attributes, moved: int, here: int) -> bool:
        """Return whether the server describes the version that was to be read, and all of it was.

        Of a file that was cut meanwhile there may be more here: what was answered before.
        """
        sizes = {after.size, self.before.size} - {None}
        return here == moved and sizes == {moved} and FileVersion.of_remote(after).is_same_as(self.version)

    def read_again(self, handle: bytes, descriptor: int, size: int) -> None:
        """Raise unless the file still has the bytes that were read: then it had all of them at one moment.

        What was there twice, once during the first reading and once during the second, was there in between, and that
        is true of all bytes. It is for a source whose time would not show another write.
        """
        if size <= READ_TWICE:
            is_same = parts_are_same(self._remote, handle, self.path, descriptor, all_parts(size))
        else:
            try:
                is_same = bool(compare_hashes(self._remote, handle, self.path, descriptor))
            except TransferIncomplete:
                is_same = False
        if not is_same:
            message = "the file was written while it was read: try again when it is complete"
            raise SourceChanged(message, path=self.path)


def _refuse_irregular(attributes: Attributes, path: str) -> None:
    """Raise where what is to be read is known not to be a regular file: opening a pipe would hang the server."""
    kind = stat.S_IFMT(attributes.mode or 0)
    if kind == stat.S_IFDIR:
        raise IsADirectory(IS_A_REMOTE_DIRECTORY, path=path)
    if kind not in {0, stat.S_IFREG}:
        message = "this is neither a file nor a directory on the server, and is left alone"
        raise PathNotAllowed(message, path=path)
