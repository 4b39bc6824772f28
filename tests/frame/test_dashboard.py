"""The picture of the dashboard is drawn from what a run of the module told, by the dashboard's own queries."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from dashboard import Scrape, UnknownQueryError, drawing, evaluate, panels_of, parse, read_scrape
from dashboard._story import run
from localedge.testing import worker_address

ROOT = Path(__file__).parents[2]
PANELS = panels_of(ROOT / "monitoring" / "grafana-dashboard.json")
PICTURE = ROOT / "docs" / "dashboard.svg"
SCRAPES = [
    read_scrape(
        2.0 * number,
        f"""\
# TYPE files counter
files_total{{way="up",end="well"}} {5 * number}
files_total{{way="up",end="ill"}} {number}
files_total{{way="down",end="well"}} {3 if number < 3 else 1}
# TYPE seconds summary
seconds_sum{{way="up"}} {10 * number}
seconds_count{{way="up"}} {4 * number}
""",
    )
    for number in range(5)
]


def last_values(query: str) -> dict[str, float]:
    return {series.labels.get("way", ""): series.points[-1][1] for series in evaluate(parse(query), SCRAPES)}


def test_a_rate_is_the_rise_by_the_time() -> None:
    assert last_values('sum by (way) (rate(files_total{end="well"}[$__rate_interval]))') == {"up": 2.5, "down": 0.0}


def test_an_increase_counts_from_the_first_scrape_and_knows_counters_that_begin_again() -> None:
    assert last_values('sum by (way) (increase(files_total{end=~"well|ill"}[$__range]))') == {"up": 24.0, "down": 0.0}


def test_a_quotient_is_taken_line_by_line() -> None:
    query = "sum by (way) (rate(seconds_sum[$__rate_interval])) / sum by (way) (rate(seconds_count[$__rate_interval]))"
    assert last_values(query) == {"up": 2.5}


def test_lines_are_gathered_by_their_labels_or_all_together() -> None:
    assert last_values('max by (way) (files_total{end!="ill"})') == {"up": 20.0, "down": 1.0}
    assert last_values("sum (files_total)") == {"": 25.0}


@pytest.mark.parametrize("query", ["", "histogram_quantile(0.9, x)", "rate(x[5m])", "x y", "sum by (a) (b) #"])
def test_a_query_that_is_not_understood_is_refused(query: str) -> None:
    with pytest.raises(UnknownQueryError):
        parse(query)


def test_every_query_of_the_dashboard_is_understood() -> None:
    queries = [query for panel in PANELS for query, _ in panel.targets]

    assert len(queries) > 10
    for query in queries:
        parse(query)


def texts_of(picture: str) -> set[str]:
    return {element.text or "" for element in ET.fromstring(picture).iter() if element.tag.endswith("text")}  # noqa: S314 - ours


def test_a_run_is_drawn_with_all_panels() -> None:
    scrapes: list[Scrape] = run(ROOT / "deployment.template.json", worker_address(), seconds=6)

    shown = texts_of(drawing(PANELS, scrapes, "a run"))
    assert {panel.title for panel in PANELS} <= shown
    assert {"ok", "upload"} <= shown


def test_the_picture_that_is_committed_is_of_this_dashboard() -> None:
    picture = PICTURE.read_text()

    assert {panel.title for panel in PANELS} <= texts_of(picture)
    assert picture.count("<polyline") > len(PANELS)
    assert f"({PICTURE.name})" in (ROOT / "docs" / "operate.md").read_text()
