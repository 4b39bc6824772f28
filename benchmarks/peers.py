"""The clients that are compared, and how each is called: as its manual shows, with its defaults."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.proxies import MICROSOCKS

from iot.sftp.client import VERSION, SFTPSession

CLIENTS = Path(__file__).parent / "clients"


@dataclass(frozen=True)
class Place:
    """Where the server is, and what a client needs to log in to it."""

    host: str
    port: int
    user: str
    key_file: str
    known_hosts: str
    host_key: str
    socks: str = ""  # the URL of a SOCKS proxy, for who goes through one


@dataclass(frozen=True)
class Job:
    """What a client is to do.

    Attributes:
        kind: `get`, `put`, `make_folder` (one call for each of `pairs`), `get_folder`, `put_folder`,
            `get_same_folder`, `put_same_folder` (all files are there already), `delete_folder`, `list` or
            `list_details`.
        pairs: source and destination, absolute paths.
    """

    kind: str
    pairs: tuple[tuple[str, str], ...]

    @property
    def parent(self) -> tuple[str, str]:
        """The folders of the sources and of the destinations."""
        source, dest = self.pairs[0]
        return str(Path(source).parent), str(Path(dest).parent)


class Peer(ABC):
    """A client."""

    name: str
    title: str
    remark: str = ""

    @abstractmethod
    def version(self) -> str | None:
        """Return its version; `None` if it is not installed."""

    @abstractmethod
    def command(self, place: Place, job: Job, directory: Path) -> list[str]:
        """Return the command that does the job; files that it needs go into `directory`."""

    def lacks(self, kind: str) -> str | None:  # noqa: ARG002 - for those that lack something
        """Return why it cannot do this kind of work, if it cannot."""
        return None


class PythonPeer(Peer):
    """A client that is a Python library: a script of ours calls it, in a process of its own."""

    script: str
    distributions: tuple[str, ...]
    way = ""  # to the server: directly

    def version(self) -> str | None:
        """Return the versions of what the script imports."""
        try:
            return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in self.distributions)
        except importlib.metadata.PackageNotFoundError:
            return None

    def command(self, place: Place, job: Job, directory: Path) -> list[str]:
        """Return the script with the job in a file."""
        file = directory / "job.json"
        order = {"place": asdict(place), "kind": job.kind, "pairs": job.pairs, "way": self.way}
        file.write_text(json.dumps(order), encoding="utf-8")
        return [sys.executable, str(CLIENTS / self.script), str(file)]


class Ours(PythonPeer):
    """This project's client."""

    name, title, script = "ours", "iot-sftp-client", "ours.py"
    distributions = ("paramiko", "cryptography")

    def version(self) -> str | None:
        """Return our version too."""
        return f"{VERSION}, {super().version()}"

    def lacks(self, kind: str) -> str | None:
        """Return whether whole folders are there yet."""
        method = {"get_folder": "download_files", "put_folder": "upload_files"}.get(kind)
        return f"SFTPSession.{method} does not exist yet" if method and not hasattr(SFTPSession, method) else None


class OursThroughJump(Ours):
    """This project's client through a jump host: the server itself, so that the link is the same."""

    name, title, way = "ours_jump", "iot-sftp-client, through a jump host", "jump"


class OursThroughSocks(Ours):
    """This project's client through a SOCKS proxy."""

    name, title, way = "ours_socks", "iot-sftp-client, through SOCKS", "socks"

    def version(self) -> str | None:
        """Return the version if the proxy is installed."""
        return super().version() if MICROSOCKS else None


class AsyncSSH(PythonPeer):
    """asyncssh."""

    name, title, script = "asyncssh", "asyncssh", "asyncssh_peer.py"
    distributions = ("asyncssh", "cryptography")


class PySFTP(PythonPeer):
    """pysftp as it is."""

    name, title, script = "pysftp", "pysftp", "pysftp_peer.py"
    distributions = ("pysftp", "paramiko", "cryptography")
    remark = "as it is, but for the name `DSSKey`, which it asks paramiko for and which is gone: it is supplied"


class Program(Peer):
    """A client that is a program."""

    program: str
    asks_version: tuple[str, ...]

    def version(self) -> str | None:
        """Return the first number that it says of itself."""
        if not shutil.which(self.program):
            return None
        said = subprocess.run(self.asks_version, capture_output=True, text=True, check=False)  # noqa: S603 - our own
        found = re.search(r"\d+\.\d[\w.+-]*", said.stdout + said.stderr)
        return found[0] if found else "unknown"


class OpenSSH(Program):
    """OpenSSH's sftp."""

    name, title, program, asks_version = "openssh", "OpenSSH sftp", "sftp", ("ssh", "-V")

    def command(self, place: Place, job: Job, directory: Path) -> list[str]:
        """Return sftp with a batch file."""
        lines = {
            "get": "get {} {}",
            "put": "put {} {}",
            "get_folder": "get -r {} {}",
            "put_folder": "put -r {} {}",
            "list": "ls -1 {}",
            "list_details": "ls -l {}",
        }
        batch = directory / "batch"
        _write_lines(batch, (lines[job.kind].format(*pair) for pair in job.pairs))
        login = [*ssh_options(place), f"{place.user}@{place.host}"]
        return ["sftp", "-q", "-b", str(batch), "-P", str(place.port), *login]


class OpenSSHThroughJump(OpenSSH):
    """OpenSSH's sftp through a jump host."""

    name, title = "openssh_jump", "OpenSSH sftp, through a jump host"

    def command(self, place: Place, job: Job, directory: Path) -> list[str]:
        """Return sftp with a second ssh for its connection, as ProxyJump starts one."""
        program, *arguments = super().command(place, job, directory)
        jump = ["ssh", *ssh_options(place), "-p", str(place.port), "-W", "%h:%p", f"{place.user}@{place.host}"]
        return [program, "-o", f"ProxyCommand={shlex.join(jump)}", *arguments]


class RClone(Program):
    """rclone."""

    name, title, program, asks_version = "rclone", "rclone", "rclone", ("rclone", "version")
    remark = (
        "without its comparison by md5sum on the server, which the others do not make; it has no way to make many "
        "calls in one process, so that many files are one `copy` of their folder, four at a time"
    )

    def command(self, place: Place, job: Job, directory: Path) -> list[str]:
        """Return rclone with a server made from options."""
        source, dest = job.pairs[0]
        verb = "copyto"
        if len(job.pairs) > 1:
            verb, (source, dest) = "copy", job.parent
        elif job.kind.endswith("folder"):
            verb = "copy"
        arguments = {
            "get": [verb, f":sftp:{source}", dest],
            "put": [verb, source, f":sftp:{dest}"],
            "list": ["lsf", "--files-only", f":sftp:{source}"],
            "list_details": ["lsjson", f":sftp:{source}"],
            "delete": ["purge", f":sftp:{source}"],
        }[job.kind.removesuffix("_folder").removesuffix("_same")]
        options = {
            "config": directory / "no-rclone.conf",
            "sftp-host": place.host,
            "sftp-port": place.port,
            "sftp-user": place.user,
            "sftp-key-file": place.key_file,
            "sftp-known-hosts-file": place.known_hosts,
        }
        flags = [f"--{name}={value}" for name, value in options.items()]
        return ["rclone", *arguments, *flags, "--sftp-disable-hashcheck"]


class LFTP(Program):
    """lftp."""

    name, title, program, asks_version = "lftp", "lftp", "lftp", ("lftp", "--version")
    remark = "over OpenSSH's ssh, as it always is"

    def command(self, place: Place, job: Job, directory: Path) -> list[str]:
        """Return lftp with a script."""
        lines = {
            "get": "get {} -o {}",
            "put": "put {} -o {}",
            "get_folder": "mirror {} {}",
            "put_folder": "mirror -R {} {}",
            "list": "cls -1 {}",
            "list_details": "cls -l {}",
            "delete_folder": "rm -r {}",
            "make_folder": "mkdir -p {1}",
        }
        script = directory / "script"
        ssh = shlex.join(["ssh", "-a", "-x", *ssh_options(place)])
        _write_lines(
            script,
            [
                "set cmd:fail-exit yes",
                f'set sftp:connect-program "{ssh}"',
                f"open sftp://{place.user}:none@{place.host}:{place.port}",
                *(lines[job.kind.replace("_same", "")].format(*pair) for pair in job.pairs),
            ],
        )
        return ["lftp", "-f", str(script)]


def ssh_options(place: Place) -> list[str]:
    """Return the options of OpenSSH's programs: this server, this key, and no configuration of whoever runs it."""
    options = {"UserKnownHostsFile": place.known_hosts, "IdentitiesOnly": "yes", "IdentityAgent": "none"}
    return ["-F", "none", "-i", place.key_file, *(f"-o{name}={value}" for name, value in options.items())]


def _write_lines(file: Path, lines: Iterable[str]) -> None:
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


DIRECT: tuple[Peer, ...] = (Ours(), OpenSSH(), AsyncSSH(), RClone(), LFTP(), PySFTP())
THROUGH_HOPS: tuple[Peer, ...] = (OursThroughJump(), OursThroughSocks(), OpenSSHThroughJump())
PEERS: dict[str, Peer] = {peer.name: peer for peer in (*DIRECT, *THROUGH_HOPS)}
