"""Variables, the time zone, and the fields that take placeholders: valid, or refused in their author's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot.sftp.client import Direction, InvalidRequest, NotConfigured
from iot.sftp.module._documents.orders import folder_order
from iot.sftp.module._documents.requests import CopyRequest, DeleteRequest, FolderRequest, ListRequest, expanded
from iot.sftp.module._documents.template import BUILT_IN, Placeholders
from iot.sftp.module._documents.template_parts import CLOCK_STARTS
from iot.sftp.module._documents.twin import Desired, read_desired
from iot.sftp.module._documents.validation import Section
from iot.sftp.module._documents.variables import VALUE_MAXIMUM, VARIABLES_MAXIMUM

HERE = Placeholders("device-42", "sftp", "plant-hub", {"line": "7"})
SERVER = {"host": "sftp.example.com", "user": "{deviceId}", "password": "hunter2", "root": "/upload/{line}"}
RULE = {"name": "r", "direction": "upload", "source": "out/{line}", "dest": "{hub}/{deviceId}"}
NOW = CLOCK_STARTS + 86_400 * 40  # 2026-02-10


def read(**sections: Any) -> Desired:
    return read_desired({"$version": 1, **sections}, HERE)


def settings_of(desired: Desired, now: float = NOW) -> tuple[str, str | None]:
    assert desired.sftp.error is None
    assert desired.sftp.value is not None
    settings = desired.sftp.value.as_settings(Path("k"), Path("t"), now)
    return settings.user, settings.root


# The sections


def test_variables_and_the_time_zone_are_read() -> None:
    desired = read(variables={"line": "8", "empty": "", "B_-2": "ä b"}, timeZone="Europe/Berlin")
    assert desired.variables == Section({"line": "8", "empty": "", "B_-2": "ä b"})
    assert desired.time_zone == Section(ZoneInfo("Europe/Berlin"))
    assert (desired.refused, desired.unknown) == ([], ())


def test_without_the_sections_there_are_no_variables_and_dates_are_in_utc() -> None:
    placeholders = read().placeholders
    assert (dict(placeholders.variables), str(placeholders.zone)) == ({}, "UTC")
    assert (placeholders.device, placeholders.module, placeholders.hub) == ("device-42", "sftp", "plant-hub")


@pytest.mark.parametrize(
    "variables, reason",
    [
        ([], "'variables' must be an object of strings"),
        ("a", "'variables' must be an object of strings"),
        ({"line": 7}, "'line' must be a string, in quotes"),
        ({"line": None}, "'line' must be a string, in quotes"),
        ({"line": "a/b"}, "'line' must not contain '/'"),
        ({"line": ".."}, "'line' must not be '..', which is no name"),
        ({"line": "a\nb"}, "'line' must not contain control characters"),
        ({"line": "x" * (VALUE_MAXIMUM + 1)}, "'line' must have 128 characters at most"),
        ({"a.b": "c"}, "'a.b' must have a name of 1 to 64 letters, digits, hyphens and underscores"),
        ({"": "c"}, "'' must have a name of"),
        ({f"v{number}": "" for number in range(VARIABLES_MAXIMUM + 1)}, "'variables' holds more than 50 variables"),
    ],
)
def test_variables_that_cannot_be_used_are_told_by_their_names(variables: Any, reason: str) -> None:
    error = read(variables=variables).variables.error
    assert error is not None
    assert error.startswith(reason)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_variable_with_the_name_of_a_built_in_is_refused(name: str) -> None:
    error = f"'{name}' has the name of a placeholder that is always there: choose another one"
    assert read(variables={name: "x"}).variables.error == error


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "Europe", "", "../etc", "/etc/localtime", "a\0b", "\ud800", "zone.tab"]
)
def test_a_time_zone_that_there_is_not_is_named(zone: str) -> None:
    error = read(timeZone=zone).time_zone.error
    assert error is not None
    assert error.startswith("'timeZone' must be the IANA name of a time zone such as 'Europe/Berlin', not '")


@pytest.mark.parametrize("zone", [1, [], {}, True])
def test_a_time_zone_is_a_string(zone: object) -> None:
    assert (
        read(timeZone=zone).time_zone.error == "'timeZone' must be the IANA name of a time zone such as 'Europe/Berlin'"
    )


def test_what_is_invalid_leaves_in_force_what_was_there() -> None:
    desired = read(variables={"line": 8}, timeZone="Mars/Olympus", sftp=SERVER)
    assert desired.refused == ["variables", "timeZone"]
    assert desired.placeholders == HERE
    assert settings_of(desired) == ("device-42", "/upload/7")


@given(variables=st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.integers() | st.none(), max_size=4))
def test_any_variables_are_valid_or_told(variables: dict[str, Any]) -> None:
    section = read(variables=variables).variables
    assert (section.value is None) != (section.error is None)
    assert section.error is None or section.error.isprintable()


# The fields


def test_the_account_and_the_root_are_filled_in() -> None:
    assert settings_of(read(sftp=SERVER, variables={"line": "8"})) == ("device-42", "/upload/8")
    assert settings_of(read(sftp=SERVER | {"user": "{server}", "root": "{{x}}"})) == ("sftp", "{x}")


def test_what_is_reported_of_a_server_is_filled_in() -> None:
    section = read(sftp=SERVER, variables={"line": "8"}).sftp.value
    assert section is not None
    assert section.as_properties()["user"] == "device-42"


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"user": "{lin}"}, "'user' has the unknown placeholder {lin} at character 1; known are: {deviceId}, "),
        ({"root": "/a/{lin}"}, "'root' has the unknown placeholder {lin} at character 4; known are: {deviceId}, "),
        ({"root": "/a/{name}"}, "'root' has {name} at character 4, which stands for one file and has no meaning here"),
        ({"root": "/a/{"}, "'root' has a '{' at character 4 that is not closed"),
        ({"root": " {line}"}, "'root' must not contain a NUL character, nor begin or end with a space"),
    ],
)
def test_a_server_with_an_unusable_placeholder_is_invalid(change: dict[str, str], reason: str) -> None:
    error = read(sftp=SERVER | change, variables={"line": "8"}).sftp.error
    assert error is not None
    assert error.startswith(reason)


def test_a_date_in_a_server_needs_a_clock() -> None:
    desired = read(sftp=SERVER | {"root": "/{date:%Y}"})
    assert settings_of(desired) == ("device-42", "/2026")
    with pytest.raises(NotConfigured, match="not set yet"):
        settings_of(desired, now=0)


def test_the_folders_of_a_rule_are_filled_in() -> None:
    section = read(rules=[RULE | {"then": {"move": "done/{date:%Y}"}}], variables={"line": "8"}).rules
    assert section is not None
    assert not section.errors
    order = folder_order(Direction.UPLOAD, section.rules["r"], lambda: NOW)
    assert (order.source, order.dest, order.move_to) == ("out/8", "plant-hub/device-42", "done/2026")
    assert section.rules["r"].model_dump(exclude={"name"})["source"] == "out/{line}"
    assert section.rules["r"].model_dump(exclude={"name"})["then"] == {"move": "done/{date:%Y}"}


@pytest.mark.parametrize("key", ["source", "dest", "then"])
def test_a_rule_with_an_unknown_placeholder_is_invalid(key: str) -> None:
    section = read(rules=[RULE | {key: {"move": "{x}"} if key == "then" else "{x}"}], variables={"line": "8"}).rules
    assert section is not None
    path = "then.move" if key == "then" else key
    assert section.errors["r"].startswith(f"'{path}' has the unknown placeholder {{x}} at character 1; known are: ")


def test_a_rule_changes_with_the_values_that_it_uses_only() -> None:
    def rule(**variables: str) -> object:
        section = read(rules=[RULE], variables=variables).rules
        assert section is not None
        return section.rules["r"]

    assert rule(line="7", other="1") == rule(line="7", other="2")
    assert rule(line="7") != rule(line="8")


# Methods


def test_braces_are_braces_without_expand() -> None:
    request = ListRequest(path="{deviceId}")
    assert expanded(request, HERE, NOW) is request


def test_expand_fills_in_every_path() -> None:
    copy = expanded(CopyRequest(source="in/{line}", dest="{deviceId}/{date:%d}", expand=True), HERE, NOW)
    assert (copy.source, copy.dest) == ("in/7", "device-42/10")
    folder = FolderRequest(source="{line}", dest="{line}", then={"move": "{line}/done"}, expand=True)
    assert (
        expanded(folder, HERE, NOW).parameters()
        == FolderRequest(source="7", dest="7", then={"move": "7/done"}).parameters()
    )


@pytest.mark.parametrize(
    "path, reason",
    [
        (
            "a/{lin}",
            "'path' has the unknown placeholder {lin} at character 3; known are: {deviceId}, {moduleId}, {hub}, ",
        ),
        ("{name}", "'path' has {name} at character 1, which stands for one file"),
    ],
)
def test_a_path_that_cannot_be_filled_in_is_refused_by_its_key(path: str, reason: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        expanded(DeleteRequest(path=path, expand=True), HERE, NOW)
    assert error.value.message.startswith(reason)


def test_a_path_that_becomes_too_long_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="'path' must have 4096 bytes at most"):
        expanded(DeleteRequest(path="{long}" * 40, expand=True), Placeholders(variables={"long": "x" * 128}), NOW)


def test_a_repeat_on_another_day_is_the_same_call() -> None:
    given = DeleteRequest(path="{date:%d}", expand=True)
    one, other = (expanded(given, HERE, NOW + day * 86_400) for day in (0, 1))
    assert one.path != other.path
    assert one.fingerprint("delete_file") == other.fingerprint("delete_file") == given.fingerprint("delete_file")
    assert given.fingerprint("delete_file") != DeleteRequest(path="{date:%d}").fingerprint("delete_file")
