"""Commands on the server, which are run for a hash: they may hang or flood, and nothing waits for them."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paramiko
import pytest
from tests.clients import connection_of
from tests.faulty_servers import PASSWORD, FaultyServer

from iot.sftp.client import Secret, ServerSettings, SFTPSession, TimeLimits
from iot.sftp.client._base.deadline import Deadline


class RunsCommands(FaultyServer):
    """Lets commands be run that say `words` without end."""

    def __init__(self, words: bytes) -> None:
        super().__init__()
        self._words = words
        self.commands: list[bytes] = []

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.commands.append(command)
        threading.Thread(target=self._say, args=(channel,), daemon=True).start()
        return True

    def _say(self, channel: paramiko.Channel) -> None:
        try:
            while self._words and not self.stopped.is_set():
                channel.sendall(self._words)
        except OSError:
            return


class RefusesCommands(FaultyServer):
    """Refuses each command, after a while."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = 0

    def check_channel_exec_request(self, _channel: paramiko.Channel, _command: bytes) -> bool:
        self.refused += 1
        time.sleep(0.2)
        return False


def test_of_many_files_at_once_one_finds_out_that_commands_are_refused(tmp_path: Path) -> None:
    """ProFTPD ends a connection on which it has refused some twenty."""
    server, names = RefusesCommands(), [f"file-{number}" for number in range(12)]
    server.files.update({name: bytearray(name.encode()) for name in names})
    with server.running() as port:
        session = SFTPSession(ServerSettings("127.0.0.1", port, "device", Secret(PASSWORD)))

        def download(name: str) -> str:
            return session.download_file(name, str(tmp_path / name), verify="sha256").verified

        with ThreadPoolExecutor(len(names)) as threads:
            assert set(threads.map(download, names)) == {"read back"}
        assert server.refused == 1
        session.disconnect()


@pytest.mark.parametrize(
    "words", [b"", b"x" * 30_000, b"\n"], ids=["says nothing", "floods", "says one line after the other"]
)
@pytest.mark.parametrize("timeout", [40, None])
def test_a_command_that_never_ends_is_given_up_and_the_file_is_read_back(
    tmp_path: Path, words: bytes, timeout: float | None
) -> None:
    server, content = RunsCommands(words), os.urandom(50_000)
    with server.running() as port:
        session = SFTPSession(
            ServerSettings("127.0.0.1", port, "device", Secret(PASSWORD), time_limits=TimeLimits(stall=0.8))
        )
        for number in range(3):
            server.files[f"there-{number}"] = bytearray(content)
            started = time.monotonic()
            here = tmp_path / f"here-{number}"
            done = session.download_file(f"there-{number}", str(here), verify="sha256", timeout=timeout)
            assert done.verified == "read back"
            assert here.read_bytes() == content
            assert time.monotonic() - started < 20
        assert len(server.commands) <= (3 if words else 1), "what hung once is not waited for again"
        assert session.counts.connections == 1
        session.disconnect()


def test_a_connection_that_breaks_when_a_command_has_answered_ends_its_thread_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, close, broken = RunsCommands(b"x" * 30_000), paramiko.Channel.close, threading.Event()

    def breaks(channel: paramiko.Channel) -> None:
        close(channel)
        if threading.current_thread().name == "sftp-command":
            broken.set()
            raise EOFError  # as Transport.send does where the connection has gone

    monkeypatch.setattr(paramiko.Channel, "close", breaks)
    server.files["there"] = bytearray(b"content")
    with server.running() as port:
        session = SFTPSession(ServerSettings("127.0.0.1", port, "device", Secret(PASSWORD)))
        assert session.download_file("there", str(tmp_path / "here"), verify="sha256").verified == "read back"
        assert broken.is_set()
        session.disconnect()


class RefusesCommandsSlowly(FaultyServer):
    """Takes its time to refuse a command."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: list[bytes] = []

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        del channel
        self.commands.append(command)
        self.stopped.wait(0.5)
        return False


class RunsThemTogether(FaultyServer):
    """Ends the first command when a second one has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.has_second = threading.Event()
        self.commands: list[bytes] = []

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.commands.append(command)
        threading.Thread(target=self._end, args=(channel, len(self.commands)), daemon=True).start()
        return True

    def _end(self, channel: paramiko.Channel, number: int) -> None:
        if number > 1:
            self.has_second.set()
        self.has_second.wait(20)
        channel.close()


def run_at_once(session: SFTPSession, threads: int) -> list[bytes]:
    session.connect()
    connection = connection_of(session)
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda _: connection.run("sha256sum", Deadline(60)), range(threads)))


def test_a_server_that_refuses_commands_is_asked_once_by_all_threads() -> None:
    server = RefusesCommandsSlowly()
    with server.running() as port:
        session = SFTPSession(ServerSettings("127.0.0.1", port, "device", Secret(PASSWORD)))
        assert run_at_once(session, 16) == [b""] * 16
        assert len(server.commands) == 1
        session.disconnect()


def test_a_command_does_not_wait_for_the_end_of_the_first_one() -> None:
    server = RunsThemTogether()
    with server.running() as port:
        session = SFTPSession(ServerSettings("127.0.0.1", port, "device", Secret(PASSWORD)))
        run_at_once(session, 4)
        assert len(server.commands) == 4
        session.disconnect()
