"""A link that is far away: a TCP relay that holds every byte for half a round trip, and may carry only so many.

One thread and `select`: what comes in is stamped with the time at which it is due and goes out then, in order, both
ways alike. A rate is that of a wire: each piece occupies it for its length, one after the other, and the delay comes
on top. What is under way is bounded; beyond that the sender is no longer read from, which it learns from TCP.

It ends TCP: a connection is accepted at once, there is no loss, and no congestion window opens slowly. What it shows
is how a client copes with waiting, not how a TCP does.
"""

from __future__ import annotations

import argparse
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

PIECE = 256 * 1024  # bytes read at once
PIECES_A_SEND = 64
UNDER_WAY = 64 * 1024 * 1024  # bytes each way: 1 GB/s at 50 ms one way
SOCKET_BUFFER = 4 * 1024 * 1024  # bytes, where there is no rate
# A wire with a rate has a queue before it, as a router has, and what stands in the kernel's buffers is one too.
QUEUE = 0.1  # seconds
QUEUE_BUFFER = 256 * 1024  # bytes
SLICE = 0.005  # seconds that a piece occupies the wire at most


@dataclass(frozen=True)
class Link:
    """A link: `round_trip` seconds, and `rate` bytes per second each way, or `None` for as many as can be."""

    round_trip: float = 0.0
    rate: float | None = None

    @property
    def is_direct(self) -> bool:
        """Whether no proxy is needed."""
        return not self.round_trip and self.rate is None


class Direction:
    """What is under way from one socket to another."""

    def __init__(self, source: socket.socket, sink: socket.socket, link: Link) -> None:
        """Carry bytes from `source` to `sink`."""
        self.source, self.sink = source, sink
        self._delay, self._rate = link.round_trip / 2, link.rate
        self._piece = PIECE if self._rate is None else max(512, min(PIECE, int(self._rate * SLICE)))
        self._pieces: deque[tuple[float, memoryview]] = deque()
        self._under_way = 0
        self._wire_is_free = 0.0  # when the last piece has left
        self._end: float | None = None  # when the source's end is due at the sink
        self.ended = False

    def wants_to_read(self, now: float) -> bool:
        """Return whether there is room for more."""
        return self._end is None and self._under_way < UNDER_WAY and self._wire_is_free - now < QUEUE

    def due(self) -> float | None:
        """Return when something is to be sent; `None` if nothing is under way."""
        if self._pieces:
            return self._pieces[0][0]
        return None if self.ended else self._end

    def room_at(self) -> float | None:
        """Return when the queue before the wire has room again, if that is what reading waits for."""
        return self._wire_is_free - QUEUE if self._end is None and self._rate is not None else None

    def read(self, now: float) -> None:
        """Take what is there, and say when it is due."""
        data = self.source.recv(self._piece)
        if self._rate is not None:
            self._wire_is_free = max(now, self._wire_is_free) + len(data) / self._rate
        due = max(now, self._wire_is_free) + self._delay
        if data:
            self._pieces.append((due, memoryview(data)))
            self._under_way += len(data)
        else:
            self._end = due

    def write(self, now: float) -> None:
        """Send what is due."""
        ready: list[memoryview] = []
        for due, piece in self._pieces:
            if due > now or len(ready) == PIECES_A_SEND:
                break
            ready.append(piece)
        if ready:
            sent = self.sink.sendmsg(ready)
            self._under_way -= sent
            self._forget(sent)
        if not self._pieces and self._end is not None and self._end <= now and not self.ended:
            self.ended = True
            self.sink.shutdown(socket.SHUT_WR)

    def _forget(self, sent: int) -> None:
        while sent:
            due, piece = self._pieces.popleft()
            if len(piece) > sent:
                self._pieces.appendleft((due, piece[sent:]))
                return
            sent -= len(piece)


class Proxy:
    """Relays connections to `target` over a link."""

    def __init__(self, listener: socket.socket, target: tuple[str, int], link: Link) -> None:
        """Relay what `listener` accepts."""
        self._listener, self._target, self._link = listener, target, link
        self._directions: list[Direction] = []

    def run(self) -> None:
        """Relay until the process ends."""
        while True:
            now = time.monotonic()
            readable: dict[socket.socket, Direction] = {}
            writable: dict[socket.socket, Direction] = {}
            wake = now + 60
            for direction in self._directions:
                due = direction.due()
                if due is not None and due <= now:
                    writable[direction.sink] = direction
                elif due is not None:
                    wake = min(wake, due)
                if direction.wants_to_read(now):
                    readable[direction.source] = direction
                elif (room_at := direction.room_at()) is not None:
                    wake = min(wake, max(room_at, now + 0.001))
            # `select`, since its time limit is finer than the milliseconds of `epoll`.
            to_read, to_write, _ = select.select([self._listener, *readable], [*writable], [], max(0.0, wake - now))
            now = time.monotonic()
            for source in to_read:
                if source is self._listener:
                    self._accept()
                else:
                    self._attempt(readable[source], readable[source].read, now)
            for sink in to_write:
                self._attempt(writable[sink], writable[sink].write, now)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.socket()
        _set_buffer(server, self._link)
        try:
            server.connect(self._target)
        except OSError:
            client.close()
            return
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.setblocking(False)  # noqa: FBT003 - the socket's own signature
        self._directions += [Direction(client, server, self._link), Direction(server, client, self._link)]

    def _attempt(self, direction: Direction, step: Callable[[float], None], now: float) -> None:
        """Read or write; a connection that broke, or ended both ways, is closed."""
        if direction not in self._directions:
            return
        pair = [other for other in self._directions if other.source in {direction.source, direction.sink}]
        try:
            step(now)
        except BlockingIOError:
            return
        except OSError:
            for one in pair:
                one.ended = True
        if all(one.ended for one in pair):
            for one in pair:
                self._directions.remove(one)
                one.source.close()


def _set_buffer(end: socket.socket, link: Link) -> None:
    """Size a socket's buffers, which is inherited from a listener, and must be done before connecting."""
    size = SOCKET_BUFFER if link.rate is None else QUEUE_BUFFER
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        end.setsockopt(socket.SOL_SOCKET, option, size)


def main() -> None:
    """Run a proxy as a process; its first line says the port."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("target", help="host:port")
    parser.add_argument("--round-trip", type=float, default=0.0, help="seconds")
    parser.add_argument("--rate", type=float, help="bytes per second each way")
    arguments = parser.parse_args()
    host, _, port = arguments.target.rpartition(":")
    link = Link(arguments.round_trip, arguments.rate)
    with socket.socket() as listener, suppress(KeyboardInterrupt):
        _set_buffer(listener, link)
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        print(listener.getsockname()[1], flush=True)  # noqa: T201 - the caller reads it
        Proxy(listener, (host, int(port)), link).run()


@contextmanager
def running(target: tuple[str, int], link: Link) -> Iterator[tuple[int, int]]:
    """Run a proxy to `target` as a process of its own; give its port and its process id."""
    command = [sys.executable, "-m", "benchmarks.proxy", f"{target[0]}:{target[1]}"]
    command += ["--round-trip", f"{link.round_trip}"]
    if link.rate is not None:
        command += ["--rate", f"{link.rate}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own
    try:
        line = process.stdout.readline() if process.stdout else ""
        yield int(line), process.pid
    finally:
        process.terminate()
        process.wait()
        if process.stdout:
            process.stdout.close()


if __name__ == "__main__":
    main()
