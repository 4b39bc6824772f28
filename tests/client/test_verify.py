"""Hashes over the connection, and what many uploads at once must not do to each other."""

from __future__ import annotations

import os
from pathlib import Path

from tests.clients import session_of
from tests.servers import Server

from iot.sftp.client import TimeLimits


def test_openssh_tells_a_hash_by_its_shell(openssh_server: Server, tmp_path: Path) -> None:
    there = openssh_server.directory / "hashed"
    there.write_bytes(os.urandom(300_000))
    with session_of(openssh_server) as session:
        down = session.download_file(str(there), str(tmp_path / "here"), verify="sha256")
        up = session.upload_file(str(tmp_path / "here"), f"{there}-again", verify="sha256")
    assert (down.verified, up.verified) == ("sha256sum", "sha256sum")
    assert Path(f"{there}-again").read_bytes() == there.read_bytes()


def test_where_nobody_tells_a_hash_the_file_is_read_back(proftpd_server: Server, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(os.urandom(300_000))
    with session_of(proftpd_server) as session:
        up = session.upload_file(str(tmp_path / "here"), "hashed-by-us", verify="sha256")
    assert up.verified == "read back"


def test_an_upload_that_ends_takes_back_no_request_of_another_whose_handle_is_the_same(
    openssh_server: Server, tmp_path: Path
) -> None:
    """A server gives a closed handle to the next file: uploads side by side would wait for answers for ever."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(600):
        (source / f"{number}").write_bytes(b"%d" % number * 3_000)
    with session_of(openssh_server, time_limits=TimeLimits(stall=8)) as session:
        done = session.upload_files(str(source), str(openssh_server.directory / "side by side"))
    assert (done.files, done.failed) == (600, 0)
    for number in (0, 311, 599):
        assert (openssh_server.directory / "side by side" / f"{number}").read_bytes() == b"%d" % number * 3_000
