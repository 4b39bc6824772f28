"""The keys of a rule that keeps up with growing files: `mode` and `lines`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import PlainValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from iot.sftp.module._documents.template import Template

COPY, APPEND = MODES = ("copy", "append")
# What else a rule may have that would delete, move, keep back or rename a file that grows; with what it has to be
ALONE = {"then": "keep", "if_exists": "replace", "marker": None, "on_failure": None}


def _mode(value: object, info: ValidationInfo) -> str:
    if value not in MODES:
        raise PydanticCustomError("mode", 'must be "copy" or "append"')
    if value == APPEND:
        reason = _contradiction(info.data)
        if reason is not None:
            raise PydanticCustomError("mode", '"append" {reason}', {"reason": reason})
    return str(value)


def _contradiction(rule: dict[str, Any]) -> str | None:
    """Return why what a rule says so far does not go with appending."""
    for key, only in ALONE.items():
        if rule.get(key, only) != only:
            return f"does not go with '{key}'" + (f' other than "{only}"' if only else "")
    for key in ("dest", "rename"):
        template = rule.get(key)
        if isinstance(template, Template) and template.has_date:
            return f"does not go with a date in '{key}': it would begin again under another path"
    return None


def _lines(value: object, info: ValidationInfo) -> bool:
    if not isinstance(value, bool):
        raise PydanticCustomError("lines", "must be true or false")
    if value and info.data.get("mode", APPEND) != APPEND:
        raise PydanticCustomError("lines", 'goes with "mode": "append" only')
    return value


Mode = Annotated[str, PlainValidator(_mode)]
"""How files are transferred; it comes behind the keys that it is compared with."""
Lines = Annotated[bool, PlainValidator(_lines)]
"""Whether whole lines only are delivered; it comes behind the mode."""
