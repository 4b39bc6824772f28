"""The keys `marker` and `on_failure` of a rule: what they mean, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import pytest

from iot.sftp.client import Direction, Quarantine, Then
from iot.sftp.module._documents.orders import folder_order
from iot.sftp.module._documents.rule import Rule, read_rules
from iot.sftp.module._documents.template import Placeholders

NOW = 1_795_000_000.0
DEVICE = Placeholders("device-7", "sftp", "hub", {"line": "7"})


def read(**keys: Any) -> Rule | str:
    """Return the rule with these keys, or what is said of them."""
    section = read_rules([{"name": "r", "direction": "upload", "source": "out", "dest": "in"} | keys], DEVICE)
    assert section is not None
    return section.rules.get("r") or section.errors["r"]


def rule_of(**keys: Any) -> Rule:
    rule = read(**keys)
    assert isinstance(rule, Rule), rule
    return rule


def test_each_file_has_markers_by_its_name_and_by_the_values_of_the_device() -> None:
    rule = rule_of(
        server="sftp",
        marker={"wait": "{stem}.{line}.done", "write": "{server}-{name}.ready", "checksum": "{name}.sha256"},
    )
    markers = folder_order(Direction.UPLOAD, rule, lambda: NOW).markers
    assert markers.waited_for("d/a.b.csv") == "d/a.b.7.done"
    assert markers.at("d/a.csv") == ["d/sftp-a.csv.ready", "d/a.csv.sha256"]
    assert not markers.selects("d/x.7.done")
    assert markers.selects("d/x.done")
    assert markers.wait is not None
    assert markers.wait.is_shared
    assert rule_of() == rule_of(marker=None, on_failure=None)
    assert rule_of(marker={"wait": "{name}.done"}) != rule_of(marker={"wait": "{name}.ok"})
    assert not folder_order(Direction.UPLOAD, rule_of(), lambda: NOW).markers.is_used


@pytest.mark.parametrize(
    "marker, shared, are, are_not",
    [
        ("{name}.done", False, ["a.csv.done", "\n.done", ".done.done"], [".done", "a.csv", "a.done.csv"]),
        ("{stem}.done", True, ["a.done", "a.b.done"], [".done", "a.csv"]),
        ("{stem}-done{ext}", False, ["a-done.csv", "a-done"], ["a.csv", "-done.csv", "a-done-x"]),
        ("done.{name}", False, ["done.a"], ["done.", "a.done"]),
        ("{{{name}}}", False, ["{a}"], ["a", "{}"]),
    ],
)
def test_markers_are_told_from_files_by_their_names(
    marker: str, shared: bool, are: list[str], are_not: list[str]
) -> None:
    rule = rule_of(marker={"wait": marker})
    assert rule.marker is not None
    wait = rule.marker.wait
    assert wait is not None
    assert wait.is_shared == shared
    assert [name for name in (*are, *are_not) if wait.matches(name)] == are
    for name in ("a", "a.csv", ".csv", "a.b.c"):
        assert wait.matches(wait(name))


@pytest.mark.parametrize(
    "marker, words",
    [
        ("{name}.done", "'marker' must be an object with 'wait', 'write' or 'checksum', such as {\"wait\""),
        ({}, "'marker' must be an object"),
        ({"read": "{name}.done"}, "'marker' must be an object"),
        ({"wait": 7}, "'marker.wait' must be a string"),
        ({"wait": ""}, "'marker.wait' must not be empty"),
        ({"write": "done/{name}"}, "'marker.write' is a name, and must not contain '/'"),
        ({"write": "{folder}.done"}, "{folder}"),
        ({"write": "{nme}.done"}, "'marker.write' has the unknown placeholder {nme}"),
        ({"write": "all.done"}, "'marker.write' is the same for all files: it needs {name} or {stem}"),
        ({"write": "all{ext}"}, "is the same for all files"),
        ({"checksum": "{name}"}, "'marker.checksum' may be the name of the file itself: add text"),
        ({"wait": "{stem}{ext}"}, "may be the name of the file itself"),
        ({"wait": "{stem}"}, "may be the name of the file itself"),
        ({"wait": "{name}.{date:%Y}"}, "'marker.wait' has a date: a marker has to be found again"),
        ({"write": "{name}.x", "checksum": "{name}.x"}, "'marker.checksum' must be another name than that of 'write'"),
    ],
)
def test_a_marker_that_cannot_be_meant_is_named(marker: Any, words: str) -> None:
    said = read(marker=marker)
    assert isinstance(said, str)
    assert words in said


def test_files_that_fail_go_into_a_folder_with_the_values_of_the_device_and_dates() -> None:
    rule = rule_of(on_failure={"after": 5, "move": "failed/{line}"})
    assert folder_order(Direction.UPLOAD, rule, lambda: NOW).quarantine == Quarantine(5, "failed/7")
    rule = rule_of(on_failure={"after": 1, "move": "failed/{date:%Y}/{line}"})
    assert folder_order(Direction.UPLOAD, rule, lambda: NOW).quarantine == Quarantine(1, "failed/2026/7", "failed")
    assert folder_order(Direction.UPLOAD, rule_of(), lambda: NOW).quarantine is None


@pytest.mark.parametrize(
    "keys, words",
    [
        ({"on_failure": "failed"}, '\'on_failure\' must be {"after": 5, "move": "folder"}, with a whole number from 1'),
        ({"on_failure": {"after": 5}}, "'on_failure' must be"),
        ({"on_failure": {"after": 0, "move": "x"}}, "'on_failure.after' must be"),
        ({"on_failure": {"after": True, "move": "x"}}, "'on_failure.after' must be"),
        ({"on_failure": {"after": 1001, "move": "x"}}, "'on_failure.after' must be"),
        ({"on_failure": {"after": 2.5, "move": "x"}}, "'on_failure.after' must be"),
        ({"on_failure": {"after": 5, "move": ""}}, "'on_failure.move' must not be empty"),
        ({"on_failure": {"after": 5, "move": "{name}"}}, "'on_failure.move' has {name} at character 1"),
        ({"on_failure": {"after": 5, "move": "./out/"}}, "'on_failure.move' must be another folder than 'source'"),
        (
            {"then": {"move": "done"}, "on_failure": {"after": 5, "move": "done"}},
            "'on_failure.move' must be another folder than 'then'",
        ),
    ],
)
def test_what_cannot_be_meant_of_failures_is_named(keys: dict[str, Any], words: str) -> None:
    said = read(**keys)
    assert isinstance(said, str)
    assert words in said


@pytest.mark.parametrize("then", ["keep", "delete", {"move": "done"}])
@pytest.mark.parametrize("folder", ["keep", "delete", "move"])
def test_a_folder_may_have_the_name_of_what_becomes_of_files(folder: str, then: Any) -> None:
    rule = rule_of(then=then, on_failure={"after": 5, "move": folder}, if_exists={"backup": folder})
    order = folder_order(Direction.UPLOAD, rule, lambda: NOW)
    assert (order.quarantine, order.backup_to) == (Quarantine(5, folder), folder)
    order = folder_order(Direction.UPLOAD, rule_of(then={"move": folder}), lambda: NOW)
    assert (order.then, order.move_to) == (Then.MOVE, folder)
