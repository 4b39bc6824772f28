"""What users rely on is what is recorded in `public_surface/`; `make surface` writes the record again.

Names, signatures, codes, requests, responses, the twin, metrics, the beginnings of log lines, the command line: each
file there is made from the source or from what a running module shows. Words for people are not in it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from tests.frame import surface_of_source
from tests.frame.surface_of_module import Observer
from tests.module.conftest import section_of
from tests.servers import Server, free_port

from localedge import LocalEdge
from localedge.testing import worker_address

RECORDS = Path(__file__).parent / "public_surface"
WRITES_RECORD = os.environ.get("PUBLIC_SURFACE") == "record"
FROM_SOURCE: dict[str, Callable[[], Iterable[str]]] = {
    "library": surface_of_source.library,
    "errors": surface_of_source.error_codes,
    "methods": surface_of_source.methods,
    "desired_properties": surface_of_source.desired_properties,
    "command_line": surface_of_source.command_line,
    "environment": surface_of_source.environment,
}
FROM_MODULE = ("responses", "metrics", "log", "documents_of_iot_sftp")


@pytest.fixture(scope="module")
def observed(openssh_server: Server) -> dict[str, str]:
    """Return what a module shows that was called in every way, and that has rules which succeed and fail."""
    port, remote = free_port(), openssh_server.directory / "public-surface"
    (remote / "rule").mkdir(parents=True)
    rule = {"direction": "upload", "min_age": 0, "source": "out", "dest": f"{remote.name}/rule"}
    desired = {
        "sftp": section_of(openssh_server),
        "transfers": {"bandwidthLimit": 100_000_000},
        "logLevel": "info",
        "events": True,
        "rules": [rule | {"name": "good"}, rule | {"name": "bad", "source": "missing"}, rule | {"name": "no rule"}],
        "unknown": 1,
    }
    with LocalEdge(
        address=worker_address(), desired=desired, environment={"SFTP_METRICS_PORT": str(port)}, restart_policy="never"
    ) as edge:
        (edge.local_root / "out").mkdir()
        (edge.local_root / "out" / "file").write_bytes(b"1")
        return Observer(edge, openssh_server, remote, port).observe()


def compare(name: str, found: str) -> None:
    file = RECORDS / f"{name}.txt"
    if WRITES_RECORD:
        file.write_text(found)
    recorded = file.read_text() if file.exists() else ""
    difference = "".join(
        difflib.unified_diff(
            recorded.splitlines(keepends=True), found.splitlines(keepends=True), f"recorded {name}", f"now {name}"
        )
    )
    assert not difference, f"{difference}\nIf users are to see this, and the changelog says so: make surface"


@pytest.mark.parametrize("name", FROM_SOURCE)
def test_what_the_source_offers_is_what_is_recorded(name: str) -> None:
    compare(name, "".join(f"{line}\n" for line in FROM_SOURCE[name]()))


@pytest.mark.timeout(300)  # the module and a dozen programs are started
@pytest.mark.parametrize("name", FROM_MODULE)
def test_what_a_running_module_shows_is_what_is_recorded(observed: dict[str, str], name: str) -> None:
    compare(name, observed[name])


def test_every_record_is_compared() -> None:
    assert {file.name for file in RECORDS.iterdir()} == {f"{name}.txt" for name in (*FROM_SOURCE, *FROM_MODULE)}
