"""The module as a process of its own, on the real SDK, a local edge runtime and real SFTP servers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from localedge import LocalEdge
from localedge.testing import worker_address

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


def connected(reported: dict[str, Any]) -> bool:
    """Tell whether the module reports a connection to its server."""
    return bool(reported.get("connection", {}).get("state") == "connected")


@pytest.fixture(scope="session")
def shared_address() -> str:
    """The hub's address for the runtime that a file's tests share."""
    return worker_address().replace("127.0.1.", "127.0.2.")


@pytest.fixture(scope="session")
def own_address() -> str:
    """The hub's address for a runtime of a test's own, beside the shared one."""
    return worker_address().replace("127.0.1.", "127.0.3.")


@pytest.fixture(scope="module")
def edge(shared_address: str, openssh_server: Server) -> Iterator[LocalEdge]:
    """A device whose module is connected to OpenSSH, shared by the tests of a file."""
    with LocalEdge(address=shared_address, desired={"sftp": section_of(openssh_server)}) as edge:
        edge.wait_until_connected()
        yield edge
        assert edge.stop_module() == 0
        assert "Traceback" not in edge.module_log


@pytest.fixture
def remote(openssh_server: Server, tmp_path: Path) -> Path:
    """A folder of the test's own on OpenSSH; its name is the remote path."""
    folder = openssh_server.directory / f"{tmp_path.parent.name}-{tmp_path.name}"
    folder.mkdir()
    return folder
