"""The command: measures rows, shows them, and keeps them."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import bench, growth, report
from benchmarks.machine import about
from benchmarks.peers import PEERS
from benchmarks.processes import adopt_orphans
from benchmarks.rows import ROWS, Row

HERE = Path(__file__).parent
GROWTH = "growth"  # a row of its own kind


def main() -> None:
    """Measure what the options ask for."""
    options = _options()
    if options.report:
        report.write(json.loads((options.output / "results.json").read_text(encoding="utf-8")), options.output)
        return
    rows = [_chosen(ROWS[name], options) for name in options.rows if name != GROWTH]
    results: dict[str, Any] = about(quick=options.quick, directory=options.directory)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # the server and the files go as well
    adopt_orphans()
    with bench.running(options.directory) as running:
        for row in rows:
            _say(f"{row.title}: {row.repeats} x {', '.join(row.clients)}")
            results["rows"][row.name] = bench.measure(running, row, _say)
            _say(report.table(results["rows"][row.name]))
            if options.output is not None:  # after each row: twenty minutes are not lost by what ends the last
                report.write(results, options.output)
        if GROWTH in options.rows:
            _say("A log that grows")
            work = growth.Work.quick() if options.quick else growth.Work()
            results[GROWTH] = growth.measure_all(running, work, _say)
            _say(growth.table(results[GROWTH]))
    if options.output is not None:
        report.write(results, options.output)
        _say(f"written to {options.output}/results.md")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    rows, clients = [*ROWS, GROWTH], ",".join(PEERS)
    parser.add_argument("--rows", type=_names(rows), default=rows, help=f"some of {','.join(rows)}")
    parser.add_argument("--clients", type=_names(PEERS), help=f"some of {clients}; default: those of the row")
    parser.add_argument("--repeats", type=int, help="runs of each client; default: as many as the row says")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, once: to see that everything runs")
    parser.add_argument("--directory", type=Path, help="where the files are; default: in memory, /dev/shm")
    parser.add_argument("--output", type=Path, help="where results.json, results.md and plots go; default: nowhere")
    parser.add_argument("--report", action="store_true", help="only draw --output again, from its results.json")
    options = parser.parse_args()
    if options.report and options.output is None:
        options.output = HERE
    return options


def _names(known: Collection[str]) -> Any:
    def split(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return split


def _chosen(row: Row, options: argparse.Namespace) -> Row:
    row = row.quick() if options.quick else row
    if options.clients:
        row = replace(row, clients=tuple(options.clients))
    return replace(row, repeats=options.repeats, once=()) if options.repeats else row


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command's way to speak


if __name__ == "__main__":
    main()
