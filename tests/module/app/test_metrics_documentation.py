"""The page on metrics, the alerts and the dashboard name the metrics that a module serves."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.module.app.conftest import Scraped

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "metrics.md").read_text()
ALERTS = (ROOT / "monitoring" / "alerts.yml").read_text()
DASHBOARD = (ROOT / "monitoring" / "grafana-dashboard.json").read_text()
IDENTITY = {"iothub", "edge_device", "module_name", "instance_number"}


def test_the_page_has_every_metric_with_its_type_and_labels_and_no_other(scraped: Scraped) -> None:
    scraped.invoke("exists", {"path": "."})
    told = {}
    for family in scraped.scrape().families.values():
        name = family.name + ("_total" if family.type == "counter" else "")
        told[name] = (family.type, {label for sample in family.samples for label in sample.labels} - IDENTITY)
    rows = re.findall(r"^\| `(sftp_\w+)` \| (\w+) \| (.*?) \|", PAGE, re.MULTILINE)
    assert {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows} == told


@pytest.mark.parametrize("text", [ALERTS, DASHBOARD], ids=["alerts", "dashboard"])
def test_alerts_and_dashboard_name_metrics_of_the_page_only(text: str) -> None:
    known = set(re.findall(r"^\| `(sftp_\w+)` \|", PAGE, re.MULTILINE))
    known |= {f"{name}_{part}" for name in known for part in ("sum", "count")}
    named = set(re.findall(r"\bsftp_\w+", text))
    assert named
    assert named <= known


def test_alerts_and_dashboard_select_by_existing_labels_only(scraped: Scraped) -> None:
    scraped.invoke("exists", {"path": "."})
    samples = [sample for family in scraped.scrape().families.values() for sample in family.samples]
    labels = {(sample.name, label) for sample in samples for label in sample.labels}
    selections = re.findall(r"(sftp_\w+)\{(.*?)\}", ALERTS + json.dumps(json.loads(DASHBOARD), ensure_ascii=False))
    assert selections
    for name, selection in selections:
        for label in re.findall(r"(\w+) ?(?:=~|!=|=)", selection):
            assert (name, label) in labels, (name, label)


def test_an_alert_on_an_increase_includes_counts_before_the_first_scrape() -> None:
    """To `increase()` the first value that is scraped of a process is where it begins, whatever it is."""
    grows = re.findall(r"increase\((.*?)\[(\w+)\]\)", ALERTS)
    assert len(grows) == ALERTS.count("increase(sftp") >= 3
    for name, period in grows:
        assert f"or ({name} > 0 unless max_over_time({name}[1d] offset {period}))" in ALERTS


def test_the_page_has_every_alert_and_what_to_do() -> None:
    alerts = re.findall(r"^\s+- alert: (\w+)$", ALERTS, re.MULTILINE)
    assert len(alerts) >= 6
    assert re.findall(r"^\| `(Sftp\w+)` \| ", PAGE, re.MULTILINE) == alerts


def test_an_alert_names_the_same_runbook_as_the_page() -> None:
    runbooks = re.findall(r"- alert: (\w+)$.*?^\s+runbook: docs/(\S+)$", ALERTS, re.MULTILINE | re.DOTALL)
    rows = dict(re.findall(r"^\| `(Sftp\w+)` \| (.*)$", PAGE, re.MULTILINE))
    assert [name for name, _ in runbooks] == list(rows)
    for name, runbook in runbooks:
        assert f"({runbook})" in rows[name]
    for alert in ALERTS.split("- alert: ")[1:]:
        assert {"expr", "for", "labels", "annotations", "severity", "summary", "description"} <= set(
            re.findall(r"(\w+):", alert)
        )


def test_the_allowed_metrics_for_azures_collector_are_those_of_the_alerts() -> None:
    (allowed,) = re.findall(r'"AllowedMetrics": \{ "value": "edge\* ([^"]*)" \}', PAGE)
    assert set(allowed.split()) == set(re.findall(r"\bsftp_\w+", ALERTS))


def test_both_disks_have_an_alert_and_a_runbook_each() -> None:
    (expression,) = re.findall(r"SftpDiskNearlyFull\n\s+expr: (.*)", ALERTS)
    assert "disk=" not in expression  # so it is about both
    assert "{{ $labels.disk }}" in ALERTS
    (row,) = re.findall(r"^\| `SftpDiskNearlyFull` \| .*$", PAGE, re.MULTILINE)
    assert re.findall(r"`(\w+)`: \[[^]]*\]\(operate\.md#([\w-]+)\)", row) == [
        ("data", "a-disk-is-full"),
        ("state", "the-state-directory-is-full-read-only-or-lost"),
    ]
