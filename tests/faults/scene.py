"""The running parts: a device with the real module, a real SFTP server, and a link before the server and the hub."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from tests.faults.link import Link
from tests.faults.tap import Tap
from tests.faults.versions import SIZES, make
from tests.module.conftest import section_of
from tests.servers import Server, free_port, openssh, proftpd

from localedge import HubError, LocalEdge
from localedge._broker import PORT

HOST = "sftp.test"
OUTBOX, INBOX = "outbox", "inbox"  # of a rule, which sends what appears in the one to the other
RULE = {"name": "outbox", "direction": "upload", "source": OUTBOX, "dest": INBOX, "every": 1, "min_age": 0}
SERVERS: dict[str, Callable[[Path], AbstractContextManager[Server]]] = {"OpenSSH": openssh, "ProFTPD": proftpd}
HEAL_LIMIT = 120.0  # seconds; the SDK's own longest pause
KINDS_OF_SOURCES = 2  # contents of each size, so that two versions may differ in nothing but their bytes


class NotHealed(Exception):  # noqa: N818 - what was found, no failure of the test
    """The module does not work again although everything else does."""


class Scene:
    """All parts, running; `faults` break them, and `revive` waits until the module works again."""

    def __init__(self, directory: Path, address: str, kind: str, chance: random.Random) -> None:
        """Start nothing yet; the hub takes `address` and a second one beside it."""
        self.kind = kind
        self.directory = directory
        self.controls = directory / "controls"
        self.metrics_port = free_port()
        self.endings: list[int] = []
        self.sources: dict[str, bytes] = {
            f"source-{size}-{number}": make(size, chance) for size in SIZES for number in range(KINDS_OF_SOURCES)
        }
        self._server_stack = ExitStack()
        self._address = address
        first, second, *rest = address.split(".")
        self._behind = ".".join([first, str(int(second) ^ 16), *rest])

    @contextmanager
    def running(self) -> Iterator[Scene]:
        """Run everything."""
        self.controls.mkdir(parents=True)
        self.step_clock(0)
        self.name_is_known(known=True)
        with ExitStack() as stack:
            stack.callback(self._server_stack.close)
            self._start_server()
            self.sftp = stack.enter_context(Link((self.server.host, self.server.port)).running())
            self.desired = self._desired()
            self.edge = stack.enter_context(self._device())
            self.tap = Tap(self.edge)
            self.edge._loop.run(self.edge._runtime.hub.close())
            self.listen()
            self.hub = stack.enter_context(Link((self._behind, PORT), (self._address, PORT)).running())
            for name, content in self.sources.items():
                (self.local / name).write_bytes(content)
                (self.remote / name).write_bytes(content)
            (self.local / OUTBOX).mkdir()
            self.edge.start_module()
            self.revive()
            yield self
            self.repair()

    @property
    def local(self) -> Path:
        """The module's local root."""
        return self.edge.local_root

    @property
    def remote(self) -> Path:
        """Where remote paths start."""
        return self.server.directory

    @property
    def secrets(self) -> list[str]:
        """The texts that nobody may ever see again."""
        section = self.desired["sftp"]
        lines = [line for line in section.get("privateKey", []) if line and not line.startswith("-----")]
        return [*lines, *([section["password"]] if "password" in section else []), "SharedAccessSignature"]

    def listen(self) -> None:
        """Let the hub accept connections, with the certificate that it has now."""
        runtime = self.edge._runtime
        self.edge._loop.run(runtime.hub.listen(self._behind, runtime.certificates.server_context()))

    def repair(self) -> None:
        """Make everything whole but the module, which has to see to itself."""
        self.hub.repair()
        self.sftp.repair()
        self.step_clock(0)
        self.name_is_known(known=True)

    def revive(self) -> float:
        """Wait until the module serves again, started again if it ended; return the seconds that it took.

        Raises:
            NotHealed: it does not.
        """
        started = time.monotonic()
        answer: object = None
        while time.monotonic() - started < HEAL_LIMIT:
            self.start_again_if_ended()
            try:
                answer = self.edge.invoke("sftp", "exists", {"path": ".", "timeout": 5}, timeout=10, connect_timeout=1)
            except HubError as error:
                answer = error
            if answer == (200, True):
                return time.monotonic() - started
            time.sleep(0.05)
        message = f"not healed within {HEAL_LIMIT:g} s: {answer}; the log ends: {self.edge.module_log[-1500:]}"
        raise NotHealed(message)

    def start_again_if_ended(self) -> None:
        """Do what the edge agent does, without its pause."""
        if self.edge.module_pid is None:
            self.endings += self.edge.module_exit_statuses
            self.edge.stop_module()
            self.edge.start_module()

    def signal_module(self, number: signal.Signals) -> None:
        """Send the module a signal, unless it is not there."""
        if self.edge.module_pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.edge.module_pid, number)

    def wait_for_end(self, limit: float) -> bool:
        """Wait until the module has ended; tell whether it has."""
        end = time.monotonic() + limit
        while self.edge.module_pid is not None and time.monotonic() < end:
            time.sleep(0.01)
        return self.edge.module_pid is None

    def server_processes(self) -> list[psutil.Process]:
        """Return the SFTP server's processes, the sessions first."""
        assert self.server.process is not None
        main = psutil.Process(self.server.process.pid)
        return [*main.children(recursive=True), main]

    def restart_server(self, pause: float) -> None:
        """Stop the SFTP server, and start it again with the keys and files that it had."""
        self._server_stack.close()
        time.sleep(pause)
        self._start_server()
        self.sftp.target = (self.server.host, self.server.port)

    def step_clock(self, seconds: int) -> None:
        """Have the module's clock be off by so many seconds."""
        self._control("clock", str(seconds))

    def name_is_known(self, *, known: bool) -> None:
        """Have the server's name be known to the module's resolver, or not."""
        self._control("hosts", f"{HOST} 127.0.0.1\n" if known else "")

    def _control(self, name: str, text: str) -> None:
        (self.controls / f"{name}.new").write_text(text)
        (self.controls / f"{name}.new").replace(self.controls / name)

    def _start_server(self) -> None:
        self.server = self._server_stack.enter_context(SERVERS[self.kind](self.directory / "server"))

    def _desired(self) -> dict[str, Any]:
        limits = {"connectTimeout": 4, "stallTimeout": 3, "keepAlive": 2}
        section = section_of(self.server, host=HOST, port=self.sftp.address[1], hostKeys=[self.server.host_key])
        rules = [RULE | {"then": "delete"}]
        return {"sftp": section | limits, "transfers": {"concurrency": 4}, "rules": rules, "logLevel": "debug"}

    def _device(self) -> LocalEdge:
        return LocalEdge(
            address=self._address,
            directory=self.directory / "device",
            desired=self.desired,
            environment={
                "SFTP_TEST_CONTROLS": str(self.controls),
                "SFTP_METRICS_PORT": str(self.metrics_port),
            },
            command=(sys.executable, str(Path(__file__).with_name("run_module.py"))),
            restart_policy="never",
            start_module=False,
        )
