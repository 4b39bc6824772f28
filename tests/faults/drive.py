"""Step after step: calls, a fault in their middle, their ends, and what must hold then."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.checker import Checker
from tests.faults.faults import Fault, Stage
from tests.faults.outbox import Outbox
from tests.faults.report import Report
from tests.faults.scene import NotHealed, Scene
from tests.faults.work import Call, Work

GLANCE = 0.15  # seconds between two looks at the files


class Drive:
    """Drives a scene through faults."""

    def __init__(self, scene: Scene, chance: random.Random, report: Report) -> None:
        """Begin with nothing done.

        Parameters:
            scene: the running parts.
            chance: decides about everything that is left to it.
            report: counts.
        """
        self.work = Work(scene, chance)
        self.outbox = Outbox(scene, chance)
        self.checker = Checker(scene, self.work)
        self._scene = scene
        self._chance = chance
        self._report = report

    def step(self, fault: Fault) -> list[str]:
        """Let a fault strike in the middle of work; return everything that should not have happened."""
        wrong: list[str] = []
        calls = [] if fault.alone else self.work.begin(self._chance.randint(2, 5))
        self.outbox.fill(0 if fault.alone else self._chance.randint(0, 2))
        time.sleep(self._chance.uniform(0, 0.3))
        with fault.strike(Stage(self._scene, self.work, self._chance, wrong)) as lasting:
            calls += self.work.begin(self._chance.randint(2, 4))
            wrong += self._watch(lasting)
        endless = self.work.collect(calls)
        wrong += [f"a call without an end: {call.method} {call.payload}" for call in endless]
        wrong += self.checker.calls(calls, fault)
        seconds = self._heal(wrong)
        if fault.cuts_off:
            self._wait_for_deadlines(calls)  # what was not answered may still be carried out until then
        if seconds is not None:
            wrong += self.work.settle()
            wrong += self.outbox.settle()
            wrong += self.checker.quiet(fault)
        self._report.add_step(fault, calls, seconds, wrong)
        return wrong

    def _watch(self, lasting: float) -> list[str]:
        wrong = []
        end = time.monotonic() + lasting
        while True:
            wrong += self.checker.glance() + self.outbox.glance()
            remaining = end - time.monotonic()
            if remaining <= 0:
                return wrong
            time.sleep(min(GLANCE, remaining))

    def _heal(self, wrong: list[str]) -> float | None:
        try:
            return self._scene.revive()
        except NotHealed as error:
            wrong.append(str(error))
            self._scene.edge.kill_module()  # as an operator would: there is more to be tried
            return None

    def _wait_for_deadlines(self, calls: list[Call]) -> None:
        last = max((call.started + call.timeout for call in calls), default=0.0)
        time.sleep(max(0.0, last + 0.5 - time.monotonic()))


@contextmanager
def driving(directory: Path, address: str, kind: str, seed: str, report: Report) -> Iterator[Drive]:
    """Run a scene with a server of this kind, and give what drives it; the same seed takes the same decisions."""
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    with Scene(directory, address, kind, chance).running() as scene:
        drive = Drive(scene, chance, report)
        yield drive
        report.add_scene(drive.checker, drive.outbox.sent)
