"""The plots: bars with their spread, as SVG that follows the reader's light or dark mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

from benchmarks.figures import Figures, Spread, cpu_per_gib, figures, moved_bytes
from benchmarks.peers import PEERS

WIDTH, LEFT, RIGHT = 720, 150, 90  # pixels: all, for the names, for the numbers
BAR, STEP, HEADING, TITLE = 15, 22, 34, 40
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-size: 16px; font-weight: 600; }
  .group { font-weight: 600; }
  .quiet { fill: #59636e; }
  .name { text-anchor: end; }
  .peer { fill: #afb8c1; }
  .ours { fill: #0969da; }
  .spread { stroke: #59636e; stroke-width: 1.5; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .quiet { fill: #9198a1; }
    .peer { fill: #4b535d; }
    .ours { fill: #4493f8; }
    .spread { stroke: #9198a1; }
  }
"""
Measure = Callable[[dict[str, Any], Figures], Spread]


@dataclass(frozen=True)
class Group:
    """Bars under one heading: clients' names, and what they took. Those of one row share a scale."""

    row: str
    heading: str
    bars: list[tuple[str, Spread]]


def drawings(results: dict[str, Any]) -> dict[str, str]:
    """Return the plots of a run by name; those whose rows were not measured are left out."""
    wanted: dict[str, tuple[str, str, list[str], Measure]] = {
        "speed": ("256 MiB on loopback", "MB/s, more is better", ["loopback"], _speed),
        "distance": ("64 MiB over a distance", "MB/s, more is better", ["rtt50", "rtt200"], _speed),
        "processor": ("Processor time of the client", "seconds for a GiB, less is better", ["loopback"], _processor),
        "small-files": ("Files of 10 KiB", "seconds, less is better", ["small", "small20", "folder"], _seconds),
    }
    drawn = {}
    for name, (title, unit, rows, measure) in wanted.items():
        groups = [group for row in rows if row in results["rows"] for group in _groups(results["rows"][row], measure)]
        if groups:
            drawn[name] = draw(title, unit, groups)
    return drawn


def draw(title: str, unit: str, groups: list[Group]) -> str:
    """Return a drawing: a bar for each value, a line from the least to the most; each row has its own scale."""
    lines, top = [], TITLE
    for group in groups:
        top += HEADING
        lines.append(f'<text class="group" x="{LEFT}" y="{top - 8}">{escape(group.heading)}</text>')
        alike = [other for other in groups if other.row == group.row]
        scale = (WIDTH - LEFT - RIGHT) / max(spread.high for other in alike for _, spread in other.bars)
        for name, spread in group.bars:
            lines += _bar(name, spread, scale, top)
            top += STEP
    height = top + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(title)}">\n<style>{STYLE}</style>\n'
        f'<text class="title" x="10" y="24">{escape(title)}'
        f'<tspan class="quiet" dx="10" font-size="13" font-weight="400">{escape(unit)}</tspan></text>\n'
        + "\n".join(lines)
        + "\n</svg>\n"
    )


def _bar(name: str, spread: Spread, scale: float, top: int) -> list[str]:
    middle, end = top + BAR / 2, LEFT + spread.median * scale
    low, high = LEFT + spread.low * scale, LEFT + spread.high * scale
    digits = 0 if spread.median >= 100 else 1 if spread.median >= 10 else 2  # noqa: PLR2004 - digits to read
    kind = "ours" if name == "ours" else "peer"
    lines = [
        f'<text class="name" x="{LEFT - 8}" y="{top + 12}">{escape(PEERS[name].title)}</text>',
        f'<rect class="{kind}" x="{LEFT}" y="{top}" width="{max(1, end - LEFT):.1f}" height="{BAR}" rx="2"/>',
        f'<text x="{max(end, high) + 6:.1f}" y="{top + 12}">{spread.median:,.{digits}f}</text>',
    ]
    if high - low > 1:
        lines.append(f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>')
    return lines


def _groups(result: dict[str, Any], measure: Measure) -> list[Group]:
    groups = []
    for kind in result["row"]["kinds"]:
        bars = [
            (client, measure(result, taken))
            for client in result["row"]["clients"]
            if (taken := figures(result, client, kind)) is not None
        ]
        if bars:
            groups.append(
                Group(result["row"]["name"], f"{kind.removesuffix('_folder')}: {result['row']['title']}", bars)
            )
    return groups


def _speed(result: dict[str, Any], taken: Figures) -> Spread:
    return taken.net.inverse(moved_bytes(result) / 1e6)


def _processor(result: dict[str, Any], taken: Figures) -> Spread:
    seconds = cpu_per_gib(result, taken)
    return Spread(seconds, seconds, seconds)


def _seconds(_: dict[str, Any], taken: Figures) -> Spread:
    return taken.whole
