"""SFTP requests in flight over one SSH channel, from any number of threads.

A request gets a number and a future; a thread of the channel writes requests, another one reads answers and
completes the future that has their number, in whatever order they come. So no caller ever blocks in a write: it
waits for its future, and for no longer than its deadline and the server's time limit allow. paramiko's own
`SFTPClient` cannot be shared in this way (one reader takes another's answer), and keeps neither the server's status
codes nor its list of extensions.
"""

from __future__ import annotations

import struct
import threading
import time
from collections import deque
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from iot.sftp.client._errors import ConnectionLost, SFTPError, Unsupported, printable
from iot.sftp.client._packets import VERSION, Kind, Reader

if TYPE_CHECKING:
    from collections.abc import Callable

    import paramiko

    from iot.sftp.client._deadline import Deadline

# The longest packet that is accepted from a server: OpenSSH's own limit is 256 KiB
# (SFTP_MAX_MSG_LENGTH), and no answer to a request of ours has a reason to be longer.
LONGEST_PACKET = 256 * 1024 + 1024
Result = TypeVar("Result")

READ_SIZE = 128 * 1024
# Requests that wait for the writer are joined up to this size: fewer, fuller SSH packets.
WRITE_SIZE = 256 * 1024


class Reply(NamedTuple):
    """An answer: its packet type, and its fields behind the request's number."""

    kind: int
    fields: Reader


class SFTPChannel:
    """A channel on which the SFTP subsystem answers.

    `extensions` maps the names that the server announced in its VERSION packet to their data; `request_sizes` is
    what it said of the sizes of READ and WRITE requests, once it was asked.
    """

    def __init__(self, channel: paramiko.Channel, on_activity: Callable[[], None]) -> None:
        """Take over a channel whose subsystem has been started.

        Parameters:
            channel: nobody else may read or write it.
            on_activity: called for whatever arrives: the peer is alive.
        """
        self.extensions: dict[str, bytes] = {}
        self.request_sizes: tuple[int, int] | None = None
        self._channel = channel
        self._on_activity = on_activity
        self._lock = threading.Lock()
        self._replies: dict[int, Future[Reply]] = {}
        self._next_number = 0
        self._failure: SFTPError | None = None
        self._to_write: deque[bytes] = deque()
        self._something_to_write = threading.Condition(self._lock)
        self._version: Future[Reply] = Future()
        name = f"sftp-channel-{channel.get_id()}"
        self._reader = threading.Thread(target=self._read_replies, name=f"{name}-reader", daemon=True)
        self._writer = threading.Thread(target=self._write_requests, name=f"{name}-writer", daemon=True)
        self._reader.start()
        self._writer.start()

    def start(self, wait: Callable[[Future[Reply]], Reply]) -> None:
        """Agree on the version and learn the server's extensions (section 4).

        Raises:
            Unsupported: the server speaks another version, or something that is not SFTP.
        """
        self._enqueue(struct.pack(">IBI", 5, Kind.INIT, VERSION))
        reply = wait(self._version)
        version = reply.fields.uint32()
        if version != VERSION:
            message = f"the server speaks version {version} of SFTP, this client version {VERSION}"
            raise Unsupported(message)
        self.extensions = dict(reply.fields.extensions())

    def request(self, kind: Kind, fields: bytes) -> Future[Reply]:
        """Send a request and return the future of its answer.

        The future fails with `ConnectionLost` where the server does not answer any more.
        """
        future: Future[Reply] = Future()
        with self._lock:
            if self._failure is not None:
                future.set_exception(self._failure)
                return future
            number = self._next_number
            self._next_number = (number + 1) & 0xFFFFFFFF
            self._replies[number] = future
            self._to_write.append(struct.pack(">IBI", 5 + len(fields), kind, number) + fields)
            self._something_to_write.notify()
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
            unanswered = [self._version, *self._replies.values()]
            self._replies.clear()
            self._to_write.clear()
            self._something_to_write.notify()
        for future in unanswered:
            _complete(future, error=error)

    def close(self, error: SFTPError) -> None:
        """End the channel, and tell the server; the channel's threads end by themselves."""
        self.fail(error)
        try:
            self._channel.close()
        except (OSError, EOFError):
            return  # the transport is gone, and the channel with it

    def join(self) -> None:
        """Wait for the channel's threads; they end as soon as the transport is closed."""
        for thread in (self._reader, self._writer):
            if thread is not threading.current_thread():
                thread.join()

    def _enqueue(self, packet: bytes) -> None:
        with self._lock:
            self._to_write.append(packet)
            self._something_to_write.notify()

    def _write_requests(self) -> None:
        try:
            while (packets := self._take_packets()) is not None:
                self._channel.sendall(packets)
        except Exception as error:  # noqa: BLE001 - whatever ends this thread ends the channel, with a name
            self.fail(_lost(error))

    def _take_packets(self) -> bytes | None:
        """Wait for requests and take as many as fit into one write; `None` at the channel's end."""
        with self._lock:
            while not self._to_write and self._failure is None:
                self._something_to_write.wait()
            if self._failure is not None:
                return None
            packets: list[bytes] = []
            size = 0
            while self._to_write and (not packets or size + len(self._to_write[0]) <= WRITE_SIZE):
                size += len(self._to_write[0])
                packets.append(self._to_write.popleft())
            return b"".join(packets)

    def _read_replies(self) -> None:
        buffer = bytearray()
        try:
            while data := self._channel.recv(READ_SIZE):
                self._on_activity()
                buffer += data
                self._take_replies(buffer)
            self.fail(ConnectionLost("the server closed the SFTP channel"))
        except SFTPError as error:
            self.fail(error)
        except Exception as error:  # noqa: BLE001 - whatever ends this thread ends the channel, with a name
            self.fail(_lost(error))

    def _take_replies(self, buffer: bytearray) -> None:
        """Complete the futures of all whole packets at the start of `buffer`, and take those packets out of it."""
        start = 0
        while len(buffer) - start >= 5:  # noqa: PLR2004 - length and type
            length = int.from_bytes(buffer[start : start + 4], "big")
            if not self._version.done() and buffer[start + 4] != Kind.VERSION:
                raise _not_sftp(bytes(buffer))
            if not 5 <= length <= LONGEST_PACKET:  # noqa: PLR2004 - type and number
                message = f"the server announced a packet of {length} bytes, which no SFTP answer has"
                raise ConnectionLost(message)
            if len(buffer) - start < 4 + length:
                break
            self._take_reply(bytes(memoryview(buffer)[start + 4 : start + 4 + length]))
            start += 4 + length
        del buffer[:start]

    def _take_reply(self, packet: bytes) -> None:
        kind = packet[0]
        if kind == Kind.VERSION:
            _complete(self._version, Reply(kind, Reader(packet[1:])))
            return
        fields = Reader(packet[1:])
        number = fields.uint32()
        with self._lock:
            future = self._replies.pop(number, None)
        if future is not None:  # an answer that came twice, or to a number that was never given, harms nobody
            _complete(future, Reply(kind, fields))


def wait_for(
    future: Future[Result], deadline: Deadline, silence: Callable[[], float], longest_silence: float
) -> Result:
    """Wait for an answer, and give the wait a name where it is in vain.

    Parameters:
        future: of a request, or of anything else that the server has to answer.
        deadline: of the call.
        silence: seconds since anything came from the server.
        longest_silence: seconds; a server that is silent for longer while it owes an answer is taken for dead.

    Raises:
        DeadlineExceeded: the call's time has run out.
        ConnectionLost: the server is dead.
    """
    asked = time.monotonic()
    while True:
        quiet = min(silence(), time.monotonic() - asked)
        try:
            return future.result(deadline.wait_at_most(max(0.0, longest_silence - quiet)))
        except (FutureTimeoutError, TimeoutError):
            deadline.check()
            if min(silence(), time.monotonic() - asked) >= longest_silence:
                message = f"the server has answered nothing for {longest_silence:g} s"
                raise ConnectionLost(message) from None


def _complete(future: Future[Reply], reply: Reply | None = None, error: BaseException | None = None) -> None:
    try:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(reply)  # type: ignore[arg-type] # one of the two is always given
    except InvalidStateError:
        pass  # answered twice, or failed meanwhile: the first outcome stands


def _lost(error: BaseException) -> ConnectionLost:
    words = str(error)
    return ConnectionLost(f"the connection broke ({printable(words, 200)})" if words else "the connection broke")


def _not_sftp(start: bytes) -> Unsupported:
    text = printable(start[:80].decode("utf-8", "replace"), 80)
    return Unsupported(
        f"the server does not speak SFTP, it began with {text!r}: "
        "an SSH account for SFTP must not run a shell that prints",
    )
