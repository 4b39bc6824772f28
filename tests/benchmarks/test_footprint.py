"""The measures of what a device pays count what they say, and run on a real device; nothing is said of the figures."""

from __future__ import annotations

import logging
import os
import socket
import sys
from pathlib import Path

import pytest
from benchmarks.footprint import __main__ as command
from benchmarks.footprint import measures
from benchmarks.footprint.measures import Figure
from benchmarks.footprint.process import resident, taken
from benchmarks.footprint.relay import HEADERS, Relay
from benchmarks.footprint.writes import Written, written
from tests.servers import listening

from iot.sftp.client import VERSION

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what processes take is read from Linux")

CALLS = """\
12 pwrite64(9</state/rules.sqlite3-wal>, ""..., 24, 32) = 24
12 pwrite64(9</state/rules.sqlite3-wal>, ""..., 1024, 56) = 1024
13 write(7<socket:[4711]>, ""..., 88) = 88
12 fdatasync(9</state/rules.sqlite3-wal>) = 0
12 pwrite64(3</data/file>, ""..., 500, 0) = 500
12 write(9</state/x>, ""..., 5) = -1 ENOSPC (No space left on device)
"""


def echo(connection: socket.socket) -> None:
    while data := connection.recv(100):
        connection.sendall(data)


def test_the_relay_counts_both_ways_and_cuts() -> None:
    with listening(echo) as port, Relay(("127.0.0.1", port)).running() as relay:
        with socket.create_connection(relay.address) as connection:
            connection.sendall(b"12345")
            assert connection.recv(100) == b"12345"
            before = relay.passed
            assert before.content == 10
            assert before.segments >= 4  # two for the connection at least, and one for each piece
            assert before.on_the_wire == 10 + HEADERS * before.segments
            relay.cut_after(7)
            connection.sendall(b"12345")
            assert b"12345".startswith(connection.recv(100))
        assert (relay.passed - before).content == 10


def test_what_is_written_under_the_directory_counts(tmp_path: Path) -> None:
    (tmp_path / "calls").write_text(CALLS)
    assert written(tmp_path / "calls", Path("/state")) == Written(1048, 1)


def test_a_process_is_measured() -> None:
    own = taken(os.getpid())
    assert own.cpu > 0
    assert own.wakeups > 0
    assert resident(os.getpid()) > 1_000_000


def test_an_idle_device_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "SETTLED", 0.0)
    units = [figure.unit for figure in measures.idle(tmp_path, 0.5)]
    assert units == ["MiB", "a second", "s an hour", "KiB an hour", "KiB"]


def test_files_of_a_rule_are_timed(tmp_path: Path) -> None:
    (figure,) = measures.latency(tmp_path, 2)
    assert len(figure.values) == 2
    assert figure.median > 0


def test_the_table_is_a_page_that_says_what_was_measured_and_on_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, figure = tmp_path / "footprint.md", Figure("on the wire", "bytes", (900.0, 1_234.5, 20_000.0), "half")
    monkeypatch.setattr(sys, "argv", ["footprint", "--measures", "wire", "--output", str(page)])
    monkeypatch.setattr(command, "_compile_once", lambda: None)
    monkeypatch.setattr(logging, "disable", lambda _level: None)
    monkeypatch.setattr(command, "_measures", lambda *_: {"wire": lambda: iter([figure])})
    command.main()
    lines = page.read_text().splitlines()
    assert lines[0] == command.HEADING
    assert f"version {VERSION}" in lines[4]
    assert lines[-1] == "| on the wire | 1,234 bytes | 900 to 20,000 | half |"
