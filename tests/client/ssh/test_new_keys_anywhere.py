"""Transfers and calls at once, over a link that cuts the stream anywhere, while both sides ask for new keys."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from tests.asyncssh_servers import TakesPasswords, asyncssh_server
from tests.clients import HUNG, session_of
from tests.faulty_servers import PASSWORD
from tests.servers import Relay, Server, openssh, shut_down

from iot.sftp.client import SFTPSession, TimeLimits
from iot.sftp.client._ssh import algorithms
from iot.sftp.client._ssh.host_keys import HostKeyPolicy
from iot.sftp.client._ssh.paramiko_internals.packetizers import FastPacketizer

CIPHERS = [
    ("aes128-gcm@openssh.com", ""),
    ("aes256-gcm@openssh.com", ""),
    ("chacha20-poly1305@openssh.com", ""),
    ("aes128-ctr", "hmac-sha2-256-etm@openssh.com"),
    ("aes192-ctr", "hmac-sha1"),
    ("aes256-ctr", "hmac-sha2-512"),
]
LIMITS = (65_000, 150_000, 500_000)  # bytes after which a side asks for new keys


class Cuts(Relay):
    """Passes on pieces of any length, each in a segment of its own, with a pause now and then."""

    def __init__(self, target: tuple[str, int], chance: random.Random) -> None:
        super().__init__(target)
        self._chance = chance

    def _pump(self, source: socket.socket, sink: socket.socket, *, count: bool) -> None:
        del count
        chance = random.Random(self._chance.random())  # noqa: S311 - the same each time
        try:
            while data := source.recv(65536):
                while data:
                    size = chance.choice([1, 3, 4, 5, 15, 16, 17, 100, 5000, 20_000, 65_536])
                    sink.sendall(data[:size])
                    data = data[size:]
                    if chance.random() < 0.002:
                        time.sleep(chance.choice([0.001, 0.15]))  # shorter and longer than a wait for more
        finally:
            shut_down(source, sink)


@contextmanager
def server_of(kind: str, base: Path, cipher: str, mac: str, limit: int) -> Iterator[Server]:
    base.mkdir()
    if kind == "OpenSSH":
        options = [f"Ciphers {cipher}", f"RekeyLimit {limit}", *([f"MACs {mac}"] if mac else [])]
        with openssh(base / "sshd", *options) as server:
            yield replace(server, directory=base)
        return
    macs = [mac] if mac else ()
    with asyncssh_server(TakesPasswords, encryption_algs=[cipher], mac_algs=macs, rekey_bytes=limit) as port:
        yield Server("127.0.0.1", port, "device", base, None, PASSWORD, "")


def transfer(session: SFTPSession, here: Path, there: Path, size: int) -> None:
    """Send a file and fetch it, in one attempt each."""
    content = os.urandom(size)
    here.write_bytes(content)
    assert session.upload_file(str(here), str(there), timeout=HUNG, verify="sha256").resumed == 0
    assert there.read_bytes() == content
    here.unlink()
    assert session.download_file(str(there), str(here), timeout=HUNG).resumed == 0
    assert here.read_bytes() == content


@pytest.mark.parametrize("cipher, mac", CIPHERS)
@pytest.mark.parametrize("kind", ["OpenSSH", "asyncssh"])
def test_no_byte_is_lost_wherever_the_stream_is_cut_and_whoever_asks_for_new_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, cipher: str, mac: str
) -> None:
    chance = random.Random(f"{kind} {cipher} {mac}")  # noqa: S311 - the same each time
    monkeypatch.setattr(FastPacketizer, "REKEY_BYTES", chance.choice(LIMITS))
    monkeypatch.setattr(FastPacketizer, "REKEY_PACKETS", chance.choice([100, 1_000_000]))
    monkeypatch.setattr(algorithms, "CIPHERS", (cipher,))
    exchanges: list[str] = []
    check = HostKeyPolicy.check

    def count(policy: HostKeyPolicy, key: paramiko.PKey, certificate: bytes | None = None) -> None:
        exchanges.append(key.fingerprint)
        check(policy, key, certificate)

    monkeypatch.setattr(HostKeyPolicy, "check", count)
    sizes = [chance.choice([0, 1, 32_768]), *(chance.randint(1, 1_500_000) for _ in range(3))]
    have_ended = threading.Event()

    def call() -> None:
        while not have_ended.wait(0.005):
            assert session.exists(str(tmp_path), timeout=HUNG)

    with server_of(kind, tmp_path / "server", cipher, mac, chance.choice(LIMITS)) as server:
        relay = Cuts((server.host, server.port), chance)
        with (
            relay.running() as port,
            session_of(server, port=port, time_limits=TimeLimits(connect=HUNG, stall=20)) as session,
            ThreadPoolExecutor(len(sizes) + 1) as threads,
        ):
            session.connect()
            calls = threads.submit(call)
            try:
                transfers = [
                    threads.submit(transfer, session, tmp_path / f"{number}", server.directory / f"{number}", size)
                    for number, size in enumerate(sizes)
                ]
                for one in transfers:
                    one.result()
            finally:
                have_ended.set()
            calls.result()
            assert relay.connections == 1
    assert len(exchanges) > 3
