"""A process whose children run the client, and may be killed: `python -m tests.victims SETTINGS`.

Each line of its input is a job: the name of an operation and its arguments. It answers with the child's process id,
and when that has ended, with what it said: the fields of its result, the error's code, or nothing if it was killed.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iot.sftp.client import Secret, ServerSettings, SFTPError, SFTPSession
from iot.sftp.client._transfer import download_target, pipeline, upload_body

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server

ROOT = Path(__file__).parents[1]


@dataclass
class Victims:
    """The process, from the side of the test."""

    process: subprocess.Popen[str]

    def start(self, operation: str, *arguments: str, limit: int | None = None) -> int:
        """Have a child run an operation, and return its process id."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([operation, arguments, limit]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def outcome(self) -> dict[str, Any] | None:
        """Return what the child said at its end, `None` if it was killed."""
        assert self.process.stdout
        said = json.loads(self.process.stdout.readline())
        assert said is None or isinstance(said, dict)
        return said


@contextmanager
def victims(server: Server, port: int, state: Path, *, save_at_once: bool = True) -> Iterator[Victims]:
    """Run the process, for a server behind a port.

    Parameters:
        server: whose credentials to take.
        port: where it is reached.
        state: the directory of unfinished transfers.
        save_at_once: write progress down whenever there is some, so that the tests need not be slow.
    """
    options = [server.host, port, server.user, server.password, str(server.key_file or ""), str(state), save_at_once]
    command = [sys.executable, "-m", "tests.victims", json.dumps(options)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Victims(process)


def main() -> None:
    """Do one job after the other, each in a child."""
    host, port, user, password, key, state, save_at_once = json.loads(sys.argv[1])
    settings = ServerSettings(
        host,
        port,
        user,
        Secret(password) if password else None,
        Secret.from_file(key) if key else None,
        state=Path(state),
    )
    if save_at_once:
        pipeline.TICK = 0.002
        download_target.SAVE_EVERY = upload_body.SAVE_EVERY = 0.0
    for line in sys.stdin:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            os.write(writer, json.dumps(_run(settings, *json.loads(line))).encode())
            os._exit(0)
        os.close(writer)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        with os.fdopen(reader) as said:
            words = said.read()
        os.waitpid(child, 0)
        sys.stdout.write((words or "null") + "\n")
        sys.stdout.flush()


def _run(settings: ServerSettings, operation: str, arguments: list[str], limit: int | None) -> dict[str, Any]:
    session = SFTPSession(settings)
    session.limit_bandwidth(limit)
    try:
        session.connect()
        idle = _peak()
        result = getattr(session, operation)(*arguments)
    except SFTPError as error:
        return {"error": error.code}
    return (asdict(result) if hasattr(result, "bytes") else {}) | {"grown": _peak() - idle, "peak": _peak()}


def _peak() -> int:
    """Return the most memory that this process had so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
