"""File names as a hostile server makes them up: none leads out of the destination, none acts on a terminal or a log."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.faulty_servers import FAILURE, PASSWORD, FaultyServer, names, status
from tests.hostile.servers import Mixed, session_with

from iot.sftp.client import IoTSFTPClient
from iot.sftp.client._base.text import printable
from iot.sftp.client._ssh.packets import Kind
from iot.sftp.module._base.logging import LineFormatter

NO_NAMES = [b"", b".", b"..", b"/", b"a/b", b"../up", b"/etc/passwd", b"sub/../../up", b"nul\0", b"x" * 4097]
CLEARS_THE_SCREEN, RETITLES, LINES = b"\x1b[2J\x1b[1;1H", b"\x1b]0;owned\x07", b"one\ntwo\r\nthree"
REVERSED = "\u202egpj.exe\u2066".encode()
C1, NOT_UTF8, OPTION, BLANK = "\u009b31m".encode(), b"\xff\xfe\x80", b"-rf", b" "
ODD_NAMES = [CLEARS_THE_SCREEN, RETITLES, LINES, REVERSED, C1, NOT_UTF8, OPTION, BLANK, b"~", b"$(reboot)", b"..."]
TOO_LONG_HERE = b"long" * 1000


def everything_below(directory: Path) -> set[bytes]:
    root = os.fsencode(directory)
    return {os.path.relpath(os.path.join(top, name), root) for top, _, found in os.walk(root) for name in found}


def test_a_listing_gives_odd_names_byte_by_byte_and_leaves_out_what_no_file_is_called() -> None:
    with session_with(Mixed([*NO_NAMES, *ODD_NAMES, TOO_LONG_HERE], NO_NAMES)) as session:
        paths = session.list_files("in")
    assert sorted(map(os.fsencode, paths)) == sorted(b"in/" + name for name in [*ODD_NAMES, TOO_LONG_HERE])


def test_a_folder_is_downloaded_into_its_destination_and_nowhere_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "iot.sftp")
    (tmp_path / "up").write_text("here before")
    server = Mixed([*NO_NAMES, *ODD_NAMES, TOO_LONG_HERE], NO_NAMES)
    with session_with(server) as session:
        done = session.download_files("in", str(tmp_path / "dest" / "deep"), recursive=True, timeout=20)
    assert everything_below(tmp_path) == {b"up", *(b"dest/deep/" + name for name in ODD_NAMES)}
    assert (tmp_path / "up").read_text() == "here before"
    assert server.opened == [b"in"], "no directory was gone into"
    assert done.files == len(ODD_NAMES)
    assert [failure.code for failure in done.failures] == ["path_not_allowed"]
    assert all(failure.message.isprintable() for failure in done.failures)
    assert all(record.getMessage().isprintable() for record in caplog.records if record.name.startswith("iot.sftp"))


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_failure_with_an_odd_name_is_logged_without_acting_on_the_log(
    name: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    words = (b"no \x1b[2J" + REVERSED).decode()
    kinds = Kind.STAT, Kind.LSTAT, Kind.OPEN, Kind.OPENDIR
    server = FaultyServer(dict.fromkeys(kinds, status(FAILURE, words)))
    path = name.decode("utf-8", "surrogateescape")
    with server.running() as port, IoTSFTPClient("127.0.0.1", port, "device", PASSWORD) as client:
        assert not client.exists(path)
        assert not client.download_file(path, "here")
        assert client.last_error is not None
        assert str(client.last_error).isprintable()
    ours = [record for record in caplog.records if record.name.startswith("iot.sftp")]
    warnings = [record.getMessage() for record in ours if record.levelno >= logging.WARNING]
    assert len(warnings) == 2
    assert all(text.isprintable() for text in warnings)


@pytest.mark.parametrize("options", [[], ["-l"], ["--json"]])
def test_a_terminal_shows_odd_names_escaped(options: list[str]) -> None:
    server = Mixed([*NO_NAMES, *ODD_NAMES], [b"\x1b[2Jfolder"])
    with server.running() as port:
        variables = {"IOT_SFTP_HOST": "127.0.0.1", "IOT_SFTP_PORT": str(port), "IOT_SFTP_USER": "device"}
        run = subprocess.run(
            [sys.executable, "-m", "iot.sftp.command_line", "ls", "in", *options],
            env=os.environ | variables | {"IOT_SFTP_PASSWORD": PASSWORD},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=True,
        )
    text = run.stdout.decode()
    assert all(line.isprintable() for line in (text + run.stderr.decode()).split("\n"))
    listed = [b"in/" + name for name in [*ODD_NAMES, b"\x1b[2Jfolder"]]
    if options == ["--json"]:
        assert [os.fsencode(entry["path"]) for entry in json.loads(text)["entries"]] == listed
    else:
        assert len(text.splitlines()) == len(listed)
        assert r"in/\x1b[2J\x1b[1;1H" in text
        assert r"in/\u202egpj.exe\u2066" in text
        assert r"in/\udcff\udcfe\udc80" in text


@given(name=st.text() | st.binary().map(os.fsdecode))
def test_no_name_acts_on_a_terminal_or_breaks_a_line_of_the_log(name: str) -> None:
    assert printable(name).isprintable()
    record = logging.LogRecord("iot.sftp", logging.INFO, "", 0, "moved %s", (name,), None)
    assert LineFormatter().format(record).isprintable()


def test_any_names_are_listed_as_they_are_or_not_at_all() -> None:
    listing = [names()]
    server = FaultyServer({Kind.READDIR: lambda _: listing.pop() if listing else status(1)})
    with session_with(server) as session:

        @settings(suppress_health_check=list(HealthCheck))
        @given(given_names=st.lists(st.binary(max_size=30) | st.sampled_from(NO_NAMES + ODD_NAMES)))
        def check(given_names: list[bytes]) -> None:
            listing[:] = [names(*given_names)]
            expected = [name for name in given_names if name not in NO_NAMES and not set(name) & set(b"/\0")]
            assert sorted(map(os.fsencode, session.list_files("."))) == sorted(expected)

        check()
