"""How long `exists` waits while one process makes 16 transfers at once, with 4 servers.

Run it with `python -m benchmarks.concurrency`. Four OpenSSH servers on loopback, a session with each as the module has
it, and in each session two downloads and two uploads of a large file, one after the other until the time is over. All
the while one thread asks each session in turn whether a file exists, and pauses for as long as a caller may. Beside
it stands the same without any transfer.
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import bench
from benchmarks.rows import MIB
from iot.sftp.client import Secret, ServerSettings, SFTPSession

MB = 1e6
PAUSE = 0.01  # seconds between two questions
FILE = "large"
MEDIAN, P99 = 10, 100  # milliseconds: the goal


@dataclass(frozen=True)
class Work:
    """How many servers and transfers there are, how large each file is, and how long it goes on."""

    servers: int = 4
    transfers: int = 16
    size: int = 64 * MIB
    seconds: float = 15.0


QUICK = Work(servers=2, transfers=4, size=MIB // 4, seconds=0.5)


@dataclass(frozen=True)
class Waits:
    """How long each question took, in seconds, and how many bytes were moved meanwhile."""

    seconds: list[float]
    moved: int
    lasted: float

    @property
    def median(self) -> float:
        """The median, in milliseconds."""
        return statistics.median(self.seconds) * 1000

    @property
    def p99(self) -> float:
        """What 99 of 100 stay below, in milliseconds."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000

    @property
    def most(self) -> float:
        """The longest, in milliseconds."""
        return max(self.seconds) * 1000

    @property
    def speed(self) -> float:
        """All transfers together, in MB/s."""
        return self.moved / self.lasted / MB


@contextmanager
def sessions(work: Work, stack: ExitStack) -> Iterator[list[tuple[SFTPSession, Path]]]:
    """Run the servers, and open a session with each; give them with their directories."""
    opened = []
    for _ in range(work.servers):
        running = stack.enter_context(bench.running())
        place = running.place(running.server.port)
        key = Secret.from_file(place.key_file)
        session = SFTPSession(
            ServerSettings(place.host, place.port, place.user, private_key=key, host_keys=(place.host_key,))
        )
        stack.callback(session.disconnect)
        (running.directory / "source" / FILE).write_bytes(os.urandom(work.size))
        session.connect()
        opened.append((session, running.directory))
    yield opened


def measure(work: Work) -> tuple[Waits, Waits]:
    """Return how long `exists` waits beside the transfers, and without any."""
    with ExitStack() as stack, sessions(work, stack) as opened:
        alone = _ask(opened, work.seconds / 3)
        over = threading.Event()
        threads = [
            threading.Thread(target=_transfer, args=(*opened[number % len(opened)], number, over))
            for number in range(work.transfers)
        ]
        for thread in threads:
            thread.start()
        try:
            beside = _ask(opened, work.seconds)
        finally:
            over.set()
            for thread in threads:
                thread.join()
    return beside, alone


def _transfer(session: SFTPSession, directory: Path, number: int, over: threading.Event) -> None:
    """Move a file again and again; every other transfer of a session is an upload."""
    source, dest = str(directory / "source" / FILE), str(directory / "dest" / f"{FILE}-{number}")
    move = session.upload_file if number // 4 % 2 else session.download_file
    while not over.is_set():
        move(source, dest)


def _ask(opened: list[tuple[SFTPSession, Path]], seconds: float) -> Waits:
    """Ask each session in turn for so long."""
    waits: list[float] = []
    before, started = _moved(opened), time.monotonic()
    while time.monotonic() < started + seconds:
        for session, directory in opened:
            asked = time.perf_counter()
            there = session.exists(str(directory / "source" / FILE))
            waits.append(time.perf_counter() - asked)
            if not there:
                message = "the file is not there"
                raise RuntimeError(message)
            time.sleep(PAUSE)
    return Waits(waits, _moved(opened) - before, time.monotonic() - started)


def _moved(opened: list[tuple[SFTPSession, Path]]) -> int:
    return sum(session.counts.downloaded + session.counts.uploaded for session, _ in opened)


def is_reached(waits: Waits) -> bool:
    """Return whether the goal is reached."""
    return waits.median < MEDIAN and waits.p99 < P99


def row(name: str, waits: Waits) -> str:
    """Return a row of the table."""
    figures = f"{waits.median:.1f} | {waits.p99:.1f} | {waits.most:.1f} | {waits.speed:.0f}"
    return f"| {name} | {len(waits.seconds)} | {figures} |"


def main() -> None:
    """Measure, and print the table with what was set out to be reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.concurrency", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, a second: to see that everything runs")
    parser.add_argument("--seconds", type=float, default=Work.seconds, help="how long it goes on")
    options = parser.parse_args()
    beside, alone = measure(QUICK if options.quick else Work(seconds=options.seconds))
    columns = ["`exists`", "times", "median, ms", "p99, ms", "longest, ms", "moved, MB/s"]
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")  # noqa: T201
    print(row("beside 16 transfers with 4 servers", beside))  # noqa: T201
    print(row("alone", alone))  # noqa: T201
    print(f"\nGoal: median below {MEDIAN} ms, p99 below {P99} ms: {'yes' if is_reached(beside) else 'no'}")  # noqa: T201


if __name__ == "__main__":
    main()
