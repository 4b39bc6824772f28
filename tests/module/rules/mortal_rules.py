"""A process whose children run a rule once, and die at a step of it: `python -m tests.module.rules.mortal_rules`.

Each line of its input is a job. It answers with what the run has transferred, or with `null` for a child that died.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iot.sftp.client import Secret, ServerSettings, SFTPSession
from iot.sftp.client._base.errors import SFTPError
from iot.sftp.client._files.local_files import LocalFiles
from iot.sftp.client._files.put_aside import _Mover
from iot.sftp.client._files.remote_files import RemoteFiles
from iot.sftp.client._folders.marker_files import LocalMarkerFiles, RemoteMarkerFiles
from iot.sftp.module._base.token_bucket import TokenBucket
from iot.sftp.module._documents.rule import read_rules
from iot.sftp.module._rules.rule_status import RuleReporter
from iot.sftp.module._rules.run import RuleContext
from iot.sftp.module._rules.worker import RuleWorker
from iot.sftp.module._work.delivery_ledger import DeliveryLedger
from iot.sftp.module._work.delivery_ledgers import DeliveryLedgers
from iot.sftp.module._work.failure_memory import FailureMemory
from iot.sftp.module._work.group_commit import GroupCommit
from iot.sftp.module._work.local_files import LocalRoot
from iot.sftp.module._work.marker_memory import MarkerMemory
from iot.sftp.module._work.server_slots import ServerSlots
from iot.sftp.module._work.servers import Servers
from iot.sftp.module._work.transfers import Transfers

if TYPE_CHECKING:
    from tests.servers import Server

ROOT = Path(__file__).parents[3]
# What changes anything on either side, or in the records: each call of these is a step
STEPS: dict[type, tuple[str, ...]] = {
    RemoteFiles: ("remove", "rename", "posix_rename"),
    RemoteMarkerFiles: ("write",),
    LocalMarkerFiles: ("remove", "write"),
    LocalFiles: ("remove_version", "move_version"),
    _Mover: ("move",),
    DeliveryLedger: ("hand_in", "hand_in_settled"),
    GroupCommit: ("wait",),
    MarkerMemory: ("settle_owed", "note_spent", "settle_spent"),
    FailureMemory: ("add", "forget"),
}


@dataclass
class Mortals:
    """The process, from the side of a test."""

    process: subprocess.Popen[str]
    settings: list[Any]

    def run(self, directory: Path, rule: dict[str, Any], last: int | None = None) -> dict[str, Any] | None:
        """Run a rule once; return its status, or `None` if it died in front of its step number `last`."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([self.settings, str(directory), rule, last]) + "\n")
        self.process.stdin.flush()
        said = json.loads(self.process.stdout.readline())
        assert said is None or isinstance(said, dict)
        return said


@contextmanager
def mortals(server: Server) -> Iterator[Mortals]:
    """Run the process, for one server."""
    given = [server.host, server.port, server.user, server.password, str(server.key_file or "")]
    command = [sys.executable, "-m", "tests.module.rules.mortal_rules"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Mortals(process, given)
        finally:
            assert process.stdin
            process.stdin.close()
            process.wait(60)


def main() -> None:
    """Do one job after the other, each in a child."""
    for line in sys.stdin:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            try:
                os.write(writer, json.dumps(_run(*json.loads(line))).encode())
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        os.close(writer)
        with os.fdopen(reader) as said:
            words = said.read()
        os.waitpid(child, 0)
        sys.stdout.write((words or "null") + "\n")
        sys.stdout.flush()


def _run(settings: list[Any], directory: str, document: dict[str, Any], last: int | None) -> dict[str, Any]:
    host, port, user, password, key_file = settings
    secret, key = (Secret(password) if password else None), (Secret.from_file(key_file) if key_file else None)
    root, state = Path(directory) / "data", Path(directory) / "state"
    files = LocalRoot(root, state)
    servers = Servers(lambda _name, _state: None)
    session = SFTPSession(ServerSettings(host, port, user, secret, key, state=state / "transfers"), local_files=files)
    servers.default.replace(session)
    ledgers = DeliveryLedgers(state)
    context = RuleContext(Transfers(servers, ledgers, files), ServerSlots(2), ledgers, files)
    section = read_rules([document])
    assert section is not None
    assert (section.error, section.errors) == (None, {}), section
    worker = RuleWorker(section.rules["r"], context, RuleReporter(lambda: None, TokenBucket(1, 1), 1))
    if last is not None:
        _be_mortal(last)
    try:
        worker.run_once()
    except SFTPError as error:
        return {"code": error.code}
    return worker.status.as_properties()


def _be_mortal(last: int) -> None:
    steps = iter(range(last))

    def mortal(owner: type, name: str) -> None:
        work: Callable[..., Any] = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if next(steps, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return work(*arguments, **options)

        setattr(owner, name, call)

    for owner, names in STEPS.items():
        for name in names:
            mortal(owner, name)


if __name__ == "__main__":
    main()
