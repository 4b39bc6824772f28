"""A destination is the old complete file or the new complete one, whatever breaks at whatever moment."""

from __future__ import annotations

import os
import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.clients import client_of, session_of, set_retry_policy
from tests.folders import OLD as LONG_AGO
from tests.folders import write_as_long_ago
from tests.servers import Relay, Server, openssh

from iot.sftp.client import Busy, NoSpace, SFTPError, TransferIncomplete

OLD, NEW = b"old" * 1000, os.urandom(5_000_000)


def test_a_break_in_the_middle_is_repeated_within_the_deadline(server: Server, tmp_path: Path) -> None:
    (server.directory / "repeat").write_bytes(NEW)
    (tmp_path / "repeat").write_bytes(NEW)
    relay = Relay((server.host, server.port))
    with relay.running() as port, session_of(server, port=port) as session:
        session.connect()
        relay.cut_after = 2_000_000
        assert session.download_file("repeat", str(tmp_path / "down"), timeout=60).bytes == len(NEW)
        assert (tmp_path / "down").read_bytes() == NEW
        session.connect()
        relay.cut_after = 2_000
        assert session.upload_file(str(tmp_path / "repeat"), "up", timeout=60).bytes == len(NEW)
        assert (server.directory / "up").read_bytes() == NEW
        assert relay.connections >= 3


def test_readers_never_see_a_part_of_a_file(server: Server, tmp_path: Path) -> None:
    """Somebody reads the destination all the time while it is replaced, by uploads and by downloads."""
    whole = [bytes([number]) * 700_000 for number in range(4)]
    seen: list[bytes] = []
    ended = threading.Event()

    def read(path: Path) -> None:
        while not ended.wait(0.001):  # thousands of times, and yet the transfers have the processor, too
            content = path.read_bytes()
            if content not in whole:
                seen.append(content)

    (server.directory / "polled").write_bytes(whole[0])
    (tmp_path / "polled").write_bytes(whole[0])
    readers = [threading.Thread(target=read, args=(base / "polled",)) for base in (server.directory, tmp_path)]
    for reader in readers:
        reader.start()
    with session_of(server) as session:
        for number in (1, 2, 3, 2, 1, 3):
            write_as_long_ago(tmp_path / "next", whole[number], LONG_AGO + number)
            session.upload_file(str(tmp_path / "next"), "polled")
            session.download_file("polled", str(tmp_path / "polled"))
    ended.set()
    for reader in readers:
        reader.join()
    assert seen == []


def test_a_second_transfer_to_the_same_destination_is_refused(server: Server, tmp_path: Path) -> None:
    (server.directory / "busy").write_bytes(NEW)
    (tmp_path / "source").write_bytes(NEW)
    refused = []

    with session_of(server) as session, session_of(server) as another:

        def try_too(*_: object) -> None:
            for call in (
                lambda: session.upload_file(str(tmp_path / "source"), "./dest"),
                lambda: another.upload_file(str(tmp_path / "source"), "dest"),
                lambda: session.move_file("busy", "dest"),
            ):
                with pytest.raises(Busy) as failure:
                    call()
                refused.append(failure.value.code)

        session.upload_file(str(tmp_path / "source"), "dest", progress=try_too)
        another.upload_file(str(tmp_path / "source"), "dest")
    assert len(refused) >= 3
    assert set(refused) == {"busy"}


def test_quick_calls_are_answered_while_transfers_run(server: Server, tmp_path: Path) -> None:
    size = 15_000_000
    with open(server.directory / "huge", "wb") as file:
        file.truncate(size)
    os.utime(server.directory / "huge", (LONG_AGO, LONG_AGO))
    with session_of(server) as session:
        session.connect()
        answered = threading.Event()

        def download(number: int) -> set[int]:
            done: set[int] = set()
            while not done or not answered.is_set():
                done.add(session.download_file("huge", str(tmp_path / f"{number}")).bytes)
            return done

        with ThreadPoolExecutor(4) as threads:
            downloads = [threads.submit(download, number) for number in range(4)]
            try:
                for _ in range(10):
                    assert session.exists("huge", timeout=60)
                    assert session.is_connected(timeout=60)
            finally:
                answered.set()
        assert [download.result() for download in downloads] == [{size}] * 4


def test_one_client_serves_many_threads(server: Server, tmp_path: Path) -> None:
    contents = {f"thread-{number}": os.urandom(10_000 + number) for number in range(12)}
    failures: list[object] = []

    with client_of(server) as client:

        def work(name: str, content: bytes) -> None:
            (tmp_path / name).write_bytes(content)
            ok = client.upload_file(str(tmp_path / name), f"threads/{name}")
            ok = ok and client.exists(f"threads/{name}")
            ok = ok and client.download_file(f"threads/{name}", str(tmp_path / f"{name}.back"))
            if not ok or (tmp_path / f"{name}.back").read_bytes() != content:
                failures.append((name, client.last_error))
            client.delete_file(f"threads/not-{name}")
            if client.last_error is None or client.last_error.path != f"threads/not-{name}":
                failures.append((name, client.last_error))

        threads = [threading.Thread(target=work, args=item) for item in contents.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.list_files("threads") == [f"threads/{name}" for name in sorted(contents)]
        assert client.last_error is None
    assert failures == []


@pytest.mark.parametrize(
    "options, sftp_options",
    [
        (["MaxSessions 1"], ""),
        ([], "-P posix-rename"),
        ([], "-P limits,fsync,statvfs"),
        ([], "-P setstat,fsetstat"),
        ([], "-P opendir,readdir"),
    ],
    ids=["one channel only", "no posix-rename", "no limits@, fsync@, statvfs@", "no SETSTAT", "no listing"],
)
def test_servers_that_offer_less_still_get_whole_files(
    tmp_path: Path, options: list[str], sftp_options: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_as_long_ago(tmp_path / "source", NEW)
    with openssh(tmp_path / "sshd", *options, sftp_options=sftp_options) as server:
        (server.directory / "in").mkdir()
        with session_of(server) as session:
            (tmp_path / "old").write_bytes(OLD)
            session.upload_file(str(tmp_path / "old"), "in/dest", timeout=60)
            assert (server.directory / "in/dest").read_bytes() == OLD
            transfer = session.upload_file(str(tmp_path / "source"), "in/dest", timeout=60)
            assert (server.directory / "in/dest").read_bytes() == NEW
            session.download_file("in/dest", str(tmp_path / "dest"), timeout=60)
            assert (tmp_path / "dest").read_bytes() == NEW
            (server.directory / "in" / "other").write_bytes(OLD)
            moved_atomically = session.move_file("in/other", "in/dest")
            assert (server.directory / "in/dest").read_bytes() == OLD
            assert os.listdir(server.directory / "in") == ["dest"]
        weaker = sftp_options == "-P posix-rename"
        assert transfer.atomic is moved_atomically is not weaker
        assert ("two steps" in caplog.text) is weaker


def test_a_read_only_server_refuses_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(NEW)
    with openssh(tmp_path / "sshd", sftp_options="-R") as server, session_of(server) as session:
        with pytest.raises(SFTPError) as failure:
            session.upload_file(str(tmp_path / "source"), "dest")
        assert failure.value.code == "permission_denied"
        assert os.listdir(server.directory) == []


def test_a_source_that_changes_size_during_its_transfer_is_complete_or_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer appends to, and truncates, the source while it is transferred: no mixture ever counts as success."""
    set_retry_policy(monkeypatch, first_pause=0.01)
    source = server.directory / "changing"
    source.write_bytes(bytes(1_000_000))
    ended = threading.Event()

    def change() -> None:
        while not ended.wait(0.005):  # many times during each transfer, and yet it has the processor, too
            with open(source, "r+b") as file:
                file.truncate(500_000)
                file.seek(0, os.SEEK_END)
                file.write(bytes(625_000))

    writer = threading.Thread(target=change)
    writer.start()
    outcomes = set()
    try:
        with session_of(server) as session:
            for _ in range(3):
                try:
                    size = session.download_file("changing", str(tmp_path / "copy")).bytes
                    assert (tmp_path / "copy").stat().st_size == size
                    outcomes.add("whole")
                except TransferIncomplete:
                    outcomes.add("refused")
                assert not [name for name in os.listdir(tmp_path) if name.startswith(".iot-sftp")]
    finally:
        ended.set()
        writer.join()
    assert outcomes <= {"whole", "refused"}


def test_a_full_local_disk_is_named(server: Server, tmp_path: Path) -> None:
    (server.directory / "big").write_bytes(NEW)
    (tmp_path / "dest").write_bytes(OLD)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with session_of(server) as session:
        session.connect()
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
        try:
            with pytest.raises(NoSpace):
                session.download_file("big", str(tmp_path / "dest"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "dest").read_bytes() == OLD
    assert sorted(os.listdir(tmp_path)) == ["dest", "home"]


def test_uploads_and_quick_calls_at_the_same_time_disturb_each_other_on_no_server(
    server: Server, tmp_path: Path
) -> None:
    """ProFTPD mixes up requests of several channels: see MIXES_UP_CHANNELS."""
    (tmp_path / "source").write_bytes(NEW)
    with session_of(server) as session, ThreadPoolExecutor() as threads:
        uploads = [
            threads.submit(session.upload_file, str(tmp_path / "source"), f"mixed-{number}", timeout=60)
            for number in range(9)
        ]
        while not all(upload.done() for upload in uploads):
            session.list_files(".", timeout=60)
            assert session.exists(".", timeout=60)
        assert [upload.result().bytes for upload in uploads] == [len(NEW)] * len(uploads)
    for number in range(9):
        assert (server.directory / f"mixed-{number}").read_bytes() == NEW


def test_a_refusal_names_the_path_that_the_caller_gave(openssh_server: Server, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x")
    (openssh_server.directory / "below/sub").mkdir(parents=True, exist_ok=True)
    with session_of(openssh_server, root="below") as session:
        for call, path in (
            (lambda: session.delete_file("/sub"), "/sub"),
            (lambda: session.upload_file(str(tmp_path / "source"), "sub/" + "n" * 300), "sub/" + "n" * 300),
            (lambda: session.download_file("/none", str(tmp_path / "x")), "/none"),
        ):
            with pytest.raises(SFTPError) as failure:
                call()
            assert failure.value.path == path
