"""A rule of the real module follows a log: over rotations, and over a kill -9 at any moment."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.module.conftest import TALKATIVE, section_of
from tests.servers import Server

from localedge import LocalEdge

LINE = b"2026-11-29T03:04:05.678Z INFO line %08d of a log that grows, with some words in it\n"


class Logger:
    """Writes lines into a log, and rotates it; all lines that were ever written are counted."""

    def __init__(self, folder: Path) -> None:
        self.path, self.count = folder / "app.log", 0

    def write(self, lines: int) -> None:
        with open(self.path, "ab") as file:
            for _ in range(lines):
                file.write(LINE % self.count)
                self.count += 1

    def rename(self) -> None:
        for number in (2, 1, 0):
            with suppress(FileNotFoundError):
                self._named(number).rename(self._named(number + 1))

    def copy_and_cut(self) -> None:
        for number in (2, 1):
            with suppress(FileNotFoundError):
                self._named(number).rename(self._named(number + 1))
        shutil.copy(self.path, self._named(1))
        os.truncate(self.path, 0)

    def _named(self, number: int) -> Path:
        return self.path.with_name(f"app.log.{number}" if number else "app.log")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".iot-sftp-")}


@contextmanager
def whole_lines_in(folder: Path) -> Iterator[None]:
    """Read what is in a folder all the time: it holds whole lines only, one after the other."""
    wrong: list[str] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.wait(0.005):
            with suppress(FileNotFoundError):
                content = (folder / "app.log").read_bytes()
                numbers = [int(line[35:43]) for line in content.splitlines()]
                if content and (not content.endswith(b"\n") or numbers != list(range(numbers[0], numbers[-1] + 1))):
                    wrong.append(f"{len(content)} bytes that end with {content[-80:]!r}")

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert not wrong, wrong[:3]


def test_a_rule_follows_a_log_over_rotations_and_kills(own_address: str, openssh_server: Server, remote: Path) -> None:
    rule = {
        "name": "logs", "direction": "upload", "source": "logs", "dest": remote.name, "include": ["app.log*"],
        "mode": "append", "lines": True, "min_age": 0,
    }  # fmt: skip
    desired = {"sftp": section_of(openssh_server), "events": {"files": True}}
    command = (sys.executable, "-c", TALKATIVE)
    with LocalEdge(address=own_address, desired=desired, command=command, restart_policy="never") as edge:
        edge.wait_until_connected()
        source = edge.local_root / "logs"
        source.mkdir()
        log = Logger(source)
        log.write(2_000)
        edge.patch_desired({"rules": [rule]})
        with whole_lines_in(remote):
            for step in ("write", "kill", "rename", "kill", "copy and cut", "rename"):
                edge.wait_for(lambda: contents(remote) == contents(source), f"all before: {step}", 100)
                log.write(500)
                if step == "kill":
                    time.sleep(0.2)  # at whatever moment of the delivery
                    edge.kill_module()
                    edge.stop_module()
                    log.write(500)
                    edge.start_module()
                elif step == "rename":
                    log.rename()
                elif step == "copy and cut":
                    log.copy_and_cut()
                log.write(100)
            edge.wait_for(lambda: contents(remote) == contents(source), "all in the end", 100)
        assert sorted(contents(remote)) == ["app.log", "app.log.1", "app.log.2", "app.log.3"]
        everything = b"".join(contents(remote)[name] for name in sorted(contents(remote), reverse=True))
        assert everything == b"".join(LINE % number for number in range(log.count))
        assert edge.stop_module(limit=60) == 0
        assert "Traceback" not in edge.module_log
