"""A TCP link that a test can cut, hold, slow down, stall or refuse. Nothing is swallowed, as TCP swallows nothing."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PIECE = 65536  # bytes


class Link:
    """Relays from an address of its own to a server; `repair` makes it whole again."""

    def __init__(self, target: tuple[str, int], address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        """Relay to `target`, which may be changed."""
        self.target = target
        self.address = address
        self.rate: float | None = None  # bytes per second of each way
        self._left: int | None = None  # bytes until the next cut
        self._stalled = False
        self._flows = {True: threading.Event(), False: threading.Event()}  # by "is it to the client"
        self._listener: socket.socket | None = None
        self._placeholder: socket.socket | None = None  # bound, and not listening: nobody else takes the port
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[Link]:
        """Listen, and end everything in the end."""
        self.repair()
        try:
            yield self
        finally:
            self.refuse()
            self._give_up_placeholder()
            for flow in self._flows.values():
                flow.set()

    def repair(self) -> None:
        """Let everything pass; what was held arrives now, and connections that were stalled are ended."""
        stalled, self._stalled = self._stalled, False
        if stalled:  # not earlier: a client that is quick would be stalled again, for good
            self.cut()
        self.rate, self._left = None, None
        for flow in self._flows.values():
            flow.set()
        if self._listener is None:
            self._listener = socket.create_server(self.address)
            self.address = self._listener.getsockname()
            self._give_up_placeholder()
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """End all connections."""
        with self._lock:
            connections, self._open = self._open, []
        for connection in connections:
            _end(connection)

    def cut_after(self, count: int) -> None:
        """End all connections when so many bytes have passed."""
        self._left = count

    def hold(self, *, down: bool = True, up: bool = True) -> None:
        """Let nothing pass to the client (`down`) or to the server (`up`), but lose nothing."""
        for is_down, wanted in ((True, down), (False, up)):
            if wanted:
                self._flows[is_down].clear()

    def stall(self) -> None:
        """Accept connections and say nothing on them; those that there are go on."""
        self._stalled = True

    def refuse(self) -> None:
        """Refuse connections, and end those that there are."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            self._placeholder = socket.socket()
            self._placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._placeholder.bind(self.address)
        self.cut()

    def _give_up_placeholder(self) -> None:
        placeholder, self._placeholder = self._placeholder, None
        if placeholder is not None:
            placeholder.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with suppress(OSError):  # it was cut
            self._relay(client)

    def _relay(self, client: socket.socket) -> None:
        ends = [client]
        if not self._stalled:
            try:
                ends.append(socket.create_connection(self.target, timeout=5))
            except OSError:
                client.close()
                return
        with self._lock:
            self._open += ends
        for end in ends:
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(ends) == 1:
            if not self._stalled:  # repaired meanwhile
                _end(client)
            return
        threading.Thread(target=self._pump, args=(ends[1], client, True), daemon=True).start()
        self._pump(client, ends[1], False)  # noqa: FBT003 - a thread's arguments have no names
        for end in ends:
            self._forget(end)

    def _pump(self, source: socket.socket, sink: socket.socket, down: bool) -> None:
        with suppress(OSError):
            while data := source.recv(PIECE):
                self._flows[down].wait()
                if self.rate is not None:
                    time.sleep(len(data) / self.rate)
                passes = self._passing(len(data))
                sink.sendall(data[:passes])
                if passes < len(data):
                    self.cut()
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _passing(self, size: int) -> int:
        """Return how many of so many bytes pass before the cut."""
        with self._lock:
            if self._left is None:
                return size
            self._left -= size
            if self._left >= 0:
                return size
            passes, self._left = size + self._left, None
            return passes

    def _forget(self, end: socket.socket) -> None:
        with self._lock:
            if end in self._open:
                self._open.remove(end)
        end.close()


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
