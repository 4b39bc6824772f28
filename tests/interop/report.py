from __future__ import annotations
from typing import Any
Result = dict[str, Any]
def result(kind: Any, version: str, outcomes: list[Any], why: str) -> Result:
    return {"kind": kind.name, "version": version, "outcomes": outcomes, "why": why}
