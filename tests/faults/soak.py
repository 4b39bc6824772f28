"""Faults at random for as long as one likes: `python -m tests.faults.soak --minutes 60`, or `make soak MINUTES=60`.

The seed is printed first; with it, the same faults strike in the same order with the same calls around them.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import random
import secrets
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.drive import driving
from tests.faults.failing_connections import run_cycles
from tests.faults.faults import FAULTS
from tests.faults.report import Report
from tests.faults.scene import SERVERS

ROUND = 1_800.0  # seconds with one server, or half of a shorter run
RARE = {"module is told to end": 0.1, "module is killed": 0.1, "certificate authority is changed": 0.1}
"""What ends the module strikes once at first, and less often than the rest then: there are long lives to look at."""


def main() -> int:
    """Run, write the report, and return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--output", type=Path, default=Path("build/soak/report"), help="without a suffix")
    parser.add_argument("--cycles", type=int, default=10_000, help="failing connections of the client")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # the hub's own, which refuses because it is told to
    report = Report(options.seed)
    print(f"seed {options.seed}", flush=True)  # noqa: T201 - a program's way to speak
    end = time.monotonic() + options.minutes * 60
    longest = min(ROUND, options.minutes * 30)
    with tempfile.TemporaryDirectory(prefix="soak-") as base, ThreadPoolExecutor(1) as executor:
        cycles = executor.submit(run_cycles, Path(base) / "cycles", options.cycles)
        for number, kind in zip(itertools.count(), itertools.cycle(SERVERS), strict=False):
            if time.monotonic() >= end:
                break
            try:
                until = min(end, time.monotonic() + longest)
                _round(report, Path(base) / str(number), kind, f"{options.seed}-{number}", until)
            except Exception as error:  # noqa: BLE001 - the report is worth more than the trace
                report.wrong.append(f"round {number} with {kind} broke off: {error!r}")
            report.write(options.output)
        report.cycles.append(cycles.result())
        report.wrong += report.cycles[-1].pop("wrong")
    report.write(options.output)
    print(report.as_markdown)  # noqa: T201
    return 1 if report.wrong else 0


def _round(report: Report, directory: Path, kind: str, seed: str, end: float) -> None:
    chance = random.Random(f"faults {seed}")  # noqa: S311 - nothing secret
    weights = [RARE.get(fault.name, 1.0) for fault in FAULTS]
    rare = [fault for fault in FAULTS if fault.name in RARE]
    with driving(directory, _address(), kind, seed, report) as drive:
        while time.monotonic() < end:
            fault = rare.pop() if rare else chance.choices(FAULTS, weights)[0]
            for sentence in drive.step(fault):
                print(f"{fault.name}: {sentence[:2000]}", flush=True)  # noqa: T201


def _address() -> str:
    """Return a loopback address that no other run has, most likely: the SDK knows one port only."""
    return f"127.32.{2 + os.getpid() // 250 % 250}.{1 + os.getpid() % 250}"


if __name__ == "__main__":
    sys.exit(main())
