"""A runtime with a small module on the real SDK, for the tests of the runtime itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from localedge import LocalEdge
from localedge.testing import worker_address

# On Python 3.14, and on ARM, there is no azure-iot-hub: see the marker in pyproject.toml.
collect_ignore = [] if find_spec("azure.iot.hub") else ["test_service_api.py"]

ECHO_MODULE = (sys.executable, str(Path(__file__).with_name("echo_module.py")))


@pytest.fixture(scope="session")
def address() -> str:
    return worker_address()


@pytest.fixture(scope="session")
def echo_module() -> tuple[str, ...]:
    """The command of the small module."""
    return ECHO_MODULE


@pytest.fixture(scope="module")
def shared_edge(address: str) -> Iterator[LocalEdge]:
    """The same for all tests of a file that leave it as they found it."""
    first, second, *rest = address.split(".")
    own_address = ".".join([first, str(int(second) ^ 64), *rest])
    with LocalEdge(address=own_address, command=ECHO_MODULE) as edge:
        edge.wait_until_connected()
        assert edge.invoke("sftp", "first")[0] == 200
        yield edge


@pytest.fixture
def edge(address: str) -> Iterator[LocalEdge]:
    """A runtime whose module is connected, and knows it: a drop just before would fail its start."""
    with LocalEdge(address=address, command=ECHO_MODULE) as edge:
        edge.wait_until_connected()
        assert edge.invoke("sftp", "first")[0] == 200
        yield edge


@pytest.fixture
def empty_edge(address: str) -> Iterator[LocalEdge]:
    """A runtime without a module."""
    with LocalEdge(address=address, start_module=False) as edge:
        yield edge
