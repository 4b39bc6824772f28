"""What must hold whatever breaks; each thing that does not is a sentence in `wrong`."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil
from tests.faults.faults import Fault
from tests.faults.scene import Scene
from tests.faults.versions import Mixture, version_at
from tests.faults.work import MARGIN, Call, Work
from tests.faulty_servers import PASSWORD

from localedge import HubError

CLEAN_LIMIT = 15.0  # seconds until nothing is left behind
REPORT_LIMIT = 60.0  # seconds until the last desired properties are acknowledged
THREADS_MAXIMUM = 110
DESCRIPTORS_MAXIMUM = 150
MEMORY_MAXIMUM = 300 * 1024 * 1024  # bytes
GROWTH_MAXIMUM = 48 * 1024 * 1024  # bytes, in the second half of a life: what allocators keep is reached in the first
SHORT_LIFE = 24  # samples
SAMPLES = 4  # of which the median is taken, as the calls of each step are others
OPEN_EVERY = 3.0  # seconds


@dataclass
class Life:
    """One process of the module: what it used each time that all was quiet."""

    memory: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def growth(self) -> dict[str, float]:
        """Return how much more it used in the end than after half of its steps; nothing of a short life."""
        half = len(self.memory) // 2
        if half < SHORT_LIFE // 2:
            return {}
        samples = {"memory": self.memory, "threads": self.threads, "descriptors": self.descriptors}
        return {
            name: statistics.median(values[-SAMPLES:]) - statistics.median(values[half - SAMPLES : half])
            for name, values in samples.items()
        }


class Checker:
    """Looks at a scene, during a fault and after it."""

    def __init__(self, scene: Scene, work: Work) -> None:
        """Look at nothing yet."""
        self.files = 0
        self.deliveries = self.answers = self.repeated_answers = self.repeated_messages = 0
        self.lives: dict[int, Life] = {}
        self._scene = scene
        self._work = work
        self._log_read = 0
        self._endings = 0
        self._messages_seen = 0

    def glance(self) -> list[str]:
        """Look at every file while things are going on: it is old or new."""
        wrong = []
        for destination in self._work.destinations:
            self.files += 1
            try:
                found = version_at(destination.path)
            except Mixture as mixture:
                wrong.append(f"{destination.name} holds {mixture}")
            else:
                if found not in destination.may_hold:
                    wrong.append(f"{destination.name} holds {found}, and not one of {destination.may_hold}")
        return wrong

    def calls(self, calls: Iterable[Call], fault: Fault) -> list[str]:
        """Look at calls that have ended: each was answered once, and in time unless it was cut off."""
        wrong = []
        for call in calls:
            what = f"{call.method} {call.payload}, {call.timeout:g} s"
            if not call.status and not fault.cuts_off:
                wrong.append(f"no answer: {what}: {call.outcome} after {call.seconds:.1f} s")
            elif not fault.cuts_off and call.seconds > call.timeout + MARGIN:
                wrong.append(f"late: {what}: {call.outcome} after {call.seconds:.1f} s")
            elif call.code == "internal":
                wrong.append(f"internal error: {what}: {call.answer}")
            wrong += self._leaks(call.answer, "the answer to " + what)
        return wrong + self._answered_again(fault)

    def _answered_again(self, fault: Fault) -> list[str]:
        """Look for answers that came twice: at QoS 1 they do, if the connection broke before they were acknowledged."""
        self.deliveries, self.answers, found = self._scene.tap.take()
        self.repeated_answers += len(found) if fault.cuts_off else 0
        return [] if fault.cuts_off else found

    def quiet(self, fault: Fault) -> list[str]:
        """Look at everything, now that nothing goes on any more."""
        wrong = self._left_behind()
        wrong += self._answered_again(fault)  # when the connection is back
        wrong += self.glance()
        for destination in self._work.destinations:
            try:
                destination.may_hold = {version_at(destination.path)}
            except Mixture:
                destination.may_hold = {None}
        endings, self._endings = self._scene.endings[self._endings :], len(self._scene.endings)
        wrong += [f"the module ended with status {status}" for status in endings if status not in fault.endings]
        wrong += self._log()
        wrong += self._reported()
        wrong += self._messages()
        wrong += self._written()
        wrong += self._resources()
        return wrong

    def _left_behind(self) -> list[str]:
        """Wait until the temporary files are gone; a session that is opened again clears up."""
        scene = self._scene
        roots = scene.local, scene.remote
        records = scene.edge.state_directory / "transfers"
        end = time.monotonic() + CLEAN_LIMIT
        again = 0.0
        while left := [
            *(path for root in roots for path in root.rglob(".iot-sftp-*")),
            *(record for record in records.glob("*.transfer") if not _looks_again(record)),
        ]:
            if time.monotonic() > end:
                return [f"left behind: {path}" for path in left]
            if time.monotonic() >= again:
                self._open_anew()
                again = time.monotonic() + OPEN_EVERY
            time.sleep(0.2)
        return []

    def _open_anew(self) -> None:
        for method, payload in (("disconnect", {}), ("exists", {"path": "."})):
            try:
                self._scene.edge.invoke("sftp", method, payload)
            except HubError:
                return

    def _leaks(self, text: str, where: str) -> list[str]:
        return [f"a secret in {where}" for secret in [*self._scene.secrets, PASSWORD] if secret in text]

    def _log(self) -> list[str]:
        with self._scene.edge.log_file.open("rb") as log:
            log.seek(self._log_read)
            new = log.read()
        self._log_read += len(new)
        text = new.decode(errors="replace")
        # At the level of debugging, paramiko reports broken connections with a trace
        marks = "Traceback", "internal error"
        found = [line for line in text.splitlines() if "[DBG]" not in line and any(mark in line for mark in marks)]
        wrong = [f"in the log: {line}" for line in found]
        return wrong + self._leaks(text, "the log")

    def _reported(self) -> list[str]:
        """Look at the reported properties: what is desired last is acknowledged in the end."""
        edge = self._scene.edge
        version = edge.desired["$version"]
        try:
            reported = edge.wait_for_reported(
                lambda found: bool(found["transfers"]["av"] == version == found["sftp"]["av"]), REPORT_LIMIT
            )
        except TimeoutError:
            said = {name: edge.reported.get(name, {}) for name in ("sftp", "transfers")}
            return [f"desired properties {version} are not acknowledged: {said}"]
        return self._leaks(json.dumps(reported), "the reported properties")

    def _messages(self) -> list[str]:
        """Look at the messages: each task that ended has told of it, under one name."""
        wrong = []
        ended, self._work.tasks_ended = self._work.tasks_ended, {}
        for name, status in ended.items():
            if status == "not asked":
                continue
            try:
                self._scene.edge.wait_for_message(
                    lambda message, mark=f"{name}-{status}": message.properties.get("$.mid") == mark  # type: ignore[misc]
                )
            except TimeoutError:
                wrong.append(f"no message told that the task {name} is {status}")
        messages = self._scene.edge.messages_of("tasks")
        names = [message.properties.get("$.mid") for message in messages]
        self.repeated_messages = len(names) - len(set(names))
        seen, self._messages_seen = self._messages_seen, len(messages)
        return wrong + self._leaks("".join(str(message) for message in messages[seen:]), "a message")

    def _written(self) -> list[str]:
        """Look at what the module has recorded, and at what it reports to whoever scrapes it."""
        wrong = []
        for path in self._scene.edge.state_directory.rglob("*"):
            with suppress(OSError):  # it has just gone, or is the socket of iot-sftp check
                wrong += self._leaks(path.read_bytes().decode(errors="replace"), f"{path}")
        place = f"http://127.0.0.1:{self._scene.metrics_port}/metrics"
        with suppress(URLError), urlopen(place, timeout=5) as page:
            wrong += self._leaks(page.read().decode(), "the metrics")
        return wrong

    def _resources(self) -> list[str]:
        pid = self._scene.edge.module_pid
        if pid is None:
            return []
        life = self.lives.setdefault(pid, Life())
        try:
            process = psutil.Process(pid)
            life.memory.append(process.memory_info().rss)
            life.threads.append(process.num_threads())
            life.descriptors.append(process.num_fds())
        except psutil.NoSuchProcess:
            return []
        used = {
            "threads": (life.threads[-1], THREADS_MAXIMUM),
            "descriptors": (life.descriptors[-1], DESCRIPTORS_MAXIMUM),
            "bytes of memory": (life.memory[-1], MEMORY_MAXIMUM),
            "bytes more than before": (life.growth().get("memory", 0), GROWTH_MAXIMUM),
        }
        return [f"the module has {count} {name}" for name, (count, maximum) in used.items() if count > maximum]


def _looks_again(record: Path) -> bool:
    """Return whether a record is of a temporary file that was not there, and may come out of a lost connection yet."""
    try:
        progress = json.loads(record.read_text())
    except (OSError, ValueError):
        return False
    return bool(progress["direction"] == "upload" and not progress["opened"] and not progress["aside"])
