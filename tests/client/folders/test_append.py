"""Growing files are kept up with by their new bytes, and the destination is always a beginning of one version."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from tests.clients import session_of
from tests.servers import Server

from iot.sftp.client import (
    AlreadyExists,
    Append,
    Direction,
    FileOutcome,
    FolderOrder,
    FolderTransfer,
    InvalidRequest,
    Secret,
    Selection,
    ServerSettings,
    SFTPSession,
)
from iot.sftp.client._files.remote_requests import FSYNC, RemoteRequests
from iot.sftp.client._folders.folder_append import FolderAppend
from iot.sftp.client._ssh.requests import Reply
from iot.sftp.client._transfer.growth import LONGEST_LINE


class Log:
    """A log that grows, the folder on the server, and a session between them."""

    def __init__(self, session: SFTPSession, source: Path, dest: Path, folder: str) -> None:
        self.session, self.source, self.dest, self.folder = session, source, dest, folder
        self.path, self.there = source / "app.log", dest / "app.log"

    def write(self, content: bytes, name: str = "app.log") -> None:
        with open(self.source / name, "ab") as file:
            file.write(content)

    def send(self, *, lines: bool = False, **options: object) -> FolderTransfer:
        append = Append(lines=lines)
        return self.session.upload_files(str(self.source), f"{self.folder}/out", append=append, **options)  # type: ignore[arg-type]

    @property
    def arrived(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.dest.iterdir()}


@pytest.fixture
def log(server: Server, folder: str, tmp_path: Path) -> Iterator[Log]:
    source = tmp_path / "logs"
    source.mkdir()
    with session_of(server) as session:
        yield Log(session, source, server.directory / folder / "out", folder)


def test_only_the_new_bytes_are_sent(log: Log) -> None:
    first, second = os.urandom(3_000_000), os.urandom(500_000)
    log.write(first)
    assert log.send().bytes == len(first)
    assert log.arrived == {"app.log": first}
    log.write(second)
    before = log.session.counts.uploaded
    done = log.send()
    assert (done.files, done.bytes, done.failed) == (1, len(second), 0)
    assert log.session.counts.uploaded - before == len(second)
    assert log.arrived == {"app.log": first + second}
    done = log.send()
    assert (done.files, done.bytes, done.failed) == (0, 0, 0)


def test_a_server_without_copy_data_has_them_appended_in_place_and_that_is_told(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    in_place = "copy-data" not in log.session.connect().extensions
    for number in range(3):
        log.write(b"%d" % number * 70_000)
        done = log.send()
        assert (done.files, done.failed, done.in_place) == (1, 0, int(in_place and number > 0))
    assert log.arrived == {"app.log": b"0" * 70_000 + b"1" * 70_000 + b"2" * 70_000}
    told = [record for record in caplog.records if "appended to in place" in record.getMessage()]
    assert len(told) == int(in_place)


def test_new_bytes_are_on_the_disk_of_the_server_before_they_are_recorded(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    sync = RemoteRequests.begin_fsync

    def record(self: RemoteRequests, handle: bytes) -> Future[Reply]:
        synced.append(handle)
        return sync(self, handle)

    monkeypatch.setattr(RemoteRequests, "begin_fsync", record)
    assert FSYNC in log.session.connect().extensions
    for number in range(1, 4):
        log.write(b"%d" % number * 70_000)
        assert log.send().failed == 0
        assert len(synced) == number


def test_of_a_file_that_did_not_grow_nothing_is_asked(log: Log) -> None:
    log.write(b"1")
    log.send()
    asked: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FolderAppend, "transfer", lambda *_args: asked.append(1))
        done = log.send()
    assert (asked, done.files, done.failed) == ([], 0, 0)


def test_a_file_that_was_renamed_by_rotation_keeps_what_was_delivered(log: Log) -> None:
    contents = [os.urandom(300_000), os.urandom(200_000), os.urandom(100_000)]
    expected: dict[str, bytes] = {}
    for content in contents:
        log.write(content)
        log.send()
        log.write(b"the end, written after the last look")
        for number in (2, 1, 0):
            old = log.source / (f"app.log.{number}" if number else "app.log")
            if old.exists():
                old.rename(log.source / f"app.log.{number + 1}")
    log.write(b"new")
    before = log.session.counts.uploaded
    done = log.send()
    expected = {path.name: path.read_bytes() for path in log.source.iterdir()}
    assert len(expected) == 4
    assert (done.failed, log.arrived) == (0, expected)
    assert log.session.counts.uploaded - before < 1_000


def test_a_file_that_was_copied_and_cut_keeps_what_was_delivered(log: Log) -> None:
    content = os.urandom(300_000)
    log.write(content)
    log.send()
    log.write(b"the end")
    shutil.copy(log.path, log.source / "app.log.1")
    os.truncate(log.path, 0)
    log.write(b"new")
    before = log.session.counts.uploaded
    assert log.send().failed == 0
    assert log.arrived == {"app.log": b"new", "app.log.1": content + b"the end"}
    assert log.session.counts.uploaded - before == len(b"the endnew")


def test_a_rotated_file_that_is_not_selected_any_more_is_finished_first(log: Log) -> None:
    outcomes: list[FileOutcome] = []
    order = FolderOrder(
        Direction.UPLOAD,
        str(log.source),
        f"{log.folder}/out",
        selection=Selection(include=["app.log"]),
        append=Append(),
    )
    log.write(b"first ")
    log.session.transfer_folder(order, on_file=outcomes.append)
    log.write(b"last")
    log.path.rename(log.source / "app.log.1")
    log.write(b"new")
    log.session.transfer_folder(order, on_file=outcomes.append)
    told = [(outcome.path, Path(outcome.dest or "").name, outcome.size) for outcome in outcomes]
    assert told == [("app.log", "app.log", 6), ("app.log.1", "app.log", 4), ("app.log", "app.log", 3)]
    assert log.arrived == {"app.log": b"new"}


def test_a_rotated_file_that_was_compressed_cannot_be_finished_and_is_replaced(log: Log) -> None:
    log.write(b"first ")
    log.send()
    log.write(b"last")
    with gzip.open(log.source / "app.log.1.gz", "wb") as packed:
        packed.write(log.path.read_bytes())
    log.path.unlink()
    log.write(b"new, and longer than before")
    assert log.send().failed == 0
    assert log.arrived == {path.name: path.read_bytes() for path in log.source.iterdir()}


def test_a_file_that_is_written_anew_replaces_its_destination(log: Log) -> None:
    for content in (b"longer content", b"short", b"shoRt, and more", b"", b"x"):
        log.path.write_bytes(content)
        assert log.send().failed == 0
        assert log.arrived == {"app.log": content}


def test_whole_lines_only(log: Log) -> None:
    steps = [
        (b"", b""),
        (b"first\r\nse", b"first\r\n"),
        (b"cond\nthi", b"first\r\nsecond\n"),
        (b"rd", b"first\r\nsecond\n"),
        (b"\0\0\n", b"first\r\nsecond\nthird\0\0\n"),
    ]
    for written, expected in steps:
        log.write(written)
        assert log.send(lines=True).failed == 0
        assert log.there.read_bytes() == expected
    log.write(b"x" * (LONGEST_LINE + 1))
    log.send(lines=True)
    assert log.there.read_bytes() == log.path.read_bytes()
    log.write(b"\nwithout an end")
    log.path.rename(log.source / "app.log.1")
    log.send(lines=True)
    assert log.arrived["app.log.1"] == (log.source / "app.log.1").read_bytes()[: -len(b"without an end")]
    log.write(b"new\n")
    log.send(lines=True)
    assert log.there.read_bytes() == b"new\n"


def test_what_others_have_written_is_left_alone(log: Log, server: Server, tmp_path: Path) -> None:
    log.write(b"header\nours")
    log.send()
    other_source = tmp_path / "other"
    other_source.mkdir()
    with session_of(server) as other:
        second = Log(other, other_source, log.dest, log.folder)
        second.write(b"header\ntheirs, of another device")
        done = second.send()
        assert [failure.code for failure in done.failures] == [AlreadyExists.code]
    assert log.arrived == {"app.log": b"header\nours"}
    log.there.write_bytes(b"header\nOurs")
    log.write(b" and more")
    assert [failure.code for failure in log.send().failures] == [AlreadyExists.code]
    log.path.write_bytes(b"anew")
    assert [failure.code for failure in log.send().failures] == [AlreadyExists.code]
    assert log.arrived == {"app.log": b"header\nOurs"}
    log.there.unlink()
    assert log.send().failed == 0
    assert log.arrived == {"app.log": b"anew"}


def test_without_a_record_what_is_there_is_compared_and_appended_to(log: Log, server: Server) -> None:
    content = os.urandom(2_000_000)
    log.write(content)
    log.send()
    log.write(b"more")
    with session_of(server) as fresh:
        again = Log(fresh, log.source, log.dest, log.folder)
        before = fresh.counts.uploaded
        assert again.send().failed == 0
        assert fresh.counts.uploaded - before == 4
    assert log.arrived == {"app.log": content + b"more"}


def test_hashes_are_compared_where_they_are_asked_for(log: Log) -> None:
    for _ in range(3):
        log.write(os.urandom(100_000))
        assert log.send(verify="sha256").failed == 0
        assert log.arrived == {"app.log": log.path.read_bytes()}


@pytest.mark.parametrize(
    "options",
    [{"then": "delete"}, {"then": "move", "move_to": "m"}, {"if_exists": "skip"}, {"min_age": 1.0}, {"append": "x"}],
)
def test_what_does_not_go_with_it_is_refused(options: dict[str, Any]) -> None:
    session = SFTPSession(ServerSettings("127.0.0.1", 1, "user", password=Secret("x")))
    with pytest.raises(InvalidRequest):
        session.upload_files("a", "b", **({"append": Append()} | options))
