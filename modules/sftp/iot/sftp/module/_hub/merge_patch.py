"""JSON merge patches (RFC 7396), which is how a twin is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Properties = dict[str, Any]


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> Properties:
    """Return the merge patch that turns `old` into `new`."""
    patch: Properties = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            inner = difference(before, value)
            if inner:
                patch[key] = inner
        elif key not in old or before != value:
            patch[key] = value
    return patch


def merged(target: Mapping[str, Any], patch: Mapping[str, Any]) -> Properties:
    """Return `target` with a merge patch applied (RFC 7396, section 2)."""
    result = dict(target)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            before = result.get(key)
            result[key] = merged(before if isinstance(before, dict) else {}, value)
        else:
            result[key] = value
    return result
