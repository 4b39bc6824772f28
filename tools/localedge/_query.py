"""IoT Hub's query language, as far as modules and jobs need it.

`SELECT * FROM devices.modules` or `devices.jobs`, with conditions joined by AND: `path = 'value'`, `path != 'value'`,
`path IN ['a', 'b']`.
A path begins at the document (`deviceId`, `tags.site`, `properties.reported.connection.state`); as in IoT Hub the
collection's name may stand before it, and `moduleId` is found in any case. Source: "IoT Hub query language".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from localedge._errors import HubError

_COLLECTIONS = ("devices.modules", "devices.jobs")
_QUERY = re.compile(r"\s*(?:SELECT\s+\*\s+)?FROM\s+([\w.]+)(?:\s+WHERE\s+(.+?))?\s*", re.IGNORECASE | re.DOTALL)
_VALUE = r"'[^']*'|-?\d+(?:\.\d+)?|true|false"
_CONDITION = re.compile(
    rf"\s*([\w.]+)\s*(?:(=|!=)\s*({_VALUE})|IN\s*\[\s*((?:{_VALUE})(?:\s*,\s*(?:{_VALUE}))*)\s*\])\s*", re.IGNORECASE
)

Document = dict[str, Any]


@dataclass(frozen=True)
class Query:
    """What to look through, and what has to hold of a document."""

    collection: str
    matches: Callable[[Document], bool]


def parsed(text: str) -> Query:
    """Read a query, or the condition of a job, which is a query without SELECT; `HubError` 400 for anything else."""
    match = _QUERY.fullmatch(text)
    if match is None or match.group(1).lower() not in _COLLECTIONS:
        raise HubError.invalid(
            f"The query {text!r} is not FROM {' or '.join(_COLLECTIONS)}, the only ones that the local runtime knows."
        )
    collection = match.group(1).lower()
    parts = re.split(r"\s+AND\s+", match.group(2), flags=re.IGNORECASE) if match.group(2) else []
    conditions = [_condition(part, collection) for part in parts]
    return Query(collection, lambda document: all(condition(document) for condition in conditions))


def _condition(text: str, collection: str) -> Callable[[Document], bool]:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise HubError.invalid(f"The condition {text!r} is not PATH = 'value' or PATH IN ['value', …].")
    path, comparison, value, values = match.groups()
    expected = [_literal(item) for item in re.findall(_VALUE, value or values, re.IGNORECASE)]
    names = path.removeprefix(f"{collection}.").split(".")
    return lambda document: _is_one_of(_value(document, names), expected) != (comparison == "!=")


def _is_one_of(value: object, expected: list[object]) -> bool:
    # In JSON, true is not 1
    return any(value == item and isinstance(value, bool) == isinstance(item, bool) for item in expected)


def _literal(text: str) -> object:
    if text.startswith("'"):
        return text[1:-1]
    return {"true": True, "false": False}.get(text.lower(), float(text) if text[-1].isdigit() else None)


def _value(document: Any, names: list[str]) -> object:
    for name in names:
        if not isinstance(document, dict):
            return None
        if name not in document:
            name = next((key for key in document if key.lower() == name.lower()), name)  # noqa: PLW2901 - in any case
        document = document.get(name)
    return document
