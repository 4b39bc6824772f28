"""The measures, each on a device or a client of its own; what several runs gave is kept, with its spread."""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import bench
from benchmarks.bench import Bench
from benchmarks.footprint import writes
from benchmarks.footprint.device import IN, MODULE, OUT, Device, running, until
from benchmarks.footprint.process import resident, taken
from benchmarks.footprint.relay import Relay
from benchmarks.peers import PEERS, Job
from iot.sftp.client import TimeLimits

HOUR, MIB, KIB = 3600.0, 2.0**20, 2.0**10
SETTLED = 15.0  # seconds after the start: the buffers of the login are given back after 10
SMALL = 10 * 1024  # bytes of a file
LARGE = 300_000
WIRE_PEERS = ("ours", "openssh", "rclone")


@dataclass(frozen=True)
class Figure:
    """One row of the table."""

    what: str
    unit: str
    values: tuple[float, ...]
    goal: str = ""

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)


def imports(repeats: int) -> Iterator[Figure]:
    """Measure processes that only start: processor seconds, as the time depends on what else runs."""
    commands = {
        "start of Python alone": ["-c", "pass"],
        "import of the library": ["-c", "from iot.sftp.client import SFTPSession"],
        "`iot-sftp --version`": ["-m", "iot.sftp.command_line", "--version"],
    }
    found: dict[str, list[float]] = {what: [] for what in commands}
    for _ in range(repeats + 1):
        for what, arguments in commands.items():
            found[what].append(_cpu_of([sys.executable, *arguments]))
    for what, values in found.items():
        yield Figure(what, "s of processor time", tuple(values[1:]), "half" if what != "start of Python alone" else "")


def _cpu_of(command: list[str]) -> float:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603 - our own
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
    return usage.ru_utime + usage.ru_stime


def idle(directory: Path, seconds: float) -> Iterator[Figure]:
    """Measure a module that has nothing to do: no rules, connected to its hub and its server."""
    with running(directory) as device:
        time.sleep(SETTLED)
        yield Figure("resident, idle, connected, no rules", "MiB", (resident(device.pid) / MIB,), "55")
        before, to_hub, to_server = taken(device.pid), device.to_hub.passed, device.to_server.passed
        time.sleep(seconds)
        after = taken(device.pid)
        a_second, an_hour = 1 / seconds, HOUR / seconds
        yield Figure("wake-ups, idle", "a second", ((after.wakeups - before.wakeups) * a_second,), "< 2")
        yield Figure("processor time, idle", "s an hour", ((after.cpu - before.cpu) * an_hour,), "2")
        hub = (device.to_hub.passed - to_hub).on_the_wire / KIB
        yield Figure("on the wire to and from the hub, idle", "KiB an hour", (hub * an_hour,), "half of 42")
        server = (device.to_server.passed - to_server).on_the_wire / KIB
        until_closed = TimeLimits().idle / seconds
        what = "on the wire to and from the server, idle, until the session is closed"
        yield Figure(what, "KiB", (server * until_closed,), "half of 46")


def cycles(directory: Path, count: int) -> Iterator[Figure]:
    """Measure a module whose connections break again and again, in the middle of a download, or are ended."""
    first = min(100, count)
    with running(directory) as device:
        (device.remote / "file").write_bytes(os.urandom(LARGE))
        for number in range(1, count + 1):
            device.to_server.cut_after(1_000 + number * 7_919 % LARGE if number % 2 else None)
            device.call("download_file", source="file", dest="file", timeout=30)
            device.call("disconnect")
            if number in {first, count}:
                at_most = "5 more than after 100" if number == count else ""
                yield Figure(f"resident after {number} faulted cycles", "MiB", (resident(device.pid) / MIB,), at_most)


def flash(directory: Path, files: int) -> Iterator[Figure]:
    """Measure what the state directory gets for so many files, given in each way."""
    if not writes.is_installed():
        return
    ways: dict[str, Callable[[Device, int], None]] = {
        "a rule": _by_rule,
        "a rule that deletes": _by_rule,
        "a folder's task": _by_folder,
        "single tasks": _by_tasks,
    }
    for number, (name, move) in enumerate(ways.items()):
        place = directory / f"{number}"
        place.mkdir()
        output = place / "calls"
        rule = {"name": "r", "direction": "upload", "source": OUT, "dest": IN, "every": 1, "min_age": 0}
        if name.endswith("deletes"):
            rule["then"] = "delete"
        with running(place, [rule] if "rule" in name else [], writes.traced(MODULE, output)) as device:
            time.sleep(1)
            before = writes.written(output, device.edge.state_directory)
            move(device, files)
            until(lambda device=device: len(os.listdir(device.remote / IN)) >= files, "all files")  # type: ignore[misc]
            time.sleep(2)
            found = writes.written(output, device.edge.state_directory) - before
        yield Figure(f"written to flash by {name}", "KiB a file", (found.content / KIB / files,), "2")
        yield Figure(f"fsync by {name}", "a file", (found.syncs / files,), "1")


def _fill(device: Device, files: int) -> None:
    for number in range(files):
        (device.edge.local_root / OUT / f"{number:05}").write_bytes(os.urandom(100))


def _by_rule(device: Device, files: int) -> None:
    _fill(device, files)


def _by_folder(device: Device, files: int) -> None:
    _fill(device, files)
    device.call("upload_files", source=OUT, dest=IN)


def _by_tasks(device: Device, files: int) -> None:
    _fill(device, files)
    for number in range(files):
        device.call("upload_file", source=f"{OUT}/{number:05}", dest=f"{IN}/", background=True)


def latency(directory: Path, files: int) -> Iterator[Figure]:
    """Measure how long it takes from the close of a file to its whole arrival."""
    rule = {"name": "r", "direction": "upload", "source": OUT, "dest": IN, "every": 3600, "min_age": 0}
    found = []
    with running(directory, [rule]) as device:
        source = device.edge.local_root / OUT
        (source / "first").touch()
        until((device.remote / IN / "first").exists, "the rule's first file")
        for number in range(files):
            time.sleep(0.3 + number % 7 / 20)
            (source / f"{number}").write_bytes(os.urandom(SMALL))
            closed, dest = time.monotonic(), device.remote / IN / f"{number}"
            while not dest.exists():
                if time.monotonic() > closed + 60:
                    return
                time.sleep(0.0005)
            found.append(1_000 * (time.monotonic() - closed))
    yield Figure("close of a file to its arrival by a rule", "ms", tuple(found), "< 50")


def wire(server: Bench, repeats: int) -> Iterator[Figure]:
    """Measure what each client sends and receives for a file beyond its content, and for an empty folder."""
    empty = server.directory / "source" / "nothing"
    one, many = (server.directory / "source" / name for name in ("one", "many"))
    for folder, count in ((empty, 0), (one, 1), (many, 11)):
        folder.mkdir()
        for number in range(count):
            (folder / f"file-{number}").write_bytes(os.urandom(SMALL))
    with Relay((server.server.host, server.server.port)).running() as relay:
        place = server.place(relay.address[1])
        for kind, name in itertools.product(("put", "get", "list"), WIRE_PEERS):
            peer = PEERS[name]
            if peer.version() is None:
                continue
            values = []
            for _ in range(repeats):
                passed = []
                for folder in (empty, one) if kind == "list" else (one, many):
                    dest = server.directory / "dest"
                    subprocess.run(["rm", "-rf", dest], check=True)  # noqa: S603, S607 - our own
                    dest.mkdir()
                    job = Job("list", ((str(folder), ""),)) if kind == "list" else bench.job_of(folder, dest, kind)
                    before = relay.passed
                    command = peer.command(place, job, server.directory / "home")
                    subprocess.run(command, check=True, capture_output=True, env=_environment(server))  # noqa: S603
                    time.sleep(0.2)
                    passed.append(replace(relay.passed - before))
                if kind == "list":
                    values.append(passed[0].content / KIB)
                else:
                    values.append((passed[1].content - passed[0].content) / 10 - SMALL)
            what = {"list": "empty poll of a folder, with its login"}.get(kind, f"a 10 KiB file by {kind}, beyond it")
            yield Figure(f"{what}: {peer.title}", "KiB" if kind == "list" else "bytes", tuple(values))


def _environment(server: Bench) -> dict[str, Any]:
    handed_on = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return handed_on | {"HOME": str(server.directory / "home"), "LANG": "C.UTF-8"}
