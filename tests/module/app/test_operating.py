"""What docs/operate.md says of errors, and docs/log-lines.md of the log, is what the source says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from iot.sftp import client
from iot.sftp.client import Cancelled, SFTPError, error_classes
from iot.sftp.module._methods.idempotency import RequestIdConflict
from iot.sftp.module._work.advice import ADVICE

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "operate.md").read_text()
LINES = (ROOT / "docs" / "log-lines.md").read_text()
SOURCES = [file for floor in ("client", "module") for file in (ROOT / "modules/sftp/iot/sftp" / floor).rglob("*.py")]
LEVELS = {"warning": "4", "error": "3", "exception": "3", "critical": "2"}
TELLING = 8  # letters that a text needs, for somebody to find it

CODES = dict(re.findall(r"^\| `(\w+)` \| .*? \| (yes|no)\b", PAGE, re.MULTILINE))
ROWS = [
    (severity, text)
    for severity, cell in re.findall(r"^\| ([2346]) \| (`.*?`) .*?\| ", LINES, re.MULTILINE)
    for text in re.findall(r"`([^`]+)`", cell)
]
RUNBOOKS = {
    re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-"): text  # as GitHub makes anchors
    for title, text in re.findall(r"^### ([^\n]*)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
}


@cache
def nodes() -> list[ast.Call | ast.JoinedStr | ast.Constant]:
    """Return what the source says and calls, once it is asked for: each worker imports this file."""
    every = (node for file in SOURCES for node in ast.walk(ast.parse(file.read_text())))
    return [node for node in every if isinstance(node, ast.Call | ast.JoinedStr | ast.Constant)]


def logged() -> Iterator[tuple[str, str]]:
    """Give the severity and the text of each call that logs a warning or worse, `…` for what differs."""
    for node in nodes():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield LEVELS[node.func.attr], re.sub(r"%[\d.]*[a-z]", "…", first.value)


@cache
def texts() -> frozenset[str]:
    """Return all texts of the source, `…` for what differs."""
    found = set[str]()
    for node in nodes():
        if isinstance(node, ast.JoinedStr):
            found.add("".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(re.sub(r"%[\d.]*[a-z]", "…", node.value))
    return frozenset(found)


@cache
def pattern_of(text: str) -> re.Pattern[str] | None:
    """Return what matches a text of the source with something put into it, if it tells enough."""
    if len(re.sub(r"\W", "", text)) <= TELLING:
        return None
    return re.compile(".*".join(re.escape(part) for part in text.split("…")))


def is_made_of(row: str, text: str) -> bool:
    """Tell whether a row of the page is a text of the source with something put into it."""
    pattern = pattern_of(text)
    return pattern is not None and pattern.fullmatch(row) is not None


def test_every_error_has_its_row_and_no_other_has() -> None:
    exported = [getattr(client, name) for name in client.__all__]
    errors = {kind.code for kind in exported if isinstance(kind, type) and issubclass(kind, SFTPError)}

    assert Cancelled.code in errors  # it is a kind of deadline_exceeded
    assert set(CODES) == errors | {RequestIdConflict.code}


def test_the_page_names_the_errors_that_tasks_retry() -> None:
    assert {code for code, again in CODES.items() if again == "yes"} == {
        error.code for error in error_classes() if "code" in vars(error) and error.retry.is_automatic
    }


@pytest.mark.parametrize("code", sorted(ADVICE))
def test_what_an_advice_names_is_in_the_row_of_the_page_or_its_runbook(code: str) -> None:
    (row,) = re.findall(rf"^\| `{code}` \| .*$", PAGE, re.MULTILINE)
    runbooks = [RUNBOOKS[anchor] for anchor in re.findall(r"\]\(#([\w-]+)\)", row)]
    names = re.findall(r"\b[a-z]+_[a-z_]+\b|(?<=\")\w+(?=\")|(?<=\bsftp\.)\w+|(?<=\btransfers\.)\w+", ADVICE[code])

    for name in names:
        assert re.search(rf"\b{name}\b", "\n".join([row, *runbooks])), name


def test_every_line_of_the_page_is_in_the_source() -> None:
    unknown = [row for _, row in ROWS if not any(row in text or is_made_of(row, text) for text in texts())]

    assert ROWS
    assert unknown == []


def test_every_warning_and_error_of_the_source_is_on_the_page() -> None:
    found = set(logged())

    assert found
    assert sorted(line for line in found if not is_on_the_page(*line)) == [], "docs/log-lines.md does not explain these"


def is_on_the_page(severity: str, text: str) -> bool:
    if len(re.sub(r"\W", "", text)) < TELLING:
        return True  # its text is in what is put into it, which is on the page as well
    rows = [row for number, row in ROWS if number == severity]
    return any(row == text or (len(row) > TELLING and row in text) or is_made_of(row, text) for row in rows)
