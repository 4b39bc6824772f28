"""SFTP requests in flight over one SSH channel; thread-safe.

A request gets a number and a future. It is sent at once, or by a thread of the channel where that could wait; answers
are received in one thread for all, in whatever order, and complete the future that has their number. So no caller
ever blocks in a write: it waits for its future, and for no longer than its deadline and the server's time limit allow.
paramiko's own `SFTPClient` cannot be shared in this way (one reader takes another's answer), and keeps neither the
server's status codes nor its list of extensions.

A file's bytes bypass all that: the data of a READ is passed on piece by piece as it is decrypted, to be written where
it belongs, and the data of a WRITE is read from its file at the moment at which it is sent. So requests in flight take
no memory, however much data they stand for.
"""

from __future__ import annotations

import struct
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import ConnectionLost, HandleInUse, SFTPError, Unsupported
from iot.sftp.client._base.text import excerpt
from iot.sftp.client._ssh.open_files import OpenFiles
from iot.sftp.client._ssh.packets import VERSION, Kind, Reader, string
from iot.sftp.client._ssh.paramiko_internals.channel_data import consumed, divert
from iot.sftp.client._ssh.replies import ReplyParser
from iot.sftp.client._ssh.request_writer import RequestWriter
from iot.sftp.client._ssh.requests import HEADER, Answer, FileWrite, Landing, Reply, Source, complete
from iot.sftp.client._ssh.waiting import at_deadline

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._ssh.open_files import Place
    from iot.sftp.client._ssh.paramiko_internals.channel_data import Channel
    from iot.sftp.client._ssh.paramiko_internals.messages import Data
    from iot.sftp.client._ssh.requests import Expected, Outgoing

__all__ = ["Landing", "Reply", "SFTPChannel", "Source"]  # what the layers above need of a channel

# Answers in a row to requests that were never made: a server that sends nothing else would let a call wait without end
MOST_STRANGERS = 10_000
NOTED_TOGETHER = 64 * 1024  # bytes of our window that are used up: a small part of it


class _Together:
    """A block whose requests are sent together; a generator in its place would take twice as long."""

    __slots__ = ("_gathering", "_is_outermost", "_thread", "_writer")

    def __init__(self, gathering: set[int], writer: RequestWriter) -> None:
        self._gathering = gathering
        self._writer = writer

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        self._is_outermost = self._thread not in self._gathering
        self._gathering.add(self._thread)

    def __exit__(self, *_: object) -> None:
        if self._is_outermost:
            self._gathering.discard(self._thread)
            self._writer.send()


class SFTPChannel:
    """A channel on which the SFTP subsystem answers.

    It stays in one piece because one lock guards all of it: the numbers, the requests in flight and the queue of the
    writer change together.

    Attributes:
        extensions: the names that the server announced in its VERSION packet, and their data.
        round_trip: the shortest time in seconds in which it answered a request.
    """

    def __init__(
        self,
        channel: Channel,
        on_activity: Callable[[], None],
        open_files: OpenFiles | None = None,
        *,
        joins_requests: bool = False,
    ) -> None:
        """Take over a channel, before its subsystem is started.

        Parameters:
            channel: nothing else may read or write it.
            on_activity: called for whatever arrives: the peer is alive.
            open_files: informed of all that is opened and closed.
            joins_requests: whether several requests may go in one message of the channel. RFC 4254 makes a stream of
                them, but libssh's server answers only the first one in each.
        """
        self.extensions: dict[str, bytes] = {}
        self.round_trip = float("inf")
        self._channel = channel
        self._on_activity = on_activity
        self._open_files = open_files or OpenFiles()
        self._lock = threading.Lock()
        self._replies: dict[int, tuple[Expected, float]] = {}  # by number: what is expected, and since when
        self._next_number = 0
        self._strangers = 0
        self._consumed = 0  # bytes of our window that were not noted yet
        self._gathering = set[int]()  # threads whose requests are sent together
        self._failure: SFTPError | None = None
        self._version: Future[Reply] = Future()
        self._parser = ReplyParser(self._landing_of, self._complete_landing, self._receive_packet)
        self._writer = RequestWriter(
            channel, self._lock, self._fail_request, self._on_broken, joins_requests=joins_requests
        )
        divert(channel, self._receive, self._on_end)

    def start(self, deadline: Deadline, wait: Callable[[Future[Reply]], Reply]) -> None:
        """Start the SFTP subsystem, agree on the version, and learn the server's extensions (section 4).

        Parameters:
            deadline: by when all of it has to be done.
            wait: waits for the server's answer.

        Raises:
            Unsupported: the server speaks a later version, or something that is not SFTP. What an earlier version
                lacks (LSTAT, links) is replaced or omitted.
        """
        with at_deadline(deadline, self._channel.event.set):  # paramiko waits for it without a limit
            self._channel.invoke_subsystem("sftp")
        with self._lock:
            self._writer.queue.append(HEADER.pack(5, Kind.INIT, VERSION))
        self._writer.send()
        reply = wait(self._version)
        version = reply.fields.uint32()
        if version > VERSION:
            message = f"the server speaks version {version} of SFTP, this client version {VERSION}"
            raise Unsupported(message)
        self.extensions = dict(reply.fields.extensions())

    @property
    def is_amid_an_answer(self) -> bool:
        """Whether the server has begun an answer and not ended it: then it is the link that is slow, not the server."""
        return self._parser.is_amid_a_packet

    @property
    def in_flight(self) -> int:
        """How many requests were not answered yet."""
        return len(self._replies)

    @property
    def closed(self) -> bool:
        """Whether no request is answered any more."""
        return self._failure is not None

    def together(self) -> AbstractContextManager[None]:
        """Send the requests of a block together: in one message, if the server takes that.

        They are sent at its end, that of the outermost one, or when `send_gathered` is called: before anything is
        waited for.
        """
        return _Together(self._gathering, self._writer)

    def send_gathered(self) -> None:
        """Send what this thread has gathered by now."""
        if threading.get_ident() in self._gathering:
            self._writer.send()

    def request(
        self, kind: Kind, fields: bytes, place: Place | None = None, *, with_next: bool = False
    ) -> Future[Reply]:
        """Send a request and return the future of its answer.

        The future fails with `ConnectionLost` if the server does not answer any more.

        Parameters:
            kind: of the request.
            fields: behind its number.
            place: of what is to be opened, if the caller has waited for one.
            with_next: send it together with the next request; nobody may wait for its answer before that.
        """
        if place is None and kind in {Kind.OPEN, Kind.OPENDIR}:
            place = self._open_files.ask(self, is_directory=kind == Kind.OPENDIR)
        future = Answer(kind, fields, place)
        if future.closes is not None:
            self._open_files.closing(self, future.closes)
        self._send(future, lambda number: HEADER.pack(5 + len(fields), kind, number) + fields, with_next=with_next)
        return future

    def read(self, handle: bytes, offset: int, length: int, landing: Landing) -> None:
        """Send a READ request (section 6.4) whose data goes to `landing`."""
        fields = string(handle) + struct.pack(">QI", offset, length)
        self._send(landing, lambda number: HEADER.pack(5 + len(fields), Kind.READ, number) + fields)

    def write(self, handle: bytes, offset: int, length: int, source: Source) -> Future[Reply]:
        """Send a WRITE request (section 6.4) for a part of a file, which has the same offset in both files."""
        future = Answer(Kind.WRITE)
        self._send(future, lambda number: FileWrite(number, handle, source, offset, length))
        return future

    def _send(self, expected: Expected, packet: Callable[[int], Outgoing], *, with_next: bool = False) -> None:
        with self._lock:
            failure = self._failure
            if failure is None:
                number = self._next_number
                self._next_number = (number + 1) & 0xFFFFFFFF
                self._replies[number] = expected, time.monotonic()
                self._writer.queue.append(packet(number))
        if failure is not None:
            self._open_files.ended(self)
            complete(expected, error=failure)
        elif not with_next and threading.get_ident() not in self._gathering:
            self._writer.send()

    # --- its end ---

    def fail(self, error: SFTPError) -> None:
        """End the channel: each request in flight, and each later one, fails with `error`."""
        with self._lock:
            if self._failure is not None:
                return
            self._failure = error
            unanswered = [self._version, *(expected for expected, _ in self._replies.values())]
            self._replies.clear()
            self._writer.end()
        self._open_files.ended(self)
        for expected in unanswered:
            complete(expected, error=error)

    def close(self, error: SFTPError) -> None:
        """End the channel, and inform the server; the channel's thread ends by itself."""
        self.fail(error)
        try:
            self._channel.close()
        except (OSError, EOFError):
            return  # the transport is gone, and the channel with it

    def join(self) -> None:
        """Wait for the channel's thread; it ends as soon as the transport is closed."""
        self._writer.join()

    def _on_broken(self, error: Exception) -> None:
        words = str(error)
        broke = f"the connection broke ({excerpt(words)})" if words else "the connection broke"
        self.fail(ConnectionLost(broke))

    def _on_end(self) -> None:
        self.fail(ConnectionLost("the server closed the SFTP channel"))

    def _fail_request(self, number: int, error: SFTPError) -> None:
        with self._lock:
            expected, _ = self._replies.pop(number, (None, 0.0))
        if expected is not None:
            complete(expected, error=error)

    # --- from the server, in paramiko's thread ---

    def _receive(self, data: Data) -> None:
        self._on_activity()
        try:
            if self._failure is None:
                self._parser.take(memoryview(data))
        except SFTPError as error:
            self.fail(error)
        except Exception as error:  # noqa: BLE001 - whatever it is ends the channel, with a reason
            self._on_broken(error)
        self._consumed += len(data)
        if self._consumed >= NOTED_TOGETHER:
            widen_by = consumed(self._channel, self._consumed)
            self._consumed = 0
            if widen_by:
                self._writer.widen_window(widen_by)

    def _landing_of(self, number: int) -> Landing | None:
        expected, _ = self._replies.get(number, (None, 0.0))
        return None if isinstance(expected, Future) else expected

    def _complete_landing(self, number: int) -> None:
        with self._lock:
            expected, _ = self._replies.pop(number, (None, 0.0))
        if expected is not None:
            self._strangers = 0
            complete(expected)

    def _receive_packet(self, packet: bytes, held: object = None) -> None:
        kind, fields = packet[0], Reader(packet, 1, held)
        if kind == Kind.VERSION:
            if self._version.done():
                self._count_stranger()
            complete(self._version, Reply(kind, fields))
            return
        number = fields.uint32()
        with self._lock:
            expected, sent = self._replies.pop(number, (None, 0.0))
        if expected is None:
            self._count_stranger()
            return
        self._strangers = 0
        self.round_trip = min(self.round_trip, time.monotonic() - sent)
        if isinstance(expected, Answer):
            self._record_open_files(expected, packet)
        complete(expected, Reply(kind, fields))

    def _record_open_files(self, expected: Answer, packet: bytes) -> None:
        """Record what is open, before anything that comes behind this answer."""
        if expected.closes is not None:
            self._open_files.closed(self, expected.closes)
        if expected.place is None:
            return
        try:
            self._open_files.answered(expected.place, packet)
        except HandleInUse as error:  # nothing on this channel proves anything any more
            complete(expected, error=error)
            raise

    def _count_stranger(self) -> None:
        """Ignore an answer that came twice, or to a number that was never given: harmless, unless it is all.

        Raises:
            ConnectionLost: there is nothing else, on and on.
        """
        self._strangers += 1
        if self._strangers > MOST_STRANGERS:
            message = f"the server's last {MOST_STRANGERS} answers were to requests that were never made"
            raise ConnectionLost(message)
