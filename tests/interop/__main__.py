"""Run the matrix: `python -m tests.interop --help`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

from tests.interop import matrix, processes, report, volume
from tests.interop.checks import CHECKS
from tests.interop.kinds import KINDS, Kind
from tests.interop.volume import say

ROOT = Path(__file__).parents[2]
LIMIT = 900.0  # seconds for all checks of one server


def main() -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.interop", description=__doc__)
    names = [kind.name for kind in KINDS]
    parser.add_argument("--server", action="append", choices=names, metavar="NAME", help="only this one; repeatable")
    checks = [check.name for check in CHECKS]
    parser.add_argument(
        "--check", action="append", default=[], choices=checks, metavar="NAME", help="only this one; repeatable"
    )
    parser.add_argument("--list", action="store_true", help="name the servers and the checks, and end")
    parser.add_argument("--serve", choices=names, metavar="NAME", help="start one, say where it is, and wait")
    parser.add_argument("--volume", action="store_true", help="upload small files 200 times each instead, to pkg/sftp")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the tables there")
    parser.add_argument("--json", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    given = parser.parse_args()
    by_name = {kind.name: kind for kind in KINDS}
    kinds = [by_name[name] for name in given.server] if given.server else KINDS
    if given.list:
        return _list()
    if given.serve:
        return _serve(next(kind for kind in KINDS if kind.name == given.serve))
    if given.volume:
        return volume.main(kinds if given.server else None)
    if given.json:
        return _one(kinds[0], given.check, given.json)
    results = []
    for kind in kinds:
        results.append(_apart(kind, given.check))
        if not given.check:
            report.keep(kind.name, results[-1])
    volumes = [] if given.check else volume.results(kinds)
    if volumes:
        report.keep(report.VOLUME, volumes)
    if given.output:
        report.write(given.output)
    failed = sum(outcome["status"] == matrix.FAILED for result in results for outcome in result["outcomes"])
    failed += sum(one["failures"] for one in volumes)
    say(f"{failed} failures of what another client can do")
    stuck = [result["kind"] for result in results if result["why"] and not by_name[result["kind"]].missing()]
    for name in stuck:
        say(f"{name} did not run to its end")
    return 1 if failed or stuck else 0


def _list() -> int:
    for kind in KINDS:
        say(f"{kind.name:22}{kind.missing() or kind.version()}")
    for check in CHECKS:
        say(check.name)
    return 0


def _serve(kind: Kind) -> int:
    why = kind.missing()
    if why:
        say(why)
        return 1
    with (
        tempfile.TemporaryDirectory(prefix="iot-sftp-interop-", ignore_cleanup_errors=True) as base,
        matrix.running(kind, Path(base)) as target,
    ):
        server = target.server
        credential = f"key={server.key_file}" if server.key_file else f"password={server.password!r}"
        say(f"{server.user}@{server.host}:{server.port} {credential} directory={server.directory}")
        threading.Event().wait()  # for SIGTERM or SIGINT
    return 0


def _apart(kind: Kind, checks: list[str]) -> report.Result:
    """Make the checks of one server in a process of its own, which is ended where it does not end."""
    why = kind.missing()
    if why:
        say(f"== {kind.name}: not run here: {why}")
        return report.result(kind, "", [], why)
    with tempfile.TemporaryDirectory(prefix="iot-sftp-interop-", ignore_cleanup_errors=True) as base:
        place = Path(base) / "outcomes.json"
        words = [word for name in checks for word in ("--check", name)]
        command = [sys.executable, "-m", "tests.interop", "--server", kind.name, "--json", str(place), *words]
        env = os.environ | {"HOME": base, "TMPDIR": base}
        with subprocess.Popen(command, cwd=ROOT, env=env, start_new_session=True) as child:
            try:
                child.wait(LIMIT)
                why = "" if place.exists() else f"it could not be started (exit status {child.returncode})"
            except subprocess.TimeoutExpired:
                why = f"not done after {LIMIT:g} s"
            finally:
                processes.end_child(child)
                processes.end_descendants()
                processes.end_all_of(Path(base))
        outcomes = json.loads(place.read_text()) if place.exists() else []
    return report.result(kind, kind.version(), outcomes, why)


def _one(kind: Kind, names: list[str], place: Path) -> int:
    """Make the checks, and write down after each how they went."""
    processes.end_with_parent()
    logging.disable(logging.CRITICAL)
    outcomes: list[matrix.Outcome] = []
    say(f"== {kind.name} {kind.version()}")
    with (
        tempfile.TemporaryDirectory(prefix="base-", ignore_cleanup_errors=True) as base,
        matrix.running(kind, Path(base)) as target,
    ):
        for check in matrix.chosen(names):
            outcome = matrix.run(check, target) if connected(outcomes) else replace(outcomes[0], check=check.name)
            outcomes.append(outcome)
            place.with_suffix(".new").write_text(json.dumps([each.as_json() for each in outcomes]))
            os.replace(place.with_suffix(".new"), place)
            words = f"{outcome.reason} | sftp: {outcome.peer}" if outcome.reason else "; ".join(outcome.notes)
            say(f"{outcome.status:8}{outcome.seconds:6.1f} s  {check.name}: {words}"[:400])
    processes.end_descendants()
    return 0


def connected(outcomes: list[matrix.Outcome]) -> bool:
    """Tell whether the first check, which connects, has not failed: the others would only repeat what it said."""
    return not outcomes or outcomes[0].check != CHECKS[0].name or outcomes[0].status == matrix.PASSED


if __name__ == "__main__":
    processes.answer_for_descendants()
    processes.exit_on_signals()
    try:
        status = main()
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 1
        processes.end_descendants()
    sys.stdout.flush()
    os._exit(status)  # a check that was not done in time has left threads
