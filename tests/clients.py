"""Clients, sessions and settings for the servers of the tests."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from iot.sftp.client import IoTSFTPClient, Secret, ServerSettings, SFTPError, SFTPSession, TimeLimits

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    import pytest
    from tests.servers import Server

    from iot.sftp.client._ssh.connection import Connection

SHORT = TimeLimits(connect=20, stall=20)
HUNG = 60.0  # seconds: what only bounds a hang, on a machine that is busy


def client_of(server: Server, *, port: int | None = None, **options: Any) -> IoTSFTPClient:
    """Return a client of a server, logged in with what the server takes."""
    options = {"private_key": server.key_file} | options
    return IoTSFTPClient(server.host, port or server.port, server.user, server.password, **options)


def settings_of(server: Server, **options: Any) -> ServerSettings:
    """Return the settings of a server, with the credential that it takes."""
    values: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "password": Secret(server.password) if server.password else None,
        "private_key": Secret.from_file(server.key_file) if server.key_file else None,
    }
    return ServerSettings(**(values | options))


@contextmanager
def session_of(server: Server, **options: Any) -> Iterator[SFTPSession]:
    """Give a session with a server, and end it."""
    session = SFTPSession(settings_of(server, **options))
    try:
        yield session
    finally:
        session.disconnect()


def failure_of_ended_connect(session: SFTPSession, asked: threading.Event) -> SFTPError:
    """Connect, call `disconnect` when the server was asked, and return what `connect` failed with."""
    with ThreadPoolExecutor(1) as pool:
        connecting = pool.submit(session.connect)
        assert asked.wait(HUNG)
        session.disconnect()
        error = connecting.exception(HUNG)
    assert isinstance(error, SFTPError), error
    return error


def connection_of(session: SFTPSession) -> Connection:
    """Return the open connection of a session, for what a test does beneath it."""
    connection = session._live.current
    assert connection is not None, "the session is not open"
    return connection


def set_retry_policy(monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    """Have sessions that are made from now on retry by another policy; what is not named stays as it is."""
    policy = dataclasses.replace(SFTPSession._retry_policy, **values)
    monkeypatch.setattr(SFTPSession, "_retry_policy", policy)
