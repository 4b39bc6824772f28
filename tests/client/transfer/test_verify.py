"""Hashes over the connection, and what many uploads at once must not do to each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.clients import session_of
from tests.faulty_servers import PASSWORD, FaultyServer, ReadsShort
from tests.servers import Server, openssh

from iot.sftp.client import Secret, ServerSettings, SFTPSession, TimeLimits, Transfer, TransferIncomplete
from iot.sftp.client._ssh.packets import Kind, Reader
from iot.sftp.client._transfer.file_order import Verify

SFTP_SERVER = "/usr/lib/openssh/sftp-server"


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


def test_proftpd_tells_a_hash_where_it_has_the_extension(proftpd_server: Server, tmp_path: Path) -> None:
    """And where it has not, the file is read back."""
    there = proftpd_server.directory / "hashed-there"
    there.write_bytes(os.urandom(300_000))
    with session_of(proftpd_server) as session:
        offered = "check-file" in session.connect().extensions
        down = session.download_file("hashed-there", str(tmp_path / "here"), verify="sha256")
    assert down.verified == ("check-file" if offered else "read back")


def test_where_no_command_may_be_run_the_file_is_read_back(tmp_path: Path) -> None:
    with openssh(tmp_path / "sshd", "ForceCommand internal-sftp") as server, session_of(server) as session:
        (server.directory / "hashed").write_bytes(os.urandom(3_000_000))
        down = session.download_file(str(server.directory / "hashed"), str(tmp_path / "here"), verify="sha256")
        up = session.upload_file(str(tmp_path / "here"), str(server.directory / "again"), verify="sha256")
    assert (down.verified, up.verified) == ("read back", "read back")


def test_the_shell_is_asked_for_the_path_that_the_sftp_server_means(openssh_server: Server, tmp_path: Path) -> None:
    """Relative paths begin elsewhere for the shell."""
    name = f"hashed-{os.urandom(8).hex()}"
    (openssh_server.directory / name).write_bytes(b"one")
    with session_of(openssh_server) as session:
        assert session.download_file(name, str(tmp_path / "here"), verify="sha256").verified == "sha256sum"


def test_where_the_shell_sees_another_file_of_that_name_the_file_is_read_back(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"two")
    instead = f'case "$SSH_ORIGINAL_COMMAND" in sha256sum*) sha256sum -b {other};; *) {SFTP_SERVER};; esac'
    with (
        openssh(tmp_path / "sshd", f"ForceCommand {instead}", subsystem=SFTP_SERVER) as server,
        session_of(server) as session,
    ):
        (server.directory / "one").write_bytes(b"one")
        path = str(server.directory / "one")
        assert session.download_file(path, str(tmp_path / "here"), verify="sha256").verified == "read back"


class Corrupts(FaultyServer):
    """Changes a byte of the tenth READ's answer, or of what the tenth WRITE brings."""

    def __init__(self, kind: int) -> None:
        super().__init__()
        self._kind = kind
        self._left = 10

    def truth(self, kind: int | str, fields: Reader) -> bytes:
        if kind != self._kind:
            return super().truth(kind, fields)
        self._left -= 1
        if self._left:
            return super().truth(kind, fields)
        answer = bytearray(super().truth(kind, fields))
        if kind == Kind.READ:
            answer[1000] ^= 1
        else:
            next(content for name, content in self.files.items() if name.startswith("."))[1000] ^= 1
        return bytes(answer)


@pytest.mark.parametrize("kind", [Kind.READ, Kind.WRITE])
@pytest.mark.parametrize("verify", ["size", "sha256"])
def test_a_byte_that_a_server_changes_is_found_out_by_the_hash_alone(tmp_path: Path, kind: int, verify: Verify) -> None:
    server, content = Corrupts(kind), os.urandom(1_500_000)
    server.files |= {"source": bytearray(content), "dest": bytearray(b"old")}
    (tmp_path / "source").write_bytes(content)
    (tmp_path / "dest").write_bytes(b"old")
    with server.running() as port, session_at(port) as session:

        def move() -> Transfer:
            if kind == Kind.READ:
                return session.download_file("source", str(tmp_path / "dest"), verify=verify)
            return session.upload_file(str(tmp_path / "source"), "dest", verify=verify)

        if verify == "size":
            assert move().verified == "size"
            return
        with pytest.raises(TransferIncomplete, match="SHA-256"):
            move()
        assert (tmp_path / "dest").read_bytes() == bytes(server.files["dest"]) == b"old"
        assert sorted(server.files) == ["dest", "source"]
        assert sorted(os.listdir(tmp_path)) == ["dest", "home", "source"]
        assert move().verified == "read back"


@pytest.mark.parametrize("part", [1_000, 20_000])
def test_reading_back_from_a_server_that_answers_short_asks_for_no_byte_many_times(tmp_path: Path, part: int) -> None:
    server, content = ReadsShort(lambda length: min(length, part)), os.urandom(400_000)
    (tmp_path / "source").write_bytes(content)
    with server.running() as port, session_at(port) as session:
        assert session.upload_file(str(tmp_path / "source"), "dest", verify="sha256").verified == "read back"
    assert server.requests.count(Kind.READ) < 2 * len(content) / part + 50


@contextmanager
def session_at(port: int) -> Iterator[SFTPSession]:
    session = SFTPSession(ServerSettings("127.0.0.1", port, "device", Secret(PASSWORD)))
    try:
        yield session
    finally:
        session.disconnect()


def test_an_upload_that_ends_cancels_no_request_of_another_with_its_handle(
    openssh_server: Server, tmp_path: Path
) -> None:
    """A server gives a closed handle to the next file: uploads side by side would wait for answers without end."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(600):
        (source / f"{number}").write_bytes(b"%d" % number * 3_000)
    with session_of(openssh_server, time_limits=TimeLimits(stall=8)) as session:
        done = session.upload_files(str(source), str(openssh_server.directory / "side by side"))
    assert (done.files, done.failed) == (600, 0)
    for number in (0, 311, 599):
        assert (openssh_server.directory / "side by side" / f"{number}").read_bytes() == b"%d" % number * 3_000
