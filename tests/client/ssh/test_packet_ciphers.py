"""The packets of every cipher, beside paramiko's own implementation: of any size, and cut anywhere on their way."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from hypothesis import given
from hypothesis import strategies as st
from paramiko.message import Message
from paramiko.packet import NeedRekeyException, Packetizer
from paramiko.ssh_exception import SSHException

from iot.sftp.client._ssh.paramiko_internals.messages import ChannelData
from iot.sftp.client._ssh.paramiko_internals.packetizers import BoundedPacketizer, FastPacketizer

KEY, IV = bytes(range(32)), bytes(range(100, 116))
PIECE = 32 * 1024 - 64  # what OpenSSH takes in one message


@dataclass(frozen=True)
class Keys:
    """A cipher and a MAC, as paramiko makes them of the keys that were agreed on."""

    key: int
    digest: Any = None
    tag: int = 16
    etm: bool = False

    def options(self, iv: str, *, encrypts: bool) -> dict[str, Any]:
        if self.digest is None:
            engine: Any = AESGCM(KEY[: self.key])
            return {"aead": True, iv: IV[:12]} | self._common(engine, None)
        cipher = Cipher(AES(KEY[: self.key]), CTR(IV))
        engine = cipher.encryptor() if encrypts else cipher.decryptor()
        return {"etm": self.etm, "aead": False, iv: None} | self._common(engine, b"k" * self.digest().digest_size)

    def _common(self, engine: Any, mac_key: bytes | None) -> dict[str, Any]:
        return {
            "block_engine": engine,
            "block_size": 16,
            "mac_engine": self.digest,
            "mac_size": self.tag,
            "mac_key": mac_key,
        }


CIPHERS = {
    "aes128-gcm": Keys(16),
    "aes256-gcm": Keys(32),
    "aes128-ctr, hmac-sha2-256-etm": Keys(16, hashlib.sha256, 32, etm=True),
    "aes256-ctr, hmac-sha2-512-etm": Keys(32, hashlib.sha512, 64, etm=True),
    "aes192-ctr, hmac-sha2-256": Keys(24, hashlib.sha256, 32),
    "aes256-ctr, hmac-sha2-512": Keys(32, hashlib.sha512, 64),
    "aes128-ctr, hmac-sha1": Keys(16, hashlib.sha1, 20),
}


class Ends:
    """Our packetizer and paramiko's, connected."""

    def __init__(self, name: str) -> None:
        self.keys = CIPHERS[name]
        one, other = socket.socketpair()
        one.settimeout(0.1)
        other.settimeout(0.1)
        self.sockets = one, other
        self.ours, self.theirs = FastPacketizer(one), Packetizer(other)
        self.change_keys()

    def take(self, kind: type[BoundedPacketizer]) -> BoundedPacketizer:
        """Be another packetizer of ours, with the same keys."""
        ours = kind(self.sockets[0])
        ours.set_inbound_cipher(**self.keys.options("iv_in", encrypts=False))
        return ours

    def change_keys(self) -> None:
        for end in (self.ours, self.theirs):
            end.set_inbound_cipher(**self.keys.options("iv_in", encrypts=False))
            sdctr = self.keys.digest is not None
            end.set_outbound_cipher(sdctr=sdctr, **self.keys.options("iv_out", encrypts=True))

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()
        for end in self.sockets:
            end.close()


@pytest.fixture(params=CIPHERS)
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    with closing(Ends(request.param)) as both:
        yield both


def in_background(send: Any, *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=send, args=arguments)
    thread.start()
    return thread


def sent_by_paramiko(ends: Ends, messages: list[bytes]) -> bytes:
    """What paramiko sends for these messages."""
    sent: list[bytes] = []
    ends.theirs.write_all = lambda data: sent.append(bytes(data))  # type: ignore[method-assign, assignment]
    for message in messages:
        ends.theirs.send_message(Message(message))
    return b"".join(sent)


@given(
    name=st.sampled_from([*CIPHERS]),
    sizes=st.lists(st.integers(0, 40_000), min_size=1, max_size=5),
    cuts=st.lists(st.integers(1, 30_000), min_size=1, max_size=5),
)
def test_what_paramiko_seals_is_opened_wherever_it_was_cut(name: str, sizes: list[int], cuts: list[int]) -> None:
    with closing(Ends(name)) as ends:
        messages = [bytes([94]) + struct.pack(">II", 7, size) + bytes([size & 255]) * size for size in sizes]
        stream = sent_by_paramiko(ends, messages)

        def send() -> None:
            start, turn = 0, 0
            while start < len(stream):
                end = start + cuts[turn % len(cuts)]
                ends.sockets[1].sendall(stream[start:end])
                start, turn = end, turn + 1

        sender = in_background(send)
        for message in messages:
            kind, fields = ends.ours.read_message()
            assert (kind, fields.get_int(), bytes(fields.get_binary())) == (94, 7, message[9:])
        sender.join()


def test_a_short_packet_may_be_cut_behind_each_of_its_bytes(ends: Ends) -> None:
    messages = [bytes([80]) + bytes([number]) * 9 for number in range(120)]
    for number, message in enumerate(messages):
        stream = sent_by_paramiko(ends, [message])
        cut = number % len(stream)
        ends.sockets[1].sendall(stream[:cut])
        sender = in_background(ends.sockets[1].sendall, stream[cut:])
        kind, fields = ends.ours.read_message()
        assert (kind, fields.asbytes()) == (80, message[1:])
        sender.join()


@given(
    name=st.sampled_from([*CIPHERS]),
    sizes=st.lists(st.integers(1, 600_000), min_size=1, max_size=3),
    longest=st.sampled_from([1, 100, PIECE, 200_000]).map(lambda size: max(size, 2_000)),
)
def test_paramiko_opens_what_is_sealed_together(name: str, sizes: list[int], longest: int) -> None:
    """As many packets as the data needs, each no longer than allowed, in one stream; other messages in between."""
    with closing(Ends(name)) as ends:

        def send() -> None:
            for number, size in enumerate(sizes):
                data = memoryview((number + 1).to_bytes(1, "big") * size)
                ends.ours.send_message(ChannelData(7, data, longest))
                ends.ours.send_message(Message(b"\x50between"))

        sender = in_background(send)
        got = b""
        for number, size in enumerate(sizes):
            while True:
                kind, fields = ends.theirs.read_message()
                if kind == 0x50:
                    assert fields.asbytes() == b"between"
                    break
                assert fields.get_int() == 7
                piece = fields.get_binary()
                assert 0 < len(piece) <= longest
                got += piece
            assert got[-size:] == (number + 1).to_bytes(1, "big") * size
        assert len(got) == sum(sizes)
        sender.join()


@given(name=st.sampled_from([*CIPHERS]), place=st.integers(0, 199), bits=st.integers(1, 255))
def test_nothing_that_was_changed_is_taken(name: str, place: int, bits: int) -> None:
    """Neither a tag nor content; a changed length fails too, or has us wait for more than there is."""
    with closing(Ends(name)) as ends:
        stream = bytearray(sent_by_paramiko(ends, [b"\x50" + bytes(200)]))
        stream[place] ^= bits
        ends.sockets[1].sendall(stream)
        ends.sockets[1].shutdown(socket.SHUT_WR)
        with pytest.raises((InvalidTag, SSHException, EOFError)):
            ends.ours.read_message()


def test_the_number_of_a_packet_is_authenticated(ends: Ends) -> None:
    """The same packet once more is not taken."""
    first = sent_by_paramiko(ends, [b"\x50first"])
    ends.sockets[1].sendall(first + first + bytes(64))
    assert ends.ours.read_message()[0] == 0x50
    with pytest.raises((InvalidTag, SSHException)):
        ends.ours.read_message()


@pytest.mark.parametrize("length", [0, 1, 4, 400_000, 0x7FFFFFFF])
@pytest.mark.parametrize("name", CIPHERS)
def test_a_length_that_no_packet_has_is_refused_before_it_arrives(name: str, length: int) -> None:
    with closing(Ends(name)) as ends:
        packet = struct.pack(">I", length) + bytes(60)
        if ends.keys.digest is not None and not ends.keys.etm:
            packet = ends.keys.options("", encrypts=True)["block_engine"].update(packet)
        ends.sockets[1].sendall(packet)
        with pytest.raises(SSHException, match="announced"):
            ends.ours.read_message()


@pytest.mark.parametrize("length", [8, 11])
def test_a_packet_shorter_than_the_block_that_tells_its_length_is_refused(length: int) -> None:
    with closing(Ends("aes128-ctr, hmac-sha1")) as ends:
        engine = ends.keys.options("", encrypts=True)["block_engine"]
        ends.sockets[1].sendall(engine.update(struct.pack(">I", length) + bytes(60)))
        with pytest.raises(SSHException, match="announced"):
            ends.ours.read_message()


def test_new_keys_take_over_between_two_packets(ends: Ends) -> None:
    for turn in range(3):
        ends.ours.send_message(ChannelData(7, memoryview(bytes([turn]) * 100_000), PIECE))
        got = b""
        while len(got) < 100_000:
            _, fields = ends.theirs.read_message()
            fields.get_int()
            got += fields.get_binary()
        assert got == bytes([turn]) * 100_000
        ends.sockets[1].sendall(sent_by_paramiko(ends, [b"\x50back"]))
        assert ends.ours.read_message()[1].asbytes() == b"back"
        ends.change_keys()


# --- what flows on channels ------------------------------------------------------------------------------------------

DATA = bytes([94]) + struct.pack(">II", 7, 3) + b"abc"
WINDOW = bytes([93]) + struct.pack(">II", 7, 65536)


def test_data_and_windows_are_handed_on_and_all_else_is_returned_in_its_place(ends: Ends) -> None:
    seen: list[object] = []

    def take(channel: int, what: memoryview | int) -> bool:
        seen.append((channel, what if isinstance(what, int) else bytes(what)))
        return True

    ends.ours.on_data = ends.ours.on_window = take
    short, long = DATA[:-1], WINDOW + b"x"  # neither is what it says: paramiko's own way decides
    ends.sockets[1].sendall(sent_by_paramiko(ends, [DATA, WINDOW, short, DATA, long, b"\x50"]))
    assert [ends.ours.read_message()[0] for _ in range(3)] == [94, 93, 0x50]
    assert seen == [(7, b"abc"), (7, 65536), (7, b"abc")]


def test_what_nobody_takes_is_returned(ends: Ends) -> None:
    ends.sockets[1].sendall(sent_by_paramiko(ends, [DATA, WINDOW]))
    assert [ends.ours.read_message()[0] for _ in range(2)] == [94, 93]


@pytest.mark.parametrize("kind", [FastPacketizer, BoundedPacketizer])
def test_a_packet_that_has_begun_is_read_to_its_end_before_new_keys_are_asked_for(
    ends: Ends, kind: type[BoundedPacketizer]
) -> None:
    """It comes byte by byte, with a pause behind each that is longer than a wait for more."""
    ours = ends.take(kind)
    ours._trigger_rekey()  # type: ignore[attr-defined] # paramiko's own
    stream = sent_by_paramiko(ends, [b"\x50first", b"\x51"])
    ends.sockets[0].settimeout(0.005)

    def send() -> None:
        for number in stream[: len(stream) // 2 + 3]:
            ends.sockets[1].sendall(bytes([number]))
            time.sleep(0.012)
        ends.sockets[1].sendall(stream[len(stream) // 2 + 3 :])

    sender = in_background(send)
    got: list[int] = []
    while len(got) < 2:
        try:
            got.append(ours.read_message()[0])
        except NeedRekeyException:
            continue
    sender.join()
    assert got == [0x50, 0x51]


def test_new_keys_are_asked_for_in_the_middle_of_what_flows(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends.ours, "REKEY_PACKETS", 3)
    ends.ours.on_data = lambda *_: True
    ends.sockets[1].sendall(sent_by_paramiko(ends, [DATA] * 5 + [b"\x50"]))
    for _ in range(3):  # after the third, and after each one that the peer has sent before it knows
        with pytest.raises(NeedRekeyException):
            ends.ours.read_message()
    assert ends.ours.read_message()[0] == 0x50
