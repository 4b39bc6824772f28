"""SFTP requests in flight over one SSH channel, from any number of threads.

A request gets a number and a future. A thread of the channel writes requests; answers are taken in paramiko's own
thread as they arrive, in whatever order, and complete the future that has their number. So no caller ever blocks in
a write: it waits for its future, and for no longer than its deadline and the server's time limit allow. paramiko's own
`SFTPClient` cannot be shared in this way (one reader takes another's answer), and keeps neither the server's status
codes nor its list of extensions.

A file's bytes pass by all that: a READ's data is handed on piece by piece as it is decrypted, to be written where it
belongs, and a WRITE's data is read from its file when its turn to be sent has come. So what is in flight takes no
memory, however much it is.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections import deque
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import paramiko

from iot.sftp.client._base.errors import (
    ConnectionLost,
    HandleInUse,
    NotSFTP,
    SFTPError,
    TooLarge,
    TransferIncomplete,
    Unsupported,
)
from iot.sftp.client._base.memory import Budget, most_kept
from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._base.text import excerpt
from iot.sftp.client._ssh.open_files import OpenFiles
from iot.sftp.client._ssh.packets import UINT32, VERSION, Kind, Reader, string
from iot.sftp.client._ssh.transport import divert, send_all, taken, widen_window

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._ssh.open_files import Place
    from iot.sftp.client._ssh.transport import Data

# The longest packet that is accepted from a server: OpenSSH's own limit is 256 KiB (SFTP_MAX_MSG_LENGTH), and no answer
# to a request of ours has a reason to be longer, but for names: wolfSSH and Erlang send a directory as one packet.
# Those are bounded by the memory for names.
LONGEST_PACKET = 256 * 1024 + 1024
NAMES_PART = 4  # of the memory for names, what is to be kept of one packet: it is there twice until it is whole
# Answers in a row to requests that nobody made. A server that gives nothing else would keep a call waiting for ever.
MOST_STRANGERS = 10_000
# Requests that wait for the writer are joined up to this size: fewer, fuller SSH packets.
WRITE_SIZE = 32 * 1024
HEADER = struct.Struct(">IBI")  # a packet's length and type, and the number of its request
DATA_HEADER = struct.Struct(">IBII")  # the same, and the length of the data
Result = TypeVar("Result")


class Reply(NamedTuple):
    """An answer: its packet type, and its fields behind the request's number."""

    kind: int
    fields: Reader


# Requests that may take a server long: an object store copies in a RENAME, and writes in a CLOSE; an archive fetches
# what is opened, and many servers list all of a large directory before they answer.
SLOW_KINDS = frozenset(
    {
        *(Kind.OPEN, Kind.CLOSE, Kind.OPENDIR, Kind.READDIR, Kind.SETSTAT, Kind.FSETSTAT),
        *(Kind.REMOVE, Kind.MKDIR, Kind.RMDIR, Kind.RENAME, Kind.EXTENDED),
    }
)
QUICK_EXTENSIONS = (string(b"limits@openssh.com"), string(b"statvfs@openssh.com"))


class Answer(Future[Reply]):
    """The answer to a request.

    Attributes:
        is_slow: whether the request may take the server long.
    """

    def __init__(self, kind: Kind, fields: bytes, place: Place | None = None) -> None:
        """Take what was asked for."""
        super().__init__()
        self.is_slow = kind in SLOW_KINDS and not fields.startswith(QUICK_EXTENSIONS)
        self.place = place
        self.closes = fields[UINT32.size :] if kind == Kind.CLOSE else None


class Landing(Protocol):
    """Where the data of a READ goes. All is called in paramiko's thread, which serves all channels: so be quick."""

    def announce(self, size: int) -> None:
        """Take note of how much there is."""

    def take(self, data: memoryview) -> None:
        """Take a piece; the view is good until the call returns."""

    def finish(self, reply: Reply | None, error: SFTPError | None) -> None:
        """End: with neither all was taken, with `reply` there is another answer than data, with `error` none at all."""


class Source:
    """A local file that is read by the threads of channels, as long as its upload runs."""

    def __init__(self, descriptor: int) -> None:
        """Read this descriptor, which belongs to somebody else."""
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._over = False

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer.

        Raises:
            SFTPError: the file cannot be read, is shorter than it was, or is not read any more.
        """
        with self._lock:
            if self._over:
                message = "the upload has ended"
                raise TransferIncomplete(message)
            try:
                while buffer:
                    count = os.preadv(self._descriptor, [buffer], offset)
                    if count == 0:
                        message = "the file became shorter while it was read"
                        raise TransferIncomplete(message)
                    buffer, offset = buffer[count:], offset + count
            except OSError as error:
                raise from_os_error(error) from error

    def end(self) -> None:
        """Read no more: the descriptor may be another file's from now on."""
        with self._lock:
            self._over = True


class FileWrite(NamedTuple):
    """A WRITE request whose data is read from a file when its turn has come."""

    number: int
    handle: bytes
    source: Source
    offset: int
    length: int

    def packet_into(self, buffer: memoryview) -> memoryview:
        """Put the packet together (draft-ietf-secsh-filexfer-02, section 6.4), and return it.

        Raises:
            SFTPError: the file cannot be read, or is shorter than it was.
        """
        fields = b"".join((string(self.handle), struct.pack(">QI", self.offset, self.length)))
        start = HEADER.size + len(fields)
        end = start + self.length
        buffer[:start] = HEADER.pack(end - 4, Kind.WRITE, self.number) + fields
        self.source.read_into(buffer[start:end], self.offset)
        return buffer[:end]


Outgoing = bytes | FileWrite


class SFTPChannel:
    """A channel on which the SFTP subsystem answers.

    Attributes:
        extensions: the names that the server announced in its VERSION packet, and their data.
        request_sizes: what it said of the sizes of READ and WRITE requests, once it was asked.
        round_trip: the shortest time in seconds in which it answered a request.
        joins_requests: whether several requests may go in one message of the channel. RFC 4254 makes a stream of
            them, but libssh's server answers only the first one in each.
    """

    def __init__(
        self, channel: paramiko.Channel, on_activity: Callable[[], None], open_files: OpenFiles | None = None
    ) -> None:
        """Take over a channel, before its subsystem is started.

        Parameters:
            channel: nobody else may read or write it.
            on_activity: called for whatever arrives: the peer is alive.
            open_files: told of all that is opened and closed.
        """
        self.extensions: dict[str, bytes] = {}
        self.request_sizes: tuple[int, int] | None = None
        self.round_trip = float("inf")
        self.joins_requests = False
        self._channel = channel
        self._on_activity = on_activity
        self._open_files = open_files or OpenFiles()
        self._lock = threading.Lock()
        self._replies: dict[int, tuple[Future[Reply] | Landing, float]] = {}
        self._next_number = 0
        self._strangers = 0
        self._failure: SFTPError | None = None
        self._to_write: deque[Outgoing] = deque()
        self._widen_by = 0
        self._something_to_write = threading.Condition(self._lock)
        self._version: Future[Reply] = Future()
        self._parser = _Parser(self._landing, self._landed, self._take_packet)
        divert(channel, self._receive, self._ended)
        name = f"sftp-channel-{channel.get_id()}-writer"
        self._writer = threading.Thread(target=self._write_requests, name=name, daemon=True)
        self._writer.start()

    def start(self, wait: Callable[[Future[Reply]], Reply]) -> None:
        """Agree on the version and learn the server's extensions (section 4).

        Raises:
            Unsupported: the server speaks a later version, or something that is not SFTP. What an earlier one lacks
                (LSTAT, links) is done without.
        """
        with self._lock:
            self._to_write.append(HEADER.pack(5, Kind.INIT, VERSION))
            self._something_to_write.notify()
        reply = wait(self._version)
        version = reply.fields.uint32()
        if version > VERSION:
            message = f"the server speaks version {version} of SFTP, this client version {VERSION}"
            raise Unsupported(message)
        self.extensions = dict(reply.fields.extensions())

    @property
    def is_amid_an_answer(self) -> bool:
        """Whether the server has begun an answer and not ended it: what keeps it from that is nothing that it does."""
        return self._parser.is_amid_a_packet

    @property
    def in_flight(self) -> int:
        """How many requests were not answered yet."""
        return len(self._replies)

    def request(self, kind: Kind, fields: bytes, place: Place | None = None) -> Future[Reply]:
        """Send a request and return the future of its answer.

        The future fails with `ConnectionLost` where the server does not answer any more.

        Parameters:
            kind: of the request.
            fields: behind its number.
            place: of what is to be opened, if it was waited for.
        """
        if place is None and kind in {Kind.OPEN, Kind.OPENDIR}:
            place = self._open_files.ask(self, is_directory=kind == Kind.OPENDIR)
        future = Answer(kind, fields, place)
        if future.closes is not None:
            self._open_files.closing(self, future.closes)
        self._send(future, lambda number: HEADER.pack(5 + len(fields), kind, number) + fields)
        return future

    def read(self, handle: bytes, offset: int, length: int, landing: Landing) -> None:
        """Send a READ request (section 6.4) whose data goes to `landing`."""
        fields = string(handle) + struct.pack(">QI", offset, length)
        self._send(landing, lambda number: HEADER.pack(5 + len(fields), Kind.READ, number) + fields)

    def write(self, handle: bytes, offset: int, length: int, source: Source) -> Future[Reply]:
        """Send a WRITE request (section 6.4) of a part of a file, which stands at the same place in both files."""
        future: Future[Reply] = Future()
        self._send(future, lambda number: FileWrite(number, handle, source, offset, length))
        return future

    @property
    def closed(self) -> bool:
        """Whether no request is answered any more."""
        return self._failure is not None

    def fail(self, error: SFTPError) -> None:
        """End the channel: each request that is not answered yet, and each later one, fails with `error`."""
        with self._lock:
            if self._failure is not None:
                return
            self._failure = error
            unanswered = [self._version, *(expected for expected, _ in self._replies.values())]
            self._replies.clear()
            self._to_write.clear()
            self._something_to_write.notify()
        self._open_files.ended(self)
        for expected in unanswered:
            _complete(expected, error=error)

    def close(self, error: SFTPError) -> None:
        """End the channel, and tell the server; the channel's thread ends by itself."""
        self.fail(error)
        try:
            self._channel.close()
        except (OSError, EOFError):
            return  # the transport is gone, and the channel with it

    def join(self) -> None:
        """Wait for the channel's thread; it ends as soon as the transport is closed."""
        if self._writer is not threading.current_thread():
            self._writer.join()

    # --- to the server ---

    def _send(self, expected: Future[Reply] | Landing, packet: Callable[[int], Outgoing]) -> None:
        with self._lock:
            failure = self._failure
            if failure is None:
                number = self._next_number
                self._next_number = (number + 1) & 0xFFFFFFFF
                self._replies[number] = expected, time.monotonic()
                self._to_write.append(packet(number))
                self._something_to_write.notify()
        if failure is not None:
            self._open_files.ended(self)
            _complete(expected, error=failure)

    def _write_requests(self) -> None:
        buffer = memoryview(bytearray())
        try:
            while (item := self._next_to_write()) is not None:
                if isinstance(item, FileWrite):
                    if len(buffer) < LONGEST_PACKET:
                        buffer = memoryview(bytearray(LONGEST_PACKET))
                    self._write_file(item, buffer)
                elif item:
                    send_all(self._channel, memoryview(item))
        except Exception as error:  # noqa: BLE001 - whatever ends this thread ends the channel, with a name
            self.fail(_lost(error))
        finally:
            with suppress(OSError, EOFError, paramiko.SSHException):  # the transport is gone, and the channel with it
                self._channel.close()

    def _write_file(self, item: FileWrite, buffer: memoryview) -> None:
        """Send a part of a file; where it cannot be read, that is the answer to the request."""
        try:
            packet = item.packet_into(buffer)
        except SFTPError as error:
            failure = error
        else:
            send_all(self._channel, packet)
            return
        with self._lock:
            expected, _ = self._replies.pop(item.number, (None, 0.0))
        if expected is not None:
            _complete(expected, error=failure)

    def _next_to_write(self) -> Outgoing | None:
        """Wait for requests and take one part of a file, or as many others as fit; `None` at the channel's end."""
        with self._lock:
            while not self._to_write and not self._widen_by and self._failure is None:
                self._something_to_write.wait()
            if self._failure is not None:
                return None
            widen_by, self._widen_by = self._widen_by, 0
            item = self._join_requests()
        if widen_by:
            widen_window(self._channel, widen_by)
        return item

    def _join_requests(self) -> Outgoing:
        packets: list[bytes] = []
        size = 0
        while self._to_write:
            item = self._to_write[0]
            if isinstance(item, FileWrite):
                return b"".join(packets) if packets else self._to_write.popleft()
            if packets and (not self.joins_requests or size + len(item) > WRITE_SIZE):
                break
            packets.append(item)
            size += len(item)
            self._to_write.popleft()
        return b"".join(packets)

    # --- from the server, in paramiko's thread ---

    def _receive(self, data: Data) -> None:
        self._on_activity()
        try:
            if self._failure is None:
                self._parser.take(memoryview(data))
        except SFTPError as error:
            self.fail(error)
        except Exception as error:  # noqa: BLE001 - whatever it is ends the channel, with a name
            self.fail(_lost(error))
        widen_by = taken(self._channel, len(data))
        if widen_by:
            with self._lock:
                self._widen_by += widen_by
                self._something_to_write.notify()

    def _ended(self) -> None:
        self.fail(ConnectionLost("the server closed the SFTP channel"))

    def _landing(self, number: int) -> Landing | None:
        expected, _ = self._replies.get(number, (None, 0.0))
        return None if isinstance(expected, Future) else expected

    def _landed(self, number: int) -> None:
        with self._lock:
            expected, _ = self._replies.pop(number, (None, 0.0))
        if expected is not None:
            self._strangers = 0
            _complete(expected)

    def _take_packet(self, packet: bytes, held: object = None) -> None:
        kind, fields = packet[0], Reader(packet, 1, held)
        if kind == Kind.VERSION:
            if self._version.done():
                self._note_stranger()
            _complete(self._version, Reply(kind, fields))
            return
        number = fields.uint32()
        with self._lock:
            expected, sent = self._replies.pop(number, (None, 0.0))
        if expected is None:
            self._note_stranger()
            return
        self._strangers = 0
        self.round_trip = min(self.round_trip, time.monotonic() - sent)
        try:
            self._note_handle(expected, packet)
        except HandleInUse as error:
            _complete(expected, error=error)
            raise
        _complete(expected, Reply(kind, fields))

    def _note_handle(self, expected: Future[Reply] | Landing, packet: bytes) -> None:
        """Take note of what is open, before anything that comes behind this answer.

        Raises:
            HandleInUse: nothing on this channel proves anything any more.
        """
        if not isinstance(expected, Answer):
            return
        if expected.closes is not None:
            self._open_files.closed(self, expected.closes)
        if expected.place is None:
            return
        if packet[0] != Kind.HANDLE:
            self._open_files.refused(expected.place)
            return
        try:
            handle = Reader(packet, HEADER.size - UINT32.size).string()
        except NotSFTP:
            self._open_files.refused(expected.place)
        else:
            self._open_files.granted(expected.place, handle)

    def _note_stranger(self) -> None:
        """Pass over an answer that came twice, or to a number that was never given: it harms nobody, unless it is all.

        Raises:
            ConnectionLost: there is nothing else, on and on.
        """
        self._strangers += 1
        if self._strangers > MOST_STRANGERS:
            message = f"the server's last {MOST_STRANGERS} answers were to requests that nobody made"
            raise ConnectionLost(message)


class _Parser:
    """Cuts what arrives into SFTP packets; the data of an awaited READ passes by without being put together."""

    def __init__(
        self,
        landing: Callable[[int], Landing | None],
        landed: Callable[[int], None],
        on_packet: Callable[..., None],
    ) -> None:
        """Ask `landing` who awaits the data of a READ and tell `landed` when it is there; `on_packet` gets the rest."""
        self._landing_of = landing
        self._landed = landed
        self._on_packet = on_packet
        self._begun = False
        self._partial = bytearray()  # a packet that is cut
        self._budget: Budget | None = None  # for a long one
        self._landing: Landing | None = None
        self._number = self._missing = 0  # of the data that is passing by

    @property
    def is_amid_a_packet(self) -> bool:
        """Whether a packet has begun and not ended."""
        return bool(self._partial) or self._landing is not None

    def take(self, data: memoryview) -> None:
        """Take the next bytes of the stream."""
        while data:
            if self._landing is not None:
                data = self._pass_on(self._landing, data)
                continue
            due = self._due(self._partial or data)
            if not self._partial and due <= len(data):
                self._act(data[:due])
                data = data[due:]
                continue
            wanted = max(0, due - len(self._partial))
            if self._budget is not None:
                self._budget.take(2 * min(wanted, len(data)))
            self._partial += data[:wanted]
            data = data[wanted:]
            if self._due(self._partial) == len(self._partial):
                start, self._partial = self._partial, bytearray()
                self._act(memoryview(start))

    def _due(self, start: Data | bytearray) -> int:
        """Tell how much of a packet must be there to go on: its header if it holds awaited data, else all of it."""
        if len(start) < 5:  # noqa: PLR2004 - length and type
            return 5
        length, kind = struct.unpack_from(">IB", start)
        if not self._begun and kind != Kind.VERSION:
            raise _not_sftp(bytes(start))
        if kind == Kind.NAME and length > LONGEST_PACKET:
            if self._budget is None:
                self._expect_many_names(length)
        elif not 5 <= length <= LONGEST_PACKET:  # noqa: PLR2004 - type and number
            message = f"the server announced a packet of {length} bytes, which no SFTP answer has"
            raise NotSFTP(message)
        if kind != Kind.DATA:
            return int(4 + length)
        if len(start) < DATA_HEADER.size:
            return int(min(DATA_HEADER.size, 4 + length))
        _, _, number, size = DATA_HEADER.unpack_from(start)
        awaited = 4 + length == DATA_HEADER.size + size and self._landing_of(number) is not None
        return DATA_HEADER.size if awaited else int(4 + length)

    def _expect_many_names(self, length: int) -> None:
        """Let a packet of names take its part of the memory for names, as it comes.

        Raises:
            TooLarge: it is longer than that.
        """
        longest = most_kept() // NAMES_PART
        if length > longest:
            message = (
                f"the server sends names in a packet of {length} bytes: more than {longest} are not kept at a time"
            )
            raise TooLarge(message)
        self._budget = Budget()

    def _act(self, start: memoryview) -> None:
        self._begun = True
        if start[4] == Kind.DATA and len(start) == DATA_HEADER.size:
            length, _, number, size = DATA_HEADER.unpack_from(start)
            landing = self._landing_of(number) if 4 + length == len(start) + size else None
            if landing is not None:
                self._landing, self._number, self._missing = landing, number, size
                landing.announce(size)
                self._pass_on(landing, start[:0])  # there may be nothing to come
                return
        if self._budget is None:
            self._on_packet(bytes(start[4:]))
            return
        budget, self._budget = self._budget, None
        self._on_packet(bytes(start[4:]), budget)
        budget.keep_only(len(start))

    def _pass_on(self, landing: Landing, data: memoryview) -> memoryview:
        piece = data[: self._missing]
        self._missing -= len(piece)
        if piece:
            landing.take(piece)
        if not self._missing:
            self._landing = None
            self._landed(self._number)
        return data[len(piece) :]


def _nobody_is_excused() -> bool:
    return False


def wait_for(
    ready: Callable[[float], bool],
    deadline: Deadline,
    silence: Callable[[], float],
    longest_silence: float,
    is_excused: Callable[[], bool] = _nobody_is_excused,
) -> None:
    """Wait for what the server owes, and give the wait a name where it is in vain.

    Parameters:
        ready: waits for so many seconds at most, and tells whether it is there.
        deadline: of the call.
        silence: seconds since anything came from the server.
        longest_silence: seconds; a server that is silent for longer while it owes an answer is taken for dead,
        is_excused: unless there is a reason for the silence. It may take its time to find out.

    Raises:
        DeadlineExceeded: the call's time has run out.
        ConnectionLost: the server is dead.
    """
    asked = time.monotonic()
    while True:
        quiet = min(silence(), time.monotonic() - asked)
        if ready(deadline.wait_at_most(max(0.0, longest_silence - quiet))):
            return
        deadline.check()
        if min(silence(), time.monotonic() - asked) >= longest_silence:
            if is_excused():
                asked = time.monotonic()
                continue
            deadline.check()
            message = f"the server has answered nothing for {longest_silence:g} s"
            raise ConnectionLost(message) from None


def wait_for_answer(
    future: Future[Result],
    deadline: Deadline,
    silence: Callable[[], float],
    longest_silence: float,
    is_excused: Callable[[], bool] = _nobody_is_excused,
) -> Result:
    """Wait for an answer; see `wait_for`."""

    def ready(seconds: float) -> bool:
        try:
            future.exception(seconds)
        except (FutureTimeoutError, TimeoutError):
            return False
        return True

    wait_for(ready, deadline, silence, longest_silence, is_excused)
    return future.result()


def _complete(expected: Future[Reply] | Landing, reply: Reply | None = None, error: SFTPError | None = None) -> None:
    if not isinstance(expected, Future):
        expected.finish(reply, error)
        return
    try:
        if error is not None:
            expected.set_exception(error)
        else:
            expected.set_result(reply)  # type: ignore[arg-type] # only a landing is completed with neither
    except InvalidStateError:
        pass  # answered twice, or failed meanwhile: the first outcome stands


def _lost(error: BaseException) -> ConnectionLost:
    words = str(error)
    return ConnectionLost(f"the connection broke ({excerpt(words)})" if words else "the connection broke")


def _not_sftp(start: bytes) -> Unsupported:
    text = excerpt(start[:80].decode("utf-8", "replace"), 80)
    return Unsupported(
        f"the server does not speak SFTP, it began with {text!r}: "
        "an SSH account for SFTP must not run a shell that prints",
    )
