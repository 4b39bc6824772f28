"""The module as a process of its own, on the real SDK, a local edge runtime and real SFTP servers."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from iot.sftp.module._app.status import Status
from iot.sftp.module._methods.dispatcher import Dispatcher
from iot.sftp.module._methods.idempotency import Idempotency
from iot.sftp.module._methods.method import MethodContext
from iot.sftp.module._work.journal import Journal
from iot.sftp.module._work.local_files import LocalRoot
from iot.sftp.module._work.server_slots import ServerSlots
from iot.sftp.module._work.servers import Servers
from iot.sftp.module._work.tasks import Tasks
from iot.sftp.module._work.transfers import Transfers
from localedge import LocalEdge
from localedge.testing import worker_address

# The module as it is, but for the limits of the updates of the reported properties: the 5 s between two of them, and
# the hundred after which there is one a minute; and the 5 s for which the events of files are gathered. Tests that
# share a module need more.
TALKATIVE = """
import runpy
from iot.sftp.module._hub import reported
from iot.sftp.module._work.file_events import FileEvents
FileEvents.__init__.__kwdefaults__.update(gathering=0.5)
reported.BURST = 10_000
reported.Reporter.__init__.__kwdefaults__.update(interval=0.05, gathering=0.01)
runpy.run_module("iot.sftp.module", run_name="__main__")
"""

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server


def section_of(server: Server, **changes: Any) -> dict[str, Any]:
    """Return the desired section `sftp` for a server."""
    section: dict[str, Any] = {"host": server.host, "port": server.port, "user": server.user}
    if server.password:
        section["password"] = server.password
    if server.key_file:
        section["privateKey"] = Path(server.key_file).read_text().splitlines()
    return section | changes


def dispatcher_in(directory: Path, *, slots: ServerSlots | None = None, journal: Journal | None = None) -> Dispatcher:
    """Return a dispatcher without a configured server, whose journal is in a directory."""
    slots, journal = slots or ServerSlots(2), journal or Journal(directory)
    servers = Servers(lambda _name, _state: None)
    transfers = Transfers(servers)
    local_files = LocalRoot(directory / "data", directory)
    context = MethodContext(servers, transfers, Tasks(journal, slots, transfers.work), Status(), local_files)
    return Dispatcher(context, slots, Idempotency(journal))


def connected(reported: dict[str, Any]) -> bool:
    """Tell whether the module reports a connection to its server."""
    return bool(reported.get("connection", {}).get("state") == "connected")


def wait_for_log(edge: LocalEdge, text: str, seconds: float = 100) -> None:
    """Wait until the module says something; the runtime tells of changes in the hub only, not in the log."""
    end = time.monotonic() + seconds
    while text not in edge.module_log:
        assert time.monotonic() < end, edge.module_log
        time.sleep(0.02)


@pytest.fixture(scope="session")
def shared_address() -> str:
    """The hub's address for the runtime that a file's tests share."""
    return worker_address()


@pytest.fixture(scope="session")
def own_address() -> str:
    """The hub's address for a runtime of a test's own, beside the shared one."""
    first, second, *rest = worker_address().split(".")
    return ".".join([first, str(int(second) ^ 128), *rest])


@pytest.fixture(scope="module")
def edge(shared_address: str, openssh_server: Server) -> Iterator[LocalEdge]:
    """A device whose module is connected to OpenSSH, shared by the tests of a file."""
    desired = {"sftp": section_of(openssh_server)}
    with LocalEdge(address=shared_address, desired=desired, command=(sys.executable, "-c", TALKATIVE)) as edge:
        edge.wait_until_connected()
        yield edge
        assert edge.stop_module(limit=60) == 0
        assert "Traceback" not in edge.module_log


@pytest.fixture
def remote(openssh_server: Server, tmp_path: Path) -> Path:
    """A folder of the test's own on OpenSSH; its name is the remote path."""
    folder = openssh_server.directory / f"{tmp_path.parent.name}-{tmp_path.name}"
    folder.mkdir()
    return folder
