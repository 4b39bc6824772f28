"""A transfer has one version of its source, whenever that is written; and local file systems as they are."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.clients import connection_of, session_of
from tests.servers import Server

from iot.sftp.client import SFTPError, SFTPSession, TransferIncomplete
from iot.sftp.client._base.deadline import Deadline
from iot.sftp.client._calls.calls import CallAttempt
from iot.sftp.client._files.file_version import COARSE_TICK, SECOND, SKEW, TICK, FileVersion, Observed
from iot.sftp.client._files.local_files import LocalFiles
from iot.sftp.client._transfer import temporary_files
from iot.sftp.client._transfer.download import download_file
from iot.sftp.client._transfer.download_source import READ_TWICE
from iot.sftp.client._transfer.resume_records import KEPT_FOR
from iot.sftp.client._transfer.transfer_context import TransferContext

MiB = 1024 * 1024
MODIFIED = 1_700_000_000


# --- how long a version has to be waited for --------------------------------------------------------------------------


NOW = 1_800_000_000 * SECOND
LONG_AGO = NOW - 10**6 * SECOND


@pytest.mark.parametrize(
    "version, seen_for, least, most",
    [
        (FileVersion(1, None), 0, 0, 0),  # waiting does not help
        (FileVersion(1, LONG_AGO), 0, 0, 0),
        (FileVersion(1, NOW), 0.1, 0.9, 0.96),
        (FileVersion(1, NOW), 2, 0, 0),
        (FileVersion(1, NOW - SECOND), 0, 1, 1),  # clocks may differ by a second
        (FileVersion(1, NOW + 1000 * SECOND), 0, 1, 1.05),
        (FileVersion(1, NOW - 1, NOW - 1, 1, 1), 0, 0.001, 0.021),
        (FileVersion(1, NOW, NOW, 1, 1), 0, 1, 2.1),  # whole seconds: a coarse file system
        (FileVersion(1, LONG_AGO, NOW - 1, 1, 1), 0, 0.001, 0.021),  # its time was set back
        (FileVersion(1, LONG_AGO + 1, LONG_AGO + 1, 1, 1), 0, 0, 0),
    ],
)
def test_a_version_is_waited_for_until_a_further_write_would_show(
    version: FileVersion, seen_for: float, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: NOW)
    assert least <= version.settles_in(seen_for) <= most


def test_ticks_are_those_of_the_file_systems() -> None:
    assert FileVersion(1, 1, 1, 1, 1).tick == TICK
    assert FileVersion(1, SECOND, SECOND, 1, 1).tick == COARSE_TICK
    assert FileVersion(1, SECOND).tick == SECOND == SKEW


# --- sources that are being written -----------------------------------------------------------------------------------


@pytest.fixture
def session(openssh_server: Server) -> Iterator[SFTPSession]:
    with session_of(openssh_server) as opened:
        opened.connect()
        yield opened


def overwrite(path: Path, content: bytes) -> Callable[[], None]:
    def write() -> None:
        with open(path, "r+b") as file:
            file.write(content)

    return write


@pytest.mark.parametrize("size", [1000, READ_TWICE, READ_TWICE + 1, 4 * MiB])
def test_a_remote_file_rewritten_within_a_second_is_downloaded_as_one_version(
    openssh_server: Server, session: SFTPSession, tmp_path: Path, size: int
) -> None:
    source = openssh_server.directory / "rewritten"
    source.write_bytes(b"A" * size)
    rewrite = threading.Timer(0.1, overwrite(source, b"B" * size))
    session.limit_bandwidth(max(10 * MiB, size))
    rewrite.start()
    try:
        session.download_file("rewritten", str(tmp_path / "dest"), timeout=60)
        got = (tmp_path / "dest").read_bytes()
        assert got in (b"A" * size, b"B" * size)
    except TransferIncomplete:
        assert not (tmp_path / "dest").exists()
    finally:
        rewrite.join()


def test_a_small_young_file_is_not_waited_for_and_one_that_was_seen_before_neither(
    openssh_server: Server, session: SFTPSession, tmp_path: Path
) -> None:
    for name, size in (("small", 1000), ("large", READ_TWICE + 1)):
        (openssh_server.directory / name).write_bytes(bytes(size))
    pauses: list[float] = []
    connection = connection_of(session)

    class Watched(Deadline):
        def pause(self, seconds: float) -> None:
            pauses.append(seconds)
            super().pause(seconds)

    attempt = CallAttempt(connection, Watched(20), 0)

    def download(name: str, *, seen: bool) -> None:
        future = int(time.time()) + 1000  # as young as can be
        os.utime(openssh_server.directory / name, (future, future))
        version = FileVersion((openssh_server.directory / name).stat().st_size, future * SECOND)
        observed = Observed(version, time.monotonic() - 2) if seen else None
        with attempt.transfer() as remote:
            terms = TransferContext(("host", 22, "user"))
            download_file(remote, name, LocalFiles(), str(tmp_path / name), terms, observed=observed)

    download("small", seen=False)
    download("large", seen=True)
    assert pauses == []
    download("large", seen=False)
    assert len(pauses) == 1


def test_a_local_file_renamed_or_chmodded_while_it_is_read_is_uploaded(
    openssh_server: Server, session: SFTPSession, tmp_path: Path
) -> None:
    """Its change time alone tells nothing: the bytes are compared again."""
    source, content = tmp_path / "source", os.urandom(MiB)
    source.write_bytes(content)
    done: list[int] = []

    def link(moved: int, _: int | None) -> None:
        if not done:
            os.link(source, tmp_path / "link")
            source.chmod(0o640)
        done.append(moved)

    session.limit_bandwidth(4 * MiB)
    assert session.upload_file(str(source), "linked", progress=link, timeout=60).bytes == MiB
    assert (openssh_server.directory / "linked").read_bytes() == content


def test_a_local_file_whose_time_is_set_back_after_it_was_rewritten_is_not_mixed(
    openssh_server: Server, session: SFTPSession, tmp_path: Path
) -> None:
    """As `cp -p` and tar do."""
    source = tmp_path / "source"
    source.write_bytes(b"A" * 4 * MiB)
    os.utime(source, (MODIFIED, MODIFIED))
    rewritten: list[int] = []

    def rewrite(moved: int, _: int | None) -> None:
        if moved > MiB and not rewritten:
            rewritten.append(moved)
            overwrite(source, b"B" * 4 * MiB)()
            os.utime(source, (MODIFIED, MODIFIED))

    session.limit_bandwidth(8 * MiB)
    with pytest.raises(TransferIncomplete):
        session.upload_file(str(source), "set-back", progress=rewrite, timeout=60)
    assert rewritten
    assert not (openssh_server.directory / "set-back").exists()


# --- times and permissions at the ends of what there is ---------------------------------------------------------------


@pytest.mark.parametrize("modified", [-5, 0, 2**31 + 5, 2**32 - 1, 2**32 + 5, 2**35])
def test_times_before_1970_and_after_2106_do_not_keep_a_file_from_being_moved(
    session: SFTPSession, tmp_path: Path, modified: int
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    os.utime(source, (modified, modified))
    kept = int(source.stat().st_mtime)  # as far as this file system goes
    session.upload_file(str(source), "old-or-new", timeout=60)
    session.download_file("old-or-new", str(tmp_path / "back"), timeout=60)
    assert (tmp_path / "back").stat().st_mtime == min(max(kept, 0), 2**32 - 1)


@pytest.mark.parametrize("mode", [0o000, 0o200, 0o444])
def test_what_is_written_can_be_read_and_written_by_its_owner(
    openssh_server: Server, session: SFTPSession, tmp_path: Path, mode: int
) -> None:
    there = openssh_server.directory / "closed"
    there.write_bytes(b"x")
    there.chmod(mode)
    session.download_file("closed", str(tmp_path / "here"), timeout=60)
    assert stat.S_IMODE((tmp_path / "here").stat().st_mode) == mode | 0o600
    (tmp_path / "here").chmod(mode)
    session.upload_file(str(tmp_path / "here"), "opened", timeout=60)
    assert stat.S_IMODE((openssh_server.directory / "opened").stat().st_mode) == mode | 0o600


@contextmanager
def refusing(monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> Iterator[None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, refuse)
        yield


@pytest.mark.parametrize(
    "refused",
    [
        ("fchmod", errno.EPERM),
        ("fchmod", errno.ENOTSUP),
        ("utime", errno.EPERM),
        ("utime", errno.EOVERFLOW),
        ("fsync", errno.EINVAL),
        ("fsync", errno.ENOSYS),
    ],
)
def test_what_a_local_file_system_need_not_offer_is_not_insisted_on(
    openssh_server: Server,
    session: SFTPSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: tuple[str, int],
) -> None:
    """No file system at hand answers so; what is replaced is what the kernel says."""
    (openssh_server.directory / "plain").write_bytes(b"x")
    with refusing(monkeypatch, *refused):
        session.download_file("plain", str(tmp_path / "dest"), timeout=60)
    assert (tmp_path / "dest").read_bytes() == b"x"


def test_a_disk_that_fails_at_the_last_moment_is_a_failure(
    openssh_server: Server, session: SFTPSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (openssh_server.directory / "plain").write_bytes(b"x")
    with refusing(monkeypatch, "fsync", errno.ENOSPC), pytest.raises(SFTPError, match="full"):
        session.download_file("plain", str(tmp_path / "dest"), timeout=60)
    assert not (tmp_path / "dest").exists()


# --- leftovers --------------------------------------------------------------------------------------------------------


def test_old_temporary_files_without_a_record_are_removed_unless_in_use(
    openssh_server: Server, session: SFTPSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporary_files, "_searched", set())
    (openssh_server.directory / "plain").write_bytes(b"x")
    old, young, used = (tmp_path / f".iot-sftp-{number:016x}" for number in range(3))
    others = [tmp_path / name for name in (".iot-sftp-notes", "iot-sftp-0123456789abcdef", ".iot-sftp-abc")]
    linked, directory = tmp_path / f".iot-sftp-{7:016x}", tmp_path / f".iot-sftp-{8:016x}"
    past = time.time() - KEPT_FOR - 10
    for path in (old, young, used, *others):
        path.write_bytes(b"left")
        if path != young:
            os.utime(path, (past, past))
    linked.symlink_to(others[0])
    directory.mkdir()
    with used.open("rb") as file:
        temporary_files.claim(file.fileno())
        session.download_file("plain", str(tmp_path / "dest"), timeout=60)
    assert not old.exists()
    assert all(path.exists() for path in (young, used, *others, linked, directory))
