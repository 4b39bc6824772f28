"""A server that misbehaves: each fault has a name within its time, destinations stay whole, and nothing is left."""

from __future__ import annotations

import errno
import logging
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
from tests import faulty_servers as faulty
from tests.clients import connection_of, set_retry_policy
from tests.faulty_servers import (
    FAILURE,
    FILE,
    FSYNC,
    LIMITS,
    NO_SUCH_FILE,
    OK,
    PASSWORD,
    PERMISSION_DENIED,
    POSIX_RENAME,
    STATVFS,
    UNSUPPORTED,
    FaultyServer,
    attrs,
    data,
    names,
    status,
)

from iot.sftp.client import (
    AuthenticationFailed,
    ConnectionLost,
    IoTSFTPClient,
    Secret,
    ServerSettings,
    SFTPError,
    SFTPSession,
    TimeLimits,
    TransferIncomplete,
)
from iot.sftp.client._calls.retry_policy import RetryPolicy
from iot.sftp.client._ssh import login_backoff
from iot.sftp.client._ssh.packets import Kind, OpenFlag, Reader, string
from iot.sftp.client._transfer import upload_completion

OLD, NEW = b"old" * 100, bytes(range(256)) * 700
HANDLE = bytes([Kind.HANDLE]) + string(b"h")
EXTENDED_REPLY = bytes([Kind.EXTENDED_REPLY])
LONG_AGO = 1_600_000_000  # seconds since 1970
LONGEST_DEADLINE = 10  # seconds
MARGIN = 20  # seconds on a busy machine: less than the limits that must not be waited for


@pytest.fixture(autouse=True)
def nothing_is_left_or_told(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No thread, no descriptor, no trace and no secret stays behind."""
    caplog.set_level(logging.DEBUG, "iot.sftp")
    threads, descriptors = set(threading.enumerate()), psutil.Process().num_fds()
    yield
    for thread in set(threading.enumerate()) - threads:
        thread.join(60)
    assert set(threading.enumerate()) <= threads
    assert psutil.Process().num_fds() == descriptors
    assert PASSWORD not in caplog.text
    told = [r for r in caplog.records if r.levelno > logging.DEBUG and not r.name.startswith("faulty-server")]
    assert [r for r in told if r.exc_info or "Traceback" in r.getMessage() or "\n" in r.getMessage()] == []


@pytest.fixture
def no_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call without a deadline is tried once."""
    set_retry_policy(monkeypatch, attempts=1)


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    set_retry_policy(monkeypatch, first_pause=0.01)


@contextmanager
def session_with(
    server: FaultyServer, *, connect: float = 30, stall: float = 30, password: str = PASSWORD
) -> Iterator[SFTPSession]:
    """A running server and a session with it, both ended afterwards."""
    with server.running() as port:
        limits = TimeLimits(connect=connect, stall=stall)
        session = SFTPSession(ServerSettings("127.0.0.1", port, "device", Secret(password), time_limits=limits))
        try:
            yield session
        finally:
            session.disconnect()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds + MARGIN


def failure_of(call: Callable[[], object], seconds: float) -> SFTPError:
    """What a call fails with, in so many seconds at the most."""
    with within(seconds), pytest.raises(SFTPError) as failure:
        call()
    return failure.value


def failure_at_deadline(call: Callable[[float], object], seconds: float) -> SFTPError:
    """What a call fails with that is repeated until its deadline; a busy machine may need a later one to get so far."""
    error = failure_of(partial(call, seconds), seconds)
    if error.code == "deadline_exceeded" and seconds < LONGEST_DEADLINE:
        return failure_at_deadline(call, 5 * seconds)
    return error


def prepared(server: FaultyServer, here: Path) -> None:
    """Put an old destination and a new source on both sides."""
    server.files |= {"source": bytearray(NEW), "dest": bytearray(OLD)}
    (here / "source").write_bytes(NEW)
    (here / "dest").write_bytes(OLD)


def calls(session: SFTPSession, here: Path) -> dict[str, Callable[[float | None], object]]:
    """Every operation, to be called with its timeout."""
    source, dest = str(here / "source"), str(here / "dest")
    return {
        "exists": lambda timeout: session.exists("source", timeout=timeout),
        "list_files": lambda timeout: session.list_files(".", timeout=timeout),
        "delete_file": lambda timeout: session.delete_file("source", timeout=timeout),
        "move_file": lambda timeout: session.move_file("source", "dest", timeout=timeout),
        "download_file": lambda timeout: session.download_file("source", dest, timeout=timeout),
        "upload_file": lambda timeout: session.upload_file(source, "dest", timeout=timeout),
    }


def local_is(here: Path, *contents: bytes) -> None:
    """The local destination is one of these, and no temporary file is beside it."""
    assert (here / "dest").read_bytes() in contents
    assert sorted(os.listdir(here)) == ["dest", "home", "source"]


def remote_is(server: FaultyServer, *contents: bytes) -> None:
    """The remote destination is one of these, and no temporary file is beside it."""
    assert bytes(server.files["dest"]) in contents
    assert [name for name in server.files if name.startswith(".")] == []


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.01)


def the_next_connection_cleans_up(session: SFTPSession, server: FaultyServer) -> None:
    """What could not be removed over a connection that broke is removed over the next one."""
    with suppress(SFTPError):
        session.exists("x")
    until(lambda: not any(name.startswith(".") for name in server.files))


OPERATIONS = ["exists", "list_files", "delete_file", "move_file", "download_file", "upload_file"]

# --- frozen ----------------------------------------------------------------------------------------------------------

FROZEN_IN_CONNECTING = [
    faulty.FrozenBeforeTheBanner,
    faulty.FrozenInTheKeyExchange,
    faulty.FrozenInTheLogin,
    faulty.FrozenAfterTheChannelRequest,
    faulty.FrozenAfterTheSubsystemRequest,
    faulty.FrozenAfterInit,
]


@pytest.mark.parametrize("server", FROZEN_IN_CONNECTING)
def test_a_server_that_freezes_before_sftp_is_unreachable_in_connect_timeout(
    server: type[FaultyServer],
) -> None:
    with session_with(server(), connect=0.6) as session:
        error = failure_of(lambda: session.exists("x"), 0.6)
        assert error.code == "unreachable"
        assert "0.6 s" in error.message or "in time" in error.message


@pytest.mark.parametrize("server", FROZEN_IN_CONNECTING)
def test_a_server_that_freezes_before_sftp_answers_ends_a_call_at_its_deadline(server: type[FaultyServer]) -> None:
    with session_with(server()) as session:
        assert failure_of(lambda: session.exists("x", timeout=0.4), 0.4).code == "deadline_exceeded"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_half_an_answer_and_then_nothing_is_a_lost_connection_within_the_stall_limit(
    tmp_path: Path, operation: str
) -> None:
    server = faulty.FrozenInTheMiddleOfAnAnswer()
    prepared(server, tmp_path)
    with session_with(server, stall=1.0) as session:
        session.connect()
        call = calls(session, tmp_path)[operation]
        # the second time it freezes is after the deadline
        assert failure_at_deadline(call, 1.8).code == "connection_lost"
        server.files = {name: content for name, content in server.files.items() if not name.startswith(".iot-sftp-")}
    local_is(tmp_path, OLD)
    assert server.files == {"source": NEW, "dest": OLD}


def test_is_connected_takes_a_frozen_server_for_gone_within_the_stall_limit() -> None:
    with session_with(faulty.FrozenInTheMiddleOfAnAnswer(), stall=0.4) as session:
        session.connect()
        with within(0.4):
            assert not session.is_connected()


def test_a_server_that_freezes_on_a_second_channel_is_asked_once(tmp_path: Path) -> None:
    server = faulty.FrozenOnASecondChannel()
    prepared(server, tmp_path)
    with session_with(server, connect=0.6) as session:
        session.connect()
        with within(1.2):
            session.download_file("source", str(tmp_path / "dest"))
        with within(0):
            session.upload_file(str(tmp_path / "source"), "dest")
    local_is(tmp_path, NEW)
    remote_is(server, NEW)


# --- that hangs up ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_call_succeeds_wherever_the_connection_ends_among_its_answers(tmp_path: Path, operation: str) -> None:
    for after in [1, 4, 5, 9, 12, *range(20, 300, 47), 50_000, 170_000]:
        server = faulty.ClosesAfterSomeBytes(after, times=1)
        server.modified = LONG_AGO
        prepared(server, tmp_path)
        with session_with(server) as session:
            calls(session, tmp_path)[operation](None)
        local_is(tmp_path, OLD, NEW)
        remote_is(server, OLD, NEW)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("after", [1, 30, 50])
def test_a_server_that_always_hangs_up_is_a_lost_connection(tmp_path: Path, operation: str, after: int) -> None:
    server = faulty.ClosesAfterSomeBytes(after, times=1000)
    prepared(server, tmp_path)
    with session_with(server) as session:
        assert failure_at_deadline(calls(session, tmp_path)[operation], 0.6).code == "connection_lost"
    local_is(tmp_path, OLD)
    assert server.files["dest"] == OLD


@pytest.mark.usefixtures("short_pauses")
def test_a_failure_tells_how_often_it_was_tried(tmp_path: Path) -> None:
    server = faulty.ClosesAfterSomeBytes(1, times=1000)
    with session_with(server) as session, pytest.raises(SFTPError) as caught:
        session.download_file("source", str(tmp_path / "dest"))
    assert (caught.value.code, caught.value.attempts) == ("connection_lost", RetryPolicy.attempts)
    with session_with(faulty.FaultyServer()) as session, pytest.raises(SFTPError) as caught:
        session.download_file("none", str(tmp_path / "dest"))
    assert (caught.value.code, caught.value.attempts) == ("not_found", 1)


def test_a_server_that_grants_one_channel_is_asked_for_more_once(tmp_path: Path) -> None:
    server = faulty.GrantsOneChannel()
    prepared(server, tmp_path)
    with session_with(server) as session:
        for _ in range(3):
            session.download_file("source", str(tmp_path / "dest"))
            session.upload_file(str(tmp_path / "source"), "dest")
    local_is(tmp_path, NEW)
    remote_is(server, NEW)
    assert server.connections == len(server.channels) == 1


def test_a_server_that_ends_the_connection_on_a_second_channel_is_learned(tmp_path: Path) -> None:
    server = faulty.ClosesTheConnectionOnASecondChannel()
    prepared(server, tmp_path)
    with session_with(server) as session:
        session.download_file("source", str(tmp_path / "dest"))
        session.upload_file(str(tmp_path / "source"), "dest")
    local_is(tmp_path, NEW)
    remote_is(server, NEW)
    assert server.connections == 3


def test_a_channel_closed_while_idle_is_replaced_on_the_same_connection(tmp_path: Path) -> None:
    server = FaultyServer()
    prepared(server, tmp_path)
    with session_with(server) as session:
        session.download_file("source", str(tmp_path / "dest"))
        quick, transfer = server.channels
        transfer.close()
        assert session.exists("source")
        connection = connection_of(session)
        for channel in connection.channels.all:
            if channel is not connection.quick:
                until(lambda lent=channel: lent.closed)  # type: ignore[misc] # mypy infers no such default
        session.download_file("source", str(tmp_path / "dest"))
        assert server.connections == 1
        quick.close()
        until(lambda: connection.quick.closed)
        assert not session.is_open
        assert session.exists("source")
        assert server.connections == 2


def test_a_connection_closed_while_idle_is_replaced_on_the_next_use() -> None:
    server = FaultyServer()
    with session_with(server) as session:
        for _ in range(3):
            assert not session.exists("x", timeout=60)
            server.hang_up()
    assert server.connections == 3


def test_a_hang_up_in_the_key_exchange_is_connection_lost_and_leaves_no_timer() -> None:
    with session_with(faulty.HangsUpInTheKeyExchange(), connect=3600) as session:
        assert failure_at_deadline(lambda timeout: session.exists("x", timeout=timeout), 0.5).code == "connection_lost"


def test_a_channel_that_cannot_be_opened_for_want_of_time_is_done_without_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's own word for silence on the link is a TimeoutError, as that of a future that is not done."""
    server = FaultyServer()
    prepared(server, tmp_path)
    with session_with(server) as session:
        session.connect()
        connection = connection_of(session)

        def silent(_: object) -> None:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

        monkeypatch.setattr(connection.channels, "open_channel", silent)
        with within(0.5):
            session.download_file("source", str(tmp_path / "dest"))
    local_is(tmp_path, NEW)


# --- logging in ------------------------------------------------------------------------------------------------------


def test_a_drop_in_the_login_is_a_lost_connection() -> None:
    with session_with(faulty.DropsInTheLogin()) as session:
        error = failure_at_deadline(lambda timeout: session.exists("x", timeout=timeout), 0.5)
        assert error.code == "connection_lost"
        assert "login" in error.message


def test_a_refused_login_that_ends_the_connection_is_authentication_failed() -> None:
    server = faulty.RefusesAndHangsUp()
    with session_with(server) as session:
        for _ in range(10):
            login_backoff.LOGIN_BACKOFF.forget_all()
            assert failure_of(lambda: session.exists("x", timeout=60), 1).code == "authentication_failed"
    assert server.connections == 10


def test_a_server_that_asks_for_the_password_by_keyboard_gets_it() -> None:
    with session_with(faulty.AsksByKeyboard("Password: ")) as session:
        assert not session.exists("x")


def test_a_wrong_password_by_keyboard_is_an_authentication_failure() -> None:
    with session_with(faulty.AsksByKeyboard("Password: "), password="a wrong one") as session:
        assert failure_of(lambda: session.exists("x"), 1).code == "authentication_failed"


def test_a_server_that_asks_for_a_second_factor_is_not_retried() -> None:
    server = faulty.AsksByKeyboard("Password: ", "Code: ")
    with session_with(server) as session:
        error = failure_of(lambda: session.exists("x"), 1)
        assert error.code == "authentication_failed"
        assert "Code" in error.message
    assert server.connections == 1


@pytest.mark.usefixtures("no_repeat")  # the third one in a row may be a refusal
def test_a_drop_in_the_login_by_keyboard_is_a_lost_connection() -> None:
    with session_with(faulty.DropsInTheKeyboardLogin("Password: ")) as session:
        assert failure_of(lambda: session.exists("x"), 30).code == "connection_lost"


def test_a_file_that_is_too_long_for_a_password_is_not_sent(tmp_path: Path) -> None:
    with open(tmp_path / "long", "wb") as file:
        file.truncate(1_000_000_000_000)
    with FaultyServer().running() as port:
        session = SFTPSession(ServerSettings("127.0.0.1", port, "device", Secret.from_file(tmp_path / "long")))
        with pytest.raises(AuthenticationFailed, match="too long"):
            session.exists("x")


# --- the first packet ------------------------------------------------------------------------------------------------


def version_packet(fields: bytes) -> bytes:
    return struct.pack(">IB", 1 + len(fields), Kind.VERSION) + fields


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_server_of_an_earlier_version_of_sftp_is_used_without_what_it_lacks(number: int, tmp_path: Path) -> None:
    """OpenSSH's client talks to these, too; LSTAT came with version 1, RENAME with version 2, links with version 3."""
    lacking: dict[int | str, bytes | Callable[..., bytes]] = {Kind.LSTAT: status(UNSUPPORTED)}
    server = FaultyServer(lacking, version=version_packet(struct.pack(">I", number)))
    prepared(server, tmp_path)
    with session_with(server) as session:
        session.download_file("source", str(tmp_path / "dest"))
        session.delete_file("source")
    local_is(tmp_path, NEW)
    assert server.files == {"dest": OLD}


@pytest.mark.parametrize("rest", [b"\0\0\0\7posix", string(b"name without data"), b"\xff\xff\xff\xff", b"\0"])
def test_a_version_with_something_behind_it_that_is_no_extension_is_taken_without(rest: bytes) -> None:
    extension = string(POSIX_RENAME.encode()) + string(b"1")
    with session_with(FaultyServer(version=version_packet(struct.pack(">I", 3) + extension + rest))) as session:
        assert session.connect().extensions == (POSIX_RENAME,)


@pytest.mark.parametrize("number", [4, 6, 2**32 - 1])
def test_a_later_version_of_sftp_is_unsupported(number: int) -> None:
    server = FaultyServer(version=version_packet(struct.pack(">I", number)))
    with session_with(server) as session:
        error = failure_of(lambda: session.exists("x"), 1)
        assert error.code == "unsupported"
        assert f"version {number} " in error.message


@pytest.mark.parametrize(
    "first",
    [
        version_packet(b""),
        version_packet(b"\0\0"),
        struct.pack(">IB", 2**32 - 1, Kind.VERSION),
        struct.pack(">IB", 0, Kind.VERSION),
    ],
)
def test_a_first_packet_that_cannot_be_read_is_a_lost_connection(first: bytes) -> None:
    with session_with(FaultyServer(version=first)) as session:
        assert failure_at_deadline(lambda timeout: session.exists("x", timeout=timeout), 0.5).code == "connection_lost"


@pytest.mark.parametrize("first", [faulty.packet(0, status(OK)), b"Welcome to this device\n", bytes(100)])
def test_a_first_packet_of_another_kind_is_unsupported(first: bytes) -> None:
    with session_with(FaultyServer(version=first)) as session:
        assert failure_at_deadline(lambda timeout: session.exists("x", timeout=timeout), 0.5).code == "unsupported"


# --- the wrong answer ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_repeat")
@pytest.mark.parametrize("length", [0, 4, 400_000, 2**31, 2**32 - 1])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_length_that_no_answer_has_is_a_lost_connection(tmp_path: Path, operation: str, length: int) -> None:
    server = faulty.ClaimsALength(length)
    prepared(server, tmp_path)
    with session_with(server) as session:
        assert failure_of(lambda: calls(session, tmp_path)[operation](None), 1).code == "connection_lost"
    local_is(tmp_path, OLD)


GARBAGE = {
    "STATUS OK": status(OK),
    "a HANDLE": HANDLE,
    "an empty HANDLE packet": bytes([Kind.HANDLE]),
    "DATA": data(b"x" * 32768),
    "a NAME": names(b"x"),
    "ATTRS": attrs(len(NEW)),
    "an EXTENDED_REPLY": EXTENDED_REPLY + bytes(100),
    "an unknown packet": bytes([77]) + bytes(100),
    "a STATUS without a code": bytes([Kind.STATUS]),
    "a STATUS with broken words": struct.pack(">BII", Kind.STATUS, FAILURE, 1000),
    "a NAME that announces more": struct.pack(">BI", Kind.NAME, 2**32 - 1),
    "DATA that announces more": struct.pack(">BI", Kind.DATA, 2**32 - 1) + b"x",
    "ATTRS that announce more": struct.pack(">BII", Kind.ATTRS, 0x80000000, 2**32 - 1),
}
REQUESTS: dict[str, list[int | str]] = {
    "exists": [Kind.STAT],
    "list_files": [Kind.OPENDIR, Kind.READDIR],
    "delete_file": [Kind.LSTAT, Kind.REMOVE],
    "move_file": [Kind.LSTAT, POSIX_RENAME],
    "download_file": [Kind.STAT, Kind.OPEN, Kind.FSTAT, Kind.READ],  # its CLOSE is not waited for
    "upload_file": [Kind.STAT, Kind.OPEN, Kind.WRITE, Kind.FSETSTAT, Kind.FSTAT, Kind.CLOSE, POSIX_RENAME],
}
DUE: dict[int | str, str] = {
    Kind.STAT: "ATTRS", Kind.LSTAT: "ATTRS", Kind.FSTAT: "ATTRS", Kind.OPEN: "a HANDLE", Kind.OPENDIR: "a HANDLE",
    Kind.READ: "DATA", Kind.READDIR: "a NAME",
}  # fmt: skip


@pytest.mark.usefixtures("no_repeat")
@pytest.mark.parametrize(
    "operation, request_kind",
    [(operation, kind) for operation, kinds in REQUESTS.items() for kind in kinds],
    ids=str,
)
def test_an_answer_of_another_kind_than_was_due_never_counts(
    tmp_path: Path, operation: str, request_kind: int | str
) -> None:
    due = DUE.get(request_kind, "STATUS OK")
    server = FaultyServer()
    with session_with(server) as session:
        for name in GARBAGE.keys() - {due}:
            prepared(server, tmp_path)
            server.answer_with({request_kind: GARBAGE[name]})
            error = failure_of(lambda: calls(session, tmp_path)[operation](None), 1)
            assert error.code == "connection_lost", name
            local_is(tmp_path, OLD)
            assert bytes(server.files["dest"]) == OLD
            server.be_honest()
            with suppress(SFTPError):
                calls(session, tmp_path)[operation](None)
            assert not any(name.startswith(".") for name in server.files)


def test_is_connected_takes_garbage_for_no_answer_and_any_refusal_for_one() -> None:
    for answer, connected in [(garbage, False) for garbage in GARBAGE.values() if garbage[0] != Kind.NAME] + [
        (status(code), True) for code in (2, 3, 4, 5, 8, 20)
    ]:
        with session_with(FaultyServer({Kind.REALPATH: answer})) as session:
            session.connect()
            assert session.is_connected() is connected, answer


def test_a_handle_that_comes_after_its_caller_has_gone_and_is_none_disturbs_nobody(tmp_path: Path) -> None:
    """The answer to OPEN comes too late, and is no handle."""
    asked, answer_now = threading.Event(), threading.Event()

    def late(_: object) -> bytes:
        asked.set()
        answer_now.wait(5)
        return bytes([Kind.HANDLE])

    server = FaultyServer({Kind.OPEN: late})
    prepared(server, tmp_path)
    with session_with(server) as session:
        assert failure_of(lambda: session.download_file("source", str(tmp_path / "dest"), timeout=0.4), 0.4).code == (
            "deadline_exceeded"
        )
        assert asked.is_set()
        answer_now.set()
        assert session.exists("source")
    local_is(tmp_path, OLD)


def test_a_status_without_words_has_its_name() -> None:
    for code, name in [(PERMISSION_DENIED, "permission_denied"), (FAILURE, "permission_denied"), (14, "no_space")]:
        refusal = struct.pack(">BI", Kind.STATUS, code)
        server = FaultyServer(dict.fromkeys((Kind.STAT, Kind.LSTAT, Kind.OPENDIR), refusal))
        with session_with(server) as session:
            assert failure_of(lambda: session.exists("x"), 1).code == name


@pytest.mark.parametrize(
    "server",
    [
        faulty.AnswersInReverse,
        faulty.AnswersTwice,
        faulty.AnswersStrangers,
        lambda: faulty.ReadsShort(lambda asked: (asked + 1) // 2),
        lambda: faulty.ReadsShort(lambda asked: min(asked, 4096)),
    ],
    ids=["in reverse", "twice", "strangers", "half", "4096 bytes"],
)
def test_odd_answers_that_the_protocol_allows_or_that_harm_nobody_change_nothing(
    tmp_path: Path, server: Callable[[], FaultyServer]
) -> None:
    running = server()
    prepared(running, tmp_path)
    with session_with(running) as session:
        assert session.exists("source")
        assert session.list_files(".") == ["dest", "source"]
        assert session.download_file("source", str(tmp_path / "dest")).bytes == len(NEW)
        assert session.upload_file(str(tmp_path / "source"), "dest").bytes == len(NEW)
        assert (session.counts.downloaded, session.counts.uploaded) == (len(NEW), len(NEW))  # nothing twice
    local_is(tmp_path, NEW)
    remote_is(running, NEW)


@pytest.mark.parametrize("server", [faulty.AnswersByteByByte, lambda: faulty.ReadsShort(lambda _: 1)])
def test_answers_byte_by_byte_are_put_together(tmp_path: Path, server: Callable[[], FaultyServer]) -> None:
    running = server()
    prepared(running, tmp_path)
    running.files["source"] = bytearray(NEW[:400])
    with session_with(running) as session:
        session.download_file("source", str(tmp_path / "dest"))
    local_is(tmp_path, NEW[:400])


# --- transfers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answers",
    [
        {Kind.READ: data(b"")},
        {Kind.READ: data(bytes(32769))},
        {Kind.READ: data(bytes(200_000))},
        {Kind.READ: status(1)},
        {Kind.FSTAT: attrs(len(NEW) + 1), Kind.STAT: attrs(len(NEW) + 1)},
        {Kind.FSTAT: attrs(len(NEW) - 1), Kind.STAT: attrs(len(NEW) - 1)},
        {Kind.FSTAT: attrs(0), Kind.STAT: attrs(0)},
        {Kind.FSTAT: attrs(2**64 - 1), Kind.STAT: attrs(2**64 - 1)},
    ],
    ids=["empty DATA", "one byte more", "much more", "EOF at once", "a size too large", "too small", "0", "huge"],
)
def test_a_download_whose_bytes_are_not_those_announced_is_incomplete(
    tmp_path: Path, answers: dict[int | str, bytes | Callable[..., bytes]]
) -> None:
    server = FaultyServer(answers)
    prepared(server, tmp_path)
    with session_with(server) as session:
        with pytest.raises(TransferIncomplete):
            session.download_file("source", str(tmp_path / "dest"), timeout=60)
        assert server.closed_a_file.wait(60)
    local_is(tmp_path, OLD)


@pytest.mark.parametrize("end", [data(b""), status(OK)], ids=["nothing", "OK"])
def test_a_file_may_end_without_the_word_for_it_where_it_was_said_to_end(tmp_path: Path, end: bytes) -> None:
    def read(fields: Reader) -> bytes:
        fields.string()
        offset, length = fields.uint64(), fields.uint32()
        return data(NEW[offset : offset + length]) if offset < len(NEW) else end

    server = FaultyServer({Kind.READ: read})
    prepared(server, tmp_path)
    with session_with(server) as session:
        assert session.download_file("source", str(tmp_path / "dest"), timeout=60).bytes == len(NEW)
    local_is(tmp_path, NEW)


@pytest.mark.parametrize("size", [0, len(NEW) - 1, len(NEW) + 1, 2**64 - 1])
def test_an_upload_of_which_the_server_says_another_size_is_incomplete(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_completion, "LAGGING", (0.01,) * 3)
    server = FaultyServer({Kind.FSTAT: attrs(size), Kind.STAT: attrs(size)})
    prepared(server, tmp_path)
    with session_with(server) as session, pytest.raises(TransferIncomplete):
        session.upload_file(str(tmp_path / "source"), "dest", timeout=60)
    remote_is(server, OLD)


def test_a_size_that_lags_behind_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of a gateway in front of an object store, or of a network file system's cache."""
    monkeypatch.setattr(upload_completion, "LAGGING", (0.01,) * 3)
    told = iter([0, 0, len(NEW) // 2, len(NEW)])
    server = FaultyServer({Kind.FSTAT: attrs(0)})
    server._answers[Kind.STAT] = lambda fields: (
        attrs(next(told)) if ".iot-sftp-" in (path := fields.string().decode()) else server._attributes(path)
    )
    prepared(server, tmp_path)
    with session_with(server) as session:
        assert session.upload_file(str(tmp_path / "source"), "dest", timeout=60).verified == "size"
    remote_is(server, NEW)


NOT_TOLD = [status(code) for code in (NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, UNSUPPORTED)]


@pytest.mark.parametrize("answer", [attrs(None), attrs(0), attrs(len(NEW) - 1), *NOT_TOLD])
def test_without_the_size_of_an_open_file_that_of_its_path_is_asked_for(tmp_path: Path, answer: bytes) -> None:
    """Object stores tell it after CLOSE."""
    server = FaultyServer({Kind.FSTAT: answer})
    prepared(server, tmp_path)
    with session_with(server) as session:
        assert session.upload_file(str(tmp_path / "source"), "dest", timeout=60).verified == "size"
        assert session.download_file("source", str(tmp_path / "dest"), timeout=60).verified == "size"
    local_is(tmp_path, NEW)
    remote_is(server, NEW)


@pytest.mark.parametrize("answer", [attrs(None), *NOT_TOLD])
def test_a_success_of_which_no_size_is_known_is_told_as_the_weaker_one(tmp_path: Path, answer: bytes) -> None:
    """Such as drop boxes that may be written and not looked at."""
    refused = NOT_TOLD[1] if answer == NOT_TOLD[0] else answer  # what is not there is not downloaded
    server = FaultyServer(
        {Kind.FSTAT: answer, Kind.STAT: refused, Kind.LSTAT: refused, Kind.OPENDIR: status(PERMISSION_DENIED)}
    )
    prepared(server, tmp_path)
    with session_with(server) as session:
        assert session.upload_file(str(tmp_path / "source"), "dest", timeout=60).verified == "acknowledged"
        assert session.download_file("source", str(tmp_path / "dest"), timeout=60).verified == "acknowledged"
    local_is(tmp_path, NEW)
    remote_is(server, NEW)


@pytest.mark.parametrize(
    "kind, answer, code",
    [
        (Kind.OPEN, status(PERMISSION_DENIED), "permission_denied"),
        (Kind.OPEN, status(14), "no_space"),
        (Kind.WRITE, status(FAILURE, "Disk quota exceeded"), "no_space"),
        (Kind.WRITE, status(FAILURE, "write: No space left on device"), "no_space"),
        (Kind.WRITE, status(14), "no_space"),
        (Kind.WRITE, status(15), "no_space"),
        (Kind.WRITE, status(FAILURE), "permission_denied"),
        (Kind.WRITE, status(FAILURE, PASSWORD[:3] * 5000 + "\x1b[2J\n"), "permission_denied"),
        (Kind.CLOSE, status(FAILURE), "permission_denied"),
        (Kind.CLOSE, status(FAILURE, "Disk quota exceeded"), "no_space"),
        ("every rename", status(PERMISSION_DENIED), "unsupported"),
        ("every rename", status(FAILURE), "unsupported"),
    ],
)
def test_an_upload_refused_at_any_step_names_the_error_and_leaves_the_old_file(
    tmp_path: Path, kind: int | str, answer: bytes, code: str
) -> None:
    kinds: list[int | str] = [POSIX_RENAME, Kind.RENAME] if kind == "every rename" else [kind]
    server = FaultyServer(dict.fromkeys(kinds, answer))
    prepared(server, tmp_path)
    with session_with(server) as session:
        error = failure_of(lambda: session.upload_file(str(tmp_path / "source"), "dest"), 1)
        assert error.code == code
        assert error.message.isprintable()
        assert session.is_connected()
    remote_is(server, OLD)
    assert server.connections == 1


@pytest.mark.parametrize("answer", [status(UNSUPPORTED), status(PERMISSION_DENIED), status(FAILURE)])
def test_a_server_that_keeps_its_own_permissions_and_times_takes_uploads(tmp_path: Path, answer: bytes) -> None:
    server = FaultyServer({Kind.FSETSTAT: answer})
    prepared(server, tmp_path)
    with session_with(server) as session:
        session.upload_file(str(tmp_path / "source"), "dest")
    remote_is(server, NEW)


def test_a_server_that_takes_uploads_away_at_once_is_told_about(tmp_path: Path) -> None:
    server = faulty.TakesUploadsAway()
    prepared(server, tmp_path)
    with session_with(server) as session:
        error = failure_of(lambda: session.upload_file(str(tmp_path / "source"), "dest"), 1)
    assert error.code == "unsupported"
    assert ".iot-sftp-" in error.message, "it tells what to leave alone"
    remote_is(server, OLD)


# --- extensions that are announced, and not carried out ---------------------------------------------------------------


@pytest.mark.parametrize("answer", [status(UNSUPPORTED), status(FAILURE), status(5, "Bad message")])
def test_a_replacement_that_is_announced_and_not_carried_out_is_done_in_steps(
    tmp_path: Path, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    server = FaultyServer({POSIX_RENAME: answer})
    prepared(server, tmp_path)
    with session_with(server) as session:
        assert not session.upload_file(str(tmp_path / "source"), "dest").atomic
        assert not session.move_file("source", "dest")
    remote_is(server, NEW)
    assert "two steps" in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        status(UNSUPPORTED),
        status(FAILURE),
        status(OK),
        EXTENDED_REPLY,
        EXTENDED_REPLY + b"\0\0\0",
        EXTENDED_REPLY + bytes(32),
        EXTENDED_REPLY + b"\xff" * 32,
        EXTENDED_REPLY + struct.pack(">4Q", 34_000, 4096, 4096, 0),
    ],
    ids=["unsupported", "failure", "OK", "empty", "cut", "zeros", "huge", "small"],
)
def test_limits_that_make_no_sense_do_not_keep_files_from_being_moved(tmp_path: Path, answer: bytes) -> None:
    server = FaultyServer({LIMITS: answer}, extensions=(POSIX_RENAME, LIMITS))
    prepared(server, tmp_path)
    with session_with(server) as session:
        session.upload_file(str(tmp_path / "source"), "dest", timeout=60)
        session.download_file("source", str(tmp_path / "dest"), timeout=60)
    local_is(tmp_path, NEW)
    remote_is(server, NEW)
    assert server.connections == 1


def test_a_sync_that_is_announced_and_not_offered_is_done_without(tmp_path: Path) -> None:
    server = FaultyServer({FSYNC: status(UNSUPPORTED)}, extensions=(POSIX_RENAME, FSYNC))
    prepared(server, tmp_path)
    with session_with(server) as session:
        session.upload_file(str(tmp_path / "source"), "dest")
    remote_is(server, NEW)


def test_a_sync_that_fails_is_a_failure_of_the_upload(tmp_path: Path) -> None:
    server = FaultyServer({FSYNC: status(FAILURE, "No space left on device")}, extensions=(POSIX_RENAME, FSYNC))
    prepared(server, tmp_path)
    with session_with(server) as session:
        assert failure_of(lambda: session.upload_file(str(tmp_path / "source"), "dest"), 1).code == "no_space"
    remote_is(server, OLD)


@pytest.mark.parametrize(
    "answer, code",
    [
        (EXTENDED_REPLY, "permission_denied"),
        (EXTENDED_REPLY + b"\0\0\0", "permission_denied"),
        (status(UNSUPPORTED), "permission_denied"),
        (status(OK), "permission_denied"),
        (attrs(1), "permission_denied"),
        (EXTENDED_REPLY + b"\xff" * 88, "permission_denied"),
        (EXTENDED_REPLY + bytes(88), "no_space"),
    ],
)
def test_a_refused_write_keeps_its_name_whatever_the_server_says_of_its_space(
    tmp_path: Path, answer: bytes, code: str
) -> None:
    server = FaultyServer({STATVFS: answer, Kind.WRITE: status(FAILURE)}, extensions=(POSIX_RENAME, STATVFS))
    prepared(server, tmp_path)
    with session_with(server) as session:
        assert failure_of(lambda: session.upload_file(str(tmp_path / "source"), "dest"), 1).code == code
    remote_is(server, OLD)


@pytest.mark.parametrize(
    "inodes, free, code", [(0, 0, "permission_denied"), (9, 1, "permission_denied"), (9, 0, "no_space")]
)
def test_a_disk_without_a_free_inode_is_full_for_new_files(tmp_path: Path, inodes: int, free: int, code: str) -> None:
    numbers = struct.pack(">11Q", 512, 512, 9, 9, 9, inodes, free, free, 0, 0, 255)

    def refuse(fields: Reader) -> bytes:
        fields.string()
        return status(FAILURE) if fields.uint32() & OpenFlag.CREATE else status(NO_SUCH_FILE)

    server = FaultyServer({STATVFS: EXTENDED_REPLY + numbers, Kind.OPEN: refuse}, extensions=(STATVFS,))
    (tmp_path / "source").write_bytes(b"new")
    with session_with(server) as session:
        assert failure_of(lambda: session.upload_file(str(tmp_path / "source"), "other"), 1).code == code


# --- listings --------------------------------------------------------------------------------------------------------


def test_a_listing_leaves_out_invalid_names_and_keeps_odd_ones_byte_by_byte() -> None:
    odd = [b"\x1b[2J\n", b"\xff\xfe", b"x" * 4000, b" ", b"-rf", "\N{SNOWMAN}".encode()]
    listing = names(b"", b".", b"..", b"a/b", b"/", b"../x", b"nul\0", *odd)
    asked = iter([listing])
    server = FaultyServer({Kind.READDIR: lambda _: next(asked, status(1))})
    with session_with(server) as session:
        files = session.list_files("in")
        assert sorted(os.fsencode(path) for path in files) == sorted(b"in/" + name for name in odd)


def test_a_listing_without_permissions_is_completed_by_asking_for_them() -> None:
    asked = iter([names(b"file", b"folder", b"gone", b"secret", b"unknown", mode=None)])
    kinds = {
        "file": attrs(1, FILE),
        "folder": attrs(1, faulty.DIRECTORY),
        "gone": status(2),
        "secret": status(3),
        "unknown": attrs(1, None),
    }
    server = FaultyServer(
        {
            Kind.READDIR: lambda _: next(asked, status(1)),
            Kind.STAT: lambda fields: kinds[fields.string().decode().removeprefix("./")],
        }
    )
    with session_with(server) as session:
        assert session.list_files(".") == ["file", "unknown"]


def test_a_listing_that_never_ends_ends_at_its_deadline() -> None:
    with session_with(faulty.ListsForEver()) as session:
        assert failure_of(lambda: session.list_files(".", timeout=0.5), 0.5).code == "deadline_exceeded"


def test_an_answer_without_names_is_the_end_of_a_listing() -> None:
    with session_with(FaultyServer({Kind.READDIR: names()})) as session:
        assert session.list_files(".", timeout=2) == []


# --- several threads, and interruptions ------------------------------------------------------------------------------


def test_many_threads_that_close_one_connection_end_it_once() -> None:
    server = FaultyServer()
    with session_with(server) as session:
        for _ in range(10):
            session.connect()
            connection = connection_of(session)
            closers = [threading.Thread(target=connection.close) for _ in range(8)]
            for closer in closers:
                closer.start()
            for closer in closers:
                closer.join(60)
            assert not session.is_open


def test_threads_that_disconnect_and_call_get_answers_or_connection_lost() -> None:
    server = FaultyServer()
    server.files["x"] = bytearray(b"x")
    outcomes: list[object] = []
    ended = threading.Event()

    with session_with(server) as session:

        def call() -> None:
            while not ended.is_set():
                try:
                    outcomes.append(session.exists("x", timeout=60))
                except ConnectionLost as error:
                    outcomes.append(error.code)

        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        for _ in range(20):
            session.disconnect()
            session.connect()
        ended.set()
        for caller in callers:
            caller.join(60)
    assert set(outcomes) <= {True, "connection_lost"}
    assert True in outcomes


def test_a_call_after_disconnect_does_not_wait_for_an_earlier_opening() -> None:
    server = faulty.FrozenInTheFirstLogin()
    with session_with(server, connect=3) as session:
        outcomes: list[str] = []

        def first() -> None:
            with pytest.raises(SFTPError) as failure:
                session.exists("x")
            outcomes.append(failure.value.code)

        thread = threading.Thread(target=first)
        thread.start()
        assert server.asked.wait(60)
        session.disconnect()
        with within(1):
            assert not session.exists("x")
        server.stopped.set()
        thread.join(60)
        assert outcomes == ["connection_lost"]
        assert session.is_open


@pytest.mark.usefixtures("no_repeat")
def test_the_client_returns_false_or_none_for_every_fault_and_logs_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = FaultyServer({Kind.STAT: HANDLE, Kind.LSTAT: HANDLE, Kind.OPENDIR: attrs(1)})
    (tmp_path / "source").write_bytes(NEW)
    with server.running() as port, IoTSFTPClient("127.0.0.1", port, "device", PASSWORD) as client:
        calls_and_failures: list[tuple[Callable[[], object], object]] = [
            (lambda: client.exists("x"), False),
            (lambda: client.list_files("."), None),
            (lambda: client.delete_file("x"), False),
            (lambda: client.move_file("x", "y"), False),
            (lambda: client.download_file("x", str(tmp_path / "dest")), False),
            (lambda: client.upload_file(str(tmp_path / "source"), "dest"), False),
        ]
        for call, failed in calls_and_failures:
            caplog.clear()
            assert call() is failed
            assert client.last_error is not None
            assert client.last_error.code == "connection_lost"
            assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
