"""The device: the module's real parts on a state directory, which can be closed, killed and built again."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.clients import set_retry_policy
from tests.model.clock import Clock
from tests.model.server import PASSWORD, USER
from tests.tasks import end_of, submit

from iot.sftp.client import Secret, ServerSettings, SFTPError, SFTPSession, TimeLimits
from iot.sftp.client._base.backoff import Backoff
from iot.sftp.module._base.token_bucket import TokenBucket
from iot.sftp.module._documents.retention import read_retention
from iot.sftp.module._documents.rule import read_rules
from iot.sftp.module._documents.template import Placeholders
from iot.sftp.module._retention.proof import Duties
from iot.sftp.module._retention.retention import Retention, RetentionContext
from iot.sftp.module._rules.rule_status import RuleReporter
from iot.sftp.module._rules.run import RuleContext
from iot.sftp.module._rules.worker import RuleWorker
from iot.sftp.module._work.delivery_ledgers import DeliveryLedgers
from iot.sftp.module._work.file_events import FileEvents
from iot.sftp.module._work.journal import Journal
from iot.sftp.module._work.local_files import LocalRoot
from iot.sftp.module._work.room import Need
from iot.sftp.module._work.server_slots import ServerSlots
from iot.sftp.module._work.servers import Servers
from iot.sftp.module._work.task_limits import TaskLimits
from iot.sftp.module._work.tasks import Tasks
from iot.sftp.module._work.transfers import Transfers

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
HANGS = 40.0  # seconds after which a process of its own says where it stands
LONGEST_TASK = 30.0  # seconds
PAUSE = 0.005  # seconds between two tries, instead of some seconds


@dataclass(frozen=True)
class Place:
    """Where a device is, and how it reaches the server: all that a process of its own has to be given."""

    base: str
    port: int
    host_key: str

    @property
    def root(self) -> Path:
        """The local root."""
        return Path(self.base) / "data"

    @property
    def state(self) -> Path:
        """The state directory."""
        return Path(self.base) / "state"

    def session(self) -> SFTPSession:
        """Return a session as the module has it."""
        limits = TimeLimits(connect=10, stall=10)
        settings = ServerSettings(
            "127.0.0.1",
            self.port,
            USER,
            Secret(PASSWORD),
            host_keys=(self.host_key,),
            time_limits=limits,
            state=self.state / "transfers",
        )
        return SFTPSession(settings, local_files=LocalRoot(self.root, self.state))


@dataclass
class Device:
    """The module's parts, made when they are needed; the rules run when they are asked to."""

    place: Place
    _servers: Servers = field(default_factory=lambda: Servers(lambda _name, _state: None))
    _parts: RuleContext | None = None
    _rules: dict[str, RuleWorker] = field(default_factory=dict)
    _tasks: Tasks | None = None
    _journal: Journal | None = None

    def __post_init__(self) -> None:
        """Make the directories."""
        for path in (self.place.root, self.place.state):
            path.mkdir(parents=True, exist_ok=True)

    @property
    def parts(self) -> RuleContext:
        """What rules work with."""
        if self._parts is None:
            self._servers = Servers(lambda _name, _state: None)
            self._servers.default.replace(self.place.session())
            files = LocalRoot(self.place.root, self.place.state)
            ledgers = DeliveryLedgers(self.place.state)
            self._parts = RuleContext(Transfers(self._servers, ledgers, files), ServerSlots(2), ledgers, files)
        return self._parts

    def is_careful(self, document: dict[str, Any]) -> bool:
        """Return whether the next run of a rule compares what is at the destination: after one that was cut off."""
        worker = self._rules.get(document["name"])
        return worker is None or worker._is_careful

    def run_rule(self, document: dict[str, Any], is_careful: bool = True) -> str:  # noqa: FBT002 - it comes as JSON
        """Let a rule run once, and return the code of its failure, or nothing.

        A process that begins is always careful. It is as careful here as the one before, which has ended well: only so
        it has many files in flight per thread when it is killed.
        """
        name = document["name"]
        section = read_rules([document])
        assert section is not None
        assert (section.error, section.errors) == (None, {}), section
        rule, worker = section.rules[name], self._rules.get(name)
        if worker is None or worker.rule != rule:
            reporter = RuleReporter(lambda: None, TokenBucket(1, 1), 1)
            worker = self._rules[name] = RuleWorker(rule, self.parts, reporter)
            worker._is_careful = is_careful
        worker.run_once()
        return worker.status.code or ""

    def retain(self, entries: list[dict[str, Any]], rules: list[dict[str, Any]]) -> None:
        """Let retention look once, while rules are in force."""
        section, parts = read_rules(rules), self.parts
        assert section is not None
        duties = Duties(lambda: section.rules, self._servers, parts.local_files, self.place.state, time.time)
        events = FileEvents(parts.ledgers.events, self.journal.messages, lambda: None)
        context = RetentionContext(
            parts.local_files, self.place.state, parts.ledgers.delivered, duties, events, time.time
        )
        retention = Retention(context)
        retention.apply(read_retention(entries, Placeholders()))
        retention.make_room(Need())
        retention.stop(LONGEST_TASK)

    @property
    def journal(self) -> Journal:
        """The journal."""
        if self._journal is None:
            self._journal = Journal(self.place.state)
        return self._journal

    @property
    def tasks(self) -> Tasks:
        """The tasks; those of an earlier process go on."""
        if self._tasks is None:
            limits = TaskLimits(backoff=Backoff(PAUSE, 4 * PAUSE))
            parts = self.parts
            self._tasks = Tasks(self.journal, parts.slots, parts.transfers.work, limits=limits)
            self._tasks.start()
        return self._tasks

    def run_task(self, method: str, request: dict[str, Any]) -> str:
        """Give out a task, wait for its end, and return the code of its failure, or nothing."""
        ended = end_of(self.tasks, submit(self.tasks, method, request), LONGEST_TASK)
        return ended["code"] or ("" if ended["status"] == "Completed" else ended["status"])

    def end_tasks(self) -> str:
        """Let the tasks of an earlier process come to their ends."""
        for document in self.tasks.newest(100):
            end_of(self.tasks, document["task_id"], LONGEST_TASK)
        return ""

    def call(self, method: str, *arguments: str) -> str:
        """Call a method of the session in force, and return the code of its failure, or nothing."""
        try:
            _ = self.parts
            with self._servers.default.use() as session:
                getattr(session, method)(*arguments)
        except SFTPError as error:
            return error.code
        return ""

    def close(self) -> None:
        """End, as the module does when it is asked to."""
        if self._tasks is not None:
            self._tasks.stop(10)
        if self._parts is not None:
            self._parts.ledgers.close()
            self._servers.close()
        if self._journal is not None:
            self._journal.close()
        self._parts = self._tasks = self._journal = None
        self._rules.clear()


@contextmanager
def hurried() -> Iterator[None]:
    """Let this process wait for milliseconds where it waits for seconds between two tries, and log nothing."""
    logger = logging.getLogger("iot.sftp")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with pytest.MonkeyPatch.context() as monkeypatch:
            set_retry_policy(monkeypatch, first_pause=PAUSE, longest_pause=4 * PAUSE)
            yield
    finally:
        logger.setLevel(level)


# --- a process of its own ---------------------------------------------------------------------------------------------


@dataclass
class Victims:
    """A process whose children are devices that may be killed: forked from one that has imported everything."""

    process: subprocess.Popen[str]

    def start(self, place: Place, ahead: float, work: list[Any]) -> int:
        """Have a child do some work (a method of `Device` and its arguments), and return its process id."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([asdict(place), ahead, work]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def outcome(self) -> str | None:
        """Wait for the child's end, and return what the work returned; `None` if it was killed."""
        assert self.process.stdout
        said = json.loads(self.process.stdout.readline())
        assert said is None or isinstance(said, str)
        return said


@contextmanager
def victims() -> Iterator[Victims]:
    """Run the process."""
    command = [sys.executable, "-m", "tests.model.device"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Victims(process)
        finally:
            assert process.stdin
            process.stdin.close()
            process.wait(30)


def main() -> None:
    """Do one piece of work after the other, each in a child."""
    with hurried():
        _work_off()


def _work_off() -> None:
    for line in sys.stdin:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            place, ahead, (method, *arguments) = json.loads(line)
            faulthandler.dump_traceback_later(HANGS)
            try:
                with Clock(ahead).in_force():
                    said = getattr(Device(Place(**place)), method)(*arguments)
                os.write(writer, json.dumps(said).encode())
            finally:
                os.kill(os.getpid(), signal.SIGKILL)  # its threads are not worth waiting for
        os.close(writer)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        with os.fdopen(reader) as said_by_child:
            words = said_by_child.read()
        os.waitpid(child, 0)
        sys.stdout.write((words or "null") + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
