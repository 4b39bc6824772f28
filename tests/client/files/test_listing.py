"""Listings: every page is its part of one order, and large or hostile directories take no more memory than a page."""

from __future__ import annotations

import gc
import os
import random
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.clients import session_of
from tests.faulty_servers import (
    DIRECTORY,
    EOF,
    FILE,
    NO_SUCH_FILE,
    PASSWORD,
    FaultyServer,
    attributes,
    attrs,
    status,
)
from tests.servers import Server

from iot.sftp.client import (
    Busy,
    ConnectionLost,
    InvalidRequest,
    NotADirectory,
    NotFound,
    Secret,
    ServerSettings,
    SFTPSession,
    TooLarge,
)
from iot.sftp.client._base import memory
from iot.sftp.client._files import listing
from iot.sftp.client._ssh.packets import Attributes, Entry, Kind, Reader, string

LINK = 0o120777
MEBIBYTE = 1024 * 1024


class Lists(FaultyServer):
    """A server with one directory, whose entries have a type in the listing, and another one behind a link."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[bytes, tuple[int | None, int | None]] = {}
        self.asked = self.readings = 0
        self._rest: dict[bytes, Iterator[bytes]] = {}
        self._turn = threading.Lock()

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        if kind == Kind.READDIR:
            handle = fields.string()
            with self._turn:
                self.readings += 1
                rest = self._rest.setdefault(handle, self.packets())
                return next(rest, status(EOF))
        if kind == Kind.STAT:
            path = fields.string()
            if path == b"in":
                return attrs(None, DIRECTORY)
            self.asked += 1
            _, meant = self.entries.get(os.path.basename(path), (None, None))
            return status(NO_SUCH_FILE) if meant is None else attrs(1, meant)
        return super().truth(kind, fields)

    def packets(self) -> Iterator[bytes]:
        names = list(self.entries.items())
        for start in range(0, len(names), 100):
            some = names[start : start + 100]
            packed = b"".join(string(name) + string(b"-") + attributes(1, mode) for name, (mode, _) in some)
            yield struct.pack(">BI", Kind.NAME, len(some)) + packed


@contextmanager
def session_with(server: FaultyServer) -> Iterator[SFTPSession]:
    with server.running() as port:
        session = SFTPSession(ServerSettings("127.0.0.1", port, "device", Secret(PASSWORD)))
        try:
            yield session
        finally:
            session.disconnect()


@pytest.mark.parametrize("names, readings", [(0, 1), (1, 2), (100, 2), (101, 10), (950, 18)])
def test_a_small_directory_takes_two_requests_and_a_large_one_has_eight_in_flight(names: int, readings: int) -> None:
    server = Lists()
    server.entries = {b"%d" % number: (FILE, FILE) for number in range(names)}
    with session_with(server) as session:
        assert len(session.list_files("in")) == names
    assert readings <= server.readings <= max(2, readings)


NAMES = st.binary(min_size=1, max_size=6).filter(lambda name: name not in {b".", b".."} and not set(name) & set(b"/\0"))
MODES = st.sampled_from(
    [(FILE, FILE), (DIRECTORY, DIRECTORY), (LINK, FILE), (LINK, DIRECTORY), (LINK, None), (None, FILE)]
)


def test_the_pages_of_any_listing_are_its_parts_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "SLACK", 3)
    monkeypatch.setattr(listing, "LINKS_KEPT", 5)
    server = Lists()
    with session_with(server) as session:

        @settings(suppress_health_check=list(HealthCheck))
        @given(
            entries=st.dictionaries(NAMES, MODES, max_size=40),
            limit=st.integers(1, 12),
            pattern=st.sampled_from([None, "a", "0"]),
        )
        def check(entries: dict[bytes, tuple[int | None, int | None]], limit: int, pattern: str | None) -> None:
            server.entries = entries
            paths = ["in/" + os.fsdecode(name) for name, (_, meant) in entries.items() if meant == FILE]
            expected = sorted(path for path in paths if pattern is None or pattern in path)
            assert session.list_files("in", pattern) == expected
            pages: list[str] = []
            while page := session.list_files("in", pattern, limit=limit, after=pages[-1] if pages else None):
                assert len(page) <= limit
                pages += page
            assert pages == expected

        check()


def test_a_page_of_a_hundred_thousand_names_keeps_no_more_than_it_needs() -> None:
    server = Lists()
    numbers = list(range(100_000))
    random.Random(5).shuffle(numbers)  # noqa: S311 - any order will do
    page = listing.ListedPaths(None, "in", limit=50, longest=None)  # type: ignore[arg-type] # there is no link to ask about
    kept = 0
    for number in numbers:
        page.add(f"{number:06}", Entry(b"", Attributes(mode=FILE)))
        kept = max(kept, len(page._files))
    assert page.paths() == [f"{number:06}" for number in range(50)]
    assert kept <= 2 * 50 + listing.SLACK
    server.entries = {b"%06d" % number: (FILE, FILE) for number in numbers}
    with session_with(server) as session:
        assert session.list_files("in", limit=2, after="in/000998") == ["in/000999", "in/001000"]
        assert session.list_files("in", "99999", limit=9) == ["in/099999"]


def test_only_links_that_may_be_on_the_page_are_asked_about() -> None:
    server = Lists()
    server.entries = {b"%03d" % number: (LINK, FILE) if number % 2 else (FILE, FILE) for number in range(400)}
    with session_with(server) as session:
        assert session.list_files("in", limit=10) == [f"in/{number:03}" for number in range(10)]
        assert server.asked <= 20


def test_a_listing_that_is_too_long_ends_as_soon_as_that_is_known() -> None:
    class WithoutEnd(Lists):
        def packets(self) -> Iterator[bytes]:
            while True:
                yield from super().packets()

    endless = WithoutEnd()
    endless.entries = {b"%02d" % number: (FILE, FILE) for number in range(100)}
    with session_with(endless) as session, pytest.raises(TooLarge) as failure:
        session.list_files("in", longest=10_000, timeout=60)
    assert failure.value.path == "in"
    server = Lists()
    server.entries = {b"%02d" % number: (LINK, FILE) for number in range(100)}
    with session_with(server) as session:
        assert len(session.list_files("in", longest=500)) == 100
        for limit in (None, 100):
            with pytest.raises(TooLarge):
                session.list_files("in", longest=499, limit=limit)
        assert len(session.list_files("in", longest=499, limit=99)) == 99


def test_a_page_of_nothing_is_refused(openssh_server: Server) -> None:
    with session_of(openssh_server) as session, pytest.raises(InvalidRequest):
        session.list_files(".", limit=0)


def test_pages_of_a_real_directory_follow_each_other(server: Server, folder: str) -> None:
    place: Path = server.directory / folder
    for number in range(1_234):
        (place / f"{number:04}").touch()
    (place / "0000-link").symlink_to("0007")
    (place / "0000-sub").mkdir()
    with session_of(server) as session:
        paths: list[str] = []
        while page := session.list_files(folder, limit=500, after=paths[-1] if paths else None):
            paths += page
        assert paths == session.list_files(folder)
        assert len(paths) == 1_235
        with pytest.raises(NotFound):
            session.list_files(f"{folder}/none", limit=5)
        with pytest.raises(NotFound):
            list(session.scan(f"{folder}/none"))
        with pytest.raises(NotADirectory):
            list(session.scan(f"{folder}/0007"))


ATTRIBUTES = st.builds(
    Attributes,
    st.none() | st.integers(0, 2**64 - 1),
    st.none() | st.integers(0, 2**32 - 1),
    *[st.integers(0, 2**32 - 1)] * 2,
)


@given(
    entries=st.lists(st.tuples(st.binary(max_size=9), ATTRIBUTES, st.booleans(), st.booleans())), cut=st.integers(1, 50)
)
def test_names_with_any_attributes_are_read_and_a_packet_that_ends_early_is_noticed(
    entries: list[tuple[bytes, Attributes, bool, bool]], cut: int
) -> None:
    packet = struct.pack(">I", len(entries))
    for name, told, owned, extended in entries:
        (flags,) = struct.unpack_from(">I", told.pack())
        rest = told.pack()[4:]
        if owned:
            split = 8 if told.size is not None else 0
            flags, rest = flags | 0x02, rest[:split] + bytes(8) + rest[split:]
        if extended:
            flags, rest = flags | 0x80000000, rest + struct.pack(">I", 1) + string(b"a@b") + string(b"")
        packet += string(name) + string(b"what ls says") + struct.pack(">I", flags) + rest
    assert list(Reader(packet).entries()) == [Entry(name, told) for name, told, _, _ in entries]
    assert list(Reader(packet + b"more").entries()) == [Entry(name, told) for name, told, _, _ in entries]
    with pytest.raises(ConnectionLost):
        list(Reader(packet[:-cut]).entries())


@pytest.mark.parametrize(
    "told, long_name, mode",
    [
        (None, b"drwxr-x--T 2 device users 0 Jan 1 1970 name", 0o040750),
        (0o600, b"-rw------- 1 device users", 0o100600),
        (0o777, b"lrwxrwxrwx", 0o120777),
        (0o100644, b"drwxr-xr-x", 0o100644),
        (None, b"name", None),
        (0o644, b"drwx", 0o644),
        (None, b"", None),
    ],
)
def test_the_type_of_a_name_is_that_of_its_line_where_its_attributes_tell_none(
    told: int | None, long_name: bytes, mode: int | None
) -> None:
    packet = struct.pack(">I", 1) + string(b"name") + string(long_name) + attributes(5, told)
    assert list(Reader(packet).entries()) == [Entry(b"name", Attributes(size=5, mode=mode))]


# --- how much memory names may take ---


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a control group that these files tell of, on a machine of 1 GiB."""
    told = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1024 * MEBIBYTE // 4096}
    monkeypatch.setattr(os, "sysconf", told.__getitem__)
    monkeypatch.setattr(memory, "CGROUP_FILES", (str(tmp_path / "memory.max"), str(tmp_path / "limit_in_bytes")))
    return tmp_path


@pytest.mark.parametrize(
    "files, limit",
    [
        ({}, 1024),
        ({"memory.max": f"{256 * MEBIBYTE}\n"}, 256),
        ({"memory.max": "max\n"}, 1024),
        ({"limit_in_bytes": f"{128 * MEBIBYTE}\n"}, 128),
        ({"limit_in_bytes": "9223372036854771712\n"}, 1024),
        ({"memory.max": "max\n", "limit_in_bytes": f"{64 * MEBIBYTE}\n"}, 64),
        ({"memory.max": f"{4096 * MEBIBYTE}\n"}, 1024),
        ({"memory.max": "", "limit_in_bytes": "-1\n"}, 1024),
        ({"memory.max": "0\n", "limit_in_bytes": "\N{SNOWMAN}"}, 1024),
    ],
)
def test_the_memory_is_that_of_the_control_group_or_the_machine(
    machine: Path, files: dict[str, str], limit: int
) -> None:
    for name, text in files.items():
        (machine / name).write_text(text, encoding="utf-8")
    assert memory.memory_limit() == limit * MEBIBYTE
    assert memory.most_kept() == limit * MEBIBYTE // 4


def test_where_the_system_tells_no_limit_there_is_that_of_all_names(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine / "memory.max").mkdir()

    def unknown(_: object) -> int:
        raise ValueError

    for sysconf in (unknown, {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": -1}.__getitem__):
        monkeypatch.setattr(os, "sysconf", sysconf)
        assert memory.memory_limit() is None
        assert memory.most_kept() == 512 * MEBIBYTE
    monkeypatch.setattr(memory, "RESOURCES", ("RLIMIT_UNKNOWN",))
    assert memory.memory_limit() is None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a limit of the address space may be refused")
@pytest.mark.parametrize("name", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_the_memory_is_no_more_than_the_process_may_use(name: str) -> None:
    code = (
        "import resource\nfrom iot.sftp.client._base import memory\n"
        f"resource.setrlimit(resource.{name}, ({400 * MEBIBYTE}, resource.RLIM_INFINITY))\nprint(memory.most_kept())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert int(told.stdout) == 100 * MEBIBYTE


def test_calls_share_what_there_is_and_give_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    monkeypatch.setattr(memory, "MOST_KEPT", MEBIBYTE)
    first, second = memory.Budget(), memory.Budget()
    first.take(MEBIBYTE * 3 // 4)
    with pytest.raises(Busy, match="other calls keep"):
        second.take(MEBIBYTE // 2)
    with pytest.raises(TooLarge, match="more than 1 MiB of memory"):
        second.take(MEBIBYTE)
    second.close()
    second.take(MEBIBYTE // 8)
    first.give_back(MEBIBYTE // 2)
    second.take(MEBIBYTE // 2)
    first.keep_only(1)
    second.take(MEBIBYTE // 4)
    first.close()
    second.take(MEBIBYTE // 8)
    with pytest.raises(TooLarge):
        second.take(1)


def test_a_call_without_others_is_too_large_whatever_its_packets_take(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    monkeypatch.setattr(memory, "MOST_KEPT", MEBIBYTE)
    call, packet = memory.Budget(), memory.Budget(is_of_call=False)
    packet.take(MEBIBYTE // 2)
    with pytest.raises(TooLarge):
        call.take(MEBIBYTE * 3 // 4)
    call.keep_only(MEBIBYTE // 4)
    with pytest.raises(TooLarge):
        packet.take(MEBIBYTE // 2)
    packet.keep_only(MEBIBYTE // 2)
    other = memory.Budget()
    with pytest.raises(Busy):
        call.take(MEBIBYTE // 2)
    other.close()


def test_what_nobody_holds_any_more_counts_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    monkeypatch.setattr(memory, "MOST_KEPT", MEBIBYTE)
    memory.Budget().take(MEBIBYTE)
    memory.Budget().take(MEBIBYTE)
    circle: list[object] = [memory.Budget()]
    circle[0].take(MEBIBYTE)  # type: ignore[attr-defined]
    circle.append(circle)
    del circle
    gc.disable()
    try:
        memory.Budget().take(MEBIBYTE)
    finally:
        gc.enable()


def test_many_threads_are_never_granted_more_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    monkeypatch.setattr(memory, "MOST_KEPT", MEBIBYTE)
    monkeypatch.setattr(gc, "collect", int)  # it takes its time
    together: list[int] = []

    def take() -> None:
        budget = memory.Budget()
        for size in range(1, 2000):
            try:
                budget.take(size)
            except (TooLarge, Busy):
                budget.close()
            with memory._lock:
                together.append(sum(budget.granted for budget in memory._budgets))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert MEBIBYTE // 2 < max(together) <= MEBIBYTE


def test_a_page_gives_back_all_it_took_however_it_ends() -> None:
    server = Lists()
    server.entries = {b"%04d" % number: (LINK, FILE) if number % 3 else (FILE, FILE) for number in range(3000)}
    gc.collect()
    with session_with(server) as session:
        assert len(session.list_files("in")) == 3000
        assert len(session.list_files("in", limit=7)) == 7
        for longest in (100, 20_000):
            with pytest.raises(TooLarge):
                session.list_files("in", longest=longest)
    page = listing.ListedPaths(None, "in", limit=10, longest=None)  # type: ignore[arg-type] # there is no link to ask about
    for number in range(5000):
        page.add(f"{number:06}", Entry(b"", Attributes(mode=FILE)))
    assert page._budget._kept == sum(map(listing._size, page._files))
    page.close()
    assert sum(budget.granted for budget in memory._budgets) == 0
