"""Folders that take files and let nobody rename, remove, read or look at them."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.clients import session_of, set_retry_policy, settings_of
from tests.faulty_servers import (
    FAILURE,
    PASSWORD,
    PERMISSION_DENIED,
    POSIX_RENAME,
    UNSUPPORTED,
    FaultyServer,
    status,
)
from tests.records import let_pass
from tests.servers import openssh

from iot.sftp.client import Secret, ServerSettings, SFTPError, SFTPSession, TimeLimits, diagnose
from iot.sftp.client._ssh.packets import Kind, OpenFlag, Reader, string
from iot.sftp.client._transfer.resume_records import KEPT_FOR

NEW = os.urandom(100_000)


@contextmanager
def session_at(port: int, tmp_path: Path) -> Iterator[SFTPSession]:
    (tmp_path / "source").write_bytes(NEW)
    limits = TimeLimits(stall=20)
    session = SFTPSession(
        ServerSettings("127.0.0.1", port, "device", Secret(PASSWORD), state=tmp_path / "state", time_limits=limits)
    )
    try:
        yield session
    finally:
        session.disconnect()


def upload(session: SFTPSession, tmp_path: Path, dest: str = "dest") -> str:
    """Upload, and return how that ended: the code, or whether it was atomic."""
    try:
        done = session.upload_file(str(tmp_path / "source"), dest, timeout=60)
    except SFTPError as error:
        return error.code if "iot-sftp-" in error.message or "renam" in error.message else error.message
    return "atomic" if done.atomic else "not atomic"


def temporaries(server: FaultyServer) -> dict[str, int]:
    return {name: len(content) for name, content in server.files.items() if name.startswith(".iot-sftp-")}


@pytest.mark.parametrize("code", [PERMISSION_DENIED, FAILURE, UNSUPPORTED])
@pytest.mark.parametrize("removes", [True, False])
def test_where_every_rename_is_refused_new_files_are_direct_and_old_ones_stay(
    tmp_path: Path, code: int, removes: bool, caplog: pytest.LogCaptureFixture
) -> None:
    kinds: list[int | str] = [POSIX_RENAME, Kind.RENAME, *([] if removes else [Kind.REMOVE])]
    server = FaultyServer(dict.fromkeys(kinds, status(code)))
    server.files["old"] = bytearray(b"old")
    with server.running() as port:
        with session_at(port, tmp_path) as session:
            assert upload(session, tmp_path) == "not atomic"
            assert upload(session, tmp_path, "other") == "not atomic"
            for name in ("old", "dest", "old", "dest"):
                assert upload(session, tmp_path, name) == "unsupported"
            assert bytes(server.files["old"]) == b"old"
            assert bytes(server.files["dest"]) == bytes(server.files["other"]) == NEW
            left = temporaries(server)
            assert list(left.values()) == ([] if removes else [0])
            told = [record for record in caplog.records if record.levelno == logging.WARNING]
            assert len(told) == 1
            assert "every rename" in told[0].getMessage()
        server.requests.clear()
        with session_at(port, tmp_path) as session:  # of another process
            assert upload(session, tmp_path, "third") == "not atomic"
            assert temporaries(server) == left


def test_a_file_is_replaced_where_the_old_one_may_be_renamed_and_not_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = FaultyServer(dict.fromkeys([POSIX_RENAME, Kind.REMOVE], status(PERMISSION_DENIED)))
    server.files["dest"] = bytearray(b"old")
    with server.running() as port, session_at(port, tmp_path) as session:
        assert upload(session, tmp_path) == "not atomic"
        assert upload(session, tmp_path) == "not atomic"
    assert bytes(server.files["dest"]) == NEW
    assert sorted(temporaries(server).values()) == [3, len(NEW)]
    told = [record.getMessage() for record in caplog.records if "stays as" in record.getMessage()]
    assert len(told) == 2


def test_a_drop_box_that_allows_renames_again_is_noticed_after_a_day(tmp_path: Path) -> None:
    server = FaultyServer({POSIX_RENAME: status(FAILURE), Kind.RENAME: status(FAILURE)})
    with server.running() as port:
        with session_at(port, tmp_path) as session:
            assert upload(session, tmp_path) == "not atomic"
        server.be_honest()
        for record in (tmp_path / "state").iterdir():
            let_pass(record, KEPT_FOR + 10)
        with session_at(port, tmp_path) as session:
            assert upload(session, tmp_path) == "atomic"
        assert list((tmp_path / "state").iterdir()) == []


class TakesNamesOfAPattern(FaultyServer):
    def truth(self, kind: int | str, fields: Reader) -> bytes:
        if kind == Kind.OPEN:
            packet = fields.rest()
            if not Reader(packet).string().endswith(b".csv"):
                return status(PERMISSION_DENIED, "name not allowed")
            fields = Reader(packet)
        return super().truth(kind, fields)


def test_where_only_some_names_are_allowed_the_temporary_name_is_the_problem(tmp_path: Path) -> None:
    server = TakesNamesOfAPattern()
    server.files["old.csv"] = bytearray(b"old")
    with server.running() as port, session_at(port, tmp_path) as session:
        assert upload(session, tmp_path, "old.csv") == "permission_denied"  # it may be the whole folder
        assert upload(session, tmp_path, "dest.csv") == "not atomic"
        assert upload(session, tmp_path, "old.csv") == "unsupported"
        assert upload(session, tmp_path, "dest.txt") in {"permission_denied", "unsupported"}
    assert bytes(server.files["old.csv"]) == b"old"
    assert sorted(server.files) == ["dest.csv", "old.csv"]


def test_a_folder_that_may_only_be_written_takes_files(tmp_path: Path) -> None:
    """OpenSSH's own server, with everything refused but what its `sftp put` needs."""
    (tmp_path / "source").write_bytes(NEW)
    requests = "-p open,write,close"
    with openssh(tmp_path / "sshd", sftp_options=requests) as server, session_of(server) as session:
        done = session.upload_file(str(tmp_path / "source"), "dest", timeout=60)
        assert (done.verified, done.atomic) == ("acknowledged", False)
        with pytest.raises(SFTPError, match="renam"):
            session.upload_file(str(tmp_path / "source"), "dest", timeout=60)
        done = session.upload_file(str(tmp_path / "source"), "other", timeout=60)
        assert (server.directory / "dest").read_bytes() == (server.directory / "other").read_bytes() == NEW
        left = {path.name: path.stat().st_size for path in server.directory.iterdir()} | {"dest": 0, "other": 0}
        assert sum(left.values()) == 0
        assert len(left) == 3


class BreaksOnce(FaultyServer):
    """Refuses every rename, and breaks the connection at the third WRITE to a file of that name."""

    def __init__(self) -> None:
        super().__init__({POSIX_RENAME: status(FAILURE), Kind.RENAME: status(FAILURE)})
        self.left = 3

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        if kind == Kind.WRITE and "dest" in self._open.values():
            self.left -= 1
            if self.left == 0:
                self.cut()
                raise EOFError
        return super().truth(kind, fields)


def test_a_file_cut_under_its_own_name_is_completed_by_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_retry_policy(monkeypatch, attempts=1)
    server = BreaksOnce()
    with server.running() as port:
        with session_at(port, tmp_path) as session:
            assert upload(session, tmp_path, "first") == "not atomic"
            with pytest.raises(SFTPError):
                session.upload_file(str(tmp_path / "source"), "dest")
            assert 0 < len(server.files["dest"]) < len(NEW)
        with session_at(port, tmp_path) as session:
            assert upload(session, tmp_path) == "not atomic"
        assert bytes(server.files["dest"]) == NEW


def test_one_name_that_is_refused_is_no_drop_box(tmp_path: Path) -> None:
    server = FaultyServer()
    server.files["locked"] = bytearray(b"old")
    rename = server.rename
    server.rename = lambda source, dest: (  # type: ignore[method-assign]
        status(PERMISSION_DENIED) if "locked" in {source, dest} else rename(source, dest)
    )
    with server.running() as port, session_at(port, tmp_path) as session:
        assert upload(session, tmp_path, "locked") == "permission_denied"
        assert upload(session, tmp_path, "dest") == "atomic"
        assert temporaries(server) == {}
    assert bytes(server.files["locked"]) == b"old"


class ShowsNothing(FaultyServer):
    """Takes files, of one pattern where that is asked for, and shows nothing of them; without EXCLUSIVE, if told so."""

    def __init__(self, pattern: bytes, *, knows_exclusive: bool) -> None:
        refused = (Kind.STAT, Kind.LSTAT, Kind.FSTAT, Kind.OPENDIR, Kind.REMOVE, Kind.RENAME, POSIX_RENAME)
        super().__init__(dict.fromkeys(refused, status(PERMISSION_DENIED, "Permission denied")))
        self.pattern = pattern
        self.knows_exclusive = knows_exclusive

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        if kind == Kind.OPEN:
            path, flags, rest = fields.string(), fields.uint32(), fields.rest()
            if flags & OpenFlag.READ or not path.endswith(self.pattern):
                return status(PERMISSION_DENIED, "Permission denied")
            if not self.knows_exclusive:
                flags &= ~OpenFlag.EXCLUSIVE
            elif flags & OpenFlag.EXCLUSIVE and path.decode() in self.files:
                return status(FAILURE)
            fields = Reader(string(path) + struct.pack(">I", flags) + rest)
        return super().truth(kind, fields)


@pytest.mark.parametrize("pattern", [b"", b".csv"])
@pytest.mark.parametrize("knows_exclusive", [True, False])
def test_a_file_that_nobody_may_see_is_never_written_over(
    tmp_path: Path, pattern: bytes, knows_exclusive: bool
) -> None:
    server = ShowsNothing(pattern, knows_exclusive=knows_exclusive)
    server.files["old.csv"] = bytearray(b"old")
    with server.running() as port, session_at(port, tmp_path) as session:
        refused = "permission_denied" if pattern else "unsupported"  # it may be the whole folder
        assert upload(session, tmp_path, "old.csv") == refused
        assert upload(session, tmp_path, "new.csv") == ("not atomic" if knows_exclusive else refused)
    assert bytes(server.files["old.csv"]) == b"old"
    assert bytes(server.files["new.csv"]) == (NEW if knows_exclusive else b"")


DROP_BOX = "-p open,close,write,realpath,mkdir,rename"


def test_a_drop_box_makes_missing_folders_and_moves_what_nobody_may_see(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(NEW)
    with openssh(tmp_path / "sshd", sftp_options=DROP_BOX) as server, session_of(server) as session:
        for dest in ("a/b/file", "a/b/other", "a/c/file"):
            assert session.upload_file(str(tmp_path / "source"), dest, timeout=60).atomic
        session.move_file("a/b/file", "d/e/moved", timeout=60)
        session.move_file("a/b/other", "d/e/other", timeout=60)
        assert failure(lambda: session.move_file("missing", "moved", timeout=60)).code == "not_found"
    found = {str(path.relative_to(server.directory)) for path in server.directory.rglob("*") if path.is_file()}
    assert found == {"a/c/file", "d/e/moved", "d/e/other"}
    assert (server.directory / "d/e/moved").read_bytes() == NEW


def test_a_drop_box_replaces_only_where_it_can_at_one_blow(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(NEW)
    with openssh(tmp_path / "sshd", sftp_options=DROP_BOX) as server, session_of(server) as session:
        for name in ("old", "other"):
            (server.directory / name).write_bytes(b"old")
        for call in (
            lambda: session.upload_file(str(tmp_path / "source"), "old", timeout=60),
            lambda: session.move_file("other", "old", timeout=60),
        ):
            error = failure(call)
            assert (error.code, "renaming was refused" in error.message) == ("unsupported", True)
        assert (server.directory / "old").read_bytes() == (server.directory / "other").read_bytes() == b"old"
    with openssh(tmp_path / "sshd", sftp_options=f"{DROP_BOX},posix-rename") as server, session_of(server) as session:
        assert session.upload_file(str(tmp_path / "source"), "old", timeout=60).atomic
        assert (server.directory / "old").read_bytes() == NEW


def test_where_nothing_may_be_written_no_name_is_advised(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(NEW)
    with openssh(tmp_path / "sshd", sftp_options="-R") as server, session_of(server) as session:
        error = failure(lambda: session.upload_file(str(tmp_path / "source"), "dest", timeout=60))
    assert error.code == "permission_denied"
    assert "lets nothing be written in that folder" in error.message
    assert "it said" in error.message
    assert ".iot-sftp-" not in error.message


def test_the_diagnosis_of_a_drop_box_finds_nothing_wrong(tmp_path: Path) -> None:
    with openssh(tmp_path / "sshd", sftp_options=DROP_BOX) as server:
        settings = settings_of(server, known_hosts=tmp_path / "known_hosts")
        steps = list(diagnose(settings, write_to="."))
    assert [step.name for step in steps if not step.passed] == []
    assert "nothing may be read" in steps[-1].found
    assert "stays, since nothing may be deleted" in steps[-1].found


def failure(call: Callable[[], object]) -> SFTPError:
    with pytest.raises(SFTPError) as raised:
        call()
    return raised.value
