"""A device whose module serves its metrics, and what is read from it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.module.conftest import section_of
from tests.servers import free_port

from localedge import LocalEdge

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client import Metric
    from tests.servers import Server


@dataclass
class Scrape:
    """What a module has told once."""

    text: str
    content_type: str

    @property
    def families(self) -> dict[str, Metric]:
        return {family.name: family for family in text_string_to_metric_families(self.text)}

    def value(self, name: str, **labels: str) -> float:
        """Return a sample's value; 0 if it is not there."""
        found = [
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name and sample.labels.items() >= labels.items()
        ]
        assert len(found) <= 1, found
        return found[0] if found else 0.0


def scrape(port: int) -> Scrape:
    with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        response = connection.getresponse()
        assert response.status == 200
        return Scrape(response.read().decode(), response.headers["Content-Type"])


def scrape_until(port: int, condition: Callable[[Scrape], bool], seconds: float = 100) -> Scrape:
    end = time.monotonic() + seconds
    while True:
        with suppress(ConnectionError):  # the process is starting
            if condition(told := scrape(port)):
                return told
        assert time.monotonic() < end, "what is waited for is not told"
        time.sleep(0.1)


@dataclass
class Scraped:
    """A device whose module serves its metrics."""

    edge: LocalEdge
    port: int

    def invoke(self, method: str, payload: Any = None) -> tuple[int, Any]:
        return self.edge.invoke("sftp", method, payload)

    def scrape(self) -> Scrape:
        return scrape(self.port)


@contextmanager
def device(
    address: str,
    desired: Mapping[str, Any] | None = None,
    *,
    command: Sequence[str] = (sys.executable, "-m", "iot.sftp.module"),
    **environment: str,
) -> Iterator[LocalEdge]:
    with LocalEdge(
        address=address, desired=desired, environment=environment, command=command, restart_policy="never"
    ) as edge:
        yield edge
        assert edge.stop_module(limit=60) == 0
        assert "Traceback" not in edge.module_log


@pytest.fixture(scope="module")
def scraped(shared_address: str, openssh_server: Server) -> Iterator[Scraped]:
    port = free_port()
    section = section_of(openssh_server)
    with device(shared_address, {"sftp": section}, SFTP_METRICS_PORT=str(port)) as edge:
        edge.wait_until_connected()
        yield Scraped(edge, port)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a temporary directory of the test's own: another module may have put its socket into the usual one."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    return directory


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Give an empty state directory."""
    directory = tmp_path / "state"
    directory.mkdir()
    return directory
