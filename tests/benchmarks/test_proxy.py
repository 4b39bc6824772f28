"""The delaying proxy, whose links all measurements over a distance believe in."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from benchmarks import ceiling, proxy
from benchmarks.proxy import Link
from tests.proxies import MICROSOCKS, socks_proxy
from tests.servers import listening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1024**2
# The bounds are those that cannot be missed on a slow machine: a link is never faster than it says.


def echo(connection: socket.socket) -> None:
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)


@contextmanager
def through(link: Link, server: Callable[[socket.socket], None]) -> Iterator[socket.socket]:
    """Connect to a server over a link."""
    with (
        listening(server) as port,
        proxy.running(("127.0.0.1", port), link) as (near, _),
        socket.create_connection(("127.0.0.1", near), timeout=60) as connection,
    ):
        yield connection


def receive(connection: socket.socket, size: int) -> bytes:
    parts = []
    while size and (data := connection.recv(min(size, MIB))):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def test_a_question_and_its_answer_take_a_round_trip() -> None:
    with through(Link(0.2), echo) as connection:
        for _ in range(3):
            start = time.monotonic()
            connection.sendall(b"?")
            assert connection.recv(1) == b"?"
            assert time.monotonic() - start >= 0.2


def test_many_questions_at_once_share_one_round_trip() -> None:
    with through(Link(1.0), echo) as connection:
        start = time.monotonic()
        for number in range(50):
            connection.sendall(bytes([number]))
            time.sleep(0.002)
        assert receive(connection, 50) == bytes(range(50))
        assert time.monotonic() - start < 50  # one after the other they would take 50 s


def test_bytes_arrive_complete_and_in_order_both_ways() -> None:
    draw = random.Random(1)  # noqa: S311 - not a secret
    data = draw.randbytes(12 * MIB)
    with through(Link(0.02), echo) as connection:

        def send() -> None:
            start = 0
            while start < len(data):
                end = start + draw.choice([1, 100, 30_000, 500_000])
                connection.sendall(data[start:end])
                start = end
            connection.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        received = receive(connection, 2 * len(data))
        sender.join()
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()


def test_a_link_carries_no_more_than_its_rate() -> None:
    link = Link(0.0, 200_000)
    with through(link, echo) as connection:
        start = time.monotonic()
        connection.sendall(bytes(100_000))
        assert len(receive(connection, 100_000)) == 100_000
        assert time.monotonic() - start >= 0.5


def test_a_rate_that_is_not_used_up_delays_nothing() -> None:
    with through(Link(0.0, 1_000_000), echo) as connection:
        start = time.monotonic()
        for _ in range(20):
            connection.sendall(bytes(1000))
            receive(connection, 1000)
        assert time.monotonic() - start < 20  # a second for each would be another link


def test_an_end_is_passed_on_behind_all_that_came_before_it() -> None:
    heard = []

    def answers_after_the_end(connection: socket.socket) -> None:
        with connection:
            heard.append(receive(connection, 10 * MIB))
            connection.sendall(b"that was all")

    with through(Link(0.05), answers_after_the_end) as connection:
        connection.sendall(bytes(MIB))
        connection.shutdown(socket.SHUT_WR)
        assert receive(connection, 100) == b"that was all"
    assert heard == [bytes(MIB)]


def test_a_server_that_goes_away_ends_the_connection() -> None:
    def resets(connection: socket.socket) -> None:
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()

    with through(Link(0.02), resets) as connection:
        connection.sendall(b"?")
        try:
            assert connection.recv(1) == b""
        except ConnectionResetError:
            return


def test_connections_do_not_wait_for_each_other() -> None:
    release = threading.Event()

    def reads_when_released(connection: socket.socket) -> None:
        release.wait(60)
        echo(connection)

    with (
        listening(reads_when_released) as port,
        proxy.running(("127.0.0.1", port), Link(0.02)) as (near, _),
        socket.create_connection(("127.0.0.1", near), timeout=60) as full,
    ):
        fill(full)
        release.set()
        with socket.create_connection(("127.0.0.1", near), timeout=60) as other:
            other.sendall(b"?")
            assert other.recv(1) == b"?"


def test_what_is_under_way_to_a_reader_that_does_not_read_is_bounded() -> None:
    release = threading.Event()

    def never_reads(_: socket.socket) -> None:
        release.wait(60)

    with through(Link(0.02), never_reads) as connection:
        sent = fill(connection)
        release.set()
    kernel = 4 * 2 * proxy.SOCKET_BUFFER + 40 * MIB  # two connections' buffers, doubled by Linux, and the sender's own
    assert sent < proxy.UNDER_WAY + kernel


def fill(connection: socket.socket) -> int:
    """Send until nothing goes any more; return how much went."""
    connection.settimeout(1)
    sent = 0
    try:
        while True:
            sent += connection.send(bytes(MIB))
    except TimeoutError:
        return sent
    finally:
        connection.settimeout(60)


def test_the_proxy_alone_can_be_measured() -> None:
    assert ceiling.speed(Link(0.01), 4 * MIB) > 0
    assert ceiling.round_trip(Link(0.01)) >= 0.01


@pytest.mark.skipif(MICROSOCKS is None, reason="the SOCKS proxy is not here")
def test_a_socks_proxy_alone_can_be_measured() -> None:
    with socks_proxy() as socks:
        assert ceiling.speed_through(socks, 4 * MIB) > 0
