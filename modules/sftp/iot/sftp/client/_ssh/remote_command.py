"""Commands on the server, such as `sha256sum`, which save a transfer where a server allows them."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from paramiko.ssh_exception import SSHException

from iot.sftp.client._base.deadline import GLANCE
from iot.sftp.client._base.threads import start_thread
from iot.sftp.client._ssh.paramiko_internals.channel_data import divert

if TYPE_CHECKING:
    from collections.abc import Callable

    import paramiko

    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._base.settings import TimeLimits
    from iot.sftp.client._ssh.paramiko_internals.transport import Transport

logger = logging.getLogger(__name__)

LONGEST_OUTPUT = 4096  # bytes
TIME_LIMIT_STALLS = 4  # times the stall limit that a command may take; half of a call's time at most


class RemoteCommands:
    """Runs commands on one connection, until one of them is refused or hangs; thread-safe.

    Until the server has taken the first one, no other is requested: a server that refuses all is asked once.
    """

    def __init__(self, transport: Transport, limits: TimeLimits, keep_alive: Callable[[Deadline], object]) -> None:
        """Take a connection.

        Parameters:
            transport: of the connection.
            limits: of the server.
            keep_alive: asks the server for an answer, and raises if there is none.
        """
        self._transport = transport
        self._limits = limits
        self._keep_alive = keep_alive
        self._are_given_up = False
        self._are_taken = False
        self._finding_out = threading.Lock()  # whether the server takes commands

    def run(self, command: str, deadline: Deadline) -> bytes:
        """Return what a command prints, a few lines at most.

        Nothing if the server allows no commands, or if a command has not ended in time: the caller has another way.

        Raises:
            DeadlineExceeded: the call's time has run out.
            ConnectionLost: the server is dead.
        """
        while not self._are_taken and not self._are_given_up:
            if self._finding_out.acquire(timeout=deadline.wait_at_most(GLANCE)):
                try:
                    return self._request(command, deadline)
                finally:
                    self._finding_out.release()
            deadline.check()
        return self._request(command, deadline)

    def _request(self, command: str, deadline: Deadline) -> bytes:
        if self._are_given_up:
            return b""
        output: Future[bytes] = Future()
        has_ended = threading.Event()
        start_thread(self._run, command, output, has_ended, name="sftp-command")
        try:
            return self._await(output, deadline)
        finally:
            has_ended.set()

    def _run(self, command: str, output: Future[bytes], has_ended: threading.Event) -> None:
        printed = b""
        try:
            with suppress(Exception):  # the server allows no commands, or the connection broke
                channel = self._transport.open_session(timeout=self._limits.connect)
                with closing(channel):
                    start_thread(_close_after, has_ended, channel, name="sftp-command-end")
                    printed = self._output_of(channel, command)
        finally:
            has_ended.set()
            output.set_result(printed)

    def _output_of(self, channel: paramiko.Channel, command: str) -> bytes:
        """Return what a command prints, until it ends or has printed too much for an answer."""
        output = bytearray()
        has_ended = threading.Event()

        def take(data: bytes | memoryview) -> None:
            output.extend(data[: LONGEST_OUTPUT - len(output)])
            if len(output) >= LONGEST_OUTPUT:
                has_ended.set()

        divert(channel, take, has_ended.set)
        try:
            channel.exec_command(command)
        except SSHException:  # refused: ProFTPD ends the whole connection when it has refused some twenty
            self._are_given_up = True
            raise
        self._are_taken = True
        channel.shutdown_write()
        has_ended.wait()
        return bytes(output)

    def _await(self, output: Future[bytes], deadline: Deadline) -> bytes:
        end = time.monotonic() + min(TIME_LIMIT_STALLS * self._limits.stall, deadline.remaining() / 2)
        asked = time.monotonic()
        while True:
            try:
                return output.result(deadline.wait_at_most(min(GLANCE, max(end - time.monotonic(), 0.0))))
            except (FutureTimeoutError, TimeoutError):
                deadline.check()
            if time.monotonic() >= end:
                logger.info("A command on the server does not end: it is given up, and no other one is run")
                self._are_given_up = True
                return b""
            if time.monotonic() - asked >= self._limits.stall / 2:
                self._keep_alive(deadline)  # a command may take its time, but the server has to be alive
                asked = time.monotonic()


def _close_after(has_ended: threading.Event, channel: paramiko.Channel) -> None:
    has_ended.wait()
    with suppress(OSError, EOFError):
        channel.close()
