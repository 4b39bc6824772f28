"""Draws the panels of a Grafana dashboard as SVG, where the dashboard has them, from scrapes of a run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from dashboard._queries import Scrape, Series, evaluate, parse

_COLUMN, _ROW, _GAP = 50, 34, 8  # pixels of Grafana's grid of 24 columns
_COLOURS = (
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#d62728",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#7f7f7f",
    "#bcbd22",
    "#17becf",
)
_LEGEND_SHOWN = 8  # lines of a legend
_WIDE = 500  # pixels
_KILO = 1000


class Panel(NamedTuple):
    """A panel of the dashboard.

    Attributes:
        title: its heading.
        is_number: whether it shows the last value only, large.
        unit: Grafana's name for it.
        place: left, top, width and height, in Grafana's grid.
        targets: queries, each with the pattern of its lines' names.
        words: what single numbers are shown as.
        steps: colours, each with the number from which on it is used.
    """

    title: str
    is_number: bool
    unit: str
    place: tuple[int, int, int, int]
    targets: tuple[tuple[str, str], ...]
    words: Mapping[str, str]
    steps: tuple[tuple[float, str], ...]


def panels_of(dashboard: Path) -> list[Panel]:
    """Read the panels of a dashboard's file."""
    return [_read_panel(panel) for panel in json.loads(dashboard.read_text(encoding="utf-8"))["panels"]]


def _read_panel(panel: Mapping[str, Any]) -> Panel:
    left, top, width, height = (panel["gridPos"][key] for key in "xywh")
    defaults = panel["fieldConfig"]["defaults"]
    return Panel(
        panel["title"],
        panel["type"] == "stat",
        defaults.get("unit", "none"),
        (left, top, width, height),
        tuple((target["expr"], target.get("legendFormat", "")) for target in panel["targets"]),
        {
            number: shown["text"]
            for mapping in defaults.get("mappings", ())
            for number, shown in mapping["options"].items()
        },
        tuple((step["value"] or 0.0, step["color"]) for step in defaults.get("thresholds", {}).get("steps", ())),
    )


def drawing(panels: Sequence[Panel], scrapes: Sequence[Scrape], title: str) -> str:
    """Return the picture."""
    width = 24 * _COLUMN + _GAP
    height = 40 + max(top + rows for _, top, _, rows in (panel.place for panel in panels)) * _ROW + _GAP
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="11" fill="#24292f" role="img" aria-label="{escape(title)}">'
        f'<rect width="{width}" height="{height}" fill="#f4f5f5"/>'
        f'<text x="{_GAP}" y="26" font-size="15" font-weight="600">{escape(title)}</text>'
    )
    return "\n".join([
        opening,
        *(part for panel in panels for part in _panel(panel, scrapes)),
        "</svg>",
        "",
    ])  # fmt: skip


def _panel(panel: Panel, scrapes: Sequence[Scrape]) -> Iterator[str]:
    column, row, columns, rows = panel.place
    left, top = _GAP + column * _COLUMN, 40 + row * _ROW
    width, height = columns * _COLUMN - _GAP, rows * _ROW - _GAP
    lines = [
        (_name(legend, series), series) for query, legend in panel.targets for series in evaluate(parse(query), scrapes)
    ]
    yield f'<g transform="translate({left} {top})">'
    yield f'<rect width="{width}" height="{height}" rx="3" fill="#ffffff" stroke="#d0d7de"/>'
    yield f'<text x="10" y="18" font-weight="600">{escape(panel.title)}</text>'
    if panel.is_number:
        yield from _numbers(panel, lines, width)
    else:
        yield from _chart(lines, panel.unit, scrapes[-1].moment, (width, height))
    yield "</g>"


def _name(legend: str, series: Series) -> str:
    return re.sub(r"{{\s*(\w+)\s*}}", lambda match: series.labels.get(match[1], ""), legend)


def _numbers(panel: Panel, lines: Sequence[tuple[str, Series]], width: int) -> Iterator[str]:
    shown = [(name, series.points[-1][1]) for name, series in lines] or [("nothing", 0.0)]
    for number, (name, value) in enumerate(shown):
        middle = width * (2 * number + 1) // (2 * len(shown))
        text = panel.words.get(f"{value:.0f}", f"{value:.0f}")
        colour = [colour for least, colour in panel.steps if value >= least] or ["green"]
        yield f'<text x="{middle}" y="76" font-size="28" text-anchor="middle" fill="{colour[-1]}">{escape(text)}</text>'
        yield f'<text x="{middle}" y="104" text-anchor="middle" fill="#57606a">{escape(name)}</text>'


def _chart(lines: Sequence[tuple[str, Series]], unit: str, seconds: float, size: tuple[int, int]) -> Iterator[str]:
    lines = sorted(lines, key=lambda line: -max(value for _, value in line[1].points))[:_LEGEND_SHOWN]
    width, height = size
    names = 4 if width > _WIDE else 2  # side by side in the legend
    left, right, top, bottom = 56, width - 12, 30, height - 24 - 13 * -(-len(lines) // names)
    highest = _round_up(max((value for _, series in lines for _, value in series.points), default=1.0))

    def place(point: tuple[float, float]) -> str:
        moment, value = point
        return f"{left + (right - left) * moment / seconds:.1f},{bottom - (bottom - top) * value / highest:.1f}"

    for step in range(3):
        y = bottom - (bottom - top) * step // 2
        yield f'<path d="M{left} {y} H{right}" stroke="#eaeef2"/>'
        words = _worded(highest * step / 2, unit)
        yield f'<text x="{left - 6}" y="{y + 4}" text-anchor="end" fill="#57606a">{words}</text>'
    for minute in range(int(seconds // 60) + 1):
        x = left + (right - left) * minute * 60 / seconds
        yield f'<text x="{x:.0f}" y="{bottom + 15}" text-anchor="middle" fill="#57606a">{minute} min</text>'
    for number, (name, series) in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(map(place, series.points))
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        x, y = left + (number % names) * (right - left) // names, bottom + 31 + 13 * (number // names)
        yield f'<rect x="{x}" y="{y - 6}" width="10" height="3" fill="{colour}"/>'
        yield f'<text x="{x + 14}" y="{y}" font-size="9">{escape(name)}</text>'


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 5, 10, 20 …; 1 where there is nothing to see."""
    if value <= 0:
        return 1.0
    step = 1e-6
    while value > step:
        for factor in (1, 2, 5, 10):
            if value <= step * factor:
                return step * factor
        step *= 10
    return step


def _worded(value: float, unit: str) -> str:
    word: Callable[[float], str] | None = {
        "s": lambda seconds: f"{seconds:g} s" if seconds >= 1 or not seconds else f"{seconds * _KILO:g} ms",
        "Bps": lambda size: f"{_scaled(size)}B/s",
        "reqps": lambda rate: f"{rate:g}/s",
    }.get(unit)
    return _scaled(value).rstrip() if word is None else word(value)


def _scaled(value: float) -> str:
    scales: Mapping[str, float] = {"G": 1e9, "M": 1e6, "k": 1e3}
    for letter, scale in scales.items():
        if value >= scale:
            return f"{value / scale:g} {letter}"
    return f"{value:g} "
