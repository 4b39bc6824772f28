"""docs/design.md and CONTRIBUTING.md name rooms and files that exist, and the file to open first for a change."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reference import rooms

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "design.md").read_text()
FIRST = re.findall(
    r"^\| (.+?) \| \[`[^`]+`\]\(([^)]+)\) \| `([^`]+)` \|$", PAGE.partition("## Where to open first")[2], re.MULTILINE
)


def test_the_page_says_where_to_open_first_for_eight_changes() -> None:
    assert [change for change, _, _ in FIRST] == [
        "a log line's format",
        "a metric",
        "a direct method",
        "the default connect timeout",
        "a rule's backoff",
        "the retry count",
        "the memory limit of listings",
        "the allowed ciphers",
    ]


@pytest.mark.parametrize("change, file, thing", FIRST, ids=[change for change, _, _ in FIRST])
def test_what_is_to_be_changed_is_in_the_file_that_the_page_names(change: str, file: str, thing: str) -> None:
    assert thing in (DOCS / file).read_text(), change


@pytest.mark.parametrize("house", ["client", "module"])
def test_the_tables_of_rooms_name_every_room(house: str) -> None:
    table = PAGE.partition(f"| room of `iot.sftp.{house}` |")[2].partition("\n\n")[0]
    named = {name.removesuffix(".py") for row in table.splitlines() for name in re.findall(r"`(_\w+(?:\.py)?)`", row)}

    assert named == set(rooms(house))


def test_no_file_is_named_by_a_name_that_it_no_longer_has() -> None:
    source = DOCS.parent / "modules/sftp/iot/sftp"

    for name in re.findall(r"`(_\w+/[\w/.]+)`", PAGE):
        assert list(source.glob(f"*/{name}")), name


def test_every_file_that_the_worked_example_touches_exists() -> None:
    example = (DOCS.parent / "CONTRIBUTING.md").read_text().partition("## A worked example")[2].partition("\n## ")[0]
    named = re.findall(r"^\d\. `([^`]+)`", example, re.MULTILINE)

    assert len(named) == 8
    for name in named:
        assert (DOCS.parent / name).is_file(), name
