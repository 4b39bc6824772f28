"""A remote log is kept up with by its new bytes, and the local file is always a beginning of one version of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.clients import session_of
from tests.faulty_links import Break, BreakingRelay
from tests.servers import Server

from iot.sftp.client import AlreadyExists, Append, FolderTransfer, PermissionDenied, SFTPSession
from iot.sftp.client._folders.remote_rotation import earlier_names
from iot.sftp.client._transfer import append_download
from iot.sftp.client._transfer.append_download import SLICE
from iot.sftp.client._transfer.replace import replace_local


class RemoteLog:
    """A log on the server, the local folder, and a session between them."""

    def __init__(self, session: SFTPSession, server: Server, folder: str, here: Path) -> None:
        self.session, self.folder = session, folder
        self.path, self.here = server.directory / folder / "app.log", here / "app.log"

    def write(self, content: bytes) -> None:
        with open(self.path, "ab") as file:
            file.write(content)

    def fetch(self, *, lines: bool = False, include: Sequence[str] = ()) -> FolderTransfer:
        append = Append(lines=lines)
        return self.session.download_files(self.folder, str(self.here.parent), append=append, include=include)

    def rotate(self) -> None:
        """Rename what is there, as logrotate does."""
        for number in (2, 1, 0):
            old = self.path.with_name(f"app.log.{number}" if number else "app.log")
            if old.exists():
                old.rename(self.path.with_name(f"app.log.{number + 1}"))

    def there(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.path.parent.iterdir()}

    def fetched(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.here.parent.iterdir()}


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


def test_files_that_were_renamed_by_rotation_are_finished_and_not_fetched_again(log: RemoteLog) -> None:
    for number in range(3):
        log.write(os.urandom(300_000))
        log.fetch()
        log.write(b"the end, written after the last look")
        log.rotate()
        if number != 1:  # twice without a look between
            log.write(b"new")
            before = log.session.counts.downloaded
            assert log.fetch().failed == 0
            assert log.fetched() == log.there()
            assert log.session.counts.downloaded - before < 1_000
    assert len({path.stat().st_ino for path in log.here.parent.iterdir()}) == len(log.there()) == 4


def test_a_file_that_was_copied_and_cut_is_finished_and_not_fetched_again(log: RemoteLog) -> None:
    log.write(os.urandom(300_000))
    log.fetch()
    log.write(b"the end")
    shutil.copy(log.path, log.path.with_name("app.log-20261129"))
    os.truncate(log.path, 0)
    log.write(b"new")
    before = log.session.counts.downloaded
    done = log.fetch()
    assert (done.failed, done.bytes) == (0, len(b"the endnew"))
    assert log.session.counts.downloaded - before == len(b"the endnew")
    assert log.fetched() == log.there()


@pytest.mark.parametrize(
    "path, earlier",
    [
        ("app.log", ["app"]),
        ("logs/app.log.12", ["logs/app.log", "logs/app"]),
        ("app.log.2.gz", ["app.log.2", "app.log", "app", "app.log.gz"]),
        ("app-3.log", ["app-3", "app", "app.log"]),
        ("7", []),
    ],
)
def test_a_rotated_name_shows_which_names_it_may_have_had(path: str, earlier: list[str]) -> None:
    assert earlier_names(path) == earlier


def test_a_rotated_file_that_is_not_selected_any_more_is_finished_first(
    log: RemoteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bytes] = []

    def replace_and_tell(*arguments: Any) -> None:
        held.append(log.here.read_bytes() if log.here.exists() else b"")
        replace_local(*arguments)

    monkeypatch.setattr(append_download, "replace_local", replace_and_tell)
    log.write(b"first ")
    log.fetch(include=["app.log"])
    log.write(b"last")
    log.rotate()
    log.write(b"new")
    done = log.fetch(include=["app.log"])
    assert (done.failed, done.files, done.bytes) == (0, 2, len(b"lastnew"))
    assert held == [b"", b"first last"]
    assert log.fetched() == {"app.log": b"new"}


def test_what_others_have_written_under_the_new_name_of_a_rotated_file_is_left_alone(log: RemoteLog) -> None:
    log.write(b"first ")
    log.fetch()
    log.write(b"last")
    log.rotate()
    log.write(b"new")
    log.here.with_name("app.log.1").write_bytes(b"of others")
    assert [failure.code for failure in log.fetch().failures] == [AlreadyExists.code]
    assert log.fetched() == {"app.log": b"new", "app.log.1": b"of others"}


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


def test_a_rotated_file_that_grows_on_does_not_hold_up_the_new_one(
    log: RemoteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write(b"first")
    log.fetch()
    log.rotate()
    log.write(b"new")
    begin = append_download._AppendDownload._begin

    def refuse(*_: object) -> None:
        raise PermissionDenied("not yet")

    monkeypatch.setattr(append_download._AppendDownload, "_begin", refuse)
    assert log.fetch().failed == 1
    assert log.fetched() == {"app.log": b"first", "app.log.1": b"first"}
    with open(log.path.with_name("app.log.1"), "ab") as late:  # its producer was not told to open another one yet
        late.write(b", and late")
    assert log.fetch(include=["app.log.1"]).failed == 0
    monkeypatch.setattr(append_download._AppendDownload, "_begin", begin)
    assert log.fetch().failed == 0
    assert log.fetched() == log.there()


def test_a_change_in_the_middle_is_seen_where_all_bytes_are_compared(log: RemoteLog) -> None:
    def fetch() -> FolderTransfer:
        return log.session.download_files(log.folder, str(log.here.parent), append=Append(), verify="sha256")

    log.write(os.urandom(900_000))
    assert fetch().failed == 0
    with open(log.path, "r+b") as file:
        file.seek(300_000)
        file.write(b"changed")
    log.write(b"and longer")
    assert fetch().failed == 0
    assert log.here.read_bytes() == log.path.read_bytes()
