"""A log that grows, kept up with over a slow link: seconds, and bytes on the wire, side by side.

It is a row of its own kind of `python -m benchmarks`: `--rows growth`. A log of 100 MB is at its destination already,
and grows by 1 MB, ten times. Ours is one session for all of it, as the module's is; the others are started for each
time, as a timer starts them, and rsync needs a shell and itself on the server. What is at the destination is compared
byte by byte each time.
"""

from __future__ import annotations

import filecmp
import os
import random
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
NOTE = (
    "The mean of each (least to most). Ours is one session for all of it, as the module's is; the others are started "
    "each time. rsync needs a shell, and itself on the server. rclone has no way to append."
)
Send = Callable[[], object]


@dataclass(frozen=True)
class Work:
    """How large the log is, by how much it grows, and how often."""

    size: int = 100 * MB
    growth: int = MB
    times: int = 10

    @classmethod
    def quick(cls) -> Work:
        """Return the same work, small: to see that everything runs."""
        return cls(2 * MB, MB // 10, 2)


@dataclass(frozen=True)
class Taken:
    """What one client took: seconds of each time, and bytes both ways of all of them."""

    seconds: list[float]
    wire: int
    grown: int


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
        shutil.rmtree(log.parent)
        there.unlink()
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


def measure_all(running: bench.Bench, work: Work, say: bench.Say, link: Link = LINK) -> dict[str, Any]:
    """Measure all clients that are here, and return the numbers of each."""
    taken: dict[str, Any] = {}
    for name in ALL:
        if name != OURS and not is_here(name):
            say(f"  {name} is left out: it is not installed")
            continue
        taken[name] = asdict(measure(running, name, work, link))
        say(f"  {name}: {taken[name]['wire'] / MB:.2f} MB on the wire")
    return {"work": asdict(work), "link": asdict(link), "taken": taken}


def title(result: dict[str, Any]) -> str:
    """Return what was measured."""
    work, link = result["work"], result["link"]
    rate = f", {link['rate'] * 8 / MB:g} Mbit/s" if link["rate"] else ""
    grows = f"a log of {work['size'] / MB:g} MB that grows by {work['growth'] / MB:g} MB, {work['times']} times"
    return f"{grows}, {link['round_trip'] * 1000:g} ms round trip{rate}"


def table(result: dict[str, Any]) -> str:
    """Return the rows of all clients, with what has to be known of them."""
    lines = [
        "| client | times | seconds for each | MB on the wire | of the new bytes |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, taken in result["taken"].items():
        seconds, wire = taken["seconds"], taken["wire"]
        spread = f"{sum(seconds) / len(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"
        lines.append(f"| {name} | {len(seconds)} | {spread} | {wire / MB:.2f} | {wire / taken['grown']:.3f} |")
    return "\n".join([*lines, "", NOTE])
