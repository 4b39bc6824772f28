"""The model for as long as one likes: `python -m tests.model --steps 5000 --report build/model/report.md`.

With `--stop` the first violation ends it, and hypothesis looks for the shortest script that leads there.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from pathlib import Path

from hypothesis import Phase
from tests.model.figures import Figures
from tests.model.machine import Broken
from tests.model.running import MACHINES, parts, run

ROUND = 6  # examples of one machine, before it is the next one's turn


def main() -> int:
    """Run, write the report, and return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, default=5_000)
    parser.add_argument("--minutes", type=float, default=0.0, help="instead of --steps")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    parser.add_argument("--report", type=Path, default=Path("build/model/report.md"))
    parser.add_argument("--machine", choices=[machine.__name__ for machine in MACHINES], help="this one only")
    parser.add_argument("--only", default="", help="kinds of violations, separated by commas; default: all")
    parser.add_argument("--stop", action="store_true", help="at the first violation, and shrink its script")
    options = parser.parse_args()
    figures, seed = Figures(), options.seed
    machines = [one for one in MACHINES if options.machine in (None, one.__name__)]
    end = time.monotonic() + options.minutes * 60
    print(f"seed {options.seed}", flush=True)  # noqa: T201 - a program's way to speak
    with parts(figures, goes_on=not options.stop, only=frozenset(filter(None, options.only.split(",")))):
        while time.monotonic() < end if options.minutes else sum(figures.steps.values()) < options.steps:
            phases = [Phase.generate, Phase.shrink] if options.stop else [Phase.generate]
            try:
                run(machines[(seed - options.seed) % len(machines)], examples=ROUND, seed=seed, phases=phases)
            except Broken as broken:
                print(broken)  # noqa: T201
                return 1
            seed += 1
            _write(options.report, figures, options.seed)
    print(_write(options.report, figures, options.seed))  # noqa: T201
    return 1 if figures.violations else 0


def _write(report: Path, figures: Figures, seed: int) -> str:
    """Write the figures, and beside them the scripts that led to violations."""
    text = figures.as_markdown(f"Seed {seed}")
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(text)
    report.with_suffix(".violations.md").write_text(figures.scripts())
    return text


if __name__ == "__main__":
    sys.exit(main())
