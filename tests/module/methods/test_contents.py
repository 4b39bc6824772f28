"""Contents and listings as results: nothing is lost on the way through JSON, and everything fits into a response."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from iot.sftp.client import FileContent, FileInfo, InvalidRequest, TooLarge
from iot.sftp.module._documents.requests import WriteRequest
from iot.sftp.module._hub.response import RESPONSE_MAXIMUM, encoded_size
from iot.sftp.module._hub.sdk import parse_payload
from iot.sftp.module._methods.contents import READ_MAXIMUM, WRITE_MAXIMUM, content_document
from iot.sftp.module._methods.pages import ENTRIES_MAXIMUM, PATHS_MAXIMUM, file_document, fitting_page, page_limit
from iot.sftp.module._methods.parsing import parse_call
from iot.sftp.module._methods.table import METHODS

READ_BYTES = st.binary(max_size=200) | st.text(max_size=200).map(str.encode)
REPEATED = st.tuples(READ_BYTES, st.integers(1, 1000)).map(lambda pair: (pair[0] * pair[1])[:READ_MAXIMUM])


def request_of(payload: dict[str, Any]) -> WriteRequest:
    request = parse_call("write_file", parse_payload(json.dumps(payload).encode())).request
    assert isinstance(request, WriteRequest)
    return request


@given(content=REPEATED)
@example(content=b"")
@example(content=b"\0" * READ_MAXIMUM)
@example(content=b"\xff" * READ_MAXIMUM)
@example(content="\N{GRINNING FACE}".encode() * (READ_MAXIMUM // 4))
@example(content="\ufeffwith a mark\r\n".encode())
@example(content="\ud800".encode("utf-8", "surrogatepass"))
def test_any_bytes_that_are_read_can_be_written_back_as_they_were(content: bytes) -> None:
    document = content_document(FileContent(content, 1_700_000_000))
    assert encoded_size(document) <= RESPONSE_MAXIMUM
    assert set(document) == {"content", "encoding", "size", "modified"}
    assert (document["size"], document["modified"]) == (len(content), "2023-11-14T22:13:20Z")
    back = request_of({"path": "a", "content": document["content"], "encoding": document["encoding"]})
    assert back.content_bytes() == content


@pytest.mark.parametrize(
    "content, encoding",
    [
        (b"", "utf-8"),
        (b"plain\n", "utf-8"),
        ("é漢\N{GRINNING FACE}\0".encode(), "utf-8"),
        (b"\xff\xfe", "base64"),
        (b"\xc3", "base64"),
        (b"a" * READ_MAXIMUM, "utf-8"),
        (b"\0" * READ_MAXIMUM, "base64"),
        ("é".encode() * (READ_MAXIMUM // 2), "base64"),  # six bytes in JSON for two: 192 KiB
        ("é".encode() * (READ_MAXIMUM // 4), "utf-8"),
    ],
)
def test_text_stays_text_if_it_fits(content: bytes, encoding: str) -> None:
    assert content_document(FileContent(content, None))["encoding"] == encoding


def test_a_time_that_the_server_does_not_report_is_null() -> None:
    assert content_document(FileContent(b"", None))["modified"] is None


@pytest.mark.parametrize(
    "options, key",
    [
        ({}, "'content' is missing"),
        ({"content": None}, "'content' must be a string"),
        ({"content": ["YQ=="], "encoding": "base64"}, "'content' must be a string"),
        ({"content": "\ud800"}, "'content' holds a lone surrogate"),
        ({"content": "YQ=", "encoding": "base64"}, "'content' must be base64"),
        ({"content": "YQ==\n", "encoding": "base64"}, "'content' must be base64"),
        ({"content": "Y Q==", "encoding": "base64"}, "'content' must be base64"),
        ({"content": "Y-_=", "encoding": "base64"}, "'content' must be base64"),
        ({"content": "é", "encoding": "base64"}, "'content' must be base64"),
        ({"content": "a", "encoding": "latin-1"}, "'encoding' must be 'utf-8' or 'base64'"),
        ({"content": "a", "encoding": None}, "'encoding' must be 'utf-8' or 'base64'"),
    ],
)
def test_a_content_that_is_none_is_refused_by_the_name_of_its_key(options: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidRequest, match="^" + key):
        request_of({"path": "a"} | options)


def test_a_content_is_shown_in_no_message_and_no_repr() -> None:
    assert "hunter2" not in repr(request_of({"path": "a", "content": "hunter2"}))
    with pytest.raises(InvalidRequest) as caught:
        request_of({"path": "a", "content": "hunter2 ", "encoding": "base64"})
    assert "hunter2" not in caught.value.message


def test_a_content_that_is_longer_than_a_request_is_too_large() -> None:
    """By a message, more can come than by a call."""
    longer = request_of({"path": "a", "content": "x" * (WRITE_MAXIMUM + 1)})
    with pytest.raises(TooLarge, match="upload a file instead"):
        METHODS["write_file"].run(object(), longer, 1.0)  # type: ignore[arg-type] # it needs nothing of the module


# --- listings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "info, document",
    [
        (
            FileInfo("a", "file", 5, 1_700_000_000, 0o640),
            {"path": "a", "kind": "file", "size": 5, "modified": "2023-11-14T22:13:20Z", "mode": "0640"},
        ),
        (
            FileInfo("a", "other", None, None, None),
            {"path": "a", "kind": "other", "size": None, "modified": None, "mode": None},
        ),
        (
            FileInfo("a", "file", 0, -(10**12), 0o4755),  # local files may be of any year
            {"path": "a", "kind": "file", "size": 0, "modified": None, "mode": "4755"},
        ),
        (
            FileInfo("a", "file", 0, 10**15, 0),
            {"path": "a", "kind": "file", "size": 0, "modified": None, "mode": "0000"},
        ),
    ],
)
def test_a_file_is_described_with_a_time_in_utc_and_an_octal_mode(info: FileInfo, document: dict[str, Any]) -> None:
    assert file_document(info) == document


@given(sizes=st.lists(st.integers(0, 60_000), max_size=6), limit=st.none() | st.integers(1, 10))
def test_a_page_is_as_long_as_a_response_allows_and_a_whole_listing_is_all_or_nothing(
    sizes: list[int], limit: int | None
) -> None:
    items = ["x" * size for size in sizes]
    if limit is None and encoded_size(items) > RESPONSE_MAXIMUM:
        with pytest.raises(TooLarge, match='"limit": n and then "after"'):
            fitting_page(items, limit=limit, path="a")
        return
    page = fitting_page(items, limit=limit, path="a")
    assert page == items[: len(page)]
    assert encoded_size(page) <= RESPONSE_MAXIMUM
    assert page == items or encoded_size(items[: len(page) + 1]) > RESPONSE_MAXIMUM


def test_no_more_is_asked_for_than_could_fit() -> None:
    least = FileInfo("a", None, 0, None, None)
    assert encoded_size([file_document(least)] * ENTRIES_MAXIMUM) > RESPONSE_MAXIMUM
    assert encoded_size(["a"] * PATHS_MAXIMUM) > RESPONSE_MAXIMUM
    assert (page_limit(None, 7), page_limit(3, 7), page_limit(9, 7)) == (7, 3, 7)
