"""What a server refuses is named by its status, or by its words where the status says little."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot.sftp.client import (
    error_classes,
)
from iot.sftp.client._base.errors import StatusReply
from iot.sftp.client._base.sftp_statuses import from_status

# The numbers of draft-ietf-secsh-filexfer-13, section 9.1, by the names that they have there.
STATUSES = {
    1: "transfer_incomplete",  # EOF, where a file cannot end
    2: "not_found",  # NO_SUCH_FILE
    3: "permission_denied",  # PERMISSION_DENIED
    4: "permission_denied",  # FAILURE
    5: "permission_denied",  # BAD_MESSAGE
    6: "connection_lost",  # NO_CONNECTION
    7: "connection_lost",  # CONNECTION_LOST
    8: "unsupported",  # OP_UNSUPPORTED
    9: "permission_denied",  # INVALID_HANDLE
    10: "not_found",  # NO_SUCH_PATH
    11: "permission_denied",  # FILE_ALREADY_EXISTS
    12: "permission_denied",  # WRITE_PROTECT
    13: "permission_denied",  # NO_MEDIA
    14: "no_space",  # NO_SPACE_ON_FILESYSTEM
    15: "no_space",  # QUOTA_EXCEEDED
    16: "permission_denied",  # UNKNOWN_PRINCIPAL
    17: "permission_denied",  # LOCK_CONFLICT
    18: "permission_denied",  # DIR_NOT_EMPTY
    19: "not_a_directory",  # NOT_A_DIRECTORY
    20: "path_not_allowed",  # INVALID_FILENAME
    21: "permission_denied",  # LINK_LOOP
    24: "is_a_directory",  # FILE_IS_A_DIRECTORY
}


@pytest.mark.parametrize("status, code", STATUSES.items())
def test_a_status_has_the_reason_that_its_number_stands_for(status: int, code: str) -> None:
    assert from_status(StatusReply(status, "")).code == code


def test_each_status_of_the_table_has_its_own_words() -> None:
    """Those that share a reason, too: the operator reads the message."""
    said = {status: from_status(StatusReply(status, "")).message for status in STATUSES}
    for status, words in {11: "taken", 12: "protected", 13: "medium", 15: "quota", 17: "lock", 5: "malformed"}.items():
        assert [other for other, message in said.items() if words in message] == [status]


@pytest.mark.parametrize(
    "words, code",
    [
        ("No such file or directory", "not_found"),
        ("ENOENT: no such file or directory, lstat '/a'", "not_found"),
        ("[Errno 2] a.csv", "not_found"),
        ("The system cannot find the file specified.", "not_found"),
        ("The specified key does not exist.", "not_found"),
        ("NoSuchKey", "not_found"),
        ("File not found", "not_found"),
        ("There is not enough space on the disk.", "no_space"),
        ("ENOSPC", "no_space"),
        ("EISDIR: illegal operation on a directory", "is_a_directory"),
        ("No such device", "permission_denied"),
        ("Failure", "permission_denied"),
        ("", "permission_denied"),
    ],
)
def test_the_words_of_a_failure_are_understood_in_several_languages(words: str, code: str) -> None:
    for status in (4, 5, 77):
        assert from_status(StatusReply(status, words)).code == code


@pytest.mark.parametrize("status", [3, 8])
def test_nothing_but_no_such_file_overrules_a_status_that_says_something(status: int) -> None:
    assert from_status(StatusReply(status, "No such file or directory")).code == "not_found"
    assert from_status(StatusReply(status, "not found, does not exist")).code != "not_found"


@pytest.mark.parametrize("status, code", [(2, "not_found"), (3, "permission_denied"), (8, "unsupported")])
def test_the_words_of_a_server_count_only_where_its_status_says_nothing(status: int, code: str) -> None:
    assert from_status(StatusReply(status, "quota exceeded: no space, not a directory")).code == code


@given(status=st.integers(0, 2**32 - 1), words=st.text())
def test_every_status_of_a_server_has_a_name(status: int, words: str) -> None:
    error = from_status(StatusReply(status, words), "x")
    assert error.code in {known.code for known in error_classes()}
    assert error.message.isprintable()
    assert len(error.message) < 2_200  # 200 characters, each of which may take ten as an escape


@pytest.mark.parametrize(
    "words, code",
    [
        ("No space left on device", "no_space"),
        ("Disk quota exceeded", "no_space"),
        ("Not a directory", "not_a_directory"),
    ],
)
def test_what_a_server_only_says_in_words_is_understood(words: str, code: str) -> None:
    assert from_status(StatusReply(4, words)).code == code


def test_a_servers_own_words_are_told_where_it_has_any() -> None:
    assert str(from_status(StatusReply(3, "read-only export"))).endswith("(it said 'read-only export')")
    assert "(" not in from_status(StatusReply(3, "")).message
