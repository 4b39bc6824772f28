"""Whatever producers, links and processes do, a destination is always a beginning of one version of its source."""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.clients import session_of
from tests.faulty_links import Break, BreakingRelay
from tests.servers import Server, openssh

from iot.sftp.client import Append, FileVersion, GrowthRecord, SFTPError, SFTPSession

EXAMPLES = int(os.environ.get("APPEND_EXAMPLES", "8"))
NAMES = ("app.log", "app.log.1", "app.log.2")
STEPS = st.lists(
    st.sampled_from(
        ["append", "append a lot", "rename", "copy and cut", "write anew", "change", "empty"]
        + ["send", "send", "send in parts", "send in parts", "send and die", "restart"]
    ),
    min_size=4,
    max_size=12,
)


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
        if self.is_dying and not growth.pending:
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


@pytest.fixture(scope="module")
def bare_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give an OpenSSH server that copies nothing, as those before version 9.0."""
    with openssh(tmp_path_factory.mktemp("bare"), sftp_options="-P copy-data") as server:
        yield server


@pytest.mark.parametrize("kind", ["openssh_server", "proftpd_server", "bare_server"])
@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=STEPS, seed=st.integers(0, 1 << 32), data=st.data())
def test_a_destination_is_always_a_beginning_of_one_version(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, steps: list[str], seed: int, data: st.DataObject
) -> None:
    server: Server = request.getfixturevalue(kind)
    chance = random.Random(seed)
    case = tmp_path / f"{chance.randrange(1 << 60):x}"
    source, there = case / "logs", server.directory / f"{tmp_path.name}-{case.name}"
    source.mkdir(parents=True)
    book, producer = Book(), Producer(source, chance)
    reader = Reader(there, producer)
    relay = BreakingRelay((server.host, server.port))
    with relay.running() as port:

        def session() -> SFTPSession:
            return open_sessions.enter_context(session_of(server, port=port, state=case / "state"))

        from contextlib import ExitStack

        with ExitStack() as open_sessions:
            ours = session()

            def send() -> bool:
                with reader.reading():
                    try:
                        done = ours.upload_files(str(source), there.name, append=Append(), ledger=book)
                    except SFTPError:
                        return False
                return not done.failed

            for step in steps:
                if step == "append":
                    producer.append(2_000)
                elif step == "append a lot":
                    producer.append(900_000)
                elif step == "rename":
                    producer.rename()
                elif step == "copy and cut":
                    producer.copy_and_cut()
                elif step == "write anew":
                    producer.write_anew()
                elif step == "change":
                    producer.change()
                elif step == "empty":
                    producer.empty()
                elif step == "send":
                    send()
                elif step == "send in parts":
                    point = Break(data.draw(st.integers(0, 400_000), label="bytes"), down=data.draw(st.booleans()))
                    relay.break_at(point)
                    send()
                    relay.break_at(None)
                elif step == "send and die":
                    book.is_dying = True
                    send()
                    book.is_dying = False
                if step in {"restart", "send and die"}:
                    ours.disconnect()
                    ours = session()
            relay.break_at(None)
            assert send() or send(), "what is at the destination is taken for another one's"
            for name in NAMES:
                if (source / name).exists():
                    assert (there / name).read_bytes() == (source / name).read_bytes(), name
