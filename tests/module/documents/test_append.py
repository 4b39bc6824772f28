"""`mode` and `lines` of a rule: what they mean, and what they do not go with."""

from __future__ import annotations

from typing import Any

import pytest

from iot.sftp.client import Append, Direction
from iot.sftp.module._documents.orders import folder_order
from iot.sftp.module._documents.rule import RulesSection, read_rules
from iot.sftp.module._documents.template import Placeholders

RULE = {"name": "r", "direction": "upload", "source": "out", "dest": "in/{deviceId}"}


def section_of(**keys: Any) -> RulesSection:
    section = read_rules([RULE | keys], Placeholders("device-7", "sftp", "hub", {}))
    assert section is not None
    return section


@pytest.mark.parametrize(
    "keys, append, min_age",
    [
        ({}, None, 5.0),
        ({"mode": "copy"}, None, 5.0),
        ({"mode": "append"}, Append(), 0.0),
        ({"mode": "append", "lines": True, "min_age": 60, "rename": "{deviceId}-{name}"}, Append(lines=True), 0.0),
    ],
)
def test_a_growing_file_is_taken_however_young_it_is(keys: dict[str, Any], append: Append, min_age: float) -> None:
    rule = section_of(**keys).rules["r"]
    order = folder_order(Direction.UPLOAD, rule)
    assert (order.append, order.selection.min_age) == (append, min_age)
    assert rule.min_age == keys.get("min_age", 5.0)


@pytest.mark.parametrize(
    "keys, words",
    [
        ({"mode": "grow"}, '\'mode\' must be "copy" or "append"'),
        ({"mode": True}, '\'mode\' must be "copy" or "append"'),
        ({"mode": "append", "then": "delete"}, "'mode' \"append\" does not go with 'then' other than \"keep\""),
        ({"mode": "append", "then": {"move": "done"}}, "does not go with 'then' other than \"keep\""),
        ({"mode": "append", "if_exists": "skip"}, "does not go with 'if_exists' other than \"replace\""),
        ({"mode": "append", "if_exists": {"backup": "b"}}, "does not go with 'if_exists' other than \"replace\""),
        ({"mode": "append", "dest": "in/{date:%Y}"}, "does not go with a date in 'dest'"),
        ({"mode": "append", "rename": "{date:%Y}-{name}"}, "does not go with a date in 'rename'"),
        ({"lines": True}, '\'lines\' goes with "mode": "append" only'),
        ({"mode": "append", "lines": 1}, "'lines' must be true or false"),
    ],
)
def test_what_does_not_go_with_it_is_named(keys: dict[str, Any], words: str) -> None:
    section = section_of(**keys)
    assert words in section.errors["r"]
