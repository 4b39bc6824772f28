"""Summarize messages about files: what remains of the oldest ones when the hub is away for long."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from iot.sftp.module._work.outgoing import FILES, SUMMARY_PREFIX, Outgoing

if TYPE_CHECKING:
    from collections.abc import Iterable

ORIGINS_MAXIMUM = 100  # summaries at a time: rules may get new names, week after week


def summarize(messages: Iterable[Outgoing], summaries: Iterable[Outgoing]) -> list[Outgoing]:
    """Return summaries that take the place of some messages, and of some earlier summaries.

    There is one for each server, direction and rule; the tasks of a server and a direction share one.
    """
    totals: dict[str, dict[str, Any]] = {}
    for message in (*summaries, *messages):
        document = json.loads(message.body)
        origin = _origin_of(document)
        name = json.dumps(origin)
        if name not in totals and len(totals) >= ORIGINS_MAXIMUM:
            origin = {"server": None, "direction": None, "rule": None}
            name = json.dumps(origin)
        total = totals.setdefault(name, {**origin, "files": [], "summary": _nothing()})
        _add(total["summary"], document)
    return [Outgoing(FILES, f"{SUMMARY_PREFIX}{uuid.uuid4().hex}", json.dumps(total)) for total in totals.values()]


def _origin_of(document: dict[str, Any]) -> dict[str, Any]:
    origin = {key: value for key, value in document.items() if key not in {"files", "summary"}}
    return {**origin, "task_id": None} if "task_id" in origin else origin


def _nothing() -> dict[str, Any]:
    return {"messages": 0, "outcomes": {}, "bytes": 0, "first": None, "last": None}


def _add(total: dict[str, Any], document: dict[str, Any]) -> None:
    """Add a message, or an earlier summary."""
    added = document.get("summary") or _summary_of(document["files"])
    total["messages"] += added["messages"]
    total["bytes"] += added["bytes"]
    for outcome, count in added["outcomes"].items():
        total["outcomes"][outcome] = total["outcomes"].get(outcome, 0) + count
    moments = [moment for moment in (total["first"], total["last"], added["first"], added["last"]) if moment]
    total["first"], total["last"] = min(moments, default=None), max(moments, default=None)


def _summary_of(files: list[dict[str, Any]]) -> dict[str, Any]:
    summary = _nothing() | {"messages": 1}
    for file in files:
        summary["outcomes"][file["outcome"]] = summary["outcomes"].get(file["outcome"], 0) + 1
        summary["bytes"] += (file["bytes"] or 0) if file["outcome"] == "delivered" else 0
    moments = [file["at"] for file in files]
    return summary | {"first": min(moments, default=None), "last": max(moments, default=None)}
