"""Listings without measure: many names take the memory of their names, and what never ends is ended."""

from __future__ import annotations

import gc
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from weakref import WeakSet

import pytest
from tests.clients import set_retry_policy
from tests.faulty_servers import (
    DIRECTORY,
    EOF,
    PASSWORD,
    PERMISSION_DENIED,
    FaultyServer,
    attrs,
    names,
    status,
    stop,
)
from tests.hostile.servers import MEBIBYTE, Lists, growing_by_at_most, list_in_a_process, session_with

from iot.sftp.client import Busy, ConnectionLost, SFTPError, SFTPSession, TooLarge
from iot.sftp.client._base import memory
from iot.sftp.client._calls.retry_policy import RetryPolicy
from iot.sftp.client._files import listing, remote_queries
from iot.sftp.client._folders import folder_page
from iot.sftp.client._ssh.packets import Kind, Reader, string

MILLION, MANY = 1_000_000, 200_000
HANDLE = bytes([Kind.HANDLE]) + string(b"directory")

Call = Callable[[SFTPSession, Path], object]
CALLS: dict[str, Call] = {
    "a listing": lambda session, _: session.list_files("in"),
    "a folder": lambda session, path: session.download_files("in", str(path / "dest"), recursive=True),
}
all_calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


class NeverEnds(Lists):
    """Gives names without end."""

    def __init__(self, length: int = 20) -> None:
        super().__init__(b"%0*d" % (length, number) for number in itertools.count())
        self.closed = 0

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        self.closed += kind == Kind.CLOSE
        return super().truth(kind, fields)


def test_many_names_take_no_more_memory_than_they_need_and_a_page_of_them_next_to_none() -> None:
    server = Lists([b"%020d" % number for number in range(MANY)])
    with server.running() as port:
        count, first, last, grown = list_in_a_process(port, None)
        assert (count, first, last) == (MANY, f"in/{0:020}", f"in/{MANY - 1:020}")
        assert grown < 30 * MEBIBYTE, f"{grown / MEBIBYTE:.0f} MiB"
        count, first, last, grown = list_in_a_process(port, 100)
        assert (count, first, last) == (100, f"in/{0:020}", f"in/{99:020}")
        assert grown < 8 * MEBIBYTE, f"{grown / MEBIBYTE:.0f} MiB"


def test_a_million_long_names_below_a_long_path_stay_within_the_bounds() -> None:
    budget, path = memory.Budget(), "folder/" * 20 + "y" * 255
    for _ in range(1000):
        budget.take(listing._size(path))
    assert budget._kept * (MILLION / 1000) < memory.MOST_KEPT
    for _ in range(1000):
        budget.take(folder_page.size_of("y" * 255) - listing._size(path))
    # A folder's transfer keeps what tells a version of each file, and works off what does not fit in parts
    assert budget._kept * (MILLION / 2 / 1000) < memory.MOST_KEPT
    assert MILLION <= remote_queries.MOST_NAMES


def test_a_listing_that_never_ends_is_ended_without_a_deadline_when_its_names_take_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "MOST_KEPT", 4 * MEBIBYTE)
    server = NeverEnds()
    with session_with(server) as session:
        with growing_by_at_most(60 * MEBIBYTE), pytest.raises(TooLarge, match="4 MiB") as failure:
            session.list_files("in")
        assert failure.value.path == "in"
        assert session.exists("."), "the session goes on"
        assert server.connections == 1
        assert server.closed >= 1


def test_a_page_of_a_listing_that_never_ends_is_given_up_after_so_many_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_queries, "MOST_NAMES", 30_000)
    server = NeverEnds()
    with session_with(server) as session:
        with growing_by_at_most(60 * MEBIBYTE), pytest.raises(TooLarge, match="more than 30000 names"):
            session.list_files("in", limit=10)
        with pytest.raises(TooLarge):
            session.list_files("in", "no path holds this")
        with pytest.raises(TooLarge):
            list(session.scan("in"))
        assert server.connections == 1


def test_a_folder_that_never_ends_is_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_KEPT", 8 * MEBIBYTE)
    monkeypatch.setattr(remote_queries, "MOST_NAMES", 100_000)
    with session_with(NeverEnds()) as session, growing_by_at_most(60 * MEBIBYTE), pytest.raises(TooLarge):
        session.download_files("in", str(tmp_path / "dest"), recursive=True)
    assert not (tmp_path / "dest").exists()


def test_folders_within_folders_without_end_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_KEPT", MEBIBYTE)
    monkeypatch.setattr(folder_page, "MOST_FOUND", 1_500)

    class OnlyFolders(Lists):
        def truth(self, kind: int | str, fields: Reader) -> bytes:
            if kind == Kind.READDIR:
                answer = super().truth(kind, fields)
                if answer[0] == Kind.NAME:
                    return names(*(b"folder%d" % number for number in range(50)), mode=DIRECTORY)
                return answer
            return super().truth(kind, fields)

    with session_with(OnlyFolders([b"x"])) as session, pytest.raises(TooLarge):
        session.download_files("in", str(tmp_path / "dest"), recursive=True)


LITTLE_MEMORY = """
import resource, sys
from iot.sftp.client import Secret, ServerSettings, SFTPError, SFTPSession
from iot.sftp.client._files import remote_queries as remote_files_module

if "a folder" in sys.argv:  # which comes in parts, each within the memory
    remote_files_module.MOST_NAMES = 150_000
limit, port, password, call, dest = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
session = SFTPSession(ServerSettings("127.0.0.1", port, "device", Secret(password)))
for _ in range(2):
    try:
        session.list_files("in") if call == "a listing" else session.download_files("in", dest, recursive=True)
    except SFTPError as error:
        print(error.code, error.message, sep=": ")
session.disconnect()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit of the data does not bound all of the memory")
@pytest.mark.nightly
@pytest.mark.timeout(500)
@pytest.mark.parametrize("call", CALLS)
def test_what_never_ends_is_too_large_before_a_small_memory_is_full(tmp_path: Path, call: str) -> None:
    # Long names fill the memory sooner; all of an answer still is a packet as any other
    with NeverEnds(length=80).running() as port:
        command = [sys.executable, "-c", LITTLE_MEMORY, str(192 * MEBIBYTE), str(port), PASSWORD, call]
        command.append(str(tmp_path / "dest"))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=220, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    told = done.stdout.splitlines()
    assert len(told) == 2
    reason = "the names take more than 48 MiB" if call == "a listing" else "the server has given more than 150000 names"
    assert all(line.startswith(f"too_large: {reason}") for line in told), told


def kept() -> int:
    """What all calls keep together."""
    with memory._lock:
        return sum(budget.granted for budget in memory._budgets)


@pytest.fixture
def no_garbage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin with nothing kept, whatever a test that failed before still holds; only the test collects garbage."""
    monkeypatch.setattr(memory, "_budgets", WeakSet())
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_several_that_never_end_do_not_take_more_together_than_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MOST_KEPT", 2 * MEBIBYTE)
    monkeypatch.setattr(remote_queries, "MOST_NAMES", 15_000)
    together: list[int] = []
    failures: list[SFTPError] = []
    everybody = threading.Barrier(6)

    def grant(budget: memory.Budget, real: Callable[[memory.Budget], bool] = memory.Budget._grant) -> bool:
        is_granted = real(budget)
        together.append(kept())
        return is_granted

    monkeypatch.setattr(memory.Budget, "_grant", grant)

    def fail(call: Call, number: int) -> None:
        with session_with(NeverEnds()) as session:
            session.connect()
            everybody.wait(60)
            with pytest.raises((TooLarge, Busy)) as failure:
                call(session, tmp_path / str(number))
        failures.append(failure.value)

    threads = [threading.Thread(target=fail, args=(call, number)) for number, call in enumerate([*CALLS.values()] * 3)]
    with growing_by_at_most(80 * MEBIBYTE):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(failures) == 6
    assert 1.5 * MEBIBYTE < max(together) <= 2 * MEBIBYTE
    gc.collect()
    assert kept() == 0


def pages_and_files() -> list[object]:
    return [thing for thing in gc.get_objects() if isinstance(thing, folder_page.FoundFile | listing.ListedPaths)]


@pytest.mark.usefixtures("no_garbage")
@all_calls
def test_nothing_is_kept_of_what_was_too_large_even_by_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.setattr(memory, "MOST_KEPT", 4 * MEBIBYTE)
    monkeypatch.setattr(remote_queries, "MOST_NAMES", 40_000)  # a folder comes in parts, each within the memory
    before = pages_and_files()
    with session_with(NeverEnds()) as session, pytest.raises(TooLarge) as failure:
        call(session, tmp_path)
    assert failure.value.__traceback__ is not None
    assert kept() == 0
    left = [thing for thing in pages_and_files() if not any(thing is other for other in before)]
    assert all(isinstance(thing, listing.ListedPaths) and not thing._files for thing in left)


class HangsUp(Lists):
    """Lists, and ends the connection when a file is opened."""

    def __init__(self) -> None:
        super().__init__([b"%020d" % number for number in range(10_000)])
        self.kept: list[int] = []

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        if kind == Kind.STAT:
            return attrs(1)
        if kind == Kind.OPEN:
            self.kept.append(kept())
            stop(self.transports[-1])
        return super().truth(kind, fields)


@pytest.mark.usefixtures("no_garbage")
def test_the_names_of_a_folder_count_over_all_tries_and_not_when_there_is_none_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MOST_KEPT", 5 * MEBIBYTE)
    set_retry_policy(monkeypatch, first_pause=0.01)
    server, other = HangsUp(), Lists([b"%020d" % number for number in range(10_000)])
    with session_with(server) as session, session_with(other) as another:
        with pytest.raises(ConnectionLost):
            session.download_files("in", str(tmp_path / "dest"))
        names_only = 10_000 * folder_page.size_of(f"{0:020}")
        assert server.connections > RetryPolicy.attempts
        assert set(server.kept) == {names_only}
        assert len(another.list_files("in")) == 10_000, "what is garbage by now is in nobody's way"
    assert kept() == 0


class ShowsFolders(FaultyServer):
    """Shows folders in which nobody may look."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._listing = iter([names(*(b"%020d" % one for one in range(number)), mode=DIRECTORY)])

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        match kind:
            case Kind.OPENDIR:
                return HANDLE if fields.string() == b"in" else status(PERMISSION_DENIED)
            case Kind.READDIR:
                return next(self._listing, status(EOF))
            case Kind.STAT | Kind.LSTAT:
                return attrs(1, DIRECTORY)
        return super().truth(kind, fields)


def test_folders_in_which_nobody_may_look_take_no_more_memory_than_their_names(tmp_path: Path) -> None:
    with session_with(ShowsFolders(1500)) as session:
        session.connect()
        with growing_by_at_most(6 * MEBIBYTE):
            done = session.download_files("in", str(tmp_path / "dest"), recursive=True)
    assert (done.files, done.failed, len(done.failures)) == (0, 1500, 20)
