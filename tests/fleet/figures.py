"""What a run has found: figures with their names, how long each step took, and what was wrong."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from tests.servers import SSHD

from iot.sftp.client import __version__


@dataclass
class Figures:
    """The figures of a run."""

    figures: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    load: float = field(default_factory=lambda: os.getloadavg()[0])  # before it began
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure a step; what goes wrong in it ends the run, and is in the report."""
        print(name, flush=True)  # noqa: T201 - a program's way to speak
        begin = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = time.monotonic() - begin

    def check(self, name: str, *, found: object, expected: object) -> None:
        """Have a figure in the report, and in what is wrong unless it is the expected one."""
        self.figures[name] = str(found)
        if found != expected:
            self.wrong.append(f"{name}: {found}, not {expected}")

    def check_at_most(self, name: str, found: float, limit: float) -> None:
        """Have a figure in the report, and in what is wrong if it is above its limit."""
        self.figures[name] = f"{found:,} of {limit:,} at most"
        if found > limit:
            self.wrong.append(f"{name}: {found}, above {limit}")

    @property
    def as_markdown(self) -> str:
        """A report to be read."""
        lines = [
            f"{self.date}, on {_machine()}, load {self.load:.1f} before it began.",
            "",
            "| step | seconds |",
            "| --- | --- |",
            *(f"| {name} | {seconds:.1f} |" for name, seconds in self.seconds.items()),
            "",
            "| figure | |",
            "| --- | --- |",
            *(f"| {name} | {found} |" for name, found in self.figures.items()),
            "",
            f"**{len(self.wrong)} wrong.**",
            *(f"- {sentence[:1000]}" for sentence in self.wrong),
        ]
        return "\n".join(lines) + "\n"

    def write(self, path: Path) -> None:
        """Write the report."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.as_markdown, encoding="utf-8")


def _machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    ssh = (
        subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False).stderr.split(",")[0] if SSHD else ""
    )
    return (
        f"{psutil.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.machine()}, "
        f"Python {platform.python_version()}, {ssh}, the module {__version__}"
    )
