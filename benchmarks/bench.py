"""Runs rows: one server, the clients in turn, everything checked."""

from __future__ import annotations

import filecmp
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tests.proxies import socks_proxy
from tests.servers import Server, openssh

from benchmarks import ceiling, proxy
from benchmarks.peers import PEERS, Job, Peer, Place
from benchmarks.processes import Run, children, cpu_seconds, cpu_seconds_of_adopted, run
from benchmarks.rows import MIB, SERVER, Row

IN_MEMORY = Path("/dev/shm")  # noqa: S108 - a fresh directory is made in it
TIME_LIMIT = 400.0  # seconds for one run
PATTERN = 4 * MIB
CEILING_BYTES = 512 * MIB
REAPED_WITHIN = 5.0  # seconds in which sshd takes note of a session's end

Say = Callable[[str], object]


@dataclass(frozen=True)
class Bench:
    """A running server, and a directory with `source` and `dest` beside it."""

    directory: Path
    server: Server

    def place(self, port: int) -> Place:
        """Return what a client needs to log in at this port, which may be a proxy's."""
        known_hosts = self.directory / "known_hosts"
        key = (self.directory / "server" / "host_key.pub").read_text(encoding="ascii").split()
        known_hosts.write_text(f"{self.server.host},[{self.server.host}]:{port} {key[0]} {key[1]}\n", encoding="ascii")
        return Place(
            self.server.host, port, self.server.user, str(self.server.key_file), str(known_hosts), self.server.host_key
        )


@contextmanager
def running(parent: Path | None = None, lines: Sequence[str] = SERVER) -> Iterator[Bench]:
    """Run a server with keys of its own, in a directory of its own: in memory where that is possible.

    Parameters:
        parent: of the directory.
        lines: for the server's configuration.
    """
    parent = parent or (IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None)
    with tempfile.TemporaryDirectory(prefix="iot-sftp-benchmark-", dir=parent) as name:
        directory = Path(name)
        for part in ("server", "source", "dest", "home"):
            (directory / part).mkdir()
        # The only type that pysftp takes.
        key = ["ssh-keygen", "-q", "-t", "rsa", "-b", "3072", "-m", "PEM", "-N", "", "-C", "benchmark"]
        subprocess.run([*key, "-f", directory / "server" / "user_key"], check=True)  # noqa: S603 - our own
        with openssh(directory / "server", *lines, directory=directory) as server:
            yield Bench(directory, server)


def measure(bench: Bench, row: Row, say: Say) -> dict[str, Any]:
    """Measure a row, and return its numbers: every run of every client, as it was."""
    make_sources(bench.directory / "source", row)
    clients = {name: PEERS[name] for name in row.clients}
    missing = {name: reason for name, peer in clients.items() if (reason := why_missing(peer, row)) is not None}
    for name, reason in missing.items():
        say(f"  {name} is left out: {reason}")
    present = [peer for name, peer in clients.items() if name not in missing]
    samples = []
    with ExitStack() as stack:
        port, proxy_pid, alone, socks_alone = bench.server.port, None, None, None
        if not row.link.is_direct:
            limit = CEILING_BYTES if row.link.rate is None else int(row.link.rate)
            alone = {"speed": ceiling.speed(row.link, min(CEILING_BYTES, limit))}
            alone["round_trip"] = ceiling.round_trip(row.link)
            port, proxy_pid = stack.enter_context(proxy.running((bench.server.host, port), row.link))
        place = bench.place(port)
        if any(getattr(peer, "way", "") == "socks" for peer in present):
            socks = stack.enter_context(socks_proxy())
            place = replace(place, socks=socks.url)
            socks_alone = ceiling.speed_through(socks, CEILING_BYTES)
        one = _OneRun(bench, row, place, proxy_pid)
        for repeat, kind, peer in turns(row, present):
            said = ""
            for empty in (True, False):
                result = one.do(peer, kind, empty=empty)
                samples.append({"client": peer.name, "kind": kind, "repeat": repeat, "empty": empty} | asdict(result))
                said += f" {result.failure or f'{result.seconds:8.2f} s'}"
            say(f"  {repeat + 1} {kind:10} {peer.name:9}{said}")
    shutil.rmtree(bench.directory / "source" / row.name)
    told = {"row": asdict(row), "missing": missing, "proxy_alone": alone, "samples": samples}
    return told if socks_alone is None else told | {"socks_alone": socks_alone}


def why_missing(peer: Peer, row: Row) -> str | None:
    """Return why a client cannot take part in a row, if it cannot."""
    return "it is not installed" if peer.version() is None else peer.lacks(row.kinds[0])


def turns(row: Row, peers: list[Peer]) -> Iterator[tuple[int, str, Peer]]:
    """Give the order: all clients in turn, again and again, each time beginning with another one."""
    for repeat in range(row.repeats):
        for kind in row.kinds:
            first = repeat % max(1, len(peers))
            for peer in peers[first:] + peers[:first]:
                if repeat == 0 or peer.name not in row.once:
                    yield repeat, kind, peer


@dataclass(frozen=True)
class _OneRun:
    """Makes one run of one client, with a clean destination, and looks at what it has done."""

    bench: Bench
    row: Row
    place: Place
    proxy_pid: int | None

    def do(self, peer: Peer, kind: str, *, empty: bool) -> Run:
        dest = self.bench.directory / "dest"
        shutil.rmtree(dest)
        dest.mkdir()
        job = job_of(self.bench.directory / "source" / ("empty" if empty else self.row.name), dest, kind)
        if kind == "delete_folder":  # the source is needed again
            shutil.copytree(job.pairs[0][1], job.pairs[0][0])
        before = None
        if kind.endswith("_same_folder"):
            shutil.copytree(*job.pairs[0])
            before = _changed(job)
        home = self.bench.directory / "home"
        command = peer.command(self.place, job, home)
        handed_on = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        environment = handed_on | {"HOME": str(home), "LANG": "C.UTF-8"}
        own = set(children(os.getpid()))
        server_before, proxy_before = self._server_cpu(), self._proxy_cpu()
        result = run(command, environment, home, TIME_LIMIT)
        if result.failure is None:
            is_same = before is None or before == _changed(job)
            result = replace(result, failure=what_is_wrong(job) if is_same else "it has written what was there already")
        return replace(
            result,
            server_cpu_seconds=self._server_cpu() - server_before + cpu_seconds_of_adopted(own),
            proxy_cpu_seconds=self._proxy_cpu() - proxy_before,
        )

    def _server_cpu(self) -> float:
        """Return the processor seconds of all sessions that have ended, once the last one has."""
        assert self.bench.server.process is not None  # noqa: S101 - it runs
        pid = self.bench.server.process.pid
        deadline = time.monotonic() + REAPED_WITHIN
        while children(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        return cpu_seconds(pid, of_children=True)

    def _proxy_cpu(self) -> float:
        return cpu_seconds(self.proxy_pid) if self.proxy_pid is not None else 0.0


def job_of(source: Path, dest: Path, kind: str) -> Job:
    """Return the job of a kind with the files of the folder `source`."""
    if kind in {"list", "list_details"}:
        return Job(kind, ((str(source), ""),))
    if kind == "delete_folder":
        return Job(kind, ((str(dest / source.name), str(source)),))
    if kind == "make_folder":
        return Job(kind, tuple((str(file), str(dest / file.name / "a" / "b")) for file in sorted(source.iterdir())))
    if kind.endswith("_folder"):
        return Job(kind, ((str(source), str(dest / source.name)),))
    return Job(kind, tuple((str(file), str(dest / file.name)) for file in sorted(source.iterdir())))


def what_is_wrong(job: Job) -> str | None:
    """Compare what was moved with what should have been, byte by byte."""
    if job.kind in {"list", "list_details", "get_same_folder", "put_same_folder"}:
        return None
    if job.kind == "delete_folder":
        return f"{job.pairs[0][0]} is still there" if Path(job.pairs[0][0]).exists() else None
    if job.kind == "make_folder":
        return next((f"{dest} is missing" for _, dest in job.pairs if not Path(dest).is_dir()), None)
    pairs = [(Path(source), Path(dest)) for source, dest in job.pairs]
    if job.kind.endswith("_folder"):
        pairs = [(file, dest / file.relative_to(source)) for source, dest in pairs for file in files_in(source)]
    for source, dest in pairs:
        if not dest.exists():
            return f"{dest.name} is missing"
        if not filecmp.cmp(source, dest, shallow=False):
            return f"{dest.name} is not what was sent"
    filecmp.clear_cache()
    return None


def files_in(folder: Path) -> Iterator[Path]:
    """Give all files in a folder and those in it."""
    return (Path(place, name) for place, _, names in os.walk(folder) for name in names)


def _changed(job: Job) -> list[int]:
    """Return when the files at a folder's destination were changed last, whatever times they were given."""
    source, dest = map(Path, job.pairs[0])
    return [(dest / file.relative_to(source)).stat().st_ctime_ns for file in files_in(source)]


def make_sources(directory: Path, row: Row) -> None:
    """Write the files of a row, and the one byte of an empty run."""
    (directory / "empty").mkdir(exist_ok=True)
    (directory / "empty" / "one").write_bytes(b"1")
    folder = directory / row.name
    folder.mkdir()
    pattern = random.Random(0).randbytes(min(row.size, PATTERN))  # noqa: S311 - not a secret
    for number in range(row.files):
        place = folder / f"folder-{number // row.per_folder:05}" if row.per_folder else folder
        place.mkdir(exist_ok=True)
        with (place / f"file-{number:05}").open("wb") as file:
            for start in range(0, row.size, PATTERN):
                part = start.to_bytes(8, "big") + pattern[8:]  # no two parts are alike
                file.write(part[: row.size - start])
