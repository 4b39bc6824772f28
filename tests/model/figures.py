"""What a run of the model has counted."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.model.books import Violation


@dataclass
class Figures:
    """The counts of all machines of a process.

    Attributes:
        steps: what producers, partners, servers, clocks and the device did.
        faults: by their kind.
        counts: files, versions, deliveries and the like.
        violations: each with the script that led to it.
    """

    started: float = field(default_factory=time.monotonic)
    steps: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[Violation, str]] = field(default_factory=list)

    def as_markdown(self, title: str) -> str:
        """Return a report."""
        seconds = time.monotonic() - self.started
        kinds = Counter(violation.kind for violation, _ in self.violations)
        lines = [
            f"{title}: {sum(self.steps.values()):,} steps in {seconds / 60:.1f} minutes.",
            "",
            "| counted | |",
            "| --- | --- |",
            *(f"| {name} | {count:,} |" for name, count in sorted(self.counts.items())),
            "",
            "| fault | times |",
            "| --- | --- |",
            *(f"| {name} | {count:,} |" for name, count in sorted(self.faults.items())),
            "",
            "| step | times |",
            "| --- | --- |",
            *(f"| {name} | {count:,} |" for name, count in sorted(self.steps.items())),
            "",
            f"**{len(self.violations)} violations.**",
            *(f"- {kind}: {count}" for kind, count in sorted(kinds.items())),
        ]
        return "\n".join(lines) + "\n"

    def scripts(self) -> str:
        """Return the scripts that led to violations, the shortest first."""
        shortest = sorted(self.violations, key=lambda one: len(one[1]))
        return "\n".join(f"{violation}\n\n```python\n{script}\n```\n" for violation, script in shortest)
