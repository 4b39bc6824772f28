"""A connection that nobody uses: it sleeps, it holds no memory, and its end does not have to wait for it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.clients import connection_of, session_of
from tests.folders import content_of
from tests.servers import Server

from iot.sftp.client import SFTPSession
from iot.sftp.client._ssh.paramiko_internals import packetizers
from iot.sftp.client._ssh.paramiko_internals.packetizers import FastPacketizer

FOREVER = 100_000.0  # seconds: whatever waits for that is not woken, and runs into the timeout of the test


@pytest.fixture
def session(openssh_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[SFTPSession]:
    monkeypatch.setattr(packetizers, "PATIENCE", FOREVER)
    with session_of(openssh_server) as session:
        session.connect()
        yield session


def patient_packetizer(session: SFTPSession) -> FastPacketizer:
    """Return what receives, once it sleeps until something comes."""
    connection = connection_of(session)
    packetizer = connection.transport.packetizer
    assert isinstance(packetizer, FastPacketizer)
    while connection.transport.sock.gettimeout() != FOREVER:
        connection.transport.join(0.01)
    return packetizer


def test_an_idle_connection_sleeps_and_is_closed_at_once(session: SFTPSession) -> None:
    transport = connection_of(session).transport
    patient_packetizer(session)

    session.disconnect()  # would wait without end

    assert not transport.is_alive()


def test_a_connection_that_slept_works(session: SFTPSession, openssh_server: Server, tmp_path: Path) -> None:
    patient_packetizer(session)
    (tmp_path / "source").write_bytes(b"new" * 100_000)

    session.upload_file(str(tmp_path / "source"), "slept/")

    assert content_of(openssh_server.directory / "slept") == {"source": b"new" * 100_000}


def test_new_keys_are_asked_for_after_a_sleep(session: SFTPSession, monkeypatch: pytest.MonkeyPatch) -> None:
    packetizer = patient_packetizer(session)
    monkeypatch.setattr(packetizer, "REKEY_PACKETS", 1)

    for _ in range(5):
        assert session.exists(".")


def test_a_connection_that_has_ended_holds_no_buffers(session: SFTPSession) -> None:
    packetizer = patient_packetizer(session)
    gc.disable()
    try:
        session.disconnect()
    finally:
        gc.enable()

    assert len(packetizer._received) + len(packetizer._plain) + len(packetizer._to_encrypt) == 0


def test_buffers_are_given_back_while_nobody_uses_the_connection(
    openssh_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packetizers, "PATIENCE", 0.05)
    (openssh_server.directory / "given-back").write_bytes(b"x" * 400_000)
    with session_of(openssh_server) as session:
        session.download_file("given-back", str(tmp_path / "dest"))
        packetizer = connection_of(session).transport.packetizer
        assert isinstance(packetizer, FastPacketizer)
        while any(packetizer._received):
            connection_of(session).transport.join(0.01)

        assert session.exists("given-back")  # in the new buffers
