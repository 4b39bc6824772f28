"""Both directions, on each server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.clients import session_of
from tests.folders import Way
from tests.servers import Server


@pytest.fixture(params=["download", "upload"])
def way(request: pytest.FixtureRequest, server: Server, folder: str, tmp_path: Path) -> Iterator[Way]:
    there = server.directory / folder
    download = request.param == "download"
    source = there / "in" if download else tmp_path / "side/in"
    source.mkdir(parents=True)
    with session_of(server) as session:
        yield Way(source, tmp_path / "new/here" if download else there / "out", session, download, folder)
