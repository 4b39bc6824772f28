"""Which files, in which order, under which names: the same keys in requests and rules, and in the journal."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from iot.sftp.client import Direction, FolderOrder, IfExists, InvalidRequest, Modes, Order
from iot.sftp.module._documents.orders import folder_order, order_of
from iot.sftp.module._documents.requests import FolderRequest, expanded
from iot.sftp.module._documents.rule import Rule, read_rules
from iot.sftp.module._documents.template import Placeholders
from iot.sftp.module._documents.twin import TransfersSection
from iot.sftp.module._documents.validation import explain

NOW = datetime(2026, 11, 28, 23, tzinfo=timezone.utc).timestamp()
DEVICE = Placeholders("device-7", "sftp", "hub", {"line": "7"})
SHARED = {
    "include": ["**/*.csv", "a/?"],
    "exclude": ["tmp/**"],
    "order": "newest",
    "recursive": True,
    "rename": "{stem}-x{ext}",
    "if_exists": {"backup": "kept"},
}


def rule_of(**keys: Any) -> Rule:
    section = read_rules([{"name": "r", "direction": "upload", "source": "out", "dest": "in"} | keys], DEVICE)
    assert section is not None
    assert section.errors == {}, section.errors
    return section.rules["r"]


def refusal_of(keys: dict[str, Any], kind: str) -> str:
    """Return what is said of wrong keys."""
    if kind == "rule":
        section = read_rules([{"name": "r", "direction": "upload", "source": "out", "dest": "in"} | keys], DEVICE)
        assert section is not None
        return section.errors["r"]
    with pytest.raises(ValidationError) as caught:
        FolderRequest.model_validate({"source": "out", "dest": "in"} | keys)
    return explain(caught.value, FolderRequest)


def request_of(**keys: Any) -> FolderRequest:
    return FolderRequest.model_validate({"source": "out", "dest": "in"} | keys)


def test_a_rule_and_a_request_give_the_same_order() -> None:
    orders = [
        folder_order(Direction.UPLOAD, rule_of(min_age=0, **SHARED), lambda: NOW),
        folder_order(Direction.UPLOAD, request_of(**SHARED), lambda: NOW),
    ]
    for order in orders:
        assert (order.selection.include, order.selection.exclude) == (("**/*.csv", "a/?"), ("tmp/**",))
        assert (order.selection.order, order.selection.recursive) == (Order.NEWEST, True)
        assert (order.if_exists, order.backup_of("d/a.csv", "d/a-x.csv")) == (IfExists.BACKUP, "kept/d/a-x.csv")
        assert order.rename is not None
        assert order.rename("d/a.tar.gz") == "d/a.tar-x.gz"
    assert orders[0].selection == orders[1].selection


def test_a_task_is_read_from_the_journal_as_it_was_asked_for_and_an_older_one_too() -> None:
    request = request_of(**SHARED)
    kept = json.loads(json.dumps(request.parameters()))
    order = order_of("upload_files", kept)
    assert isinstance(order, FolderOrder)
    assert order.selection == request.selection()
    assert order.rename is not None
    assert order.rename("a.csv") == "a-x.csv"
    of_0_1_0 = {
        "source": "out", "dest": "in", "file_pattern": None, "recursive": False, "if_exists": "skip", "then": "keep",
        "min_age": 0.0,
    }  # fmt: skip
    older = order_of("upload_files", of_0_1_0)
    assert isinstance(older, FolderOrder)
    assert (older.if_exists, older.rename, older.selection.include) == (IfExists.SKIP, None, ())
    assert request_of(if_exists="skip").parameters() == of_0_1_0


def test_the_same_call_has_the_same_fingerprint_as_in_0_1_0() -> None:
    plain = request_of(request_id="1")
    said = request_of(include=[], exclude=[], order="name", rename=None, request_id="2")
    assert plain.fingerprint("upload_files") == said.fingerprint("upload_files")
    assert plain.fingerprint("upload_files") != request_of(rename="{name}x").fingerprint("upload_files")


@pytest.mark.parametrize("kind", ["rule", "request"])
@pytest.mark.parametrize(
    "keys, words",
    [
        ({"include": "*.csv"}, "'include' must be a list of patterns"),
        ({"include": ["a/**.csv"], "recursive": True}, "'include' has a pattern that has '**' beside other characters"),
        ({"include": ["a/*.csv"]}, "'include' has only patterns for files in folders, which needs recursive"),
        ({"exclude": ["/tmp/*"]}, "'exclude' has a pattern that begins or ends with '/'"),
        ({"exclude": ["a"] * 65}, "'exclude' has more than 64 patterns"),
        ({"include": [1]}, "'include' has a pattern that is not a string"),
        ({"order": "size"}, "'order' must be 'name', 'oldest' or 'newest'"),
        ({"rename": "{folder}/{name}"}, "'rename'"),
        ({"rename": "a/{name}"}, "'rename' is a name, and must not contain '/'"),
        ({"rename": "{nme}"}, "'rename' has the unknown placeholder {nme}"),
        ({"rename": ""}, "'rename' must not be empty"),
        ({"rename": 7}, "'rename' must be a string"),
        ({"if_exists": "ask"}, '\'if_exists\' must be "replace", "skip", "skip_same", "rename", "fail" or {"backup"'),
        ({"if_exists": {"backup": ""}}, "'if_exists.backup' must not be empty"),
        ({"if_exists": {"backup": "a", "x": 1}}, "'if_exists' must be"),
    ],
)
def test_what_cannot_be_meant_is_named(kind: str, keys: dict[str, Any], words: str) -> None:
    assert words in refusal_of(keys, kind)


def test_a_rule_fills_in_names_and_backups_when_a_files_turn_comes() -> None:
    now = [NOW]
    rule = rule_of(
        rename="{deviceId}-{line}-{date:%H}-{name}", if_exists={"backup": "kept/{date:%Y-%m-%d}/{stem}"}, recursive=True
    )
    order = folder_order(Direction.UPLOAD, rule, lambda: now[0])
    assert order.rename is not None
    assert order.rename("d/a.csv") == "d/device-7-7-23-a.csv"
    assert order.backup_of("d/a.csv", "d/x.csv") == "kept/2026-11-28/a/d/x.csv"
    now[0] += 3600
    assert order.rename("d/a.csv") == "d/device-7-7-00-a.csv"
    assert order.backup_of("d/a.csv", "d/x.csv") == "kept/2026-11-29/a/d/x.csv"
    in_folders = folder_order(Direction.UPLOAD, rule_of(if_exists={"backup": "kept/{folder}/old"}), lambda: NOW)
    assert in_folders.backup_of("d/a.csv", "d/x.csv") == "kept/d/old/x.csv"


def test_a_request_knows_the_words_for_one_file_and_those_of_the_device_when_it_asks_for_them() -> None:
    assert "known are" in refusal_of({"rename": "{line}-{name}"}, "request")
    assert 'needs "expand": true' in refusal_of({"rename": "{date:%Y}-{name}"}, "request")
    assert 'needs "expand": true' in refusal_of({"rename": "{deviceId}-{server}-{name}"}, "request")
    asked = request_of(rename="{line}{{x}}-{date:%Y}-{name}", if_exists={"backup": "kept/{line}"}, expand=True)
    filled = expanded(asked, DEVICE, NOW)
    assert (filled.rename, filled.if_exists) == ("7{{x}}-2026-{name}", {"backup": "kept/7"})
    order = order_of("download_files", json.loads(json.dumps(filled.parameters())))
    assert isinstance(order, FolderOrder)
    assert order.rename is not None
    assert order.rename("a.csv") == "7{x}-2026-a.csv"
    with pytest.raises(InvalidRequest, match="'rename' has the unknown placeholder"):
        expanded(request_of(rename="{what}", expand=True), DEVICE, NOW)


def test_a_backup_into_the_destination_itself_is_refused() -> None:
    for kind in ("rule", "request"):
        words = "'if_exists.backup' must be another folder than 'dest'"
        assert words in refusal_of({"if_exists": {"backup": "./in"}, "dest": "in/"}, kind)


@pytest.mark.parametrize(
    "keys, words",
    [
        ({"then": {"move": "./out/"}}, "'then.move' must be another folder than 'source'"),
        ({"then": {"move": "out/{date:%Y}"}, "recursive": True}, "'then.move' has a date directly in 'source'"),
        (
            {"on_failure": {"after": 1, "move": "out/{date:%Y}"}, "recursive": True},
            "'on_failure.move' has a date",
        ),
        ({"then": {"move": "../b"}}, "'then.move' must not contain '..'"),
        ({"on_failure": {"after": 1, "move": "a/../../b"}}, "'on_failure.move' must not contain '..'"),
        ({"direction": "download", "if_exists": {"backup": "../b"}}, "'if_exists.backup' must not contain '..'"),
        ({"rename": ".iot-sftp-{name}"}, "'rename' must not begin with '.iot-sftp-'"),
        ({"marker": {"write": ".iot-sftp-{name}"}}, "'marker.write' must not begin with '.iot-sftp-'"),
        ({"rename": "a\0{name}"}, "'rename' must not contain a NUL character"),
        ({"source": "a\0"}, "'source' must not contain a NUL character"),
        ({"rename": "\ud800{date:%Y}{name}"}, "'rename' has a lone surrogate that stands for no byte"),
        ({"dest": "{date:%Y\udbff}"}, "'dest' has a lone surrogate"),
        ({"dest": "{date:%Y\udc80}"}, "'dest' has a date at character 1 with a NUL character or a lone surrogate"),
        ({"then": {"move": "\udfff"}}, "'then.move' has a lone surrogate"),
        ({"marker": {"wait": "{name}\ud800"}}, "'marker.wait' has a lone surrogate"),
        ({"order": "\ud800"}, "'order' must be text without lone surrogates"),
    ],
)
def test_what_no_file_could_ever_pass_is_refused_when_it_is_read(keys: dict[str, Any], words: str) -> None:
    assert words in refusal_of({"source": "out", **keys}, "rule")


def test_the_modes_of_what_is_created_are_octal_texts() -> None:
    section = TransfersSection.model_validate(
        {"localMode": "0640", "remoteMode": "0664", "directoryMode": "2770", "concurrency": 3}
    )
    assert section.modes() == Modes(0o640, 0o664, 0o2770)
    assert section.as_properties()["localMode"] == "0640"
    assert TransfersSection().modes() == Modes()
    for key, wrong in (("localMode", "640"), ("remoteMode", 640), ("localMode", "4755"), ("directoryMode", "0789")):
        with pytest.raises(ValidationError, match="four octal digits"):
            TransfersSection.model_validate({key: wrong})
