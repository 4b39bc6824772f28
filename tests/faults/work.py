"""What the module is asked to do meanwhile: calls and tasks, and what each file may hold because of them."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.scene import Scene
from tests.faults.versions import version_in

from localedge import HubError

MARGIN = 8.0  # seconds that an answer may take beyond its time limit, on a busy machine
TIMEOUTS = (1.5, 6.0)  # seconds that a call gives the module
DESTINATIONS = 4  # on either side
TASK_LIMIT = 90.0  # seconds until a task has ended once everything works again
QUESTIONS = ("is_connected", "list_tasks", "get_status", "test_connection", "no_such_method")
ENDED = ("Completed", "Failed", "Cancelled")

Versions = set[str | None]
"""What a file may hold; `None` is that there is no file."""


@dataclass(eq=False)
class Destination:
    """A file that calls change: never two at a time, so that it is known what it may hold."""

    name: str
    path: Path
    may_hold: Versions = field(default_factory=lambda: {None})
    taken: bool = False
    unfinished: tuple[str, dict[str, Any]] | None = None  # the transfer to it that was not carried out


@dataclass(eq=False)
class Call:
    """One call of a direct method."""

    method: str
    payload: dict[str, Any]
    timeout: float
    changes: dict[Destination, Versions]
    """What its destinations hold once it was carried out."""
    future: Future[tuple[int, Any]]
    started: float
    ended: float = 0.0
    status: int = 0  # 0: no answer of the module
    code: str = ""
    answer: str = ""

    @property
    def seconds(self) -> float:
        """How long its caller waited."""
        return self.ended - self.started

    @property
    def outcome(self) -> str:
        """The answer in a few words."""
        return f"{self.status} {self.code}".strip() if self.status else f"no answer ({self.code})"


class Work:
    """Begins calls and follows them to their ends."""

    def __init__(self, scene: Scene, chance: random.Random) -> None:
        """Work with the destinations of a scene; none of them is there yet."""
        self.only: str | None = None  # the one operation that is asked for now
        self.tasks: dict[str, Call] = {}
        self.tasks_ended: dict[str, str] = {}
        self._scene = scene
        self._chance = chance
        self._number = 0
        self._versions = {name: version_in(content) for name, content in scene.sources.items()}
        self.local = [Destination(f"in/{n}", scene.local / f"in/{n}") for n in range(DESTINATIONS)]
        self.remote = [Destination(f"up/{n}", scene.remote / f"up/{n}") for n in range(DESTINATIONS)]
        self._unclear: list[Call] = []  # of tasks: it is not known whether they were accepted
        self._operations: dict[str, Callable[[], Call | None]] = {
            "download": lambda: self._transfer("download_file", self.local),
            "upload": lambda: self._transfer("upload_file", self.remote),
            "task down": lambda: self._transfer("download_file", self.local, background=True),
            "task up": lambda: self._transfer("upload_file", self.remote, background=True),
            "move": self._move,
            "delete": self._delete,
            "exists": lambda: self._call("exists", {"path": self._chance.choice(["up/0", "source-0-0"])}),
            "list": lambda: self._call("list_files", {"path": self._chance.choice([".", "up"])}),
            "ask": lambda: self._call(self._chance.choice(QUESTIONS), {}),
        }
        self._weights = {"download": 6, "upload": 6, "task down": 2, "task up": 2, "move": 1, "delete": 1}

    @property
    def destinations(self) -> list[Destination]:
        """All of them."""
        return [*self.local, *self.remote]

    def begin(self, count: int) -> list[Call]:
        """Begin so many calls at once, or fewer if no destination is free."""
        names = list(self._operations)
        weights = [self._weights.get(name, 1) for name in names]
        begun = []
        for _ in range(count):
            name = self.only or self._chance.choices(names, weights)[0]
            call = self._operations[name]()
            if call is not None:
                begun.append(call)
        return begun

    def collect(self, calls: Iterable[Call]) -> list[Call]:
        """Wait for the ends of calls, and take note of what they say; return those that have no end."""
        endless = []
        for call in calls:
            try:
                call.status, body = call.future.result(call.timeout + 2 * MARGIN)
            except HubError as error:
                call.code = str(error.status)
            except FutureTimeoutError:
                endless.append(call)
            else:
                call.answer = json.dumps(body)
                call.code = body.get("code", "") if isinstance(body, dict) else ""
                self._answered(call, body)
            self._leave(call)
        return endless

    def settle(self) -> list[str]:
        """Bring everything to its end, now that everything works; return what does not come to one."""
        wrong = [word for call in self._unclear if (word := self._accept(call))]
        self._unclear.clear()
        wrong += self._end_tasks()
        for destination in self.destinations:
            if destination.unfinished is not None:
                wrong += self._finish(destination, *destination.unfinished)
        return wrong

    def _transfer(self, method: str, destinations: list[Destination], *, background: bool = False) -> Call | None:
        destination = self._free(destinations)
        if destination is None:
            return None
        source = self._chance.choice(list(self._versions))
        payload: dict[str, Any] = {"source": source, "dest": destination.name}
        if background or self._chance.random() < 0.5:
            self._number += 1
            payload["request_id"] = f"order {self._number}"
        if background:
            payload["background"] = True
        return self._call(method, payload, {destination: {self._versions[source]}})

    def _move(self) -> Call | None:
        source = self._free([one for one in self.remote if None not in one.may_hold])
        if source is None:
            return None
        source.taken = True
        dest = self._free(self.remote)
        source.taken = False
        if dest is None:
            return None
        changes: dict[Destination, Versions] = {dest: set(source.may_hold), source: {None}}
        return self._call("move_file", {"source": source.name, "dest": dest.name}, changes)

    def _delete(self) -> Call | None:
        destination = self._free(self.remote)
        if destination is None:
            return None
        return self._call("delete_file", {"path": destination.name}, {destination: {None}})

    def _free(self, destinations: list[Destination]) -> Destination | None:
        free = [one for one in destinations if not one.taken]
        return self._chance.choice(free) if free else None

    def _call(self, method: str, payload: dict[str, Any], changes: dict[Destination, Versions] | None = None) -> Call:
        timeout = round(self._chance.uniform(*TIMEOUTS), 1)
        for destination, versions in (changes or {}).items():
            destination.taken = True
            destination.may_hold |= versions
        future = self._scene.edge.submit("sftp", method, payload | {"timeout": timeout}, timeout=timeout + MARGIN)
        call = Call(method, payload, timeout, changes or {}, future, time.monotonic())

        def take_time(_future: object) -> None:
            call.ended = time.monotonic()

        future.add_done_callback(take_time)
        return call

    def _answered(self, call: Call, body: Any) -> None:
        if call.status == 202:
            self.tasks[body["task_id"]] = call
        elif call.status == 200 and body is True:
            self._carried_out(call)

    def _carried_out(self, call: Call) -> None:
        for destination, versions in call.changes.items():
            destination.may_hold = set(versions)
            destination.unfinished = None

    def _leave(self, call: Call) -> None:
        """Give the destinations of a call back, unless a task still works on them."""
        background = call.payload.get("background", False)
        if background and not call.status:
            self._unclear.append(call)
        elif background and call.status == 202:
            return
        else:
            for destination in call.changes:
                destination.taken = False
                if call.status != 200 and "source" in call.payload and call.method != "move_file":
                    payload = {key: call.payload[key] for key in ("source", "dest")}
                    destination.unfinished = call.method, payload

    def _accept(self, call: Call) -> str:
        """Give a task again whose acceptance was not heard of: with its request id it is the same one."""
        end = time.monotonic() + TASK_LIMIT
        said: object = None
        while time.monotonic() < end:
            try:
                status, said = self._scene.edge.invoke("sftp", call.method, call.payload)
            except HubError as error:
                said = error
                self._scene.start_again_if_ended()
            else:
                if status == 202:
                    self.tasks[said["task_id"]] = call  # type: ignore[index] # a 202 has one
                    return ""
            time.sleep(0.05)
        return f"a task is not accepted: {said}"

    def _end_tasks(self) -> list[str]:
        wrong = []
        end = time.monotonic() + TASK_LIMIT
        for name, call in list(self.tasks.items()):
            status: dict[str, Any] = {"status": "not asked"}
            while time.monotonic() < end and status["status"] not in ENDED:
                try:
                    status = self._scene.edge.invoke("sftp", "get_task_status", {"task_id": name})[1]
                except HubError:
                    self._scene.start_again_if_ended()
                time.sleep(0.02)
            del self.tasks[name]
            self.tasks_ended[name] = status["status"]
            if status["status"] not in ENDED:
                wrong.append(f"a task without an end: {status}")
            elif status["status"] == "Completed":
                self._carried_out(call)
            for destination in call.changes:
                destination.taken = False
        return wrong

    def _finish(self, destination: Destination, method: str, payload: dict[str, Any]) -> list[str]:
        """Do once more what failed; what it left behind is used up or removed."""
        end = time.monotonic() + TASK_LIMIT
        said: object = None
        while time.monotonic() < end:
            try:
                status, said = self._scene.edge.invoke("sftp", method, payload, timeout=40)
            except HubError as error:
                said = error
                self._scene.start_again_if_ended()
            else:
                if status == 200:
                    destination.may_hold = {self._versions[payload["source"]]}
                    destination.unfinished = None
                    return []
            time.sleep(0.1)
        return [f"{method} {payload} does not succeed any more: {said}"]
