"""Bytes between socket and file: every cipher carries the same files, keys change under load, and damage is found."""

from __future__ import annotations

import gc
import os
import socket
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import paramiko
import pytest
from asyncssh.crypto.chacha import ChachaCipher
from benchmarks.proxy import Link
from benchmarks.proxy import running as link_of
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from paramiko.ssh_exception import SSHException
from tests.clients import connection_of, session_of, set_retry_policy
from tests.faulty_links import Break, BreakingRelay
from tests.folders import write_as_long_ago
from tests.servers import Server, openssh, processes_below
from tests.victims import victims

from iot.sftp.client import (
    ConnectionLost,
    SFTPError,
    SFTPSession,
    TimeLimits,
    TooLarge,
)
from iot.sftp.client._ssh import algorithms
from iot.sftp.client._ssh.chacha import ChaChaPoly
from iot.sftp.client._ssh.host_keys import HostKeyPolicy
from iot.sftp.client._ssh.packet_ciphers import PacketCipher
from iot.sftp.client._ssh.packets import Kind
from iot.sftp.client._ssh.paramiko_internals import reading
from iot.sftp.client._ssh.paramiko_internals.packetizers import BoundedPacketizer, FastPacketizer
from iot.sftp.client._ssh.paramiko_internals.reading import packetizer_class
from iot.sftp.client._ssh.paramiko_internals.transport import Transport
from iot.sftp.client._ssh.replies import LONGEST_PACKET, ReplyParser
from iot.sftp.client._ssh.requests import Landing, Reply

NEW = os.urandom(3_000_000)
CHACHA = "chacha20-poly1305@openssh.com"


def both_ways(session: SFTPSession, server: Server, tmp_path: Path, content: bytes = NEW) -> None:
    """Upload and download a file at the same time."""
    write_as_long_ago(tmp_path / "source", content)
    write_as_long_ago(server.directory / "source", content)
    with ThreadPoolExecutor(2) as threads:
        up = threads.submit(session.upload_file, str(tmp_path / "source"), "dest", timeout=50)
        down = threads.submit(session.download_file, "source", str(tmp_path / "dest"), timeout=50)
        assert up.result().bytes == down.result().bytes == len(content)
    assert (server.directory / "dest").read_bytes() == content
    assert (tmp_path / "dest").read_bytes() == content


# --- ciphers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cipher, mac",
    [
        ("aes128-gcm@openssh.com", ""),
        ("aes256-gcm@openssh.com", ""),
        ("chacha20-poly1305@openssh.com", ""),
        ("chacha20-poly1305@openssh.com", "umac-128-etm@openssh.com"),  # a MAC that we lack, and that nobody needs
        ("aes256-gcm@openssh.com", "umac-128-etm@openssh.com"),
        ("aes128-ctr", "hmac-sha2-256-etm@openssh.com"),
        ("aes192-ctr", "hmac-sha2-512-etm@openssh.com"),
        ("aes256-ctr", "hmac-sha2-256"),
        ("aes256-ctr", "hmac-sha1"),
    ],
)
def test_every_cipher_carries_the_same_files(tmp_path: Path, cipher: str, mac: str) -> None:
    options = [f"Ciphers {cipher}", *([f"MACs {mac}"] if mac else [])]
    with openssh(tmp_path / "sshd", *options) as server, session_of(server) as session:
        assert session.connect().cipher == cipher
        both_ways(session, server, tmp_path)


def test_a_forgotten_channel_does_not_stop_the_thread_in_which_it_is_collected(
    openssh_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of sending, that thread holds the lock which a farewell to the server would need."""
    with session_of(openssh_server) as session:
        session.connect()
        forgotten: list[object] = [connection_of(session).transport.open_session(timeout=60)]
        forgotten.append(forgotten)
        gone = weakref.ref(forgotten[0])
        seal = FastPacketizer._seal

        def collect_and_seal(
            packetizer: FastPacketizer, sealer: PacketCipher, start: int, parts: tuple[bytes | memoryview, ...]
        ) -> int:
            gc.collect()
            return seal(packetizer, sealer, start, parts)

        monkeypatch.setattr(FastPacketizer, "_seal", collect_and_seal)
        del forgotten
        assert session.exists(".", timeout=60)
        assert gone() is None


@pytest.mark.parametrize("missing", ["decrypt_into", "encrypt_into"])
def test_an_older_cryptography_takes_paramikos_own_path(
    openssh_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    class Older:
        """The cipher of an older `cryptography`."""

    for name in {"decrypt_into", "encrypt_into"} - {missing}:
        setattr(Older, name, getattr(AESGCM, name))
    monkeypatch.setattr(reading, "AESGCM", Older)
    assert packetizer_class() is BoundedPacketizer
    with session_of(openssh_server) as session:
        assert "gcm" in session.connect().cipher
        both_ways(session, openssh_server, tmp_path)


# --- new keys --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", CHACHA, "aes128-ctr"])
def test_many_new_keys_under_load_in_both_directions_disturb_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cipher: str
) -> None:
    """We ask for new keys every 300,000 bytes."""
    if cipher == CHACHA and server.password:
        pytest.skip("this ProFTPD does not have the cipher")
    monkeypatch.setattr(FastPacketizer, "REKEY_BYTES", 300_000)
    monkeypatch.setattr(algorithms, "CIPHERS", (cipher,))
    checked: list[str] = []  # fingerprints, one in each key exchange
    check = HostKeyPolicy.check

    def count(policy: HostKeyPolicy, key: paramiko.PKey, certificate: bytes | None = None) -> None:
        checked.append(key.fingerprint)
        check(policy, key, certificate)

    monkeypatch.setattr(HostKeyPolicy, "check", count)
    with session_of(server) as session:
        assert session.connect().cipher == cipher
        both_ways(session, server, tmp_path, NEW * 5)
        assert session.is_open
    assert len(checked) > 4
    assert set(checked) == {server.host_key}


def test_new_keys_are_agreed_on_with_a_server_that_does_one_thing_at_a_time(
    proftpd_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ProFTPD reads nothing while it sends: whoever waits for its turn to send must not keep us from reading."""
    monkeypatch.setattr(FastPacketizer, "REKEY_BYTES", 2_000_000)
    server, content = proftpd_server, NEW * 7
    write_as_long_ago(tmp_path / "source", content)
    write_as_long_ago(server.directory / "source", content)
    limits = TimeLimits(stall=5)
    with session_of(server, time_limits=limits) as session, ThreadPoolExecutor(4) as threads:
        session.connect()
        source, here = str(tmp_path / "source"), str(tmp_path / "dest")
        transfers = [threads.submit(session.upload_file, source, f"busy-{number}") for number in range(2)]
        transfers += [threads.submit(session.download_file, "source", f"{here}-{number}") for number in range(2)]
        results = [transfer.result() for transfer in transfers]
    # None had to be taken up again over another connection.
    assert [(result.bytes, result.resumed) for result in results] == [(len(content), 0)] * 4


@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", CHACHA, "aes128-ctr"])
def test_new_keys_that_the_server_asks_for_disturb_nothing(tmp_path: Path, cipher: str) -> None:
    with (
        openssh(tmp_path / "sshd", "RekeyLimit 256K", f"Ciphers {cipher}") as server,
        session_of(server) as session,
    ):
        both_ways(session, server, tmp_path)
        both_ways(session, server, tmp_path)
        assert session.is_open


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("down", [True, False])
def test_a_byte_damaged_in_transit_ends_the_connection_and_reaches_no_file(
    openssh_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, down: bool
) -> None:
    """Whatever it is: a length, a tag, or what is between them."""
    set_retry_policy(monkeypatch, attempts=1)
    server = openssh_server
    relay = BreakingRelay((server.host, server.port))
    write_as_long_ago(server.directory / "source", NEW)
    (tmp_path / "source").write_bytes(NEW)
    codes = set()
    dest = tmp_path / "dest" if down else server.directory / "damaged"

    def transfer(session: SFTPSession) -> None:
        if down:
            session.download_file("source", str(dest))
        else:
            session.upload_file(str(tmp_path / "source"), "damaged")

    with (
        relay.running() as port,
        session_of(server, port=port, time_limits=TimeLimits(stall=2)) as session,
    ):
        for number in range(6):
            session.exists(".")
            relay.break_at(Break(1_500_000 + 32_821 * number + number, down, "damage"))
            started = time.monotonic()
            with pytest.raises(SFTPError) as failure:
                transfer(session)
            assert time.monotonic() - started < 25
            codes.add(failure.value.code)
            relay.break_at(None)
            transfer(session)
            assert dest.read_bytes() == NEW
    assert codes == {"connection_lost"}


KEY = bytes(range(64))
KNOWN = "a39afcba284717404a862c596464b1fbdb82dd235eb53744124ac9820c3170fbf3c882a5"


def test_without_strict_key_exchange_new_keys_go_on_with_the_sequence_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are the nonces of this cipher: servers of before 2024 never begin with 0 again."""
    monkeypatch.setattr(FastPacketizer, "REKEY_BYTES", 300_000)
    send = Transport._send_kex_init

    def without(transport: Transport) -> None:
        transport.advertise_strict_kex = False  # type: ignore[attr-defined] # not in its stubs
        send(transport)

    monkeypatch.setattr(Transport, "_send_kex_init", without)
    with openssh(tmp_path / "sshd", f"Ciphers {CHACHA}") as server, session_of(server) as session:
        both_ways(session, server, tmp_path)
        transport = connection_of(session).transport
        assert not transport.agreed_on_strict_kex
        assert session.is_open


def test_chacha_seals_what_it_always_has() -> None:
    """Made with asyncssh's implementation, which is another one."""
    sealed = memoryview(bytearray(4 + 16 + 16))
    ChaChaPoly(KEY).seal_into(7, memoryview(struct.pack(">I", 16) + bytes(range(16))), sealed)
    assert sealed.hex() == KNOWN


@given(number=st.integers(0, 2**32 - 1), content=st.binary(min_size=8, max_size=3000))
def test_chacha_speaks_what_another_implementation_does(number: int, content: bytes) -> None:
    header, nonce = struct.pack(">I", len(content)), number.to_bytes(8, "big")
    theirs = b"".join(ChachaCipher(KEY).encrypt_and_sign(header, content, nonce))
    ours = memoryview(bytearray(len(theirs)))
    ChaChaPoly(KEY).seal_into(number, memoryview(header + content), ours)
    assert ours == theirs
    one, plain = ChaChaPoly(KEY), memoryview(bytearray(len(content)))
    assert one.length(number, ours[:4]) == len(content)
    one.open_into(number, ours, plain)
    assert plain == content


@given(place=st.integers(0, 51), bits=st.integers(1, 255))
def test_chacha_takes_nothing_that_was_changed_and_writes_nothing_of_it(place: int, bits: int) -> None:
    sealed, plain = memoryview(bytearray(52)), memoryview(bytearray(32))
    ChaChaPoly(KEY).seal_into(1, memoryview(struct.pack(">I", 32) + b"x" * 32), sealed)
    sealed[place] ^= bits
    with pytest.raises(InvalidTag):
        ChaChaPoly(KEY).open_into(1, sealed, plain)
    assert plain == bytes(32)
    sealed[place] ^= bits
    with pytest.raises(InvalidTag):
        ChaChaPoly(KEY).open_into(2, sealed, plain)


class Wire:
    """The two ends of a connection: our packetizer with keys, and what the peer sends."""

    def __init__(self, cipher: str = "aes128-gcm@openssh.com") -> None:
        ours, self.theirs = socket.socketpair()
        ours.settimeout(0.1)
        self.ours = ours
        self.cipher = AESGCM(bytes(16))
        self.iv = bytes(12)
        self.chacha = ChaChaPoly(KEY) if cipher == CHACHA else None
        self.packetizer = FastPacketizer(ours)
        engine = self.cipher if self.chacha is None else ChaChaPoly(KEY)
        self.packetizer.set_inbound_cipher(
            block_engine=engine, block_size=16, mac_engine=None, mac_size=16, mac_key=None, aead=True, iv_in=self.iv
        )

    def packet(self, payload: bytes, number: int = 0) -> bytes:
        """Encrypt what the peer sends as its so-and-so-many-th packet."""
        padding = 16 - (1 + len(payload)) % 16
        padding += 16 if padding < 4 else 0
        return self.sealed(bytes([padding]) + payload + bytes(padding), number)

    def sealed(self, content: bytes, number: int = 0) -> bytes:
        length = struct.pack(">I", len(content))
        if self.chacha is not None:
            packet = memoryview(bytearray(len(content) + 20))
            self.chacha.seal_into(number, memoryview(length + content), packet)
            return bytes(packet)
        iv = self.iv[:4] + number.to_bytes(8, "big")
        return length + self.cipher.encrypt(iv, content, length)

    def announcing(self, length: int) -> bytes:
        """The first bytes of a packet that announces so many."""
        if self.chacha is None:
            return struct.pack(">I", length)
        packet = memoryview(bytearray(20))
        self.chacha.seal_into(0, memoryview(struct.pack(">I", length)), packet)
        return bytes(packet[:4])

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()
        self.packetizer.close()


@pytest.fixture(params=["aes128-gcm@openssh.com", CHACHA])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    with closing(Wire(request.param)) as both_ends:
        yield both_ends


@given(
    sizes=st.lists(st.integers(0, 70_000), min_size=1, max_size=5),
    cuts=st.lists(st.integers(1, 50_000), min_size=1, max_size=5),
    cipher=st.sampled_from(["aes128-gcm@openssh.com", CHACHA]),
)
def test_packets_may_be_cut_anywhere_on_their_way(sizes: list[int], cuts: list[int], cipher: str) -> None:
    with closing(Wire(cipher)) as wire:
        sent = [bytes([94]) + struct.pack(">II", 7, size) + os.urandom(size) for size in sizes]
        stream = b"".join(wire.packet(payload, number) for number, payload in enumerate(sent))

        def send() -> None:
            start, turn = 0, 0
            while start < len(stream):
                end = start + cuts[turn % len(cuts)]
                wire.theirs.sendall(stream[start:end])
                start, turn = end, turn + 1

        sender = threading.Thread(target=send)
        sender.start()
        for payload in sent:
            kind, message = wire.packetizer.read_message()
            assert kind == 94
            assert message.get_int() == 7
            assert bytes(message.get_binary()) == payload[9:]
        sender.join()


@pytest.mark.parametrize("length", [0, 1, 4, 400_000, 0x7FFFFFFF, 0xFFFFFFFF])
def test_an_ssh_packet_of_impossible_length_is_refused_before_it_arrives(wire: Wire, length: int) -> None:
    wire.theirs.sendall(wire.announcing(length) + bytes(100))
    with pytest.raises(SSHException, match="announced"):
        wire.packetizer.read_message()


def test_with_other_ciphers_too_no_length_makes_us_wait_for_gigabytes(wire: Wire) -> None:
    with pytest.raises(SSHException, match="announced"):
        wire.packetizer.read_all(0x7FFFFFFF)


def test_padding_that_is_longer_than_its_packet_is_no_way_out_of_it(wire: Wire) -> None:
    wire.theirs.sendall(wire.sealed(bytes([255]) + bytes(31)))
    kind, message = wire.packetizer.read_message()
    assert (kind, message.asbytes()) == (0, b"")


# --- the stream of SFTP packets --------------------------------------------------------------------------------------


class Collector:
    """A landing that keeps what it gets."""

    def __init__(self) -> None:
        self.announced: list[int] = []
        self.data = b""

    def announce(self, size: int) -> None:
        self.announced.append(size)

    def take(self, data: memoryview) -> None:
        self.data += data

    def finish(self, reply: Reply | None, error: SFTPError | None) -> None:
        raise AssertionError((reply, error))


VERSION = struct.pack(">IBI", 5, Kind.VERSION, 3)


def data_packet(number: int, content: bytes) -> bytes:
    return struct.pack(">IBII", 9 + len(content), Kind.DATA, number, len(content)) + content


def parse(stream: bytes, cuts: list[int], awaited: dict[int, Collector]) -> tuple[list[bytes], list[int]]:
    packets: list[bytes] = []
    landed: list[int] = []
    landings: dict[int, Landing] = dict(awaited)

    def land(number: int) -> None:
        landings.pop(number)
        landed.append(number)

    parser = ReplyParser(landings.get, land, packets.append)
    start, turn = 0, 0
    while start < len(stream):
        end = start + cuts[turn % len(cuts)]
        parser.take(memoryview(stream)[start:end])
        start, turn = end, turn + 1
    return packets, landed


@given(
    contents=st.lists(st.binary(max_size=2000), min_size=1, max_size=6),
    awaited=st.sets(st.integers(0, 5)),
    cuts=st.lists(st.integers(1, 3000), min_size=1, max_size=5),
)
def test_answers_may_be_cut_anywhere_and_come_in_any_order(
    contents: list[bytes], awaited: set[int], cuts: list[int]
) -> None:
    """Data that nobody awaits, of numbers that were never given, passes as an answer among others."""
    collectors = {number: Collector() for number in awaited if number < len(contents)}
    status = struct.pack(">IBII", 9, Kind.STATUS, 77, 0)
    stream = VERSION
    for number, content in reversed([*enumerate(contents)]):
        stream += data_packet(number, content) + status
    packets, landed = parse(stream, cuts, collectors)
    assert landed == sorted(collectors, reverse=True)
    for number, collector in collectors.items():
        assert collector.data == contents[number]
        assert collector.announced == [len(contents[number])]
    strangers = [
        data_packet(number, content)[4:] for number, content in enumerate(contents) if number not in collectors
    ]
    assert [packet for packet in packets if packet[0] == Kind.DATA] == strangers[::-1]
    assert len([packet for packet in packets if packet[0] == Kind.STATUS]) == len(contents)


@given(cuts=st.lists(st.integers(1, 40), min_size=1, max_size=5), claimed=st.integers(1, 2**32 - 1))
def test_data_whose_lengths_contradict_each_other_swallows_nothing_behind_it(cuts: list[int], claimed: int) -> None:
    collector = Collector()
    wrong = struct.pack(">IBII", 9, Kind.DATA, 0, claimed)
    right = struct.pack(">IBII", 9, Kind.STATUS, 77, 0)
    packets, landed = parse(VERSION + wrong + right, cuts, {0: collector})
    assert collector.data == b""
    assert landed == []
    assert packets == [VERSION[4:], wrong[4:], right[4:]]


@given(length=st.integers(0, 2**32 - 1).filter(lambda length: not 5 <= length <= LONGEST_PACKET), rest=st.binary())
def test_a_packet_of_a_length_that_none_has_is_refused(length: int, rest: bytes) -> None:
    with pytest.raises(ConnectionLost):
        parse(VERSION + struct.pack(">IB", length, Kind.DATA) + rest, [7], {})


@given(st.binary(max_size=200), st.lists(st.integers(1, 20), min_size=1, max_size=4))
def test_whatever_comes_is_answers_or_the_end(garbage: bytes, cuts: list[int]) -> None:
    try:
        packets, _ = parse(VERSION + garbage, cuts, {0: Collector()})
    except (ConnectionLost, TooLarge):
        return
    assert sum(len(packet) + 4 for packet in packets) <= len(VERSION + garbage)


# --- several channels for one upload ---------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["MaxSessions 3"], ["MaxSessions 1"]])
def test_a_long_round_trip_is_shared_by_several_channels(tmp_path: Path, options: list[str]) -> None:
    content = os.urandom(24_000_000)
    write_as_long_ago(tmp_path / "source", content)
    lenders = 0

    def look(*_: object) -> None:
        nonlocal lenders
        lenders = max(lenders, sum(thread.name == "sftp-channel-lender" for thread in threading.enumerate()))

    with (
        openssh(tmp_path / "sshd", *options) as server,
        link_of((server.host, server.port), Link(0.04)) as (port, _),
        session_of(server, port=port) as session,
    ):
        session.connect()
        assert session.upload_file(str(tmp_path / "source"), "dest", timeout=60, progress=look).bytes == len(content)
        assert (server.directory / "dest").read_bytes() == content
        assert session.upload_file(str(tmp_path / "source"), "dest", timeout=60, verify="sha256").bytes == len(content)
        assert os.listdir(server.directory) == ["dest"]
    if not options:
        assert lenders > 1


def test_a_channel_that_breaks_beside_others_ends_no_upload_badly(tmp_path: Path) -> None:
    """The server ends one of its processes, which is one of the channels."""
    content = os.urandom(24_000_000)
    write_as_long_ago(tmp_path / "source", content)
    with (
        openssh(tmp_path / "sshd", subsystem="/usr/lib/openssh/sftp-server") as server,
        link_of((server.host, server.port), Link(0.04)) as (port, _),
        session_of(server, port=port) as session,
    ):
        if not Path("/usr/lib/openssh/sftp-server").exists():
            pytest.skip("OpenSSH's server for files is elsewhere here")
        assert server.process is not None
        ended: list[int] = []

        def end_one(done: int, _: int | None) -> None:
            if not ended and done > 4_000_000 and server.process is not None:
                processes_below(server.process, "sftp-server")[-1].kill()
                ended.append(done)

        dest = str(server.directory / "dest")
        (server.directory / "dest").write_bytes(b"old")
        session.upload_file(str(tmp_path / "source"), dest, timeout=60, progress=end_one)
        assert (server.directory / "dest").read_bytes() == content
        assert os.listdir(server.directory) == ["dest"]
        assert ended


# --- memory, threads, descriptors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["download_file", "upload_file"])
def test_a_large_file_takes_no_more_memory_than_a_small_one(
    openssh_server: Server, tmp_path: Path, operation: str
) -> None:
    size = 160 * 1024 * 1024
    with open(tmp_path / "large", "wb") as file:
        file.truncate(size)
    dest = str(tmp_path / "dest") if operation == "download_file" else str(tmp_path / "there")
    with victims(openssh_server, openssh_server.port, tmp_path / "state") as others:
        others.start(operation, str(tmp_path / "large"), dest)
        outcome = others.outcome()
    assert outcome is not None
    assert outcome["bytes"] == size
    assert outcome["grown"] < 16 * 1024 * 1024
    os.unlink(dest)


def test_transfers_that_went_well_or_broke_leave_no_thread_and_no_descriptor(
    openssh_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_retry_policy(monkeypatch, attempts=1)
    server = openssh_server
    relay = BreakingRelay((server.host, server.port))
    write_as_long_ago(server.directory / "source", NEW)
    (tmp_path / "source").write_bytes(NEW)
    calls: list[Callable[[SFTPSession], object]] = [
        lambda session: session.download_file("source", str(tmp_path / "dest"), verify="sha256"),
        lambda session: session.upload_file(str(tmp_path / "source"), "left", verify="sha256"),
    ]
    with relay.running() as port:
        settings = session_of(server, port=port)
        threads = {thread.name for thread in threading.enumerate() if thread.name.startswith("sftp-")}
        descriptors = len([path for path in os.listdir("/proc/self/fd") if _is_regular(path)])
        with settings as session:
            for call in calls:
                call(session)
                relay.break_at(Break(1_000_000, call is calls[0]))
                with pytest.raises(SFTPError):
                    call(session)
                relay.break_at(None)
        for thread in threading.enumerate():
            if thread.name.startswith("sftp-"):
                thread.join(60)
        assert {thread.name for thread in threading.enumerate() if thread.name.startswith("sftp-")} <= threads
        assert len([path for path in os.listdir("/proc/self/fd") if _is_regular(path)]) == descriptors


def _is_regular(descriptor: str) -> bool:
    path = f"/proc/self/fd/{descriptor}"
    return os.path.exists(path) and (os.path.isfile(path) or os.path.isdir(path))


def test_what_a_server_says_beside_its_files_is_kept_nowhere(tmp_path: Path) -> None:
    """OpenSSH passes on what its server for files prints as errors: here 40 MB of it."""
    noisy = tmp_path / "noisy"
    noisy.write_text("#!/bin/sh\nhead -c 40000000 /dev/zero >&2\nexec /usr/lib/openssh/sftp-server\n")
    noisy.chmod(0o755)
    if not Path("/usr/lib/openssh/sftp-server").exists():
        pytest.skip("OpenSSH's server for files is elsewhere here")
    with (
        openssh(tmp_path / "sshd", subsystem=str(noisy)) as server,
        victims(server, server.port, tmp_path / "state") as others,
    ):
        others.start("exists", ".")
        outcome = others.outcome()
    assert outcome is not None
    assert 0 < outcome["peak"] < 100_000_000
