"""Checks as the module serves them and as `iot-sftp check` asks for them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.command_line.conftest import PROGRAM, Outcome
from tests.servers import Server

from iot.sftp.client import (
    InvalidRequest,
    NotConfigured,
    Secret,
    ServerSettings,
    Step,
)
from iot.sftp.module._app.check_server import CheckLimits, CheckServer
from iot.sftp.module._app.check_socket import NAME, connect, directories, encode_line

ASK = encode_line(command="check")
NOWHERE = ServerSettings("127.0.0.1", 1, "device", password=Secret("hunter2"))  # nothing listens there: a quick end


def not_configured() -> ServerSettings:
    message = "nothing is there yet"
    raise NotConfigured(message)


def unknown(name: str) -> ServerSettings:
    message = f"there is no server {name}"
    raise InvalidRequest(message)


def settings_of(server: Server) -> ServerSettings:
    assert server.key_file is not None
    return ServerSettings(server.host, server.port, server.user, private_key=Secret(server.key_file.read_text()))


@contextmanager
def serving(
    state: Path,
    settings: Callable[[], ServerSettings] = lambda: NOWHERE,
    diagnose: Callable[[ServerSettings], Generator[Step]] | None = None,
    servers: Sequence[str] | None = None,
    other: Callable[[str], ServerSettings] = unknown,
    **limits: float,
) -> Iterator[None]:
    options: dict[str, Any] = {"diagnose": diagnose} if diagnose else {}
    if servers is not None:
        options["servers"] = lambda: servers
    server = CheckServer(
        state, lambda name: settings() if name == "sftp" else other(name), limits=CheckLimits(**limits), **options
    )
    server.start()
    try:
        yield
    finally:
        server.stop()


def said_to(state: Path, request: bytes) -> list[dict[str, Any]]:
    """Say something to the module; return all that it answers, until it hangs up."""
    with connect(directories(state)[0], owner=os.geteuid()) as connection:
        connection.settimeout(60)
        with suppress(BrokenPipeError):  # it may have refused already
            connection.sendall(request)
        return answers(connection)


def answers(connection: socket.socket) -> list[dict[str, Any]]:
    """Return what is answered, until the module hangs up: in the middle of a request, that is a reset."""
    text = b""
    connection.settimeout(60)
    try:
        while piece := connection.recv(10_000):
            text += piece
    except ConnectionResetError:
        pass
    return [json.loads(part) for part in text.splitlines()]


def code_of(answer: list[dict[str, Any]]) -> Any:
    return answer[-1]["end"]["code"]


def check(state: Path, *arguments: str) -> Outcome:
    """Run `iot-sftp check` as in the module's container."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("IOT_SFTP_")}
    done = subprocess.run(
        [*PROGRAM, "check", *arguments],
        env=variables | {"SFTP_STATE_DIR": str(state)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def until_there(path: Path) -> None:
    end = time.monotonic() + 100
    while not path.is_socket():
        assert time.monotonic() < end
        time.sleep(0.02)


def left_by_a_killed_process(state: Path) -> None:
    directory, _ = directories(state)
    directory.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{directory}/{NAME}")


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something holds that nobody tells of."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
