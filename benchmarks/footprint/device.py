"""A device with the real module, a real OpenSSH server, and a counting relay before the server and before the hub."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import Server, free_port, openssh

from benchmarks.footprint.relay import Relay
from localedge import LocalEdge
from localedge._broker import PORT

MODULE = (sys.executable, "-m", "iot.sftp.module")
OUT, IN = "out", "in"  # folders that rules use, here and on the server
WAIT = 120.0  # seconds; bounds a hang


@dataclass(frozen=True)
class Device:
    """What runs.

    Attributes:
        edge: the runtime.
        server: the SFTP server.
        to_hub: the relay between the module and its hub.
        to_server: the relay between the module and the SFTP server.
    """

    edge: LocalEdge
    server: Server
    to_hub: Relay
    to_server: Relay

    @property
    def pid(self) -> int:
        """The module's process."""
        pid = self.edge.module_pid
        assert pid is not None, self.edge.module_log[-2000:]  # noqa: S101 - it runs
        return pid

    @property
    def remote(self) -> Path:
        """Where remote paths start."""
        return self.server.directory

    def call(self, method: str, **payload: Any) -> Any:
        """Call a direct method, and return its answer."""
        return self.edge.invoke("sftp", method, payload, timeout=60)[1]


@contextmanager
def running(directory: Path, rules: Sequence[dict[str, Any]] = (), command: Sequence[str] = MODULE) -> Iterator[Device]:
    """Run a device whose module is connected to its hub and to its server."""
    number = os.getpid() % 60_000
    front, behind = (f"127.{n}.{number // 250}.{1 + number % 250}" for n in (40, 41))
    with ExitStack() as stack:
        server = stack.enter_context(openssh(directory / "server"))
        to_server = stack.enter_context(Relay((server.host, server.port)).running())
        section = {
            "host": server.host,
            "port": to_server.address[1],
            "user": server.user,
            "privateKey": Path(str(server.key_file)).read_text(encoding="ascii").splitlines(),
            "hostKeys": [server.host_key],
        }
        edge = LocalEdge(
            address=front,
            directory=directory / "device",
            desired={"sftp": section, "rules": list(rules)},
            environment={"SFTP_METRICS_PORT": str(free_port())},
            command=command,
            restart_policy="never",
            start_module=False,
        )
        stack.enter_context(edge)
        runtime = edge._runtime  # noqa: SLF001 - the hub moves behind the relay
        edge._loop.run(runtime.hub.close())  # noqa: SLF001 - as above
        edge._loop.run(runtime.hub.listen(behind, runtime.certificates.server_context()))  # noqa: SLF001 - as above
        to_hub = stack.enter_context(Relay((behind, PORT), (front, PORT)).running())
        (edge.local_root / OUT).mkdir()
        (server.directory / IN).mkdir()
        edge.start_module()
        edge.wait_for_reported(lambda twin: twin.get("connection", {}).get("state") == "connected", WAIT)
        yield Device(edge, server, to_hub, to_server)


def until(holds: Callable[[], object], what: str) -> None:
    """Wait until something holds."""
    end = time.monotonic() + WAIT
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.02)
