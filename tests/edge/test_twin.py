"""Twins: the merge rule and the limits by themselves, and all of it through the real SDK."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localedge import HubError, LocalEdge
from localedge._twin import Twin, check_document, difference, merge

KEYS = st.text("abc", min_size=1, max_size=2)
SCALARS = st.one_of(st.booleans(), st.integers(-3, 3), st.text("xy", max_size=2))
VALUES = st.recursive(
    st.one_of(SCALARS, st.lists(SCALARS, max_size=2)), lambda inner: st.dictionaries(KEYS, inner, max_size=3)
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=4)
PATCHES = st.dictionaries(KEYS, st.one_of(st.none(), VALUES, st.dictionaries(KEYS, st.none() | VALUES)), max_size=4)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return value


@given(DOCUMENTS, PATCHES)
def test_a_patch_sets_what_it_names_deletes_nulls_and_leaves_the_rest(
    document: dict[str, Any], patch: dict[str, Any]
) -> None:
    before = copy.deepcopy(document)
    merged = merge(document, patch)
    assert document == before
    assert without_nulls(merged) == merged
    for key in document.keys() | patch.keys():
        if key not in patch:
            assert merged[key] == document[key]
        elif patch[key] is None:
            assert key not in merged
        elif not isinstance(patch[key], dict):
            assert merged[key] == patch[key]
        elif isinstance(document.get(key), dict):
            assert merged[key] == merge(document[key], patch[key])
        else:
            assert merged[key] == without_nulls(patch[key])


@given(DOCUMENTS, PATCHES)
def test_a_patch_applied_twice_changes_nothing_more(document: dict[str, Any], patch: dict[str, Any]) -> None:
    merged = merge(document, patch)
    assert merge(merged, patch) == merged


@given(DOCUMENTS, DOCUMENTS)
def test_the_difference_of_two_documents_is_the_patch_between_them(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert merge(old, difference(old, new)) == new
    assert difference(new, new) == {}


def nested(depth: int) -> dict[str, Any]:
    return {"level": nested(depth - 1)} if depth else {"value": 1}


@pytest.mark.parametrize(
    "document",
    [
        {"k" * 1024: 1},
        {"value": "x" * 4096},
        {"list": [1, "a", {"b": [True]}]},
        {"smallest": -4503599627370496, "largest": 4503599627370495},
        {"Ü-_/\\:": 1.5},
        {f"k{number:02}": "x" * 4093 for number in range(8)},
        nested(10),
    ],
    ids=["key", "string", "list", "integers", "characters", "32 KB", "depth"],
)
def test_what_reaches_a_limit_is_stored(document: dict[str, Any]) -> None:
    check_document(document, "properties.desired")


@pytest.mark.parametrize(
    "document, status, message",
    [
        ({"k" * 1025: 1}, 400, "a key of 1025 bytes"),
        ({"": 1}, 400, "a key of 0 bytes"),
        ({"a": {"b.c": 1}}, 400, r"properties\.desired\.a has the key 'b\.c'"),
        ({"a$": 1}, 400, "has no '.', '\\$'"),
        ({"a#": 1}, 400, "has the key 'a#'"),
        ({"a b": 1}, 400, "has the key 'a b'"),
        ({"a\x7f": 1}, 400, "control character"),
        ({"value": "x" * 4097}, 400, "is a string of 4097 bytes"),
        ({"value": "Ü" * 2049}, 400, "is a string of 4098 bytes"),
        ({"list": [1, None]}, 400, r"list\[1\] is null"),
        ({"number": 4503599627370496}, 400, "between -4503599627370496 and"),
        ({"number": -4503599627370497}, 400, "between -4503599627370496 and"),
        (nested(11), 400, "nested deeper than 10"),
        ({f"k{number:02}": "x" * 4094 for number in range(8)}, 413, "is 32776 bytes"),
        ([1], 400, "must be a JSON object, not list"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_over_a_limit_is_refused_with_its_reason(document: Any, status: int, message: str) -> None:
    with pytest.raises(HubError, match=message) as refusal:
        check_document(document, "properties.desired")
    assert refusal.value.status == status


def test_a_refused_change_leaves_the_twin_as_it_was() -> None:
    twin = Twin("device", "module", {"a": 1})
    before = twin.for_service()
    with pytest.raises(HubError):
        twin.change({"properties": {"desired": {"b c": 1}}, "tags": {"site": "x"}})
    assert twin.for_service() == before


def test_the_whole_document_has_to_keep_the_limits_not_each_patch_alone() -> None:
    twin = Twin("device", "module", {})
    twin.change({"properties": {"desired": {f"k{number:02}": "x" * 4093 for number in range(8)}}})
    with pytest.raises(HubError, match="32769 bytes") as refusal:
        twin.change({"properties": {"desired": {"k": ""}}})
    assert refusal.value.status == 413


def test_the_module_gets_its_twin_with_versions(edge: LocalEdge) -> None:
    edge.patch_desired({"a": {"b": 1}})
    status, reported = edge.invoke("sftp", "report", {"state": {"code": 1, "text": "x"}})
    assert status == 200
    assert reported["state"] == {"code": 1, "text": "x"}
    _, reported = edge.invoke("sftp", "report", {"state": {"text": None}})
    assert reported["state"] == {"code": 1}
    assert reported["$version"] == edge.reported["$version"]
    assert edge.desired == {"a": {"b": 1}, "$version": 2}


def test_a_reported_property_over_a_limit_is_refused_to_the_sdk(edge: LocalEdge) -> None:
    status, error = edge.invoke("sftp", "report", {"text": "x" * 4097})
    assert status == 500
    assert "400" in error
    assert "text" not in edge.reported


def test_a_patch_reaches_the_module_with_its_version(edge: LocalEdge) -> None:
    version = edge.patch_desired({"one": 1, "two": 2})
    edge.wait_for_reported(lambda reported: reported.get("seen") == {"version": version, "keys": ["one", "two"]})
    version = edge.patch_desired({"one": None})
    edge.wait_for_reported(lambda reported: reported["seen"] == {"version": version, "keys": ["one"]})
    assert edge.desired == {"two": 2, "$version": version}


def test_a_replaced_document_reaches_the_module_as_the_patch_that_leads_to_it(edge: LocalEdge) -> None:
    edge.patch_desired({"one": 1, "two": 2})
    version = edge.replace_desired({"two": 2, "three": 3})
    edge.wait_for_reported(lambda reported: reported["seen"] == {"version": version, "keys": ["one", "three"]})
    assert edge.desired == {"two": 2, "three": 3, "$version": version}
