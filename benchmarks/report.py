"""The tables: `results.md`, drawn from `results.json`, and the plots beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import growth, plots
from benchmarks.figures import (
    Figures,
    Spread,
    cpu_per_gib,
    failures,
    figures,
    files_beyond_empty,
    moved_bytes,
    round_trips,
)
from benchmarks.goals import GOALS, best_peer
from benchmarks.peers import PEERS
from benchmarks.rows import GIB, MIB

KINDS = {
    "get": "get",
    "put": "put",
    "get_folder": "get",
    "put_folder": "put",
    "get_same_folder": "get",
    "put_same_folder": "put",
    "list": "list",
    "list_details": "list",
    "delete_folder": "delete",
    "make_folder": "make",
}
MB = 1e6
INTRODUCTION = (
    "Drawn by `make bench` from `results.json`, which holds every single run; not edited by hand. What the columns "
    "mean, and how it is measured: [docs/performance.md](../docs/performance.md)."
)


def write(results: dict[str, Any], directory: Path) -> None:
    """Write the numbers, the tables and the plots of a run into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (directory / "results.md").write_text(document(results), encoding="utf-8")
    for name, drawing in plots.drawings(results).items():
        (directory / f"{name}.svg").write_text(drawing, encoding="utf-8")


def document(results: dict[str, Any]) -> str:
    """Return the whole of results.md."""
    parts = [
        "# Side by side",
        INTRODUCTION,
        _about(results),
        "## Goals",
        "Ours beside a peer: how many times as fast, both without their empty runs, and as whole processes.",
        goals_table(results),
    ]
    for result in results["rows"].values():
        parts += [f"## {_capital(result['row']['title'])}", table(result)]
    if "growth" in results:
        parts += [f"## {_capital(growth.title(results['growth']))}", growth.table(results["growth"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _about(results: dict[str, Any]) -> str:
    run, machine = results["run"], results["machine"]
    quick = " **A quick run: tiny sizes, which say nothing about speed.**" if run["quick"] else ""
    lines = [
        f"Run `{run['id']}` of {run['date']}, on `{run['of']}`.{quick}",
        "",
        "| | |",
        "| --- | --- |",
        f"| machine | {machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / GIB:.0f} GiB |",
        f"| load before the run | {machine['load_before']:.2f} |",
        f"| system | {machine['system']}, kernel {machine['kernel']}, Python {machine['python']} |",
        f"| files | on {machine['files_on']}, for all alike |",
        f"| server | {results['server']} |",
    ]
    for name, version in results["versions"].items():
        remark = f"; {PEERS[name].remark}" if PEERS[name].remark else ""
        lines.append(f"| {PEERS[name].title} | {version or 'not installed'}{remark} |")
    return "\n".join(lines)


def goals_table(results: dict[str, Any]) -> str:
    """Return all goals with what was reached."""
    lines = ["| work | | goal | ours | | reached | the fastest peer |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for goal in GOALS:
        result = results["rows"].get(goal.row)
        if result is None:
            continue
        verdict = goal.judge(result, goal.kind)
        best = best_peer(result, goal.kind)
        fastest = f"{PEERS[best[0]].title}: {best[1]:.2f} x" if best else ""
        outcome = ["not measured", "", ""]
        if verdict is not None:
            reached = {True: "yes", False: "**no**", None: "reported"}[verdict.reached]
            outcome = [verdict.ours, verdict.other, reached]
        lines.append(_row([result["row"]["title"], KINDS[goal.kind], goal.text, *outcome, fastest]))
    return "\n".join(lines)


def table(result: dict[str, Any]) -> str:
    """Return the table of one row, with what has to be known of it."""
    row = result["row"]
    lines = _heading(result)
    for kind in row["kinds"]:
        for client in row["clients"]:
            taken = figures(result, client, kind)
            if taken is not None:
                lines.append(_row([PEERS[client].title, KINDS[kind], *_cells(result, taken)]))
    return "\n\n".join(part for part in ("\n".join(lines), *_remarks(result)) if part)


def _heading(result: dict[str, Any]) -> list[str]:
    if _is_one_file(result):
        columns = ["client", "", "whole, s", "net, MB/s", "CPU, s", "CPU net, s/GiB"]
    else:
        columns = ["client", "", "whole, s", "net, s", "files/s", "CPU, s"]
    columns += ["peak, MiB", "over idle", "server's CPU, s"]
    if not _is_direct(result):
        columns += ["proxy's CPU, s"]
        columns += [] if _is_one_file(result) else ["round trips a file"]
    return [_row(columns), _row(["---"] * len(columns))]


def _cells(result: dict[str, Any], taken: Figures) -> list[str]:
    if _is_one_file(result):
        speed = taken.net.inverse(moved_bytes(result) / MB)
        cells = [_spread(taken.whole, 2), _spread(speed, 0 if speed.median > 10 else 3)]  # noqa: PLR2004 - digits to read
        cells += [f"{taken.cpu:.2f}", f"{cpu_per_gib(result, taken):.2f}"]
    else:
        cells = [_spread(taken.whole, 2), _spread(taken.net, 2)]
        cells += [f"{files_beyond_empty(result) / taken.net.median:,.0f}", f"{taken.cpu:.2f}"]
    cells += [f"{taken.peak / MIB:.1f}", f"{taken.over_idle / MIB:.1f}", f"{taken.server_cpu:.2f}"]
    if not _is_direct(result):
        cells += [f"{taken.proxy_cpu:.2f}"]
        trips = round_trips(result, taken)
        cells += [] if _is_one_file(result) else [f"{trips:.1f}" if trips is not None else ""]
    return cells


def _remarks(result: dict[str, Any]) -> list[str]:
    row, alone = result["row"], result["proxy_alone"]
    counts = f"{row['repeats']} {'run' if row['repeats'] == 1 else 'runs'} of each, in turn: median (least to most)."
    once = [PEERS[name].title for name in row["once"]] if row["repeats"] > 1 else []
    remarks = [" ".join(part for part in (counts, f"Once: {', '.join(once)}." if once else "", row["note"]) if part)]
    if alone is not None:
        remarks.append(
            f"The proxy alone, between a plain sender and a plain receiver: {alone['speed'] / MB:,.2f} MB/s, "
            f"a round trip of {alone['round_trip'] * 1000:.1f} ms."
        )
    if (socks_alone := result.get("socks_alone")) is not None:
        remarks.append(
            "The SOCKS proxy (microsocks) alone, between a plain sender and a plain receiver: "
            f"{socks_alone / MB:,.0f} MB/s."
        )
    remarks += [f"{PEERS[name].title} is left out: {reason}." for name, reason in result["missing"].items()]
    remarks += [f"{PEERS[name].title} failed ({KINDS[kind]}): `{said}`" for name, kind, said in failures(result)]
    return remarks


def _is_one_file(result: dict[str, Any]) -> bool:
    return bool(result["row"]["files"] == 1)


def _is_direct(result: dict[str, Any]) -> bool:
    return result["proxy_alone"] is None


def _spread(spread: Spread, digits: int) -> str:
    median, low, high = (f"{value:,.{digits}f}" for value in (spread.median, spread.low, spread.high))
    return median if low == high else f"{median} ({low} to {high})"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', ' ') for cell in cells)} |"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
