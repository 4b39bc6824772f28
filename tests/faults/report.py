"""What a run has counted, as JSON and in words."""

from __future__ import annotations

import json
import platform
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from tests.faults.checker import Checker
    from tests.faults.faults import Fault
    from tests.faults.work import Call

MIB = 1024 * 1024


@dataclass
class Struck:
    """What is known of one fault."""

    part: str
    times: int = 0
    calls: int = 0
    unanswered: int = 0
    longest_answer: float = 0.0  # seconds
    most_over: float = 0.0  # seconds that an answer took beyond its time limit
    longest_healing: float = 0.0  # seconds from the end of the calls until the module served again

    def add(self, calls: Iterable[Call], healing: float | None) -> None:
        """Count a step."""
        self.times += 1
        for call in calls:
            self.calls += 1
            if call.status:
                self.longest_answer = max(self.longest_answer, call.seconds)
                self.most_over = max(self.most_over, call.seconds - call.timeout)
            else:
                self.unanswered += 1
        self.longest_healing = max(self.longest_healing, healing or 0.0)


@dataclass
class Report:
    """The counts of a run."""

    seed: str
    started: float = field(default_factory=time.monotonic)
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()))
    struck: dict[str, Struck] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    cycles: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    most: dict[str, float] = field(default_factory=dict)
    growth: dict[str, float] = field(default_factory=dict)
    longest_life: list[float] = field(default_factory=list)  # MiB after each step

    def add_step(self, fault: Fault, calls: list[Call], healing: float | None, wrong: list[str]) -> None:
        """Count a fault, the calls around it and what they came to."""
        self.struck.setdefault(fault.name, Struck(fault.part)).add(calls, healing)
        self.outcomes.update(call.outcome for call in calls)
        self.wrong += [f"{fault.name}: {sentence}" for sentence in wrong]

    def add_scene(self, checker: Checker, sent: int) -> None:
        """Count what a checker has seen, and the files that a rule has sent."""
        self.counts["files looked at"] += checker.files
        self.counts["files that a rule has sent"] += sent
        self.counts["requests delivered to the module"] += checker.deliveries
        self.counts["answers that it sent"] += checker.answers
        self.counts["answers that were sent again after a drop, unacknowledged"] += checker.repeated_answers
        self.counts["messages sent twice"] += checker.repeated_messages
        self.counts["processes of the module"] += len(checker.lives)
        for life in checker.lives.values():
            self._top(self.most, {"steps of one process": len(life.memory)})
            self._top(self.most, {"MiB of memory": max(life.memory) / MIB, "threads": max(life.threads)})
            self._top(self.most, {"descriptors": max(life.descriptors)})
            self.longest_life = max(self.longest_life, [n / MIB for n in life.memory], key=len)
            growth = life.growth()
            self._top(self.growth, {name: n / MIB if name == "memory" else n for name, n in growth.items()})

    @staticmethod
    def _top(most: dict[str, float], found: dict[str, float]) -> None:
        for name, number in found.items():
            most[name] = max(most.get(name, number), number)

    @property
    def as_json(self) -> dict[str, Any]:
        """Everything."""
        return {
            "seed": self.seed,
            "date": self.date,
            "minutes": round((time.monotonic() - self.started) / 60, 1),
            "machine": machine(),
            "faults": {name: vars(one) for name, one in sorted(self.struck.items())},
            "outcomes": dict(self.outcomes.most_common()),
            "counts": dict(self.counts),
            "most": self.most,
            "growth": self.growth,
            "MiB of the longest life": self.longest_life,
            "failing connections": self.cycles,
            "wrong": self.wrong,
        }

    @property
    def as_markdown(self) -> str:
        """The same, to be read."""
        found = self.as_json
        lines = [
            f"{found['minutes']} minutes from {self.date} on {found['machine']}, seed `{self.seed}`.",
            "",
            "| fault | strikes | times | calls | cut off | longest answer | over its limit | recovered after |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *(_row(name, one) for name, one in sorted(self.struck.items(), key=lambda item: (item[1].part, item[0]))),
            "",
            "| outcome of a call | times |",
            "| --- | --- |",
            *(f"| {name} | {count} |" for name, count in self.outcomes.most_common()),
            "",
            "| counted | |",
            "| --- | --- |",
            *(f"| {name} | {count:,} |" for name, count in self.counts.items()),
            *(f"| most {name} | {number:.0f} |" for name, number in self.most.items()),
            *(f"| {name} more in the end than in the middle, at most | {n:.1f} |" for name, n in self.growth.items()),
            f"| MiB of the longest life, from its start, by quarters | {_quarters(self.longest_life)} |",
            *(f"| {line} | |" for line in map(_cycles, self.cycles)),
            "",
            f"**{len(self.wrong)} violations.**",
            *(f"- {sentence[:1000]}" for sentence in self.wrong),
        ]
        return "\n".join(lines) + "\n"

    def write(self, path: Path) -> None:
        """Write `path.md` and `path.json`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".json").write_text(json.dumps(self.as_json, indent=2) + "\n")
        path.with_suffix(".md").write_text(self.as_markdown)


def machine() -> str:
    """Describe this machine in a few words."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{psutil.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.machine()}, Python {platform.python_version()}"
    )


def _row(name: str, one: Struck) -> str:
    over = f"{one.most_over:.1f} s" if one.most_over > 0 else "-"
    times = f"{one.longest_answer:.1f} s | {over} | {one.longest_healing:.1f} s"
    return f"| {name} | {one.part} | {one.times} | {one.calls} | {one.unanswered} | {times} |"


def _quarters(values: list[float]) -> str:
    last = len(values) - 1
    return ", ".join(f"{values[quarter * last // 4]:.0f}" for quarter in range(5)) if values else "-"


def _cycles(one: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in one.items())
