"""Bytes are read into memory and written from it as whole and as safely as files are transferred."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.clients import session_of, set_retry_policy
from tests.faulty_servers import (
    FAILURE,
    FILE,
    PASSWORD,
    PERMISSION_DENIED,
    POSIX_RENAME,
    FaultyServer,
    attrs,
    data,
    status,
)
from tests.servers import Relay, Server

from iot.sftp.client import (
    Busy,
    FileContent,
    IsADirectory,
    NotFound,
    PathNotAllowed,
    Secret,
    ServerSettings,
    SFTPError,
    SFTPSession,
    TooLarge,
    TransferIncomplete,
    Unsupported,
)
from iot.sftp.client._ssh.packets import Kind, Reader

KiB = 1024


@pytest.fixture
def session(server: Server) -> Iterator[SFTPSession]:
    with session_of(server) as opened:
        yield opened


def session_at(port: int) -> SFTPSession:
    return SFTPSession(ServerSettings("127.0.0.1", port, "device", Secret(PASSWORD)))


# --- what is written is read back -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 64 * KiB, 3_000_000])
@pytest.mark.parametrize("verify", ["size", "sha256"])
def test_what_is_written_is_there_and_read_back(
    server: Server, folder: str, session: SFTPSession, size: int, verify: str
) -> None:
    content, path = os.urandom(size), f"{folder}/new/deep/file"
    before = int(time.time())
    done = session.write_file(path, content, verify="sha256" if verify == "sha256" else "size", timeout=60)
    file = server.directory / path
    assert (file.read_bytes(), done.bytes, done.atomic) == (content, size, True)
    assert file.stat().st_mode & 0o777 == 0o644
    read = session.read_file(path, verify="sha256" if verify == "sha256" else "size", timeout=60)
    assert (read.content, read.modified) == (content, int(file.stat().st_mtime))
    assert before - 2 <= file.stat().st_mtime <= time.time() + 2
    assert (read.verified == "size") is (verify == "size")
    assert os.listdir(file.parent) == ["file"]


@pytest.fixture
def openssh_session(openssh_server: Server) -> Iterator[SFTPSession]:
    with session_of(openssh_server) as opened:
        yield opened


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_any_bytes_replace_any_others(openssh_session: SFTPSession, content: bytes) -> None:
    openssh_session.write_file("any-bytes", content, timeout=60)
    assert openssh_session.read_file("any-bytes", timeout=60).content == content


def test_the_bytes_are_in_no_repr() -> None:
    assert "hunter2" not in repr(FileContent(b"hunter2", 1))


def test_no_file_is_made_on_this_side_and_no_descriptor_left(
    openssh_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = tmp_path / "temporary"
    nowhere.mkdir(0o500)
    monkeypatch.setattr(tempfile, "tempdir", str(nowhere))
    with session_of(openssh_server) as session:
        session.connect()
        before = len(os.listdir("/proc/self/fd"))
        session.write_file("no-local-file", b"content", timeout=60)
        assert session.read_file("no-local-file", timeout=60).content == b"content"
        with pytest.raises(TooLarge):
            session.read_file("no-local-file", longest=1, timeout=60)
        assert len(os.listdir("/proc/self/fd")) == before
    assert os.listdir(nowhere) == []


def test_systems_without_files_in_memory_have_a_nameless_one(
    openssh_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = os.listdir(tmp_path)
    with session_of(openssh_server) as session:
        session.write_file("no-memfd", b"content", timeout=60)
        assert session.read_file("no-memfd", timeout=60).content == b"content"
    assert os.listdir(tmp_path) == before


def test_a_process_without_a_descriptor_left_is_busy(openssh_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_name: str, _flags: int) -> int:
        raise OSError(24, "Too many open files")

    with session_of(openssh_server) as session:
        session.connect()
        monkeypatch.setattr(os, "memfd_create", none_left)
        with pytest.raises(Busy, match="too many files open"):
            session.write_file("busy", b"content", timeout=60)
        (openssh_server.directory / "some-file").touch()
        with pytest.raises(Busy, match="too many files open"):
            session.read_file("some-file", timeout=60)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_file_that_is_too_long_is_not_read(server: Server, folder: str, session: SFTPSession) -> None:
    (server.directory / folder / "long").write_bytes(bytes(1001))
    assert len(session.read_file(f"{folder}/long", longest=1001, timeout=60).content) == 1001
    with pytest.raises(TooLarge, match="more than 1000 bytes"):
        session.read_file(f"{folder}/long", longest=1000, timeout=60)


def test_what_is_no_file_is_not_read(server: Server, folder: str, session: SFTPSession) -> None:
    os.mkfifo(server.directory / folder / "pipe")
    with pytest.raises(NotFound):
        session.read_file(f"{folder}/none", timeout=60)
    with pytest.raises(IsADirectory):
        session.read_file(folder, timeout=60)
    with pytest.raises(PathNotAllowed):
        session.read_file(f"{folder}/pipe", timeout=60)


@pytest.mark.parametrize("path", ["", ".", "/", "..", "{folder}", "{folder}/", "{folder}/.", "{folder}/x/.."])
def test_a_directory_is_not_written_as_a_file(server: Server, folder: str, session: SFTPSession, path: str) -> None:
    before = sorted(os.listdir(server.directory))
    with pytest.raises(IsADirectory):
        session.write_file(path.format(folder=folder), b"content", timeout=60)
    assert sorted(os.listdir(server.directory)) == before
    assert os.listdir(server.directory / folder) == []


def test_a_link_to_a_directory_is_not_replaced_by_a_file(server: Server, folder: str, session: SFTPSession) -> None:
    current = server.directory / folder / "current"
    (server.directory / folder / "release-5").mkdir()
    current.symlink_to("release-5")
    with pytest.raises(IsADirectory):
        session.write_file(f"{folder}/current", b"content", timeout=60)
    assert current.is_symlink()
    assert sorted(os.listdir(server.directory / folder)) == ["current", "release-5"]


def test_a_root_that_is_not_there_yet_does_not_become_a_file(openssh_server: Server, tmp_path: Path) -> None:
    with session_of(openssh_server, root=f"{tmp_path}/root") as session:
        for path in ("/", ".", "", "a/.."):
            with pytest.raises(IsADirectory):
                session.write_file(path, b"content", timeout=60)
        assert not (tmp_path / "root").exists()
        session.write_file("/a", b"content", timeout=60)
    assert (tmp_path / "root" / "a").read_bytes() == b"content"


# --- one version, whatever happens meanwhile --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 1000, 64 * KiB])
def test_a_file_that_is_rewritten_while_it_is_read_is_read_again(size: int) -> None:
    """No time shows it: so it is read twice, and the second time is another version's."""
    server = FaultyServer()
    server.files["file"] = bytearray(b"A" * size)

    def read(fields: Reader) -> bytes:
        answer = server.truth(Kind.READ, fields)
        server.files["file"][:] = b"B" * size
        return answer

    server._answers[Kind.READ] = read
    with server.running() as port:
        session = session_at(port)
        assert session.read_file("file", timeout=60).content == b"B" * size
        session.disconnect()


def test_a_file_that_is_rewritten_all_the_time_is_not_read() -> None:
    server, versions = FaultyServer(), itertools.cycle((b"AAAA", b"BBBB", b"CCCC"))
    server.files["file"] = bytearray(next(versions))

    def read(fields: Reader) -> bytes:
        server.files["file"][:] = next(versions)
        return server.truth(Kind.READ, fields)

    server._answers[Kind.READ] = read
    with server.running() as port:
        session = session_at(port)
        with pytest.raises(TransferIncomplete, match="written while it was read"):
            session.read_file("file", timeout=60)
        session.disconnect()


def test_a_file_that_grows_while_it_is_read_is_read_again() -> None:
    server = FaultyServer()
    server.files["grows"] = bytearray(b"first")

    def read(fields: Reader) -> bytes:
        server.files["grows"][:] = b"second one"  # behind what STAT has said
        server.be_honest()
        return server.truth(Kind.READ, fields)

    server._answers[Kind.READ] = read
    with server.running() as port:
        session = session_at(port)
        assert session.read_file("grows", timeout=60).content == b"second one"
        session.disconnect()


def test_a_file_without_a_size_is_read_to_its_end_and_an_endless_one_not() -> None:
    untold = attrs(None, FILE)
    server = FaultyServer({Kind.STAT: untold, Kind.LSTAT: untold, Kind.FSTAT: untold})
    server.files["file"] = bytearray(b"x" * 1000)
    with server.running() as port:
        session = session_at(port)
        read = session.read_file("file", longest=1000, timeout=60)
        assert (read.content, read.modified, read.verified) == (b"x" * 1000, None, "acknowledged")
        with pytest.raises(TooLarge):
            session.read_file("file", longest=999, timeout=60)
        server._answers[Kind.READ] = lambda _: data(bytes(32 * KiB))
        with pytest.raises(TooLarge):
            session.read_file("file", longest=64 * KiB, timeout=60)
        session.disconnect()


def test_what_was_there_stays_if_the_writing_fails() -> None:
    server = FaultyServer({Kind.WRITE: status(FAILURE)})
    server.files["file"] = bytearray(b"old")
    with server.running() as port:
        session = session_at(port)
        with pytest.raises(SFTPError):
            session.write_file("file", b"new", timeout=60)
        assert server.files == {"file": b"old"}
        session.disconnect()


def test_a_drop_box_gets_new_files_and_keeps_old_ones() -> None:
    refusals: dict[int | str, bytes] = dict.fromkeys([POSIX_RENAME, Kind.RENAME], status(PERMISSION_DENIED))
    server = FaultyServer({**refusals})
    server.files["old"] = bytearray(b"old")
    with server.running() as port:
        session = session_at(port)
        assert session.write_file("new", b"new", timeout=60).atomic is False
        with pytest.raises(Unsupported, match="renam"):
            session.write_file("old", b"new", timeout=60)
        assert server.files == {"old": b"old", "new": b"new"}
        session.disconnect()


def test_a_connection_that_breaks_before_the_answer_is_no_failure(
    openssh_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_retry_policy(monkeypatch, first_pause=0.01)
    folder = f"content-{tmp_path.parent.name}-{tmp_path.name}"
    there, path = openssh_server.directory / folder, f"{folder}/cut"
    there.mkdir()
    content, relay = os.urandom(500_000), Relay((openssh_server.host, openssh_server.port))
    with relay.running() as port, session_of(openssh_server, port=port, state=tmp_path / "state") as session:
        session.connect()
        relay.cut_after = 300
        assert session.write_file(path, content, timeout=60).attempts == 2
        relay.cut_after = 100_000
        assert session.read_file(path, timeout=60).content == content
        assert session.counts.connections == 3
        # The server may open late what it was asked to over the lost connection: each session looks again
        end = time.monotonic() + 60
        while os.listdir(there) != ["cut"] and time.monotonic() < end:
            session.disconnect()
            session.connect()
    assert os.listdir(there) == ["cut"]
    assert (there / "cut").read_bytes() == content
