"""Requests are understood by their models or refused by the name of the key; answers have the contract's form."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot.sftp.client import InvalidRequest, NotFound, SFTPError, UnknownMethod, error_classes
from iot.sftp.module._documents.requests import DeleteDirectoryRequest, FolderRequest, ListTasksRequest
from iot.sftp.module._hub.response import RESPONSE_MAXIMUM, encoded_size
from iot.sftp.module._hub.sdk import Malformed, parse_payload
from iot.sftp.module._methods.method import Lane
from iot.sftp.module._methods.parsing import parse_call
from iot.sftp.module._methods.responses import failed, succeeded
from iot.sftp.module._methods.statuses import STATUSES
from iot.sftp.module._methods.table import METHODS

WITHOUT_PARAMETERS = (
    "is_connected",
    "disconnect",
    "test_connection",
    "get_status",
    "list_local_directory",
    "rotate_key",
)
ON_A_PATH = ("exists", "delete_file", "list_files", "delete_local_file", "read_file", "stat")
ON_A_DIRECTORY = ("create_directory", "delete_directory", "list_directory")
FROM_ONE_PATH_TO_ANOTHER = (
    "download_file",
    "upload_file",
    "move_file",
    "move_directory",
    "download_files",
    "upload_files",
)
ON_TASKS = ("get_task_status", "cancel_task", "list_tasks")


WITH_CONTENT = ("write_file",)
WITH_NULL = (
    "rotate_key",
    "list_files",
    "list_local_directory",
    "list_directory",
    "stat",
    "read_file",
)  # as their result, where they have failed


def message_of(name: str, payload: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        parse_call(name, payload)
    return caught.value.message


def test_the_table_has_exactly_the_methods_of_the_contract() -> None:
    assert set(METHODS) == {
        *WITHOUT_PARAMETERS,
        *ON_A_PATH,
        *FROM_ONE_PATH_TO_ANOTHER,
        *ON_TASKS,
        *WITH_CONTENT,
        *ON_A_DIRECTORY,
    }


@pytest.mark.parametrize("name", WITHOUT_PARAMETERS)
@pytest.mark.parametrize("payload", [None, {}, ""])
def test_methods_without_parameters_accept_an_empty_payload(name: str, payload: Any) -> None:
    assert parse_call(name, payload).request.timeout == 25


@pytest.mark.parametrize("name", [*ON_A_PATH, *ON_A_DIRECTORY])
def test_a_path_that_is_missing_is_named(name: str) -> None:
    assert message_of(name, None) == "'path' is missing"


@pytest.mark.parametrize("name", FROM_ONE_PATH_TO_ANOTHER)
def test_source_and_dest_that_are_missing_are_named(name: str) -> None:
    assert message_of(name, {}) == "'source' is missing; 'dest' is missing"
    assert message_of(name, {"source": "a"}) == "'dest' is missing"


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("payload", [[], "{}", 0, 1.5, True, False, " "])
def test_a_payload_that_is_no_object_is_refused_with_an_example(name: str, payload: Any) -> None:
    assert message_of(name, payload).startswith("the payload must be a JSON object, such as {")


@pytest.mark.parametrize("name", METHODS)
def test_an_unknown_key_is_named_with_the_known_ones(name: str) -> None:
    message = message_of(name, {"backgruond": True})
    assert "'backgruond' is not known here; known are: " in message
    assert "timeout" in message


@pytest.mark.parametrize("value", [1, 1.5, True, None, [], {}])
def test_a_path_is_a_string_and_nothing_else(value: Any) -> None:
    assert message_of("exists", {"path": value}) == "'path' must be a string"


def test_a_pattern_and_a_place_to_go_on_from_may_be_empty() -> None:
    request = parse_call("list_files", {"path": ".", "file_pattern": "", "after": ""}).request
    assert request.model_dump(include={"file_pattern", "after"}) == {"file_pattern": "", "after": ""}


def test_an_empty_path_is_refused() -> None:
    assert message_of("exists", {"path": ""}) == "'path' must not be empty"


@pytest.mark.parametrize("unit", ["x", "\N{GRINNING FACE}", "\udcff"])
def test_a_text_that_is_longer_than_any_path_is_refused(unit: str) -> None:
    size = len(unit.encode("utf-8", "surrogatepass"))
    longest, longer = unit * (4096 // size), unit * (4096 // size + 1)
    for key in ("source", "dest", "file_pattern"):
        payload = {"source": "a", "dest": "b"}
        parse_call("upload_files", payload | {key: longest})
        with pytest.raises(InvalidRequest, match=f"'{key}' must have 4096 bytes at most"):
            parse_call("upload_files", payload | {key: longer})
    with pytest.raises(InvalidRequest, match=r"'then\.move' must have 4096 bytes at most"):
        parse_call("upload_files", {"source": "a", "dest": "b", "then": {"move": longer}})
    with pytest.raises(InvalidRequest, match="'path' must have 4096 bytes at most"):
        parse_call("exists", {"path": longer})


@pytest.mark.parametrize("value", [0, 0.99, 291, -1, True, "25", None, 10**400, float("nan"), float("inf"), []])
def test_a_timeout_is_a_number_of_seconds_within_bounds(value: Any) -> None:
    assert (
        message_of("exists", {"path": "a", "timeout": value}) == "'timeout' must be a number of seconds from 1 to 290"
    )


@pytest.mark.parametrize("value", [1, 290, 2.5])
def test_a_timeout_within_bounds_is_taken(value: float) -> None:
    assert parse_call("exists", {"path": "a", "timeout": value}).request.timeout == value


@pytest.mark.parametrize(
    "key, value, expected",
    [
        ("limit", 0, "must be greater than or equal to 1"),
        ("limit", True, "must be a whole number"),
        ("limit", 1.5, "must be a whole number"),
        ("after", 1, "must be a string"),
        ("file_pattern", 1, "must be a string"),
    ],
)
def test_options_of_a_listing_are_checked(key: str, value: Any, expected: str) -> None:
    assert message_of("list_files", {"path": ".", key: value}) == f"'{key}' {expected}"


def test_options_of_a_listing_may_be_null() -> None:
    parse_call("list_files", {"path": ".", "file_pattern": None, "limit": None, "after": None})


@pytest.mark.parametrize("value", [1, "true", None])
def test_learn_is_true_or_false(value: Any) -> None:
    assert message_of("test_connection", {"learn": value}) == "'learn' must be true or false"


@pytest.mark.parametrize("value", [0, "1 day", 2_592_001, True, None, float("nan")])
def test_a_tasks_time_limit_is_a_number_of_seconds_within_bounds(value: Any) -> None:
    payload = {"source": "a", "dest": "b", "background": True, "time_limit": value}
    expected = "'time_limit' must be a number of seconds from 1 to 2592000"
    assert message_of("upload_file", payload) == expected


def test_a_time_limit_is_for_tasks_only() -> None:
    payload = {"source": "a", "dest": "b", "time_limit": 60}
    assert message_of("upload_file", payload) == "'time_limit' is for tasks: it needs \"background\": true"
    request = parse_call("upload_files", payload).request
    assert isinstance(request, FolderRequest)
    assert request.time_limit == 60


@pytest.mark.parametrize("value", ["keep", "delete", {"move": "done"}])
def test_what_follows_for_a_file_of_a_folder_may_be_one_of_three(value: Any) -> None:
    request = parse_call("upload_files", {"source": "a", "dest": "b", "then": value}).request
    assert isinstance(request, FolderRequest)
    assert request.then == value
    assert FolderRequest.model_validate(request.parameters()) == request  # as the journal keeps it


@pytest.mark.parametrize("value", ["move", {"move": ""}, {"move": 5}, {}, {"move": "a", "x": 1}, True, None, ["keep"]])
def test_nothing_else_follows(value: Any) -> None:
    message = message_of("download_files", {"source": "a", "dest": "b", "then": value})
    assert message == '\'then\' must be "keep", "delete" or {"move": "folder"}'


@pytest.mark.parametrize(
    "key, value, expected",
    [
        ("if_exists", "overwrite", 'must be "replace", "skip", "skip_same", "rename", "fail" or {"backup": "folder"}'),
        ("recursive", 1, "must be true or false"),
        ("min_age", -1, "must be a number of seconds from 0 to 31622400"),
        ("min_age", "5", "must be a number of seconds from 0 to 31622400"),
        ("background", False, "must be true"),
        ("file_pattern", 5, "must be a string"),
    ],
)
def test_options_of_a_folder_are_checked(key: str, value: Any, expected: str) -> None:
    message = message_of("upload_files", {"source": "a", "dest": "b", key: value})
    assert message.casefold() == f"'{key}' {expected}"


def test_a_directory_may_be_deleted_as_a_task_and_is_not_deleted_recursively_by_default() -> None:
    call = parse_call("delete_directory", {"path": "a"})
    assert isinstance(call.request, DeleteDirectoryRequest)
    assert (call.request.recursive, call.request.background, call.lane) == (False, False, Lane.QUICK)
    assert call.request.parameters() == {"path": "a", "recursive": False}  # as the journal keeps it
    assert parse_call("delete_directory", {"path": "a", "recursive": True}).lane is Lane.TRANSFER
    assert message_of("delete_directory", {"path": "a", "recursive": 1}) == "'recursive' must be true or false"
    assert 'needs "background": true' in message_of("delete_directory", {"path": "a", "time_limit": 5})


def test_many_problems_are_not_all_listed() -> None:
    message = message_of("exists", dict.fromkeys(["a", "b", "c", "d"], 1))
    assert message.endswith("and 2 more")


def test_a_name_that_is_no_method_is_answered_with_the_methods() -> None:
    with pytest.raises(UnknownMethod) as caught:
        parse_call("rm", {})
    assert all(name in caught.value.message for name in METHODS)


def test_values_are_never_repeated_in_a_message() -> None:
    assert "hunter2" not in message_of("exists", {"path": ["hunter2"], "x": "hunter2", "timeout": "hunter2"})


def test_file_names_that_are_not_utf8_can_be_used_as_listed() -> None:
    request = parse_call("exists", parse_payload(rb'{"path": "\udcff"}')).request
    assert request.model_dump()["path"] == "\udcff"


@pytest.mark.parametrize(
    "payload, reason",
    [
        (b"{", "Expecting"),
        (b"\xff", "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 10_000, "digits"),
        (b'{"path": NaN}', "NaN is not JSON"),
        (b"-Infinity", "Infinity is not JSON"),
        (b'{"path": "a"} x', "Extra data"),
    ],
)
def test_a_payload_that_is_not_json_says_why(payload: bytes, reason: str) -> None:
    parsed = parse_payload(payload)
    assert isinstance(parsed, Malformed)
    assert reason in message_of("exists", parsed)


def test_no_payload_at_all_counts_as_null() -> None:
    assert parse_payload(b"") is None


@given(payload=st.binary())
def test_any_bytes_are_a_value_or_malformed(payload: bytes) -> None:
    parse_payload(payload)


def test_the_response_to_a_successful_call_is_the_bare_result() -> None:
    for result in (True, False, None, ["a"], {"authenticated": True}):
        response = succeeded(result)
        assert (response.status, response.payload, response.code) == (200, result, None)


@pytest.mark.parametrize("name", [*METHODS, "nope"])
def test_a_failed_call_has_a_code_a_message_and_no_result(name: str) -> None:
    response = failed(name, NotFound("it is not there", path="in/a.txt"))
    assert response.status == 404
    assert response.payload == {
        "result": None if name in WITH_NULL else False,
        "code": "not_found",
        "message": "'in/a.txt': it is not there",
    }


def test_a_page_of_tasks_is_as_long_as_a_response_allows() -> None:
    each = {"task_id": "x" * (261 - len('{"task_id": ""}'))}
    parts: Any = SimpleNamespace(tasks=SimpleNamespace(newest=lambda limit, _after: [each] * limit))
    page = METHODS["list_tasks"].run(parts, ListTasksRequest(), 1.0)
    assert len(page) == 498  # of 500
    assert encoded_size(page) <= RESPONSE_MAXIMUM < encoded_size([*page, each])


@given(
    reason=st.sampled_from(list(error_classes())),
    message=st.text(),
    path=st.none() | st.text() | st.just("x" * 200_000),
)
def test_any_error_becomes_a_response_that_fits(reason: type[SFTPError], message: str, path: str | None) -> None:
    error = reason.__new__(reason)
    SFTPError.__init__(error, message, path=path)
    response = failed("exists", error)
    assert response.status == STATUSES[reason.code]
    assert set(response.payload) == {"result", "code", "message"}
    assert len(json.dumps(response.payload)) < 32_000
