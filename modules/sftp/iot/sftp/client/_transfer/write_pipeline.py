"""Write a local file into a remote one: a window of WRITE requests in flight, over one channel or several."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import SFTPError
from iot.sftp.client._ssh.requests import Source
from iot.sftp.client._transfer.file_order import Direction
from iot.sftp.client._transfer.pipeline import Pipeline, ReceivedRanges

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from iot.sftp.client._base.counts import Counts
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._ssh.requests import Reply
    from iot.sftp.client._transfer.rate_limit import RateLimit

# What one of several channels is given at most: what OpenSSH carries over one in one and a half round trips. More would
# wait there while other channels have nothing to do.
MOST_IN_A_CHANNEL = 3 * 1024 * 1024


@dataclass
class WriteChannel:
    """One channel of an upload.

    Attributes:
        remote: the server's files over it.
        handle: of the file.
        in_flight: bytes on it.
        is_used: whether anything was written over it.
    """

    remote: RemoteFiles
    handle: bytes
    in_flight: int = 0
    is_used: bool = False


class WritePipeline(Pipeline):
    """Writes a local file into a remote one, over one channel or several."""

    _direction = Direction.UPLOAD

    def __init__(
        self,
        remote: RemoteFiles,
        handle: bytes,
        path: str,
        descriptor: int,
        *,
        limit: RateLimit,
        counts: Counts,
        on_progress: Callable[[int], None],
        source: Source | None = None,
    ) -> None:
        """Write `descriptor`, read by a source, into the open file `handle` (`path` is for messages)."""
        super().__init__(remote, path, limit, counts, on_progress)
        self._channels = [WriteChannel(remote, handle)]
        self._source = source or Source(descriptor)
        self.several = False  # whether further channels are there or to come
        self._request_size = remote.request_sizes()[1]

    def add_channel(self, channel: WriteChannel) -> None:
        """Use a further channel from now on."""
        with self._lock:
            self._channels.append(channel)
            self._window.grow()
            self._wake.set()

    @property
    def further(self) -> list[WriteChannel]:
        """The channels beside the first one over which anything was written."""
        with self._lock:
            return [channel for channel in self._channels[1:] if channel.is_used]

    def send(self, start: int, size: int, finish: Callable[[], object]) -> None:
        """Send all that there is room for, and return when the last request is in flight.

        Parameters:
            start: what is there already.
            size: of the local file.
            finish: sends what follows the last byte; together with it, so it must not wait for anything.
        """
        self._ranges = ReceivedRanges(start)
        offset = start
        while offset < size:
            length = min(self._request_length(self._request_size), size - offset)
            channel = self._free_channel(length)
            if channel is None:
                self._wait()
                continue
            self._take_turn(length)
            self._sent(length)
            with channel.remote.together():
                future = channel.remote.begin_write_from(channel.handle, offset, length, self._source)
                future.add_done_callback(partial(self._acknowledged, channel, offset, length))
                offset += length
                if offset == size:
                    finish()
        if start == size:
            finish()

    def finish(self) -> int:
        """Wait until the server has taken everything, and return how much that is."""
        while self._in_flight:
            self._wait()
        self._raise_failure()
        return self.contiguous

    def stop(self) -> None:
        """Read the local file no more: requests that were not sent yet fail by themselves when their turn comes."""
        self._source.end()

    def _free_channel(self, length: int) -> WriteChannel | None:
        with self._lock:
            channel = min(self._channels, key=_in_flight)
            if not self._has_room(length) or (self.several and channel.in_flight + length > MOST_IN_A_CHANNEL):
                return None
            channel.in_flight += length
            channel.is_used = True
            return channel

    def _acknowledged(self, channel: WriteChannel, offset: int, length: int, future: Future[Reply]) -> None:
        error = future.exception()
        with self._lock:
            channel.in_flight -= length
            if self.several:
                self._wake.set()  # this channel has room, whatever the others have
            if isinstance(error, SFTPError):
                self._failure = self._failure or error
            else:
                self._accept(future.result(), offset, length)
            self._answered(length)
            if not self._in_flight:
                self._wake.set()

    def _accept(self, reply: Reply, offset: int, length: int) -> None:
        try:
            self._remote.accept(reply, self._path)
        except SFTPError as error:
            self._failure = self._failure or error
        else:
            self._ranges.add(offset, offset + length)
            self._counts.add(uploaded=length)


def _in_flight(channel: WriteChannel) -> int:
    return channel.in_flight
