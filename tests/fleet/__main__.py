"""A fleet on this machine: `python -m tests.fleet --devices 50 --thousands 5000`, or `make fleet`.

Real module processes behind one hub and one OpenSSH server, from the layered deployment; then thousands of devices
without processes, at the level of twins and jobs. The report is build/fleet/report.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from pathlib import Path

import psutil
from tests.fleet.devices import running
from tests.fleet.figures import Figures
from tests.fleet.simulation import simulated

EACH = 150 * 1024 * 1024
"""Bytes of memory that have to be free for each module process and its sessions."""


def main() -> int:
    """Run, write the report, and return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--devices", type=int, default=50, help="module processes, or as many as the memory allows")
    parser.add_argument("--thousands", type=int, default=5_000, help="devices without a process")
    parser.add_argument("--at-once", type=int, default=4, help="modules that start at the same time")
    parser.add_argument("--report", type=Path, default=Path("build/fleet/report.md"))
    parser.add_argument("--address", default=f"127.33.{1 + os.getpid() // 250 % 250}.{1 + os.getpid() % 250}")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="fleet-") as base:
        try:
            run(Path(base), options, figures)
        except Exception as error:  # noqa: BLE001 - the report is worth more than the trace
            figures.wrong.append(f"it broke off: {error!r}")
    figures.write(options.report)
    print(figures.as_markdown)  # noqa: T201 - a program's way to speak
    return 1 if figures.wrong else 0


def run(base: Path, options: argparse.Namespace, figures: Figures) -> None:
    """Run both parts."""
    count = min(options.devices, max(1, int(psutil.virtual_memory().available / EACH)))
    figures.figures["modules"] = f"{count} of {options.devices} that were asked for"
    with running(base / "devices", count, options.at_once, options.address, figures) as devices:
        devices.run()
    with simulated(base / "simulated", options.thousands, options.address, figures) as simulation:
        simulation.run(figures)


if __name__ == "__main__":
    sys.exit(main())
