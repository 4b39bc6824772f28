"""`python -m benchmarks.footprint`: measure what a device pays, and show or keep the table."""

from __future__ import annotations

import argparse
import logging
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import bench, machine
from benchmarks.footprint import measures
from benchmarks.footprint.measures import Figure
from iot.sftp.client import VERSION

NAMES = ("imports", "idle", "cycles", "flash", "latency", "wire")
HEADING = "# What a device pays, measured"
INTRODUCTION = (
    "Drawn by `make footprint`; not edited by hand. Where what remains comes from: "
    "[docs/performance.md](../docs/performance.md#what-a-device-pays)."
)


def main() -> None:
    """Measure what the options ask for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint", description=__doc__)
    parser.add_argument("--measures", default=",".join(NAMES), help="some of " + ",".join(NAMES))
    parser.add_argument("--idle", type=float, default=240, help="seconds in which the module has nothing to do")
    parser.add_argument("--cycles", type=int, default=300, help="connections that break, or are ended")
    parser.add_argument("--files", type=int, default=1000, help="for the flash")
    parser.add_argument("--repeats", type=int, default=7, help="of what is short")
    parser.add_argument("--directory", type=Path, help="where the files are; default: in memory, /dev/shm")
    parser.add_argument("--output", type=Path, help="the file for the table; default: it is printed only")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    parent = options.directory or (bench.IN_MEMORY if os.access(bench.IN_MEMORY, os.W_OK) else None)
    wanted = options.measures.split(",")
    _compile_once()
    lines = [
        HEADING,
        "",
        INTRODUCTION,
        "",
        _machine(),
        "",
        "| what | median | spread | goal |",
        "| --- | --- | --- | --- |",
    ]
    for name in NAMES:
        if name not in wanted:
            continue
        with tempfile.TemporaryDirectory(prefix="iot-sftp-footprint-", dir=parent) as directory:
            for figure in _measures(options, Path(directory))[name]():
                lines.append(_row(figure))
                print(lines[-1], flush=True)  # noqa: T201 - a command's way to speak
    text = "\n".join(lines) + "\n"
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")


def _measures(options: argparse.Namespace, directory: Path) -> dict[str, Callable[[], Iterator[Figure]]]:
    def wire() -> Iterator[Figure]:
        with bench.running(directory) as server:
            yield from measures.wire(server, options.repeats)

    return {
        "imports": lambda: measures.imports(options.repeats),
        "idle": lambda: measures.idle(directory, options.idle),
        "cycles": lambda: measures.cycles(directory, options.cycles),
        "flash": lambda: measures.flash(directory, options.files),
        "latency": lambda: measures.latency(directory, 10 * options.repeats),
        "wire": wire,
    }


def _compile_once() -> None:
    """Have the bytecode of all modules written, as an installation has it: without it, each start compiles them."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", "import iot.sftp.command_line._main, iot.sftp.module._module"]
    subprocess.run(command, check=True)  # noqa: S603 - our own


def _row(figure: Figure) -> str:
    spread = f"{_number(min(figure.values))} to {_number(max(figure.values))}" if len(figure.values) > 1 else ""
    return f"| {figure.what} | {_number(figure.median)} {figure.unit} | {spread} | {figure.goal} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"  # noqa: PLR2004 - no powers of ten


def _machine() -> str:
    about = machine.about(quick=False, directory=None)
    here, run = about["machine"], about["run"]
    return (
        f"Run `{run['id']}` of {run['date']}, version {VERSION} on `{run['of']}`, Python {platform.python_version()}, "
        f"{here['cores']} x {here['cpu']}, {here['system']}, kernel {here['kernel']}, load "
        f"{here['load_before']:.1f} before."
    )


if __name__ == "__main__":
    main()
