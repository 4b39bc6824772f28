"""Servers that carry requests out in another order than they were sent, or tell of open files in their own way."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.clients import session_of
from tests.faulty_servers import (
    FAILURE,
    FSYNC,
    LIMITS,
    PASSWORD,
    POSIX_RENAME,
    STATVFS,
    FaultyServer,
    attrs,
    status,
)
from tests.servers import Server

from iot.sftp.client import Secret, ServerSettings, SFTPSession, TimeLimits, TransferIncomplete
from iot.sftp.client._ssh.packets import Kind, OpenFlag, Reader
from iot.sftp.client._ssh.server_traits import OPENSSH_EXTENSIONS, ServerTraits

NEW = os.urandom(300_000)
MiB = 1024 * 1024


@contextmanager
def session_at(server: FaultyServer, state: Path | None = None) -> Iterator[SFTPSession]:
    with server.running() as port:
        limits = TimeLimits(stall=20)
        session = SFTPSession(
            ServerSettings("127.0.0.1", port, "device", Secret(PASSWORD), state=state, time_limits=limits)
        )
        try:
            yield session
        finally:
            session.disconnect()


# --- what is known ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "banner, extensions, keeps_order, parts",
    [
        ("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u7", OPENSSH_EXTENSIONS, True, True),
        ("SSH-2.0-OpenSSH_7.4", {POSIX_RENAME, STATVFS, "fstatvfs@openssh.com", FSYNC}, True, True),
        ("SSH-2.0-OpenSSH_9.2p1", {POSIX_RENAME, STATVFS, "hardlink@openssh.com"}, False, False),  # pkg/sftp behind it
        ("SSH-2.0-OpenSSH_9.2p1", {*OPENSSH_EXTENSIONS, "vendor-id"}, False, False),
        ("SSH-2.0-OpenSSH_9.2p1", set(), False, False),
        ("SSH-2.0-mod_sftp", {POSIX_RENAME, "check-file"}, True, False),
        ("SSH-2.0-SFTPGo_2.5.6", {POSIX_RENAME, FSYNC, "fstatvfs@openssh.com"}, False, False),
        ("SSH-2.0-Go", {POSIX_RENAME, LIMITS}, False, False),
    ],
)
def test_only_servers_that_are_known_to_keep_the_order_are_taken_to_do_so(
    banner: str, extensions: set[str], keeps_order: bool, parts: bool
) -> None:
    traits = ServerTraits()
    traits.recognise(banner, extensions)
    assert (traits.keeps_order, traits.parts_in_any_order) == (keeps_order, parts)


def test_traits_of_a_server_do_not_apply_to_another_in_its_place() -> None:
    traits = ServerTraits()
    for banner, known in (("SSH-2.0-one", {}), ("SSH-2.0-one", {"in": "x"}), ("SSH-2.0-other", {})):
        traits.recognise(banner, set())
        assert traits.refusals == known
        traits.learn("in", "x")


def test_the_real_servers_are_recognised(server: Server) -> None:
    with session_of(server) as session:
        session.connect()
        assert session._live.factory.traits.keeps_order
        assert session._live.factory.traits.parts_in_any_order is (server.password is None)


# --- requests that overtake others -----------------------------------------------------------------------------------


class Overtakes(FaultyServer):
    """Carries out FSTAT, FSETSTAT, fsync, CLOSE and RENAME before READs and WRITEs that came with them or before.

    As Go's pkg/sftp does, whose workers take READs and WRITEs while another takes the rest.
    """

    def __init__(self) -> None:
        super().__init__(extensions=(POSIX_RENAME, FSYNC))
        self.overtaken: list[int] = []
        self._late: list[bytes] = []

    def reply(self, request: bytes) -> bytes:
        if request[0] in {Kind.READ, Kind.WRITE}:
            self._late.append(request)
            return b""
        self.overtaken += [request[0]] * bool(self._late)
        return super().reply(request)

    def send(self, channel: object, answers: list[bytes]) -> None:
        late, self._late = self._late, []
        super().send(channel, answers + [super(Overtakes, self).reply(request) for request in late])  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 1, 10_000, 32 * 1024, 255 * 1024, 3 * MiB])
def test_a_server_whose_answers_overtake_each_other_gets_and_gives_whole_files(tmp_path: Path, size: int) -> None:
    server, content = Overtakes(), os.urandom(size)
    (tmp_path / "source").write_bytes(content)
    with session_at(server) as session:
        for _ in range(5):
            assert session.upload_file(str(tmp_path / "source"), "dest", timeout=60).verified == "size"
            assert session.download_file("dest", str(tmp_path / "back"), timeout=60).bytes == size
            assert (tmp_path / "back").read_bytes() == content == bytes(server.files["dest"])
    assert server.overtaken == []


class ListsWhatItDoes(FaultyServer):
    """Notes, for each request, how many before it were not answered when it came."""

    def __init__(self) -> None:
        super().__init__(extensions=(POSIX_RENAME, FSYNC))
        self.together: list[list[int]] = []

    def send(self, channel: object, answers: list[bytes]) -> None:
        self.together.append(self.requests[sum(map(len, self.together)) :])
        super().send(channel, answers)  # type: ignore[arg-type]


def test_no_dependent_request_is_in_flight_to_an_unknown_server(tmp_path: Path) -> None:
    server = ListsWhatItDoes()
    (tmp_path / "source").write_bytes(NEW[:1000])
    with session_at(server) as session:
        session.upload_file(str(tmp_path / "source"), "dest", timeout=60)
    depends = {Kind.STAT, Kind.OPEN, Kind.WRITE, Kind.FSTAT, Kind.CLOSE, Kind.EXTENDED}
    steps = [step for step in server.together if depends & set(step)]
    first_steps = [min(set(step) & depends) for step in steps]
    assert [Kind.STAT] in steps
    assert [Kind.OPEN] in steps
    assert [Kind.WRITE] in steps
    assert [Kind.CLOSE] in steps
    assert first_steps.index(Kind.CLOSE) > first_steps.index(Kind.WRITE)


# --- uploads that are resumed ----------------------------------------------------------------------------------------


class Truncates(FaultyServer):
    """Cuts a file that is opened for writing alone, as Erlang's ssh_sftpd and rclone's cache do; `both` too if told.

    The bytes before the point of resumption are zeros then, and the size is right in the end.
    """

    def __init__(self, *, refuses_both: bool) -> None:
        super().__init__()
        self.refuses_both = refuses_both
        self.breaks_at: int | None = 200_000

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        if kind == Kind.OPEN:
            path = fields.string()
            flags = fields.uint32()
            if flags & OpenFlag.READ and flags & OpenFlag.WRITE:
                if self.refuses_both:
                    return status(FAILURE)
            elif flags & OpenFlag.WRITE:
                flags |= OpenFlag.TRUNCATE
            fields = Reader(struct.pack(">I", len(path)) + path + struct.pack(">II", flags, 0))
        if kind == Kind.WRITE:
            packet = fields.rest()
            request = Reader(packet)
            content, offset = self.files[self._open[request.string()]], request.uint64()
            if self.breaks_at is not None and offset > self.breaks_at:
                self.breaks_at = None
                self.cut()
                raise EOFError
            content.extend(bytes(max(0, offset - len(content))))
            fields = Reader(packet)
        return super().truth(kind, fields)


@pytest.mark.parametrize("refuses_both", [False, True])
def test_a_server_that_cuts_what_is_opened_again_gets_the_whole_file(tmp_path: Path, refuses_both: bool) -> None:
    server = Truncates(refuses_both=refuses_both)
    (tmp_path / "source").write_bytes(NEW)
    with session_at(server, tmp_path / "state") as session:
        result = session.upload_file(str(tmp_path / "source"), "dest", timeout=60)
    assert result.attempts == 2
    assert (result.resumed > 0) is (not refuses_both)
    assert bytes(server.files["dest"]) == NEW
    assert list(server.files) == ["dest"]


class TakesNoOffset(FaultyServer):
    """Refuses the first WRITE to a file that is not at its beginning, as rclone does without its cache."""

    def __init__(self) -> None:
        super().__init__()
        self.broke = False
        self._written: set[bytes] = set()

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        if kind == Kind.WRITE:
            packet = fields.rest()
            request = Reader(packet)
            handle, offset = request.string(), request.uint64()
            if offset and handle not in self._written:
                return status(FAILURE, "Illegal seek")
            if offset > 200_000 and not self.broke:
                self.broke = True
                self.cut()
                raise EOFError
            self._written.add(handle)
            fields = Reader(packet)
        return super().truth(kind, fields)


def test_a_server_that_takes_no_offset_gets_the_whole_file_within_the_same_call(tmp_path: Path) -> None:
    server = TakesNoOffset()
    (tmp_path / "source").write_bytes(NEW)
    with session_at(server, tmp_path / "state") as session:
        result = session.upload_file(str(tmp_path / "source"), "dest", timeout=60)
    assert (result.attempts, result.resumed) == (2, 0)
    assert bytes(server.files["dest"]) == NEW
    assert list(server.files) == ["dest"]


# --- sizes and times that a server tells of an open file --------------------------------------------------------------


def timed(size: int, modified: int) -> bytes:
    return bytes([Kind.ATTRS]) + struct.pack(">IQIII", 0x0D, size, 0o100644, modified, modified)


def test_times_that_differ_between_handle_and_path_are_no_change(tmp_path: Path) -> None:
    server = FaultyServer({Kind.STAT: timed(len(NEW), 1_700_000_000), Kind.FSTAT: timed(len(NEW), 1_700_000_099)})
    server.files["source"] = bytearray(NEW)
    with session_at(server) as session:
        session.download_file("source", str(tmp_path / "dest"), timeout=60)
    assert (tmp_path / "dest").read_bytes() == NEW
    assert (tmp_path / "dest").stat().st_mtime == 1_700_000_000


@pytest.mark.parametrize("size", [1000, len(NEW)])
def test_a_file_whose_time_changes_during_a_read_is_read_again_and_compared(tmp_path: Path, size: int) -> None:
    """rclone's cache writes a file back some seconds after its upload, and its time settles then."""
    times = iter(range(1_700_000_000, 1_700_000_100))

    def later(_: Reader) -> bytes:
        return timed(size, next(times))

    server = FaultyServer({Kind.STAT: later, Kind.FSTAT: later})
    server.files["source"] = bytearray(NEW[:size])
    with session_at(server) as session:
        session.download_file("source", str(tmp_path / "dest"), timeout=60)
    assert (tmp_path / "dest").read_bytes() == NEW[:size]
    assert (tmp_path / "dest").stat().st_mtime == 1_700_000_000


@pytest.mark.parametrize("size", [1000, len(NEW)])
def test_a_file_that_is_written_all_the_time_while_it_is_read_is_incomplete(tmp_path: Path, size: int) -> None:
    times = iter(range(1_700_000_000, 1_700_000_100))

    def written(_: Reader) -> bytes:
        content = server.files["source"]
        content[size // 2] = (content[size // 2] + 1) % 256
        return timed(size, next(times))

    server = FaultyServer({Kind.STAT: written, Kind.FSTAT: written})
    server.files["source"] = bytearray(NEW[:size])
    with session_at(server) as session, pytest.raises(TransferIncomplete, match="written while it was read"):
        session.download_file("source", str(tmp_path / "dest"), timeout=60)
    assert not (tmp_path / "dest").exists()


@pytest.mark.parametrize("by_path", [True, False])
def test_times_are_set_by_path_where_they_cannot_be_set_of_an_open_file(tmp_path: Path, by_path: bool) -> None:
    said: list[str] = []

    def set_by_path(fields: Reader) -> bytes:
        said.append(fields.string().decode())
        return status(0 if by_path else FAILURE)

    server = FaultyServer({Kind.FSETSTAT: status(2), Kind.SETSTAT: set_by_path})
    (tmp_path / "source").write_bytes(b"x")
    with session_at(server) as session:
        for _ in range(2):
            session.upload_file(str(tmp_path / "source"), "dest", timeout=60)
    assert len(said) == (2 if by_path else 1)
    assert all(path.startswith(".iot-sftp-") for path in said)


class LetsNobodyReadBack(FaultyServer):
    """Answers a READ of a file that is open for both with OK, as rclone does; breaks the first upload in its middle."""

    def __init__(self) -> None:
        super().__init__()
        self.broke = False
        self._both: set[bytes] = set()

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        packet = fields.rest()
        request = Reader(packet)
        first = request.string() if packet else b""
        if kind == Kind.READ and first in self._both:
            return status(0)
        if kind == Kind.WRITE and request.uint64() > 200_000 and not self.broke:
            self.broke = True
            self.cut()
            raise EOFError
        answer = super().truth(kind, Reader(packet))
        if kind == Kind.OPEN and request.uint32() & 3 == 3:
            self._both.add(Reader(answer[1:]).string())
        return answer


def test_a_server_that_lets_nobody_read_back_gets_the_whole_file_anew(tmp_path: Path) -> None:
    server = LetsNobodyReadBack()
    (tmp_path / "source").write_bytes(NEW)
    with session_at(server, tmp_path / "state") as session:
        result = session.upload_file(str(tmp_path / "source"), "dest", timeout=60)
    assert (result.attempts, result.resumed) == (2, 0)
    assert bytes(server.files["dest"]) == NEW
    assert list(server.files) == ["dest"]


def test_a_file_that_changes_once_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    modified = [1_700_000_000]

    def read(fields: Reader) -> bytes:
        if modified[0] == 1_700_000_000:
            modified[0] += 5
            server.files["source"][:] = NEW[::-1]
        return FaultyServer.truth(server, Kind.READ, fields)

    def told(_: Reader) -> bytes:
        return timed(len(NEW), modified[0])

    server = FaultyServer({Kind.STAT: told, Kind.FSTAT: told, Kind.READ: read})
    server.files["source"] = bytearray(NEW)
    with session_at(server) as session:
        session.download_file("source", str(tmp_path / "dest"), timeout=60)
    assert (tmp_path / "dest").read_bytes() == NEW[::-1]


@pytest.mark.parametrize("announced", [0, 100, 100_000])
def test_a_server_that_gives_more_than_it_has_announced_is_not_read_for_ever(tmp_path: Path, announced: int) -> None:
    def read(fields: Reader) -> bytes:
        fields.string()
        fields.uint64()
        return bytes([Kind.DATA]) + struct.pack(">I", length := fields.uint32()) + bytes(length)

    server = FaultyServer({Kind.READ: read, Kind.STAT: attrs(announced), Kind.FSTAT: attrs(announced)})
    server.files["source"] = bytearray()
    with session_at(server) as session:
        with pytest.raises(TransferIncomplete, match="gives more"):
            session.download_file("source", str(tmp_path / "dest"), timeout=60)
        assert session.counts.downloaded < 3 * announced + MiB
    assert sorted(set(os.listdir(tmp_path)) - {"home"}) == []


@pytest.mark.parametrize("refused", [status(3), status(FAILURE), status(8)])
def test_a_file_whose_attributes_are_refused_is_read_to_its_end(tmp_path: Path, refused: bytes) -> None:
    server = FaultyServer({Kind.STAT: refused, Kind.FSTAT: refused, Kind.LSTAT: refused, Kind.OPENDIR: refused})
    server.files["source"] = bytearray(NEW)
    with session_at(server) as session:
        assert session.download_file("source", str(tmp_path / "dest"), timeout=60).verified == "acknowledged"
    assert (tmp_path / "dest").read_bytes() == NEW


def test_a_file_that_can_be_had_once_is_downloaded(tmp_path: Path) -> None:
    """As from some mailboxes, where it cannot be asked about once it is open."""
    server = FaultyServer({Kind.FSTAT: status(2, "not extractable")})
    server.files["source"] = bytearray(NEW)
    stat = server.truth

    def once(kind: int | str, fields: Reader) -> bytes:
        if kind == Kind.STAT and Kind.OPEN in server.requests:
            return status(2, "not extractable")
        return stat(kind, fields)

    server.truth = once  # type: ignore[method-assign]
    with session_at(server) as session:
        assert session.download_file("source", str(tmp_path / "dest"), timeout=60).verified == "size"
    assert (tmp_path / "dest").read_bytes() == NEW
