"""A TCP relay that counts what passes, and can cut a connection."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

PIECE = 256 * 1024  # bytes
HEADERS = 52  # bytes of a TCP segment over IPv4 with its timestamps (RFC 9293, RFC 7323)
SEGMENTS = struct.Struct("136x2I")  # `tcpi_segs_out` and `tcpi_segs_in` of Linux's struct tcp_info


@dataclass(frozen=True)
class Passed:
    """What has passed, both ways together.

    Attributes:
        content: bytes that TCP carried.
        segments: of TCP, those that only acknowledge included, as the kernel has counted them.
    """

    content: int = 0
    segments: int = 0

    def __sub__(self, earlier: Passed) -> Passed:
        """Return what has passed since then."""
        return Passed(self.content - earlier.content, self.segments - earlier.segments)

    @property
    def on_the_wire(self) -> int:
        """Bytes with the headers of the segments."""
        return self.content + HEADERS * self.segments


class Relay:
    """Relays from an address of its own to a server."""

    def __init__(self, target: tuple[str, int], address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        """Take both addresses; nothing listens yet."""
        self._target, self.address = target, address
        self._lock = threading.Lock()
        self._content = self._segments = 0  # the segments of connections that have ended
        self._left: int | None = None
        self._open: set[socket.socket] = set()
        self._serving: list[threading.Thread] = []

    @property
    def passed(self) -> Passed:
        """What has passed so far."""
        with self._lock:
            return Passed(self._content, self._segments + sum(map(_segments, self._open)))

    def cut_after(self, count: int | None) -> None:
        """End the connection on which so many further bytes have passed, once."""
        with self._lock:
            self._left = count

    @contextmanager
    def running(self) -> Iterator[Relay]:
        """Listen until the end."""
        with socket.create_server(self.address, backlog=64) as listener:
            self.address = listener.getsockname()
            accepting = threading.Thread(target=self._accept, args=(listener,), daemon=True)
            accepting.start()
            try:
                yield self
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                accepting.join()
                for connection in list(self._open):
                    _end(connection)
                for thread in self._serving:
                    thread.join()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(near)
            self._serving.append(threading.Thread(target=self._serve, args=(near,), daemon=True))
            self._serving[-1].start()

    def _serve(self, near: socket.socket) -> None:
        with near:
            with suppress(OSError), socket.create_connection(self._target) as far:
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                back = threading.Thread(target=self._pass_on, args=(far, near), daemon=True)
                back.start()
                self._pass_on(near, far)
                back.join()
            with self._lock:
                self._segments += _segments(near)
                self._open.discard(near)

    def _pass_on(self, source: socket.socket, dest: socket.socket) -> None:
        with suppress(OSError):
            while (data := source.recv(PIECE)) and not self._is_last(len(data)):
                dest.sendall(data)
        for end in (source, dest):
            _end(end)

    def _is_last(self, size: int) -> bool:
        with self._lock:
            self._content += size
            if self._left is None:
                return False
            self._left -= size
            is_last = self._left < 0
            if is_last:
                self._left = None
            return is_last


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _segments(connection: socket.socket) -> int:
    return sum(SEGMENTS.unpack(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, SEGMENTS.size)))
