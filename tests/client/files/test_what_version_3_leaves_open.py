"""What SFTP version 3 leaves open: servers that refuse, leave out or say vaguely what is optional are used as well."""

from __future__ import annotations

import logging
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import paramiko
import pytest
from tests.clients import set_retry_policy
from tests.faulty_servers import (
    DIRECTORY,
    EOF,
    FAILURE,
    FILE,
    LIMITS,
    NO_SUCH_FILE,
    OK,
    PASSWORD,
    PERMISSION_DENIED,
    POSIX_RENAME,
    UNSUPPORTED,
    FaultyServer,
    attributes,
    attrs,
    status,
)

from iot.sftp.client import (
    ConnectionLost,
    FileVersion,
    FolderTransfer,
    IoTSFTPClient,
    IsADirectory,
    Ledger,
    NotADirectory,
    NotFound,
    PermissionDenied,
    Secret,
    ServerSettings,
    SFTPSession,
    TimeLimits,
)
from iot.sftp.client._files import remote_requests
from iot.sftp.client._files.remote_files import HARDLINK
from iot.sftp.client._files.remote_requests import FSYNC, MOST_IN_FLIGHT, SAFE_REQUEST
from iot.sftp.client._ssh import liveness
from iot.sftp.client._ssh.open_files import OpenFiles
from iot.sftp.client._ssh.packets import Kind, Reader, string
from iot.sftp.client._ssh.server_traits import ServerTraits
from iot.sftp.client._transfer.resume_records import ResumeRecords

LONG_AGO = 1_600_000_000  # seconds since 1970
MALFORMED = 5
CONTENT = os.urandom(100_000)


@contextmanager
def session_with(server: FaultyServer, *, stall: float = 60) -> Iterator[SFTPSession]:
    with server.running() as port:
        limits = TimeLimits(connect=60, stall=stall)
        session = SFTPSession(ServerSettings("127.0.0.1", port, "device", Secret(PASSWORD), time_limits=limits))
        try:
            yield session
        finally:
            session.disconnect()


class HasFolders(FaultyServer):
    """An honest server with folders, whose listings tell sizes, types and times."""

    modified: int | None = LONG_AGO

    def __init__(self, *folders: str, extensions: tuple[str, ...] = (POSIX_RENAME,)) -> None:
        super().__init__(extensions=extensions)
        self.folders = {".", *folders}
        self.listings: dict[bytes, Iterator[bytes]] = {}

    def is_there(self, path: str) -> bool:
        return path in self.files or path in self.folders

    def truth(self, kind: int | str, fields: Reader) -> bytes:  # noqa: PLR0911 - one case for each request
        first = fields.string()
        path = os.path.normpath(first.decode()) if first else "."
        parent = os.path.dirname(path) or "."
        if kind == Kind.READDIR:
            return next(self.listings[first], status(EOF))
        if kind == Kind.CLOSE and first in self.listings:
            del self.listings[first]
            return status(OK)
        if kind in {Kind.STAT, Kind.LSTAT} and path in self.folders:
            return attrs(None, DIRECTORY, LONG_AGO)
        if kind == Kind.OPENDIR:
            return self._listing(path) if path in self.folders else status(NO_SUCH_FILE)
        if kind == Kind.MKDIR:
            if parent not in self.folders:
                return status(NO_SUCH_FILE)
            self.folders.add(path)
            return status(OK)
        if kind == Kind.OPEN and parent not in self.folders:
            return status(NO_SUCH_FILE)
        if kind in {POSIX_RENAME, Kind.RENAME}:
            dest = fields.string().decode()
            if (os.path.dirname(dest) or ".") not in self.folders:
                return status(NO_SUCH_FILE)
            fields = Reader(string(first) + string(dest.encode()))
        else:
            fields = Reader(string(first) + fields.rest())
        return super().truth(kind, fields)

    def entry(self, name: str, mode: int) -> bytes:
        """Return a name in a listing."""
        return string(name.encode()) + string(b"") + attributes(1, mode, LONG_AGO)

    def _listing(self, path: str) -> bytes:
        handle = b"listing %d" % len(self.requests)
        inside = [(name, mode) for names, mode in ((self.files, FILE), (self.folders, DIRECTORY)) for name in names]
        packed = [
            self.entry(os.path.basename(name), mode)
            for name, mode in inside
            if name != "." and (os.path.dirname(name) or ".") == path
        ]
        self.listings[handle] = iter([struct.pack(">BI", Kind.NAME, len(packed)) + b"".join(packed)])
        return bytes([Kind.HANDLE]) + string(handle)


# --- words taken for deeds -------------------------------------------------------------------------------------------


class SaysVaguely(HasFolders):
    """Says this where honest servers say that nothing is there."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__("in")
        self.files["in/here"] = bytearray(CONTENT)
        self._refusal = status(code, words)

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        answer = super().truth(kind, fields)
        return self._refusal if answer == status(NO_SUCH_FILE) else answer


VAGUE = [
    (FAILURE, "No such file or directory"),
    (FAILURE, "ENOENT: no such file or directory, stat 'x'"),
    (FAILURE, "[Errno 2] No such file"),
    (FAILURE, "The system cannot find the path specified."),
    (FAILURE, "Object not found"),
    (FAILURE, "NoSuchKey"),
    (FAILURE, "Path does not exist"),
    (FAILURE, "STAT error"),
    (FAILURE, "stat/lstat failed"),
    (FAILURE, "Failure"),
    (FAILURE, ""),
    (PERMISSION_DENIED, ""),
    (PERMISSION_DENIED, "No such file or directory"),
    (MALFORMED, "bad message"),
    (UNSUPPORTED, "no such file"),
    (99, "whatever"),
]


@pytest.mark.parametrize("code, words", VAGUE)
def test_what_is_missing_is_found_out_whatever_the_server_says_of_it(code: int, words: str, tmp_path: Path) -> None:
    server = SaysVaguely(code, words)
    (tmp_path / "source").write_bytes(CONTENT)
    with session_with(server) as session:
        assert session.exists("in/here")
        assert session.exists("in")
        for path in ("nothing", "in/nothing", "nowhere/nothing/at all"):
            assert not session.exists(path)
            assert session.stat(path) is None
            for call in (
                lambda path=path: session.list_files(path),
                lambda path=path: list(session.scan(path)),
                lambda path=path: session.list_directory(path),
                lambda path=path: session.delete_directory(path),
                lambda path=path: session.delete_directory(path, recursive=True),
                lambda path=path: session.move_directory(path, "dest"),
                lambda path=path: session.delete_file(path),
                lambda path=path: session.move_file(path, "dest"),
                lambda path=path: session.download_file(path, str(tmp_path / "dest")),
            ):
                with pytest.raises(NotFound):
                    call()
        session.upload_file(str(tmp_path / "source"), "new/folder/file")
        session.move_file("new/folder/file", "newer/folder/file")
        assert server.files["newer/folder/file"] == CONTENT
        assert server.connections == 1


class FailsBelowFiles(HasFolders):
    """Says no more than FAILURE of what is below a file, unless it is to be opened as a directory: as Erlang's ssh."""

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        first = fields.string()
        if kind in {Kind.STAT, Kind.LSTAT, Kind.OPEN, Kind.OPENDIR} and b"in/a/" in first:
            return status(FAILURE, "Not a directory" if kind == Kind.OPENDIR else "")
        return super().truth(kind, Reader(string(first) + fields.rest()))


@pytest.mark.parametrize("path", ["in/a/x", "in/a/", "in/a/x/y/" + "z/" * 200])
def test_nothing_is_there_below_a_file_where_the_server_does_not_say_so(path: str, tmp_path: Path) -> None:
    server = FailsBelowFiles("in")
    server.files["in/a"] = bytearray(CONTENT)
    with session_with(server) as session:
        assert not session.exists(path)
        assert session.stat(path) is None
        with pytest.raises((NotFound, NotADirectory)):
            session.download_file(path, str(tmp_path / "x"))
        with pytest.raises((NotFound, NotADirectory)):
            session.delete_file(path)
        assert session.exists("in/a")


def test_a_missing_file_is_no_error_only_where_the_server_says_it_is_missing() -> None:
    refusing: dict[int | str, bytes | Callable[[Reader], bytes]] = {
        kind: status(FAILURE) for kind in (Kind.STAT, Kind.LSTAT, Kind.OPENDIR)
    }
    with FaultyServer(refusing).running() as port, IoTSFTPClient("127.0.0.1", port, "device", PASSWORD) as client:
        assert not client.exists("in/file")
        assert client.last_error is not None
        assert client.last_error.code == "permission_denied"


def test_a_refusal_in_clear_words_costs_no_search_through_listings() -> None:
    server = HasFolders("in")
    server._answers = dict.fromkeys((Kind.STAT, Kind.LSTAT), status(PERMISSION_DENIED, "Permission denied"))
    with session_with(server) as session, pytest.raises(PermissionDenied):
        session.exists("in/file")
    assert server.requests.count(Kind.OPENDIR) == 0
    assert len(server.requests) <= 4


def test_a_disk_that_is_full_is_no_missing_permission_when_a_folder_is_to_be_made(tmp_path: Path) -> None:
    class Full(HasFolders):
        def truth(self, kind: int | str, fields: Reader) -> bytes:
            if kind == Kind.MKDIR:
                return status(FAILURE)
            if kind == "statvfs@openssh.com":
                return bytes([Kind.EXTENDED_REPLY]) + bytes(88)
            return super().truth(kind, fields)

    server = Full()
    extension = string(b"statvfs@openssh.com") + string(b"2")
    server._version = struct.pack(">IBI", 5 + len(extension), Kind.VERSION, 3) + extension
    (tmp_path / "source").touch()
    with session_with(server) as session, pytest.raises(Exception, match="disk is full") as failure:
        session.upload_file(str(tmp_path / "source"), "new/file")
    assert failure.value.code == "no_space"  # type: ignore[attr-defined] # it is an `SFTPError`


# --- what is refused, or left out ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.LSTAT, Kind.STAT])
@pytest.mark.parametrize(
    "refusal", [status(UNSUPPORTED), status(PERMISSION_DENIED, "Permission denied"), status(FAILURE)]
)
def test_one_of_stat_and_lstat_is_enough(kind: Kind, refusal: bytes, tmp_path: Path) -> None:
    server = HasFolders("in")
    server._answers = {kind: refusal}
    server.files |= {"in/a": bytearray(CONTENT), "in/b": bytearray(CONTENT), "in/c": bytearray(b"old")}
    with session_with(server) as session:
        session.delete_file("in/a")
        session.move_file("in/b", "in/c")
        session.download_file("in/c", str(tmp_path / "c"))
        session.upload_file(str(tmp_path / "c"), "in/d")
        assert session.exists("in/c")
        assert not session.exists("in/a")
        assert session.list_files("in") == ["in/c", "in/d"]
        assert session.download_files("in", str(tmp_path / "in")).files == 2
    assert set(server.files) == {"in/c", "in/d"}


def test_a_server_that_refuses_lstat_is_not_asked_again() -> None:
    server = HasFolders()
    server._answers = {Kind.LSTAT: status(PERMISSION_DENIED)}
    server.files |= {"a": bytearray(), "b": bytearray()}
    with session_with(server) as session:
        session.delete_file("a")
        session.delete_file("b")
    assert server.requests.count(Kind.LSTAT) == 1


class OpensAnythingAsAFolder(HasFolders):
    """Tells nothing of a path; gives a handle to whoever opens a folder, and looks whether it is one afterwards."""

    def __init__(self, *folders: str, listings_too: bool) -> None:
        super().__init__(*folders)
        self._refuses_listings = listings_too

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        if kind in {Kind.STAT, Kind.LSTAT, Kind.FSTAT}:
            return status(FAILURE)
        if kind == Kind.READDIR and self._refuses_listings:
            return status(FAILURE)
        answer = super().truth(kind, fields)
        if kind == Kind.OPENDIR and answer[0] == Kind.STATUS:
            self.listings[b"of a file"] = iter([status(NO_SUCH_FILE, "Not a directory")])
            return bytes([Kind.HANDLE]) + string(b"of a file")
        return answer


@pytest.mark.parametrize("listings_too", [False, True])
def test_a_handle_alone_does_not_make_a_folder(tmp_path: Path, *, listings_too: bool) -> None:
    server = OpensAnythingAsAFolder("in", listings_too=listings_too)
    server.files |= {"in/a": bytearray(b"1")}
    with session_with(server) as session:
        session.download_file("in/a", str(tmp_path / "a"))
        session.upload_file(str(tmp_path / "a"), "out/deeper/a")
        session.upload_file(str(tmp_path / "a"), "out/deeper/a")
    assert (tmp_path / "a").read_bytes() == b"1"
    assert set(server.files) == {"in/a", "out/deeper/a"}


def test_a_file_of_which_listings_alone_tell_does_not_pass_for_one_that_has_gone(tmp_path: Path) -> None:
    server = OpensAnythingAsAFolder("in", listings_too=False)
    server.files |= {"in/a": bytearray(b"1")}  # so long as listings say
    with session_with(server) as session:
        done = session.download_files("in", str(tmp_path), then="delete")
    assert (done.files, done.failed) == (1, 0)
    assert (tmp_path / "a").read_bytes() == b"1"
    assert not server.files


class TellsNothing(HasFolders):
    """Tells no attributes at all, but for the size of what is read."""

    def entry(self, name: str, mode: int) -> bytes:
        del mode
        return string(name.encode()) + string(name.encode()) + attributes(None, None)

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        answer = super().truth(kind, fields)
        if kind in {Kind.STAT, Kind.LSTAT} and answer[0] == Kind.ATTRS:
            size = struct.unpack_from(">Q", answer, 5)[0] if answer[4] & 1 else None
            return attrs(size, None)
        return answer


def test_a_server_that_tells_no_types_at_all_is_asked_which_of_them_can_be_listed(tmp_path: Path) -> None:
    server = TellsNothing("in", "in/sub")
    server.files |= {"in/a": bytearray(CONTENT)}
    with session_with(server) as session:
        assert session.list_files("in", "a") == ["in/a"]
        session.download_file("in/a", str(tmp_path / "a"))
        session.upload_file(str(tmp_path / "a"), "in/sub")
        session.move_file("in/a", "in/sub/deeper/b")
    assert set(server.files) == {"in/sub/a", "in/sub/deeper/b"}


def test_a_directory_is_no_file_where_the_server_tells_no_types() -> None:
    server = TellsNothing("in", "in/sub")
    server.files |= {"in/a": bytearray(CONTENT)}
    with session_with(server) as session:
        with pytest.raises(IsADirectory):
            session.move_file("in/sub", "in/other")
        with pytest.raises(IsADirectory):
            session.delete_file("in/sub")
        session.delete_file("in/a")
    assert not {Kind.RENAME, POSIX_RENAME} & set(server.requests)
    assert server.requests.count(Kind.REMOVE) == 1
    assert not server.files


@pytest.mark.parametrize("answer", [struct.pack(">BI", Kind.NAME, 0), status(FAILURE), status(UNSUPPORTED)])
def test_any_answer_to_the_question_whether_it_is_there_is_one(answer: bytes) -> None:
    server = FaultyServer({Kind.REALPATH: answer})
    with session_with(server) as session:
        session.connect()
        assert session.is_connected()
        assert server.connections == 1


# --- open files ------------------------------------------------------------------------------------------------------


class ListsNoTimes(HasFolders):
    """Tells times to those who ask for a single file."""

    def entry(self, name: str, mode: int) -> bytes:
        return string(name.encode()) + string(b"") + attributes(1, mode)


class InMemory(dict[str, FileVersion]):
    """A ledger."""

    def knows(self, path: str, version: FileVersion) -> bool:
        return path in self and self[path].is_same_as(version)

    def note(self, path: str, version: FileVersion) -> None:
        self[path] = version

    def settle(self, path: str) -> None:
        del self[path]


@pytest.mark.parametrize("if_exists, ledger", [("replace", InMemory()), ("skip_same", None)])
def test_a_new_version_of_the_same_size_is_seen_where_listings_tell_no_times(
    tmp_path: Path, if_exists: str, ledger: Ledger | None
) -> None:
    server = ListsNoTimes("in")
    server.files |= {"in/a": bytearray(b"1")}
    with session_with(server) as session:

        def transferred() -> int:
            return session.download_files("in", str(tmp_path), if_exists=if_exists, ledger=ledger).files

        assert [transferred(), transferred()] == [1, 0]
        server.files["in/a"], server.modified = bytearray(b"2"), LONG_AGO + 60
        assert [transferred(), transferred()] == [1, 0]
    assert (tmp_path / "a").read_bytes() == b"2"


FEW_FILES = 15  # more than any of these servers lets be open


class AllowsFew(HasFolders):
    """Lets so many files be open at a time; `most` is what was open, and `refused` how often it has refused."""

    def __init__(self, allowed: int, refusal: bytes, *, with_directories: bool = False) -> None:
        super().__init__("in")
        self.files |= {f"in/{number:02}": bytearray(CONTENT) for number in range(FEW_FILES)}
        self.allowed, self.most, self.refused = allowed, 0, 0
        self._refusal = refusal
        self._kinds = {Kind.OPEN, Kind.OPENDIR} if with_directories else {Kind.OPEN}
        self._handles: set[bytes] = set()
        self._counting = threading.Lock()

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        if kind in {Kind.READ, Kind.WRITE}:
            time.sleep(0.003)  # meanwhile the next file is asked for
        with self._counting:
            if kind in self._kinds and len(self._handles) >= self.allowed:
                self.refused += 1
                return self._refusal
            if kind == Kind.CLOSE:
                handle = fields.string()
                self._handles.discard(handle)
                fields = Reader(string(handle))
            answer = super().truth(kind, fields)
            if kind in self._kinds and answer[0] == Kind.HANDLE:
                self._handles.add(Reader(answer, 1).string())
                self.most = max(self.most, len(self._handles))
            return answer


REFUSALS = [
    status(PERMISSION_DENIED, "Maximum concurrent transfers exceeded"),
    status(FAILURE, "Too many open files"),
    status(FAILURE),
    status(PERMISSION_DENIED, "Permission denied"),
]


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("allowed", [1, 2, 5])
@pytest.mark.parametrize("with_directories", [True, False])
@pytest.mark.parametrize("keeps_order", [True, False])
def test_all_files_arrive_from_a_server_that_lets_few_be_open(  # noqa: PLR0917 - parameters
    tmp_path: Path,
    refusal: bytes,
    allowed: int,
    with_directories: bool,
    keeps_order: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO, "iot.sftp")
    if keeps_order:  # so that one thread has several of them in flight
        monkeypatch.setattr(ServerTraits, "keeps_order", property(lambda _: True, lambda _, value: value))
    server = AllowsFew(allowed, refusal, with_directories=with_directories)
    with session_with(server) as session:
        done = session.download_files("in", str(tmp_path / "in"), timeout=60)
        assert (done.files, done.failed) == (FEW_FILES, 0), done.failures
        refused = server.refused
        done = session.upload_files(str(tmp_path / "in"), "out", timeout=60)
        assert (done.files, done.failed) == (FEW_FILES, 0), done.failures
    assert server.most == allowed
    assert server.refused <= refused + 1, "the limit is known by then"
    assert len([r for r in caplog.records if "files be open at a time" in r.getMessage()]) <= 3
    assert server.connections == 1


def test_a_file_that_is_being_closed_raises_no_limit() -> None:
    """A server that lets two be open has closed the first before it opens the third; that answer comes first."""
    files, one, other = OpenFiles(), object(), object()
    for channel, handle in ((one, b"1"), (one, b"2")):
        files.granted(files.ask(channel, is_directory=False), handle)
    files.closing(one, b"1")
    files.granted(files.ask(other, is_directory=False), b"3")
    files.closed(one, b"1")
    refused = files.ask(other, is_directory=False)
    refused.owner += 1
    files.refused(refused)
    assert files.may_be_of_limit(refused, PermissionDenied("Permission denied"))


def test_a_place_that_was_free_counts_what_is_open_beside_it() -> None:
    files, one, other = OpenFiles(), object(), object()
    files.granted(files.ask(one, is_directory=False), b"1")
    refused = files.take_free_place(other, is_directory=False, is_quick=False)
    assert refused is not None
    refused.owner += 1
    files.closed(one, b"1")
    files.refused(refused)
    assert files.may_be_of_limit(refused, PermissionDenied("Permission denied"))


def test_a_file_that_was_refused_beside_others_is_tried_again_when_they_are_closed_by_the_time_of_its_answer() -> None:
    files, one, other = OpenFiles(), object(), object()
    files.granted(files.ask(one, is_directory=False), b"1")
    refused = files.ask(other, is_directory=False)
    refused.owner += 1
    files.closing(one, b"1")
    files.closed(one, b"1")
    files.refused(refused)
    assert files.may_be_of_limit(refused, PermissionDenied("Permission denied"))


def test_files_that_nobody_may_read_are_refused_beside_others_that_are_read(tmp_path: Path) -> None:
    class Forbids(HasFolders):
        def truth(self, kind: int | str, fields: Reader) -> bytes:
            path = fields.string()
            if kind == Kind.OPEN and path.endswith(b"7"):
                return status(PERMISSION_DENIED, "Permission denied")
            return super().truth(kind, Reader(string(path) + fields.rest()))

    server = Forbids("in")
    server.files |= {f"in/{number:03}": bytearray(b"x") for number in range(100)}
    with session_with(server) as session:
        done = session.download_files("in", str(tmp_path / "in"), timeout=60)
    assert (done.files, done.failed) == (90, 10)
    assert {failure.code for failure in done.failures} == {"permission_denied"}


def test_a_limit_that_a_server_announces_is_kept(tmp_path: Path) -> None:
    limits = bytes([Kind.EXTENDED_REPLY]) + struct.pack(">QQQQ", 262_144, 261_120, 261_120, 3)
    server = AllowsFew(3, status(FAILURE))
    server._answers = {LIMITS: limits}
    extension = string(LIMITS.encode()) + string(b"1")
    server._version = struct.pack(">IBI", 5 + len(extension), Kind.VERSION, 3) + extension
    with session_with(server) as session:
        session.download_file("in/00", str(tmp_path / "first"))
        assert session.download_files("in", str(tmp_path / "in"), timeout=60).files == FEW_FILES
    assert server.refused == 0


def test_quick_calls_are_answered_while_transfers_use_what_a_server_allows(tmp_path: Path) -> None:
    reads = threading.Event()

    class Slow(AllowsFew):
        def truth(self, kind: int | str, fields: Reader) -> bytes:
            answer = super().truth(kind, fields)
            if kind == Kind.READ:
                reads.wait(0.02)
            return answer

    server = Slow(3, status(FAILURE, "too many open files"), with_directories=True)
    with session_with(server) as session, ThreadPoolExecutor(1) as threads:
        session.download_files("in", str(tmp_path / "first"), timeout=60)
        second = threads.submit(session.download_files, "in", str(tmp_path / "second"), timeout=60)
        for _ in range(20):
            assert len(session.list_files("in", timeout=60)) == FEW_FILES
        reads.set()
        assert second.result().files == FEW_FILES


# --- handles ---------------------------------------------------------------------------------------------------------


class HandsOutHandlesTwice(HasFolders):
    """Gives the second and each further file that is open on a channel the same handle, as Erlang's server does.

    What is read from and written to that handle is the file that was opened last.
    """

    def __init__(self) -> None:
        super().__init__("in")
        self.files |= {f"in/{number:02}": bytearray(os.urandom(50_000)) for number in range(40)}
        self.most = 0

    def serve(self, channel: paramiko.Channel) -> None:
        served = threading.local()
        served.open = []
        self._of_thread = getattr(self, "_of_thread", {}) | {threading.get_ident(): served}
        self._opened: dict[int, list[bytes]] = getattr(self, "_opened", {})
        self._opened[threading.get_ident()] = []
        super().serve(channel)

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        mine, me = self._opened[threading.get_ident()], b"%d:" % threading.get_ident()
        if kind in {Kind.READ, Kind.WRITE, Kind.FSTAT, Kind.FSETSTAT, Kind.READDIR, Kind.CLOSE}:
            handle = me + fields.string()
            if kind == Kind.CLOSE and handle in mine:
                mine.remove(handle)
            rest = fields.rest()
            return super().truth(kind, Reader(string(self._real(handle)) + rest))
        answer = super().truth(kind, fields)
        if kind not in {Kind.OPEN, Kind.OPENDIR} or answer[0] != Kind.HANDLE:
            return answer
        handle = b"%d" % min(1, len(mine))
        mine.append(me + handle)
        self.most = max(self.most, len(mine))
        self._means = getattr(self, "_means", {}) | {me + handle: Reader(answer, 1).string()}
        return bytes([Kind.HANDLE]) + string(handle)

    def _real(self, handle: bytes) -> bytes:
        means: dict[bytes, bytes] = self._means
        return means.get(handle, b"none")


def test_no_file_gets_the_bytes_of_another_where_handles_are_given_out_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "iot.sftp")
    server = HandsOutHandlesTwice()
    contents = {name: bytes(content) for name, content in server.files.items()}
    with session_with(server) as session:
        done = session.download_files("in", str(tmp_path / "in"), timeout=60)
        assert (done.files, done.failed) == (40, 0), done.failures
        for name, content in contents.items():
            assert (tmp_path / name).read_bytes() == content
        assert server.most > 1
        server.most = 0
        done = session.upload_files(str(tmp_path / "in"), "out", timeout=60)
        assert (done.files, done.failed) == (40, 0), done.failures
        assert server.most == 1, "by then only one is open at a time"
    assert {name: bytes(content) for name, content in server.files.items()} == contents | {
        name.replace("in/", "out/"): content for name, content in contents.items()
    }
    assert len([r for r in caplog.records if "handles that are in use" in r.getMessage()]) == 1


# --- what takes long -------------------------------------------------------------------------------------------------


class TakesItsTime(HasFolders):
    """Does one thing, of this kind, slowly."""

    answers_at_once = True

    def __init__(self, kind: int | str, seconds: float) -> None:
        super().__init__()
        self._kind, self._seconds = kind, seconds
        self.opened = 0

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        self.opened += kind == Kind.OPEN
        if kind == self._kind:
            self.stopped.wait(self._seconds)
        return super().truth(kind, fields)


@pytest.mark.parametrize("kind", [POSIX_RENAME, Kind.OPEN, Kind.CLOSE, Kind.FSETSTAT])
def test_a_server_that_takes_long_for_one_thing_is_waited_for_and_sent_the_file_once(
    kind: int | str, tmp_path: Path
) -> None:
    server = TakesItsTime(kind, 1.2)
    (tmp_path / "source").write_bytes(CONTENT)
    with session_with(server, stall=0.3) as session:
        session.upload_file(str(tmp_path / "source"), "dest", timeout=60)
    assert server.files == {"dest": CONTENT}
    assert (server.opened, server.connections) == (1, 1)


@pytest.mark.parametrize("kind", [Kind.OPENDIR, Kind.READDIR])
def test_a_server_that_takes_long_to_list_a_large_folder_is_waited_for(kind: Kind) -> None:
    server = TakesItsTime(kind, 1.2)
    server.files["a"] = bytearray(CONTENT)
    with session_with(server, stall=0.3) as session:
        assert session.list_files(".") == ["a"]
    assert server.connections == 1


def test_a_server_that_never_ends_one_thing_is_given_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "SLOW_SECONDS", 1.0)
    monkeypatch.setattr(liveness, "SLOW_STALLS", 1)
    set_retry_policy(monkeypatch, attempts=1)
    server = TakesItsTime(POSIX_RENAME, 100)
    server.files["source"] = bytearray(CONTENT)
    started = time.monotonic()
    with session_with(server, stall=0.3) as session, pytest.raises(ConnectionLost):
        session.move_file("source", "dest")
    assert 1 <= time.monotonic() - started < 25


def test_a_server_that_answers_no_reads_is_noticed_at_the_stall_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_retry_policy(monkeypatch, attempts=1)
    server = TakesItsTime(Kind.READ, 100)
    server.files["source"] = bytearray(CONTENT)
    started = time.monotonic()
    with session_with(server, stall=0.3) as session, pytest.raises(ConnectionLost):
        session.download_file("source", str(tmp_path / "dest"))
    assert time.monotonic() - started < 25


# --- repeats ---------------------------------------------------------------------------------------------------------


class LosesAnAnswer(HasFolders):
    """Ends the connection in place of its first answer to this request; `then` is what somebody else does meanwhile."""

    def __init__(
        self, kind: int | str, then: Callable[[LosesAnAnswer], object], *, does_it: bool, syncs: bool = False
    ) -> None:
        super().__init__(extensions=(POSIX_RENAME, FSYNC) if syncs else (POSIX_RENAME,))
        self._kind, self._then, self._does_it = kind, then, does_it

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        if kind != self._kind:
            return super().truth(kind, fields)
        self._kind = -1
        if self._does_it:
            super().truth(kind, fields)
        self._then(self)
        self.cut()
        return b""


def nothing(_: LosesAnAnswer) -> None:
    pass


def a_new_order(server: LosesAnAnswer) -> None:
    server.files["order"] = bytearray(b"a new one")


def a_new_order_of_the_same_size(server: LosesAnAnswer) -> None:
    server.modified = LONG_AGO + 1
    server.files["order"] = bytearray(b"new")


REPEATS = [
    (nothing, True, True),
    (nothing, False, True),
    (a_new_order, True, False),
    (a_new_order_of_the_same_size, True, False),
    (a_new_order, False, False),
]


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    set_retry_policy(monkeypatch, first_pause=0.01)


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("then, does_it, succeeds", REPEATS)
def test_a_deletion_is_repeated_on_what_its_first_attempt_saw_and_on_nothing_else(
    then: Callable[[LosesAnAnswer], object], *, does_it: bool, succeeds: bool
) -> None:
    server = LosesAnAnswer(Kind.REMOVE, then, does_it=does_it)
    server.files["order"] = bytearray(b"old")
    with session_with(server) as session:
        if succeeds:
            session.delete_file("order", timeout=60)
        else:
            with pytest.raises(ConnectionLost, match="not known") as failure:
                session.delete_file("order", timeout=60)
            assert failure.value.path == "order"
    assert ("order" in server.files) is not succeeds
    assert server.connections == 2


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("then, does_it, succeeds", REPEATS)
def test_a_move_is_repeated_on_what_its_first_attempt_saw_and_on_nothing_else(
    then: Callable[[LosesAnAnswer], object], *, does_it: bool, succeeds: bool
) -> None:
    server = LosesAnAnswer(POSIX_RENAME, then, does_it=does_it)
    server.files |= {"order": bytearray(b"old"), "done": bytearray(b"yesterday's")}
    with session_with(server) as session:
        if succeeds:
            session.move_file("order", "done", timeout=60)
        else:
            with pytest.raises(ConnectionLost, match="not known"):
                session.move_file("order", "done", timeout=60)
    assert ("order" in server.files) is not succeeds
    assert bytes(server.files["done"]) == (b"old" if does_it or succeeds else b"yesterday's")


@pytest.mark.usefixtures("short_pauses")
def test_a_move_whose_file_and_destination_are_gone_is_not_known() -> None:
    def take_away(server: LosesAnAnswer) -> None:
        server.files.clear()

    server = LosesAnAnswer(POSIX_RENAME, take_away, does_it=True)
    server.files["order"] = bytearray(b"old")
    with session_with(server) as session, pytest.raises(ConnectionLost, match="not known"):
        session.move_file("order", "done", timeout=60)


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("is_told", [True, False])
def test_a_file_that_may_be_written_again_without_a_trace_is_not_deleted_twice(*, is_told: bool) -> None:
    server = LosesAnAnswer(Kind.REMOVE, nothing, does_it=False)
    server.modified = int(time.time()) if is_told else None
    server.files["order"] = bytearray(b"old")
    with session_with(server) as session, pytest.raises(ConnectionLost, match="not known"):
        session.delete_file("order", timeout=60)
    assert "order" in server.files


@pytest.mark.usefixtures("short_pauses")
def test_a_deletion_whose_request_was_never_sent_is_repeated_on_what_is_there() -> None:
    server = LosesAnAnswer(Kind.LSTAT, a_new_order, does_it=True)
    server.files["order"] = bytearray(b"old")
    with session_with(server) as session:
        session.delete_file("order", timeout=60)
    assert server.files == {}


def taken_by_its_receiver(server: LosesAnAnswer) -> None:
    del server.files["in/order"]


def replaced_by_somebody_else(server: LosesAnAnswer) -> None:
    server.files["in/order"] = bytearray(b"somebody else's")


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("content", [b"small", CONTENT])
@pytest.mark.parametrize("then", [nothing, taken_by_its_receiver, replaced_by_somebody_else])
@pytest.mark.parametrize("is_folder", [False, True])
def test_an_upload_whose_renames_answer_was_lost_is_not_delivered_twice(
    tmp_path: Path, then: Callable[[LosesAnAnswer], None], content: bytes, *, is_folder: bool
) -> None:
    server = LosesAnAnswer(POSIX_RENAME, then, does_it=True)
    server.folders.add("in")
    (tmp_path / "order").write_bytes(content)
    with session_with(server) as session:
        if is_folder:
            assert session.upload_files(str(tmp_path), "in", timeout=60).files == 1
        else:
            assert session.upload_file(str(tmp_path / "order"), "in/order", timeout=60).verified == "size"
    if then is taken_by_its_receiver:
        assert server.files == {}
    else:
        assert server.files == {"in/order": content if then is nothing else b"somebody else's"}
    assert server.connections == 2


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("content", [b"small", CONTENT])
def test_an_upload_whose_rename_was_lost_on_its_way_is_renamed(tmp_path: Path, content: bytes) -> None:
    server = LosesAnAnswer(POSIX_RENAME, nothing, does_it=False)
    (tmp_path / "order").write_bytes(content)
    with session_with(server) as session:
        session.upload_file(str(tmp_path / "order"), "order", timeout=60)
    assert server.files == {"order": content}


@contextmanager
def process_at(port: int, state: Path) -> Iterator[SFTPSession]:
    """Give the session of a process of its own, which tries everything once."""
    ResumeRecords.of.cache_clear()
    session = SFTPSession(ServerSettings("127.0.0.1", port, "device", Secret(PASSWORD), state=state))
    try:
        yield session
    finally:
        session.disconnect()


def replaced_by_the_same_size(server: LosesAnAnswer) -> None:
    server.files["in/order"] = bytearray(len(server.files["in/order"]))


def with_its_folder_gone(server: LosesAnAnswer) -> None:
    server.files.clear()
    server.folders.discard("in")


@pytest.mark.parametrize("content", [b"small", CONTENT])
@pytest.mark.parametrize(
    "then, syncs, is_sent_again",
    [
        (nothing, False, False),
        (taken_by_its_receiver, True, False),
        (taken_by_its_receiver, False, True),  # what was not synced may be gone with an older disk
        (replaced_by_somebody_else, True, True),
        (replaced_by_the_same_size, True, True),
        (with_its_folder_gone, True, True),
    ],
)
def test_the_next_process_finds_what_arrived_when_the_rename_was_not_answered(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    then: Callable[[LosesAnAnswer], None],
    content: bytes,
    *,
    syncs: bool,
    is_sent_again: bool,
) -> None:
    set_retry_policy(monkeypatch, attempts=1)
    server = LosesAnAnswer(POSIX_RENAME, then, does_it=True, syncs=syncs)
    server.folders.add("in")
    source, state = tmp_path / "order", tmp_path / "state"
    source.write_bytes(content)
    with server.running() as port:
        with process_at(port, state) as session, pytest.raises(ConnectionLost):
            session.upload_file(str(source), "in/order")
        server.requests.clear()
        with process_at(port, state) as session:
            session.upload_file(str(source), "in/order")
    assert (Kind.WRITE in server.requests) is is_sent_again
    assert server.files == ({} if then is taken_by_its_receiver and syncs else {"in/order": content})
    assert list(state.glob("*.transfer")) == []


@pytest.mark.parametrize("content", [b"small", CONTENT])
def test_another_version_is_sent_whatever_became_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    set_retry_policy(monkeypatch, attempts=1)
    server = LosesAnAnswer(POSIX_RENAME, taken_by_its_receiver, does_it=True)
    server.folders.add("in")
    source, state = tmp_path / "order", tmp_path / "state"
    source.write_bytes(content)
    with server.running() as port:
        with process_at(port, state) as session, pytest.raises(ConnectionLost):
            session.upload_file(str(source), "in/order")
        source.write_bytes(content)  # the same bytes, written again
        with process_at(port, state) as session:
            session.upload_file(str(source), "in/order")
    assert server.files == {"in/order": content}


@pytest.mark.parametrize("content", [b"small", CONTENT])
def test_the_next_process_finishes_an_upload_whose_rename_was_not_carried_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    set_retry_policy(monkeypatch, attempts=1)
    server = LosesAnAnswer(POSIX_RENAME, nothing, does_it=False)
    source, state = tmp_path / "order", tmp_path / "state"
    source.write_bytes(content)
    with server.running() as port:
        with process_at(port, state) as session, pytest.raises(ConnectionLost):
            session.upload_file(str(source), "order")
        assert list(server.files) != ["order"]
        with process_at(port, state) as session:
            session.connect()
            is_cleaned_up = not server.files  # a small one is sent again sooner than looked after
            server.requests.clear()
            session.upload_file(str(source), "order")
    assert server.files == {"order": content}
    assert is_cleaned_up is (Kind.WRITE in server.requests) is (content == b"small")
    assert list(state.glob("*.transfer")) == []


def test_a_destination_is_no_folder_because_it_is_opened_as_one_when_its_stat_failed(tmp_path: Path) -> None:
    class OpensAnyPath(HasFolders):
        """Opens any path as a folder, and fails when it is to be read, as asyncssh does; the first STAT fails."""

        fails = True

        def truth(self, kind: int | str, fields: Reader) -> bytes:
            if kind == Kind.OPENDIR and self.fails:
                return bytes([Kind.HANDLE]) + string(b"of nothing")
            if kind == Kind.READDIR:
                return status(FAILURE, "Failure")
            if kind == Kind.STAT and self.fails:
                return status(FAILURE, "Failure")
            return super().truth(kind, fields)

    server = OpensAnyPath()
    (tmp_path / "b").write_bytes(CONTENT)
    with session_with(server) as session:
        session.upload_file(str(tmp_path / "b"), "b", timeout=60)
        server.files["c"] = server.files.pop("b")
        session.move_file("c", "b", timeout=60)
    assert server.files == {"b": CONTENT}


class CopiesOnly(HasFolders):
    """Refuses to rename out of `in`, and what it is told to."""

    refused: int = -1

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        if kind == self.refused:
            return status(PERMISSION_DENIED)
        if kind in {POSIX_RENAME, Kind.RENAME}:
            source = fields.string()
            if source.startswith(b"in/"):
                return status(FAILURE, "Failure")
            fields = Reader(string(source) + fields.rest())
        return super().truth(kind, fields)


def test_what_was_moved_by_copying_and_cannot_be_removed_is_copied_once(tmp_path: Path) -> None:
    server = CopiesOnly("in", "done")
    server.files["in/a"] = bytearray(CONTENT)
    server.refused = Kind.REMOVE

    def run() -> FolderTransfer:
        server.requests.clear()
        return session.download_files("in", str(tmp_path), then="move", move_to="done", timeout=60)

    with session_with(server) as session:
        assert run().not_removed == 1
        assert Kind.WRITE in server.requests
        assert run().not_removed == 1
        assert Kind.WRITE not in server.requests
        server.refused = -1
        assert run().not_removed == 0
        assert Kind.WRITE not in server.requests
    assert server.files == {"done/a": CONTENT}


def test_a_link_that_a_server_only_says_it_has_made_is_no_backup(tmp_path: Path) -> None:
    """As rclone 1.60: what it replaces would be lost."""

    class SaysOK(HasFolders):
        def truth(self, kind: int | str, fields: Reader) -> bytes:
            return status(OK) if kind == HARDLINK else super().truth(kind, fields)

    server = SaysOK("out", "kept", extensions=(POSIX_RENAME, HARDLINK))
    server.files["out/a"] = bytearray(b"old")
    (tmp_path / "a").write_bytes(CONTENT)
    with session_with(server) as session:
        done = session.upload_files(str(tmp_path), "out", if_exists="backup", backup_to="kept", timeout=60)
    assert (done.files, done.failed) == (1, 0)
    assert server.files == {"out/a": CONTENT, "kept/a": b"old"}


@pytest.mark.parametrize("refuses", [False, True])
def test_what_is_moved_by_copying_is_on_the_disk_before_its_original_is_removed(tmp_path: Path, refuses: bool) -> None:
    class Syncs(CopiesOnly):
        """Notes what is done last with each file."""

        def truth(self, kind: int | str, fields: Reader) -> bytes:
            if kind == FSYNC:
                done.append("sync")
                return status(FAILURE if refuses else OK)
            if kind == Kind.REMOVE:
                done.append("remove")
            return super().truth(kind, fields)

    done: list[str] = []
    server = Syncs("in", "done", extensions=(POSIX_RENAME, FSYNC))
    server.files["in/a"] = bytearray(CONTENT)
    with session_with(server) as session:
        assert session.download_files("in", str(tmp_path), then="move", move_to="done", timeout=60).not_removed == 0
    assert server.files == {"done/a": CONTENT}
    assert done == ["sync", "remove"]


def test_what_has_other_bytes_at_its_new_place_is_copied_there(tmp_path: Path) -> None:
    server = CopiesOnly("in", "done")
    server.files |= {"in/a": bytearray(CONTENT), "done/a": bytearray(CONTENT[:-1] + b"!")}
    with session_with(server) as session:
        assert session.download_files("in", str(tmp_path), then="move", move_to="done", timeout=60).not_removed == 0
    assert server.files == {"done/a": CONTENT}


def test_a_temporary_file_that_cannot_be_removed_is_reused_and_removed_later(tmp_path: Path) -> None:
    class RenamesNothing(CopiesOnly):
        """Refuses every rename, as long as it is told to refuse to remove as well."""

        def truth(self, kind: int | str, fields: Reader) -> bytes:
            if kind in {POSIX_RENAME, Kind.RENAME} and self.refused == Kind.REMOVE:
                return status(PERMISSION_DENIED)
            return super().truth(kind, fields)

    server = RenamesNothing("in", "done")
    server.files["in/a"] = bytearray(CONTENT)
    server.refused = Kind.REMOVE
    with session_with(server) as session:
        for _ in range(2):
            assert session.download_files("in", str(tmp_path), then="move", move_to="done", timeout=60).not_removed == 1
            assert len(server.files) == 2
        server.refused = -1
        session.disconnect()
        session.connect()
        assert list(server.files) == ["in/a"]


def test_the_copy_of_a_move_that_was_cut_off_is_removed_by_the_next_session(tmp_path: Path) -> None:
    class IsCutOff(CopiesOnly):
        """Ends the connection at the first SETSTAT."""

        is_cut = False

        def truth(self, kind: int | str, fields: Reader) -> bytes:
            if kind == Kind.SETSTAT and not self.is_cut:
                self.is_cut = True
                self.cut()
                return b""
            return super().truth(kind, fields)

    server = IsCutOff("in", "done")
    server.files["in/a"] = bytearray(CONTENT)
    with session_with(server) as session:
        session.download_files("in", str(tmp_path), then="move", move_to="done", timeout=60)
    assert server.files == {"done/a": CONTENT}


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_requests_are_never_smaller_than_every_server_takes(
    tmp_path: Path,
) -> None:
    asked: list[int] = []

    class Announces(HasFolders):
        def truth(self, kind: int | str, fields: Reader) -> bytes:
            if kind == Kind.READ:
                handle, offset, length = fields.string(), fields.uint64(), fields.uint32()
                asked.append(length)
                fields = Reader(string(handle) + struct.pack(">QI", offset, length))
            return super().truth(kind, fields)

    for limits in [(1, 1, 1, 1), (0, 1, 1, 0), (34_000, 261_120, 261_120, 0), (100, 2**63, 2**63, 2**63)]:
        server = Announces()
        server._answers = {LIMITS: bytes([Kind.EXTENDED_REPLY]) + struct.pack(">4Q", *limits)}
        extension = string(LIMITS.encode()) + string(b"1")
        server._version = struct.pack(">IBI", 5 + len(extension), Kind.VERSION, 3) + extension
        server.files["source"] = bytearray(CONTENT)
        with session_with(server) as session:
            session.download_file("source", str(tmp_path / "dest"), timeout=60)
        assert (tmp_path / "dest").read_bytes() == CONTENT
    assert len(asked) <= 4 * (len(CONTENT) // SAFE_REQUEST + 2)


def test_a_channel_carries_a_bounded_number_of_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_IN_FLIGHT <= 1024
    monkeypatch.setattr(remote_requests, "MOST_IN_FLIGHT", 4)
    most: list[int] = []

    class Counts(HasFolders):
        def send(self, channel: paramiko.Channel, answers: list[bytes]) -> None:
            if self.stopped.wait(0.02):
                return
            super().send(channel, answers)

    server = Counts()
    server.files |= {f"{number}": bytearray(os.urandom(SAFE_REQUEST * 20)) for number in range(2)}
    with session_with(server) as session, ThreadPoolExecutor(2) as threads:
        done = [threads.submit(session.download_file, str(n), str(tmp_path / str(n)), timeout=60) for n in range(2)]
        while wait(done, timeout=0.001).not_done:
            connection = session._live.current
            if connection is not None:
                most += [channel.in_flight for channel in connection.channels.all]
        assert all(call.result().bytes == SAFE_REQUEST * 20 for call in done)
    assert max(most) <= 8
    assert (tmp_path / "0").read_bytes() == server.files["0"]
