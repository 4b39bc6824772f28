"""IoT Hub's limits for device and module twins: values are cut so that the hub accepts them.

Keys of up to 1 KB without control characters, dots, dollar signs and spaces; strings of up to 4 KB; integers that a
double represents exactly; a depth of 10; 32 KB in all.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from iot.sftp.client._base.text import printable

if TYPE_CHECKING:
    from iot.sftp.module._hub.merge_patch import Properties

STRING_MAXIMUM = 4096  # bytes of a string
SHORTER = (1_000, 300, 100)  # bytes to which longer strings are cut, one after the other, when the whole is too large
KEY_MAXIMUM = 1024  # bytes of a key
NUMBER_MAXIMUM = 2**52 - 1
DEPTH_MAXIMUM = 10  # objects within objects, a section being the first
TOTAL_MAXIMUM = 31 * 1024  # bytes as JSON, a little under the limit, which does not count all of these

_NOT_IN_KEYS = re.compile(r"[.$#\s]")

_log = logging.getLogger(__name__)


def accepted_section(value: Mapping[str, Any]) -> Any:
    """Return a section that a twin accepts: what is too long or too deep is cut, `None` is left out."""
    return _accepted(value, DEPTH_MAXIMUM - 1)


def accepted_key(key: object) -> str:
    """Return a key that a twin accepts."""
    return str(_cut(_NOT_IN_KEYS.sub("_", printable(str(key))), KEY_MAXIMUM)) or "_"


def within_limits(sections: Properties) -> Properties:
    """Cut strings until a twin can hold all sections; if that is not enough, leave out the largest ones."""
    fitting = sections
    for longest in SHORTER:
        if _size(fitting) <= TOTAL_MAXIMUM:
            return fitting
        fitting = {key: _cut(value, longest) for key, value in sections.items()}
    while _size(fitting) > TOTAL_MAXIMUM:
        largest = max(fitting, key=lambda key: _size(fitting[key]))
        _log.warning("%s is not reported: a twin cannot hold that much", largest)
        fitting = {key: value for key, value in fitting.items() if key != largest}
    return fitting


def _accepted(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        if depth == 0:
            return "…"
        pairs = ((key, _accepted(inner, depth - 1)) for key, inner in value.items())
        return {accepted_key(key): inner for key, inner in pairs if inner is not None}
    if isinstance(value, list | tuple):
        return "…" if depth == 0 else [_accepted(inner, depth - 1) for inner in value if inner is not None]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value if abs(value) <= NUMBER_MAXIMUM else "…"
    return _cut(printable(str(value)), STRING_MAXIMUM)


def _cut(value: Any, longest: int) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8")[:longest].decode("utf-8", "ignore")
    if isinstance(value, dict):
        return {key: _cut(inner, longest) for key, inner in value.items()}
    if isinstance(value, list):
        return [_cut(inner, longest) for inner in value]
    return value


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8"))
