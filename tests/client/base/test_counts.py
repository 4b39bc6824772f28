"""What a session counts: each byte of a file once for each time that it is moved, each connection, each retry."""

from __future__ import annotations

import os
from pathlib import Path

from tests.clients import session_of
from tests.servers import Relay, Server

SIZE = 300_001


def test_the_bytes_of_files_are_counted_as_they_are_moved(openssh_server: Server, tmp_path: Path) -> None:
    local = tmp_path / "local"
    local.write_bytes(os.urandom(SIZE))
    with session_of(openssh_server) as session:
        assert vars(session.counts).items() >= {"connections": 0, "downloaded": 0, "uploaded": 0}.items()
        session.upload_file(str(local), f"{tmp_path.name}/remote")
        session.download_file(f"{tmp_path.name}/remote", str(local))
        session.download_file(f"{tmp_path.name}/remote", str(local), verify="sha256")
        counts = session.counts
        assert (counts.connections, counts.retries) == (1, 0)
        assert (counts.uploaded, counts.downloaded) == (SIZE, 2 * SIZE)


def test_a_connection_that_broke_counts_as_a_retry_and_a_further_connection(openssh_server: Server) -> None:
    relay = Relay((openssh_server.host, openssh_server.port))
    with relay.running() as port, session_of(openssh_server, port=port) as session:
        session.exists(".")
        relay.cut()
        session.exists(".")
        session.exists(".")
        assert session.counts.connections == 2
        assert session.counts.retries <= 1  # none, if the break was seen before the call
