"""A log that grows, kept up with over a slow link: seconds, and bytes on the wire, side by side.

Run it with `python -m benchmarks.growth`. A log of 100 MB is at its destination already, and grows by 1 MB, ten times.
Ours is one session for all of it, as the module's is; the others are started for each time, as a timer starts them, and
rsync needs a shell and itself on the server. What is at the destination is compared byte by byte each time.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import random
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faulty_links import BreakingRelay

from benchmarks import bench, proxy
from benchmarks.peers import PEERS, Job, Place, ssh_options
from benchmarks.proxy import Link
from benchmarks.rows import TEN_MEGABIT
from iot.sftp.client import Append, Secret, ServerSettings, SFTPSession

MB = 1_000_000
LINK = Link(0.05, TEN_MEGABIT)
OURS = "iot-sftp-client, mode append"
WHOLE = "rclone copyto"  # it has no way to append: all of the file goes each time
Send = Callable[[], object]


@dataclass(frozen=True)
class Work:
    """How large the log is, by how much it grows, and how often."""

    size: int = 100 * MB
    growth: int = MB
    times: int = 10


@dataclass(frozen=True)
class Taken:
    """What one client took: seconds of each time, and bytes both ways of all of them."""

    seconds: list[float]
    wire: int
    grown: int

    @property
    def share(self) -> float:
        """The bytes on the wire beside those that the log has grown by."""
        return self.wire / self.grown


def measure(running: bench.Bench, name: str, work: Work, link: Link = LINK) -> Taken:
    """Measure one client."""
    relay = BreakingRelay((running.server.host, running.server.port))
    with relay.running() as counted, proxy.running(("127.0.0.1", counted), link) as (port, _):
        log, there = running.directory / "source/log/app.log", running.directory / "dest/app.log"
        log.parent.mkdir(exist_ok=True)
        chance = random.Random(0)  # noqa: S311 - not a secret
        log.write_bytes(chance.randbytes(work.size))
        shutil.copyfile(log, there)
        with _sender(name, running, running.place(port), log, there) as send:
            seconds = []
            relay.break_at(None)  # it counts from here on
            times = 1 if name == WHOLE else work.times
            for _ in range(times):
                with log.open("ab") as file:
                    file.write(chance.randbytes(work.growth))
                started = time.monotonic()
                send()
                seconds.append(time.monotonic() - started)
                if not filecmp.cmp(log, there, shallow=False):
                    message = f"{name} has made something else of it"
                    raise RuntimeError(message)
                filecmp.clear_cache()
        return Taken(seconds, relay.passed, times * work.growth)


@contextmanager
def _sender(name: str, running: bench.Bench, place: Place, log: Path, there: Path) -> Iterator[Send]:
    if name == OURS:
        key = Secret.from_file(place.key_file)
        session = SFTPSession(
            ServerSettings(place.host, place.port, place.user, private_key=key, host_keys=(place.host_key,))
        )
        try:
            session.upload_files(str(log.parent), str(there.parent), append=Append())  # it finds what is there
            yield lambda: session.upload_files(str(log.parent), str(there.parent), append=Append())
        finally:
            session.disconnect()
        return
    home = running.directory / "home"
    command = COMMANDS[name](place, log, there, home)
    environment = {"HOME": str(home), "LANG": "C.UTF-8", "PATH": os.environ["PATH"]}
    yield lambda: subprocess.run(command, env=environment, check=True, capture_output=True)  # noqa: S603 - our own


def _sftp(place: Place, log: Path, there: Path, home: Path) -> list[str]:
    batch = home / "batch"
    batch.write_text(f"reput {log} {there}\n", encoding="utf-8")
    login = [*ssh_options(place), f"{place.user}@{place.host}"]
    return ["sftp", "-q", "-b", str(batch), "-P", str(place.port), *login]


def _rsync(*options: str) -> Callable[[Place, Path, Path, Path], list[str]]:
    def command(place: Place, log: Path, there: Path, _home: Path) -> list[str]:
        shell = shlex.join(["ssh", "-p", str(place.port), *ssh_options(place)])
        return ["rsync", *options, "-e", shell, str(log), f"{place.user}@{place.host}:{there}"]

    return command


COMMANDS: dict[str, Callable[[Place, Path, Path, Path], list[str]]] = {
    "OpenSSH sftp, reput": _sftp,
    "rsync over ssh": _rsync("--times"),
    "rsync --append-verify over ssh": _rsync("--append-verify"),
    WHOLE: lambda place, log, there, home: PEERS["rclone"].command(place, Job("put", ((str(log), str(there)),)), home),
}
ALL = (OURS, *COMMANDS)


def is_here(name: str) -> bool:
    """Return whether a client is installed."""
    program = {"OpenSSH": "sftp"}.get(name.split(maxsplit=1)[0], name.split(maxsplit=1)[0])
    return shutil.which(program) is not None


def row(name: str, taken: Taken) -> str:
    """Return the row of one client."""
    mean = sum(taken.seconds) / len(taken.seconds)
    spread = f"{mean:.2f} ({min(taken.seconds):.2f} to {max(taken.seconds):.2f})"
    return f"| {name} | {len(taken.seconds)} | {spread} | {taken.wire / MB:.2f} | {taken.share:.3f} |"


def main() -> None:
    """Measure all clients that are here, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: to see that everything runs")
    options = parser.parse_args()
    work = Work(2 * MB, MB // 10, 2) if options.quick else Work()
    print("| client | times | seconds for each | MB on the wire | of the new bytes |\n| --- | --- | --- | --- | --- |")  # noqa: T201
    for name in ALL:
        if name != OURS and not is_here(name):
            continue
        with bench.running() as running:
            print(row(name, measure(running, name, work)), flush=True)  # noqa: T201 - a command's way to speak


if __name__ == "__main__":
    main()
