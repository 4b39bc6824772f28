"""The project's own words for what has a name in the field stay out: whoever searches for the term finds it.

What a program prints is quoted in the documentation as code, and is held to the source, whose words are looked at here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MADE_FROM_THE_SOURCE = {"docs/api.md", "docs/interoperability.md"}
ABOUT_THE_PAST = {"CHANGELOG.md"}

# What the documentation must not say, as regular expressions, and what to write instead
IN_DOCUMENTATION = {
    r"mend(s|ed|ing)?": "fix, repair",
    r"anew": "again; restarted, replaced, retried",
    r"heal(s|ed|ing)?": "recover, repair",
    r"standing orders?": "rule",
    r"signs? of life": "heartbeat, keep-alive",
    r"at one blow": "atomically",
    r"in one step": "atomically",
    r"somebody('s| is)? in (between|the way|somebody's way)": "man-in-the-middle",
    r"is believed|are believed|who is believed": "is trusted; trust on first use",
    r"for ever": "without end, unlimited",
    r"without a limit": "unlimited, unbounded",
    r"ends? to be started": "exits so that the edge agent restarts it",
    r"goes on where it was|go on where they were": "resumes",
    r"safe repeats?|repeats? (is|are) safe": "idempotent, idempotency key",
    r"growing pauses?|pauses? that double": "exponential backoff",
    r"a defect|defects": "an internal error, a bug",
    r"is told of|are told of|told about|is told about": "reported, logged",
    r"makes? way for": "is interrupted for",
    r"by itself whether": "whether",
    r"comes to its turn": "runs",
    r"from any number of threads": "thread-safe",
    r"written down": "recorded",
    r"is tried again|are tried again|tries again": "is retried, retries",
}
# What source and tests must not say either; a word moves here when the last of it is gone
IN_SOURCE = {
    r"mend(s|ed|ing)?": "fix, repair",
    r"standing orders?": "rule",
    r"signs? of life": "heartbeat, keep-alive",
    r"for ever": "without end, unlimited",
    r"a defect|defects": "an internal error, a bug",
    r"at one blow": "atomically",
    r"in somebody's way": "blocks",
    r"comes to its turn": "runs",
    r"by itself whether": "whether",
    r"ma[dk]es? good": "repair, recover",
    r"hangs? each other up": "deadlock",
}
SOURCE_FOLDERS = ("modules", "tools", "tests", "benchmarks", "fuzzing", "examples", "monitoring", "deployments")
SOURCE_SUFFIXES = {".py", ".yml", ".json"}

PAGES = [
    page.relative_to(ROOT).as_posix()
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "tools").glob("*/README.md"))
    if page.relative_to(ROOT).as_posix() not in MADE_FROM_THE_SOURCE | ABOUT_THE_PAST
]


def prose(page: str) -> str:
    """Return a page without code, line by line as it is."""
    fence = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", fence.sub(lambda block: "\n" * block.group().count("\n"), page))


def sources() -> Iterator[Path]:
    for folder in SOURCE_FOLDERS:
        yield from (file for file in (ROOT / folder).rglob("*") if file.suffix in SOURCE_SUFFIXES)


def found(text: str, words: dict[str, str]) -> Iterator[str]:
    for pattern, instead in words.items():
        for match in re.finditer(rf"\b({pattern})\b", re.sub(r"\s", " ", text), re.IGNORECASE):
            line = text.count("\n", 0, match.start()) + 1
            yield f"line {line}: {match.group()!r}; write: {instead}"


@pytest.mark.parametrize("page", sorted(PAGES))
def test_a_page_has_the_words_of_the_field(page: str) -> None:
    problems = list(found(prose((ROOT / page).read_text()), IN_DOCUMENTATION))

    assert not problems, "\n".join([page, *problems])


def test_source_and_tests_have_the_words_of_the_field() -> None:
    problems = [
        f"{file.relative_to(ROOT)}, {problem}"
        for file in sources()
        if file != Path(__file__)
        for problem in found(file.read_text(), IN_SOURCE)
    ]

    assert not problems, "\n".join(problems)


def test_the_words_of_the_field_are_found_by_who_searches_for_them() -> None:
    pages = " ".join(prose((ROOT / page).read_text()) for page in PAGES).lower()

    for term in (
        *("idempotent", "idempotency key", "exponential backoff", "jitter", "heartbeat", "trust on first use"),
        *("man-in-the-middle", "thread-safe", "atomic", "temporary file", "resume", "retry", "delivery ledger"),
    ):
        assert term in pages, term
