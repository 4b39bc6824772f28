"""Files at a terminal: every command, what it shows, what it tells programs, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from tests.command_line.conftest import PROGRAM, Terminal


@pytest.fixture
def at(terminal: Terminal, folder: str) -> Path:
    """This test's folder, as the server's file system has it."""
    return terminal.server.directory / folder


def test_a_file_goes_there_and_back(terminal: Terminal, folder: str, at: Path) -> None:
    (terminal.directory / "report.csv").write_bytes(os.urandom(100_000))

    assert terminal.run("put", "report.csv", f"{folder}/report.csv").status == 0
    got = terminal.run("get", f"{folder}/report.csv", "copy.csv")

    assert (got.status, got.err) == (0, "")
    assert (terminal.directory / "copy.csv").read_bytes() == (at / "report.csv").read_bytes()


def test_a_transfer_prints_one_json_document(terminal: Terminal, folder: str, at: Path) -> None:
    (at / "a").write_text("12345")

    told = terminal.run("get", f"{folder}/a", "--verify", "sha256", "--json").document

    assert (told["ok"], told["bytes"], told["atomic"], told["source"]) == (True, 5, True, f"{folder}/a")
    assert told["verified"] != "size"
    assert (terminal.directory / "a").read_text() == "12345"


def test_a_listing_shows_files_and_directories(terminal: Terminal, folder: str, at: Path) -> None:
    (at / "a").write_text("12345")
    (at / "b").mkdir()

    assert sorted(terminal.run("ls", folder).out.splitlines()) == [f"{folder}/a", f"{folder}/b/"]
    entries = {entry["path"]: entry for entry in terminal.run("ls", folder, "--json").document["entries"]}
    assert entries[f"{folder}/a"]["size"] == 5
    assert {path: entry["kind"] for path, entry in entries.items()} == {
        f"{folder}/a": "file",
        f"{folder}/b": "directory",
    }
    assert "rw" in terminal.run("ls", "-l", folder).out


def test_an_empty_listing_is_an_empty_document_and_a_file_lists_itself(
    terminal: Terminal, folder: str, at: Path
) -> None:
    assert terminal.run("ls", folder, "--json").document == {"entries": [], "ok": True}
    (at / "a").touch()
    assert terminal.run("ls", f"{folder}/a").out == f"{folder}/a\n"


def test_files_are_moved_described_and_deleted(terminal: Terminal, folder: str, at: Path) -> None:
    (at / "a").write_text("x")

    assert terminal.run("mv", f"{folder}/a", f"{folder}/done/b").status == 0
    assert terminal.run("stat", f"{folder}/done/b", "--json").document["kind"] == "file"
    assert terminal.run("rm", f"{folder}/done/b", "--json").document == {"ok": True, "deleted": [f"{folder}/done/b"]}
    assert list((at / "done").iterdir()) == []


def test_directories_are_made_moved_and_deleted(terminal: Terminal, folder: str, at: Path) -> None:
    made = [f"{folder}/a/b", f"{folder}/c"]
    assert terminal.run("mkdir", *made, "--json").document == {"ok": True, "made": made}
    (at / "a/b/file").touch()
    assert terminal.run("mv", f"{folder}/a/b", f"{folder}/c").status == 0
    assert (at / "c/b/file").exists()

    full = terminal.run("rmdir", f"{folder}/a", f"{folder}/c", "--json")
    assert (full.status, full.document["code"], full.document["status"]) == (1, "not_empty", 409)
    assert full.document["deleted"] == [f"{folder}/a"]
    assert terminal.run("rmdir", "-r", f"{folder}/c").status == 0
    assert list(at.iterdir()) == []


def test_what_was_not_done_has_status_1_its_code_and_no_trace(terminal: Terminal, folder: str) -> None:
    for command in (["get", f"{folder}/no"], ["stat", f"{folder}/no"], ["ls", f"{folder}/no"], ["rm", f"{folder}/no"]):
        ended = terminal.run(*command, "--json")
        assert ended.status == 1
        assert (ended.document["ok"], ended.document["code"]) == (False, "not_found")
        assert ended.err.startswith("iot-sftp: ")
        assert len(ended.err.splitlines()) == 1
        shown = terminal.run(*command).err
        assert f"[{ended.document['code']}]" in shown
        assert "scan" not in shown  # the library's name for `ls`


def test_a_name_that_acts_on_terminals_is_shown_as_an_escape(terminal: Terminal, folder: str, at: Path) -> None:
    (at / "evil\x1b]0;title\x07\n\u202ename").touch()

    listing = terminal.run("ls", folder)

    assert listing.out == f"{folder}/evil\\x1b]0;title\\x07\\n\\u202ename\n"
    assert terminal.run("ls", folder, "--json").out.isascii()


def test_a_reader_that_has_enough_ends_a_listing_without_a_complaint(openssh_terminal: Terminal) -> None:
    place = openssh_terminal.server.directory / "many"
    place.mkdir(exist_ok=True)
    for number in range(5_000):
        (place / f"{'a' * 60}{number}").touch()
    environment = os.environ | openssh_terminal.variables
    with subprocess.Popen(
        [*PROGRAM, "ls", "many"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_transfer_and_nothing_is_left(
    terminal: Terminal, folder: str, at: Path, number: int, status: int
) -> None:
    with open(terminal.directory / "large", "wb") as file:
        file.truncate(4_000_000_000)
    process = subprocess.Popen(
        [*PROGRAM, "put", "large", f"{folder}/large"],
        cwd=terminal.directory,
        env=os.environ | terminal.variables,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 100
    while not any(path.stat().st_size for path in at.iterdir()):
        assert time.monotonic() < end
        time.sleep(0.01)

    process.send_signal(number)
    _, said = process.communicate(timeout=100)

    assert process.returncode == status, said
    assert "ended by a signal" in said
    assert list(at.iterdir()) == []
    assert "Traceback" not in said


def read_to_end(terminal: int) -> str:
    """Read what is shown until nobody has the other side open."""
    shown = b""
    with suppress(OSError):  # so a terminal ends
        while part := os.read(terminal, 4096):
            shown += part
    return shown.decode()


def test_the_progress_of_a_transfer_is_shown_on_a_terminal_only(terminal: Terminal, folder: str, at: Path) -> None:
    (at / "large").write_bytes(bytes(30_000_000))
    main, side = os.openpty()
    with ThreadPoolExecutor(1) as reader:
        shown = reader.submit(read_to_end, main)  # meanwhile: a terminal that nobody reads takes 4 KB
        try:
            done = subprocess.run(
                [*PROGRAM, "get", f"{folder}/large"],
                cwd=terminal.directory,
                env=os.environ | terminal.variables | {"COLUMNS": "100"},
                stderr=side,
                timeout=100,
                check=False,
            )
        finally:
            os.close(side)
    os.close(main)

    assert done.returncode == 0
    assert "100% [########################] 28.6 MiB" in shown.result()
    assert shown.result().endswith("\r\033[K")
