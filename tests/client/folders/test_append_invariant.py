"""Whatever producers, links and processes do, a destination is always a beginning of one version of its source."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.clients import settings_of
from tests.faulty_links import Break, BreakingRelay
from tests.servers import Server, openssh

from iot.sftp.client import Append, FileVersion, FolderTransfer, GrowthRecord, SFTPError, SFTPSession

EXAMPLES = int(os.environ.get("APPEND_EXAMPLES", "6"))
NAMES = ("app.log", "app.log.1", "app.log.2")
WORDS = ("append", "append a lot", "rename", "copy and cut", "write anew", "change", "empty", "send", "send and die")
BREAKS = st.builds(Break, st.integers(0, 400_000), st.booleans(), st.just("cut"))
STEPS = st.lists(st.one_of(st.sampled_from((*WORDS, "restart")), BREAKS), min_size=4, max_size=12)


class Book:
    """What is remembered from one process to the next; `is_dying` loses what is noted after an arrival."""

    def __init__(self) -> None:
        self.is_dying = False
        self._versions: dict[str, FileVersion] = {}
        self._growths: dict[str, GrowthRecord] = {}

    def knows(self, path: str, version: FileVersion) -> bool:
        known = self._versions.get(path)
        return known is not None and known.is_same_as(version)

    def note(self, path: str, version: FileVersion) -> None:
        self._versions[path] = version

    def settle(self, path: str) -> None:
        self._versions.pop(path, None)

    def growth(self, path: str) -> GrowthRecord | None:
        return self._growths.get(path)

    def growing_as(self, inode: int) -> list[str]:
        return [path for path, growth in self._growths.items() if growth.inode == inode]

    def note_growth(self, path: str, growth: GrowthRecord, version: FileVersion | None) -> None:
        if self.is_dying and growth.coming is None:
            return
        self._growths[path] = growth
        if version is not None:
            self._versions[path] = version


class Producer:
    """Writes and rotates a log, and remembers all that it ever was."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self._folder, self._chance = folder, chance
        self._log = folder / NAMES[0]
        self.versions: list[bytes] = [b""]  # of each file, what it held last

    def append(self, size: int) -> None:
        with open(self._log, "ab") as file:
            file.write(self._chance.randbytes(self._chance.randint(1, size)))
        self._note(self._log)

    def rename(self) -> None:
        for old, new in ((1, 2), (0, 1)):
            with suppress(FileNotFoundError):
                (self._folder / NAMES[old]).rename(self._folder / NAMES[new])

    def copy_and_cut(self) -> None:
        with suppress(FileNotFoundError):
            (self._folder / NAMES[1]).rename(self._folder / NAMES[2])
        if self._log.exists():
            shutil.copy(self._log, self._folder / NAMES[1])
            os.truncate(self._log, 0)

    def write_anew(self) -> None:
        self._log.write_bytes(self._chance.randbytes(self._chance.randint(0, 100_000)))
        self._note(self._log)

    def change(self) -> None:
        if self._log.exists() and self._log.stat().st_size:
            with open(self._log, "r+b") as file:
                file.seek(self._chance.randrange(self._log.stat().st_size))
                file.write(self._chance.randbytes(3))
            self._note(self._log)

    def empty(self) -> None:
        self._log.write_bytes(b"")

    def _note(self, path: Path) -> None:
        content = path.read_bytes()
        self.versions = [each for each in self.versions if not content.startswith(each)] + [content]


class Reader:
    """Reads the destination in the server's own directory, all the time."""

    def __init__(self, folder: Path, producer: Producer) -> None:
        self._folder, self._producer = folder, producer
        self._ended = threading.Event()
        self.wrong: list[str] = []

    def look(self) -> None:
        for name in NAMES:
            with suppress(FileNotFoundError):
                content = (self._folder / name).read_bytes()
                if not any(version.startswith(content) for version in self._producer.versions):
                    self.wrong.append(f"{name}: {len(content)} bytes are not the beginning of any version")

    def run(self) -> None:
        while not self._ended.wait(0.001):
            self.look()

    @contextmanager
    def reading(self) -> Iterator[None]:
        self._ended.clear()
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
        self.look()
        assert not self.wrong, self.wrong


class Case:
    """One source, one destination, a link between them that breaks, and processes one after the other."""

    def __init__(
        self, server: Server, directory: Path, port: int, relay: BreakingRelay, seed: int, *, download: bool = False
    ) -> None:
        self._server, self._port, self._relay, self._directory = server, port, relay, directory
        self._here, self._there, self._download = directory / "logs", server.directory / directory.name, download
        self._source, self._dest = (self._there, self._here) if download else (self._here, self._there)
        self._source.mkdir()
        self._book = Book()
        self.producer = Producer(self._source, random.Random(seed))  # noqa: S311 - no secret
        self._reader = Reader(self._dest, self.producer)
        self._session = self._new_session()

    def _new_session(self) -> SFTPSession:
        return SFTPSession(settings_of(self._server, port=self._port, state=self._directory / "state"))

    def send(self) -> bool:
        with self._reader.reading():
            try:
                done = self._transfer(append=Append(), ledger=self._book)
            except SFTPError:
                return False
        return not done.failed

    def _transfer(self, **options: Any) -> FolderTransfer:
        if self._download:  # nothing here remembers each byte: a change in the middle is seen if all are compared
            return self._session.download_files(self._there.name, str(self._here), verify="sha256", **options)
        return self._session.upload_files(str(self._here), self._there.name, **options)

    def send_over(self, point: Break) -> None:
        self._relay.break_at(point)
        self.send()
        self._relay.break_at(None)

    def send_and_die(self) -> None:
        self._book.is_dying = True
        self.send()
        self._book.is_dying = False
        self.restart()

    def restart(self) -> None:
        self._session.disconnect()
        self._session = self._new_session()

    def end(self) -> None:
        """All is sent in the end; not at once, where a transfer that was cut holds its destination for a moment."""
        assert any(self.send() for _ in range(5)), "what is at the destination is taken for another one's"
        for path in self._source.iterdir():
            assert (self._dest / path.name).read_bytes() == path.read_bytes(), path.name
        self._session.disconnect()


@pytest.fixture(scope="module")
def bare_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give an OpenSSH server that copies nothing, as those before version 9.0."""
    with openssh(tmp_path_factory.mktemp("bare"), sftp_options="-P copy-data") as server:
        yield server


@pytest.mark.parametrize("download", [False, True], ids=["upload", "download"])
@pytest.mark.parametrize("kind", ["openssh_server", "proftpd_server", "bare_server"])
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, seed=st.integers(0, 1 << 32))
def test_a_destination_is_always_a_beginning_of_one_version(
    request: pytest.FixtureRequest, tmp_path: Path, *, kind: str, download: bool, steps: list[str | Break], seed: int
) -> None:
    server: Server = request.getfixturevalue(kind)
    relay = BreakingRelay((server.host, server.port))
    with relay.running() as port:
        case = Case(server, Path(tempfile.mkdtemp(dir=tmp_path)), port, relay, seed, download=download)
        does: dict[str, Callable[[], object]] = {
            "append": lambda: case.producer.append(2_000),
            "append a lot": lambda: case.producer.append(900_000),
            "rename": case.producer.rename,
            "copy and cut": case.producer.copy_and_cut,
            "write anew": case.producer.write_anew,
            "change": case.producer.change,
            "empty": case.producer.empty,
            "send": case.send,
            "send and die": case.send_and_die,
            "restart": case.restart,
        }
        for step in steps:
            if isinstance(step, Break):
                case.send_over(step)
            else:
                does[step]()
        case.end()


def test_what_arrived_and_was_not_recorded_is_known_as_ours_after_rotations(
    openssh_server: Server, tmp_path: Path
) -> None:
    relay = BreakingRelay((openssh_server.host, openssh_server.port))
    with relay.running() as port:
        case = Case(openssh_server, Path(tempfile.mkdtemp(dir=tmp_path)), port, relay, 0)
        for _ in range(3):
            case.producer.write_anew()
            case.producer.append(100)
            case.send_and_die()
            case.producer.append(100)
            case.producer.rename()
        case.producer.append(100)
        case.end()
