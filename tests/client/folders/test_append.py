"""Growing files are kept up with by their new bytes, and the destination is always a beginning of one version."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.clients import session_of
from tests.servers import Server

from iot.sftp.client import Append, FolderTransfer, SFTPSession


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
