"""A destination is the old complete file or the new one, and nothing is left beside it, whatever a server lacks."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.clients import session_of, set_retry_policy
from tests.faulty_servers import (
    EOF,
    FAILURE,
    FSYNC,
    LIMITS,
    OK,
    PASSWORD,
    PERMISSION_DENIED,
    POSIX_RENAME,
    UNSUPPORTED,
    AnswersInReverse,
    AnswersStrangers,
    FaultyServer,
    GrantsOneChannel,
    ReadsShort,
    attrs,
    data,
    status,
)
from tests.folders import write_as_long_ago
from tests.servers import openssh

from iot.sftp.client import (
    IsADirectory,
    NoSpace,
    PermissionDenied,
    Secret,
    ServerSettings,
    SFTPError,
    SFTPSession,
    TimeLimits,
    TransferIncomplete,
)
from iot.sftp.client._ssh.packets import Kind, Reader

OLD, NEW = b"old" * 1000, os.urandom(3_000_000)
LIMITS_HERE = TimeLimits(stall=20)


@pytest.fixture(autouse=True)
def one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    set_retry_policy(monkeypatch, attempts=1)


@contextmanager
def session_with(server: FaultyServer, tmp_path: Path) -> Iterator[SFTPSession]:
    """A session with a server that has an old destination and a new source, as has `tmp_path`."""
    server.files |= {"source": bytearray(NEW), "dest": bytearray(OLD)}
    (tmp_path / "source").write_bytes(NEW)
    (tmp_path / "dest").write_bytes(OLD)
    with server.running() as port:
        session = SFTPSession(
            ServerSettings(
                "127.0.0.1", port, "device", Secret(PASSWORD), state=tmp_path / "state", time_limits=LIMITS_HERE
            ),
        )
        try:
            yield session
        finally:
            session.disconnect()


def nothing_is_beside(server: FaultyServer, tmp_path: Path) -> None:
    assert sorted(server.files) == ["dest", "source"]
    assert sorted(set(os.listdir(tmp_path)) - {"home", "state"}) == ["dest", "source"]
    assert not (tmp_path / "state").is_dir() or os.listdir(tmp_path / "state") == []


# --- replacing in two steps, cut at each of them ---------------------------------------------------------------------


class EndsAt(FaultyServer):
    """Has no atomic replacement, and ends the connection at the so-and-so-many-th RENAME or REMOVE, done or not."""

    def __init__(self, number: int, *, done: bool) -> None:
        super().__init__(extensions=())
        self._left = number
        self._done = done

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        if kind not in {Kind.RENAME, Kind.REMOVE} or self._left == 0:
            return super().truth(kind, fields)
        self._left -= 1
        if self._left:
            return super().truth(kind, fields)
        if self._done:
            super().truth(kind, fields)
        self.cut()
        raise EOFError


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("again", ["upload", "only connect"])
def test_a_two_step_replacement_that_was_cut_is_repaired_on_reconnect(
    tmp_path: Path, number: int, done: bool, again: str
) -> None:
    server = EndsAt(number, done=done)
    with session_with(server, tmp_path) as session:
        with pytest.raises(SFTPError):
            session.upload_file(str(tmp_path / "source"), "dest")
        contents = [bytes(content) for name, content in server.files.items() if name != "source"]
        assert OLD in contents or bytes(server.files["dest"]) == NEW
        if again == "upload":
            assert session.upload_file(str(tmp_path / "source"), "dest").bytes == len(NEW)
            assert bytes(server.files["dest"]) == NEW
            nothing_is_beside(server, tmp_path)
        else:
            session.exists(".")
            assert bytes(server.files["dest"]) in (OLD, NEW)
            assert len(server.files) <= 3  # what the next upload goes on from may be there
            assert all(content in (OLD, NEW) for content in map(bytes, server.files.values()))


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_move_in_two_steps_that_is_cut_is_put_right_too(tmp_path: Path, number: int, done: bool) -> None:
    server = EndsAt(number, done=done)
    with session_with(server, tmp_path) as session:
        with suppress(SFTPError):
            session.move_file("source", "dest")
        assert OLD in map(bytes, server.files.values()) or bytes(server.files["dest"]) == NEW
        session.exists(".")
        assert bytes(server.files["dest"]) in (OLD, NEW)
        assert NEW in map(bytes, server.files.values())
        assert set(server.files) <= {"source", "dest"}


def test_a_move_in_two_steps_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    with session_with(FaultyServer(extensions=()), tmp_path) as session:
        assert session.move_file("source", "dest") is False
        assert session.list_files(".") == ["dest"]
        assert session.move_file("dest", "new") is True  # where nothing is replaced, one step does it
    assert os.listdir(tmp_path / "state") == []


class RefusesTheSecondStep(FaultyServer):
    """Lets the old file be put aside, and then refuses to put the new one in its place."""

    def __init__(self) -> None:
        super().__init__(extensions=())

    def rename(self, source: str, dest: str) -> bytes:
        moved = bytes(self.files.get(source, b""))
        return status(FAILURE) if moved == NEW else super().rename(source, dest)


def test_a_second_step_that_is_refused_puts_the_old_file_back(tmp_path: Path) -> None:
    server = RefusesTheSecondStep()
    with session_with(server, tmp_path) as session:
        with pytest.raises(SFTPError):
            session.upload_file(str(tmp_path / "source"), "dest")
        assert bytes(server.files["dest"]) == OLD
        nothing_is_beside(server, tmp_path)


class RefusesToPutBack(FaultyServer):
    """Lets old files be put aside, and then refuses new ones in their places, and for a while the old ones too."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(extensions=())
        self.refused = set(names)
        self.files |= {name: bytearray(OLD) for name in names}

    def rename(self, source: str, dest: str) -> bytes:
        if bytes(self.files[source]) == OLD:
            return status(PERMISSION_DENIED) if dest in self.refused else super().rename(source, dest)
        return status(FAILURE)


def test_old_files_that_cannot_be_put_back_are_put_back_later_each_as_soon_as_that_is_allowed(tmp_path: Path) -> None:
    names = ["dest", "a", "b", "c", "d"]
    server = RefusesToPutBack(names)
    with session_with(server, tmp_path) as session:
        (tmp_path / "source").write_bytes(b"new")
        for name in names:
            with pytest.raises(PermissionDenied, match="without a reason"):  # of the second step, not of the way back
                session.upload_file(str(tmp_path / "source"), name)
            assert name not in server.files
        server.refused.remove("b")
        session.disconnect()
        assert session.exists("b")
        server.refused.clear()
        session.disconnect()
        assert session.exists("b")
    assert server.files == {"source": bytearray(NEW)} | dict.fromkeys(names, bytearray(OLD))


@pytest.mark.parametrize("sftp_options", ["", "-P posix-rename"])
def test_a_directory_is_never_replaced_by_a_file(tmp_path: Path, sftp_options: str) -> None:
    (tmp_path / "source").write_bytes(NEW)
    with openssh(tmp_path / "sshd", sftp_options=sftp_options) as server, session_of(server) as session:
        precious = server.directory / "in/source/precious"
        precious.parent.mkdir(parents=True)
        precious.write_bytes(OLD)
        with pytest.raises(SFTPError):
            session.upload_file(str(tmp_path / "source"), "in/")
        with pytest.raises(SFTPError):
            session.upload_file(str(tmp_path / "source"), "in")
        assert precious.read_bytes() == OLD
        assert os.listdir(server.directory / "in") == ["source"]


def test_that_a_directory_is_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(NEW)
    with openssh(tmp_path / "sshd", sftp_options="-P posix-rename") as server, session_of(server) as session:
        (server.directory / "in/source").mkdir(parents=True)
        with pytest.raises(IsADirectory):
            session.upload_file(str(tmp_path / "source"), "in/")


# --- readers ---------------------------------------------------------------------------------------------------------


@contextmanager
def polling(directory: Path, names: Callable[[], Iterator[bytes]], whole: tuple[bytes, ...]) -> Iterator[list[object]]:
    """Look at a destination all the time, and collect what is neither the old file nor the new."""
    seen: list[object] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.wait(0.001):
            seen.extend(f"{len(content)} bytes" for content in names() if content not in whole)
            seen.extend(name for name in os.listdir(directory) if name != "dest" and not name.startswith(".iot-sftp-"))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield seen
    finally:
        ended.set()
        reader.join()


@pytest.mark.parametrize("sftp_options", ["", "-P posix-rename"])
def test_who_reads_while_files_are_replaced_sees_the_old_one_or_the_new(tmp_path: Path, sftp_options: str) -> None:
    """Without posix-rename the name is gone for a moment, which is told; but it never is a part of a file."""
    first, second = b"1" * 700_000, b"2" * 800_000
    with openssh(tmp_path / "sshd", sftp_options=sftp_options) as server, session_of(server) as session:
        (tmp_path / "here").mkdir()
        there, here = server.directory / "dest", tmp_path / "here" / "dest"
        there.write_bytes(first)
        here.write_bytes(first)

        def read(path: Path) -> Iterator[bytes]:
            try:
                yield path.read_bytes()
            except FileNotFoundError:
                assert sftp_options
                assert path == there

        with (
            polling(server.directory, lambda: read(there), (first, second)) as seen_there,
            polling(here.parent, lambda: read(here), (first, second)) as seen_here,
        ):
            for content in (second, first) * 3:
                write_as_long_ago(tmp_path / "next", content)
                transfer = session.upload_file(str(tmp_path / "next"), "dest")
                assert transfer.atomic is (not sftp_options)
                session.download_file("dest", str(here))
    assert seen_there == seen_here == []


# --- servers that offer less, or answer in their own way -------------------------------------------------------------


def refuses(*kinds: int | str, answer: int = PERMISSION_DENIED) -> Callable[[], FaultyServer]:
    return lambda: FaultyServer({kind: status(answer) for kind in kinds})


@pytest.mark.parametrize(
    "server",
    [
        lambda: FaultyServer(extensions=()),
        lambda: FaultyServer(extensions=(POSIX_RENAME, LIMITS, FSYNC)),  # announced, and refused
        lambda: FaultyServer({POSIX_RENAME: status(UNSUPPORTED)}),
        GrantsOneChannel,
        AnswersInReverse,
        AnswersStrangers,
        refuses(Kind.FSETSTAT, Kind.SETSTAT),
        refuses(Kind.FSETSTAT, answer=UNSUPPORTED),
        refuses(Kind.FSETSTAT, answer=FAILURE),
        refuses(Kind.FSTAT, answer=UNSUPPORTED),
        refuses(Kind.OPENDIR, Kind.READDIR),
        lambda: ReadsShort(lambda length: (length + 1) // 2),
        lambda: ReadsShort(lambda length: min(length, 5_000)),
        lambda: ReadsShort(lambda length: max(1, length - 1)),
    ],
    ids=[
        "nothing",
        "refused extensions",
        "no posix-rename after all",
        "one channel",
        "in reverse",
        "strangers",
        "no SETSTAT",
        "unknown SETSTAT",
        "failing SETSTAT",
        "no FSTAT",
        "no listing",
        "half",
        "5,000 bytes",
        "one byte less",
    ],
)
def test_whole_files_come_and_go(tmp_path: Path, server: Callable[[], FaultyServer]) -> None:
    running = server()
    with session_with(running, tmp_path) as session:
        session.download_file("source", str(tmp_path / "dest"), timeout=60)
        assert (tmp_path / "dest").read_bytes() == NEW
        session.upload_file(str(tmp_path / "source"), "dest", timeout=60)
        assert bytes(running.files["dest"]) == NEW
        nothing_is_beside(running, tmp_path)


@pytest.mark.parametrize(
    "answer",
    [data(b""), data(bytes(300_000)), bytes([Kind.DATA]) + b"\0\0\0\5ab", bytes([Kind.DATA]) + b"\0\0\0\1abcdefgh"],
    ids=["nothing", "more than asked", "longer than it is", "shorter than it is"],
)
def test_a_read_answered_wrongly_ends_the_download_and_keeps_the_old_file(tmp_path: Path, answer: bytes) -> None:
    asked: list[int] = []

    def read(fields: Reader) -> bytes:
        asked.append(1)
        offset, length = fields.uint64(), fields.uint32()
        content = NEW[offset : offset + length]
        return answer if len(asked) == 20 else data(content) if content else status(EOF)

    server = FaultyServer({Kind.READ: lambda fields: (fields.string(), read(fields))[1]})
    with session_with(server, tmp_path) as session:
        with pytest.raises(SFTPError) as failure:
            session.download_file("source", str(tmp_path / "dest"))
        assert failure.value.code in {"transfer_incomplete", "connection_lost"}
        assert (tmp_path / "dest").read_bytes() == OLD
        asked.clear()
        asked.extend([1] * 100)
        session.download_file("source", str(tmp_path / "dest"), timeout=60)
        assert (tmp_path / "dest").read_bytes() == NEW


# --- sources that change ---------------------------------------------------------------------------------------------


def test_a_source_that_was_short_for_a_moment_is_not_mixed_with_other_versions(tmp_path: Path) -> None:
    """One READ meets the end of the file, those behind it do not, and at the end the file is said to end there."""
    cut = 20 * 32 * 1024  # bytes: where a request begins

    def read(fields: Reader) -> bytes:
        fields.string()
        offset, length = fields.uint64(), fields.uint32()
        content = NEW[offset : offset + length]
        return status(EOF) if offset == cut or not content else data(content)

    server = FaultyServer({Kind.READ: read, Kind.FSTAT: attrs(cut)})
    with session_with(server, tmp_path) as session:
        with pytest.raises(TransferIncomplete):
            session.download_file("source", str(tmp_path / "dest"))
        assert (tmp_path / "dest").read_bytes() == OLD
        nothing_is_beside(server, tmp_path)


class ChangesWhileItIsRead(FaultyServer):
    def __init__(self, change: Callable[[bytearray], object], after: int) -> None:
        super().__init__()
        self._change = change
        self._after = after

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        if kind == Kind.READ:
            self._after -= 1
            if self._after == 0:
                self._change(self.files["source"])
        return super().truth(kind, fields)


def grow(content: bytearray) -> None:
    content += b"more" * 1000


def shrink(content: bytearray) -> None:
    del content[1_000_000:]


def vanish(content: bytearray) -> None:
    content.clear()


@pytest.mark.parametrize("change", [grow, shrink, vanish])
@pytest.mark.parametrize("after", [1, 10, 60, 92])
def test_a_remote_source_that_changes_its_size_is_moved_as_it_is_by_then_or_refused(
    tmp_path: Path, change: Callable[[bytearray], object], after: int
) -> None:
    server = ChangesWhileItIsRead(change, after)
    with session_with(server, tmp_path) as session:
        try:
            size = session.download_file("source", str(tmp_path / "dest"), timeout=60).bytes
        except TransferIncomplete:
            assert (tmp_path / "dest").read_bytes() == OLD
        else:
            assert (tmp_path / "dest").read_bytes() == bytes(server.files["source"])
            assert size == len(server.files["source"])
        nothing_is_beside(server, tmp_path)


@pytest.mark.parametrize("size", [0, 1_000_000, 6_000_000])
def test_a_local_source_that_changes_while_it_is_read_is_refused(tmp_path: Path, size: int) -> None:
    changed = threading.Event()

    def write(fields: Reader) -> bytes:
        if not changed.is_set():
            os.truncate(tmp_path / "source", size)
            changed.set()
        return FaultyServer.truth(server, Kind.WRITE, fields)

    server = FaultyServer({Kind.WRITE: write})
    with session_with(server, tmp_path) as session:
        with pytest.raises(TransferIncomplete):
            session.upload_file(str(tmp_path / "source"), "dest", timeout=60)
        assert bytes(server.files["dest"]) == OLD
        nothing_is_beside(server, tmp_path)
        assert session.upload_file(str(tmp_path / "source"), "dest", timeout=60).bytes == size


# --- full disks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root mounts a small disk, and not everywhere")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_is_named_on_both_sides_and_keeps_the_old_files(tmp_path: Path, small_disk: Path) -> None:
    (tmp_path / "source").write_bytes(NEW)
    (small_disk / "dest").write_bytes(OLD)

    def nothing_is_left() -> None:
        assert (small_disk / "dest").read_bytes() == OLD
        assert {*os.listdir(small_disk)} <= {"dest", "state"}
        assert not (small_disk / "state").is_dir() or os.listdir(small_disk / "state") == []

    with openssh(tmp_path / "there", directory=small_disk) as server, session_of(server) as session:
        for _ in range(2):
            with pytest.raises(NoSpace):
                session.upload_file(str(tmp_path / "source"), "dest", timeout=60)
            nothing_is_left()
    state = small_disk / "state"
    with openssh(tmp_path / "here", directory=tmp_path) as server, session_of(server, state=state) as session:
        for _ in range(2):
            with pytest.raises(NoSpace):
                session.download_file("source", str(small_disk / "dest"), timeout=60)
            nothing_is_left()


@pytest.mark.parametrize("words", ["Disk quota exceeded", "no space left on device"])
def test_a_quota_on_the_server_is_named(tmp_path: Path, words: str) -> None:
    written: list[int] = []

    def write(fields: Reader) -> bytes:
        written.append(1)
        return status(FAILURE, words) if len(written) > 20 else FaultyServer.truth(server, Kind.WRITE, fields)

    server = FaultyServer({Kind.WRITE: write})
    with session_with(server, tmp_path) as session:
        with pytest.raises(NoSpace):
            session.upload_file(str(tmp_path / "source"), "dest", timeout=60)
        assert bytes(server.files["dest"]) == OLD
        nothing_is_beside(server, tmp_path)


def test_under_a_bandwidth_limit_a_refused_write_ends_the_upload_at_once(tmp_path: Path) -> None:
    server = FaultyServer({Kind.WRITE: status(FAILURE, "no space left on device")})
    with session_with(server, tmp_path) as session:
        session.limit_bandwidth(100_000)  # it would take half a minute
        with pytest.raises(NoSpace):
            session.upload_file(str(tmp_path / "source"), "dest", timeout=60)
        session.limit_bandwidth(None)
        nothing_is_beside(server, tmp_path)


# --- late answers ----------------------------------------------------------------------------------------------------


class WithholdsThePieceInTheMiddle(FaultyServer):
    """Answers all READs but the second, and that one only when it is asked for again."""

    def __init__(self) -> None:
        super().__init__()
        self.late: bytes | None = None
        self._pieces = 0

    def send(self, channel: object, answers: list[bytes]) -> None:
        for answer in [answer for answer in answers if answer[4] == Kind.DATA]:
            self._pieces += 1
            if self._pieces == 2:
                self.late = answer
                answers = [other for other in answers if other is not answer]
        super().send(channel, answers)  # type: ignore[arg-type]


def test_what_is_behind_a_hole_is_no_progress(tmp_path: Path) -> None:
    """A try that ends with a hole goes on from before the hole; the late piece does not close it."""
    server = WithholdsThePieceInTheMiddle()
    whole: list[int] = []
    with session_with(server, tmp_path) as session:
        session.exists(".")
        with pytest.raises(SFTPError):
            session.download_file(
                "source", str(tmp_path / "dest"), timeout=0.7, progress=lambda done, _: whole.append(done)
            )
        assert server.late is not None
        assert max(whole) <= 64 * 1024
        server.channels[-1].sendall(server.late)
        transfer = session.download_file("source", str(tmp_path / "dest"), timeout=60)
        assert transfer.resumed == 0
        assert (tmp_path / "dest").read_bytes() == NEW
        nothing_is_beside(server, tmp_path)


def test_an_upload_is_complete_only_when_every_byte_was_acknowledged(tmp_path: Path) -> None:
    server = FaultyServer({Kind.WRITE: lambda _: status(OK)})  # and stores nothing
    with session_with(server, tmp_path) as session:
        with pytest.raises(TransferIncomplete):
            session.upload_file(str(tmp_path / "source"), "dest", timeout=60)
        assert bytes(server.files["dest"]) == OLD
        nothing_is_beside(server, tmp_path)
