"""Write what the matrix found as docs/interoperability.md."""

from __future__ import annotations

import datetime
import json
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

from tests.interop.checks import CHECKS, ODD_NAMES
from tests.interop.kinds import BUILD, KINDS, NOT_TO_BE_HAD, Kind
from tests.interop.matrix import CANNOT, DECLINED, FAILED, PASSED, SKIPPED

from iot.sftp.client import VERSION

Result = dict[str, Any]

KEPT = BUILD / "results"
VOLUME = "volume"
GROWTH = "keeps_up_with_a_file_that_grows_by_its_new_bytes"
GROWING = (
    'With [`"mode": "append"`](rules.md#files-that-grow), a server that offers `copy-data` makes the next version of a '
    "file itself, and a reader sees the old or the new one. Elsewhere, the new bytes are appended in place."
)

HEAD = """
Which SFTP servers this client was tried with, how each check went, what is done differently for a server and why, and
what cannot be done with one. For anybody who chooses a server, or wonders whether a failure is the server's habit.

This page is written by `make interop`: it installs every server that Debian's packages, PyPI and npm offer, starts
each on the loopback interface, and makes the {checks} checks below. What arrived is compared byte by byte: by SHA-256
on the server's disk, or as another client reads it. Where a check fails, OpenSSH's own `sftp` is asked to do the same.
*Failed* are checks that another client passes and we do not. *Impossible* are those that `sftp` cannot pass either,
with what it says. *Declined* is the replacement of a file where the server refuses every rename: writing over the old
file could destroy it. *Not made* are checks that need something the machine does not have. `make test` makes the quick
checks with {fast}.

Last run: {day}, iot-sftp-client {version}.
"""


def result(kind: Kind, version: str, outcomes: list[dict[str, Any]], why: str) -> Result:
    """Return what is known of one server after its run.

    Parameters:
        kind: the server.
        version: as it reports it.
        outcomes: as `Outcome.as_json` has them.
        why: it did not run, or not to its end.
    """
    return {"kind": kind.name, "version": version, "outcomes": outcomes, "why": why}


def keep(name: str, found: Any) -> None:
    """Keep what a run found, so that the page can be written when some servers have run again."""
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{name}.json").write_text(json.dumps(found))


def _kept(name: str) -> Any:
    try:
        return json.loads((KEPT / f"{name}.json").read_text())
    except FileNotFoundError:
        return None


def write(place: Path) -> None:
    """Write the page, from the newest run of each server."""
    results = [_kept(kind.name) or result(kind, "", [], kind.missing() or "it was not chosen") for kind in KINDS]
    volumes = _kept(VOLUME) or []
    place.write_text("\n".join(_page(results, volumes)) + "\n", encoding="utf-8")


def _page(results: list[Result], volumes: list[dict[str, Any]]) -> list[str]:
    kinds = {kind.name: kind for kind in KINDS}
    fast = ", ".join(f"`{kind.name}`" for kind in KINDS if kind.fast)
    day = datetime.datetime.now(tz=datetime.timezone.utc).date()
    head = ["# Interoperability"]
    for paragraph in HEAD.format(checks=len(CHECKS), fast=fast, day=day, version=VERSION).strip().split("\n\n"):
        head += ["", *_wrapped(paragraph)]
    ran = [result for result in results if result["outcomes"]]
    absent = [result for result in results if not result["outcomes"]]
    lines = [*head, "", *_table(kinds, ran)]
    lines += ["", "## Not run here", ""]
    for result in absent:
        lines += _item(f"{kinds[result['kind']].title}: {result['why']}.")
    for name, why in NOT_TO_BE_HAD.items():
        lines += _item(f"{name}: {why}")
    lines += ["", "## Server by server"]
    for result in ran:
        lines += _server(kinds[result["kind"]], result)
    lines += _growth(kinds, ran)
    lines += _volume(volumes)
    lines += _checks(ran)
    return lines


def _table(kinds: dict[str, Kind], results: list[Result]) -> list[str]:
    lines = [
        "## Results",
        "",
        "| server | version | passed | failed | impossible | declined | not made |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for result in results:
        count = Counter(outcome["status"] for outcome in result["outcomes"])
        kind = kinds[result["kind"]]
        title = f"[{kind.title}](#{kind.name})"
        figures = " | ".join(str(count[status] or "") for status in (PASSED, FAILED, CANNOT, DECLINED, SKIPPED))
        lines.append(f"| {title} | {result['version']} | {figures} |")
    return lines


def _server(kind: Kind, result: Result) -> list[str]:
    lines = ["", f"### {kind.name}", ""]
    where = ", ".join(f"`{package}`" for package in kind.packages)
    lines += _wrapped(f"{kind.title}, version {result['version'] or 'unknown'}, from {where}.")
    if kind.differently:
        lines += ["", *_wrapped(kind.differently)]
    if result["why"]:
        lines += ["", f"The run did not end: {result['why']}."]
    for status, title in ((FAILED, "Failed"), (CANNOT, "Impossible"), (DECLINED, "Declined"), (SKIPPED, "Not made")):
        found = [outcome for outcome in result["outcomes"] if outcome["status"] == status]
        if not found:
            continue
        lines += ["", f"{title}:", ""]
        for why, peer, checks in _alike(found):
            asked = f" OpenSSH's `sftp`: {_plain(peer)}." if peer else ""
            lines += _item(f"{', '.join(checks)}: {_plain(why)}.{asked}")
    notes = [(outcome["check"], note) for outcome in result["outcomes"] for note in outcome["notes"] if note]
    if notes:
        lines += ["", "Seen:", ""]
        for check, note in notes:
            lines += _item(f"{_sentence(check)}: {_plain(note)}")
    return lines


def _alike(outcomes: list[dict[str, Any]]) -> list[tuple[str, str, list[str]]]:
    """Put those together that failed for one reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for outcome in outcomes:
        key = outcome["reason"], outcome["peer"]
        groups.setdefault(key, []).append(_sentence(outcome["check"]))
    return [(why, peer, checks) for (why, peer), checks in groups.items()]


def _sentence(check: str) -> str:
    return next((each.sentence for each in CHECKS if each.name == check), check)


def _plain(words: str) -> str:
    """Return words that cannot be taken for anything else in a list of Markdown."""
    return words.replace("\n", " ").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").rstrip(".")


def _growth(kinds: dict[str, Kind], results: list[Result]) -> list[str]:
    """Return who makes the next version of a file that grows, the server or we."""
    ways: dict[str, list[str]] = {}
    for result in results:
        for outcome in result["outcomes"]:
            if outcome["check"] == GROWTH:
                way = "; ".join(outcome["notes"]) if outcome["status"] == PASSED else "not possible"
                ways.setdefault(way, []).append(kinds[result["kind"]].title)
    if not ways:
        return []
    lines = ["", "## Files that grow", "", *_wrapped(GROWING), ""]
    for way, titles in sorted(ways.items()):
        lines += _item(f"{_plain(way).capitalize()}: {'; '.join(titles)}.")
    return lines


def _volume(volumes: list[dict[str, Any]]) -> list[str]:
    if not volumes:
        return []
    lines = [
        "",
        "## The same upload many times",
        "",
        "Go's pkg/sftp carries out WRITE, FSTAT and CLOSE in parallel workers. What depends on their order fails at",
        "random, so each upload is repeated and compared by SHA-256.",
        "",
        "| server | size | uploads | failed | first reason |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for one in volumes:
        row = (one["server"], one["size"], str(one["times"]), str(one["failures"]), _plain(one["first"]))
        lines.append("| " + " | ".join(row) + " |")
    return lines


def _checks(results: list[Result]) -> list[str]:
    lines = ["", "## Check by check", "", "| check | passed | failed | impossible |", "| --- | ---: | ---: | ---: |"]
    for check in CHECKS:
        status = Counter(
            outcome["status"] for result in results for outcome in result["outcomes"] if outcome["check"] == check.name
        )
        figures = " | ".join(str(status[each] or "") for each in (PASSED, FAILED, CANNOT))
        lines.append(f"| {check.sentence} | {figures} |")
    odd = ", ".join(f"`{name if len(name) < 50 else name[:5] + '…'}`" for name in ODD_NAMES if "|" not in name)
    return [*lines, "", *_wrapped(f"The odd names are: {odd}.")]


def _wrapped(text: str, *, first: str = "", others: str = "") -> list[str]:
    """Return the lines of a paragraph."""
    return textwrap.wrap(
        text, 120, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )


def _item(text: str) -> list[str]:
    """Return the lines of an item of a list."""
    return _wrapped(text, first="- ", others="  ")
