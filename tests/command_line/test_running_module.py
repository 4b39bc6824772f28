"""`iot-sftp check` with a running module that does not answer as it should."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from iot.sftp.client import (
    ConnectionLost,
    DeadlineExceeded,
    Internal,
    SFTPError,
)
from iot.sftp.command_line._running_module import steps_of_module
from iot.sftp.module._app.check_socket import ANSWER_MAXIMUM, NAME, directories


@contextmanager
def answering(state: Path, answer: Callable[[socket.socket], None]) -> Iterator[dict[Path, int | None]]:
    """Listen in the module's place, and do something else."""
    directory, _ = directories(state)
    directory.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{directory}/{NAME}")
        listener.listen()

        def accept() -> None:
            connection, _ = listener.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield {directory: os.geteuid()}
        thread.join(60)


def failure_of(steps: Iterator[Any]) -> SFTPError:
    with pytest.raises(SFTPError) as raised:
        list(steps)
    return raised.value


@pytest.mark.parametrize("limit, timeout", [(0.2, None), (0.2, 60), (60, 0.2)])
def test_a_silent_module_is_given_up_in_bounded_time(tmp_path: Path, limit: float, timeout: float | None) -> None:
    given_up = threading.Event()
    started = time.monotonic()
    with answering(tmp_path, lambda _: void(given_up.wait(60))) as owners:
        assert isinstance(failure_of(steps_of_module(owners, timeout, first_limit=limit)), DeadlineExceeded)
        given_up.set()
    assert time.monotonic() - started < 30


def test_a_module_that_disconnects_is_reported(tmp_path: Path) -> None:
    with answering(tmp_path, lambda connection: void(connection.recv(100))) as owners:
        assert isinstance(failure_of(steps_of_module(owners, None)), ConnectionLost)


@pytest.mark.parametrize(
    "text",
    [
        b"what?\n",
        b"[]\n",
        b'{"step": 5}\n',
        b'{"step": {"x": 1}}\n',
        b'{"end": 5}\n',
        b"{}\n",
        b"x" * 2 * ANSWER_MAXIMUM,
    ],
)
def test_an_invalid_answer_is_reported(tmp_path: Path, text: bytes) -> None:
    def say(connection: socket.socket) -> None:
        connection.recv(100)
        connection.settimeout(60)
        with suppress(OSError):  # whoever reads may have enough
            connection.sendall(text)

    with answering(tmp_path, say) as owners:
        failure = failure_of(steps_of_module(owners, None))
    assert isinstance(failure, Internal)
    assert "another version" in failure.message


def void(_: object) -> None:
    """Return nothing."""
