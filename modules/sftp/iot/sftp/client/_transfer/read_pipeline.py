"""Read a remote file into a local one: a window of READ requests in flight.

Section numbers are those of draft-ietf-secsh-filexfer-02.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    SFTPError,
    TransferIncomplete,
)
from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._transfer.file_order import Direction
from iot.sftp.client._transfer.pipeline import Pipeline, ReceivedRanges, SourceChanged

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from iot.sftp.client._base.counts import Counts
    from iot.sftp.client._base.steps import Steps
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._ssh.requests import Reply
    from iot.sftp.client._transfer.rate_limit import RateLimit

MOST_TOGETHER = 32  # requests in one message
READ_AHEAD = 8 * 1024 * 1024  # bytes, at most, that are asked for behind what is there of a file of unknown size


class ReadPipeline(Pipeline):
    """Reads a remote file into a local one."""

    _direction = Direction.DOWNLOAD

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
        may_close: bool = False,
    ) -> None:
        """Read the open file `handle` (`path` is for messages) into `descriptor`.

        Where order is kept and one request asks for all of it, `may_close` closes it behind that: see `is_closed`.
        """
        super().__init__(remote, path, limit, counts, on_progress)
        self._handle = handle
        self._descriptor = descriptor
        self._request_size = remote.request_sizes()[0]
        self._again: list[tuple[int, int]] = []  # what short answers have left out
        self._next = self._size = 0
        self._size_is_known = True
        self._asks_behind_the_end = False
        self._probing = False
        self._end: int | None = None  # where the server has said that the file ends
        self._over = False
        self.after: Future[Reply] | None = None
        self._may_close = may_close
        self._closed: Future[Reply] | None = None

    def run(self, start: int, size: int | None) -> Steps[int]:
        """Read to the end of the file, in steps, and return where that is.

        Parameters:
            start: what is there already.
            size: what the server says that the file has, if it does. So much is asked for, and one request more,
                which has to meet the end of the file. Where the server keeps the order of requests, the last one asks
                for a byte more instead, and the question of the file's attributes goes with it: the future `after`.

        Raises:
            SourceChanged: there is more than that. A server that sends without end must not fill the disk.
        """
        self._ranges = ReceivedRanges(start)
        self._size_is_known = size is not None
        self._asks_behind_the_end = self._size_is_known and self._remote.traits.keeps_order
        self._next, self._size = start, max(start, size or 0)
        try:
            while not self._done():
                self._ask()
                last = self._closed or self.after
                if last is not None:
                    yield last
                if self._closed is not None:
                    self._remote.wait_for_any_answer(self._closed)  # the last answer: one wait for all of them
                self._wait()
            self._raise_failure()  # of the last answers
        finally:
            with self._lock:
                self._over = True  # late answers are not written: the descriptor is not ours any more
        return self.contiguous

    def _done(self) -> bool:
        with self._lock:
            return self._end is not None and not self._in_flight and not self._again

    @property
    def is_closed(self) -> bool:
        """Whether the close of the file was requested."""
        return self._closed is not None

    def _ask(self) -> None:
        while pieces := self._next_pieces():
            if self._closed is not None:
                message = "the server has answered a READ in part"
                raise SourceChanged(message, path=self._path)
            with self._remote.together():
                for offset, length in pieces:
                    self._ask_for(offset, length)
            if self.is_closed:
                return  # that was all

    def _ask_for(self, offset: int, length: int) -> None:
        is_last = self._asks_behind_the_end and offset + length > self._size
        is_all = is_last and self._in_flight == length and self.contiguous == offset
        self._remote.begin_read_into(self._handle, offset, length, ReadLanding(self, offset, length))
        # If the rest of a short answer is read after FSTAT, its answer is out of date: it is sent again.
        self.after = self._remote.begin_fstat(self._handle) if is_last else None
        if self._may_close and is_all:
            self._closed = self._remote.begin_close(self._handle)

    def _next_pieces(self) -> list[tuple[int, int]]:
        """Return what to ask for next, all of it in one message of the channel: under a limit, one piece."""
        pieces: list[tuple[int, int]] = []
        most = 1 if self._limit.is_limited else max(1, min(MOST_TOGETHER, self._remote.room))
        while len(pieces) < most and (piece := self._next_piece()) is not None:
            self._take_turn(piece[1])
            self._sent(piece[1])
            pieces.append(piece)
        return pieces

    def _next_piece(self) -> tuple[int, int] | None:
        """Return offset and length of what to ask for next, if there is room for it in the window."""
        largest = self._request_length(self._request_size)
        with self._lock:
            if self._again:
                return self._again.pop()
            if self._end is not None or self._probing:
                return None
            length = min(largest, self._size - self._next + self._asks_behind_the_end) or largest
            if not self._has_room(length):
                return None
            offset = self._next
            self._probing = offset >= self._size or offset + length > self._size
            self._next += length
            return offset, length

    def store(self, data: memoryview, offset: int) -> None:
        """Write what has arrived to its place, in paramiko's thread."""
        with self._lock:
            if self._over or self._failure is not None:
                return
            try:
                while data:
                    written = os.pwrite(self._descriptor, data, offset)
                    data, offset = data[written:], offset + written
            except OSError as error:
                self._failure = from_os_error(error)

    def landed(self, piece: ReadLanding, reply: Reply | None, error: SFTPError | None) -> None:
        """Note what has become of a request, in paramiko's thread."""
        with self._lock:
            if error is not None:
                self._failure = self._failure or error
            elif reply is not None:
                self._meet_end_or_refusal(piece, reply)
            elif not self._over and self._failure is None:  # otherwise it was not stored
                self._ranges.add(piece.offset, piece.offset + piece.got)
                self._counts.add(downloaded=piece.got)
                if not piece.got:
                    self._meet_end(piece)
                elif piece.offset + piece.got > self._size:
                    self._go_behind_the_end(piece)
                elif self._asks_behind_the_end and piece.offset + piece.got == self._size < piece.offset + piece.wanted:
                    self._end = self._size  # as FSTAT, which follows, has to say as well
                elif piece.got < piece.wanted:
                    # A short answer is not the end of the file (section 6.4): its rest is asked for.
                    self._again.append((piece.offset + piece.got, piece.wanted - piece.got))
            self._answered(piece.wanted)
            if self._again or not self._in_flight:
                self._wake.set()

    def _go_behind_the_end(self, piece: ReadLanding) -> None:
        if self._size_is_known:
            message = f"the server said that the file has {self._size} bytes, and gives more: it was written meanwhile"
            self._failure = self._failure or SourceChanged(message)
        self._next = piece.offset + piece.got
        self._size = self._next + min(self._next, READ_AHEAD)
        self._probing = False
        self._wake.set()

    def answered_wrongly(self, error: SFTPError) -> None:
        """End the download, in paramiko's thread."""
        with self._lock:
            self._failure = self._failure or error
            self._wake.set()

    def _meet_end_or_refusal(self, piece: ReadLanding, reply: Reply) -> None:
        try:
            self._remote.raise_without_data(reply, self._path, may_end=self.may_end_at(piece.offset))
        except SFTPError as error:
            self._failure = self._failure or error
        else:
            self._meet_end(piece)

    def may_end_at(self, offset: int) -> bool:
        """Return whether the file is known to end there: then nothing, or OK, says it as well as EOF does."""
        return self._size_is_known and offset >= self._size

    def _meet_end(self, piece: ReadLanding) -> None:
        self._end = piece.offset if self._end is None else min(self._end, piece.offset)
        self._again = [(offset, length) for offset, length in self._again if offset < self._end]


class ReadLanding:
    """The landing of one READ."""

    __slots__ = ("_pipeline", "got", "offset", "wanted")

    def __init__(self, pipeline: ReadPipeline, offset: int, wanted: int) -> None:
        self._pipeline = pipeline
        self.offset = offset
        self.wanted = wanted
        self.got = 0

    def announce(self, size: int) -> None:
        """Note how much there is."""
        is_end = size == 0 and self._pipeline.may_end_at(self.offset)
        if not is_end and not 0 < size <= self.wanted:
            message = f"the server answered a READ of {self.wanted} bytes with {size}"
            self._pipeline.answered_wrongly(TransferIncomplete(message))

    def take(self, data: memoryview) -> None:
        """Store a part of it."""
        self._pipeline.store(data, self.offset + self.got)
        self.got += len(data)

    def finish(self, reply: Reply | None, error: SFTPError | None) -> None:
        """End."""
        self._pipeline.landed(self, reply, error)
