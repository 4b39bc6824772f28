"""A server whose key changes in a rekey, and one that stops talking without hanging up: named, and nothing is left."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import paramiko
import psutil
import pytest
from paramiko.common import MSG_KEXINIT
from tests.clients import set_retry_policy
from tests.faulty_servers import PASSWORD, FaultyServer
from tests.servers import Relay, Server

from iot.sftp.client import (
    ConnectionLost,
    HostKeyMismatch,
    IoTSFTPClient,
    Secret,
    ServerSettings,
    SFTPError,
    SFTPSession,
    TimeLimits,
)
from iot.sftp.client._ssh.packets import Kind, Reader

OLD, NEW = b"old", os.urandom(20_000_000)
HIGHEST_KEX_MESSAGE, DISCONNECT = 49, 1  # RFC 4250, section 4.1.1
NEWKEYS = 21


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No thread and no descriptor stays behind."""
    threads, descriptors = set(threading.enumerate()), psutil.Process().num_fds()
    yield
    for thread in set(threading.enumerate()) - threads:
        thread.join(60)
    assert set(threading.enumerate()) <= threads
    assert psutil.Process().num_fds() == descriptors


@contextmanager
def session_with(server: FaultyServer, known_hosts: Path | None = None) -> Iterator[SFTPSession]:
    with server.running() as port:
        session = SFTPSession(
            ServerSettings(
                "127.0.0.1", port, "device", Secret(PASSWORD), known_hosts=known_hosts,
                time_limits=TimeLimits(connect=60, stall=20),
            )
        )  # fmt: skip
        try:
            yield session
        finally:
            session.disconnect()


# --- another key in a rekey ------------------------------------------------------------------------------------------


class ChangesItsKeyInARekey(FaultyServer):
    """Begins a key exchange with another key than before, when told to or at the so-manieth request of a type.

    Attributes:
        keeps_the_new_key: whether it shows that key to later connections, too.
        received: the types of the SSH messages that have come since then.
    """

    def __init__(self, *, at_request: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.new_key: paramiko.PKey = paramiko.ECDSAKey.generate()
        self.keeps_the_new_key = True
        self.received: list[int] = []
        self.changed = threading.Event()
        self.broke = threading.Event()
        self._at_request = at_request

    def accepted(self, transport: paramiko.Transport) -> None:
        read = transport.packetizer.read_message

        def read_and_note() -> tuple[int, paramiko.Message]:
            kind, message = read()
            if self.changed.is_set():
                self.received.append(kind)
            return kind, message

        transport.packetizer.read_message = read_and_note  # type: ignore[method-assign]
        if self.changed.is_set() and self.keeps_the_new_key:
            transport.add_server_key(self.new_key)
        super().accepted(transport)

    def change(self) -> None:
        transport = self.transports[0]
        transport.add_server_key(self.new_key)
        self.changed.set()
        try:
            transport.renegotiate_keys()
        except (paramiko.SSHException, EOFError, OSError):  # it hangs up, in an orderly way or with a reset
            self.broke.set()

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        answer = super().truth(kind, fields)
        if not self.changed.is_set() and self._at_request == (kind, self.requests.count(kind)):  # type: ignore[arg-type]
            # begins before the answer to this request is sent
            thread = threading.Thread(target=self.change, daemon=True)
            self._threads.append(thread)
            thread.start()
            self.changed.wait()
        return answer


def nothing_was_sent_after_the_key(server: ChangesItsKeyInARekey) -> None:
    """The client answered the key exchange, took no new keys into use, and then hung up."""
    last = len(server.received) - server.received[::-1].index(MSG_KEXINIT)
    following = server.received[last:]
    assert [kind for kind in following if kind > HIGHEST_KEX_MESSAGE or kind == NEWKEYS] == []


@pytest.mark.parametrize("remembered", [True, False])
def test_a_changed_key_at_an_idle_rekey_is_a_mismatch_at_the_next_call(tmp_path: Path, *, remembered: bool) -> None:
    server = ChangesItsKeyInARekey()
    known = tmp_path / "known" if remembered else None
    with session_with(server, known) as session:
        first = session.connect()
        before = known.read_text() if known else None
        server.change()
        assert server.broke.wait(60)
        assert not session.is_open
        assert not session.is_connected()
        nothing_was_sent_after_the_key(server)
        with pytest.raises(HostKeyMismatch) as failure:
            session.exists("x", timeout=60)
        assert first.host_key in failure.value.message
        assert server.new_key.fingerprint in failure.value.message
        assert (known.read_text() if known else None) == before


def test_a_server_that_shows_its_known_key_again_after_a_rekey_is_accepted(tmp_path: Path) -> None:
    server = ChangesItsKeyInARekey()
    server.keeps_the_new_key = False
    with session_with(server, tmp_path / "known") as session:
        session.connect()
        server.change()
        assert server.broke.wait(60)
        assert not session.exists("x", timeout=60)
        assert server.connections == 2


@pytest.mark.parametrize("operation", ["download", "upload", "list"])
def test_another_key_in_the_middle_of_an_operation_is_a_mismatch(tmp_path: Path, operation: str) -> None:
    kind, number = {"download": (Kind.READ, 20), "upload": (Kind.WRITE, 20), "list": (Kind.READDIR, 1)}[operation]
    server = ChangesItsKeyInARekey(at_request=(kind, number))
    server.files |= {"source": bytearray(NEW), "dest": bytearray(OLD)}
    (tmp_path / "source").write_bytes(NEW)
    (tmp_path / "dest").write_bytes(OLD)
    with session_with(server) as session:
        calls: dict[str, Callable[[], object]] = {
            "download": lambda: session.download_file("source", str(tmp_path / "dest"), timeout=60),
            "upload": lambda: session.upload_file(str(tmp_path / "source"), "dest", timeout=60),
            "list": lambda: session.list_files(".", timeout=60),
        }
        started = time.monotonic()
        with pytest.raises(HostKeyMismatch) as failure:
            calls[operation]()
        assert time.monotonic() - started < 20
        assert server.new_key.fingerprint in failure.value.message
        assert server.broke.wait(60)
        nothing_was_sent_after_the_key(server)
        assert server.connections == 1
    assert (tmp_path / "dest").read_bytes() == OLD
    assert bytes(server.files["dest"]) == OLD
    assert sorted(os.listdir(tmp_path)) == ["dest", "home", "source"]


def test_the_same_key_at_a_rekey_goes_unnoticed(tmp_path: Path) -> None:
    server = ChangesItsKeyInARekey(at_request=(Kind.READ, 20))
    server.files["source"] = bytearray(NEW)
    with session_with(server) as session:
        session.connect()
        server.new_key = server.transports[0].server_key_dict["ecdsa-sha2-nistp256"]
        session.download_file("source", str(tmp_path / "dest"))
        assert (tmp_path / "dest").read_bytes() == NEW
        assert server.changed.is_set()
        assert not server.broke.is_set()
        assert server.connections == 1


def test_a_client_tells_of_another_key_at_a_rekey_in_last_error(tmp_path: Path) -> None:
    server = ChangesItsKeyInARekey()
    with (
        server.running() as port,
        IoTSFTPClient("127.0.0.1", port, "device", PASSWORD, known_hosts=tmp_path / "known") as client,
    ):
        assert client.is_connected()
        server.change()
        assert not client.is_connected()
        assert not client.exists("x")
        assert client.last_error is not None
        assert client.last_error.code == "host_key_mismatch"


# --- half-closed -----------------------------------------------------------------------------------------------------


def says_no_more(transport: paramiko.Transport) -> None:
    transport.sock.shutdown(socket.SHUT_WR)


class SaysNoMoreInTheKeyExchange(FaultyServer):
    def accepted(self, transport: paramiko.Transport) -> None:
        transport.sock.sendall(b"SSH-2.0-half\r\n")
        says_no_more(transport)


class SaysNoMoreInTheLogin(FaultyServer):
    def check_auth_password(self, username: str, password: str) -> int:
        says_no_more(self.transports[-1])
        return super().check_auth_password(username, password)


class SaysNoMoreToTheSubsystemRequest(FaultyServer):
    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        says_no_more(self.transports[-1])
        return super().check_channel_subsystem_request(channel, name)


class SaysNoMoreToARequest(FaultyServer):
    """Ends its half of the connection instead of answering a request of this type."""

    def __init__(self, kind: int) -> None:
        super().__init__()
        self._kind = kind

    def answer(self, kind: int, fields: Reader) -> bytes:
        if kind == self._kind:
            says_no_more(self.transports[-1])
        return super().answer(kind, fields)


@pytest.fixture
def _no_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call without a deadline is tried once."""
    set_retry_policy(monkeypatch, attempts=1)


@pytest.mark.usefixtures("_no_repeat")
@pytest.mark.parametrize(
    "server",
    [
        SaysNoMoreInTheKeyExchange,
        SaysNoMoreInTheLogin,
        SaysNoMoreToTheSubsystemRequest,
        partial(SaysNoMoreToARequest, Kind.STAT),
    ],
)
def test_a_server_that_ends_its_half_of_the_connection_is_a_lost_one_at_once(
    server: Callable[[], FaultyServer],
) -> None:
    with session_with(server()) as session:
        started = time.monotonic()
        with pytest.raises(ConnectionLost):
            session.exists("x")
        assert time.monotonic() - started < 20
        assert not session.is_open


@pytest.mark.usefixtures("_no_repeat")
@pytest.mark.parametrize("kind", [Kind.READ, Kind.WRITE, Kind.CLOSE])
def test_a_transfer_whose_server_says_no_more_leaves_destinations_whole(tmp_path: Path, kind: int) -> None:
    server = SaysNoMoreToARequest(kind)
    server.files |= {"source": bytearray(NEW), "dest": bytearray(OLD)}
    (tmp_path / "source").write_bytes(NEW)
    (tmp_path / "dest").write_bytes(OLD)
    with session_with(server) as session:
        calls: list[Callable[[], object]] = [
            lambda: session.download_file("source", str(tmp_path / "dest")),
            lambda: session.upload_file(str(tmp_path / "source"), "dest"),
        ]
        failures = []
        for call in calls:
            started = time.monotonic()
            try:
                call()
            except SFTPError as error:
                failures.append(error.code)
            assert time.monotonic() - started < 20
    assert failures
    assert set(failures) == {"connection_lost"}
    assert (tmp_path / "dest").read_bytes() in {OLD, NEW}
    assert bytes(server.files["dest"]) in {OLD, NEW}
    assert sorted(os.listdir(tmp_path)) == ["dest", "home", "source"]


class HalfClosing(Relay):
    """Passes on the end of the server's half, when told to, and goes on taking what the client sends."""

    def end_the_servers_half(self) -> None:
        with self._lock:
            for client in self._open[::2]:
                client.shutdown(socket.SHUT_WR)


def test_an_idle_half_closed_session_is_replaced_at_the_next_call(openssh_server: Server) -> None:
    relay = HalfClosing((openssh_server.host, openssh_server.port))
    with relay.running() as port, openssh_client(openssh_server, port) as client:
        assert client.is_connected()
        relay.end_the_servers_half()
        started = time.monotonic()
        assert not client.is_connected()
        assert client.exists(".")
        assert time.monotonic() - started < 20
        assert relay.connections == 2


def openssh_client(server: Server, port: int) -> IoTSFTPClient:
    return IoTSFTPClient(server.host, port, server.user, private_key=server.key_file, known_hosts="~/known")
