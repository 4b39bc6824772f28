"""Bytes that no honest server sends, some of them without end: each ends with a name, in time and in little memory."""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from paramiko.common import AUTH_FAILED
from tests.clients import set_retry_policy
from tests.faulty_servers import EOF, ClaimsALength, FaultyServer, names, status
from tests.hostile.servers import (
    MEBIBYTE,
    STRANGER,
    AnswersOnlyStrangers,
    Introduces,
    Says,
    growing_by_at_most,
    session_with,
)

from iot.sftp.client import (
    AuthenticationFailed,
    ConnectionLost,
    SFTPError,
    TooLarge,
    Unsupported,
)
from iot.sftp.client._base import memory
from iot.sftp.client._ssh.packets import ATTR_EXTENDED, Kind, string
from iot.sftp.client._ssh.paramiko_internals import direct
from iot.sftp.client._ssh.paramiko_internals.messages import bounded
from iot.sftp.client._ssh.paramiko_internals.packetizers import LONGEST_LINE, BoundedPacketizer

GREETING = b"SSH-2.0-hostile\r\n"
LIES = 2**32 - 1


@pytest.fixture(autouse=True)
def no_repeat(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A call without a deadline is tried once, and takes little memory."""
    set_retry_policy(monkeypatch, attempts=1)
    with growing_by_at_most(40 * MEBIBYTE):
        yield


def ssh_packet(payload: bytes) -> bytes:
    """A packet before the key exchange (RFC 4253, section 6)."""
    padding = 8 - (5 + len(payload)) % 8 + 8
    return struct.pack(">IB", 1 + len(payload) + padding, padding) + payload + bytes(padding)


IGNORE = ssh_packet(b"\2" + string(b"x" * 30_000))
DEBUG = ssh_packet(b"\4\1" + string(b"\x1b[2J" * 5000) + string(b"en"))
UNKNOWN = ssh_packet(bytes([77]) + bytes(100))
KEXINIT = ssh_packet(b"\x14" + bytes(16) + string(b"\xff\xfe") * 10 + bytes(5))


@pytest.mark.parametrize("endless", [IGNORE, DEBUG], ids=["IGNORE", "DEBUG"])
def test_messages_without_end_before_the_key_exchange_end_at_the_connect_limit(endless: bytes) -> None:
    with session_with(Says(GREETING, endless), connect=0.8) as session:
        started = time.monotonic()
        with pytest.raises(SFTPError) as failure:
            session.connect()
        assert time.monotonic() - started < 20
    assert failure.value.code in {"unreachable", "connection_lost"}


@pytest.mark.parametrize(
    "first, then",
    [
        (GREETING, UNKNOWN),
        (GREETING + KEXINIT, b""),
        (GREETING + ssh_packet(b"\x14" + bytes(3)), b""),
        (GREETING + ssh_packet(b"\1\0\0\0\1" + string(b"\xff\x1b[2J")), b""),
        (GREETING + struct.pack(">I", LIES), b"\xff" * 5000),
        (GREETING + struct.pack(">I", 4), b"\0" * 5000),
        (b"a line\n", b"x" * 8000 + b"\n"),
        (b"", b"\n"),
        (b"SSH-1.5-old\r\n", b""),
        (b"SSH-\r\n", b""),
        (b"SSH-2.0-\xff\xfe\0\r\n", b"\0" * 100),
    ],
    ids=[
        "no key exchange",
        "no names",
        "a cut list",
        "a farewell",
        "4 GiB",
        "no length",
        "lines",
        "empty lines",
        "version 1",
        "no version",
        "not UTF-8",
    ],
)
def test_a_greeting_that_leads_nowhere_is_a_named_failure(first: bytes, then: bytes) -> None:
    with session_with(Says(first, then), connect=1) as session, pytest.raises(SFTPError) as failure:
        session.connect()
    assert failure.value.code in {"connection_lost", "unreachable", "unsupported"}
    assert failure.value.message.isprintable()


@pytest.mark.parametrize("key", [b"\xff" * 60, string(b"ssh-rsa") + bytes(8), b"", b"x" * 20_000])
def test_a_key_that_is_none_is_the_servers_fault_and_not_ours(key: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paramiko.ECDSAKey, "asbytes", lambda _: key)
    with session_with(FaultyServer()) as session, pytest.raises(SFTPError) as failure:
        session.connect()
    assert failure.value.code == "connection_lost"
    assert failure.value.message.isprintable()


@pytest.mark.parametrize("kind", [31, 33])
def test_a_number_that_claims_a_megabyte_is_refused_before_anything_is_computed(kind: int) -> None:
    claimed = paramiko.Message((2**20 - 1).to_bytes(4, "big") + b"\1")
    claimed.seqno = 1
    started = time.process_time()
    with pytest.raises(paramiko.SSHException, match="no key exchange"):
        bounded(kind, claimed).get_mpint()
    assert time.process_time() - started < 1
    for number in (0, 1, -1, 2**2047, -(2**255)):
        sent = paramiko.Message()
        sent.add_mpint(number)
        sent.seqno = 2
        assert bounded(kind, sent).get_mpint() == number


def test_a_refusal_that_cannot_be_read_is_a_refusal() -> None:
    class Mumbles(FaultyServer):
        def get_allowed_auths(self, username: str) -> str:
            del username
            return b"\xff\xfe"  # type: ignore[return-value] # what is sent as a text that is none

        def check_auth_password(self, username: str, password: str) -> int:
            del username, password
            return AUTH_FAILED

    with session_with(Mumbles()) as session, pytest.raises(AuthenticationFailed) as failure:
        session.connect()
    assert failure.value.message.isprintable()


def test_a_server_that_says_nothing_of_use_after_the_login_is_given_up_after_the_stall_limit() -> None:
    class Ignores(FaultyServer):
        def send(self, channel: paramiko.Channel, answers: list[bytes]) -> None:
            if answers == [self._version]:
                super().send(channel, answers)
                return
            while not self.stopped.is_set():
                channel.get_transport().send_ignore(1000)

    # Not a listing: a server may take long to open a folder, and is waited for while it answers at all
    with session_with(Ignores(), stall=0.7) as session, pytest.raises(ConnectionLost, match=r"0\.7 s"):
        session.stat("x")


@pytest.mark.parametrize("then", [b"\xff" * 5000, b"x" * 8000 + b"\n"], ids=["4 GiB", "lines"])
def test_the_packetizer_for_an_older_cryptography_has_the_same_bounds(
    then: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "DirectPacketizer", BoundedPacketizer)
    with session_with(FaultyServer()) as session:
        assert session.exists(".")
    for first in (GREETING, b"x" * 9000):
        with session_with(Says(first, then)) as session, pytest.raises(SFTPError) as failure:
            session.connect()
        assert failure.value.code in {"connection_lost", "unsupported"}


@pytest.mark.parametrize("first", [b"", b"SSH-2.0-"], ids=["a banner", "a version"])
def test_a_line_of_megabytes_before_the_key_exchange_is_no_ssh_server(first: bytes) -> None:
    with (
        session_with(Says(first, b"x" * 100_000)) as session,
        pytest.raises(Unsupported, match="SSH server") as failure,
    ):
        session.connect()
    assert str(LONGEST_LINE) in failure.value.message


def test_a_long_version_with_terminal_escapes_is_shown_without_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "iot.sftp")
    with session_with(Introduces("SSH-2.0-x\x1b[2J" + "y" * 8000)) as session:
        server = session.connect().server
    assert server.isprintable()
    assert len(server) <= 255
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("iot.sftp")]
    assert any("SSH-2.0-x\\x1b[2J" in text for text in ours)
    assert all(text.isprintable() and len(text) < 2000 for text in ours)


@pytest.mark.parametrize("size, gets_in", [(1000, True), (200_000, True), (2 * MEBIBYTE, False)])
def test_a_banner_before_the_login_is_passed_over_and_one_of_megabytes_ends_the_connection(
    size: int, *, gets_in: bool
) -> None:
    with session_with(Introduces("SSH-2.0-x", "\x1b[2J" * (size // 4))) as session:
        if gets_in:
            session.connect()
        else:
            with pytest.raises(ConnectionLost):
                session.connect()


def test_a_claimed_length_of_4_gib_is_refused_at_once_and_nothing_is_allocated(tmp_path: Path) -> None:
    with session_with(ClaimsALength(LIES)) as session:
        for call in (lambda: session.exists("x"), lambda: session.download_file("x", str(tmp_path / "dest"))):
            with pytest.raises(ConnectionLost, match=str(LIES)):
                call()


@pytest.mark.parametrize("stranger", [STRANGER, b"\0\0\0\5\2\0\0\0\3"], ids=["unknown numbers", "versions"])
def test_answers_that_nobody_asked_for_keep_no_call_waiting_for_ever(stranger: bytes) -> None:
    with session_with(AnswersOnlyStrangers(stranger)) as session, pytest.raises(ConnectionLost, match="never made"):
        session.list_files(".")


@pytest.mark.parametrize(
    "answer",
    [
        struct.pack(">BI", Kind.NAME, LIES),
        struct.pack(">BI", Kind.NAME, LIES) + names(b"a", b"b")[5:],
        names(b"a")[:5] + struct.pack(">I", LIES) + b"a",
        names(b"a")[:-4],
        names(b"a", mode=None)[:-12] + struct.pack(">II", ATTR_EXTENDED, LIES) + string(b"a@b"),
    ],
    ids=["a count", "a count and two names", "a length", "attributes", "extended attributes"],
)
def test_a_listing_that_lies_about_how_much_there_is_is_a_lost_connection(answer: bytes) -> None:
    with session_with(FaultyServer({Kind.READDIR: answer})) as session, pytest.raises(ConnectionLost, match="not SFTP"):
        session.list_files(".")


@pytest.mark.parametrize("count", [1, 1000, LIES])
def test_attributes_that_lie_about_how_many_they_are_are_a_lost_connection(count: int) -> None:
    answer = bytes([Kind.ATTRS]) + struct.pack(">II", ATTR_EXTENDED, count) + string(b"a@b")
    with session_with(FaultyServer({Kind.STAT: answer})) as session, pytest.raises(ConnectionLost, match="not SFTP"):
        session.stat("x")


def listing_of(count: int) -> bytes:
    """All names in one packet, as wolfSSH and Erlang's server send them."""
    return names(*(b"a file with a name of some length %06d" % number for number in range(count)))


@pytest.mark.parametrize("count", [3_000, 6_000, 40_000])
def test_a_folder_that_comes_as_one_packet_is_listed(count: int) -> None:
    listing = [listing_of(count)]
    server = FaultyServer({Kind.READDIR: lambda _: listing.pop() if listing else status(EOF)})
    with session_with(server) as session:
        assert len(session.list_files("in", timeout=20)) == count
        assert session.exists(".")
    assert server.connections == 1


def test_a_packet_of_names_that_is_larger_than_the_memory_for_them_is_too_large_and_asked_for_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "MOST_KEPT", 4 * MEBIBYTE)
    server = FaultyServer({Kind.READDIR: listing_of(30_000)})
    with session_with(server) as session:
        with pytest.raises(TooLarge):
            session.list_files("in", timeout=20)
        assert server.requests.count(Kind.OPENDIR) == 1
        assert session.exists(".")


@pytest.mark.parametrize("length", [300_000, 100 * MEBIBYTE, LIES])
@pytest.mark.parametrize("kind", [Kind.NAME, Kind.DATA, Kind.ATTRS])
def test_a_long_packet_that_never_comes_is_not_waited_for_and_not_asked_for_again(
    length: int, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MOST_KEPT", MEBIBYTE)
    set_retry_policy(monkeypatch, attempts=3)

    class Announces(FaultyServer):
        def reply(self, request: bytes) -> bytes:
            return (
                struct.pack(">IB", length, kind) + request[1:5] if request[0] == Kind.STAT else super().reply(request)
            )

    server = Announces()
    with session_with(server) as session, pytest.raises((ConnectionLost, TooLarge)):
        session.stat("x", timeout=20)
    assert server.requests.count(Kind.STAT) == 1
