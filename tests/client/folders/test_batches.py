"""Folders of small files, several of which one thread has in flight, over links that break."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.clients import session_of
from tests.faulty_links import Break, BreakingRelay
from tests.folders import content_of, fill
from tests.servers import Server


@pytest.mark.parametrize("at", [300, 2_500, 6_000, 14_000, 45_000])
@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
def test_a_folder_is_whole_wherever_the_link_broke(openssh_server: Server, tmp_path: Path, at: int, down: bool) -> None:
    """While directories are made, while files are opened, written and renamed."""
    files = {f"{folder}/{name}": b"content of %d" % name for folder in range(20) for name in range(8)}
    fill(tmp_path / "source", files)
    relay = BreakingRelay((openssh_server.host, openssh_server.port))
    with relay.running() as port, session_of(replace(openssh_server, port=port)) as session:
        assert not session.exists("x")
        relay.break_at(Break(at, down=down))
        done = session.upload_files(str(tmp_path / "source"), tmp_path.name, recursive=True, timeout=60)
        assert relay.broken.is_set()
    assert (done.files, done.failed) == (160, 0)
    there = openssh_server.directory / tmp_path.name
    assert content_of(there) == files
    assert not list(there.rglob(".iot-sftp-*"))
