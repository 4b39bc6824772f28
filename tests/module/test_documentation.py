"""What the documentation says of methods, errors and the twin is what the module does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from iot.sftp.module._documents.rule import Rule, read_rules
from iot.sftp.module._documents.server import ServerSection
from iot.sftp.module._documents.twin import TransfersSection, read_desired
from iot.sftp.module._hub import reported
from iot.sftp.module._methods.statuses import STATUSES
from iot.sftp.module._methods.table import METHODS
from iot.sftp.module._rules.limits import RULE_LIMITS

DOCS = Path(__file__).parents[2] / "docs"
METHODS_PAGE = (DOCS / "direct-methods.md").read_text()
TWIN_PAGE = (DOCS / "twin.md").read_text()
RULES_PAGE = (DOCS / "rules.md").read_text()


def test_every_method_has_its_chapter_and_no_other_has() -> None:
    assert set(re.findall(r"^### `(\w+)`", METHODS_PAGE, re.MULTILINE)) == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_of_a_method_is_in_its_chapter(name: str) -> None:
    chapter = METHODS_PAGE.partition(f"### `{name}`")[2].partition("\n##")[0]
    common = {"timeout", "server", "expand"}  # described once for all methods
    for parameter in set(METHODS[name].request.model_fields) - common:
        assert f"| `{parameter}` |" in chapter


def test_the_table_of_the_page_has_every_error_with_its_status() -> None:
    rows = re.findall(r"^\| (`.*?`) \| (\d{3}) \|", METHODS_PAGE, re.MULTILINE)
    documented = {(code, int(status)) for codes, status in rows for code in re.findall(r"\w+", codes)}
    assert documented == set(STATUSES.items())


def test_the_example_of_desired_properties_is_valid() -> None:
    (example,) = [
        block for block in re.findall(r"```json\n(.*?)```", TWIN_PAGE, re.DOTALL) if "connectTimeout" in block
    ]
    desired = read_desired(json.loads(example.replace("SHA256:…", "SHA256:" + "A" * 43)))
    assert (desired.sftp.error, desired.transfers.error, desired.log_level.error) == (None, None, None)
    assert desired.unknown == ()


def test_every_key_of_a_rule_is_in_its_table_and_the_examples_are_valid() -> None:
    for name in Rule.model_fields:
        assert f"| `{name}` |" in RULES_PAGE
    (example,) = [block for block in re.findall(r"```json\n(.*?)```", RULES_PAGE, re.DOTALL) if "file_pattern" in block]
    for document in (json.loads(example), json.loads(re.findall(r"```json\n(.*?)```", TWIN_PAGE, re.DOTALL)[0])):
        section = read_rules(document["rules"])
        assert section is not None
        assert section.rules
        assert not section.errors
        assert section.error is None


def test_what_a_day_costs_is_what_the_constants_say() -> None:
    page, day = (DOCS / "deploy.md").read_text(), 86_400
    moving = round(RULE_LIMITS.counts_at_once + day / RULE_LIMITS.counts_period)
    flapping = round(reported.BURST + day / reported.LONG_TERM_INTERVAL)
    idle = round(day / RULE_LIMITS.nothing_new)
    assert f"| rules that move files every 5 minutes, or all the time | {moving} at most |" in page
    assert f"| a link that flaps all day | {flapping:,} at most |" in page
    assert f"| rules that find nothing new, however many and however often | {idle} |" in page
    assert f"with rules that find nothing {idle * 10_000:,} updates" in page
    assert f"{moving / 100:.2f} million updates at most" in page


def test_every_key_of_the_twin_is_in_its_table() -> None:
    for section in (ServerSection, TransfersSection):
        for field in section.model_fields.values():
            assert f"| `{field.alias}` |" in TWIN_PAGE
