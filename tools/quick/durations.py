"""A plugin of pytest: notes how long each test takes, and with `--seconds` runs only the fastest ones.

`make test` notes, in build/durations.json; `make quick` reads, and notes as well.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FILE = Path("build/durations.json")
# Seconds that a test takes of which no duration is known, by what it uses
GUESSES = (("edge", 3.0), ("fresh", 3.0), ("hurried", 3.0), ("own_address", 3.0), ("server", 0.3))
GUESS = 0.05


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--seconds`."""
    parser.addoption("--seconds", type=float, help="run the fastest tests only, which take so long together")


def pytest_configure(config: pytest.Config) -> None:
    """Note durations where the reports of all workers come together."""
    config.stash[_KNOWN] = read(config.rootpath / FILE)
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Notes(config.rootpath / FILE, config.stash[_KNOWN]), "notes-of-durations")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the slowest tests."""
    seconds = config.getoption("--seconds")
    if seconds is None:
        return
    known = config.stash[_KNOWN]
    costs = {item.nodeid: cost_of(item.nodeid, _fixtures(item), known) for item in items}
    chosen = fastest(costs, seconds * (os.cpu_count() or 1))
    left_out = [item for item in items if item.nodeid not in chosen]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item.nodeid in chosen]
        config.stash[_LEFT_OUT] = {item.nodeid: costs[item.nodeid] for item in left_out}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send what a worker left out to where the reports come together."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(_LEFT_OUT, {})


def cost_of(test: str, fixtures: Iterable[str], known: Mapping[str, float]) -> float:
    """Return how long a test takes, from what was noted, or from what it uses."""
    if test in known:
        return known[test]
    used = [seconds for name, seconds in GUESSES if any(fixture.endswith(name) for fixture in fixtures)]
    return max(used, default=GUESS)


def fastest(costs: Mapping[str, float], seconds: float) -> set[str]:
    """Return the fastest tests that together take no longer; at least one."""
    chosen: set[str] = set()
    for test, cost in sorted(costs.items(), key=lambda pair: (pair[1], pair[0])):
        seconds -= cost
        if seconds < 0 and chosen:
            break
        chosen.add(test)
    return chosen


def left_out_by_file(left_out: Mapping[str, float]) -> list[str]:
    """Return a line for each file with tests that were left out."""
    costs: defaultdict[str, list[float]] = defaultdict(list)
    for test, cost in left_out.items():
        costs[test.partition("::")[0]].append(cost)
    return [f"{file}: {len(costs[file])} tests, {sum(costs[file]):.0f} s" for file in sorted(costs)]


def read(file: Path) -> dict[str, float]:
    """Return the durations that were noted; none if nothing was, or if it cannot be read."""
    try:
        noted = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


class Notes:
    """Collects the durations of a run, and what its workers left out; tells both at the end."""

    def __init__(self, file: Path, known: dict[str, float]) -> None:
        """Add to what is known already."""
        self._file = file
        self._known = known
        self._own: defaultdict[str, float] = defaultdict(float)
        self._left_out: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add a phase of a test."""
        self._own[report.nodeid] += report.duration

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a worker left out: each of them leaves out the same."""
        self._left_out = getattr(node, "workeroutput", {}).get("left_out", self._left_out)

    def pytest_sessionfinish(self) -> None:
        """Write."""
        noted = self._known | {test: round(seconds, 3) for test, seconds in self._own.items()}
        self._file.parent.mkdir(exist_ok=True)
        self._file.write_text(json.dumps(noted, indent=0, sort_keys=True), encoding="utf-8")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        """Say what was left out."""
        left_out = self._left_out or config.stash.get(_LEFT_OUT, {})
        if left_out:
            terminalreporter.section(f"left out, as they take too long: {len(left_out)} tests; make test runs them")
            for line in left_out_by_file(left_out):
                terminalreporter.line(line)


def _fixtures(item: pytest.Item) -> list[str]:
    return list(getattr(item, "fixturenames", ()))


_KNOWN = pytest.StashKey[dict[str, float]]()
_LEFT_OUT = pytest.StashKey[dict[str, float]]()
