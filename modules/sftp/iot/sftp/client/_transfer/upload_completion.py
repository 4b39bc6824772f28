"""Complete an upload after its last byte: attributes, sync, size and close, in one round trip where order is kept.

Where a file was written over several channels, each of them keeps its order and none that of the others. So the
attributes are set, the file is synced and its size is asked for on each of them, behind its own last byte: whichever
writes last of all is followed by its own three requests, and the largest size is that of the whole file.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import ConnectionLost, DeadlineExceeded, NoSpace, SFTPError
from iot.sftp.client._transfer.upload_job import check_size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._ssh.packets import Attributes
    from iot.sftp.client._ssh.requests import Reply
    from iot.sftp.client._transfer.write_pipeline import WriteChannel

logger = logging.getLogger(__name__)

LAGGING = (0.1, 0.4, 1.0, 2.0)  # seconds, before a size that is too small is asked for again


class _LastRequests:
    """What follows the last byte over one channel."""

    def __init__(self, remote: RemoteFiles, handle: bytes, attributes: Attributes) -> None:
        self.set_attributes = remote.begin_fsetstat(handle, attributes)
        self.sync = remote.begin_fsync(handle) if remote.offers_fsync else None
        self.status = remote.begin_fstat(handle)


class UploadCompletion:
    """The requests after the last byte of a file: its attributes, its sync to the disk, its size and its close.

    Attributes:
        closed: the answer to the close, once that is requested.
    """

    def __init__(
        self, remote: RemoteFiles, handle: bytes, path: str, attributes: Attributes, *, is_asked_for: bool = False
    ) -> None:
        """Send nothing yet.

        Parameters:
            remote: the server's files.
            handle: of the open file.
            path: of the file.
            attributes: permissions and times.
            is_asked_for: whether somebody has chosen the permissions, and is to be told if the server sets none.
        """
        self._is_asked_for = is_asked_for
        self._remote = remote
        self._handle = handle
        self._path = path
        self._attributes = attributes
        self._last_requests: list[_LastRequests] = []
        self.closed: Future[Reply] | None = None

    def begin(self, further: Sequence[WriteChannel] = ()) -> None:
        """Send all requests, and the close too if the server keeps the order of requests.

        Parameters:
            further: channels over which the same file was written; their handles are left open.
        """
        remote, handle = self._remote, self._handle
        with remote.together():
            self._last_requests.append(_LastRequests(remote, handle, self._attributes))
            self.closed = remote.begin_close(handle) if remote.traits.keeps_order else None
        for channel in further:
            with channel.remote.together():
                self._last_requests.append(_LastRequests(channel.remote, channel.handle, self._attributes))

    @property
    def is_closed(self) -> bool:
        """Whether the close has been requested."""
        return self.closed is not None

    def wait_for_last(self) -> None:
        """Wait for the last answer: where order is kept, all others are there by then, without a wait for each."""
        if self.closed is not None:
            self._remote.wait_for_any_answer(self.closed)

    def wait(self, moved: int) -> str:
        """Wait for all of it, and return how it is known that the file has as many bytes as were sent.

        Raises:
            TransferIncomplete: it has not.
        """
        try:
            are_set, size = bool(self._last_requests), None
            for last in self._last_requests:
                are_set &= self._wait_for_optional(last.set_attributes)
                self._wait_for_optional(last.sync)
                there = self._remote.attributes_if_reported(last.status, self._path)
                if there is not None and there.size is not None:
                    size = max(size or 0, there.size)
        finally:
            self.closed = self.closed or self._remote.begin_close(self._handle)
        self._remote.wait(self.closed, self._path)
        if not are_set and not self._remote.traits.keeps_own_attributes:
            # Erlang's and Conch's refuse FSETSTAT of a file that was opened by a relative path, or of any.
            set_by_path = self._remote.begin_setstat(self._path, self._attributes)
            are_set = self._wait_for_optional(set_by_path)
            if not are_set and self._is_asked_for:
                logger.warning("The server sets no permissions: files keep those that it gives them")
            self._remote.traits.keeps_own_attributes = not are_set
        if size == moved:
            return "size"
        # Before CLOSE there may be no such file yet, or one of 0 bytes: object stores.
        by_path = self._settled_size(moved)
        if by_path is not None:
            check_size(moved, by_path, self._path)
            return "size"
        check_size(moved, size or None, self._path)
        logger.info("The server does not report the size of %r: it has acknowledged each of its bytes", self._path)
        return "acknowledged"

    def _settled_size(self, moved: int) -> int | None:
        """Return the size by the file's path; one that is too small is asked for again: some caches lag behind."""
        size = self._size_by_path()
        for pause in LAGGING:
            if size is None or size >= moved or pause > self._remote.deadline.remaining() / 2:
                break
            self._remote.deadline.pause(pause)
            self._remote.deadline.check()
            size = self._size_by_path()
        return size

    def _size_by_path(self) -> int | None:
        for begin in (self._remote.begin_stat, self._remote.begin_lstat):
            there = self._remote.attributes_if_reported(begin(self._path), self._path)
            if there is not None and there.size is not None:
                return there.size
        return None

    def _wait_for_optional(self, asked: Future[Reply] | None) -> bool:
        """Wait for what a server need not do, and return whether it has: it may keep its own permissions and times."""
        if asked is None:
            return False
        try:
            self._remote.wait(asked, self._path)
        except (ConnectionLost, DeadlineExceeded, NoSpace):
            raise
        except SFTPError as error:
            logger.debug("The server does not do all for %r: %s", self._path, error.message)
            return False
        return True
