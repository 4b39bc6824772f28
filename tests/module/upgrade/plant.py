"""A device and its server as 0.1.0 has left them, and as today's module finds them; nothing in it is secret.

The server has one name, port and user, whatever port it listens on here: they are part of what the module remembers.
Its host key is made from these words, so that it is the same again, and no private key is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tarfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.module.conftest import connected
from tests.servers import PASSWORD, proftpd

from localedge import LocalEdge

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.servers import Server

COMMIT = "4b50057fb215ff381d42892d0876439582fe9190"  # the last one that had the tables of 0.1.0
ARCHIVE = Path(__file__).with_name("state-0.1.0.tar.xz")
LIMIT = 120.0  # seconds, for a machine that is busy
HOST, PORT = "sftp.example.com", 22
MEBIBYTE = 2**20
BIG, SMALL = 3 * MEBIBYTE, 300_000  # bytes

# The module as it is, but for the address of its server, and the pauses between two updates of what it reports
MAPPED = """
import runpy, socket
look_up = socket.getaddrinfo
def mapped(host, port, *arguments, **options):
    if host == {host!r}:
        host, port = {address!r}, {port}
    return look_up(host, port, *arguments, **options)
socket.getaddrinfo = mapped
from {reported} import Reporter
Reporter.__init__.__kwdefaults__.update(interval=0.05, gathering=0.01)
runpy.run_module("iot.sftp.module", run_name="__main__")
"""
RULES = [
    {"name": "send", "direction": "upload", "source": "out", "dest": "plant/out", "min_age": 0, "every": 1},
    {"name": "fetch", "direction": "download", "source": "plant/in", "dest": "in", "min_age": 0, "every": 1},
]


def command(server: Server, *, python: str = sys.executable, reported: str) -> Sequence[str]:
    """Return what starts a module for which the server has its name; `reported` is where its `Reporter` is."""
    return python, "-c", MAPPED.format(host=HOST, address=server.host, port=server.port, reported=reported)


def desired(**transfers: Any) -> dict[str, Any]:
    """Return the desired properties."""
    section = {"host": HOST, "port": PORT, "user": "device", "password": PASSWORD}
    return {"sftp": section, "rules": RULES, "transfers": transfers}


@contextmanager
def device(place: Path, address: str) -> Iterator[LocalEdge]:
    """Run today's module on what `unpack` has put into a folder, with its server, until both know each other."""
    write_host_key(place / "ftpd")
    (place / "ftpd/files").symlink_to(place / "server")
    with (
        proftpd(place / "ftpd") as server,
        LocalEdge(
            address=address,
            desired=desired(),
            command=command(server, reported="iot.sftp.module._hub.reported"),
            environment={"SFTP_LOCAL_ROOT": str(place / "local"), "SFTP_STATE_DIR": str(place / "state")},
            restart_policy="never",
        ) as edge,
    ):
        edge.wait_until_connected(LIMIT)
        edge.wait_for_reported(connected, LIMIT)
        yield edge
        assert edge.stop_module(limit=60) == 0
        assert "Traceback" not in edge.module_log


def content(name: str, size: int) -> bytes:
    """Return what a file of this name holds: no two blocks of it are alike, and it compresses well."""
    blocks = (b"%s %08d" % (name.encode(), number) for number in range(size // 1_000 + 1))
    return b"".join(block.ljust(999, b".") + b"\n" for block in blocks)[:size]


def write_host_key(base: Path) -> None:
    """Give a server that is started in `base` the host key that 0.1.0 has remembered."""
    key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"the host key of the upgrade").digest())
    base.mkdir(parents=True, exist_ok=True)
    file = base / "host_key"
    file.touch(0o600)
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    )


def pack(folders: dict[str, Path]) -> None:
    """Write the archive: the same names for owners everywhere, and times in nanoseconds."""

    def owned_by_nobody(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member if member.isreg() or member.isdir() else None  # no sockets

    with tarfile.open(ARCHIVE, "w:xz", format=tarfile.PAX_FORMAT, preset=9) as archive:
        for name, folder in sorted(folders.items()):
            archive.add(folder, name, filter=owned_by_nobody)


def unpack(directory: Path) -> None:
    """Lay out `state`, `local` and `server`, as they were on a disk of this machine.

    What 0.1.0 knew of unfinished transfers names the inodes of its disk: they become those of this one. What it wrote
    last was written a moment ago.
    """
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(directory, filter="tar")
    for path in (directory / "state/transfers").glob("*.transfer"):
        _settle(path, directory / "local")


def _settle(path: Path, local: Path) -> None:
    """Make the record of a transfer one of this disk; its name is the hash of its destination."""
    record = json.loads(path.read_text())
    if record["direction"] == "download":
        record["directory"] = str(local / Path(record["directory"]).relative_to("/"))
        status = os.stat(record["directory"])
        key: object = ("download", status.st_dev, status.st_ino, record["dest"])
        name = hashlib.sha256(repr(key).encode()).hexdigest()[:32]
        path.unlink()
        path = path.with_name(f"{name}.transfer")
    else:
        # The archive has times as floats; no two files have the same one
        moment = record["source"][3]
        (source,) = [file for file in local.iterdir() if abs(file.stat().st_mtime_ns - moment) < 1_000]
        os.utime(source, ns=(moment, moment))
        status = source.stat()
        record["source"][:2] = [status.st_dev, status.st_ino]
    path.write_text(json.dumps(record))
