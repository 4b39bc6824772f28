"""A remote log is kept up with by its new bytes, and the local file is always a beginning of one version of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.clients import session_of
from tests.faulty_links import Break, BreakingRelay
from tests.servers import Server

from iot.sftp.client import AlreadyExists, Append, FolderTransfer, SFTPSession
from iot.sftp.client._transfer.append_download import SLICE


class RemoteLog:
    """A log on the server, the local folder, and a session between them."""

    def __init__(self, session: SFTPSession, server: Server, folder: str, here: Path) -> None:
        self.session, self.folder = session, folder
        self.path, self.here = server.directory / folder / "app.log", here / "app.log"

    def write(self, content: bytes) -> None:
        with open(self.path, "ab") as file:
            file.write(content)

    def fetch(self, *, lines: bool = False) -> FolderTransfer:
        return self.session.download_files(self.folder, str(self.here.parent), append=Append(lines=lines))


@pytest.fixture
def log(server: Server, folder: str, tmp_path: Path) -> Iterator[RemoteLog]:
    with session_of(server) as session:
        yield RemoteLog(session, server, folder, tmp_path / "here")


def test_only_the_new_bytes_are_fetched(log: RemoteLog) -> None:
    parts = [os.urandom(SLICE + 1_000_000), b"x", os.urandom(SLICE * 2)]
    for number, part in enumerate(parts):
        log.write(part)
        before = log.session.counts.downloaded
        done = log.fetch()
        assert (done.files, done.bytes, done.failed, done.in_place) == (1, len(part), 0, 1)
        assert log.session.counts.downloaded - before == len(part)
        assert log.here.read_bytes() == b"".join(parts[: number + 1])
    assert log.fetch().bytes == 0
    assert [path.name for path in log.here.parent.iterdir()] == ["app.log"]


def test_a_file_that_was_rotated_or_written_anew_replaces_the_local_one(log: RemoteLog) -> None:
    log.write(b"first, and long")
    log.fetch()
    for content in (b"new", b"", b"longer than it was before", b"changed within the same length"[:25]):
        log.path.unlink()
        log.write(content)
        assert log.fetch().failed == 0
        assert log.here.read_bytes() == content


def test_whole_lines_only(log: RemoteLog) -> None:
    for written, expected in ((b"one\r\ntw", b"one\r\n"), (b"o", b"one\r\n"), (b"\nthr", b"one\r\ntwo\n")):
        log.write(written)
        assert log.fetch(lines=True).failed == 0
        assert log.here.read_bytes() == expected
    log.write(b"x" * SLICE * 2)
    log.fetch(lines=True)
    assert log.path.read_bytes().startswith(log.here.read_bytes())
    assert log.here.stat().st_size >= SLICE * 2


def test_what_others_have_written_here_is_left_alone(log: RemoteLog) -> None:
    log.here.parent.mkdir()
    log.here.write_bytes(b"of others")
    log.write(b"a log")
    assert [failure.code for failure in log.fetch().failures] == [AlreadyExists.code]
    assert log.here.read_bytes() == b"of others"
    log.here.write_bytes(b"a lo")
    assert log.fetch().failed == 0
    assert log.here.read_bytes() == b"a log"
    log.here.write_bytes(b"a l0g")
    log.write(b", longer")
    assert [failure.code for failure in log.fetch().failures] == [AlreadyExists.code]


@pytest.mark.parametrize("after", [0, 3_000, 100_000, 2_000_000, 5_000_000])
def test_over_a_link_that_breaks_it_is_a_beginning_and_goes_on(
    log: RemoteLog, server: Server, tmp_path: Path, after: int
) -> None:
    log.write(os.urandom(SLICE))
    relay = BreakingRelay((server.host, server.port))
    with relay.running() as port, session_of(server, port=port, state=tmp_path / "state") as session:
        log.session = session
        log.fetch()
        log.write(os.urandom(SLICE + 100_000))
        relay.break_at(Break(after))
        log.fetch()
        relay.break_at(None)
        assert log.path.read_bytes().startswith(log.here.read_bytes())
        assert log.fetch().failed == 0
    assert log.here.read_bytes() == log.path.read_bytes()
